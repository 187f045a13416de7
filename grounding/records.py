"""Where the items of a list stand: rows of a table, entries under a heading, what is enumerated behind a label."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import regex

from fourcorners.grounding.evidence import Evidence, Sentence
from fourcorners.grounding.field_prior import Ask, FieldPrior, ask_of, match_share, stems
from fourcorners.grounding.fields import Leaf, Record, Series
from fourcorners.grounding.proposals import cells, word_borders
from fourcorners.grounding.readings import Found, Readings, within_limits

MIN_HEADER_SHARE = 0.45
MIN_LABEL_SHARE = 0.6
_LABELLED = regex.compile(r"\s*\|?\s*([^:=|]{1,60})[:=|]\s*(?=\S)")
_ENUMERATED = regex.compile(r"(?:(?!,\s|;|•|·|\||\s/\s|\band\s|\s&\s)[^\r\n])+")
_GAP = regex.compile(r"\n[ \t]*\r?\n")


@dataclass(frozen=True, slots=True)
class Unit:
    """What one item of a list is taken from: its sentences, and for a list of plain values the value itself."""

    sentences: tuple[int, ...]
    value: Found | None = None


def units_of(series: Series, readings: Readings, prior: FieldPrior, most: int) -> list[Unit]:
    """The items, in the order of the document; empty where nothing looks like this list."""
    finder = _Finder(readings, prior, ask_of(series.label, series.hint))
    if isinstance(series.item, Record):
        found = finder.rows(series.item) or finder.entries()
    else:
        assert isinstance(series.item, Leaf)
        found = finder.values(series.item)
    return found[:most]


class _Finder:
    def __init__(self, readings: Readings, prior: FieldPrior, ask: Ask) -> None:
        self._readings, self._prior, self._ask = readings, prior, ask
        self._evidence: Evidence = readings.evidence
        self._sentences: Sequence[Sentence] = readings.evidence.sentences

    def rows(self, item: Record) -> list[Unit]:
        """Rows of the table whose header names the most of the item's fields."""
        asks = [ask_of(e.node.label, e.node.hint, (), e.node.kind) for e in item.entries if isinstance(e.node, Leaf)]
        by_header: dict[int, list[int]] = {}
        for index in self._readings.usable:
            if (header := self._prior.header_of(index)) is not None:
                by_header.setdefault(header, []).append(index)
        best, rows = MIN_HEADER_SHARE, list[int]()
        for header, under in by_header.items():
            text = self._sentences[header].text
            names = [stems(text[start:end]) for start, end in cells(text)]
            shares = [max((match_share(ask, name) for name in names), default=0.0) for ask in asks]
            share = sum(shares) / max(1, len(shares))
            if share > best:
                best, rows = share, [i for i in under if len(cells(self._sentences[i].text)) == len(names)]
        return [Unit((index,)) for index in rows]

    def entries(self) -> list[Unit]:
        """Paragraphs, or lines where there is but one paragraph, under the heading that names the list."""
        section = self._section()
        blocks: list[list[int]] = []
        for index in section:
            if blocks and not self._gap(blocks[-1][-1], index):
                blocks[-1].append(index)
            else:
                blocks.append([index])
        if len(blocks) == 1:
            blocks = [[index] for index in section]
        return [Unit(tuple(block)) for block in blocks]

    def values(self, leaf: Leaf) -> list[Unit]:
        """Values behind the label, or under the heading, that names the list; each text once."""
        lines = [(index, label.end()) for index in self._readings.usable if (label := self._label(index))]
        lines = lines[:1] or [(index, 0) for index in self._section()]
        seen, found = set(), []
        for index, start in lines:
            for one in self._enumerated(leaf, index, start, whole=len(lines) > 1):
                if one.value not in seen and within_limits(one.value, leaf):
                    seen.add(one.value)
                    found.append(Unit((index,), one))
        return found

    def _enumerated(self, leaf: Leaf, index: int, start: int, *, whole: bool) -> Iterator[Found]:
        if leaf.kind != "text":
            yield from (one for one in self._readings.of(leaf, [index]) if one.start >= start)
            return
        text = self._sentences[index].text
        begins, ends = word_borders(text)
        pieces = [match.span() for match in _ENUMERATED.finditer(text, start)]
        if whole or (start == 0 and sum(len(text[a:b].split()) for a, b in pieces) > 4 * len(pieces)):
            pieces = [(0, len(text))]  # a line is an item
        for begin, end in pieces:
            begin = next((at for at in range(begin, end) if at in begins), end)
            end = next((at for at in range(end, begin, -1) if at in ends), begin)
            if begin < end:
                yield Found(text[begin:end], index, begin, end)

    def _label(self, index: int) -> regex.Match[str] | None:
        label = _LABELLED.match(self._sentences[index].text)
        if label is None or ("|" in label[0] and len(cells(self._sentences[index].text)) != 2):
            return None
        return label if self._share(stems(label[1])) >= MIN_LABEL_SHARE else None

    def _share(self, words: frozenset[str]) -> float:
        """How well a label or heading names the list; one that says all that the description says does too."""
        return max(match_share(self._ask, words), 0.9 if self._ask.hint and self._ask.hint <= words else 0.0)

    def _section(self) -> list[int]:
        """The sentences under the heading, or the short line, that names the list."""
        best, opening = MIN_LABEL_SHARE - 1e-9, -1
        for index in self._readings.usable:
            text = self._sentences[index].text
            if len(text.split()) <= 5 and (share := self._share(self._prior.stems_of(index))) > best:
                best, opening = share, index
        if opening < 0:
            return []
        under = [index for index in self._readings.usable if opening in self._sentences[index].under]
        return self._until_label(under) or self._until_gap(opening)

    def _until_label(self, section: list[int]) -> list[int]:
        """Up to the paragraph that begins with a label: it is about something else."""
        for number, index in enumerate(section):
            if number and self._gap(section[number - 1], index) and _LABELLED.match(self._sentences[index].text):
                return section[:number]
        return section

    def _until_gap(self, opening: int) -> list[int]:
        found = []
        for index in range(opening + 1, len(self._sentences)):
            if self._sentences[index].document != self._sentences[opening].document or self._gap(index - 1, index):
                break
            found.append(index)
        return found

    def _gap(self, one: int, other: int) -> bool:
        first, second = self._sentences[one], self._sentences[other]
        text = self._evidence.documents[first.document].text
        return _GAP.search(text, first.end, second.start) is not None
