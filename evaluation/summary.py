"""The figures of a question set: many judged rows and one threshold in, shares and areas out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fourcorners.evaluation.curves import RiskCoverage, area_under_risk_coverage, auroc, risk_coverage
from fourcorners.evaluation.judging import Judged

MAX_CURVE_POINTS = 101


@dataclass(frozen=True, slots=True)
class Confusion:
    """How many questions with and without an answer were answered and refused."""

    answerable_answered: int
    answerable_refused: int
    unanswerable_answered: int
    unanswerable_refused: int


@dataclass(frozen=True, slots=True)
class Summary:
    """All figures; None where there is nothing to measure. Rows that failed count as ``errors`` and nowhere else.

    ``em`` and ``f1`` are SQuAD 2.0's, over all questions (a refusal is the empty answer); those ``_answerable``,
    ``hit``, ``lenient``, ``rouge_l`` are over the questions that have an answer, a refusal being a miss. ``precision``,
    ``recall``, ``sentences``, ``verbatim``, ``copied``, ``supported`` are over the answers given. ``risk`` is the share
    of wrong answers among those given, ``coverage`` the share of questions that were answered; ``aurc`` and ``auroc``
    need a score, and no threshold.
    """

    rows: int
    errors: int
    answerable: int
    unanswerable: int
    confusion: Confusion
    hit: float | None
    em: float | None
    f1: float | None
    em_answerable: float | None
    f1_answerable: float | None
    lenient: float | None
    rouge_l: float | None
    rouge_l_selected: float | None
    precision: float | None
    recall: float | None
    sentences: float | None
    verbatim: float | None
    copied: float | None
    supported: float | None
    threshold: float | None
    coverage: float | None
    risk: float | None
    aurc: float | None
    auroc: float | None

    def as_dict(self) -> dict[str, Any]:
        """Plain types for JSON."""
        return asdict(self)


def summarized(rows: Sequence[Judged], threshold: float | None) -> Summary:
    """The figures of ``rows`` where those that score above ``threshold`` are refused; None: as the LLM decided."""
    sound = [one for one in rows if not one.answer.error]
    refused = {id(one) for one in sound if one.refused_at(threshold)}
    given = [one for one in sound if id(one) not in refused]
    asked = [one for one in sound if one.row.answerable]
    others = [one for one in sound if not one.row.answerable]
    scored = _scored(sound)
    over_asked = _over(asked, refused)
    return Summary(
        rows=len(rows),
        errors=len(rows) - len(sound),
        answerable=len(asked),
        unanswerable=len(others),
        confusion=Confusion(
            sum(id(one) not in refused for one in asked),
            sum(id(one) in refused for one in asked),
            sum(id(one) not in refused for one in others),
            sum(id(one) in refused for one in others),
        ),
        hit=over_asked(lambda one: one.hit),
        em=_mean(_official(one, one.exact, id(one) in refused) for one in sound),
        f1=_mean(_official(one, one.f1, id(one) in refused) for one in sound),
        em_answerable=over_asked(lambda one: one.exact),
        f1_answerable=over_asked(lambda one: one.f1),
        lenient=over_asked(lambda one: one.lenient),
        rouge_l=over_asked(lambda one: one.rouge),
        rouge_l_selected=_over([one for one in asked if one.row.selected], refused)(
            lambda one: one.rouge_selected or 0
        ),
        precision=_mean(one.precision for one in given if one.precision is not None),
        recall=_mean(one.recall for one in given if one.recall is not None),
        sentences=_mean(one.answer.n_sentences for one in given),
        verbatim=_mean(one.verbatim for one in given),
        copied=_mean(one.copied for one in given),
        supported=_supported(given),
        threshold=threshold if scored else None,
        coverage=_mean(id(one) not in refused for one in sound),
        risk=_mean(not one.right for one in given),
        aurc=area_under_risk_coverage(*_arrays(scored)) if scored else None,
        auroc=auroc([s for one, s in scored if not one.row.answerable], [s for one, s in scored if one.row.answerable]),
    )


def curve_of(rows: Sequence[Judged]) -> RiskCoverage | None:
    """The risk-coverage curve; None for an LLM that tells no scores."""
    scored = _scored([one for one in rows if not one.answer.error])
    return risk_coverage(*_arrays(scored)) if scored else None


def scores_of(rows: Sequence[Judged]) -> tuple[list[float], list[bool]]:
    """The score of each row that did not fail, and whether its best answer is wrong. Empty where none are told."""
    scored = _scored([one for one in rows if not one.answer.error])
    scores, wrong = _arrays(scored)
    return scores, wrong


def thinned(curve: RiskCoverage) -> list[tuple[float, float, float]]:
    """At most a hundred points of a curve, evenly over it: coverage, risk, threshold."""
    n = len(curve.coverage)
    places = np.unique(np.linspace(0, n - 1, min(n, MAX_CURVE_POINTS)).round().astype(int))
    return [tuple(round(float(part[at]), 6) for part in curve) for at in places]  # type: ignore[misc]


def by_column(rows: Sequence[Judged], column: str) -> dict[str, list[Judged]]:
    """The rows by what ``column`` says, in the order of first appearance."""
    groups: dict[str, list[Judged]] = {}
    for one in rows:
        groups.setdefault(str(one.row.columns.get(column, "–")), []).append(one)
    return groups


def _scored(rows: Sequence[Judged]) -> list[tuple[Judged, float]]:
    """All rows with their scores; none, where any lacks one."""
    found = [(one, one.answer.score) for one in rows if one.answer.score is not None]
    return found if len(found) == len(rows) else []


def _arrays(scored: Sequence[tuple[Judged, float]]) -> tuple[list[float], list[bool]]:
    return [score for _, score in scored], [not one.right for one, _ in scored]


def _over(rows: Sequence[Judged], refused: set[int]) -> Callable[[Callable[[Judged], float]], float | None]:
    return lambda figure: _mean(0.0 if id(one) in refused else figure(one) for one in rows)


def _official(one: Judged, figure: float, refused: bool) -> float:
    if refused:
        return float(not one.row.answerable)
    return figure if one.row.answerable else 0.0


def _supported(given: Sequence[Judged]) -> float | None:
    checked = [one.answer for one in given if one.answer.n_supported is not None]
    whole = sum(one.n_sentences for one in checked)
    return sum(one.n_supported or 0 for one in checked) / whole if whole else None


def _mean(values: Iterable[float]) -> float | None:
    listed = [float(value) for value in values]
    return sum(listed) / len(listed) if listed else None


__all__ = ["Confusion", "Summary", "by_column", "curve_of", "scores_of", "summarized", "thinned"]
