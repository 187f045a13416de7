"""The real server in a process of its own, with the bundled reader, under LangServe's own client."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import GenerationChunk, LLMResult
from langserve import RemoteRunnable
from pydantic import PrivateAttr

import fourcorners
from fourcorners.errors import EngineBusy, SettingsError
from fourcorners.server import create_app
from fourcorners.settings import load_settings
from tests.serving import Server, Threaded, hanging_up, running, serving, soon
from tests.support import Recorder

REFUSAL = "Unsure about answer"
FERRY = """# The ferry to Holm

The first ferry leaves at 6:40 on weekdays.

A ticket for an adult costs 12 euros.

Bicycles travel free of charge on the lower deck.
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """``uvicorn server:app`` in the checkout, as the README says."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "ferry.md").write_text(FERRY)
    command = ["-m", "uvicorn", "server:app", "--port", "0"]
    with running(
        command, folder, FOURCORNERS_PATHS=str(folder / "ferry.md"), FOURCORNERS_MAX_BODY_BYTES="4000000"
    ) as it:
        yield it


def year(number: int) -> dict[str, str]:
    return {"question": "What is the best year of all time ?", "context": f"The best year ever is {number}"}


async def streamed(remote: RemoteRunnable[Any, Any], given: Any) -> str:
    return "".join([chunk async for chunk in remote.astream(given)])


# The routes


def test_answer_invoke_and_batch(server: Server) -> None:
    remote = server.remote("/answer")
    assert remote.invoke(year(1986)) == "The best year ever is 1986"
    assert remote.batch([year(1986), year(1987)]) == ["The best year ever is 1986", "The best year ever is 1987"]
    assert remote.invoke({"question": "Who ?", "context": ""}) == REFUSAL


@pytest.mark.asyncio
async def test_answer_async(server: Server) -> None:
    async with server.aremote("/answer") as remote:
        assert await remote.ainvoke(year(1986)) == "The best year ever is 1986"
        assert await remote.abatch([year(1990)]) == ["The best year ever is 1990"]
        assert await streamed(remote, year(1986)) == "The best year ever is 1986"


@pytest.mark.parametrize("as_documents", [False, True])
def test_grounded_cites_the_document_that_it_quotes(server: Server, as_documents: bool) -> None:
    texts = ["The café opens at nine 🙂.", "It closes at five 🙂. The best year ever is 1986. It was warm."]
    documents = [Document(page_content=text, id=f"id{i}", metadata={"line": i}) for i, text in enumerate(texts)]
    reply = server.remote("/grounded").invoke(year(1986) | {"context": documents if as_documents else texts})
    assert reply["answer"] == "The best year ever is 1986."
    assert (reply["refused"], reply["guarantee"]) == (False, "enforced")
    (citation,) = reply["citations"]
    assert texts[1][citation["start"] : citation["end"]] == citation["quote"] == reply["answer"]
    assert (citation["index"], citation["document"]) == (1, "id1" if as_documents else "2")


@pytest.mark.asyncio
async def test_grounded_stream_adds_up_to_the_reply(server: Server) -> None:
    async with server.aremote("/grounded") as remote:
        total = None
        async for chunk in remote.astream(year(1986)):
            total = chunk if total is None else total + chunk
        assert total is not None
        assert total["answer"] == "The best year ever is 1986"
        assert total["citations"] == (await remote.ainvoke(year(1986)))["citations"]


@pytest.mark.asyncio
@pytest.mark.parametrize("given", ["What does a ticket for an adult cost?", {"question": "What does a ticket cost?"}])
async def test_rag_answers_from_the_paths(server: Server, given: Any) -> None:
    async with server.aremote("/rag") as remote:
        reply = await remote.ainvoke(given)
        assert reply["answer"] == "A ticket for an adult costs 12 euros."
        (citation,) = reply["citations"]
        assert citation["quote"] == reply["answer"]
        chunks = [chunk async for chunk in remote.astream(given)]
        assert "answer" not in chunks[0]  # the sources come before the first word


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "history",
    [
        [["user", "When does the first ferry leave?"], ["assistant", "The first ferry leaves at 6:40 on weekdays."]],
        [{"role": "user", "content": "When does the first ferry leave?"}],
        [HumanMessage("When does the first ferry leave?"), AIMessage("The first ferry leaves at 6:40 on weekdays.")],
    ],
)
async def test_chat_understands_a_follow_up(server: Server, history: Any) -> None:
    async with server.aremote("/chat") as remote:
        given = {"question": "And on weekends?", "history": history}
        reply = await remote.ainvoke(given)
        assert reply["standalone_question"] == "When does the first ferry leave on weekends?"
        assert reply["rewritten_by"] == "rule"
        assert reply["answer"] == "The first ferry leaves at 6:40 on weekdays."
        assert (await remote.ainvoke("What does a ticket cost?"))["rewritten_by"] == "nobody"
        chunks = [chunk async for chunk in remote.astream(given)]
        assert "answer" not in chunks[0]


def test_a_bad_history_is_refused(server: Server) -> None:
    for history in ("Who?", [5], [["nobody", "x"]]):
        response = server.post("/chat/invoke", {"input": {"question": "Who?", "history": history}})
        assert (response.status_code, "history" in response.text) == (422, True)


@pytest.mark.asyncio
@pytest.mark.parametrize("given", ["Who?", {"question": "Who?"}, {"question": "Who?", "system": "Be brief."}])
async def test_instruct_takes_a_question_and_a_system_text(server: Server, given: Any) -> None:
    async with server.aremote("/instruct") as remote:
        text = await remote.ainvoke(given)
        assert isinstance(text, str)
        assert await streamed(remote, given) == text
    assert server.post("/instruct/invoke", {"input": {"question": 5}}).status_code == 422


@pytest.mark.asyncio
@pytest.mark.parametrize("count", [2, 8])
async def test_overlapping_streams_do_not_mix(server: Server, count: int) -> None:
    async with server.aremote("/answer") as remote:
        answers = await asyncio.gather(*(streamed(remote, year(1980 + i)) for i in range(count)))
        assert answers == [f"The best year ever is {1980 + i}" for i in range(count)]


@pytest.mark.asyncio
async def test_a_client_that_hangs_up_leaves_the_server_free(server: Server) -> None:
    long = {"question": "What is the best year of all time ?", "context": "The best year ever is 1986. " * 400}
    async with httpx.AsyncClient() as client:
        for _ in range(3):
            async with client.stream("POST", f"{server.url}/answer/stream", json={"input": long}) as response:
                assert response.status_code == 200
    async with server.aremote("/answer") as remote:
        assert await remote.ainvoke(year(1986)) == "The best year ever is 1986"


def test_stream_events_tell_of_the_model(server: Server) -> None:
    response = server.post("/answer/stream_events", {"input": year(1986)})
    events = [json.loads(line[6:])["event"] for line in response.text.splitlines() if line.startswith("data: {")]
    assert {"on_chain_start", "on_llm_stream", "on_chain_end"} <= set(events)
    assert response.text.rstrip().endswith("event: end")
    response = server.post("/grounded/stream_log", {"input": year(1986)})  # what the playground calls
    assert response.text.rstrip().endswith("event: end")


# What is refused


@pytest.mark.parametrize("kind", ["invoke", "batch", "stream"])
@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"question": 5, "context": "x"}, ["question", "5"]),
        ({"question": "q"}, ["context", "missing"]),
        ({"question": "q", "context": 5}, ["context", "5"]),
        ({"question": "q", "context": ["x", 5]}, ["context.1", "5"]),
        ({"question": "q", "context": [{"page_content": 5}]}, ["context.0.page_content", "5"]),
        ({"question": "q", "context": [{"text": "x"}]}, ["page_content"]),
        ("just text", ["just text"]),
    ],
)
def test_wrong_types_are_named(server: Server, kind: str, given: Any, named: list[str]) -> None:
    body = {"inputs": [year(1986), given]} if kind == "batch" else {"input": given}
    response = server.post(f"/answer/{kind}", body)
    assert response.status_code == 422
    told = json.dumps(response.json()["detail"])
    assert [word for word in named if word not in told] == []
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b'{"input": ', "application/json", 422),
        (b'{"input": "\xff"}', "application/json", 422),
        (b'{"input": {"question": "\\ud800", "context": "x"}}', "application/json", 422),
        (b"[" * 100_000, "application/json", 422),
        (b"[]", "application/json", 422),
        (b'{"input": {}, "config": 5}', "application/json", 422),
        (b"input=1", "application/x-www-form-urlencoded", 415),
    ],
)
def test_a_body_that_is_no_request_is_refused(server: Server, content: bytes, kind: str, status: int) -> None:
    response = httpx.post(f"{server.url}/answer/invoke", content=content, headers={"content-type": kind})
    assert response.status_code == status
    assert response.json()["detail"]


def test_a_question_of_a_million_characters(server: Server) -> None:
    given = {"question": "why " * 250_000, "context": "The best year ever is 1986"}
    for path, body in (("invoke", {"input": given}), ("batch", {"inputs": [given]})):
        response = server.post(f"/answer/{path}", body)
        assert response.status_code == 422
        assert len(response.text) < 1000
    with pytest.raises(httpx.HTTPStatusError) as caught:
        list(server.remote("/answer").stream(given))
    assert caught.value.response.status_code == 422
    assert "Internal" not in str(caught.value)


@pytest.mark.parametrize("chunked", [False, True])
def test_too_large_a_body(server: Server, chunked: bool) -> None:
    data = json.dumps({"input": year(1986) | {"context": "x" * 4_000_000}}).encode()
    content = (data[i : i + 65_536] for i in range(0, len(data), 65_536)) if chunked else data
    response = httpx.post(f"{server.url}/answer/invoke", content=content, headers={"content-type": "application/json"})
    assert response.status_code == 413
    assert "4000000" in response.json()["detail"]


def test_unknown_routes_are_404(server: Server) -> None:
    assert server.post("/nothing/invoke", {}).status_code == 404
    assert httpx.get(f"{server.url}/answer/playground/../../secrets").status_code == 404


# The pages


@pytest.mark.parametrize(
    "page", ["/docs", "/answer/playground/", "/grounded/playground/", "/rag/playground/", "/chat/playground/"]
)
def test_pages_need_no_network(server: Server, page: str) -> None:
    with httpx.Client(base_url=server.url) as client:
        response = client.get(page)
        assert response.status_code == 200
        links = re.findall(r"""(?:href|src)=["']([^"']+)""", response.text)
        assert any(link.endswith(".js") for link in links)
        for link in links:
            assert not urlsplit(link).netloc
            asset = client.get(link)
            assert (asset.status_code, bool(asset.content)) == (200, True)
            if link.endswith(".css"):
                assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", asset.text)


def test_schemas_and_health(server: Server) -> None:
    with httpx.Client(base_url=server.url) as client:
        assert client.get("/health").json() == {"status": "ok", "version": fourcorners.__version__}
        paths = client.get("/openapi.json").json()["paths"]
        for chain in ("answer", "grounded", "rag", "chat", "instruct"):
            assert f"/{chain}/invoke" in paths
            assert "question" in json.dumps(client.get(f"/{chain}/input_schema").json())
        assert "citations" in client.get("/rag/output_schema").json()["properties"]


# Clients that go away, and a queue that is full


class Slow(Recorder):
    """Answers a prompt with "slow" in it never, one with "busy" with EngineBusy, and all others at once."""

    _begun: threading.Event = PrivateAttr(default_factory=threading.Event)
    _cancelled: threading.Event = PrivateAttr(default_factory=threading.Event)

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        await asyncio.gather(*(self._work(prompt) for prompt in prompts))
        return self._generate(prompts)

    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        await self._work(prompt)
        yield GenerationChunk(text=self.reply)

    async def _work(self, prompt: str) -> None:
        if "busy" in prompt:
            raise EngineBusy("64 requests are waiting: try again in a moment")
        if "slow" in prompt:
            self._begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self._cancelled.set()
                raise


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def threaded(slow: Slow) -> Iterator[Threaded]:
    with serving(create_app(slow, documents=[])) as it:
        yield it


SLOW = {"question": "slow?", "context": "Snails are slow."}
QUICK = {"question": "Who?", "context": "Somebody."}


@pytest.mark.parametrize("abruptly", [False, True])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/answer/invoke", {"input": SLOW}),
        ("/answer/batch", {"inputs": [SLOW, SLOW]}),
        ("/grounded/invoke", {"input": SLOW}),
        ("/grounded/batch", {"inputs": [QUICK, SLOW, SLOW]}),
        ("/answer/invoke", {"input": {**SLOW, "context": "slow " * 100_000}}),  # a body of many packets
    ],
)
def test_a_client_that_hangs_up_cancels_its_request(
    slow: Slow, threaded: Threaded, caplog: pytest.LogCaptureFixture, path: str, body: Any, abruptly: bool
) -> None:
    with hanging_up(threaded.url, path, body, abruptly=abruptly):
        assert slow._begun.wait(timeout=30)
        time.sleep(0.05)
        assert not slow._cancelled.is_set()
    assert slow._cancelled.wait(timeout=1)
    assert soon(threaded.is_at_rest)
    gc.collect()  # when a task that nobody asked is found
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_only_the_request_of_the_client_that_is_gone_ends(slow: Slow, threaded: Threaded) -> None:
    with httpx.Client(base_url=threaded.url) as client, hanging_up(threaded.url, "/answer/invoke", {"input": SLOW}):
        assert slow._begun.wait(timeout=30)
        slow._begun.clear()
        with hanging_up(threaded.url, "/answer/invoke", {"input": SLOW}):
            assert slow._begun.wait(timeout=30)
        assert slow._cancelled.wait(timeout=1)
        slow._cancelled.clear()
        for _ in range(3):  # on one connection, so that the end of a response is not taken for that of the client
            assert client.post("/answer/invoke", json={"input": QUICK}).json()["output"] == "noted"
        assert not slow._cancelled.is_set()
    assert slow._cancelled.wait(timeout=1)


def test_a_client_that_hangs_up_in_the_middle_of_its_body(threaded: Threaded, caplog: pytest.LogCaptureFixture) -> None:
    for path in ("/answer/invoke", "/answer/batch", "/nothing"):
        with hanging_up(threaded.url, path, {"input": QUICK}, n_missing=5):
            time.sleep(0.05)
    assert soon(threaded.is_at_rest)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_full_queue_is_told_with_a_time_to_wait(threaded: Threaded, caplog: pytest.LogCaptureFixture) -> None:
    response = httpx.post(f"{threaded.url}/answer/invoke", json={"input": {**QUICK, "question": "busy?"}})
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert "64 requests" in response.json()["detail"]
    assert "Traceback" not in caplog.text


def test_a_batch_of_thousands_ends_with_its_client(server: Server) -> None:
    context = "The best year ever is 1986. " + "It was warm and dry in the summer. " * 20
    with hanging_up(server.url, "/answer/batch", {"inputs": [year(1986) | {"context": context}] * 3000}):
        time.sleep(1.5)
    started = time.monotonic()
    assert server.remote("/answer").invoke(year(1986)) == "The best year ever is 1986"
    assert time.monotonic() - started < 5  # the whole batch takes about 50 s
    assert "Traceback" not in server.log.read_text()


# Starting and stopping


def test_serve_without_documents_refuses_and_stops_cleanly(tmp_path: Path) -> None:
    with running(["-c", "from fourcorners.server import serve; serve(port=0)"], tmp_path) as server:
        reply = server.remote("/rag").invoke("What does a ticket cost?")
        assert (reply["answer"], reply["refused"]) == (REFUSAL, True)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=30) == 0
    assert "Traceback" not in server.log.read_text()


def test_a_missing_model_is_told_before_listening(tmp_path: Path) -> None:
    code = "from fourcorners.server import serve; serve(port=0, llm='llama_cpp:/no/such.gguf')"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "ModelLoadError" in done.stderr
    assert "/no/such.gguf" in done.stderr
    assert "running on" not in done.stderr


def test_raw_completions_need_a_model_that_has_them() -> None:
    with pytest.raises(SettingsError, match=r"--raw, FOURCORNERS_RAW.*Recorder"):
        create_app(Recorder(), settings=load_settings(raw=True))


def test_a_second_server_in_the_same_process_streams_too() -> None:
    asked = {"input": {"question": "Which year?", "context": "The best year ever is 1986"}}
    for _ in range(2):
        with serving(create_app(settings=load_settings())) as server:
            text = httpx.post(f"{server.url}/answer/stream", json=asked, timeout=60).text
            data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith('data: "')]
            assert "".join(map(json.loads, data)) == "The best year ever is 1986"
            assert "event: end" in text
