import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourcorners.evaluation.curves import area_under_risk_coverage, auroc, risk_coverage

INFINITY = float("inf")
scores = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12)


def test_auroc_by_hand() -> None:
    assert auroc([0.9, 0.8, 0.3], [0.1, 0.3, 0.5]) == pytest.approx(7.5 / 9)  # a tie counts half
    assert auroc([2.0], [1.0]) == 1.0
    assert auroc([INFINITY], [-INFINITY]) == 1.0
    assert auroc([], [1.0]) is None


@given(scores, scores)
def test_auroc_is_the_share_of_pairs(positive: list[float], negative: list[float]) -> None:
    pairs = [(a > b) + 0.5 * (a == b) for a in positive for b in negative]
    assert auroc(positive, negative) == pytest.approx(np.mean(pairs))


def test_risk_and_coverage_by_hand() -> None:
    curve = risk_coverage([3, 1, 2, 4], [False, False, True, True])
    assert curve.thresholds.tolist() == [1, 2, 3, 4]
    assert curve.coverage.tolist() == [0.25, 0.5, 0.75, 1]
    assert curve.risk.tolist() == [0, 1 / 2, 1 / 3, 1 / 2]
    assert area_under_risk_coverage([3, 1, 2, 4], [False, False, True, True]) == pytest.approx(1 / 3)


def test_equal_scores_are_one_point_and_count_as_in_any_order() -> None:
    assert risk_coverage([1, 1], [True, False]).risk.tolist() == [0.5]
    assert area_under_risk_coverage([1, 1], [True, False]) == 0.5
    assert area_under_risk_coverage([1, 1], [False, True]) == 0.5
    # One right answer first, then two of which one is wrong: 0, 1/4, 1/3.
    assert area_under_risk_coverage([0, 1, 1], [False, True, False]) == pytest.approx((0 + 1 / 4 + 1 / 3) / 3)


def test_what_nothing_can_answer_is_never_covered() -> None:
    curve = risk_coverage([1, INFINITY], [False, True])
    assert (curve.coverage.tolist(), curve.risk.tolist()) == ([0.5], [0])
    assert area_under_risk_coverage([INFINITY], [True]) is None
    assert area_under_risk_coverage([-INFINITY, INFINITY], [True, True]) == 1.0


@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=1, max_size=20))
def test_each_point_is_what_its_threshold_does(rows: list[tuple[int, bool]]) -> None:
    curve = risk_coverage([s for s, _ in rows], [w for _, w in rows])
    for coverage, risk, threshold in zip(*curve, strict=True):
        given_ = [wrong for score, wrong in rows if score <= threshold]
        assert (coverage, risk) == (pytest.approx(len(given_) / len(rows)), pytest.approx(np.mean(given_)))
