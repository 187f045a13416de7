"""Thresholds with a finite-sample bound, from the scores of answers and whether each of them is wrong.

A threshold t answers where the refusal score is below it. Two bounds, both for questions drawn as the rows were
(exchangeable with them), both free of assumptions on the model and on how the scores are distributed:

``selective`` (the default): "at most ``max_risk`` of the answers *given* are wrong", with probability ``confidence``
over the draw of the rows. The selective risk R(t) = P(wrong | score < t) is not monotone in t, so it is tested: the
candidates are the scores of K ranks, fixed before the data are seen. Given the k-th lowest score t, the rows below it
are independent draws from "score < t", so that the wrong ones among m of them are Binomial(m, R(t)); the binomial tail
rejects R(t) > max_risk at level (1 - confidence) / K. By the union bound over the ranks all rejections hold together,
and the candidate that answers most is taken. This is the risk guarantee of Geifman and El-Yaniv, "Selective
Classification for Deep Neural Networks" (2017, arXiv 1705.08500), with the union over fixed ranks in the place of their
binary search; equally Learn-then-Test with Bonferroni (Angelopoulos, Bates, Candès, Jordan and Lei 2021, arXiv
2110.01052).

``expected``: "at most ``max_risk`` of all questions *asked* are answered wrongly", in expectation over rows and
question. The loss "answered and wrong" never falls when t rises, so conformal risk control holds (Angelopoulos, Bates,
Fisch, Lei and Schuster 2022, arXiv 2208.02814): the greatest t with (wrong answers below t + 1) / (n + 1) <= max_risk.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fourcorners.errors import ThresholdError

Bound = Literal["selective", "expected"]
Floats = NDArray[np.float64]
HALF_STEP = 5e-7
"""Scores are told with six decimals: what is below one of them is below it by at least this."""
NEVER = 1e9
"""A threshold that no score exceeds, where all may be answered; JSON has no infinity."""


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A threshold and what it did on the ``rows`` it was made from. ``limit`` is the bound that was reached.

    For "selective" an upper limit of the risk, for "expected" of the share of all questions that are answered wrongly.
    """

    threshold: float
    bound: Bound
    max_risk: float
    confidence: float | None
    rows: int
    answered: int
    wrong: int
    limit: float

    @property
    def coverage(self) -> float:
        """The share of the rows that were answered."""
        return self.answered / self.rows

    @property
    def risk(self) -> float:
        """The share of the answers that were wrong."""
        return self.wrong / self.answered if self.answered else 0.0


def calibrated(
    scores: ArrayLike, wrong: ArrayLike, *, max_risk: float, bound: Bound = "selective", confidence: float = 0.95
) -> Calibrated:
    """The threshold that answers most under the ``bound``; see the module.

    ``scores`` of infinity are of questions that nothing can answer. Raises ThresholdError where the rows are too few
    (with the number needed) or no threshold keeps the bound.
    """
    score, fault = np.asarray(scores, dtype=float), np.asarray(wrong, dtype=bool)
    if np.isnan(score).any() or len(score) != len(fault):
        raise ThresholdError("each row needs a score, and whether its answer is wrong: this model tells no scores")
    check_wanted(len(score), max_risk, bound, confidence)
    order = np.argsort(score, kind="stable")
    if bound == "expected":
        return _expected(score[order], fault[order], max_risk)
    return _selective(score[order], fault[order], max_risk, confidence)


def check_wanted(n_rows: int, max_risk: float, bound: Bound, confidence: float) -> None:
    """Raises ThresholdError for values out of range, and for too few rows, with the number needed."""
    for name, value in (("max_risk", max_risk), ("confidence", confidence)):
        if not 0 < value < 1:
            raise ThresholdError(f"{name}={value:g} must be above 0 and below 1")
    needed = rows_needed(max_risk, bound, confidence)
    if n_rows < needed:
        told = f" with confidence {confidence:g}" if bound == "selective" else ""
        raise ThresholdError(
            f"{n_rows} rows are too few to bound the risk by {max_risk:g}{told}: at least {needed} are needed, and "
            "more where some answers are wrong"
        )


def rows_needed(max_risk: float, bound: Bound, confidence: float) -> int:
    """The fewest rows from which a threshold can be made, were all answers right."""
    if bound == "expected":
        return math.ceil(1 / max_risk - 1 - 1e-9)
    n = 2
    while _fewest_answers(n, max_risk, confidence) >= n:
        n += 1
    return n


def upper_limit(n_wrong: int, n: int, error: float) -> float:
    """The Clopper-Pearson limit: with that share, ``n_wrong`` or fewer of ``n`` have a probability of ``error``."""
    if n_wrong >= n:
        return 1.0
    low, high = n_wrong / n, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(n_wrong, n, middle) > error else (low, middle)
    return high


def _selective(score: Floats, fault: NDArray[np.bool_], max_risk: float, confidence: float) -> Calibrated:
    n = len(score)
    n_ranks, fewest = _n_ranks(n), _fewest_answers(n, max_risk, confidence)
    error = (1 - confidence) / n_ranks
    best = (2.0, 0, 0)
    for rank in np.unique(np.linspace(fewest + 1, n, n_ranks).round().astype(int))[::-1]:
        limit_score = score[rank - 1]
        below = int(np.searchsorted(score, limit_score, side="left"))
        n_wrong = int(fault[:below].sum())
        limit = upper_limit(n_wrong, below, error) if below else 1.0
        if limit <= max_risk:
            threshold = _just_below(limit_score)
            return Calibrated(threshold, "selective", max_risk, confidence, n, below, n_wrong, limit)
        best = min(best, (limit, below, n_wrong))
    limit, below, n_wrong = best
    raise ThresholdError(
        f"no threshold keeps the risk at or below {max_risk:g} with confidence {confidence:g} on these {n} rows: the "
        f"best is {limit:.3f}, where {below} are answered and {n_wrong} of them wrong. Allow more risk, give more rows "
        "or take a better model"
    )


def _expected(score: Floats, fault: NDArray[np.bool_], max_risk: float) -> Calibrated:
    n = len(score)
    allowed = math.floor(max_risk * (n + 1) - 1 + 1e-9)
    bad = score[fault & (score < np.inf)]
    threshold = _just_below(float(bad[allowed]) if len(bad) > allowed else np.inf)
    given = score <= threshold
    n_wrong = int((given & fault).sum())
    return Calibrated(threshold, "expected", max_risk, None, n, int(given.sum()), n_wrong, (n_wrong + 1) / (n + 1))


def _just_below(score: float) -> float:
    return round(min(score - HALF_STEP, NEVER), 7)


def _n_ranks(n: int) -> int:
    """More ranks come nearer to the best threshold, but each has a smaller share of the error: tried on curves."""
    return max(2, math.ceil(1.3 * math.cbrt(n)))


def _fewest_answers(n: int, max_risk: float, confidence: float) -> int:
    """So many answers, all right, are the fewest that show anything."""
    return math.ceil(math.log((1 - confidence) / _n_ranks(n)) / math.log1p(-max_risk))


def _at_most(n_wrong: int, n: int, share: float) -> float:
    """P(Binomial(n, share) <= n_wrong), for a share below 1."""
    if share <= 0:
        return 1.0
    picks = np.arange(1, n_wrong + 1)
    log_ways = np.concatenate([[0.0], np.cumsum(np.log((n - picks + 1) / picks))])
    wrong = np.arange(n_wrong + 1)
    logs = log_ways + wrong * math.log(share) + (n - wrong) * math.log1p(-share)
    top = logs.max()
    return float(min(1.0, math.exp(top) * np.exp(logs - top).sum()))


__all__ = ["Bound", "Calibrated", "calibrated", "check_wanted", "rows_needed", "upper_limit"]
