"""Citations for what was found in the documents by other means than decoding them: by number, or by its words."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import islice, pairwise

import regex

from fourcorners.grounding.disagreement import disagreements, sentence_at
from fourcorners.grounding.evidence import Citation, Evidence, Span
from fourcorners.grounding.lookalike import reads_like
from fourcorners.grounding.prior import PriorScores
from fourcorners.grounding.quoted_places import quoted_places, snapped
from fourcorners.grounding.segmentation import chunks

MAX_QUOTE_CHARS = 8_000
"""A longer line of a model is not looked for."""
MAX_PLACES = 64
"""Of one wording in one document."""
LEAST_WORDS = 4
"""Fewer words that are not half of a sentence do not tell which one is meant."""
_GAP = r"[\s\x1c-\x1f]+"
_MAYBE_GAP = r"[\s\x1c-\x1f]*"
_WRAPPING = ('"“”„«»‘’`*_>', '"“”„«»‘’`*_')
_LABEL = regex.compile(r"(?:[-*+•‣]\s+|\d{1,3}[.)]\s+|(?:answer|quote|antwort|zitat|réponse)\s*:\s*)+", regex.I)


def sentence_citation(evidence: Evidence, text: str, first: Span | None = None) -> Citation:
    """The places of the sentence ``text``: ``first``, else the best document's, and all others beside it."""
    places = [Span(s.document, s.start, s.end) for s in evidence.sentences if s.text == text]
    if first is not None:
        places = [first, *(place for place in places if place != first)]
    return _citation(evidence, places)


def phrase_citation(evidence: Evidence, prior: PriorScores, known: Sequence[Span]) -> Citation:
    """The phrase at ``known`` places, with all others where its words stand as words."""
    return _citation(evidence, quoted_places(evidence, prior, evidence.quote(known[0]), known))


def contradicting(
    evidence: Evidence, prior: PriorScores, citation: Citation, said: Collection[str], *, whole: bool
) -> Iterator[Citation]:
    """What other documents say against ``citation``: ``whole`` sentences, or the words in them that deny it."""
    index = sentence_at(evidence, citation.document, citation.start)
    begin = evidence.sentences[index].start
    for other_index, conflict in disagreements(evidence, prior, index, said if whole else ()):
        other = evidence.sentences[other_index]
        if whole:
            yield sentence_citation(evidence, other.text)
            continue
        if not (citation.start < begin + conflict.first[1] and begin + conflict.first[0] < citation.end):
            continue
        start, end = snapped(other.text, *conflict.second)
        span = Span(other.document, other.start + start, other.start + end)
        if evidence.quote(span) not in said:
            yield phrase_citation(evidence, prior, [span])


def found_quote(evidence: Evidence, prior: PriorScores, line: str) -> list[Citation]:
    """The citations for a line that a model wrote as a quote; none where its words do not stand in a document.

    White space is forgiven, and so are quotation marks, a list sign or a label around the line; letters, digits and
    signs are not. With ``span="sentence"`` the whole sentences that the words stand in are cited, of which they
    must be four words or fill a half; with ``"phrase"`` the words, where they stand in one sentence and cut no word.
    """
    for wording in _wordings(line):
        if places := _places(evidence, wording):
            if evidence.options.span == "phrase":
                return _as_phrase(evidence, prior, places)
            return _as_sentences(evidence, places)
    return []


def _as_phrase(evidence: Evidence, prior: PriorScores, places: Sequence[Span]) -> list[Citation]:
    inside = [place for place in places if _within_sentence(evidence, place)]
    if not inside or reads_like(evidence.quote(inside[0]), evidence.options.refusal):
        return []
    best = evidence.quote(inside[0])
    return [phrase_citation(evidence, prior, [place for place in inside if evidence.quote(place) == best])]


def _as_sentences(evidence: Evidence, places: Sequence[Span]) -> list[Citation]:
    for place in places:
        sentences = [
            s
            for s in evidence.sentences
            if s.document == place.document and s.start < place.end and place.start < s.end
        ]
        n_chars = sum(len(sentence.text) for sentence in sentences)
        length = place.end - place.start
        if not sentences or (2 * length < n_chars and len(evidence.quote(place).split()) < LEAST_WORDS):
            continue
        if any(reads_like(sentence.text, evidence.options.refusal) for sentence in sentences):
            continue
        return [sentence_citation(evidence, s.text, Span(s.document, s.start, s.end)) for s in sentences]
    return []


def _within_sentence(evidence: Evidence, place: Span) -> bool:
    return any(
        s.document == place.document and s.start <= place.start and place.end <= s.end for s in evidence.sentences
    )


def _wordings(line: str) -> Iterator[str]:
    """The line, then without what models put around a quote."""
    text = line.strip()
    seen = set()
    for candidate in (text, _bare(text), _bare(_LABEL.sub("", text, count=1)), _bare(_LABEL.sub("", _bare(text)))):
        if candidate and candidate not in seen and len(candidate) <= MAX_QUOTE_CHARS:
            seen.add(candidate)
            yield candidate


def _bare(text: str) -> str:
    return text.lstrip(_WRAPPING[0] + " \t").rstrip(_WRAPPING[1] + " \t")


def _places(evidence: Evidence, wording: str) -> list[Span]:
    """Where the words of ``wording`` stand, not cut out of longer ones or out of numbers."""
    words, found = wording.split(), list[Span]()
    if not any(char.isalnum() for char in wording):
        return found
    pattern = regex.compile(_pattern(words))
    for index, document in enumerate(evidence.documents):
        spans = [match.span() for match in islice(pattern.finditer(document.text), MAX_PLACES)]
        if spans:
            borders = {border for chunk in chunks(document.text) for border in chunk}
            found += [Span(index, *span) for span in spans if borders.issuperset(span)]
    return found


def _pattern(words: Sequence[str]) -> str:
    """The words with white space between them; beside a sign there need be none, for in the copy that a model is shown
    turn markers were broken up with spaces."""
    parts = [regex.escape(words[0])]
    for left, right in pairwise(words):
        parts += [_GAP if left[-1].isalnum() and right[0].isalnum() else _MAYBE_GAP, regex.escape(right)]
    return "".join(parts)


def _citation(evidence: Evidence, places: Sequence[Span]) -> Citation:
    first = places[0]
    return Citation(
        evidence.documents[first.document].id,
        first.document,
        first.start,
        first.end,
        evidence.quote(first),
        tuple(places[1:]),
    )
