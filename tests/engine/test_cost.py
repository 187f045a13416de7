import json
import math
import os
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourcorners.engine.cost import MAX_PLANNED, SIZES, Part, StepCost, cached, machine_key, measure
from fourcorners.errors import EngineError, ModelLoadError

Q8 = StepCost({1: 6.6, 2: 17.2, 4: 26.5, 8: 32.5, 16: 34.0, 64: 60.0})
Q4 = StepCost({1: 4.6, 2: 7.7, 4: 10.3, 8: 17.5, 16: 24.0, 64: 35.0})
times = st.floats(0.1, 100)
costs = st.dictionaries(st.integers(1, 80), times, min_size=1, max_size=12).map(StepCost)


def test_between_two_points_there_is_a_line_and_beyond_the_last_a_proportion() -> None:
    cost = StepCost({8: 3.0, 2: 1.0, 16: 2.0})
    expected = {-1: 0.0, 0: 0.0, 1: 1.0, 2: 1.0, 5: 2.0, 8: 3.0, 12: 2.5, 16: 2.0, 32: 4.0}
    assert {n: cost.seconds(n) for n in expected} == expected


@pytest.mark.parametrize(
    "points", [{}, {0: 1.0}, {-1: 1.0}, {1: 0.0}, {1: -1.0}, {1: math.nan}, {1: math.inf}, {1: 1.0, 2: math.nan}]
)
def test_points_that_mean_nothing_are_refused(points: dict[int, float]) -> None:
    with pytest.raises(EngineError, match="can't be made of"):
        StepCost(points)


def total(cost: StepCost, parts: tuple[Part, ...]) -> float:
    return sum(cost.seconds(part.n_tokens + part.n_padding) for part in parts)


@given(costs, st.integers(0, 100))
def test_parts_hold_all_and_never_cost_more_than_one_batch(cost: StepCost, n: int) -> None:
    parts = cost.parts(n)
    assert sum(part.n_tokens for part in parts) == n
    assert all(part.n_tokens > 0 and part.n_padding >= 0 for part in parts)
    assert total(cost, parts) <= cost.seconds(n) * (1 + 1e-9)
    assert list(parts) == sorted(parts, reverse=True)


@given(st.lists(times, min_size=1, max_size=9), st.integers(1, 9))
def test_no_other_way_to_run_them_is_faster(seconds: list[float], n: int) -> None:
    cost = StepCost(dict(enumerate(seconds, 1)))

    @cache
    def least(n: int) -> float:
        """The best of all ways to run at least n tokens in batches of any size."""
        return 0.0 if n <= 0 else min(cost.seconds(size) + least(n - size) for size in range(1, 12))

    assert total(cost, cost.parts(n)) == pytest.approx(least(n))


def test_what_was_measured_is_run_in_the_parts_that_suit_it() -> None:
    assert Q8.parts(1) == (Part(1, 0),)
    assert Q8.parts(2) == (Part(1, 0),) * 2
    assert Q8.parts(4) == (Part(1, 0),) * 4
    assert Q8.parts(7) == (Part(7, 0),)
    assert Q4.parts(2) == (Part(2, 0),)
    assert Q4.parts(64) == (Part(64, 0),)
    assert StepCost({1: 1.0, 7: 8.0, 8: 2.0}).parts(7) == (Part(7, 1),)
    assert StepCost({1: 1.0, 2: 2.0, 100: 100.0}).parts(3) == (Part(3, 0),), "no split for nothing"


def test_beyond_what_is_planned_there_is_one_batch() -> None:
    n = MAX_PLANNED + 1
    assert StepCost({1: 1.0, 2: 99.0}).parts(n) == (Part(n, 0),)
    assert StepCost({1: 1.0, n: 99.0, n + 3: 9.0}).parts(n) == (Part(n, 3),)


@given(costs, st.floats(0, 300), st.integers(0, 700))
def test_a_chunk_is_the_largest_that_fits(cost: StepCost, max_seconds: float, at_most: int) -> None:
    n = cost.chunk(max_seconds, at_most)
    sizes = [size for size in [*range(8, 64, 8), *range(64, 701, 64)] if size <= at_most]
    fitting = [size for size in sizes if cost.seconds(size) <= max_seconds]
    assert n == max(fitting, default=min(8, at_most))


@given(costs, st.integers(1, 40), st.integers(0, 8), st.floats(0, 1))
def test_a_draft_is_the_one_with_the_most_tokens_a_second(cost: StepCost, running: int, n: int, chance: float) -> None:
    def rate(k: int) -> float:
        return (running + sum(chance**i for i in range(1, k + 1))) / cost.seconds(running + k)

    k = cost.draft(running, n, chance)
    plain = running / total(cost, cost.parts(running))
    assert 0 <= k <= n
    assert k == 0 or rate(k) >= 1.05 * plain * (1 - 1e-9)
    best = max([rate(i) for i in range(1, n + 1)], default=0.0)
    assert rate(k) == pytest.approx(best) if k else best <= 1.05 * plain * (1 + 1e-9)


def test_drafts_pay_where_more_tokens_are_cheap_and_mostly_right() -> None:
    assert Q4.draft(1, 8, 0.9) > 0
    assert Q4.draft(1, 8, 0.1) == 0
    assert Q8.draft(1, 1, 1.0) == 0, "two tokens take longer than two steps"
    assert Q8.draft(1, 8, 1.0) == 8
    assert Q4.draft(1, 0, 1.0) == 0
    assert Q8.draft(1, 8, 0.6) == 0


def simulated(seconds: Callable[[int], float]) -> tuple[Callable[[int], float], list[int]]:
    ran: list[int] = []

    def step(n: int) -> float:
        ran.append(n)
        return seconds(n)

    return step, ran


def test_everything_is_measured_when_there_is_time() -> None:
    step, ran = simulated(lambda n: 0.001 * n)
    cost = measure(step, 60.0)
    assert cost.points == {n: pytest.approx(0.001 * n) for n in sorted(SIZES)}
    assert ran[:4] == [1] * 4, "one to warm up, three to measure"
    assert ran.count(2) == ran.count(16) == 2
    assert ran.count(256) == 1


def test_the_fastest_of_several_runs_counts_but_not_the_warm_up() -> None:
    answers = iter([0.0001, 3.0, 1.0, 2.0])
    cost = measure(lambda n: next(answers) if n == 1 else 5.0, 7.0)
    assert cost.points == {1: 1.0}


@given(st.floats(0, 3), st.floats(0.001, 0.2))
def test_measuring_keeps_to_its_budget(budget: float, of_one: float) -> None:
    step, ran = simulated(lambda n: of_one * n**0.7)
    measure(step, budget)
    spent = sum(of_one * n**0.7 for n in ran)
    assert ran[0] == ran[1] == 1
    assert spent <= max(1.3 * budget + of_one, 4 * of_one)


def test_a_prompt_is_measured_even_if_the_time_runs_out_early() -> None:
    cost = measure(lambda n: {1: 0.0066, 2: 0.0172, 4: 0.0265, 8: 0.0325}.get(n, 0.001 * n + 0.025), 0.5)
    assert 64 in cost.points
    assert 256 not in cost.points


def test_a_slow_model_is_not_kept_from_starting_by_a_prompt() -> None:
    step, ran = simulated(lambda n: 0.5 * n)
    measure(step, 1.0)
    assert set(ran) == {1}


def never() -> StepCost:
    pytest.fail("this was measured before")


def test_what_was_measured_is_kept(tmp_path: Path) -> None:
    assert cached("a/b", lambda: Q8, tmp_path / "new").points == Q8.points
    assert cached("a/b", never, tmp_path / "new").points == Q8.points
    assert cached("other", lambda: Q4, tmp_path / "new").points == Q4.points
    assert len(list((tmp_path / "new").iterdir())) == 2


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\xff\xfe", b"{", b"null", b"[]", b"3", b"{}", b'{"format": 2}', b"[" * 100_000),
        *(b'{"format": 2, "key": "k", "seconds": {}}', b'{"format": 2, "key": "k", "seconds": {"x": 1}}'),
        *(b'{"format": 2, "key": "k", "seconds": {"1": NaN}}', b'{"format": 2, "key": "k", "seconds": [1]}'),
        b'{"format": 2, "key": "k", "seconds": {"1": ' + b"9" * 400 + b"}}",
        *(b'{"format": 2, "key": "x", "seconds": {"1": 1}}', b'{"format": 0, "key": "k", "seconds": {"1": 1}}'),
    ],
)
def test_a_damaged_or_foreign_file_is_measured_again(tmp_path: Path, content: bytes) -> None:
    cached("k", lambda: Q8, tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)
    assert cached("k", lambda: Q4, tmp_path).points == Q4.points
    assert cached("k", never, tmp_path).points == Q4.points
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_is_as_documented(tmp_path: Path) -> None:
    cached("k", lambda: StepCost({2: 0.5}), tmp_path)
    (file,) = tmp_path.iterdir()
    assert json.loads(file.read_text()) == {"format": 2, "key": "k", "seconds": {"2": 0.5}}


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert cached("k", lambda: Q8, tmp_path / "file").points == Q8.points
    assert cached("k", lambda: Q4, tmp_path / "file" / "below").points == Q4.points


def test_the_folder_is_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    cached("k", lambda: Q8)
    assert len(list((tmp_path / "xdg" / "fourcorners" / "step-cost").iterdir())) == 1
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    cached("k", lambda: Q8)
    assert len(list((tmp_path / "home" / ".cache" / "fourcorners" / "step-cost").iterdir())) == 1


def test_no_home_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert cached("k", lambda: Q8).points == Q8.points


def test_a_fault_while_measuring_is_passed_on_and_nothing_kept(tmp_path: Path) -> None:
    def fault() -> StepCost:
        raise EngineError("llama.cpp failed")

    with pytest.raises(EngineError, match="llama"):
        cached("k", fault, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_key_changes_with_the_file_and_the_threads(tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF")
    first = machine_key(model, 2)
    assert machine_key(str(model), 2) == first
    assert machine_key(model, 1) != first
    os.utime(model, ns=(1, 1))
    touched = machine_key(model, 2)
    assert touched != first
    model.write_bytes(b"GGUF more")
    assert machine_key(model, 2) not in (first, touched)
    with pytest.raises(ModelLoadError, match="no model file"):
        machine_key(tmp_path / "none.gguf", 2)


def test_a_batch_that_something_else_delayed_is_measured_again() -> None:
    delayed = [256]

    def step(n: int) -> float:
        if n in delayed:
            delayed.remove(n)
            return 5.0
        return 0.001 * n + 0.002

    assert measure(step, 60.0).seconds(256) == pytest.approx(0.258)


def test_costs_that_can_not_be_are_not_kept(tmp_path: Path) -> None:
    points = {1: 0.003, 4: 0.005, 64: 0.04, 128: 0.08}
    for last, is_sound in ((0.17, True), (1.38, False)):
        cost = StepCost({**points, 256: last})
        assert cost.is_sound == is_sound
        cached(str(last), partial(StepCost, cost.points), tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
