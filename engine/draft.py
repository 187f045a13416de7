"""Guesses at the next tokens, copied from where the same words stood before: in the prompt or in the answer itself.

A model may read several tokens in little more time than one; then right guesses are nearly free, and wrong ones cost
what the step took longer. What is here belongs to one request and one thread.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable

MIN_MATCH = 2
"""Any text repeats single tokens by chance, so nothing is drafted after a shorter match than this."""
_CLASS_STARTS = (2, 3, 4, 8, 16)
_PRIORS = (0.4, 0.55, 0.7, 0.8, 0.9)
"""The chance that a guess is right before anything was seen, for matches at least as long as each class starts."""
_PRIOR_WEIGHT = 2.0
_MEMORY = 0.9
"""What an observation still weighs after the next: the latest ten or so make the estimate."""

Worth = Callable[[int, float], int]
"""How many tokens to draft, given how many could be and the chance that each is accepted."""


class SuffixAutomaton:
    """Finds where the end of a growing list of tokens stood before. ``tokens`` is the prompt; the answer is fed.

    Takes about 1 µs and 400 bytes a token, whether built at once or fed.
    """

    def __init__(self, tokens: Iterable[int] = ()) -> None:
        self._text: list[int] = []
        self._next: list[dict[int, int]] = [{}]
        self._links = [-1]
        self._lengths = [0]
        self._first_ends = [0]
        self._last = 0
        self._append(tokens)
        self._n_prompt = len(self._text)

    def feed(self, token: int) -> None:
        """Append a token of the answer."""
        self._append((token,))

    @property
    def match_length(self) -> int:
        """How many of the answer's last tokens also stand, in this order, at an earlier place; the two may overlap."""
        # The last state's suffix link leads to the longest suffix of the text that ends elsewhere too: hence earlier.
        return min(self._lengths[max(self._links[self._last], 0)], len(self._text) - self._n_prompt)

    def propose(self, n: int) -> tuple[int, ...]:
        """Up to ``n`` tokens that followed an earlier occurrence of the match; none where there is no match.

        Of several it is the first that has as much in common with what stands before the match as any. The first is
        mostly the document, and everything followed it; the latest may be the answer itself, which breaks off.
        """
        if self.match_length == 0:
            return ()
        start = self._first_ends[self._links[self._last]]
        return tuple(self._text[start : start + n])

    def _append(self, tokens: Iterable[int]) -> None:
        text, following, links, lengths = self._text, self._next, self._links, self._lengths
        last = self._last
        for token in tokens:
            text.append(token)
            new = len(following)
            following.append({})
            links.append(0)
            lengths.append(len(text))
            self._first_ends.append(len(text))
            state = last
            while state >= 0 and token not in following[state]:
                following[state][token] = new
                state = links[state]
            if state >= 0:
                target = following[state][token]
                links[new] = target if lengths[target] == lengths[state] + 1 else self._split(state, token, target)
            last = new
        self._last = last

    def _split(self, state: int, token: int, target: int) -> int:
        """A state for the shorter suffixes of ``target``, which from now on end in one more place than the longer."""
        short = len(self._next)
        self._next.append(self._next[target].copy())
        self._links.append(self._links[target])
        self._lengths.append(self._lengths[state] + 1)
        self._first_ends.append(self._first_ends[target])
        self._links[target] = short
        while state >= 0 and self._next[state].get(token) == target:
            self._next[state][token] = short
            state = self._links[state]
        return short


class Drafter:
    """Decides how much to draft, and learns from what became of it how often a draft is right.

    A step is ``propose``, then ``result`` if it proposed something, and ``observe`` for each token of the answer.
    ``worth`` is asked each time; without it as much is drafted as can be.
    """

    def __init__(self, automaton: SuffixAutomaton, max_tokens: int = 8, worth: Worth | None = None) -> None:
        self._automaton = automaton
        self._max_tokens = max_tokens
        self._worth = worth
        self._right = [prior * _PRIOR_WEIGHT for prior in _PRIORS]
        self._wrong = [(1.0 - prior) * _PRIOR_WEIGHT for prior in _PRIORS]
        self._class = 0
        self._held_back: int | None = None

    @property
    def acceptance(self) -> float:
        """The chance that a token drafted now is accepted, given that those before it are; 0 with too short a match."""
        length = self._automaton.match_length
        return self._chance(_class_of(length)) if length >= MIN_MATCH else 0.0

    def propose(self) -> tuple[int, ...]:
        """The tokens to draft: none after a match of less than MIN_MATCH, and no more than are worth it."""
        self._held_back = None
        length = self._automaton.match_length
        if length < MIN_MATCH:
            return ()
        self._class = _class_of(length)
        tokens = self._automaton.propose(self._max_tokens)
        n = len(tokens) if self._worth is None else self._worth(len(tokens), self._chance(self._class))
        if n <= 0:
            self._held_back = tokens[0]
            return ()
        return tokens[:n]

    def result(self, n_drafted: int, n_accepted: int) -> None:
        """Learn that of the latest proposal the first ``n_accepted`` tokens were right, and the next, if any, wrong."""
        self._learn(n_accepted, min(1, n_drafted - n_accepted))

    def observe(self, token: int) -> None:
        """Append a token of the answer, however it came about."""
        if self._held_back is not None:
            # A guess that was not worth a try shows for nothing whether the next may be: the estimate can recover.
            right = token == self._held_back
            self._learn(int(right), int(not right))
            self._held_back = None
        self._automaton.feed(token)

    def _learn(self, n_right: int, n_wrong: int) -> None:
        keep = _MEMORY ** (n_right + n_wrong)
        self._right[self._class] = self._right[self._class] * keep + n_right
        self._wrong[self._class] = self._wrong[self._class] * keep + n_wrong

    def _chance(self, index: int) -> float:
        right, wrong = self._right[index], self._wrong[index]
        return right / (right + wrong)


def _class_of(length: int) -> int:
    return bisect_right(_CLASS_STARTS, length) - 1
