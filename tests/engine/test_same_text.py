"""The same text as alone: in company, from a cold or a warm prefix, with drafts, and after having been sent away.

llama.cpp computes a row a little differently by what else is in the batch. So logits are recorded, and where a greedy
text does part from the one alone it has to be where the two best tokens were closer to one another than twice that
noise, which is measured at all other places.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from fourcorners.engine.draft import Drafter, SuffixAutomaton
from fourcorners.engine.engine import Engine, Limits
from fourcorners.engine.generation import Generation, Wish
from fourcorners.engine.request import Request
from fourcorners.engine.runner import MIN_CELLS
from fourcorners.engine.sampling import Sampler, Sampling
from fourcorners.models import reader_path
from tests.engine.engines import Record, finish_of, running, text_of, tokens_of, until, watch
from tests.llms.random_model import write_random_model

pytestmark = pytest.mark.timeout(100)
N_TOKENS = 40
MOST_NOISE = 0.05
"""Of the spread of the logits: what batches of other sizes may change. With a wrong or a missing token it is 0.3 or
more."""
TEXT = (
    "The ferry leaves at 6:40 from the north pier. A ticket costs $12, and children under six travel free. The "
    "ferry leaves at 7:40 on Sundays. In winter the crossing takes two hours, in summer ninety minutes. "
)


class Said(NamedTuple):
    """One answer, with the logits that led to it."""

    prompt: tuple[int, ...]
    tokens: list[int]
    text: str
    reason: str
    record: Record


VOCABULARIES = ["bundled", *(pytest.param(name, marks=pytest.mark.extras) for name in ("llama-spm", "gpt-2", "phi-3"))]


@pytest.fixture(params=VOCABULARIES, scope="module")
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights around several vocabularies."""
    name = request.param
    folder = None if name == "bundled" else request.getfixturevalue("vocabulary_folder")
    target = tmp_path_factory.mktemp("models") / f"random-{name}.gguf"
    write_random_model(folder / f"{name}.gguf" if folder else reader_path(), target, "{{ messages }}")
    return target


def prompts(engine: Engine) -> list[tuple[int, ...]]:
    """Sixteen: long ones that are prefilled apart and short ones, some with a common beginning, one twice."""
    plain = engine.runner.vocabulary.plain
    shared = [tuple(plain(f"{TEXT * 3}Question {i}: when does it leave?")) for i in range(5)]
    long = [tuple(plain(f"{i} {TEXT * (1 + i)}")) for i in range(4)]
    short = [tuple(plain(f"{text} ")) for text in ("When", "What does it", "In winter", "1 2 3 4", "The", "ferry")]
    return [*shared, *long, *short, shared[0]]


def begun(engine: Engine, prompt: Sequence[int], wish: Wish, **parts: Any) -> tuple[Request, Generation, Record]:
    generation, record = Generation(engine, prompt, wish, **parts), Record()
    return engine.submit(record.of(generation.program()), counts=generation.counts), generation, record


def said(prompt: Sequence[int], started: tuple[Request, Generation, Record]) -> Said:
    events = list(started[0])
    return Said(tuple(prompt), tokens_of(events), text_of(events), finish_of(events), started[2])


def wish(**changes: Any) -> Wish:
    return Wish(**{"max_new_tokens": N_TOKENS, "n_logprobs": 0, "ignore_eos": True, **changes})


def alone(path: Path, prompt: Sequence[int], wished: Wish) -> Said:
    """From an engine that never saw anything else."""
    with running(path, n_context_tokens=1024) as engine:
        return said(prompt, begun(engine, prompt, wished))


def n_common(first: Said, second: Said) -> int:
    """How many tokens the two answers begin with alike."""
    pairs = zip(first.tokens, second.tokens, strict=False)
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))


def parting(first: Said, second: Said) -> int | None:
    """How many tokens precede the place where the two choose differently."""
    assert first.prompt == second.prompt
    return None if first.tokens == second.tokens else len(first.prompt) + n_common(first, second)


def noise(first: Said, second: Said) -> float:
    """The largest difference of two logits behind the same tokens, the place left out where the texts part."""
    begin, end = len(first.prompt), len(first.prompt) + n_common(first, second)
    rows = [(first.record.rows[n], second.record.rows[n]) for n in range(begin, end)]
    return max((float(np.abs(one - other).max()) for one, other in rows), default=0.0)


def assert_same(singles: Sequence[Said], others: Sequence[Said]) -> None:
    """Equal, or parted for nothing but the noise."""
    pairs = list(zip(singles, others, strict=True))
    measured = max(noise(first, second) for first, second in pairs)
    spread = min(float(np.std(first.record.rows[len(first.prompt)])) for first in singles)
    assert measured < MOST_NOISE * spread
    n_equal = 0
    for first, second in pairs:
        place = parting(first, second)
        if place is None:
            n_equal += 1
            assert first.text == second.text
            assert first.reason == second.reason
        else:
            best, next_best = np.sort(first.record.rows[place])[:-3:-1]
            assert best - next_best < 2 * measured, "the texts part where nothing was close"
    assert n_equal >= 0.7 * len(pairs), "most texts do not part at all"


@pytest.fixture(scope="module")
def singles(path: Path) -> list[Said]:
    with running(path, n_context_tokens=1024) as engine:
        chosen = prompts(engine)
    made = {prompt: alone(path, prompt, wish()) for prompt in chosen}
    assert all(len(one.tokens) == N_TOKENS and one.reason == "length" for one in made.values())
    return [made[prompt] for prompt in chosen]


def together(engine: Engine, singles: Sequence[Said]) -> list[Said]:
    started = [begun(engine, single.prompt, wish()) for single in singles]
    return [said(single.prompt, one) for single, one in zip(singles, started, strict=True)]


def test_in_company_and_then_from_a_warm_prefix(path: Path, singles: list[Said]) -> None:
    with running(path, n_context_tokens=1024) as engine:
        batches = watch(engine.runner.main)
        assert_same(singles, together(engine, singles))
        assert max(len(batch) for batch in batches) == 16
        cached = engine.metrics.tokens.cached
        assert cached > 4 * 0.8 * len(singles[0].prompt), "one of those with a common beginning was prefilled"
        assert_same(singles, together(engine, singles))
        assert engine.metrics.tokens.cached - cached >= sum(len(single.prompt) - 1 for single in singles)
        assert engine.metrics.n_restored > 0


def test_from_the_part_of_a_prefix_that_another_left(path: Path, singles: list[Said]) -> None:
    with running(path, n_context_tokens=1024) as engine:
        prompt = singles[0].prompt
        list(begun(engine, (*prompt[: len(prompt) // 2], 30, 31, 32), wish())[0])
        started = begun(engine, singles[0].prompt, wish())
        assert_same(singles[:1], [said(singles[0].prompt, started)])
        assert started[0].counts.cached == len(singles[0].prompt) // 2


def test_behind_its_own_answer_as_a_next_turn(path: Path, singles: list[Said]) -> None:
    """The evaluated answer is kept, cell by cell, and goes on as if it had been read in one go."""
    first = singles[0]
    prompt = (*first.prompt, *first.tokens, 30, 31, 32)
    single = alone(path, prompt, wish())
    with running(path, n_context_tokens=1024) as engine:
        generation, record = Generation(engine, first.prompt, wish()), Record()
        list(engine.submit(record.of(generation.program()), keep_answer=True))
        started = begun(engine, prompt, wish())
        assert_same([single], [said(prompt, started)])
        assert started[0].counts.cached == len(first.prompt) + N_TOKENS - 1


def test_with_drafts_and_without(path: Path, singles: list[Said]) -> None:
    n_accepted = 0
    for company in (1, 8):
        made = []
        with running(path, n_context_tokens=1024) as engine:
            for at in range(0, len(singles), company):
                some = singles[at : at + company]
                started = [begun(engine, s.prompt, wish(), drafter=always(s.prompt)) for s in some]
                made += [said(single.prompt, one) for single, one in zip(some, started, strict=True)]
                n_accepted += sum(generation.counts.accepted for _, generation, _ in started)
        assert_same(singles, made)
    assert n_accepted > 20


def always(prompt: Sequence[int]) -> Drafter:
    """Drafts all that can be drafted, whether it pays or not."""
    return Drafter(SuffixAutomaton(prompt), worth=lambda n, acceptance: n)


class WrongDrafter(Drafter):
    """Its second guess is wrong each time, so that what was evaluated has to go again."""

    def propose(self) -> tuple[int, ...]:
        proposed = super().propose()
        return (*proposed[:1], 50, *proposed[2:])


def test_wrong_drafts_leave_no_trace(path: Path, singles: list[Said]) -> None:
    made = []
    with running(path, n_context_tokens=1024) as engine:
        for single in singles:
            drafter = WrongDrafter(SuffixAutomaton(single.prompt), worth=lambda n, acceptance: n)
            started = begun(engine, single.prompt, wish(), drafter=drafter)
            made.append(said(single.prompt, started))
            assert started[1].counts.drafted >= 2 * started[1].counts.accepted
    assert_same(singles, made)


@pytest.mark.parametrize("parked_mib", [0, 64])
def test_after_having_been_sent_away_for_want_of_cells(path: Path, singles: list[Said], parked_mib: float) -> None:
    limits = Limits(max_running=16)
    with running(path, limits, n_context_tokens=MIN_CELLS, n_cache_tokens=MIN_CELLS, parked_mib=parked_mib) as engine:
        some = [single for single in singles if len(single.prompt) + N_TOKENS <= MIN_CELLS]
        assert sum(len(single.tokens) for single in some) + 400 > engine.runner.main.n_cells
        assert_same(some, together(engine, some))
        assert engine.metrics.n_preempted > 0
        assert until(lambda: engine.metrics.n_live_cells == 0)


# Sampling


WILD = Sampling(temperature=0.9, top_p=0.95, min_p=0.01, repetition_penalty=1.1, seed=7)


def redrawn(one: Said, sampling: Sampling) -> list[int]:
    """What a sampler alone draws from the recorded logits."""
    sampler, tokens = Sampler(sampling), []
    for n in range(len(one.tokens)):
        tokens.append(sampler.choose(one.record.rows[len(one.prompt) + n]))
        sampler.accept(tokens[-1])
    return tokens


def test_a_request_draws_from_its_own_stream_alone_and_in_company(path: Path) -> None:
    with running(path, n_context_tokens=1024) as engine:
        chosen = prompts(engine)
        wished = [wish(sampling=WILD, ignore_eos=False) for _ in chosen]
        started = [begun(engine, prompt, one) for prompt, one in zip(chosen, wished, strict=True)]
        drawn = [said(prompt, one) for prompt, one in zip(chosen, started, strict=True)]
    for one in drawn:
        assert one.tokens == redrawn(one, WILD)
    assert sum(len(one.tokens) for one in drawn) > 10 * N_TOKENS


def test_other_seeds_and_none_draw_independently() -> None:
    with running() as engine:
        prompt = engine.runner.vocabulary.plain("The")
        seeds = [1, 2, 3, None, None, None]
        wished = [wish(sampling=Sampling(temperature=1.5, seed=seed)) for seed in seeds]
        started = [begun(engine, prompt, one) for one in wished]
        drawn = [said(prompt, one) for one in started]
        assert len({one.text for one in drawn}) == len(seeds)
    assert [one.tokens for one in drawn[:3]] == [
        redrawn(one, chosen.sampling) for one, chosen in zip(drawn[:3], wished, strict=False)
    ]
    assert redrawn(drawn[1], wished[0].sampling) != drawn[1].tokens


def test_drafts_do_not_change_what_is_drawn(path: Path) -> None:
    cool, n_accepted, n_luckless = Sampling(temperature=0.1, seed=3), 0, 0
    with running(path, n_context_tokens=1024) as engine:
        for prompt in prompts(engine):
            started = begun(engine, prompt, wish(sampling=cool, ignore_eos=False), drafter=always(prompt))
            one = said(prompt, started)
            assert one.tokens == redrawn(one, cool)
            n_accepted += started[1].counts.accepted
            n_luckless += started[1].counts.drafted - started[1].counts.accepted
    assert n_accepted > 10
    assert n_luckless > 10
