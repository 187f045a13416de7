"""What a refusal score is worth: pure functions on arrays. A higher score means: rather refuse."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


class RiskCoverage(NamedTuple):
    """Selective risk by coverage: entry ``i`` is what comes of answering wherever the score is ``thresholds[i]`` or
    less."""

    coverage: Floats
    risk: Floats
    thresholds: Floats


def auroc(positive: ArrayLike, negative: ArrayLike) -> float | None:
    """The probability that a positive scores above a negative, ties counting half; None where there are none."""
    above, below = np.asarray(positive, dtype=float), np.asarray(negative, dtype=float)
    if not len(above) or not len(below):
        return None
    _, place, counts = np.unique(np.concatenate([above, below]), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]  # of ties the mean, from 1
    n = len(above)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * len(below)))


def risk_coverage(scores: ArrayLike, wrong: ArrayLike) -> RiskCoverage:
    """The curve, with a point for each distinct score. A score of infinity is one that no threshold answers."""
    values, n_given, n_wrong = _steps(scores, wrong)
    total = max(1, np.asarray(scores).size)
    return RiskCoverage(n_given / total, n_wrong / np.maximum(n_given, 1), values)


def area_under_risk_coverage(scores: ArrayLike, wrong: ArrayLike) -> float | None:
    """AURC (Geifman, Uziel and El-Yaniv 2019, arXiv 1805.08206): the mean, over k, of the risk of the k surest answers.

    Among equal scores the order is taken to be random, and the expectation given. None where nothing is answered.
    """
    _, n_given, n_wrong = _steps(scores, wrong)
    if not len(n_given):
        return None
    places = np.arange(1, n_given[-1] + 1)
    expected = np.interp(places, np.concatenate([[0.0], n_given]), np.concatenate([[0.0], n_wrong]))
    return float((expected / places).mean())


def _steps(scores: ArrayLike, wrong: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Distinct scores in ascending order; at each how many answers are given, and how many of them are wrong."""
    score, fault = np.asarray(scores, dtype=float), np.asarray(wrong, dtype=float)
    possible = score < np.inf
    values, place, counts = np.unique(score[possible], return_inverse=True, return_counts=True)
    faults = np.bincount(place, weights=fault[possible], minlength=len(values))
    return values, np.cumsum(counts).astype(float), np.cumsum(faults)


__all__ = ["RiskCoverage", "area_under_risk_coverage", "auroc", "risk_coverage"]
