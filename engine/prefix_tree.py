"""What token sequences begin with, and where their cells are: a radix tree over token ids.

A node is a run of tokens behind its parent's. It is *live* while running sequences hold its cells (``slots``), and
*parked* while a copy of them lies in host memory; it may be both. A node that is neither is dropped: a tree never
promises what cannot be had. A hit is proved by comparing token ids. No model is touched here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

import numpy as np
from numpy.typing import NDArray

from fourcorners.engine.lane import Saved

Tokens = NDArray[np.int32]


@dataclass(eq=False, slots=True)
class Parked:
    """Saved cells of positions ``start`` to ``end``. Nodes that were one when it was made share it."""

    saved: Saved
    start: int
    end: int
    n_nodes: int = 1

    def __len__(self) -> int:
        return self.end - self.start


@dataclass(eq=False, slots=True)
class Node:
    """A run of tokens at positions ``start`` to ``end``; ``n_pins`` counts who needs it parked for a while."""

    tokens: Tokens
    start: int
    parent: Node | None
    children: dict[int, Node] = field(default_factory=dict)
    slots: set[int] = field(default_factory=set)
    parked: Parked | None = None
    n_pins: int = 0
    last_used: int = 0

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def end(self) -> int:
        """The position behind its last token."""
        return self.start + len(self.tokens)

    def lineage(self) -> Iterator[Node]:
        """This node and those above it, up to the first. Not affected by what happens to the node just yielded."""
        node: Node | None = self
        while node is not None and node.parent is not None:
            above = node.parent
            yield node
            node = above


class PrefixTree:
    """The tree and its parked bytes, which ``shrink`` keeps within ``max_parked_bytes``."""

    def __init__(self, max_parked_bytes: int) -> None:
        self.max_parked_bytes = max_parked_bytes
        self.n_parked_bytes = 0
        self.n_live_tokens = 0
        self._root = Node(np.zeros(0, np.int32), 0, None)
        self._clock = count(1)

    def __iter__(self) -> Iterator[Node]:
        """All nodes, parents first."""
        todo = list(self._root.children.values())
        while todo:
            node = todo.pop()
            yield node
            todo.extend(node.children.values())

    def match(self, tokens: Tokens) -> int:
        """How many of ``tokens`` the tree holds, from the first on."""
        return sum(n for _, n in self.walk(tokens))

    def path(self, tokens: Tokens) -> list[Node]:
        """The nodes that make up just those of ``tokens`` that the tree holds; the last one is split where needed."""
        found = []
        for node, n in self.walk(tokens):
            found.append(self._split(node, n) if n < len(node) else node)
            found[-1].last_used = next(self._clock)
        return found

    def insert(self, tokens: Tokens) -> list[Node]:
        """The path of all ``tokens``. What was missing is a new node at its end, neither live nor parked yet."""
        found = self.path(tokens)
        done = found[-1].end if found else 0
        if done < len(tokens):
            parent = found[-1] if found else self._root
            node = Node(np.array(tokens[done:], np.int32), done, parent, last_used=next(self._clock))
            parent.children[int(node.tokens[0])] = node
            found.append(node)
        return found

    def split(self, node: Node, position: int) -> Node:
        """Cut ``node`` at ``position``; returns the upper part, while ``node`` itself becomes the lower one."""
        return self._split(node, position - node.start)

    def pin(self, leaf: Node) -> None:
        """Keep the copies of ``leaf`` and of all above it until ``unpin``."""
        for node in leaf.lineage():
            node.n_pins += 1

    def unpin(self, leaf: Node) -> None:
        """Undo one ``pin``."""
        for node in leaf.lineage():
            node.n_pins -= 1

    def hold(self, node: Node, slot: int) -> None:
        """``slot`` has the cells of ``node`` now."""
        if not node.slots:
            self.n_live_tokens += len(node)
        node.slots.add(slot)

    def let_go(self, node: Node, slot: int) -> None:
        """``slot`` has them no longer. A node that is then neither live nor parked goes, with all below it."""
        node.slots.discard(slot)
        if not node.slots:
            self.n_live_tokens -= len(node)
            if node.parked is None:
                self._drop(node)

    def park(self, node: Node, saved: Saved) -> None:
        """``node``'s cells lie in host memory now."""
        node.parked = Parked(saved, node.start, node.end)
        self.n_parked_bytes += saved.n_bytes

    def unpark(self, node: Node) -> None:
        """Forget the copy in host memory; a node that is not live goes, with all below it."""
        self._forget_copy(node)
        if not node.slots:
            self._drop(node)

    def shrink(self) -> int:
        """Forget copies, least recently used leaves first, until the budget holds; returns how many were forgotten.

        Copies of live nodes go after all others; pinned ones stay.
        """
        n_forgotten = 0
        while self.n_parked_bytes > self.max_parked_bytes:
            node = min((n for n in self if self._may_go(n)), key=lambda n: (bool(n.slots), n.last_used), default=None)
            if node is None:
                break
            self.unpark(node)
            n_forgotten += 1
        return n_forgotten

    def clear(self) -> None:
        """Forget all. For the engine's restart, when no sequence runs."""
        self._root = Node(np.zeros(0, np.int32), 0, None)
        self.n_parked_bytes = self.n_live_tokens = 0

    def _may_go(self, node: Node) -> bool:
        if node.parked is None or node.n_pins:
            return False
        return bool(node.slots) or not node.children

    def walk(self, tokens: Tokens) -> Iterator[tuple[Node, int]]:
        """The nodes along ``tokens`` and how much of each is shared."""
        at, node = 0, self._root
        while at < len(tokens):
            child = node.children.get(int(tokens[at]))
            if child is None:
                return
            n = common_length(child.tokens, tokens[at:])
            is_last = n < len(child)  # asked before the caller splits it
            yield child, n
            if is_last:
                return
            at, node = at + n, child

    def _split(self, node: Node, n: int) -> Node:
        """Cut ``node`` behind its first ``n`` tokens; returns the upper part."""
        upper = Node(
            node.tokens[:n], node.start, node.parent, slots=set(node.slots), parked=node.parked, n_pins=node.n_pins
        )
        upper.last_used = node.last_used
        if node.parked is not None:
            node.parked.n_nodes += 1
        assert node.parent is not None
        node.parent.children[int(upper.tokens[0])] = upper
        node.tokens, node.start, node.parent = node.tokens[n:], node.start + n, upper
        upper.children[int(node.tokens[0])] = node
        return upper

    def _forget_copy(self, node: Node) -> None:
        if node.parked is not None:
            node.parked.n_nodes -= 1
            if not node.parked.n_nodes:
                self.n_parked_bytes -= node.parked.saved.n_bytes
            node.parked = None

    def _drop(self, node: Node) -> None:
        """Take ``node`` and all below out; none of them is live, because who holds a child holds its parent."""
        if node.parent is not None:
            del node.parent.children[int(node.tokens[0])]
        node.parent = None
        todo = [node]
        while todo:
            gone = todo.pop()
            self._forget_copy(gone)
            todo.extend(gone.children.values())


def common_length(first: Tokens, second: Tokens) -> int:
    """How many tokens the two share from the beginning."""
    n = min(len(first), len(second))
    different = first[:n] != second[:n]
    at = int(different.argmax()) if n else 0
    return at if n and different[at] else n
