"""Many prompts at once through LangChain's interface: in common batches, over common prefixes, called off in time."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.outputs import LLMResult

from fourcorners import grounded_prompt, init_llm
from fourcorners.engine.generation import Piece
from fourcorners.errors import ContextOverflow, EngineBusy, EngineTimeout, SettingsError
from fourcorners.llms import llama_cpp
from fourcorners.llms.llama_cpp import LlamaCpp
from fourcorners.llms.run import plan_run
from fourcorners.models import reader_path
from tests.engine.engines import SteadyRunner, until, watch
from tests.llms.random_model import write_random_model
from tests.support import YEAR

pytestmark = pytest.mark.timeout(60)
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
ENDLESS: dict[str, Any] = {"ignore_eos": True, "max_new_tokens": 3_000}
DOCUMENTS = [
    "The ferry leaves at 6:40 from the north pier. A ticket costs $12. " * 6,
    "In winter the crossing takes two hours. Nobody travels on Mondays. " * 6,
]


@pytest.fixture
def llm(monkeypatch: pytest.MonkeyPatch) -> Iterator[LlamaCpp]:
    """The bundled reader, for which common batches always pay."""
    monkeypatch.setattr(llama_cpp, "Runner", SteadyRunner)
    made = init_llm("bundled")
    assert isinstance(made, LlamaCpp)
    yield made
    made.close()


@pytest.fixture
def general(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LlamaCpp]:
    """A model that is shown whole documents, which the reader is not."""
    monkeypatch.setattr(llama_cpp, "Runner", SteadyRunner)
    write_random_model(reader_path(), tmp_path / "random.gguf", CHATML)
    made = init_llm(f"llama_cpp:{tmp_path / 'random.gguf'}")
    assert isinstance(made, LlamaCpp)
    yield made
    made.close()


@pytest.fixture
def batches(llm: LlamaCpp) -> list[list[Any]]:
    """Those of the main lane, each with its requests' spans."""
    return watch(llm._engine.runner.main)


def widest(batches: list[list[Any]]) -> int:
    """The most requests that had a part in one batch."""
    return max(map(len, batches))


def is_idle(llm: LlamaCpp) -> bool:
    return until(lambda: llm._engine._state.n_open == llm.metrics.n_running == llm.metrics.n_live_cells == 0)


def usage_of(llm: LlamaCpp, prompt: str, **settings: Any) -> dict[str, int]:
    info = llm.generate([prompt], **settings).generations[0][0].generation_info
    assert info is not None
    usage: dict[str, int] = info["usage"]
    return usage


# Batches


def prompts(n: int) -> list[Any]:
    return [f"{i} ferries leave" for i in range(n)]


def long_enough(texts: list[str], n: int) -> bool:
    return len(texts) == n and all(len(text) > 30 for text in texts)


LONG: dict[str, Any] = {"ignore_eos": True, "max_new_tokens": 60}


def test_a_batch_runs_in_common_batches(llm: LlamaCpp, batches: list[list[Any]]) -> None:
    assert long_enough(llm.batch(prompts(16), **LONG), 16)
    assert widest(batches) == 16
    assert llm.metrics.n_steps < 16 * 60 / 4


@pytest.mark.asyncio
async def test_so_does_abatch(llm: LlamaCpp, batches: list[list[Any]]) -> None:
    assert long_enough(await llm.abatch(prompts(16), **LONG), 16)
    assert widest(batches) == 16


def test_so_do_the_prompts_of_one_generate(llm: LlamaCpp, batches: list[list[Any]]) -> None:
    result = llm.generate(prompts(16), **LONG)
    assert long_enough([generations[0].text for generations in result.generations], 16)
    assert widest(batches) == 16


@pytest.mark.asyncio
async def test_so_do_the_prompts_of_one_agenerate(llm: LlamaCpp, batches: list[list[Any]]) -> None:
    result = await llm.agenerate(prompts(16), **LONG)
    assert long_enough([generations[0].text for generations in result.generations], 16)
    assert widest(batches) == 16


def test_each_prompt_of_a_batch_gets_its_own_answer(llm: LlamaCpp) -> None:
    years = [
        grounded_prompt().invoke({**YEAR, "context": f"The best year ever is {year}"}) for year in range(1950, 1980)
    ]
    assert llm.batch(list(years)) == [f"The best year ever is {year}" for year in range(1950, 1980)]


@pytest.mark.asyncio
async def test_batches_larger_than_the_queue_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_cpp, "Runner", SteadyRunner)
    llm = init_llm("bundled", max_running=2, max_waiting=1, max_new_tokens=3, ignore_eos=True)
    assert isinstance(llm, LlamaCpp)
    assert len(llm.batch(prompts(20))) == 20
    assert len(await llm.abatch(prompts(20))) == 20
    assert len(llm.generate(prompts(20)).generations) == 20
    assert len((await llm.agenerate(prompts(20))).generations) == 20
    assert llm.metrics.n_refused == 0
    assert llm.metrics.n_finished == 80
    llm.close()


def test_the_wish_for_fewer_at_once_is_kept(llm: LlamaCpp, batches: list[list[Any]]) -> None:
    assert len(llm.batch(prompts(9), {"max_concurrency": 2}, **LONG)) == 9
    assert widest(batches) == 2


@pytest.mark.asyncio
async def test_one_bad_prompt_fails_alone_or_all_as_asked(llm: LlamaCpp) -> None:
    inputs: list[Any] = ["Ferries", "word " * 5000, "Ferries"]
    for results in (
        llm.batch(inputs, return_exceptions=True, max_new_tokens=3),
        await llm.abatch(inputs, return_exceptions=True, max_new_tokens=3),
    ):
        assert isinstance(results[0], str)
        assert isinstance(results[1], ContextOverflow)
        assert isinstance(results[2], str)
    with pytest.raises(ContextOverflow):
        llm.batch(inputs, max_new_tokens=3)
    with pytest.raises(ContextOverflow):
        llm.generate(inputs, **ENDLESS)
    assert is_idle(llm)


# Callbacks


class Heard:
    def __init__(self) -> None:
        self.tokens: dict[Any, list[str]] = {}
        self.results: list[LLMResult] = []
        self.errors: list[BaseException] = []


class Listener(BaseCallbackHandler):
    def __init__(self) -> None:
        self.heard = Heard()

    def on_llm_new_token(self, token: Any, *, run_id: Any, **_: Any) -> None:
        self.heard.tokens.setdefault(run_id, []).append(token)

    def on_llm_end(self, response: LLMResult, **_: Any) -> None:
        self.heard.results.append(response)

    def on_llm_error(self, error: BaseException, **_: Any) -> None:
        self.heard.errors.append(error)


class AsyncListener(AsyncCallbackHandler):
    def __init__(self) -> None:
        self.heard = Heard()

    async def on_llm_new_token(self, token: Any, *, run_id: Any, **_: Any) -> None:
        self.heard.tokens.setdefault(run_id, []).append(token)

    async def on_llm_end(self, response: LLMResult, **_: Any) -> None:
        self.heard.results.append(response)

    async def on_llm_error(self, error: BaseException, **_: Any) -> None:
        self.heard.errors.append(error)


def assert_told(heard: Heard, texts: list[str], *, streamed: bool) -> None:
    assert not heard.errors
    assert sorted(result.generations[0][0].text for result in heard.results) == sorted(texts)
    for result in heard.results:
        info = result.generations[0][0].generation_info
        assert info is not None
        assert info["usage"]["completion_tokens"] == 8
        assert info["usage"]["total_tokens"] == info["usage"]["prompt_tokens"] + 8
        assert info["finish_reason"] == "length"
        assert info["timing"]["tokens_per_s"] > 0
    if streamed:
        assert sorted("".join(tokens) for tokens in heard.tokens.values()) == sorted(texts)
        assert all(len(tokens) > 2 for tokens in heard.tokens.values())


EIGHT: dict[str, Any] = {"ignore_eos": True, "max_new_tokens": 8}


def test_callbacks_are_told_each_token_and_the_end_with_the_usage(llm: LlamaCpp) -> None:
    listener = Listener()
    text = "".join(llm.stream("Ferries", config={"callbacks": [listener]}, **EIGHT))
    assert_told(listener.heard, [text], streamed=True)
    listener = Listener()
    text = llm.invoke("Ferries", config={"callbacks": [listener]}, **EIGHT)
    assert_told(listener.heard, [text], streamed=False)
    (result,) = listener.heard.results
    assert result.llm_output is not None
    assert result.llm_output["token_usage"]["completion_tokens"] == 8
    listener = Listener()
    texts = llm.batch(prompts(5), config={"callbacks": [listener]}, **EIGHT)
    assert_told(listener.heard, texts, streamed=False)


@pytest.mark.asyncio
async def test_async_callbacks_too(llm: LlamaCpp) -> None:
    listener = AsyncListener()
    text = "".join([piece async for piece in llm.astream("Ferries", config={"callbacks": [listener]}, **EIGHT)])
    assert_told(listener.heard, [text], streamed=True)
    listener = AsyncListener()
    texts = await llm.abatch(prompts(5), config={"callbacks": [listener]}, **EIGHT)
    assert_told(listener.heard, texts, streamed=False)


def test_callbacks_are_told_of_an_error(llm: LlamaCpp) -> None:
    listener = Listener()
    with pytest.raises(EngineTimeout):
        llm.invoke("Ferries", config={"callbacks": [listener]}, timeout_s=0.05, **ENDLESS)
    with pytest.raises(EngineTimeout):
        list(llm.stream("Ferries", config={"callbacks": [listener]}, timeout_s=0.05, **ENDLESS))
    assert [type(error) for error in listener.heard.errors] == [EngineTimeout] * 2
    assert is_idle(llm)


# Calling off


def test_a_stream_that_is_broken_off_stops(llm: LlamaCpp) -> None:
    for piece in llm.stream("Ferries", **ENDLESS):
        if piece:
            break
    gc.collect()
    assert is_idle(llm)
    assert llm.metrics.n_cancelled == 1
    assert llm.metrics.tokens.decoded < 1_000


@pytest.mark.asyncio
async def test_an_async_stream_that_is_broken_off_stops(llm: LlamaCpp) -> None:
    stream = llm.astream("Ferries", **ENDLESS)
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    assert await asyncio.to_thread(is_idle, llm)
    assert llm.metrics.n_cancelled == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("way", ["ainvoke", "astream", "abatch", "agenerate"])
async def test_a_cancelled_task_stops_all_its_requests(llm: LlamaCpp, way: str) -> None:
    async def work() -> Any:
        if way == "ainvoke":
            return await llm.ainvoke("Ferries", **ENDLESS)
        if way == "abatch":
            return await llm.abatch(prompts(20), **ENDLESS)
        if way == "agenerate":
            return await llm.agenerate(prompts(20), **ENDLESS)
        return [piece async for piece in llm.astream("Ferries", **ENDLESS)]

    task = asyncio.create_task(work())
    assert await asyncio.to_thread(until, lambda: llm.metrics.n_running > (10 if "ba" in way or "ge" in way else 0))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    started = time.monotonic()
    assert await asyncio.to_thread(is_idle, llm)
    assert time.monotonic() - started < 2
    assert llm.metrics.n_finished == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("way", ["ainvoke", "agenerate"])
async def test_a_task_cancelled_while_its_prompt_is_planned_leaves_nothing_running(
    llm: LlamaCpp, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    planning, go_on = threading.Event(), threading.Event()

    def slowly(*arguments: Any) -> Any:
        planning.set()
        assert go_on.wait(10)
        return plan_run(*arguments)

    monkeypatch.setattr(llama_cpp, "plan_run", slowly)
    call = llm.ainvoke("Ferries", **ENDLESS) if way == "ainvoke" else llm.agenerate(prompts(3), **ENDLESS)
    task: asyncio.Task[Any] = asyncio.create_task(call)
    assert await asyncio.to_thread(planning.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    assert await asyncio.to_thread(until, lambda: llm.metrics.n_cancelled == 1)
    assert await asyncio.to_thread(is_idle, llm)
    assert llm.metrics.n_requests == 1


@pytest.mark.asyncio
async def test_a_plan_that_fails_after_its_task_was_cancelled_disturbs_nobody(
    llm: LlamaCpp, monkeypatch: pytest.MonkeyPatch
) -> None:
    planning, go_on = threading.Event(), threading.Event()

    def failing(*_: Any) -> Any:
        planning.set()
        assert go_on.wait(10)
        raise SettingsError("made up")

    reported: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    with monkeypatch.context() as patch:
        patch.setattr(llama_cpp, "plan_run", failing)
        task = asyncio.create_task(llm.ainvoke("Ferries"))
        assert await asyncio.to_thread(planning.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        await asyncio.sleep(0.05)
    gc.collect()
    assert not reported
    assert await llm.ainvoke("Ferries", max_new_tokens=2)


def test_a_failing_prompt_calls_off_those_that_were_begun(llm: LlamaCpp) -> None:
    with pytest.raises(ContextOverflow):
        llm.generate(["Ferries", "word " * 5000], **ENDLESS)
    assert is_idle(llm)
    assert llm.metrics.n_cancelled == 1


def test_a_full_queue_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_cpp, "Runner", SteadyRunner)
    llm = init_llm("bundled", max_running=1, max_waiting=1)
    assert isinstance(llm, LlamaCpp)
    streams = [llm.stream("Ferries", **ENDLESS) for _ in range(1)]
    next(streams[0])
    waiting = llm.complete("Ferries", **ENDLESS)
    for ask in (lambda: llm.invoke("Ferries"), lambda: llm.complete("Ferries"), lambda: llm.warm("It rains.")):
        with pytest.raises(EngineBusy, match="try later"):
            ask()
    waiting.cancel()
    streams[0].close()  # type: ignore[attr-defined]
    assert is_idle(llm)
    assert llm.invoke("Ferries", max_new_tokens=2)
    llm.close()


# What was read already


@pytest.mark.parametrize("options", [{}, {"span": "phrase"}, {"grounding": "none"}, {"max_spans": 3}])
def test_warm_documents_are_read_before_the_first_question(general: LlamaCpp, options: dict[str, Any]) -> None:
    n_documents = len(general._engine.runner.vocabulary.plain("".join(DOCUMENTS)))
    n_warm = general.warm(DOCUMENTS, **options)
    assert n_warm > 0.9 * n_documents
    assert until(lambda: general.metrics.n_parked_bytes > 0)
    for question in ("When does it leave?", "What does it cost, and for whom?"):
        usage = usage_of(
            general, grounded_prompt(**options).format(question=question, context=DOCUMENTS), max_new_tokens=4
        )
        assert usage["cached_tokens"] >= n_warm
        assert usage["prompt_tokens"] - usage["cached_tokens"] < 0.1 * usage["prompt_tokens"]


@pytest.mark.parametrize("grounding", ["verbatim", "none"])
def test_a_second_question_about_the_same_documents_finds_them_read(general: LlamaCpp, grounding: Any) -> None:
    prompt = grounded_prompt(grounding=grounding)
    first, second = (
        usage_of(general, prompt.format(question=question, context=DOCUMENTS), max_new_tokens=4)
        for question in ("When does it leave?", "What does it cost?")
    )
    assert first["cached_tokens"] == 0
    assert second["cached_tokens"] > 0.9 * second["prompt_tokens"]
    assert until(lambda: general.metrics.hit_rate > 0.4)


def test_warming_twice_reads_once(general: LlamaCpp) -> None:
    n = general.warm(DOCUMENTS)
    assert is_idle(general)
    before = general.metrics.tokens.prefilled
    assert general.warm(DOCUMENTS) == n
    assert general.metrics.tokens.prefilled == before


def test_documents_too_long_or_empty_are_no_trouble(general: LlamaCpp) -> None:
    assert general.warm([]) == 0
    assert general.warm("word. " * 20_000) < 4_096
    with pytest.raises(ContextOverflow, match=r"[46]000\d tokens"):
        general.warm("word. " * 20_000, grounding="none", packing="error")


def test_a_conversation_goes_on_from_its_answer(llm: LlamaCpp) -> None:
    vocabulary = llm._engine.runner.vocabulary
    first = llm.complete(vocabulary.plain("Tell me about ferries. "), max_new_tokens=30, ignore_eos=True, n_logprobs=0)
    tokens = [one.token for bunch in first for piece in bunch for one in piece.logprobs]
    prompt = [*vocabulary.plain("Tell me about ferries. "), *tokens, *vocabulary.plain(" And?")]
    second = llm.complete(prompt, max_new_tokens=3)
    list(second)
    assert second.usage["cached_tokens"] >= len(prompt) - len(vocabulary.plain(" And?")) - 1


# Raw completions


def test_a_raw_completion_is_the_prompt_as_it_is(llm: LlamaCpp) -> None:
    vocabulary = llm._engine.runner.vocabulary
    completion = llm.complete("The ferry <s> leaves", **EIGHT)
    pieces = [piece for bunch in completion for piece in bunch]
    assert all(isinstance(piece, Piece) for piece in pieces)
    assert completion.finish_reason == "length"
    tokens = [*vocabulary.begins(), *vocabulary.raw("The ferry <s> leaves")]
    assert completion.usage == {"prompt_tokens": len(tokens), "completion_tokens": 8, "cached_tokens": 0}
    again = llm.complete(tokens, **EIGHT)
    assert "".join(p.text for bunch in again for p in bunch) == "".join(piece.text for piece in pieces)
    assert again.usage["cached_tokens"] == len(tokens) - 1


@pytest.mark.asyncio
async def test_a_raw_completion_in_an_event_loop(llm: LlamaCpp) -> None:
    completion = llm.complete("The ferry", **EIGHT)
    pieces = [piece async for bunch in completion for piece in bunch]
    assert sum(piece.n_tokens for piece in pieces) == 8
    broken_off = llm.complete("The ferry", **ENDLESS)
    async for _ in broken_off:
        break
    broken_off.cancel()
    assert await asyncio.to_thread(is_idle, llm)


@pytest.mark.parametrize("prompt", ["", [], [5, -1], [5, 10**6]])
def test_a_raw_prompt_that_can_not_be_is_refused(llm: LlamaCpp, prompt: Any) -> None:
    with pytest.raises(SettingsError):
        llm.complete(prompt)
    assert llm.metrics.n_requests == 0


def test_an_answer_can_be_held_to_a_form(llm: LlamaCpp) -> None:
    assert llm.invoke("Which?", choice=["north pier", "south pier"]) in ("north pier", "south pier")
    assert llm.invoke("How much?", regex="[0-9]{2} euros").removesuffix(" euros").isdigit()
    assert llm.invoke("Is it?", json_schema={"enum": ["a", "b"]}) in ('"a"', '"b"')
    assert llm.invoke("Is it?", grammar='start: "yes" | "no"') in ("yes", "no")
    with pytest.raises(SettingsError, match="regex"):
        llm.invoke("Is it?", regex="(")
    with pytest.raises(SettingsError, match=r"verbatim.*regex.*grounding='none'"):
        llm.invoke(grounded_prompt().format(**YEAR), regex="a")
    plain = grounded_prompt(grounding="none").format(**YEAR)
    assert llm.invoke(plain, choice=["1986", "1987"]) in ("1986", "1987")


def test_logprobs_come_with_the_last_chunk(llm: LlamaCpp) -> None:
    info = llm.generate(["Ferries"], n_logprobs=3, **EIGHT).generations[0][0].generation_info
    assert info is not None
    assert len(info["logprobs"]) == 8
    for one in info["logprobs"]:
        assert one["logprob"] <= 0
        assert len(one["top"]) == 3
    assert "logprobs" not in (llm.generate(["Ferries"], **EIGHT).generations[0][0].generation_info or {})


def test_what_runs_can_be_seen_in_the_metrics(llm: LlamaCpp, batches: list[list[Any]]) -> None:
    stream = llm.stream("Ferries", **ENDLESS)
    next(stream)
    assert until(lambda: llm.metrics.n_running == 1 and llm.metrics.n_live_cells > 5)
    stream.close()  # type: ignore[attr-defined]
    assert is_idle(llm)
    seen = llm.metrics.snapshot()
    assert seen["n_cancelled"] == seen["n_requests"] == 1
    assert seen["tokens"]["decoded"] > 0
    assert seen["tokens"]["prefilled"] > 0
    assert len(batches) - 1 <= llm.metrics.n_steps <= len(batches), "the last one may have been broken off"
    assert min(seen["step_seconds"].values()) > 0
    assert 0 < seen["parked_mib"] < 64
