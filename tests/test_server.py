"""The real server in a process of its own, with the bundled reader, under LangServe's own client."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from langchain_core.documents import Document
from langserve import RemoteRunnable

import fourcorners

ROOT = Path(__file__).parent.parent
REFUSAL = "Unsure about answer"
FERRY = """# The ferry to Holm

The first ferry leaves at 6:40 on weekdays.

A ticket for an adult costs 12 euros.

Bicycles travel free of charge on the lower deck.
"""


@dataclass
class Server:
    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def remote(self, path: str) -> RemoteRunnable[Any, Any]:
        return RemoteRunnable(self.url + path)

    @asynccontextmanager
    async def aremote(self, path: str) -> AsyncIterator[RemoteRunnable[Any, Any]]:
        """Closed in the event loop that it was used in; left to itself it closes at collection, in another one."""
        remote = self.remote(path)
        yield remote
        await remote.async_client.aclose()

    def post(self, path: str, body: Any) -> httpx.Response:
        return httpx.post(self.url + path, json=body, timeout=60)


@contextmanager
def running(arguments: list[str], folder: Path, **variables: str) -> Iterator[Server]:
    """A server on a free port, from the moment that it can answer until it has been told to stop."""
    log = folder / "server.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FOURCORNERS_")}
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, env=environment | variables, stdout=sink, stderr=sink
        )
    try:
        yield Server(_address(process, log), process, log)
    finally:
        process.terminate()
        process.wait(timeout=30)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"running on (http://\S+)", log.read_text()):
            return found[1]
        time.sleep(0.05)
    raise AssertionError(f"the server did not start:\n{log.read_text()}")


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


@pytest.mark.parametrize("page", ["/docs", "/answer/playground/", "/grounded/playground/", "/rag/playground/"])
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
        for chain in ("answer", "grounded", "rag"):
            assert f"/{chain}/invoke" in paths
            assert "question" in json.dumps(client.get(f"/{chain}/input_schema").json())
        assert "citations" in client.get("/rag/output_schema").json()["properties"]


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
