"""A chat format read off a model's own chat template: it is rendered around marks, and what stands between them counts.

So the template never sees a text of a user or a document, and what is trusted and what is not stay apart.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from fourcorners.prompts.chat_format import MARKERS, PLAIN, SPEAKERS, ChatFormat
from fourcorners.prompts.families import FORMATS
from fourcorners.prompts.template_sandbox import TemplateFault, render

MAX_STOPS = 4
"""As many as OpenAI's API takes, and TGI unless it was told otherwise."""
_BEGINNINGS = ("<s>", "<bos>", "<|begin_of_text|>", "<|startoftext|>", "<｜begin▁of▁sentence｜>")
"""How begin-of-text tokens are written, for templates that do not leave it to ``bos_token``."""


@dataclass(frozen=True, slots=True)
class _Marks:
    """What stands for the texts; nobody can know them beforehand."""

    system: str
    user: str
    answer: str
    next_user: str
    bos: str

    @classmethod
    def new(cls) -> _Marks:
        key = secrets.token_hex(8)
        return cls(*(f"{kind}{key}" for kind in ("system", "user", "answer", "next", "bos")))


@lru_cache(maxsize=64)
def format_from_template(template: str, *, name: str = "template", bos: str = "", eos: str = "") -> ChatFormat:
    """The format that ``template`` writes: one of FORMATS where it is the same, else one called ``name``.

    ``bos`` and ``eos`` are the tokens' texts, where known. Takes a tenth of a second, once. Raises TemplateFault.
    """
    marks = _Marks.new()
    user = {"role": "user", "content": marks.user}
    system = {"role": "system", "content": marks.system}
    more = ({"role": "assistant", "content": marks.answer}, {"role": "user", "content": marks.next_user})
    conversations = [[system, user], [user], [user, *more], [user]]
    texts = render(template, conversations, opened=[True, True, True, False], bos=marks.bos, eos=eos)
    return _read_off(texts, marks, name, bos, eos)


def _read_off(texts: Sequence[str | TemplateFault], marks: _Marks, name: str, bos: str, eos: str) -> ChatFormat:
    whole, lone, dialogue, unopened = texts
    with_system = _around(whole, marks.system, marks.user)
    alone = _around(lone, marks.user)
    if with_system is None and alone is None:
        raise lone if isinstance(lone, TemplateFault) else TemplateFault("it does not show the user's text just once")
    if with_system is not None and alone is not None and with_system[:2] == (alone[0], "\n\n"):
        with_system = None  # the system text leads the user's, as for formats without a system turn
    before_system, before_user, before_answer = with_system or ("", *(alone or ("", "")))
    after = _around(dialogue, marks.user, marks.answer, marks.next_user)
    if after is not None and unopened == lone and after[1].startswith(before_answer):
        before_answer = after[1].removesuffix(" ")  # it opens no answer by itself, only where there is one
    first = before_user if with_system is None else before_system
    lone_first = alone[0] if alone else None
    begun = _Beginning.of([before_system, before_user, before_answer], marks.bos, bos)
    found = ChatFormat(
        name,
        begun.without(before_system) if with_system else "",
        begun.inside(before_user) if with_system else begun.without(before_user),
        begun.inside(before_answer),
        before_lone_user=None if lone_first is None else begun.without(lone_first),
        takes_system=with_system is not None,
        writes_bos=begun.opens(first) or begun.opens(lone_first or ""),
    )
    border = (after[2] if after is not None else found.before_answer).replace(marks.bos, "")
    ends = _ends(border)
    known = _known(found)
    if known is not None and (after is None or not ends or ends[0].strip() in known.markers):
        return known
    stops = dict.fromkeys(stop for stop in (*ends[:1], eos, *ends[1:]) if stop)
    return replace(found, stop=tuple(stops)[:MAX_STOPS] or SPEAKERS, answer_prefix=_prefix(found, after))


def _around(text: str | TemplateFault, *marks: str) -> tuple[str, ...] | None:
    """What stands before, between and after the marks; None unless each is there once, in this order."""
    if isinstance(text, TemplateFault) or any(text.count(mark) != 1 for mark in marks):
        return None
    parts = []
    for mark in marks:
        before, found, text = text.partition(mark)
        if not found:
            return None
        parts.append(before)
    return (*parts, text)


@dataclass(frozen=True, slots=True)
class _Beginning:
    """The begin-of-text token: at the beginning it is left to whoever tokenises the prompt, inside it is a marker."""

    mark: str
    bos: str
    spellings: tuple[str, ...]

    @classmethod
    def of(cls, parts: Sequence[str], mark: str, bos: str) -> _Beginning:
        """What counts as the token in these parts of a prompt."""
        # Where it stands more than once it opens turns too, as <|im_start|> does for SmolLM2.
        alone = bool(bos) and sum(part.count(bos) for part in parts) == 1
        return cls(mark, bos, (mark, *_BEGINNINGS, *([bos] if alone else [])))

    def opens(self, text: str) -> bool:
        return text.startswith(self.spellings)

    def without(self, text: str) -> str:
        while self.opens(text):
            text = text.removeprefix(next(one for one in self.spellings if text.startswith(one)))
        return self.inside(text)

    def inside(self, text: str) -> str:
        return text.replace(self.mark, self.bos)


def _known(found: ChatFormat) -> ChatFormat | None:
    for one in FORMATS.values():
        if one is not PLAIN and _same(one, found):
            same_alone = not one.takes_system or found.before_lone_user in (one.before_lone_user, None)
            if same_alone and one.writes_bos == found.writes_bos:
                return one
            alone = one.before_lone_user if same_alone else found.before_lone_user
            return replace(one, before_lone_user=alone, writes_bos=found.writes_bos)
    return None


def _same(one: ChatFormat, other: ChatFormat) -> bool:
    if one.takes_system != other.takes_system:
        return False
    # A tokenizer of Llama's kind puts a space before a text anyway, which some templates write too.
    ours, theirs = (
        (each.before_system.lstrip(" "), each.before_user, each.before_answer)
        if each.takes_system
        else ("", each.before_user.lstrip(" "), each.before_answer)
        for each in (one, other)
    )
    return ours == theirs


def _prefix(found: ChatFormat, dialogue: tuple[str, ...] | None) -> str:
    """The space that stands before an answer in the model's own dialogues."""
    if dialogue is None:
        return " " if found.before_answer.endswith("[/INST]") else ""
    return " " if dialogue[1] == f"{found.before_answer} " else ""


def _ends(border: str) -> list[str]:
    """The markers between an answer and the next turn; a role with a colon counts where it begins a line."""
    ends = []
    for match in MARKERS.finditer(border):
        text = match[0].strip()
        if text not in _BEGINNINGS:
            ends.append(f"\n{text}" if text.endswith(":") and border[: match.start()].endswith("\n") else text)
    return list(dict.fromkeys(ends))
