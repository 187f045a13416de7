"""Stop strings in grounded answers: citations end where the text does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fourcorners.engine.stopping import StopFilter
from fourcorners.grounding.decoding import SEPARATOR, Outcome, Piece, Policy
from fourcorners.grounding.evidence import Citation, Span


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
    return tuple(replace(one, contradicts=tuple(n for n in one.contradicts if n <= len(kept))) for one in kept)
