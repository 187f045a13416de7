"""Who has which cells: slots and cells of the lanes, the prefix tree, and what is parked in host memory.

Running sequences have their cells in the *main* lane, where those with a common beginning share them. A long prompt is
prefilled in the *apart* lane, because every live cell of other sequences slows the attention of all; from there its
cells go to the main lane by way of host memory, which costs about a hundredth of the prefill. Cells that no running
sequence holds are parked, never left in a lane.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fourcorners.engine.lane import Lane
from fourcorners.engine.prefix_tree import Node, Parked, PrefixTree, Tokens


@dataclass(eq=False, slots=True)
class Place:
    """A slot of a lane and its first ``n_cells`` positions; those up to ``leaf``'s end belong to the tree."""

    slot: int
    leaf: Node | None = None
    n_cells: int = 0
    is_apart: bool = False

    @property
    def n_shared(self) -> int:
        """How many of its cells the tree knows."""
        return self.leaf.end if self.leaf is not None else 0


class Cache:
    """The bookkeeping of both lanes. Every method leaves lanes and tree in agreement; one thread at a time.

    ``can_share`` is False for models whose memory cannot be cut or copied in part (recurrent ones): then nothing is
    shared or parked, and a sequence that goes back begins anew.
    """

    def __init__(self, main: Lane, apart: Lane | None, max_parked_bytes: int, *, can_share: bool = True) -> None:
        self.main, self.apart, self.can_share = main, apart, can_share
        self.tree = PrefixTree(max_parked_bytes)
        self.n_parked = self.n_restored = self.n_forgotten = 0
        self._free = {False: _slots_of(main), True: _slots_of(apart)}
        self._n_private = {False: 0, True: 0}

    @property
    def n_free_cells(self) -> int:
        """Cells of the main lane that nobody holds."""
        return self.main.n_cells - self.tree.n_live_tokens - self._n_private[False]

    @property
    def n_free_apart_cells(self) -> int:
        """The same of the apart lane."""
        return self.apart.n_cells - self._n_private[True] if self.apart else 0

    def has_slot(self, *, apart: bool = False) -> bool:
        """Whether another sequence can enter."""
        return bool(self._free[apart])

    def n_to_restore(self, tokens: Tokens) -> int:
        """How many cells of the main lane it takes to bring in what the tree knows of ``tokens``.

        A copy is loaded as a whole, also where only its beginning is wanted.
        """
        most = n_brought = 0
        loaded = None
        for node, n in self.tree.walk(tokens):
            if not node.slots:
                if node.parked is not None and node.parked is not loaded:
                    loaded = node.parked
                    most = max(most, n_brought + len(loaded))
                n_brought += n
        return most

    def enter(self, tokens: Tokens) -> Place:
        """A slot of the main lane with as many of ``tokens`` as the tree has; needs ``has_slot`` and room for them."""
        place = Place(self._free[False].pop())
        brought = None
        for node in self.tree.path(tokens) if self.can_share else []:
            if node.slots:
                self.main.copy(next(iter(node.slots)), place.slot, node.start, node.end)
            else:
                brought = self._bring(node, brought, self.main, place.slot)
                if brought is None:
                    break
            self.tree.hold(node, place.slot)
            place.leaf = node
        self.main.remove(self.main.n_slots - 1, 0, -1)
        place.n_cells = place.n_shared
        return place

    def enter_apart(self, tokens: Tokens) -> Place:
        """The same in the apart lane; what the tree has is copied there by way of host memory, and stays pinned."""
        assert self.apart is not None
        place = Place(self._free[True].pop(), is_apart=True)
        brought = None
        for node in self.tree.path(tokens):
            self._park(node)
            brought = self._bring(node, brought, self.apart, place.slot)
            if brought is None:
                break
            place.leaf = node
        self.apart.remove(self.apart.n_slots - 1, 0, -1)
        place.n_cells = place.n_shared
        self._n_private[True] += place.n_cells
        if place.leaf is not None:
            self.tree.pin(place.leaf)
        return place

    def grow(self, place: Place, n: int) -> None:
        """``n`` more tokens of the sequence were evaluated."""
        place.n_cells += n
        self._n_private[place.is_apart] += n

    def share(self, place: Place, tokens: Tokens) -> None:
        """Put all cells of ``place`` (those of ``tokens``) in the tree, for others to use from now on."""
        if not self.can_share or place.n_shared == place.n_cells:
            return
        nodes = [node for node in self.tree.insert(tokens[: place.n_cells]) if node.start >= place.n_shared]
        if place.is_apart:
            self._share_apart(place, nodes)
            return
        for node in nodes:
            if node.slots:  # somebody computed the same meanwhile: one copy is enough
                self.main.remove(place.slot, node.start, node.end)
                self.main.copy(next(iter(node.slots)), place.slot, node.start, node.end)
            self.tree.hold(node, place.slot)
            self._n_private[False] -= len(node)
        place.leaf = nodes[-1]

    def _share_apart(self, place: Place, nodes: list[Node]) -> None:
        assert self.apart is not None
        for node in nodes:
            if not node.slots and node.parked is None:
                self.tree.park(node, self.apart.save(place.slot, node.start, node.end))
                self.n_parked += 1
        self.tree.pin(nodes[-1])
        if place.leaf is not None:
            self.tree.unpin(place.leaf)
        place.leaf = nodes[-1]

    def cut(self, place: Place, position: int) -> int:
        """Take all from ``position`` on out of the slot; returns how many cells are left (fewer where none can be
        taken out). For the main lane."""
        if position >= place.n_cells:
            return place.n_cells
        if not self.can_share:
            position = 0
        leaf = place.leaf
        self._n_private[False] -= place.n_cells - max(position, place.n_shared)
        while leaf is not None and leaf.end > position:
            if leaf.start < position:
                self.tree.split(leaf, position)
            above = leaf.parent
            self._let_go(leaf, place.slot)
            leaf = above if above is not None and above.parent is not None else None
        place.leaf, place.n_cells = leaf, position
        self.main.remove(place.slot, position, -1)
        self.n_forgotten += self.tree.shrink()
        return position

    def leave(self, place: Place) -> None:
        """Give the slot back. What the tree knows of it is parked where nobody else holds it."""
        if place.is_apart:
            self._n_private[True] -= place.n_cells
            if place.leaf is not None:
                self.tree.unpin(place.leaf)
        else:
            self._n_private[False] -= place.n_cells - place.n_shared
            if place.leaf is not None:
                for node in place.leaf.lineage():
                    self._let_go(node, place.slot)
        lane = self.apart if place.is_apart and self.apart else self.main
        lane.remove(place.slot, 0, -1)
        self._free[place.is_apart].append(place.slot)
        self.n_forgotten += self.tree.shrink()

    def move(self, place: Place, tokens: Tokens) -> Place:
        """Take a sequence from the apart lane to the main one; needs ``has_slot`` and room there."""
        self.share(place, tokens)
        arrived = self.enter(tokens[: place.n_cells])
        self.leave(place)
        return arrived

    def clear(self) -> None:
        """Forget all. For the engine's restart, when no sequence runs."""
        self.main.clear()
        if self.apart:
            self.apart.clear()
        self.tree.clear()
        self._free = {False: _slots_of(self.main), True: _slots_of(self.apart)}
        self._n_private = {False: 0, True: 0}

    def _bring(self, node: Node, brought: Parked | None, lane: Lane, slot: int) -> Parked | None:
        """Put a parked node in ``slot``; several nodes in a row may lie in one copy, which is loaded once."""
        transit, parked = lane.n_slots - 1, node.parked
        assert parked is not None, "a node is live or parked"
        if brought is not parked:
            if not lane.load(transit, parked.saved):
                if not node.n_pins:
                    self.tree.unpark(node)
                return None
            self.n_restored += 1
        lane.copy(transit, slot, node.start, node.end)
        return parked

    def _park(self, node: Node) -> None:
        if node.parked is None:
            self.tree.park(node, self.main.save(next(iter(node.slots)), node.start, node.end))
            self.n_parked += 1

    def _let_go(self, node: Node, slot: int) -> None:
        if node.slots == {slot} and (self.tree.max_parked_bytes or node.n_pins):
            self._park(node)
        self.tree.let_go(node, slot)


def _slots_of(lane: Lane | None) -> list[int]:
    """Its slots but the last one, which is for cells on their way."""
    return list(range(lane.n_slots - 1))[::-1] if lane else []


def token_array(tokens: list[int]) -> Tokens:
    """Token ids as the tree compares them."""
    return np.array(tokens, np.int32)
