from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourcorners.llms.sampling import Sampler
from fourcorners.llms.settings import GenerationSettings

LOGITS = np.log(np.array([0.05, 0.5, 0.25, 0.15, 0.04, 0.01]))


def draws(count: int = 300, **settings: Any) -> list[int]:
    sampler = Sampler(GenerationSettings(**{"temperature": 1.0, "seed": 1, **settings}))
    return [sampler.choose(LOGITS, ()) for _ in range(count)]


def test_temperature_0_takes_the_most_probable() -> None:
    assert set(draws(temperature=0.0)) == {1}


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, {0, 1, 2, 3, 4, 5}),
        ({"top_k": 1}, {1}),
        ({"top_k": 3}, {1, 2, 3}),
        ({"top_k": 100}, {0, 1, 2, 3, 4, 5}),
        ({"top_p": 0.4}, {1}),
        ({"top_p": 0.7}, {1, 2}),
        ({"top_p": 0.8}, {1, 2, 3}),
        ({"min_p": 0.25}, {1, 2, 3}),
        ({"min_p": 0.99}, {1}),
        ({"top_k": 4, "top_p": 0.8, "min_p": 0.4}, {1, 2}),
    ],
)
def test_only_what_is_kept_is_drawn_and_all_of_it(settings: dict[str, float], kept: set[int]) -> None:
    assert set(draws(2000, **settings)) == kept


def test_draws_follow_the_probabilities_and_temperature_flattens_them() -> None:
    warm, hot = draws(4000), draws(4000, temperature=5.0)
    assert warm.count(1) / 4000 == pytest.approx(0.5, abs=0.05)
    assert hot.count(1) < warm.count(1)


def test_a_seed_repeats_the_draws() -> None:
    assert draws(seed=7) == draws(seed=7)
    assert draws(seed=7) != draws(seed=8)


def test_a_little_noise_in_the_logits_seldom_changes_a_seeded_draw() -> None:
    chance = np.random.default_rng(0)
    logits = chance.normal(0, 1, 4096)
    same = 0
    for seed in range(100):
        settings = GenerationSettings(temperature=1.0, seed=seed)
        noisy = logits + chance.normal(0, 0.003, 4096)  # what a cold against a warm cache makes
        same += Sampler(settings).choose(logits, ()) == Sampler(settings).choose(noisy, ())
    assert same >= 90


def test_repetition_penalty_makes_what_was_said_less_likely() -> None:
    greedy = Sampler(GenerationSettings(repetition_penalty=2.0))
    assert greedy.choose(np.array([3.0, 2.0, 1.0]), {0}) == 1
    assert greedy.choose(np.array([-1.0, -1.5, -3.0]), {0}) == 1
    assert greedy.choose(np.array([3.0, 2.0, 1.0]), set()) == 0


@given(
    st.lists(st.floats(-50, 50), min_size=1, max_size=40),
    st.floats(0.01, 10),
    st.integers(0, 50),
    st.floats(0.001, 1),
    st.floats(0, 0.999),
)
def test_any_settings_draw_something_possible(
    logits: list[float], temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    settings = GenerationSettings(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=0)
    token = Sampler(settings).choose(np.array(logits, dtype=np.float32), {0})
    assert 0 <= token < len(logits)
    scores = np.array(logits, dtype=np.float32) / temperature
    assert not top_k or (scores > scores[token]).sum() < top_k
