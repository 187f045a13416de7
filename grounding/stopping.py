"""Stop strings: nothing of one is ever shown, and citations end where the text does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fourcorners.grounding.decoding import Outcome, Piece, Policy
from fourcorners.grounding.evidence import Citation, Span

SEPARATOR = "\n"
"""What stands between the spans of an answer."""


class StopFilter:
    """Passes text on up to the first stop string; holds back what may still become one.

    Of several the one that is complete first counts, and of those the longest, so the result does not depend on how
    the text comes in pieces. Empty stop strings are left out.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """The part of the text so far that is safe to show."""
        self._held += text
        found = [(at + len(stop), at) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            return self._release(min(found)[1])
        return self._release(len(self._held) - self._longest_start())

    def flush(self) -> str:
        """What was held back, when the text has ended."""
        return "" if self.stopped else self._release(len(self._held))

    def _longest_start(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        longest = max((len(stop) for stop in self._stops), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stops):
                return length
        return 0

    def _release(self, length: int) -> str:
        text, self._held = self._held[:length], self._held[length:]
        return text


def stopped_at(policy: Policy, stops: Sequence[str]) -> Policy:
    """``policy`` with its answer cut before the first of ``stops``, and its citations cut to what is shown.

    An answer that begins with a stop string is empty and cites nothing.
    """
    stop_filter, n_shown, reply = StopFilter(stops), 0, None
    try:
        while True:
            try:
                step: Any = policy.send(reply)
            except StopIteration:
                return
            reply = None
            if isinstance(step, Piece):
                if not stop_filter.stopped:
                    text = stop_filter.feed(step.text)
                    n_shown += len(text)
                    yield Piece(text, step.n_tokens)
            elif isinstance(step, Outcome):
                rest = stop_filter.flush()
                if rest:
                    yield Piece(rest, 0)
                yield replace(step, citations=_cut(step.citations, n_shown + len(rest)))
            else:
                reply = yield step
    finally:
        policy.close()


def _cut(citations: Sequence[Citation], n_shown: int) -> tuple[Citation, ...]:
    """The citations of the first ``n_shown`` characters of the answer that they make together."""
    kept, begin = [], 0
    for citation in citations:
        length = min(len(citation.quote), n_shown - begin)
        if length <= 0:
            break
        also = tuple(Span(span.document, span.start, span.start + length) for span in citation.also)
        end = citation.start + length
        kept.append(replace(citation, end=end, quote=citation.quote[:length], also=also))
        begin += len(citation.quote) + len(SEPARATOR)
    return tuple(kept)
