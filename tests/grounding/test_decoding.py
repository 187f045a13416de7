import numpy as np
import pytest

from fourcorners.grounding.decoding import log_mass, log_softmax


def test_log_softmax_is_a_distribution_and_keeps_minus_infinity() -> None:
    values = log_softmax(np.array([1000.0, 999.0, -np.inf]))
    assert np.exp(values).sum() == pytest.approx(1)
    assert values[2] == -np.inf


def test_log_mass_adds_probabilities() -> None:
    assert log_mass(np.log([0.25, 0.5])) == pytest.approx(np.log(0.75))
    assert log_mass(np.array([])) == -np.inf
    assert log_mass(np.array([-np.inf])) == -np.inf
