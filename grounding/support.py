"""The check of free answers: which place of the documents, if any, supports a sentence, and the citations for it.

What is compared are words, numbers, dates, names, units, negations and their order, never meaning as such: a sentence
passes where each of its words has a counterpart in one sentence of a document or two neighbouring ones, and no rule of
``comparison.py`` is broken. What it cannot see is in the documentation of the guarantee.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import regex

from fourcorners.grounding.alignment import Place
from fourcorners.grounding.claims import Claims, Token, claims_of
from fourcorners.grounding.comparison import Judgement, compare
from fourcorners.grounding.evidence import Citation, Evidence, Span
from fourcorners.grounding.quantities import agrees
from fourcorners.grounding.sources import Sources

MAX_PAIRS = 4
MAX_PARTS = 3
MAX_TEMPLATE_MATCHES = 200
MAX_SENTENCE_CHARS = 2_000
"""A longer sentence of a model is not checked, but unsupported."""

_FRAME = regex.compile(
    r"\s*(?:(?:according to|based on|as (?:stated|described|mentioned) in|per|from) (?:the |this |your )?"
    r"(?:provided |given |supplied )?(?:context|text|documents?|passage|information|sources?)(?: provided| given)?"
    r"\s*,\s*"
    r"|(?:the |this )?(?:context|text|document|passage|source) (?:says|states|mentions|notes|explains) that\s+"
    r"|(?:laut|gemäß) (?:dem |der )?(?:kontext|text|dokument|quelle)\s*,?\s*"
    r"|(?:selon|d['’]après) (?:le |la )?(?:contexte|texte|document|source)\s*,\s*"
    r"|(?:so|yes|also|in short|in summary|overall|finally|additionally|moreover|furthermore|however|therefore|then)"
    r"\s*,\s*"
    r"|(?:first|second|third)(?:ly)?\s*,\s*)+",
    regex.I,
)
_LIST_MARK = regex.compile(r"\s*(?:[-*+•‣]\s+|\d{1,2}[.)]\s+|#{1,6}\s+|>\s+)+")
_END = regex.compile(r"[\s\x1c-\x1f.!?…;:]*\Z")
_GAP = r"[\s\x1c-\x1f]+"
"""All that ``str.split`` cuts at."""
_COORDINATING = frozenset(["and", "but", "und", "aber", "sondern", "et", "mais"])
_DIGITS = regex.compile(r"\d+")


class SupportCheck(Protocol):
    """A model's opinion, an NLI or a detector model for instance.

    Given the text that may support it and the sentence: True, it is supported; False, it is not; None, no opinion.
    It can veto any sentence and support one whose *words* differ; a number, date, name or negation that the rules find
    wrong stays wrong. It is called at most once a sentence, from one thread at a time for each answer.
    """

    def __call__(self, premise: str, sentence: str) -> bool | None:
        """Whether ``premise`` supports ``sentence``."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a sentence is supported, why or why not in a few words, and by what."""

    supported: bool
    reason: str
    citations: tuple[Citation, ...] = ()


@dataclass(frozen=True, slots=True)
class _Found:
    """A place with its judgement; ``first`` to ``last`` index its sentences among those of the evidence."""

    first: int
    last: int
    place: Place
    judgement: Judgement


class Checker:
    """Checks the sentences of one answer, in order: what "it" means depends on the sentence before.

    Made in time linear in the documents (about 1 s a megabyte) at the first check; a check takes some milliseconds, in
    a megabyte a tenth of a second.
    Use one for each answer, from one thread at a time.
    """

    def __init__(self, evidence: Evidence, support_check: SupportCheck | None = None) -> None:
        self._evidence, self._support_check = evidence, support_check
        self._sources = Sources(evidence)
        self._previous: _Found | None = None
        self._previous_words: frozenset[str] = frozenset()

    def check(self, sentence: str) -> Verdict:
        """The verdict on the next sentence of the answer."""
        text = sentence.strip()
        text = text[_LIST_MARK.match(text).end() :] if _LIST_MARK.match(text) else text  # type: ignore[union-attr]
        if len(text) > MAX_SENTENCE_CHARS:
            return Verdict(False, f"too long to be checked: {len(text)} characters")
        if copied := self._copied(text):
            return self._copy(text, copied)
        frame = _FRAME.match(text)
        body = text[frame.end() :] if frame and frame.end() < len(text) else text
        if differing := self._other_digits(body):
            return Verdict(False, f"number: {differing}")
        said = claims_of(body, self._sources.language_of(body))
        return self._judged(said, text)

    # --- copies

    def _copied(self, text: str) -> list[Span]:
        """The places of whole sentences of a document that ``text`` copies letter by letter, white space apart."""
        words = _END.sub("", text).split()
        if not words or not self._evidence.sentences:
            return []
        pattern = regex.compile(_GAP.join(map(regex.escape, words)))
        found = []
        for sentence in self._evidence.sentences:
            source = self._evidence.documents[sentence.document].text
            if source.startswith(words[0], sentence.start) and (match := pattern.match(source, sentence.start)):
                span = self._whole_sentences(sentence.document, *match.span())
                if span is not None:
                    found.append(span)
        return found

    def _whole_sentences(self, document: int, start: int, end: int) -> Span | None:
        """The sentences from ``start`` to ``end`` but for their final signs; None where it cuts one."""
        starts, ends = self._sources.borders
        low = starts.get((document, start))
        if low is None:
            return None
        tail = _SENTENCE_TAIL.match(self._evidence.documents[document].text, end)
        last = tail.end() if tail else end
        high = next((ends[document, at] for at in range(last, end - 1, -1) if (document, at) in ends), None)
        return Span(document, start, self._evidence.sentences[high].end) if high is not None and high >= low else None

    def _other_digits(self, text: str) -> str:
        """The first number of ``text`` that differs, where text and a document are alike but for their numbers."""
        words = _END.sub("", text).split()
        runs = _DIGITS.findall(text)
        if not runs or len(words) < 2:
            return ""
        template = _GAP.join(_DIGITS.sub(r"(\\d+)", regex.escape(word)) for word in words)
        pattern = regex.compile(rf"(?<![\p{{L}}\p{{N}}]){template}(?![\p{{L}}\p{{N}}])")
        literal = _GAP.join(map(regex.escape, words))
        exact = regex.compile(rf"(?<![\p{{L}}\p{{N}}]){literal}(?![\p{{L}}\p{{N}}])")
        if any(exact.search(document.text) for document in self._evidence.documents):
            return ""
        differing = ""
        for index, document in enumerate(self._evidence.documents):
            for n, match in enumerate(pattern.finditer(document.text, overlapped=True)):
                if n >= MAX_TEMPLATE_MATCHES:
                    break
                theirs = list(match.groups())
                if self._same_facts(text, match.group(), index):
                    return ""
                differing = differing or next(a for a, b in zip(runs, theirs, strict=True) if a != b)
        return differing

    def _same_facts(self, text: str, other: str, document: int) -> bool:
        """ "09:00" for "9:00": other digits, but the same values in the same order."""
        mine = claims_of(text, self._sources.language_of(text)).facts
        theirs = claims_of(other, self._sources.languages[document]).facts
        return len(mine) == len(theirs) and all(agrees(a, b) for a, b in zip(mine, theirs, strict=True))

    def _copy(self, text: str, spans: Sequence[Span]) -> Verdict:
        """The verdict on a copy: right where "it" is what it was in the sentence before."""
        said = claims_of(text, self._sources.language_of(text))
        for span in spans:
            first = self._sources.borders[0][span.document, span.start]
            found = _Found(first, first, self._sources.place(first, first), Judgement(None, "", 1.0))
            if self._refers_rightly(said, found, None):
                self._previous, self._previous_words = found, said.stems
                verdict = self._cited([span], also=[other for other in spans if other != span])
                return self._with_opinion(verdict, text, self._sources.premise(first, first), "copied")
        return Verdict(False, f"elsewhere: {said.tokens[0].text}")

    # --- places

    def _judged(self, said: Claims, text: str) -> Verdict:
        parts, best = self._supporting(said, MAX_PARTS)
        if parts:
            self._previous, self._previous_words = parts[0], said.stems
            spans = list(dict.fromkeys(span for part in parts for span in self._spans(part)))
            premise = "\n".join(dict.fromkeys(self._sources.premise(part.first, part.last) for part in parts))
            return self._with_opinion(self._cited(spans), text, premise, "words")
        if best is None:
            return Verdict(False, "words: nothing like it in the context")
        nearest = self._nearest_in_words(said)
        asked = self._support_check
        if (
            nearest is not None
            and asked is not None
            and asked(self._sources.premise(nearest.first, nearest.last), text)
        ):
            self._previous, self._previous_words = nearest, said.stems
            return self._cited(self._spans(nearest), reason="support check")
        broken, detail = best.judgement.broken, best.judgement.detail
        return Verdict(False, f"{broken}: {detail}" if detail else f"{broken}: no statement to check")

    def _nearest_in_words(self, said: Claims) -> _Found | None:
        """The place that lacks nothing but words: numbers, names, negations are all as they should be."""
        found = [one for one in self._candidates(said) if one.judgement.only_words and one.judgement.share > 0]
        found = [one for one in found if self._refers_rightly(said, one, None)]
        return max(found, key=lambda one: one.judgement.share, default=None)

    def _supporting(self, said: Claims, n_parts: int, left: _Found | None = None) -> tuple[list[_Found], _Found | None]:
        """Places that support all of ``said``; where there are none, the nearest miss."""
        best: _Found | None = None
        for found in self._candidates(said):
            if found.judgement.broken is None and self._refers_rightly(said, found, left):
                return [found], None
            if found.judgement.broken is None:
                found = replace(found, judgement=Judgement("elsewhere", said.tokens[0].text, found.judgement.share))
            if best is None or _rank(found.judgement) > _rank(best.judgement):
                best = found
        if n_parts > 1:
            for one, two in _splits(said):
                parts, _ = self._supporting(one, 1, left)
                rest, _ = self._supporting(two, n_parts - 1, parts[-1]) if parts else ([], None)
                if parts and rest:
                    return parts + rest, None
        return [], best

    def _refers_rightly(self, said: Claims, found: _Found, left: _Found | None) -> bool:
        """Whether what a pronoun or a missing subject stands for is what ``found`` is about."""
        if left is not None:
            subject = said.clauses[0].own_subject if said.clauses else None
            if subject is not None and not said.anaphoric:
                one, two = (self._evidence.sentences[f.first].document for f in (found, left))
                return one == two or bool(said.names)
            return self._is_about(found, left)
        if not said.anaphoric or self._previous is None:
            return True
        return self._is_about(found, self._previous) or bool(_subjects(found.place) & self._previous_words)

    def _is_about(self, found: _Found, earlier: _Found) -> bool:
        if earlier.first <= found.first <= earlier.last or found.first in self._sources.antecedents(earlier.first):
            return True
        chain = self._sources.antecedents(found.first)
        if earlier.first in chain or earlier.last in chain:
            return True
        return bool(chain and chain[-1] in self._sources.antecedents(earlier.first)) or bool(
            _subjects(found.place) & _subjects(earlier.place)
        )

    def _candidates(self, said: Claims) -> Iterator[_Found]:
        """Places with much in common with ``said``, best first: single sentences, then pairs of neighbours."""
        hints = frozenset(self._sources.question) if not said.content else frozenset()
        ranked = self._sources.ranked(said, hints)
        sentences = self._evidence.sentences
        spans = [(i, i) for i in ranked]
        for i in ranked[:MAX_PAIRS]:
            for first, last in ((i, i + 1), (i - 1, i)):
                both = first >= 0 and last < len(sentences) and sentences[first].document == sentences[last].document
                if both and (first, last) not in spans:
                    spans.append((first, last))
        for first, last in spans:
            place = self._sources.place(first, last)
            yield _Found(first, last, place, compare(said, place, hints))

    # --- verdicts

    def _spans(self, found: _Found) -> list[Span]:
        sentences = self._evidence.sentences
        document = sentences[found.first].document
        spans = [Span(document, sentences[found.first].start, sentences[found.last].end)]
        around = [
            *sentences[found.first].under,
            *self._sources.antecedents(found.first),
            self._sources.openings[document],
        ]
        for i in dict.fromkeys(around):
            if any(self._sources.claims_at(i, i).text == claims.text for claims in found.judgement.helped):
                spans.append(Span(document, sentences[i].start, sentences[i].end))
        return spans

    def _cited(self, spans: Sequence[Span], also: Sequence[Span] = (), reason: str = "words") -> Verdict:
        citations = []
        for span in spans:
            quote = self._evidence.quote(span)
            others = also or [other for other in self._all_places(quote) if other != span]
            places = sorted([span, *others], key=lambda one: (one.document, one.start))
            first = places[0]
            quoted = self._evidence.quote(first)
            same = tuple(place for place in places[1:] if self._evidence.quote(place) == quoted)
            document = self._evidence.documents[first.document]
            citation = Citation(document.id, first.document, first.start, first.end, quoted, same)
            citations.append(citation)
        return Verdict(True, reason, tuple(citations))

    def _all_places(self, quote: str) -> Iterator[Span]:
        for index, document in enumerate(self._evidence.documents):
            start = document.text.find(quote)
            while start >= 0:
                yield Span(index, start, start + len(quote))
                start = document.text.find(quote, start + len(quote))

    def _with_opinion(self, verdict: Verdict, text: str, premise: str, reason: str) -> Verdict:
        if self._support_check is not None and self._support_check(premise, text) is False:
            return Verdict(False, "support check")
        return replace(verdict, reason=reason)


_SENTENCE_TAIL = regex.compile(r"[\s\x1c-\x1f.!?…;:\"'”’»)\]*_]*")


def _subjects(place: Place) -> set[str]:
    """Stems that say what a place is about: its names, the first content word, and its headings."""
    core = place.core
    subjects = {token.stem for token in core.names} | {token.stem for token in core.content[:2]}
    return subjects | {token.stem for claims in place.over for token in claims.content}


def _rank(judgement: Judgement) -> tuple[float, bool]:
    return round(judgement.share, 2), judgement.broken != "words"


def _splits(said: Claims) -> Iterator[tuple[Claims, Claims]]:
    """``said`` cut in two at a clause border, both with something to check."""
    ends = [clause.tokens[-1] for clause in said.clauses[:-1]]
    for end in ends:
        cut = said.tokens.index(end) + 1
        # "if", "when", "because" bind what follows to what stands before.
        if said.tokens[cut].fold not in _COORDINATING and ";" not in said.text[end.end : said.tokens[cut].start]:
            continue
        one, two = _part(said, said.tokens[:cut]), _part(said, said.tokens[cut:])
        if all(len(part.content) + len(part.facts) >= 2 for part in (one, two)):
            yield one, two


def _part(said: Claims, tokens: Sequence[Token]) -> Claims:
    kept = sorted({token.fact for token in tokens if token.fact >= 0})
    renumbered = tuple(replace(t, fact=kept.index(t.fact) if t.fact >= 0 else -1) for t in tokens)
    return Claims(said.text, said.language, tuple(said.facts[i] for i in kept), renumbered)
