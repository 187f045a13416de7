"""What every back end must do, whichever it is: the same tests for the model in this process and for servers.

Each is run with a small model without sense (random weights) or with the bundled reader, so what an answer says is not
looked at here, only what holds of it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from langchain_core.language_models.llms import BaseLLM
from langchain_core.output_parsers import StrOutputParser

from fourcorners import answer_chain, grounded_chain, init_llm
from fourcorners.completions import completion_routes
from fourcorners.errors import ContextOverflow, SettingsError
from fourcorners.models import reader_path
from fourcorners.prompts.grounded import grounded_prompt
from fourcorners.rest import add_refusals
from tests.conformance.servers import CHATML, llama_cpp_python, llama_server
from tests.llms.lookalikes import Seen, no_openai, no_tgi
from tests.llms.random_model import write_random_model
from tests.serving import serving, soon

pytestmark = pytest.mark.timeout(300)

DOCUMENTS = [
    "The ferry leaves at 7:15 every morning. A ticket costs €4.\nDogs travel free of charge on all ships.",
    "Since May the ferry leaves at 6:40. Die Überfahrt dauert 25 Minuten. 渡し船は毎日運航しています。",
]
ASKED = {"question": "What does a ticket cost?", "context": DOCUMENTS}
PROBES: dict[str, dict[str, Any]] = {
    "top_k": {"top_k": 5},
    "top_p": {"top_p": 0.5},
    "min_p": {"min_p": 0.5},
    "repetition_penalty": {"repetition_penalty": 1.1},
    "presence_penalty": {"presence_penalty": 0.5},
    "frequency_penalty": {"frequency_penalty": 0.5},
    "ignore_eos": {"ignore_eos": True},
    "grammar": {"grammar": 'start: "a"'},
    "regex": {"regex": "Unsure about answer"},
    "choice": {"choice": ("Unsure about answer", "no")},
    "json_schema": {"json_schema": {"type": "object", "properties": {"a": {"type": "string"}}}},
    "client": {"client": "somebody"},
}
NOT_ON_TGI = frozenset(["min_p", "presence_penalty", "ignore_eos", "grammar", "client"])
NOT_ON_OPENAI = frozenset(["top_k", "min_p", "repetition_penalty", "ignore_eos", "grammar", "regex", "choice"])
NOT_ON_LLAMA_CPP_PYTHON = frozenset(["ignore_eos", "grammar", "regex", "client"])
COUNT = "Count on from one, and do not stop:"


@dataclass
class Backend:
    """A back end and what is true of it."""

    llm: BaseLLM
    guarantee: str = "enforced"
    cannot: frozenset[str] = frozenset()
    seen: Seen | None = None


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("conformance") / "random.gguf"
    write_random_model(reader_path(), path, CHATML)
    return path


HERE = ["bundled", "llama_cpp", "replicas", "own-completions", "no-tgi", "no-vllm", "no-sglang", "no-openai"]
OTHERS = ["llama-cpp-python", "llama-server"]


@pytest.fixture(scope="module", params=[*HERE, *(pytest.param(name, marks=pytest.mark.extras) for name in OTHERS)])
def backend(request: pytest.FixtureRequest, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    with ExitStack() as stack:
        made = _made(request.param, model, tmp_path_factory, stack)
        stack.callback(made.llm.close)  # type: ignore[attr-defined]
        yield made


def _made(name: str, model: Path, folders: pytest.TempPathFactory, stack: ExitStack) -> Backend:
    seen = Seen()
    if name == "bundled":
        return Backend(init_llm("bundled"))
    if name == "llama_cpp":
        return Backend(init_llm(f"llama_cpp:{model}"))
    if name == "replicas":
        # One of them is not there: everything must hold nevertheless.
        url = stack.enter_context(serving(no_tgi(seen))).url
        return Backend(init_llm([f"tgi:{url}", "tgi:http://127.0.0.1:9"]), cannot=NOT_ON_TGI, seen=seen)
    if name == "own-completions":
        app = FastAPI()
        add_refusals(app, 2**23)
        app.include_router(completion_routes(init_llm(f"llama_cpp:{model}")))
        url = stack.enter_context(serving(app)).url
        return Backend(init_llm(f"openai:{url}", prompt_format="chatml"), cannot=frozenset(["client"]))
    if name == "no-tgi":
        return Backend(init_llm(f"tgi:{stack.enter_context(serving(no_tgi(seen))).url}"), cannot=NOT_ON_TGI, seen=seen)
    if name in ("no-vllm", "no-sglang"):
        app = no_openai(seen, "vllm" if name == "no-vllm" else "sglang")
        return Backend(
            init_llm(f"openai:{stack.enter_context(serving(app)).url}"),
            cannot=frozenset(["grammar", "client"]),
            seen=seen,
        )
    if name == "no-openai":
        url = stack.enter_context(serving(no_openai(seen))).url
        return Backend(init_llm(f"openai:{url}"), guarantee="verified", cannot=NOT_ON_OPENAI, seen=seen)
    folder = folders.mktemp(name)
    if name == "llama-cpp-python":
        url = stack.enter_context(llama_cpp_python(model, folder))
        return Backend(init_llm(f"openai:{url}"), cannot=frozenset(["ignore_eos", "grammar", "regex", "client"]))
    return Backend(
        init_llm(f"openai:{stack.enter_context(llama_server(model, folder))}"),
        cannot=frozenset(["grammar", "regex", "client"]),
    )


def _check_verbatim(reply: dict[str, Any], guarantee: str, max_spans: int) -> None:
    assert reply["guarantee"] == guarantee
    if reply["refused"]:
        assert reply["answer"] == "Unsure about answer"
        assert reply["citations"] == []
        return
    assert reply["answer"] == "\n".join(one["quote"] for one in reply["citations"])
    assert len({one["quote"] for one in reply["citations"]}) == len(reply["citations"])
    n_own = sum(not one["contradicts"] or one["number"] == 1 for one in reply["citations"])
    assert 1 <= n_own <= max_spans
    for one in reply["citations"]:
        assert DOCUMENTS[one["index"]][one["start"] : one["end"]] == one["quote"]


@pytest.mark.parametrize(("span", "max_spans"), [("sentence", 1), ("sentence", 3), ("phrase", 1)])
def test_a_verbatim_answer_stands_in_the_documents(backend: Backend, span: Any, max_spans: int) -> None:
    chain = grounded_chain(backend.llm, span=span, max_spans=max_spans)
    _check_verbatim(chain.invoke(ASKED), backend.guarantee, max_spans)
    reply: Any = None
    for chunk in chain.stream(ASKED):
        reply = chunk if reply is None else reply + chunk
    _check_verbatim(reply, backend.guarantee, max_spans)


def test_it_runs_as_prompt_llm_parser(backend: Backend) -> None:
    chain = grounded_prompt() | backend.llm | StrOutputParser()
    answer = chain.invoke(ASKED)
    assert answer == "Unsure about answer" or any(line in "\n".join(DOCUMENTS) for line in answer.splitlines())
    assert "".join(chain.stream(ASKED)) == answer
    assert answer_chain(backend.llm).invoke(ASKED) == answer


def test_without_text_it_refuses_and_no_model_is_asked(backend: Backend) -> None:
    n_before = len(backend.seen.requests) if backend.seen else 0
    reply = grounded_chain(backend.llm).invoke({"question": "What?", "context": [" \n"]})
    assert reply["refused"]
    assert reply["answer"] == "Unsure about answer"
    assert (len(backend.seen.requests) if backend.seen else 0) == n_before


def test_invoke_stream_and_their_async_twins_agree(backend: Backend) -> None:
    asked: dict[str, Any] = {"max_new_tokens": 12}

    async def both() -> tuple[str, str]:
        pieces = [piece async for piece in backend.llm.astream(COUNT, **asked)]
        return await backend.llm.ainvoke(COUNT, **asked), "".join(pieces)

    whole = backend.llm.invoke(COUNT, **asked)
    assert whole
    assert "".join(backend.llm.stream(COUNT, **asked)) == whole
    assert asyncio.run(both()) == (whole, whole)


def test_batch_answers_all_and_one_that_fails_fails_alone(backend: Backend) -> None:
    prompts: list[Any] = [grounded_prompt().format(**ASKED), grounded_prompt(threshold=None).format(**ASKED)]
    answers = backend.llm.batch([*prompts, COUNT], max_new_tokens=4, return_exceptions=True)
    assert len(answers) == 3
    assert all(isinstance(answer, str) for answer in answers)
    assert answers[0] == answers[1]

    async def many() -> list[Any]:
        return await backend.llm.abatch([COUNT, 3], max_new_tokens=4, return_exceptions=True)  # type: ignore[list-item]

    good, bad = asyncio.run(many())
    assert isinstance(good, str)
    assert isinstance(bad, Exception)


def test_nothing_of_a_stop_string_is_shown(backend: Backend) -> None:
    free = backend.llm.invoke(COUNT, max_new_tokens=12)
    stop = free[len(free) // 2 :][:2]
    result = backend.llm.generate([COUNT], stop=[stop], max_new_tokens=12)
    cut = result.generations[0][0]
    assert cut.text == free[: free.index(stop)]
    assert cut.generation_info is not None
    assert cut.generation_info["finish_reason"] == "stop"
    assert "".join(backend.llm.stream(COUNT, stop=[stop], max_new_tokens=12)) == cut.text


def test_a_seed_makes_sampling_repeatable(backend: Backend) -> None:
    settings: dict[str, Any] = {"temperature": 1.5, "max_new_tokens": 12}
    first = backend.llm.invoke(COUNT, seed=7, **settings)
    assert backend.llm.invoke(COUNT, seed=7, **settings) == first
    assert any(backend.llm.invoke(COUNT, seed=seed, **settings) != first for seed in (8, 9, 10))
    assert backend.llm.invoke(COUNT, do_sample=False, max_new_tokens=12) == backend.llm.invoke(COUNT, max_new_tokens=12)


def test_usage_and_finish_reason_are_told(backend: Backend) -> None:
    result = backend.llm.generate([COUNT], max_new_tokens=5)
    info = result.generations[0][0].generation_info
    assert info is not None
    assert info["finish_reason"] in ("length", "stop")
    assert info["guarantee"] == "none"
    assert 0 < info["usage"]["completion_tokens"] <= 5
    assert info["usage"]["prompt_tokens"] > 0
    assert result.llm_output is not None
    assert result.llm_output["token_usage"]["completion_tokens"] == info["usage"]["completion_tokens"]
    reply = grounded_chain(backend.llm).invoke(ASKED)
    assert reply["usage"]["prompt_tokens"] > 0
    assert reply["score"] is None or isinstance(reply["score"], float)


def test_a_stream_that_is_left_stops_the_work_behind_it(slow: Backend) -> None:
    stream = slow.llm.stream(COUNT, max_new_tokens=300)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert slow.seen is None or soon(lambda: slow.seen is not None and slow.seen.n_left == 1, within_s=5)
    assert slow.llm.invoke(COUNT, max_new_tokens=4)


def test_a_task_that_is_cancelled_stops_the_work_behind_it(slow: Backend) -> None:
    async def cancelled() -> None:
        task = asyncio.create_task(slow.llm.ainvoke(COUNT, max_new_tokens=300))
        while slow.seen and not slow.seen.requests:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await slow.llm.ainvoke(COUNT, max_new_tokens=4)

    asyncio.run(cancelled())
    assert slow.seen is None or soon(lambda: slow.seen is not None and slow.seen.n_left == 1, within_s=5)


@pytest.fixture
def slow(backend: Backend) -> Iterator[Backend]:
    """The back end, slowed down where that can be done, with fresh counts."""
    if backend.seen:
        backend.seen.delay_s, backend.seen.n_left = 0.01, 0
        backend.seen.requests.clear()
    yield backend
    if backend.seen:
        backend.seen.delay_s = 0.0


def test_threads_share_it(backend: Backend) -> None:
    wanted = backend.llm.invoke(COUNT, max_new_tokens=6)
    answers: list[str] = []

    def ask() -> None:
        answers.append(backend.llm.invoke(COUNT, max_new_tokens=6))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [wanted] * 6


def test_a_prompt_that_is_too_long_is_an_overflow(backend: Backend) -> None:
    with pytest.raises(ContextOverflow):
        backend.llm.invoke("word " * 9_000)


def test_documents_that_are_too_many_are_packed_or_refused(backend: Backend) -> None:
    many = [f"{DOCUMENTS[0]} Number {n} is here." for n in range(2_000)]
    try:
        reply = grounded_chain(backend.llm).invoke({"question": "What does a ticket cost?", "context": many})
    except ContextOverflow:
        return  # a server that does not tell its window
    assert reply["left_out"]


def test_wrong_input_is_an_input_error_that_names_it(backend: Backend) -> None:
    with pytest.raises(SettingsError, match="temperature"):
        backend.llm.invoke(COUNT, temperature=-1)
    with pytest.raises(SettingsError, match="tempature"):
        backend.llm.invoke(COUNT, tempature=1)
    with pytest.raises(SettingsError, match="stop"):
        backend.llm.invoke(COUNT, stop="x")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="regex"):
        answer_chain(backend.llm.bind(regex="a+")).invoke(ASKED)


@pytest.mark.parametrize("name", list(PROBES))
def test_a_setting_is_kept_or_refused_with_its_name(backend: Backend, name: str) -> None:
    if name in backend.cannot:
        with pytest.raises(SettingsError, match=f"can't do {name}="):
            backend.llm.invoke(COUNT, max_new_tokens=3, **PROBES[name])
    else:
        assert isinstance(backend.llm.invoke(COUNT, max_new_tokens=3, **PROBES[name]), str)


def test_free_and_plain_answers(backend: Backend) -> None:
    reply = grounded_chain(backend.llm, "free", refusal="None").invoke(ASKED)
    assert reply["guarantee"] == "verified"
    assert grounded_chain(backend.llm, "none").invoke(ASKED)["guarantee"] == "none"
