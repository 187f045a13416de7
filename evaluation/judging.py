"""Each answer against its row: every figure of one question, at no threshold yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from fourcorners.evaluation import scoring
from fourcorners.evaluation.answering import Answer
from fourcorners.evaluation.places import cited_shares, gold_places, is_hit
from fourcorners.evaluation.rows import Row

Span = Literal["sentence", "phrase"]


@dataclass(frozen=True, slots=True)
class Judged:
    """One question, its best answer, and how good that is. Where nothing was answered all figures are 0 or None.

    ``right``: what a user may rely on, a hit, or with ``span="phrase"`` an exact match; never on a question that the
    context does not answer. ``precision`` and ``recall`` are in characters: of what is cited, and of what is gold.
    """

    row: Row
    answer: Answer
    hit: bool = False
    right: bool = False
    exact: float = 0.0
    f1: float = 0.0
    lenient: float = 0.0
    rouge: float = 0.0
    rouge_selected: float | None = None
    precision: float | None = None
    recall: float | None = None
    verbatim: bool = False
    copied: float = 0.0

    def refused_at(self, threshold: float | None) -> bool:
        """Whether it is refused at a threshold; without one, or without a score, whether the LLM refused."""
        score = self.answer.score
        return self.answer.refused if score is None or threshold is None else self.answer.refused or score > threshold

    def details(self, threshold: float | None) -> dict[str, Any]:
        """All of it as JSON has it. ``answer`` is null where it is refused; ``best_answer`` what it would be.

        The figures are those at the threshold, and null where the answer failed.
        """
        refused, row, answer = self.refused_at(threshold), self.row, self.answer
        places = [(quote.text, quote.places[0]) for quote in answer.quotes]
        return {
            **{name: value for name, value in row.columns.items() if name not in _KNOWN and _is_short(value)},
            "id": row.id,
            "question": row.question,
            "answerable": row.answerable,
            "answers": list(row.answers),
            "answer": None if refused or answer.error else answer.text,
            "refused": None if answer.error else refused,
            "score": answer.score,
            "threshold": threshold,
            "best_answer": answer.text,
            "best_is_right": self.right,
            "citations": [{"quote": text, "document": at.document, "start": at.start} for text, at in places],
            **(dict.fromkeys(_FIGURES) if answer.error else self._figures(refused=refused)),
            "seconds": round(answer.total_s, 4),
            "error": answer.error or None,
        }

    def _figures(self, *, refused: bool) -> dict[str, float | None]:
        said = "" if refused else self.answer.text
        right = refused if not self.row.answerable else self.right and not refused
        exact, f1 = scoring.exact_match(said, self.row.answers), scoring.f1_score(said, self.row.answers)
        shares = (None, None) if refused else (self.precision, self.recall)
        rest = (0.0, 0.0) if refused else (self.lenient, self.rouge)
        return dict(zip(_FIGURES, (not refused and self.hit, right, exact, f1, *rest, *shares), strict=True))


_FIGURES = ("hit", "right", "em", "f1", "lenient", "rouge_l", "precision", "recall")
_KNOWN = ("id", "context", "answers", "answer_start", "selected", "question", "answerable")


def _is_short(value: Any) -> bool:
    return isinstance(value, str | int | float | bool)


def judged(row: Row, answer: Answer, span: Span) -> Judged:
    """Compare an answer with the gold ones."""
    if not answer.text or answer.error:
        return Judged(row, answer)
    text, golds = answer.text, row.answers
    sentence = span == "sentence"
    shares = cited_shares(gold_places(row, sentences=sentence), answer.quotes) if row.answerable else None
    hit = row.answerable and (is_hit(row, answer.quotes) or (not answer.quotes and _says(text, golds)))
    exact = scoring.exact_match(text, golds) if golds else 0.0
    return Judged(
        row,
        answer,
        hit=hit,
        right=row.answerable and (hit if sentence or not golds else exact == 1.0),
        exact=exact,
        f1=scoring.f1_score(text, golds) if golds else 0.0,
        lenient=scoring.lenient_match(text, golds) if golds else 0.0,
        rouge=scoring.rouge_l(text, golds or (" ".join(row.selected),)) if row.answerable else 0.0,
        rouge_selected=scoring.rouge_l(text, (" ".join(row.selected),)) if row.selected else None,
        precision=shares[0] if shares else None,
        recall=shares[1] if shares else None,
        verbatim=scoring.is_verbatim(text, row.context),
        copied=scoring.copied_share(text, row.context),
    )


def _says(text: str, golds: tuple[str, ...]) -> bool:
    """For answers that cite nothing: whether one line of them holds a gold answer."""
    return any(scoring.holds(line, gold) for line in text.splitlines() for gold in golds)


__all__ = ["Judged", "Span", "judged"]
