"""Recurrent and hybrid models, whose memory can be neither cut nor copied in part: slower, but right."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fourcorners import grounded_chain
from fourcorners.engine.engine import Engine, Limits
from fourcorners.engine.generation import Generation, Wish
from fourcorners.engine.program import Forward, Program
from fourcorners.llms import llama_cpp
from fourcorners.llms.factory import init_llm
from fourcorners.llms.llama_cpp import LlamaCpp
from fourcorners.models import reader_path
from tests.engine.engines import SteadyRunner, finish_of, running, submitted, tokens_of, until, watch
from tests.llms.random_model import Kind, write_random_model
from tests.support import YEAR

pytestmark = pytest.mark.timeout(60)
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
PROMPT = tuple(20 + i * 7 % 900 for i in range(150))
NOISE = 0.02
"""The logits of these models spread by 1."""


@pytest.fixture(params=["mamba", "lfm2"], scope="module")
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kind: Kind = request.param
    target = tmp_path_factory.mktemp("models") / f"{kind}.gguf"
    write_random_model(reader_path(), target, CHATML, kind)
    return target


@pytest.fixture
def engine(path: Path) -> Iterator[Engine]:
    with running(path, Limits(max_running=8), n_context_tokens=1024, max_running=8) as made:
        yield made


def one(*steps: Forward) -> Program:
    for step in steps:
        rows = yield step
        yield rows.copy()


def rows_of(engine: Engine, *steps: Forward) -> Any:
    return list(engine.submit(one(*steps)))[-1]


def test_it_is_known_as_one_that_can_not_share(engine: Engine) -> None:
    assert not engine.runner.can_share
    assert engine.runner.apart is None
    assert not engine.can_draft


def test_its_memory_matters(engine: Engine) -> None:
    """Else the other tests show nothing."""
    other = (*PROMPT[:-3], 5, *PROMPT[-2:])
    assert np.abs(rows_of(engine, Forward(0, PROMPT)) - rows_of(engine, Forward(0, other))).max() > 10 * NOISE


def test_logits_are_the_same_in_company(path: Path) -> None:
    prompts = [PROMPT[i : 100 + 5 * i] for i in range(8)]
    steps = [[Forward(0, p), *(Forward(len(p) + k, (30 + k,)) for k in range(10))] for p in prompts]
    alone = []
    for chosen in steps:
        with running(path, n_context_tokens=1024) as engine:
            alone.append(list(engine.submit(one(*chosen))))
    with running(path, Limits(max_running=8), n_context_tokens=1024, max_running=8) as engine:
        batches = watch(engine.runner.main)
        requests = [engine.submit(one(*chosen)) for chosen in steps]
        together = [list(request) for request in requests]
        assert max(map(len, batches)) == 8
    assert np.abs(np.array(alone) - np.array(together)).max() < NOISE


def test_going_back_begins_anew_and_is_right(engine: Engine) -> None:
    wanted = rows_of(engine, Forward(0, (*PROMPT[:100], 7, 8, 9)))
    gone_back = rows_of(engine, Forward(0, PROMPT), Forward(100, (7, 8, 9)))
    assert np.abs(wanted - gone_back).max() < NOISE
    many = rows_of(engine, Forward(0, PROMPT, 5), Forward(90, PROMPT[90:], 20))
    assert np.abs(many[-1] - rows_of(engine, Forward(0, PROMPT))).max() < NOISE
    assert many.shape[0] == 20


def test_nothing_is_parked_and_a_slot_is_clean_for_the_next(engine: Engine) -> None:
    first = engine.submit(one(Forward(0, PROMPT)))
    (rows,) = list(first)
    for i in range(9):
        rows_of(engine, Forward(0, (40 + i, *PROMPT)))
    second = engine.submit(one(Forward(0, PROMPT)))
    assert np.abs(next(iter(second)) - rows).max() < NOISE
    assert second.counts.cached == 0
    assert until(lambda: engine.metrics.n_live_cells == 0)
    assert engine.metrics.n_parked_bytes == 0


def test_who_is_sent_away_comes_back_and_loses_nothing(path: Path) -> None:
    with running(path, Limits(max_running=8), n_context_tokens=600, n_cache_tokens=600, max_running=8) as engine:
        wish = Wish(60, n_logprobs=0, ignore_eos=True)
        prompts = [(30 + i, *PROMPT[:120]) for i in range(8)]
        requests = [submitted(engine, Generation(engine, prompt, wish)) for prompt in prompts]
        for request in requests:
            events = list(request)
            assert len(tokens_of(events)) == 60
            assert finish_of(events) == "length"
        assert engine.metrics.n_preempted > 0
        assert until(lambda: engine._state.n_open == engine.metrics.n_live_cells == 0)


def test_cancelling_one_leaves_the_others_alone(engine: Engine) -> None:
    wish = Wish(200, n_logprobs=0, ignore_eos=True)
    first, second = (submitted(engine, Generation(engine, PROMPT[i:], wish)) for i in range(2))
    for _ in first:
        break
    assert len(tokens_of(list(second))) == 200
    assert until(lambda: engine._state.n_open == engine.metrics.n_live_cells == 0)


@pytest.fixture
def llm(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LlamaCpp]:
    monkeypatch.setattr(llama_cpp, "Runner", SteadyRunner)
    made = init_llm(f"llama_cpp:{path}", n_context_tokens=1024)
    assert isinstance(made, LlamaCpp)
    yield made
    made.close()


@pytest.mark.parametrize("options", [{}, {"span": "phrase"}, {"max_spans": 2}])
def test_verbatim_answers_hold(llm: LlamaCpp, options: Any) -> None:
    context = "The ferry leaves at 6:40. It rains. The fare is $1,200.50 for 2 kg."
    chain = grounded_chain(llm, threshold=float("inf"), **options)
    alone = [chain.invoke({"question": f"What is it {i}?", "context": context}) for i in range(6)]
    together = chain.batch([{"question": f"What is it {i}?", "context": context} for i in range(6)])
    for reply in (*alone, *together):
        assert reply["guarantee"] == "enforced"
        for quote in reply["citations"]:
            assert context[quote["start"] : quote["end"]] == quote["quote"]
        assert reply["answer"] == "\n".join(quote["quote"] for quote in reply["citations"])
    assert [reply["answer"] for reply in alone] == [reply["answer"] for reply in together]


def test_masks_streams_and_warming(llm: LlamaCpp) -> None:
    assert llm.invoke("Which?", choice=["north pier", "south pier"]) in ("north pier", "south pier")
    assert len("".join(llm.stream("Ferries", max_new_tokens=30, ignore_eos=True))) > 30
    assert llm.warm("It rains.") > 0
    texts = asyncio.run(llm.abatch(["Ferries"] * 5, max_new_tokens=5, ignore_eos=True))
    assert len(texts) == 5
    assert grounded_chain(llm, threshold=float("-inf")).invoke(YEAR)["refused"]
