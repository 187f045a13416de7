"""``fourcorners mcp`` in a process of its own, spoken to by the SDK's own client, and line by line."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import jsonschema  # type: ignore[import-untyped]
import pytest
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda
from mcp import ClientSession, McpError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.shared.memory import create_connected_server_and_client_session
from mcp.types import LATEST_PROTOCOL_VERSION, CallToolResult, TextContent, TextResourceContents
from pydantic import AnyUrl

from fourcorners import __version__
from fourcorners.llms.llama_cpp import LlamaCpp
from fourcorners.mcp_server import make_server
from fourcorners.retrieval import bm25_retriever, load_passages
from tests.injection.hostile import HOSTILE, QUESTIONS

pytestmark = pytest.mark.timeout(120)
SCRIPT = Path(sys.executable).with_name("fourcorners")
QUESTION = "How long is the guarantee?"
BOILER = "# Boiler\n\nThe boiler holds 90 litres.\n\nThe guarantee is 24 months.\n"
POOL = "The pool is open from 6 to 21 h. \u201cDiving\u201d is forbidden in the children's pool 🏊.\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("documents")
    (made / "boiler.md").write_text(BOILER)
    (made / "pool ü.txt").write_text(POOL)
    return made


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("FOURCORNERS_", "PYTHON"))}


@asynccontextmanager
async def client(folder: Path, *arguments: str, log: Any = None) -> AsyncIterator[ClientSession]:
    """The SDK's client, before ``initialize``, and the real server."""
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "fourcorners", "mcp", *arguments], cwd=folder, env=environment()
    )
    async with stdio_client(server, errlog=log or sys.stderr) as streams, ClientSession(*streams) as session:
        yield session


def text_of(result: CallToolResult) -> str:
    return "\n".join(part.text for part in result.content if isinstance(part, TextContent))


# The SDK's client


@pytest.mark.asyncio
async def test_a_session_from_the_greeting_to_the_answer(folder: Path, tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        async with client(folder, ".", log=log) as session:
            greeting = await session.initialize()
            assert greeting.protocolVersion == LATEST_PROTOCOL_VERSION
            assert (greeting.serverInfo.name, greeting.serverInfo.version) == ("fourcorners", __version__)
            assert greeting.capabilities.tools is not None
            assert greeting.capabilities.resources is not None
            assert "word for word" in (greeting.instructions or "")

            tools = {tool.name: tool for tool in (await session.list_tools()).tools}
            assert set(tools) == {"ask", "search"}
            assert tools["ask"].inputSchema["required"] == ["question"]
            assert tools["ask"].annotations is not None
            assert tools["ask"].annotations.readOnlyHint is True

            result = await session.call_tool("ask", {"question": QUESTION})
            assert not result.isError
            assert text_of(result).endswith("[1] The guarantee is 24 months.\n\nSources:\n[1] boiler.md")
            found = result.structuredContent
            assert found is not None
            jsonschema.validate(found, tools["ask"].outputSchema or {})
            assert (found["answer"], found["refused"], found["guarantee"]) == (
                "The guarantee is 24 months.",
                False,
                "enforced",
            )
            (citation,) = found["citations"]
            assert (citation["source"], citation["line"]) == ("boiler.md", 5)
            assert BOILER[citation["start"] : citation["end"]] == citation["quote"] == found["answer"]
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.asyncio
async def test_a_refusal_is_no_error(folder: Path) -> None:
    async with client(folder, ".", "--refusal", "No idea") as session:
        await session.initialize()
        result = await session.call_tool("ask", {"question": "Who was the first president of France?"})
        assert not result.isError
        assert result.structuredContent is not None
        assert (result.structuredContent["answer"], result.structuredContent["refused"]) == ("No idea", True)
        assert "The documents do not say it" in text_of(result)


@pytest.mark.asyncio
async def test_search_and_resources_show_what_is_there(folder: Path) -> None:
    async with client(folder, "boiler.md", "pool ü.txt") as session:
        await session.initialize()
        result = await session.call_tool("search", {"query": "diving in the pool"})
        assert result.structuredContent is not None
        nearest = result.structuredContent["passages"][0]
        assert nearest["source"] == "pool ü.txt"
        assert POOL[nearest["start"] :].startswith(nearest["text"])

        resources = {resource.name: resource.uri for resource in (await session.list_resources()).resources}
        assert set(resources) == {"boiler.md", "pool ü.txt"}
        assert str(resources["pool ü.txt"]).endswith(quote("pool ü.txt"))
        read = await session.read_resource(resources["pool ü.txt"])
        (part,) = read.contents
        assert isinstance(part, TextResourceContents)
        assert part.meta is not None
        assert POOL[part.meta["start"] :].startswith(part.text)
        with pytest.raises(McpError, match="no document"):
            await session.read_resource(AnyUrl("file:///etc/passwd"))


@pytest.mark.asyncio
async def test_what_is_asked_wrongly_is_an_error_with_the_reason(folder: Path) -> None:
    async with client(folder, ".") as session:
        await session.initialize()
        for name, arguments, reason in (
            ("ask", {}, "'question' is a required property"),
            ("ask", None, "'question' is a required property"),
            ("ask", {"question": 3}, "3 is not of type 'string'"),
            ("ask", {"question": QUESTION, "spam": 1}, "'spam' was unexpected"),
            ("ask", {"question": " "}, "question is empty"),
            ("ask", {"question": "x" * 100_001}, "100000 are allowed: shorten it"),
            ("search", {"query": "\n"}, "query is empty"),
            ("search", {}, "'query' is a required property"),
            ("shell", {"command": "ls"}, "unknown tool 'shell': there are 'ask' and 'search'"),
            ("", {}, "unknown tool ''"),
        ):
            result = await session.call_tool(name, arguments)
            assert result.isError, (name, arguments)
            assert reason in text_of(result)
        assert not (await session.call_tool("ask", {"question": QUESTION})).isError


@pytest.mark.asyncio
async def test_many_calls_at_once_are_not_mixed_up(folder: Path) -> None:
    facts = {
        QUESTION: "24 months",
        "How much does the boiler hold?": "90 litres",
        "When is the pool open?": "6 to 21 h",
    }
    async with client(folder, ".") as session:
        await session.initialize()
        questions = [*facts] * 10
        results = await asyncio.gather(*(session.call_tool("ask", {"question": question}) for question in questions))
        for question, result in zip(questions, results, strict=True):
            assert result.structuredContent is not None
            assert facts[question] in result.structuredContent["answer"]


@pytest.mark.asyncio
async def test_hostile_documents_stay_inside_their_quotes(tmp_path: Path) -> None:
    texts = {f"{n:03}.txt": text for n, text in enumerate(HOSTILE.values()) if text.strip() and "\0" not in text}
    for name, text in texts.items():
        (tmp_path / name).write_text(text, newline="")
    async with client(tmp_path, ".", "--threshold", "inf", "--max-spans", "3", "--passages", "20") as session:
        await session.initialize()
        for question in (*QUESTIONS.values(), *(text[:300] for text in list(HOSTILE.values())[:60])):
            result = await session.call_tool("ask", {"question": question})
            found = result.structuredContent
            assert found is not None, text_of(result)
            for citation in found["citations"]:
                assert texts[citation["source"]][citation["start"] : citation["end"]] == citation["quote"]
            assert found["refused"] or found["answer"] == "\n".join(c["quote"] for c in found["citations"])
        for resource in (await session.list_resources()).resources:
            read = await session.read_resource(resource.uri)
            for part in read.contents:
                assert isinstance(part, TextResourceContents)
                assert part.text in texts[resource.name]


# In process: what a quick model and a small folder can't show


@pytest.mark.asyncio
async def test_a_fault_is_an_error_and_never_a_refusal(bundled_llm: LlamaCpp) -> None:
    def broken(_: str) -> list[Document]:
        raise TimeoutError("index down")

    server = make_server(RunnableLambda(broken), bundled_llm, [])
    async with create_connected_server_and_client_session(server) as session:
        for name, arguments in (("ask", {"question": QUESTION}), ("search", {"query": "x"})):
            result = await session.call_tool(name, arguments)
            assert result.isError
            assert text_of(result) == f"{name} failed: TimeoutError: index down"
            assert result.structuredContent is None


@pytest.mark.asyncio
async def test_a_closed_engine_is_an_error(own_llm: LlamaCpp, folder: Path) -> None:
    passages = load_passages([folder])
    server = make_server(bm25_retriever(passages), own_llm, passages)
    own_llm.close()
    async with create_connected_server_and_client_session(server) as session:
        result = await session.call_tool("ask", {"question": QUESTION})
        assert result.isError
        assert "closed" in text_of(result)


@pytest.mark.asyncio
async def test_a_call_that_nobody_waits_for_is_called_off(bundled_llm: LlamaCpp) -> None:
    begun, called_off = anyio.Event(), anyio.Event()

    async def slow(_: str) -> list[Document]:
        begun.set()
        try:
            await anyio.sleep(60)
        except asyncio.CancelledError:
            called_off.set()
            raise
        return []

    server = make_server(RunnableLambda(lambda _: [], afunc=slow), bundled_llm, [])
    async with create_connected_server_and_client_session(server) as session:
        call = asyncio.create_task(session.call_tool("ask", {"question": QUESTION}))
        await begun.wait()
        from mcp.types import CancelledNotification, CancelledNotificationParams, ClientNotification

        # The greeting took no id of a request but 0, so the call has the next.
        params = CancelledNotificationParams(requestId=1, reason="changed my mind")
        await session.send_notification(ClientNotification(CancelledNotification(params=params)))
        with anyio.fail_after(10):
            await called_off.wait()
        with pytest.raises(McpError, match="cancelled"):
            await call
        assert (await session.list_tools()).tools


# The process: what goes over the wire, and how it ends


class Wire:
    """The server spoken to line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process, self._n = process, 0

    def send(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        message = json.loads(self.process.stdout.readline())
        assert message["jsonrpc"] == "2.0"
        return dict(message)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._n += 1
        self.send(json.dumps({"jsonrpc": "2.0", "id": self._n, "method": method, "params": params}))
        while (message := self.receive()).get("id") != self._n:
            assert "method" in message, "only notifications come in between"
        return message

    def greet(self, version: str = LATEST_PROTOCOL_VERSION) -> dict[str, Any]:
        about = {"name": "test", "version": "0"}
        greeting = self.call("initialize", protocolVersion=version, capabilities={}, clientInfo=about)
        self.send('{"jsonrpc": "2.0", "method": "notifications/initialized"}')
        return dict(greeting["result"])

    def end(self) -> tuple[int, str, str]:
        """Close its input; its status and what it still wrote."""
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


def wire(folder: Path, *arguments: str) -> AbstractContextManager[Wire]:
    return talking([str(SCRIPT), "mcp", *arguments], folder)


@contextmanager
def talking(command: list[str], folder: Path) -> Iterator[Wire]:
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    try:
        yield Wire(process)
    finally:
        process.kill()
        process.communicate()


def test_nothing_but_the_protocol_is_on_stdout_and_the_end_of_input_ends_it(folder: Path) -> None:
    (folder / ".hidden").write_text("x")
    with wire(folder, ".") as server:
        server.greet()
        server.call("tools/call", name="ask", arguments={"question": QUESTION})
        status, out, err = server.end()
    assert (status, out) == (0, "")
    assert "skipped: .hidden" in err or "skipped: ./.hidden" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("version", ["2024-11-05", "2025-06-18"])
def test_older_clients_are_spoken_to_in_their_version(folder: Path, version: str) -> None:
    with wire(folder, ".") as server:
        assert server.greet(version)["protocolVersion"] == version


def test_a_client_of_the_future_is_offered_the_newest_version(folder: Path) -> None:
    with wire(folder, ".") as server:
        assert server.greet("2999-01-01")["protocolVersion"] == LATEST_PROTOCOL_VERSION


def test_it_outlives_what_is_no_protocol(folder: Path) -> None:
    with wire(folder, ".") as server:
        server.greet()
        for line in (
            "no json",
            "{",
            "[]",
            '{"jsonrpc": "2.0"}',
            '{"jsonrpc": "1.0", "id": 9, "method": "ping"}',
            "\x00",
        ):
            server.send(line)
        surrogate = (
            '{"jsonrpc":"2.0","id":98,"method":"tools/call","params":{"name":"ask","arguments":{"question":"\\ud800"}}}'
        )
        server.send(surrogate)
        assert server.call("no/such/method")["error"]["code"]
        assert server.call("tools/call", name="ask", arguments={"question": QUESTION})["result"]["isError"] is False
        assert server.end()[0] == 0


def test_it_ends_while_a_call_is_under_way(folder: Path) -> None:
    with wire(folder, ".") as server:
        server.greet()
        for number in range(100, 130):
            params = {"name": "ask", "arguments": {"question": QUESTION}}
            server.send(json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}))
        status, out, err = server.end()
    assert status == 0, err
    assert all(json.loads(line)["jsonrpc"] == "2.0" for line in out.splitlines())
    assert "Traceback" not in err


def test_a_client_that_goes_away_ends_it(folder: Path) -> None:
    with wire(folder, ".") as server:
        server.greet()
        assert server.process.stdout is not None
        server.process.stdout.close()
        server.send('{"jsonrpc": "2.0", "id": 7, "method": "ping"}')
        assert server.process.wait(timeout=30) in (0, 141)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -15)])
def test_signals_end_it_at_once(folder: Path, number: signal.Signals, status: int) -> None:
    with wire(folder, ".") as server:
        server.greet()
        server.process.send_signal(number)
        _, err = server.process.communicate(timeout=10)
        assert server.process.returncode == status
        assert "rror" not in err


def test_what_libraries_print_does_not_reach_the_protocol(folder: Path) -> None:
    """A library in C writes to the descriptor, not to sys.stdout."""
    code = """
import os, sys
import fourcorners.llms as llms
original = llms.init_llm
def noisy(*arguments, **settings):
    print("noise of Python")
    os.write(1, b"noise of C\\n")
    return original(*arguments, **settings)
llms.init_llm = noisy
from fourcorners.cli import main
sys.argv = ["fourcorners", "mcp", "."]
main()
"""
    with talking([sys.executable, "-c", code], folder) as server:
        assert server.call("ping")["result"] == {}
        status, out, err = server.end()
    assert (status, out) == (0, "")
    assert "noise of Python\n" in err
    assert "noise of C\n" in err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("nope",), 2, "no such file or folder: 'nope'"),
        (("-",), 2, "standard input can't be read as a document here"),
        (("empty",), 2, "no text to read in folder 'empty'"),
        ((".", "--llm", "magic:box"), 2, "unknown model provider 'magic'"),
        ((".", "--llm", "llama_cpp:no.gguf"), 1, "no model file at 'no.gguf'"),
        ((".", "--max-spans", "99"), 2, "can't be 99"),
        ((".", "--refusal", ""), 2, "refusal=''"),
        ((), 2, "Missing argument"),
    ],
)
def test_what_can_not_be_served_is_told_at_once(folder: Path, arguments: Any, status: int, message: str) -> None:
    (folder / "empty").mkdir(exist_ok=True)
    command = [SCRIPT, "mcp", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (status, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_without_the_extra_its_name_is_told(folder: Path) -> None:
    code = (
        "import sys; sys.modules['mcp'] = None; sys.argv = ['', 'mcp', '.']; from fourcorners.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'fourcorners[mcp]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_name_that_is_no_utf8_is_served(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xe9.txt")).write_text(BOILER)
    with wire(tmp_path, ".") as server:
        server.greet()
        result = server.call("tools/call", name="ask", arguments={"question": QUESTION})["result"]
        assert result["structuredContent"]["citations"][0]["source"] == "b\\xe9.txt"
        (resource,) = server.call("resources/list")["result"]["resources"]
        read = server.call("resources/read", uri=resource["uri"])["result"]
        assert read["contents"][0]["text"] in BOILER
