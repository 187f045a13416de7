from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fourcorners.engine.sampling import Sampler, Sampling
from fourcorners.errors import EngineError

PROBABILITIES = np.array([0.05, 0.5, 0.25, 0.15, 0.04, 0.01])


def frozen(logits: Any) -> NDArray[np.float32]:
    array = np.array(logits, dtype=np.float32)
    array.flags.writeable = False
    return array


LOGITS = frozen(np.log(PROBABILITIES))


def normal(size: int, spread: float, seed: int = 0) -> NDArray[np.float32]:
    return frozen(np.random.default_rng(seed).normal(0, spread, size))


def asked(**changes: Any) -> Sampling:
    return Sampling(**{"temperature": 1.0, "seed": 1, **changes})


def sampler(**changes: Any) -> Sampler:
    return Sampler(asked(**changes))


def draws(logits: NDArray[np.float32], count: int, **changes: Any) -> list[int]:
    one = sampler(**changes)
    return [one.choose(logits) for _ in range(count)]


def reference(logits: NDArray[np.float32], slack: float = 0.0, **changes: Any) -> NDArray[np.float64]:
    """Probabilities by sorting in float64; ``slack`` moves the borders outwards, or inwards if negative."""
    sampling = asked(**changes)
    scores = logits.astype(np.float64) / sampling.temperature
    scores -= scores.max()
    if 0 < sampling.top_k < len(scores):
        scores[scores < np.sort(scores)[-sampling.top_k]] = -np.inf
    chances: NDArray[np.float64] = np.exp(scores) / np.exp(scores).sum()
    _, level = np.unique(-chances, return_inverse=True)
    sums = np.cumsum(np.bincount(level, chances))
    more_probable = np.concatenate([[0.0], sums[:-1]])[level]
    kept = (more_probable < sampling.top_p + slack) & (chances >= sampling.min_p * (1 - slack) * chances.max())
    chances[~kept & (scores < 0)] = 0
    chances /= chances.sum()
    return chances


def assert_follows(drawn: list[int], chances: NDArray[np.float64]) -> None:
    """A chi-square test over about 40 bins of equal probability; six deviations are allowed."""
    assert chances[drawn].min() > 0
    order = np.argsort(-chances, kind="stable")
    bins = np.empty(len(chances), dtype=int)
    bins[order] = np.minimum((np.cumsum(chances[order]) - chances[order] / 2) * 40, 39)
    expected = np.bincount(bins, chances, 40) * len(drawn)
    observed = np.bincount(bins[drawn], minlength=40)
    used = expected > 0
    statistic = ((observed - expected)[used] ** 2 / expected[used]).sum()
    assert statistic < used.sum() + 6 * np.sqrt(2 * used.sum())


def test_temperature_0_takes_the_most_probable_and_the_lowest_of_equals() -> None:
    assert set(draws(LOGITS, 10, temperature=0.0)) == {1}
    assert sampler(temperature=0.0).choose(frozen([1, 3, 2, 3])) == 1


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, {0, 1, 2, 3, 4, 5}),
        ({"top_k": 1}, {1}),
        ({"top_k": 3}, {1, 2, 3}),
        ({"top_k": 100}, {0, 1, 2, 3, 4, 5}),
        ({"top_p": 0.0}, {1}),
        ({"top_p": 0.4}, {1}),
        ({"top_p": 0.7}, {1, 2}),
        ({"top_p": 0.8}, {1, 2, 3}),
        ({"min_p": 0.25}, {1, 2, 3}),
        ({"min_p": 1.0}, {1}),
        ({"top_k": 2, "top_p": 0.7}, {1, 2}),
        ({"top_k": 2, "top_p": 0.6}, {1}),
        ({"top_k": 4, "top_p": 0.8, "min_p": 0.4}, {1, 2}),
        ({"temperature": 1e-300}, {1}),
    ],
)
def test_only_what_is_kept_is_drawn_and_all_of_it(changes: dict[str, float], kept: set[int]) -> None:
    assert set(draws(LOGITS, 2000, **changes)) == kept


@settings(deadline=None)
@given(
    st.integers(0, 1000),
    st.integers(1, 3000) | st.integers(4000, 9000),
    st.floats(0.0, 20.0),
    st.floats(0.1, 3.0),
    st.just(0) | st.integers(1, 9000),
    st.just(1.0) | st.floats(0.001, 1.0),
    st.just(0.0) | st.floats(0.0, 0.99),
    st.sampled_from([1, 1024]),
)
def test_every_draw_is_one_that_the_reference_keeps(
    seed: int, size: int, spread: float, temperature: float, top_k: int, top_p: float, min_p: float, steps: int
) -> None:
    logits = frozen(np.round(normal(size, spread, seed) * steps) / steps)  # equal scores, but no nearly equal ones
    changes = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    chances = reference(logits, slack=1e-4, **changes)
    drawn = draws(logits, 20, **changes)
    assert chances[drawn].min() > 0


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 1000),
    st.floats(0.0, 2.0),
    st.just(0) | st.integers(1, 40),
    st.just(1.0) | st.floats(0.01, 1.0),
    st.just(0.0) | st.floats(0.0, 0.99),
)
def test_all_that_the_reference_keeps_is_drawn(
    seed: int, spread: float, top_k: int, top_p: float, min_p: float
) -> None:
    logits = normal(30, spread, seed)
    changes = {"top_k": top_k, "top_p": top_p, "min_p": min_p}
    chances = reference(logits, slack=-1e-4, **changes)
    drawn = set(draws(logits, 1000, **changes))
    assert set(np.flatnonzero(chances > 0.02)) <= drawn


@pytest.mark.parametrize(("size", "spread"), [(300, 1.0), (50_000, 1.0), (50_000, 4.0)])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"temperature": 0.7},
        {"top_p": 0.9},
        {"top_p": 0.5},
        {"top_p": 0.1},
        {"top_k": 40},
        {"top_k": 5000, "top_p": 0.8},
        {"min_p": 0.1},
        {"temperature": 1.5, "top_k": 200, "top_p": 0.9, "min_p": 0.02},
    ],
)
def test_draws_follow_the_reference(size: int, spread: float, changes: dict[str, Any]) -> None:
    logits = normal(size, spread)
    assert_follows(draws(logits, 2000, **changes), reference(logits, **changes))


@pytest.mark.parametrize("size", [1, 7, 5000])
def test_equal_logits_are_all_kept_and_drawn_alike(size: int) -> None:
    for changes in ({"top_k": 3}, {"top_p": 0.1}, {"top_p": 0.9, "min_p": 0.5}):
        assert_follows(draws(frozen(np.full(size, -2.5)), 2000, **changes), np.full(size, 1 / size))


@pytest.mark.parametrize("impossible", [-np.inf, np.finfo(np.float32).min])
@pytest.mark.parametrize("changes", [{}, {"top_k": 40}, {"top_p": 0.05}, {"top_p": 0.95}, {"min_p": 0.01}])
def test_an_impossible_token_is_never_drawn(impossible: float, changes: dict[str, Any]) -> None:
    logits = np.full(8192, impossible)
    logits[5::500] = 1e4
    assert set(draws(frozen(logits), 500, **changes)) == set(range(5, 8192, 500))
    assert set(draws(frozen(logits), 5, temperature=0.2, **changes)) <= set(range(5, 8192, 500))


@pytest.mark.parametrize("uniform", [0.0, np.nextafter(1.0, 0.0)])
@pytest.mark.parametrize("seed", range(5))
def test_the_ends_of_the_random_stream_draw_no_impossible_token(
    monkeypatch: pytest.MonkeyPatch, uniform: float, seed: int
) -> None:
    class Constant:
        def random(self, count: int) -> NDArray[np.float64]:
            return np.full(count, uniform)

    logits = normal(5000, 1.0, seed).copy()
    logits[::2] = -np.inf
    monkeypatch.setattr(np.random, "default_rng", lambda seed: Constant())
    assert np.isfinite(logits[draws(logits, 1)])


@pytest.mark.parametrize("changes", [{"temperature": 0.0}, {}, {"top_k": 2}, {"top_p": 0.9}])
@pytest.mark.parametrize("logits", [[1, np.nan, 2], [-np.inf, -np.inf], [np.inf, 0], []])
def test_logits_that_mean_nothing_are_an_error(logits: list[float], changes: dict[str, Any]) -> None:
    with pytest.raises(EngineError, match="no token can be chosen"):
        sampler(**changes).choose(frozen(logits))


@pytest.mark.parametrize("size", [10, 5000])
def test_settings_look_at_the_allowed_tokens_alone(size: int) -> None:
    logits = normal(20_000, 2.0)
    allowed = np.sort(np.random.default_rng(3).choice(20_000, size, replace=False)).astype(np.int32)
    changes: dict[str, Any] = {"temperature": 1.1, "top_k": size // 2, "top_p": 0.8, "min_p": 0.001}
    one = sampler(**changes)
    chances = np.zeros(len(logits))
    chances[allowed] = reference(logits[allowed], **changes)
    assert_follows([one.choose(logits, allowed) for _ in range(4000)], chances)
    greedy = sampler(temperature=0.0)
    assert greedy.choose(logits, allowed.astype(np.int64)) == allowed[logits[allowed].argmax()]


def test_a_seed_repeats_the_draws_and_without_one_they_differ() -> None:
    logits = normal(1000, 1.0)
    assert draws(logits, 20, seed=7) == draws(logits, 20, seed=7) != draws(logits, 20, seed=8)
    assert draws(logits, 20, seed=None) != draws(logits, 20, seed=None)


def test_any_whole_number_is_a_seed() -> None:
    logits = normal(1000, 1.0)
    assert draws(logits, 20, seed=-1) == draws(logits, 20, seed=-1) != draws(logits, 20, seed=1)
    assert draws(logits, 20, seed=2**80) == draws(logits, 20, seed=2**80)


def test_samplers_do_not_influence_each_other() -> None:
    logits = normal(5000, 1.0)
    alone = draws(logits, 20, top_p=0.8)
    one, other = sampler(top_p=0.8), sampler(top_p=0.1, seed=2)
    together = []
    for _ in range(20):
        together.append(one.choose(logits))
        other.accept(other.choose(logits))
    assert together == alone


def test_the_logits_of_a_choice_do_not_move_the_random_stream() -> None:
    logits = normal(5000, 1.0)
    one, other = sampler(top_p=0.2), sampler(top_p=0.2)
    assert one.choose(logits) >= 0
    assert other.choose(LOGITS, np.array([2], dtype=np.int32)) == 2
    assert one.choose(logits) == other.choose(logits)


def test_a_little_noise_in_the_logits_seldom_changes_a_seeded_draw() -> None:
    chance = np.random.default_rng(0)
    logits = chance.normal(0, 3, 4096)
    same = 0
    for seed in range(100):
        noisy = logits + chance.normal(0, 0.003, 4096)  # what a cold against a warm cache makes
        same += draws(frozen(logits), 1, seed=seed, top_p=0.95) == draws(frozen(noisy), 1, seed=seed, top_p=0.95)
    assert same >= 90


@pytest.mark.parametrize(
    ("penalties", "logits", "generated", "chosen"),
    [
        ({"repetition_penalty": 2.0}, [3.0, 2.0, 1.0], [0], 1),
        ({"repetition_penalty": 2.0}, [3.0, 1.4, 1.0], [0, 0, 0], 0),  # once per distinct token
        ({"repetition_penalty": 2.0}, [-1.0, -1.5, -3.0], [0], 1),
        ({"repetition_penalty": 0.5}, [3.0, 2.0, 1.0], [1], 1),
        ({"presence_penalty": 1.5}, [3.0, 2.0, 1.0], [0], 1),
        ({"presence_penalty": 0.6}, [3.0, 2.0, 1.0], [0, 0, 0], 0),
        ({"frequency_penalty": 0.6}, [3.0, 2.0, 1.0], [0], 0),
        ({"frequency_penalty": 0.6}, [3.0, 2.0, 1.0], [0, 0], 1),
        ({"presence_penalty": -1.5}, [3.0, 2.0, 1.0], [1], 1),
        ({"repetition_penalty": 2.0, "presence_penalty": 0.4}, [4.0, 1.7, 0.0], [0], 1),  # division comes first
        ({}, [3.0, 2.0, 1.0], [0, 0, 0], 0),
    ],
)
def test_penalties_count_what_was_accepted(
    penalties: dict[str, float], logits: list[float], generated: list[int], chosen: int
) -> None:
    one = sampler(temperature=0.0, **penalties)
    assert one.choose(frozen(logits)) == 0
    for token in generated:
        one.accept(token)
    assert one.choose(frozen(logits)) == chosen
    assert one.choose(frozen([0.0, *logits[:2], 9.0]), np.array([1, 2])) in (1, 2)


def test_penalties_change_the_odds_of_draws_as_defined() -> None:
    one = sampler(repetition_penalty=1.3, presence_penalty=0.5, frequency_penalty=0.25)
    for token in (1, 2, 2, 5):
        one.accept(token)
    expected = LOGITS.copy()
    expected[[1, 2, 5]] = expected[[1, 2, 5]] * 1.3 - 0.5 - 0.25 * np.array([1, 2, 1])
    assert_follows([one.choose(LOGITS) for _ in range(4000)], reference(expected))
    allowed = np.array([0, 2, 5])
    chances = np.zeros(6)
    chances[allowed] = reference(expected[allowed])
    assert_follows([one.choose(LOGITS, allowed) for _ in range(4000)], chances)


def test_log_probabilities_are_the_models_own() -> None:
    one = sampler(temperature=0.1, top_k=1, repetition_penalty=5.0)
    one.accept(1)
    chosen, top = one.logprobs(LOGITS, 3, 2)
    assert [each.token for each in (chosen, *top)] == [3, 1, 2]
    assert [each.logprob for each in (chosen, *top)] == pytest.approx(np.log([0.15, 0.5, 0.25]))


@pytest.mark.parametrize("size", [3, 1000, 50_000])
@pytest.mark.parametrize("n_top", [0, 1, 20, 700])
def test_the_most_probable_come_in_order_and_equals_by_id(size: int, n_top: int) -> None:
    logits = frozen(np.round(normal(size, 3.0), 1))
    exact = logits.astype(np.float64)
    exact -= exact.max() + np.log(np.exp(exact - exact.max()).sum())
    chosen, top = sampler().logprobs(logits, 2, n_top)
    order = [2, *np.argsort(-exact, kind="stable")[:n_top].tolist()]
    assert [each.token for each in (chosen, *top)] == order
    assert [each.logprob for each in (chosen, *top)] == pytest.approx(exact[order].tolist(), abs=1e-5)


def test_log_probabilities_need_numbers() -> None:
    with pytest.raises(EngineError, match="no token can be chosen"):
        sampler().logprobs(frozen([0.0, np.nan]), 0, 1)
