"""A fragment such as "and for children?" in the frame of the question before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fourcorners.grounding.asked import Asked, asks_what_it_is
from fourcorners.grounding.question_words import CONTENT, NOUNS, Word


@dataclass(frozen=True, slots=True)
class _Slot:
    """A noun phrase or a time in a question; ``start`` is that of its preposition and article."""

    phrase: list[Word]
    preposition: str
    start: int

    @property
    def is_time(self) -> bool:
        return all(word.role in ("time", "number") for word in self.phrase)


_Place = tuple[int, int, bool]
"""What is replaced, and whether by the fragment with its preposition."""


def in_frame(asked: Asked, last: Asked) -> str | None:
    """The last question with what the fragment ``asked`` names in the place of its like; None where it has none."""
    body = asked.body
    content = [word for word in body if word.role in CONTENT]
    if not asked.has_noun and all(word.role in ("adjective", "ordinal") for word in content):
        like = next((word for word in last.words if word.role == content[0].role), None)
        return last.text[: like.start] + content[0].text + last.text[like.end :] if like else None
    if all(word.role == "relational" for word in content):
        attribute = _attribute(last)
        if attribute is None:
            return None
        place: _Place | None = attribute
    else:
        place = _place(asked, last)
    if place is None:
        return f"{last.text.rstrip(' ?')} {asked.text[body[0].start : body[-1].end]}?"
    start, end, keeps_preposition = place
    first = body[0] if keeps_preposition else content[0]
    return last.text[:start] + asked.text[first.start : content[-1].end] + last.text[end:]


def _attribute(last: Asked) -> _Place | None:
    """ "price" in "what is the price of …"."""
    if not last.phrases or not asks_what_it_is(last):
        return None
    phrase = last.phrases[0]
    behind = last.words.index(phrase[-1]) + 1
    is_of = behind < len(last.words) and last.words[behind].folded in last.lists["prep"]
    return _bare([_Slot(phrase, "", phrase[0].start)]) if is_of else None


def _place(asked: Asked, last: Asked) -> _Place | None:
    """Where in the last question the fragment belongs; None: behind it all."""
    lists, body = asked.lists, asked.body
    preposition = body[0].folded if body[0].folded in lists["prep"] else None
    nouns = [word for word in body if word.role in NOUNS or word.role == "relational"]
    slots = [slot for slot in _slots(last) if slot.phrase != last.head]
    if not nouns:
        times = [slot for slot in slots if slot.is_time][-1:]
        return (times[0].start, times[0].phrase[-1].end, True) if times and preposition else _bare(times)
    slots = [slot for slot in slots if not slot.is_time]
    stems = {word.stem for word in nouns}
    if same_head := [slot for slot in slots if slot.phrase[-1].stem in stems]:
        return _bare(same_head[:1])
    if same_preposition := [slot for slot in slots if preposition and slot.preposition == preposition]:
        return same_preposition[-1].start, same_preposition[-1].phrase[-1].end, True
    if preposition and preposition not in lists["of"]:
        return None
    return _bare(_alike(nouns, slots, asked.language))


def _alike(nouns: Sequence[Word], slots: Sequence[_Slot], language: str) -> list[_Slot]:
    """A name for a name, several for several; else the first, mostly what the question is about."""
    things = [slot for slot in slots if any(word.role != "relational" for word in slot.phrase)]
    names = [slot for slot in things if any(word.role == "name" for word in slot.phrase)]
    if language != "german" and names and any(word.role == "name" for word in nouns):
        return names[-1:]
    number = [slot for slot in things if slot.phrase[-1].is_plural == nouns[-1].is_plural]
    return number[:1] or things[:1]


def _slots(last: Asked) -> list[_Slot]:
    times = [[word] for word in last.words if word.role == "time"]
    found = []
    for phrase in sorted([*last.phrases, *times], key=lambda phrase: phrase[0].start):
        at = last.words.index(phrase[0])
        start, preposition = phrase[0].start, ""
        for word in reversed(last.words[max(0, at - 2) : at]):
            if word.folded in last.lists["prep"]:
                start, preposition = word.start, word.folded
                break
            if word.folded not in last.lists["det"]:
                break
        found.append(_Slot(phrase, preposition, start))
    return found


def _bare(slots: Sequence[_Slot]) -> _Place | None:
    return (slots[0].phrase[0].start, slots[0].phrase[-1].end, False) if slots else None
