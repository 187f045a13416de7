"""What a remote model is asked and what it answers, between the policies that know nothing of HTTP and the servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fourcorners.grounding.pattern import Pattern
from fourcorners.prompts.contract import Segment


class Ask(NamedTuple):
    """One request: the two turns in segments, how long the answer may be, and what it may be."""

    system: Sequence[Segment]
    user: Sequence[Segment]
    max_new_tokens: int
    stop: tuple[str, ...] = ()
    pattern: Pattern | None = None


class Next(NamedTuple):
    """A policy's wish for the next ``Delta`` of what it asked last; it is sent None once that has ended."""


NEXT = Next()


class Delta(NamedTuple):
    """What came in one event. ``finish_reason`` and ``usage`` come once, at the end."""

    text: str
    finish_reason: str | None = None
    usage: Mapping[str, int] = {}
    logprobs: tuple[Mapping[str, Any], ...] = ()


FINISH_REASONS = {"eos_token": "stop", "stop_sequence": "stop", "eos": "stop", "abort": "error"}
"""TGI's names, in OpenAI's terms."""
