"""Whether two statements are about what a question names: the same thing, under the same conditions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import cache
from importlib.resources import files

from fourcorners.grounding.statement import Statement, Token, related
from fourcorners.grounding.words import stem, word_class

_IMPLIED = {
    "time": "time date year month day hour start when zeit datum jahr uhr",
    "money": "cost price fee charge fare rate pay much kosten kostet preis gebuhr eintritt",
    "weight": "weigh weight heavy wiegt wiegen schwer gewicht",
    "extent": "long last take length far distance tall high height deep depth wide width dauert dauern lang lange",
    "degrees": "hot cold warm temperature degree heiss",
    "number": "number many size age old anzahl",
    "share": "percent percentage share proportion",
    "name": "name",
    "place": "place city town country street ort stadt",
}
"""Words of a question that a sentence with such a value need not repeat."""
_MAX_EXTRAS = 6
_CHOOSING, _PLACING = word_class("choosing"), word_class("placing")


def on_the_same_thing(
    kind: str | None, question: Statement, a: Statement, b: Statement, contexts: tuple[Statement, Statement]
) -> bool:
    """Whether both speak of what the question names, under the same conditions and at the same time."""
    implied = _implied(kind)
    content = [token for token in question.tokens if token.is_content]
    asked = [token for token in content if token.stem not in implied] or content
    own = [{token.stem for token in asked if _covered(token, one)} for one in (a, b)]
    whole = [
        mine | {token.stem for token in asked if _covered(token, context)}
        for mine, context in zip(own, contexts, strict=True)
    ]
    if whole[0] != whole[1] or not own[0] | own[1]:
        return False
    if a.conditional != b.conditional or (kind not in ("time", "name") and a.past != b.past):
        return False
    stems = {token.stem for token in asked}
    extras = [_extras(one, other, stems | implied, with_names=kind != "name") for one, other in ((a, b), (b, a))]
    for mine, missing, one in ((extras[0], own[1] - own[0], a), (extras[1], own[0] - own[1], b)):
        if missing and mine:
            return False  # it may be about something else than the other, which names it
        if len(mine) > _MAX_EXTRAS or _told_apart(one, mine, stems):
            return False
    return not (extras[0] and extras[1]) or (len(asked) > 1 and own[0] == own[1] == stems)


def _covered(asked: Token, one: Statement) -> bool:
    """Whether the sentence has that word, one like it, or its opposite."""
    return related(asked.stem, one.stems) or (
        asked.folded in opposites() and opposites()[asked.folded][0] in members(one)
    )


def _extras(one: Statement, other: Statement, asked: Collection[str], *, with_names: bool) -> list[int]:
    """The tokens of ``one`` that neither the other sentence nor the question has; values and opposites aside."""
    return [
        index
        for index, token in enumerate(one.tokens)
        if token.is_content
        and (with_names or not token.is_name)
        and token.folded not in opposites()
        and not related(token.stem, other.stems)
        and not related(token.stem, asked)
    ]


def _told_apart(one: Statement, extras: Sequence[int], asked: Collection[str]) -> bool:
    """Whether an extra word says *which* thing is meant: "night ferry", "ticket for children", "in Lyon the museum"."""
    subject = [i for i, token in enumerate(one.tokens) if token.is_content and related(token.stem, asked)]
    for index in extras:
        token = one.tokens[index]
        if token.is_harmless:
            continue
        if one.touching(index - 1, index) and index - 1 in subject and one.tokens[index - 1].is_noun_like:
            return True
        if one.touching(index, index + 1) and index + 1 in subject:
            return True
        lead = one.lead_in(index)
        if lead is not None and (lead in _CHOOSING or (lead in _PLACING and index < min(subject, default=0))):
            return True
        if lead in _PLACING and one.before_lead(index) in subject and one.tokens[one.before_lead(index)].is_noun_like:
            return True
    return False


def members(one: Statement) -> dict[int, set[int]]:
    """The classes of opposites that a sentence has words of, and which sides of each."""
    found: dict[int, set[int]] = {}
    for token in one.tokens:
        if token.folded in opposites():
            name, member = opposites()[token.folded]
            found.setdefault(name, set()).add(member)
    return found


def _implied(kind: str | None) -> frozenset[str]:
    words = _IMPLIED.get(kind or "", "").split()
    return frozenset(stem(word, language) for word in words for language in ("english", "german"))


@cache
def opposites() -> dict[str, tuple[int, int]]:
    """Words of which only one holds at a time: the number of their class, and their side in it."""
    lines = files(__package__).joinpath("excluding_words.txt").read_text("utf-8").splitlines()
    classes: Iterable[str] = (line for line in lines if line and not line.startswith("#"))
    return {
        word: (number, member)
        for number, line in enumerate(classes)
        for member, words in enumerate(line.split("|"))
        for word in words.split()
    }
