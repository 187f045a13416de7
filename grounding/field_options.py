"""The values that a field may take, as the bytes that would be written for them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from fourcorners.grounding.evidence import Evidence
from fourcorners.grounding.fields import Leaf
from fourcorners.grounding.pen import Option
from fourcorners.grounding.proposals import word_borders
from fourcorners.grounding.readings import Found, as_json, as_written

MAX_SPAN_BYTES = 600
"""Of the JSON of one text chosen by the model alone."""
MAX_STARTS = 50_000
"""Words that such a text may begin with."""


def literal(lead: str, text: str, prior: float, value: Any) -> Option:
    """Just ``text`` behind ``lead``."""
    body = (lead + text).encode()
    return Option(body, frozenset({len(body)}), prior, value)


def option(leaf: Leaf, one: Found, lead: str, prior: float) -> Option:
    """A text without its closing quote, which the model may put anywhere words end; all else as it is in JSON."""
    if leaf.kind == "text":
        return literal(lead, json.dumps(one.value, ensure_ascii=False)[:-1], prior, one)
    return literal(lead, as_json(as_written(leaf, one.value)), prior, one)


def run_bodies(evidence: Evidence, shown: Sequence[int]) -> Iterator[tuple[bytes, frozenset[int]]]:
    """From each word of the ``shown`` sentences on: the JSON of what follows, and where words end in it."""
    seen: set[str] = set()
    n_starts = 0
    for index in shown:
        text = evidence.sentences[index].text
        if text in seen:
            continue
        seen.add(text)
        begins, ends = word_borders(text)
        at = _escaped_offsets(text)
        data = json.dumps(text, ensure_ascii=False)[1:-1].encode()
        borders = sorted(at[end] for end in ends)
        for begin in sorted(begins):
            first = at[begin]
            own = [end - first for end in borders if first < end <= first + MAX_SPAN_BYTES]
            if own:
                yield data[first : first + own[-1]], frozenset(own)
                n_starts += 1
        if n_starts >= MAX_STARTS:
            return


def _escaped_offsets(text: str) -> list[int]:
    """Where in the bytes of the JSON each character begins; one more for the end."""
    offsets = [0]
    for char in text:
        offsets.append(offsets[-1] + len(json.dumps(char, ensure_ascii=False).encode()) - 2)
    return offsets


def shifted(ends: frozenset[int], by: int) -> frozenset[int]:
    """``ends`` for a body with so many bytes before it."""
    return frozenset(end + by for end in ends)


def without(option: Option, barred: set[bytes]) -> Option:
    """``option`` without the ends that would say one of ``barred``."""
    ends = option.ends - {len(text) for text in barred if option.body.startswith(text)}
    if ends == option.ends:
        return option
    return Option(option.body[: max(ends, default=0)], ends, option.prior, option.value)
