"""How likely each value that stands in the documents is the one that a field asks for, by words and layout alone.

What counts: the field's name and description against the label, table header or heading that a value stands under, and
whether the value looks like what the name says (a telephone number, a name of a company). The weights are set by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import regex

from fourcorners.grounding.evidence import Evidence
from fourcorners.grounding.field_shapes import UNIT_NAMES, shape_fit, unit_fit
from fourcorners.grounding.fields import Leaf
from fourcorners.grounding.proposals import cells
from fourcorners.grounding.readings import Found
from fourcorners.grounding.words import fold, function_words, stem

LABEL_WEIGHT = 5.0
SHAPE_WEIGHT = 1.5
BROAD_WEIGHT = 1.2
"""For a field that asks for any value of its kind: "date", not "due date"."""
FIRST_LINE_WEIGHT = 1.0
START_WEIGHT = 0.2
NULL_SCORE = 2.6
"""What "it is not there" scores: about a label that matches by half, or a good shape in the right place."""
MIN_SHARE = 0.2
MISNAMED_PENALTY = 0.8
"""For what stands behind a label that says something else."""
NEAR_WEIGHT = 0.4
USED_PENALTY = 2.5
HINT_SHARE = 0.35
GENERIC_SHARE = 0.1
SAID_SHARE = 0.3
PARENT_SHARE = 0.4
FAMILY_CREDIT = 0.7
MAX_HINT_WORDS = 8
_GENERIC = frozenset({"name", "number", "text", "value", "field", "info", "item", "data", "no", "id"})
_SAID_BY_KIND = {
    "date": frozenset({"date", "day"}),
    "datetime": frozenset({"date", "day", "time"}),
    "time": frozenset({"time"}),
    "number": frozenset({"number", "amount", "valu"}) | UNIT_NAMES,
    "integer": frozenset({"number", "amount", "valu"}) | UNIT_NAMES,
}
"""Words of a name that every value of that kind goes with."""
_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+|#")
_ONLY_WORDS = regex.compile(r"[\p{L}\p{M}\s/&'’\-]{1,40}:?")
_BRACKETED = regex.compile(r"\s*\(([^()]{1,60})\)")
_SEGMENT = regex.compile(r"[^,;()]*")
_DELIMITED = regex.compile(r"(?:^|[,;|\t(])\s*([^,;|\t(:=]{1,60})[:=]\s*$")


@dataclass(frozen=True, slots=True)
class Ask:
    """What a field asks for: stems with their weights (those of the name sum to one), the stems of the hint, and the
    plain words of both. ``is_broad``: the name says no more than the kind of value does."""

    weights: dict[str, float]
    hint: frozenset[str]
    words: tuple[str, ...]
    is_broad: bool = False


class FieldPrior:
    """Scores values; the words of each sentence are looked at once."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._stems: dict[int, frozenset[str]] = {}

    def score(self, ask: Ask, leaf: Leaf, one: Found) -> float:
        """Higher is more likely; NULL_SCORE is what a value must beat."""
        text = self._evidence.sentences[one.sentence].text
        value = text[one.start : one.end]
        inside = match_share(ask, stems(value))
        label = self.label_share(ask, one)
        score = LABEL_WEIGHT * max(0.0, label - 0.6 * inside) + one.weight + START_WEIGHT * (one.start == 0)
        if leaf.kind in ("number", "integer"):
            score += SHAPE_WEIGHT * unit_fit(ask.words, one.unit, one.money)
        elif leaf.kind == "text":
            fit = shape_fit(ask.words, value)
            score += SHAPE_WEIGHT * fit
            if fit > 0.5 and self._is_first(one.sentence):
                score += FIRST_LINE_WEIGHT
        else:
            score += SHAPE_WEIGHT  # it is a date, and dates are few
        if ask.is_broad:
            score += BROAD_WEIGHT
        if (named := _DELIMITED.search(text[: one.start])) and _precise(ask, stems(named[1])) < MIN_SHARE:
            score -= MISNAMED_PENALTY
        return score

    def label_share(self, ask: Ask, one: Found) -> float:
        """How much of ``ask`` stands where the label of a value stands, from 0 to 1."""
        sentence = self._evidence.sentences[one.sentence]
        text, before = sentence.text, sentence.text[: one.start]
        shares = [0.4 * match_share(ask, self.stems_of(one.sentence) - stems(text[one.start : one.end]))]
        if delimited := _DELIMITED.search(before):
            shares.append(_precise(ask, stems(delimited[1])))
        segment = max((before.rfind(mark) + 1 for mark in ",;()"), default=0)
        words = [word.span() for word in _WORD.finditer(before, segment)][-4:]
        for distance in range(1, len(words) + 1):
            near = stems(before[words[-distance][0] :])
            shares.append((1.0 - 0.12 * distance) * match_share(ask, near))
        if bracketed := _BRACKETED.match(text, one.end):
            shares.append(_precise(ask, stems(bracketed[1])))
        elif after := stems(" ".join(_segment(text, one.end).split()[:3])):
            shares.append(0.7 * match_share(ask, after))
        if (header := self._header_cell(one)) is not None:
            shares.append(_precise(ask, stems(header)))
        shares.extend(0.5 * match_share(ask, self.stems_of(above)) for above in sentence.under)
        if (above := self._label_above(one.sentence)) is not None and one.start == 0:
            shares.append(0.8 * _precise(ask, self.stems_of(above)))
        return max(shares)

    def stems_of(self, index: int) -> frozenset[str]:
        """The stems of a whole sentence."""
        if index not in self._stems:
            self._stems[index] = stems(self._evidence.sentences[index].text)
        return self._stems[index]

    def header_of(self, index: int) -> int | None:
        """The row that names the columns of the table that a sentence is a row of."""
        sentences = self._evidence.sentences
        n_cells = len(cells(sentences[index].text))
        if n_cells < 2:
            return None
        for above in sentences[index].under:
            if sentences[above].kind == "header_row":
                return above
        top = index
        while top and len(cells(sentences[top - 1].text)) == n_cells and self._same_document(top, top - 1):
            top -= 1
        is_header = top < index and not any(char.isdigit() for char in sentences[top].text)
        return top if is_header else None

    def _header_cell(self, one: Found) -> str | None:
        if (header := self.header_of(one.sentence)) is None:
            return None
        sentences = self._evidence.sentences
        columns, names = cells(sentences[one.sentence].text), cells(sentences[header].text)
        column = next((i for i, (start, end) in enumerate(columns) if start <= one.start and one.end <= end), None)
        if column is None or len(columns) != len(names):
            return None
        start, end = names[column]
        return sentences[header].text[start:end]

    def _label_above(self, index: int) -> int | None:
        """The line above, where it is a few words and no row."""
        if not index or not self._same_document(index, index - 1):
            return None
        text = self._evidence.sentences[index - 1].text
        is_label = _ONLY_WORDS.fullmatch(text) and len(text.split()) <= (4 if text.endswith(":") else 3)
        return index - 1 if is_label else None

    def _is_first(self, index: int) -> bool:
        return index == 0 or not self._same_document(index, index - 1)

    def _same_document(self, one: int, other: int) -> bool:
        sentences = self._evidence.sentences
        return sentences[one].document == sentences[other].document


def ask_of(label: str, hint: str, parents: Sequence[str] = (), kind: str = "text") -> Ask:
    """What a field with that name, description and those names above it asks for."""
    weights: dict[str, float] = {}
    name, plain = stems_in_order(label), _SAID_BY_KIND.get(kind, frozenset[str]())
    is_broad = plain.issuperset(name)
    for word in name:
        share = SAID_SHARE if word in plain else 0.5 if word in _GENERIC else 1.0
        weights[word] = 1.0 if is_broad or len(name) == 1 else share
    for word in stems_in_order(hint)[:MAX_HINT_WORDS]:
        weights.setdefault(word, GENERIC_SHARE if word in _GENERIC else HINT_SHARE)
    for parent in parents:
        for word in stems_in_order(parent):
            weights.setdefault(word, PARENT_SHARE)
    total = sum(weights[word] for word in name) or sum(weights.values()) or 1.0
    return Ask(
        {word: weight / total for word, weight in weights.items()},
        stems(hint),
        tuple(fold(match.group()) for match in _WORD.finditer(f"{label} {hint}")),
        is_broad,
    )


def match_share(ask: Ask, words: frozenset[str]) -> float:
    """The weight of what ``words`` holds of ``ask``, at most 1."""
    found = 0.0
    for word, weight in ask.weights.items():
        if word in words:
            found += weight
        elif not words.isdisjoint(_families().get(word, frozenset())):
            found += FAMILY_CREDIT * weight
    return min(1.0, found)


def stems(text: str) -> frozenset[str]:
    """The stems of the content words of ``text``."""
    return frozenset(stems_in_order(text))


def stems_in_order(text: str) -> list[str]:
    """The same in order; where there are nothing but function words, these."""
    words = [stem(fold(match.group()), "english") for match in _WORD.finditer(text)]
    labels = _families()
    content = [word for word in words if word not in function_words("english") or word in labels]
    return content or words


def _precise(ask: Ask, words: frozenset[str]) -> float:
    """``match_share`` with a little taken off for words of the label that nobody asked for."""
    if not words:
        return 0.0
    if ask.hint and ask.hint <= words:
        return 0.9
    asked = sum(word in ask.weights or not words_family(word).isdisjoint(ask.weights) for word in words)
    return match_share(ask, words) * (0.7 + 0.3 * asked / len(words)) * 1.1


def _segment(text: str, start: int) -> str:
    """What follows from ``start`` on, up to a comma or bracket."""
    match = _SEGMENT.match(text, start)
    return match[0] if match else ""


def words_family(word: str) -> frozenset[str]:
    """The stems that label the same thing."""
    return _families().get(word, frozenset())


@cache
def _families() -> dict[str, frozenset[str]]:
    lines = files(__package__).joinpath("field_words.txt").read_text("utf-8").splitlines()
    families: dict[str, set[str]] = {}
    for line in lines:
        if line and not line.startswith("# "):
            together = {stem(word, "english") for word in line.split()}
            for word in together:
                families.setdefault(word, set()).update(together - {word})
    return {word: frozenset(others) for word, others in families.items()}
