from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fourcorners.engine.lane import Saved
from fourcorners.engine.prefix_tree import Node, PrefixTree, Tokens, common_length

BYTES_PER_TOKEN = 10

few_tokens = st.lists(st.integers(0, 2), max_size=12).map(tuple)


def array(tokens: Any) -> Tokens:
    return np.array([ord(t) for t in tokens] if isinstance(tokens, str) else tokens, np.int32)


def texts(nodes: Any) -> list[str]:
    return ["".join(map(chr, node.tokens)) for node in nodes]


def saved(node: Node) -> Saved:
    return Saved(None, BYTES_PER_TOKEN * len(node))


def held(tree: PrefixTree, text: str, slot: int) -> Node:
    """Let ``slot`` hold ``text``; returns its last node."""
    nodes = tree.insert(array(text))
    for node in nodes:
        tree.hold(node, slot)
    return nodes[-1]


def parked(tree: PrefixTree, text: str) -> Node:
    """Park what is new of ``text``; returns its last node."""
    nodes = tree.insert(array(text))
    for node in nodes:
        if not node.slots and node.parked is None:
            tree.park(node, saved(node))
    return nodes[-1]


def left(tree: PrefixTree, leaf: Node, slot: int) -> None:
    for node in leaf.lineage():
        tree.let_go(node, slot)


@given(few_tokens, few_tokens)
def test_what_two_have_in_common_is_counted_from_the_first_token(first: Any, second: Any) -> None:
    n = common_length(array(first), array(second))
    assert first[:n] == second[:n]
    assert n == min(len(first), len(second)) or first[n] != second[n]


def test_a_match_ends_at_the_first_token_that_differs() -> None:
    tree = PrefixTree(1_000)
    held(tree, "abcd", 0)
    held(tree, "abxy", 1)
    texts = ["", "x", "a", "abc", "abcdefg", "abxz", "bcd"]
    assert [tree.match(array(text)) for text in texts] == [0, 0, 1, 3, 4, 3, 0]


def test_looking_up_changes_nothing() -> None:
    tree = PrefixTree(1_000)
    held(tree, "abcd", 0)
    assert tree.match(array("abx")) == 2
    assert texts(tree) == ["abcd"]


def test_a_node_is_split_where_two_part() -> None:
    tree = PrefixTree(1_000)
    held(tree, "abcd", 0)
    held(tree, "abxy", 1)
    assert sorted(texts(tree)) == ["ab", "cd", "xy"]
    assert texts(tree.path(array("abx"))) == ["ab", "x"]
    assert texts(tree.path(array("abcz"))) == ["ab", "c"]


def test_a_path_ends_where_it_splits() -> None:
    tree = PrefixTree(1_000)
    parked(tree, "abc")
    parked(tree, "abcx")
    assert texts(tree.path(array("abx"))) == ["ab"]


def test_both_parts_keep_slots_pins_and_the_copy() -> None:
    tree = PrefixTree(1_000)
    leaf = held(tree, "abcd", 7)
    tree.park(leaf, saved(leaf))
    tree.pin(leaf)
    upper = tree.split(leaf, 3)
    assert texts([upper, leaf]) == ["abc", "d"]
    assert (upper.start, upper.end, leaf.start, leaf.end) == (0, 3, 3, 4)
    assert upper.slots == leaf.slots == {7}
    assert upper.n_pins == leaf.n_pins == 1
    assert upper.parked is leaf.parked
    assert list(leaf.lineage()) == [leaf, upper]
    assert tree.n_parked_bytes == 40, "one copy is not counted twice"
    assert tree.n_live_tokens == 4


def test_parts_are_let_go_on_their_own() -> None:
    tree = PrefixTree(1_000)
    leaf = held(tree, "abcd", 0)
    upper = tree.split(leaf, 1)
    tree.let_go(leaf, 0)
    assert texts(tree) == ["a"]
    assert tree.n_live_tokens == 1
    upper.slots.add(1)
    tree.let_go(upper, 0)
    assert tree.n_live_tokens == 1, "somebody else still holds it"


def test_what_is_neither_live_nor_parked_goes_with_all_below() -> None:
    tree = PrefixTree(1_000)
    above = held(tree, "ab", 0)
    parked(tree, "abcd")
    parked(tree, "abx")
    assert tree.n_parked_bytes == 30
    left(tree, above, 0)
    assert list(tree) == []
    assert tree.n_parked_bytes == tree.n_live_tokens == 0
    assert tree.match(array("abcd")) == 0


def test_a_copy_counts_until_the_last_of_its_parts_is_gone() -> None:
    tree = PrefixTree(1_000)
    lower = parked(tree, "abcd")
    upper = tree.split(lower, 2)
    tree.unpark(lower)
    assert tree.n_parked_bytes == 40
    tree.unpark(upper)
    assert tree.n_parked_bytes == 0


def test_the_least_recently_used_leaf_goes_first() -> None:
    tree = PrefixTree(60)
    for text in ["abcd", "abxy", "zz"]:
        parked(tree, text)
    tree.path(array("abcd"))
    assert tree.shrink() == 1
    assert sorted(texts(tree)) == ["ab", "cd", "zz"]
    tree.max_parked_bytes = 40
    assert tree.shrink() == 1
    assert sorted(texts(tree)) == ["ab", "cd"], "used last, and nothing above it goes before it"
    tree.max_parked_bytes = 0
    assert tree.shrink() == 2
    assert list(tree) == []


def test_only_the_part_that_was_looked_up_counts_as_used() -> None:
    tree = PrefixTree(60)
    parked(tree, "abcd")
    parked(tree, "zz")
    parked(tree, "ab")
    parked(tree, "yy")
    assert tree.shrink() == 2, "the first of them was half of a copy that is still needed"
    assert sorted(texts(tree)) == ["ab", "yy"]


def test_a_part_is_as_old_as_the_whole() -> None:
    tree = PrefixTree(60)
    parked(tree, "zz")
    lower = parked(tree, "abcd")
    tree.split(lower, 2)
    tree.unpark(lower)
    tree.max_parked_bytes = 50
    assert tree.shrink() == 1
    assert texts(tree) == ["ab"]


def test_nothing_is_forgotten_within_the_budget() -> None:
    tree = PrefixTree(40)
    parked(tree, "abcd")
    assert tree.shrink() == 0
    assert tree.match(array("abcd")) == 4


def test_copies_of_what_is_live_go_last_and_the_tree_still_knows_it() -> None:
    tree = PrefixTree(20)
    live = held(tree, "ab", 0)
    tree.park(live, saved(live))
    parked(tree, "zz")
    assert tree.shrink() == 1
    assert texts(tree) == ["ab"]
    tree.max_parked_bytes = 0
    assert tree.shrink() == 1
    assert texts(tree) == ["ab"]
    assert live.parked is None


def test_what_is_pinned_stays_above_the_budget_until_it_is_not() -> None:
    tree = PrefixTree(0)
    first, second = parked(tree, "abcd"), parked(tree, "ab")
    tree.pin(first)
    tree.pin(second)
    parked(tree, "zz")
    assert tree.shrink() == 1
    assert sorted(texts(tree)) == ["ab", "cd"]
    tree.unpin(first)
    assert tree.shrink() == 1
    assert texts(tree) == ["ab"]
    tree.unpin(second)
    tree.shrink()
    assert tree.n_parked_bytes == 0


def test_a_cleared_tree_knows_nothing() -> None:
    tree = PrefixTree(1_000)
    parked(tree, "abcd")
    held(tree, "ab", 0)
    tree.clear()
    assert list(tree) == []
    assert (tree.n_parked_bytes, tree.n_live_tokens, tree.match(array("abcd"))) == (0, 0, 0)


class Known:
    """What is known of one prefix, which stands for its last token. ``stamp`` is when it was last used."""

    def __init__(self) -> None:
        self.slots: set[int] = set()
        self.copy: object | None = None
        self.n_pins = 0
        self.stamp = (0, 0)


class ByHand:
    """The same as a PrefixTree, token by token in one dictionary."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, ...], Known] = {}
        self.n_bytes_of: dict[object, int] = {}
        self._calls = 0

    def match(self, tokens: tuple[int, ...]) -> int:
        return next((n for n in range(len(tokens)) if tokens[: n + 1] not in self.known), len(tokens))

    def use(self, tokens: tuple[int, ...]) -> None:
        self._calls += 1
        for n in range(1, self.match(tokens) + 1):
            self.known[tokens[:n]].stamp = (self._calls, n)

    def add(self, tokens: tuple[int, ...]) -> None:
        for n in range(1, len(tokens) + 1):
            self.known.setdefault(tokens[:n], Known())
        self.use(tokens)

    def drop(self, prefix: tuple[int, ...]) -> None:
        for other in [other for other in self.known if other[: len(prefix)] == prefix]:
            del self.known[other]

    def forget(self, prefix: tuple[int, ...]) -> None:
        self.known[prefix].copy = None
        if not self.known[prefix].slots:
            self.drop(prefix)

    def let_go(self, prefix: tuple[int, ...], slot: int) -> None:
        if prefix in self.known:
            self.known[prefix].slots.discard(slot)
            if not self.known[prefix].slots and self.known[prefix].copy is None:
                self.drop(prefix)

    @property
    def n_parked_bytes(self) -> int:
        return sum(self.n_bytes_of[copy] for copy in {k.copy for k in self.known.values()} if copy is not None)

    def _may_go(self, prefix: tuple[int, ...]) -> bool:
        known = self.known[prefix]
        is_leaf = not any(other[:-1] == prefix for other in self.known)
        return known.copy is not None and not known.n_pins and (bool(known.slots) or is_leaf)

    def shrink(self, budget: int) -> None:
        while self.n_parked_bytes > budget:
            goes = [prefix for prefix in self.known if self._may_go(prefix)]
            if not goes:
                break
            self.forget(min(goes, key=lambda prefix: (bool(self.known[prefix].slots), self.known[prefix].stamp)))


class PrefixTreeAtRandom(RuleBasedStateMachine):
    """Used as the cache uses it: who holds or pins a node has all above it, and what nobody has is parked or goes."""

    @initialize(budget=st.sampled_from([0, 80, 250, 10_000]))
    def begin(self, budget: int) -> None:
        self.tree, self.by_hand = PrefixTree(budget), ByHand()
        self.leaf_of: dict[int, Node] = {}
        self.pinned: list[tuple[Node, tuple[int, ...]]] = []

    @rule(slot=st.integers(0, 3), tokens=few_tokens.filter(bool))
    def hold(self, slot: int, tokens: tuple[int, ...]) -> None:
        if slot in self.leaf_of:
            return
        nodes = self.tree.insert(array(tokens))
        self.by_hand.add(tokens)
        assert [t for node in nodes for t in node.tokens] == list(tokens)
        for node in nodes:
            self.tree.hold(node, slot)
        for n in range(1, len(tokens) + 1):
            self.by_hand.known[tokens[:n]].slots.add(slot)
        self.leaf_of[slot] = nodes[-1]

    @precondition(lambda self: bool(self.leaf_of))
    @rule(data=st.data(), keeps=st.booleans())
    def let_go(self, data: Any, keeps: bool) -> None:
        slot = data.draw(st.sampled_from(sorted(self.leaf_of)))
        leaf = self.leaf_of.pop(slot)
        position = data.draw(st.integers(0, leaf.end - 1))
        for node in leaf.lineage():
            if node.end <= position:
                self.leaf_of[slot] = node
                break
            if node.start < position:
                self.leaf_of[slot] = self.tree.split(node, position)
            if node.parked is None and node.slots == {slot} and (keeps or node.n_pins):
                self._park(node)
            prefix = full(node)
            self.tree.let_go(node, slot)
            for n in range(node.end, node.start, -1):
                self.by_hand.let_go(prefix[:n], slot)
            if slot in self.leaf_of:
                break

    @rule(tokens=few_tokens.filter(bool), pins=st.booleans())
    def park(self, tokens: tuple[int, ...], pins: bool) -> None:
        nodes = self.tree.insert(array(tokens))
        self.by_hand.add(tokens)
        for node in nodes:
            if not node.slots and node.parked is None:
                self._park(node)
        if pins:
            self.tree.pin(nodes[-1])
            self.pinned.append((nodes[-1], tokens))
            self._count_pins(tokens, 1)

    @precondition(lambda self: bool(self.pinned))
    @rule(data=st.data())
    def unpin(self, data: Any) -> None:
        leaf, tokens = self.pinned.pop(data.draw(st.integers(0, len(self.pinned) - 1)))
        self.tree.unpin(leaf)
        self._count_pins(tokens, -1)

    @rule(tokens=few_tokens)
    def look_up(self, tokens: tuple[int, ...]) -> None:
        assert self.tree.match(array(tokens)) == self.by_hand.match(tokens)
        nodes = self.tree.path(array(tokens))
        self.by_hand.use(tokens)
        assert sum(map(len, nodes)) == self.by_hand.match(tokens)
        assert [node.end for node in nodes[:-1]] == [node.start for node in nodes[1:]]

    @rule(data=st.data())
    def forget(self, data: Any) -> None:
        copies = [node for node in self.tree if node.parked is not None and not node.n_pins]
        if copies:
            node = data.draw(st.sampled_from(copies))
            prefix = full(node)
            self.tree.unpark(node)
            for n in range(node.end, node.start, -1):
                self.by_hand.forget(prefix[:n])

    @rule()
    def shrink(self) -> None:
        budget = self.tree.max_parked_bytes
        self.tree.shrink()
        self.by_hand.shrink(budget)
        if self.tree.n_parked_bytes > budget:
            assert all(node.n_pins or node.children for node in self.tree if node.parked is not None)

    @invariant()
    def both_know_the_same(self) -> None:
        if not hasattr(self, "tree"):
            return
        known = self.by_hand.known
        seen = set()
        for node, prefix in tokens_of(self.tree):
            seen.add(prefix)
            assert node.slots == known[prefix].slots
            assert node.n_pins == known[prefix].n_pins
            assert node.parked is known[prefix].copy
            assert node.slots or node.parked is not None, "a tree promises nothing that can't be had"
        assert seen == set(known)
        assert self.tree.n_live_tokens == sum(bool(one.slots) for one in known.values())
        assert self.tree.n_parked_bytes == self.by_hand.n_parked_bytes
        for leaf, tokens in self.pinned:
            assert full(leaf) == tokens, "what is pinned stays"

    def _park(self, node: Node) -> None:
        self.tree.park(node, saved(node))
        assert node.parked is not None
        self.by_hand.n_bytes_of[node.parked] = node.parked.saved.n_bytes
        for n in range(node.start, node.end):
            self.by_hand.known[full(node)[: n + 1]].copy = node.parked

    def _count_pins(self, tokens: tuple[int, ...], n_pins: int) -> None:
        for n in range(1, len(tokens) + 1):
            self.by_hand.known[tokens[:n]].n_pins += n_pins


def full(node: Node) -> tuple[int, ...]:
    """All tokens up to the end of ``node``."""
    return tuple(int(t) for above in reversed(list(node.lineage())) for t in above.tokens)


def tokens_of(tree: PrefixTree) -> Iterator[tuple[Node, tuple[int, ...]]]:
    for node in tree:
        yield from ((node, full(node)[:n]) for n in range(node.start + 1, node.end + 1))


TestPrefixTreeAtRandom = PrefixTreeAtRandom.TestCase
TestPrefixTreeAtRandom.settings = settings(max_examples=5 * settings().max_examples)
