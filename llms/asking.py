"""What a remote model is asked and what it answers, between the policies that know nothing of HTTP and the servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import regex

from fourcorners.grounding.pattern import Pattern
from fourcorners.prompts.contract import Segment

_MARKER = regex.compile(r"<[^<>\s]{1,64}>|\[/?[A-Za-z][A-Za-z_]{2,40}\]")
"""What some vocabulary may take for a turn marker or another control token: ``<|im_end|>``, ``</s>``, ``[/INST]`` …"""


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


def as_shown(segment: Segment) -> str:
    """A segment as a server is sent it, which tokenises a prompt as a whole: in text that is not ours everything
    that may read like a control token gets a space. Quotes are taken from the original."""
    if segment.trusted:
        return segment.text
    return _MARKER.sub(lambda match: f"{match[0][:-1]} {match[0][-1]}", segment.text)


def shown(segments: Sequence[Segment]) -> str:
    """All of them as one text."""
    return "".join(map(as_shown, segments))


FINISH_REASONS = {"eos_token": "stop", "stop_sequence": "stop", "eos": "stop", "abort": "error"}
"""TGI's names, in OpenAI's terms."""
