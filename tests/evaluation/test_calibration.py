"""The bounds are tried: many calibrations on made-up questions whose true risk is known at every threshold."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from fourcorners.errors import ThresholdError
from fourcorners.evaluation.calibration import HALF_STEP, Bound, calibrated, check_wanted, rows_needed, upper_limit

Floats = NDArray[np.float64]
Risk = Callable[[Floats], Floats]
DRAWS = 400
GRID = np.linspace(0, 1, 20_001)


def rising(score: Floats) -> Floats:
    """The surer, the better: what one hopes for."""
    return 0.02 + 0.6 * score


def dipping(score: Floats) -> Floats:
    """The surest answers are wrong, and of the unsure ones some are good again: no order that could be relied on."""
    return np.where(score < 0.1, 0.4, np.where(score < 0.5, 0.05, np.where(score < 0.7, 0.5, 0.1)))


def flat(score: Floats) -> Floats:
    """Just above what is allowed everywhere: nothing may be certified but by mistake."""
    return np.full_like(score, 0.205)


def drawn(chance: np.random.Generator, risk: Risk, n: int, steps: int) -> tuple[Floats, NDArray[np.bool_]]:
    """Scores from 0 to 1, in so many ``steps`` (with ties), and which answers are wrong."""
    score = np.floor(chance.random(n) * steps) / steps
    return score, chance.random(n) < risk(score)


@pytest.mark.parametrize("risk", [rising, dipping, flat])
@pytest.mark.parametrize("steps", [10**6, 20])
def test_of_many_calibrations_no_more_break_the_selective_bound_than_may(risk: Risk, steps: int) -> None:
    chance = np.random.default_rng(1)
    max_risk, confidence, broken, made = 0.2, 0.8, 0, 0
    levels = np.floor(GRID[:-1] * steps) / steps
    for _ in range(DRAWS):
        try:
            found = calibrated(*drawn(chance, risk, 200, steps), max_risk=max_risk, confidence=confidence)
        except ThresholdError:
            continue
        made += 1
        broken += risk(levels[levels <= found.threshold]).mean() > max_risk
    assert broken <= DRAWS * (1 - confidence)
    assert made > DRAWS / 2 or risk is not rising, "the bound would be easy to keep if nothing was ever answered"


@pytest.mark.parametrize("risk", [rising, dipping])
@pytest.mark.parametrize("steps", [10**6, 20])
def test_on_average_no_more_questions_are_answered_wrongly_than_may_be(risk: Risk, steps: int) -> None:
    chance = np.random.default_rng(2)
    max_risk = 0.1
    levels = np.floor(GRID[:-1] * steps) / steps
    losses = []
    for _ in range(DRAWS):
        found = calibrated(*drawn(chance, risk, 100, steps), max_risk=max_risk, bound="expected")
        losses.append(np.where(levels <= found.threshold, risk(levels), 0).mean())
    error = np.std(losses) / np.sqrt(DRAWS)
    assert np.mean(losses) <= max_risk + 2 * error
    assert np.mean(losses) >= 0.6 * max_risk, "it should use what is allowed"


def test_the_upper_limit_is_clopper_and_pearsons() -> None:
    assert upper_limit(0, 10, 0.05) == pytest.approx(1 - 0.05**0.1)
    assert upper_limit(1, 10, 0.05) == pytest.approx(0.39416, abs=1e-5)
    assert upper_limit(50, 1000, 0.05) == pytest.approx(0.06300, abs=2e-4)
    assert upper_limit(10, 10, 0.05) == 1.0
    assert upper_limit(400, 20_000, 0.001) == pytest.approx(0.02324, abs=2e-4)


def test_the_expected_bound_by_hand() -> None:
    """Nine rows and 0.3: two may be wrong below it (3/10), so it lies just below the third that is."""
    score = np.arange(9.0)
    wrong = np.array([0, 1, 0, 1, 0, 0, 1, 1, 1], bool)
    found = calibrated(score, wrong, max_risk=0.3, bound="expected")
    assert found.threshold == 6 - HALF_STEP
    assert (found.answered, found.wrong, found.limit) == (6, 2, 0.3)


def test_where_all_is_right_all_is_answered() -> None:
    score = np.linspace(-1, 1, 300)
    none = np.zeros(300, bool)
    assert calibrated(score, none, max_risk=0.1, bound="expected").coverage == 1.0
    found = calibrated(score, none, max_risk=0.1)
    assert (found.answered, found.risk) == (299, 0.0)
    assert 0 < found.limit <= 0.1


def test_what_nothing_can_answer_needs_no_threshold() -> None:
    score = np.concatenate([np.linspace(-1, 1, 200), np.full(100, np.inf)])
    wrong = score == np.inf
    assert np.isfinite(calibrated(score, wrong, max_risk=0.1).threshold)
    assert calibrated(score, wrong, max_risk=0.1).coverage == pytest.approx(2 / 3)
    assert calibrated(score, wrong, max_risk=0.1, bound="expected").coverage == pytest.approx(2 / 3)


@pytest.mark.parametrize("bound", ["selective", "expected"])
def test_the_order_of_the_rows_does_not_matter(bound: Bound) -> None:
    chance = np.random.default_rng(3)
    score, wrong = drawn(chance, rising, 300, 50)
    mixed = chance.permutation(300)
    found = calibrated(score, wrong, max_risk=0.35, bound=bound)
    assert calibrated(score[mixed], wrong[mixed], max_risk=0.35, bound=bound) == found


@pytest.mark.parametrize(("max_risk", "bound"), [(0.1, "selective"), (0.02, "selective"), (0.1, "expected")])
def test_too_few_rows_are_told_how_many_it_takes(max_risk: float, bound: Bound) -> None:
    needed = rows_needed(max_risk, bound, 0.95)
    with pytest.raises(ThresholdError, match=rf"{needed - 1} rows are too few .*at least {needed} are needed"):
        calibrated(np.zeros(needed - 1), np.zeros(needed - 1, bool), max_risk=max_risk, bound=bound)
    score = np.arange(float(needed))
    assert calibrated(score, score < 0, max_risk=max_risk, bound=bound).answered > 0


def test_where_no_threshold_will_do_that_is_told_with_the_best() -> None:
    score = np.arange(200.0)
    with pytest.raises(ThresholdError, match=r"no threshold keeps the risk at or below 0\.1 .*\d+ of them wrong"):
        calibrated(score, score % 2 == 0, max_risk=0.1)


@pytest.mark.parametrize(("max_risk", "confidence"), [(0, 0.9), (1, 0.9), (-1, 0.9), (0.1, 0), (0.1, 1)])
def test_values_out_of_range(max_risk: float, confidence: float) -> None:
    with pytest.raises(ThresholdError, match="must be above 0 and below 1"):
        check_wanted(1000, max_risk, "selective", confidence)


def test_rows_without_scores() -> None:
    with pytest.raises(ThresholdError, match="tells no scores"):
        calibrated([], [True], max_risk=0.1)
