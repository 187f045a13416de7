"""What every verbatim policy does once a sentence is chosen: tell texts apart, emit it, cite it, show who disagrees."""

from __future__ import annotations

import codecs
from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass
from typing import Any

from fourcorners.grounding.decoding import Piece, Tokens
from fourcorners.grounding.disagreement import disagreements, sentence_at
from fourcorners.grounding.evidence import Citation, Evidence, Span
from fourcorners.grounding.lookalike import begins_like, reads_like
from fourcorners.grounding.prior import PriorScores
from fourcorners.grounding.quoted_places import quoted_places, snapped
from fourcorners.grounding.tracker import Start


@dataclass(frozen=True, slots=True)
class Candidate:
    """A distinct sentence text, all places where it stands (best document first), and its weighted prior.

    ``index`` is its first place among the shown sentences' indices.
    """

    text: str
    spans: tuple[Span, ...]
    prior: float
    index: int


def candidates_of(evidence: Evidence, shown: Sequence[int], prior: PriorScores, prior_weight: float) -> list[Candidate]:
    """Distinct texts among ``shown``, with all their places. One that reads like the refusal can't be told from it."""
    refusal = evidence.options.refusal
    first: dict[str, int] = {}
    for index in shown:
        if not reads_like(text := evidence.sentences[index].text, refusal):
            first.setdefault(text, index)
    where: dict[str, list[int]] = {text: [] for text in first}
    for index, sentence in enumerate(evidence.sentences):
        if sentence.text in where:
            where[sentence.text].append(index)
    return [
        Candidate(
            text,
            tuple(Span(s.document, s.start, s.end) for s in (evidence.sentences[i] for i in indices)),
            prior_weight * float(max(prior.sentences[i] for i in indices)),
            first[text],
        )
        for text, indices in where.items()
    ]


def contradicting(evidence: Evidence, prior: PriorScores, citations: Sequence[Citation]) -> list[tuple[Span, ...]]:
    """All places of each sentence that contradicts the last citation."""
    last = citations[-1]
    said = [citation.quote for citation in citations]
    found = disagreements(evidence, prior, sentence_at(evidence, last.document, last.start), said)
    return [_places(evidence, evidence.sentences[other.sentence].text) for other in found]


def _places(evidence: Evidence, text: str) -> tuple[Span, ...]:
    return tuple(Span(s.document, s.start, s.end) for s in evidence.sentences if s.text == text)


def pieces_of(text: str, emitted: Sequence[int], tokens: Tokens, lead: str = "") -> Generator[Piece, Any, None]:
    """``text`` token by token; its pieces always join to exactly ``text``. ``emitted`` may begin with ``lead``."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    whole = b"".join(tokens.pieces[token] for token in emitted).decode("utf-8", "replace")
    if whole != lead + text:
        # The vocabulary can't spell it: the text itself is what counts.
        yield Piece(text, len(emitted))
        return
    skip = len(lead)
    for token in emitted:
        piece = decoder.decode(tokens.pieces[token])
        kept, skip = piece[skip:], max(0, skip - len(piece))
        yield Piece(kept, 1)


def citation_of(evidence: Evidence, spans: Sequence[Span]) -> Citation:
    """The first place as a citation, with the others beside it."""
    first = spans[0]
    return Citation(
        evidence.documents[first.document].id,
        first.document,
        first.start,
        first.end,
        evidence.quote(first),
        tuple(spans[1:]),
    )


def phrase_citation(evidence: Evidence, prior: PriorScores, known: Sequence[Span]) -> Citation:
    """A phrase at ``known`` places, with all others where its words stand."""
    return citation_of(evidence, quoted_places(evidence, prior, evidence.quote(known[0]), known))


def contradicting_phrases(
    evidence: Evidence, prior: PriorScores, citation: Citation, said: Collection[str]
) -> list[Citation]:
    """What other documents say instead, where the phrase is what they deny; ``said`` is left out."""
    index = sentence_at(evidence, citation.document, citation.start)
    begin = evidence.sentences[index].start
    found: list[Citation] = []
    for sentence, conflict in disagreements(evidence, prior, index, ()):
        if not (citation.start < begin + conflict.first[1] and begin + conflict.first[0] < citation.end):
            continue
        other = evidence.sentences[sentence]
        start, end = snapped(other.text, *conflict.second)
        span = Span(other.document, other.start + start, other.start + end)
        if evidence.quote(span) not in said:
            found.append(phrase_citation(evidence, prior, [span]))
    return found


def reads_like_refusal(start: Start, refusal: str) -> bool:
    """Whether what stands there could be taken for the refusal; a disguise of more than 2,000 bytes is none."""
    return begins_like(start.data[start.offset : start.offset + 2_000].decode(errors="ignore"), refusal)
