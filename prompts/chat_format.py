"""How a model family wants its turns marked. The families are in ``families``, the choice in ``detection``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import regex

from fourcorners.prompts.contract import Segment
from fourcorners.prompts.guarding import guard, marker_pattern

MARKERS = regex.compile(r"<<[^<>\n]+>>|<[^<>\n]+>|\[[^\[\]\n]+\]|##+ ?[^\n#]+|[\p{L}]+:(?=\s*\Z)")
"""What in the text around a turn a model may take for its border: <…>, […], ### … and a role with its colon."""
SPEAKERS = ("\nUser:", "\nHuman:", "\nQuestion:")
"""How a model without turn tokens begins to speak for somebody else."""


@dataclass(frozen=True)
class ChatFormat:
    """Turn markers around the system and the user text, without the begin-of-text token before them.

    ``before_lone_user`` opens a prompt without a system text (None: as ``before_user``). ``answer_prefix`` is what the
    model writes before its answer, ``stop`` how it begins to speak on, the surest first. ``takes_system`` is False for
    formats without a system turn: then the system text leads the user's. ``writes_bos`` says that the model's own
    template begins with its begin-of-text token, ``specials`` are further tokens of its vocabulary that are no text.
    """

    name: str
    before_system: str
    before_user: str
    before_answer: str
    before_lone_user: str | None = None
    answer_prefix: str = ""
    stop: tuple[str, ...] = ()
    takes_system: bool = True
    writes_bos: bool = False
    specials: tuple[str, ...] = ()

    def wrap(self, system: Sequence[Segment], user: Sequence[Segment]) -> list[Segment]:
        """The whole prompt: trusted markers around the given segments."""
        if not self.takes_system:
            gap = [Segment("\n\n", trusted=True)] if system else []
            return [_marker(self.before_user), *system, *gap, *user, _marker(self.before_answer)]
        if not system and self.before_lone_user is not None:
            return [_marker(self.before_lone_user), *user, _marker(self.before_answer)]
        markers = (_marker(self.before_system), _marker(self.before_user), _marker(self.before_answer))
        return [markers[0], *system, markers[1], *user, markers[2]]

    def prompt_text(self, system: Sequence[Segment], user: Sequence[Segment]) -> str:
        """The whole prompt as one text, for a server that tokenises it itself and adds the begin-of-text token.

        In what is not trusted, markers of this format and special tokens of the common families are broken up.
        """
        own, common = self._own_markers, marker_pattern(frozenset(), common=True)
        return "".join(segment.text for segment in guard(guard(self.wrap(system, user), own), common))

    def as_data(self, text: str) -> str:
        """``text`` as the model is shown it: a space in everything that reads like a marker of this format.

        Not every marker is a control token: to the vocabulary of Llama 2 ``[/INST]`` is text like any other.
        """
        return self.guarded([Segment(text, trusted=False)])[0].text

    def guarded(self, segments: Sequence[Segment]) -> list[Segment]:
        """``segments`` with the untrusted ones as data, also where a marker stands in two of them."""
        return guard(segments, self._own_markers)

    def begun_once(self, bos: str, *, added: bool) -> ChatFormat:
        """This format for a vocabulary with the begin-of-text token ``bos``, which it adds by itself or not: so that a
        prompt has that token once where it is wanted, and never twice."""
        if not bos or not (added or self.writes_bos):
            return self

        def begun(text: str) -> str:
            return text.removeprefix(bos) if added else bos + text

        lone = None if self.before_lone_user is None else begun(self.before_lone_user)
        if self.takes_system:
            return replace(self, before_system=begun(self.before_system), before_lone_user=lone)
        return replace(self, before_user=begun(self.before_user), before_lone_user=lone)

    @cached_property
    def markers(self) -> frozenset[str]:
        """Every text that this format gives a meaning to."""
        around = (self.before_system, self.before_user, self.before_lone_user or "", self.before_answer)
        found = {match[0].strip() for text in around for match in MARKERS.finditer(text)}
        return frozenset({*found, *(stop.strip() for stop in self.stop), *self.specials} - {""})

    @cached_property
    def _own_markers(self) -> regex.Pattern[str] | None:
        return marker_pattern(self.markers)


PLAIN = ChatFormat("plain", "", "\n\n", "\n\nAnswer:", before_lone_user="", answer_prefix=" ")
"""No turns at all. A grounded or instruct prompt stops at SPEAKERS too; a raw text may hold a dialogue."""


def _marker(text: str) -> Segment:
    return Segment(text, trusted=True)
