"""The most probable whole sentence: best-first search over the token trie of everything that may be said.

Each alternative (a sentence, the refusal, the stop) is one branch. At a fork the model's probabilities are
renormalised over the legal tokens and multiplied with the prior mass that lies behind each of them, so branch
probabilities sum to one and a branch is scored as a whole, not by its first token. Only forks cost a model call: what
is forced is never evaluated.
"""

from __future__ import annotations

import heapq
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fourcorners.grounding.decoding import Evaluate, Scores, log_mass, log_softmax
from fourcorners.grounding.grammar import Constraint

MAX_FORKS = 64
"""Forks looked at in one search; past it the best branch so far is completed greedily."""


@dataclass(frozen=True, slots=True)
class Branch:
    """One alternative: its canonical tokens, end token included, and its weighted log prior (unnormalised).

    No two branches of a search have the same tokens.
    """

    tokens: tuple[int, ...]
    prior: float


@dataclass(order=True, slots=True)
class _Node:
    rank: float
    depth: int = field(compare=False)
    members: list[int] = field(compare=False)

    @property
    def log_probability(self) -> float:
        return -self.rank


class BranchSearch:
    """Search over ``branches``; the model is asked through the generators' ``Evaluate`` steps.

    ``base`` is the position behind the prompt in the sequence; ``begin`` takes the logits there.
    """

    def __init__(
        self,
        branches: Sequence[Branch],
        constraint: Constraint,
        *,
        base: int,
        model_weight: float,
        window_tokens: int,
    ) -> None:
        self._branches = branches
        self._constraint = constraint
        self._base = base
        self._first: Scores = np.zeros(0)
        self._model_weight = model_weight
        self._window_tokens = window_tokens
        self._expanded: dict[tuple[int, ...], list[_Node]] = {}

    def begin(self, first: Scores) -> None:
        """The logits behind the prompt; before any search."""
        self._first = first

    def best(self, among: Sequence[int]) -> Generator[Any, Any, tuple[int, float]]:
        """Index and log-probability of the most probable of the branches ``among``."""
        wanted = set(among)
        heap = [_Node(0.0, 0, list(range(len(self._branches))))]
        node = heap[0]
        for _ in range(MAX_FORKS):
            if not heap:
                break
            node = heapq.heappop(heap)
            if len(node.members) == 1:
                return node.members[0], node.log_probability
            for child in (yield from self._fork(node)):
                if wanted.intersection(child.members):
                    heapq.heappush(heap, child)
        node = heap[0] if heap else node
        likely = max(wanted.intersection(node.members), key=lambda index: self._branches[index].prior)
        return likely, node.log_probability

    def log_probability(self, branch: int) -> Generator[Any, Any, float]:
        """Log-probability of one whole branch under the constraint."""
        node = _Node(0.0, 0, list(range(len(self._branches))))
        while len(node.members) > 1:
            children = yield from self._fork(node)
            found = next((child for child in children if branch in child.members), None)
            if found is None:
                return -np.inf
            node = found
        return node.log_probability

    def sample(
        self, among: Sequence[int], temperature: float, chance: np.random.Generator
    ) -> Generator[Any, Any, tuple[int, float]]:
        """Draw one of the branches ``among``, fork by fork."""
        wanted = set(among)
        node = _Node(0.0, 0, list(range(len(self._branches))))
        while len(node.members) > 1:
            children = [child for child in (yield from self._fork(node)) if wanted.intersection(child.members)]
            chances = np.exp(log_softmax(np.array([child.log_probability for child in children]) / temperature))
            node = children[int(chance.choice(len(children), p=chances / chances.sum()))]
        return node.members[0], node.log_probability

    def _fork(self, node: _Node) -> Generator[Any, Any, list[_Node]]:
        """The ways on from the next place where the members of ``node`` part; what they share is skipped."""
        depth, by_token = node.depth, self._next_tokens(node.members, node.depth)
        while len(by_token) == 1:
            depth += 1
            by_token = self._next_tokens(node.members, depth)
        path = self._branches[node.members[0]].tokens[:depth]
        if path not in self._expanded:
            logits = self._first
            if self._base + len(path) > self._window_tokens:
                logits = np.zeros_like(self._first)  # no room to ask the model: the prior decides this late fork
            elif path:
                logits = (yield Evaluate(self._base, path))[-1]
            self._expanded[path] = self._children(_Node(node.rank, depth, node.members), path, by_token, logits)
        return self._expanded[path]

    def _next_tokens(self, members: list[int], depth: int) -> dict[int, list[int]]:
        by_token: dict[int, list[int]] = {}
        for index in members:
            by_token.setdefault(self._branches[index].tokens[depth], []).append(index)
        return by_token

    def _children(
        self, node: _Node, path: tuple[int, ...], by_token: dict[int, list[int]], logits: Scores
    ) -> list[_Node]:
        legal = set(self._constraint.allowed_after(path).tolist())
        tokens = [token for token in by_token if token in legal] or list(by_token)
        model = log_softmax(logits[tokens].astype(np.float64))
        prior = np.array([self._mass(by_token[token]) for token in tokens])
        joint = log_softmax(self._model_weight * model + prior)
        return [
            _Node(node.rank - float(score), node.depth + 1, by_token[token])
            for token, score in zip(tokens, joint, strict=True)
        ]

    def _mass(self, members: list[int]) -> float:
        return log_mass(np.array([self._branches[index].prior for index in members]))
