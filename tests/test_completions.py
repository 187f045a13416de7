"""``/v1/completions``: the wire format with a scripted model, and the bundled reader behind ``serve --raw``."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import httpx
import pytest
from fastapi import FastAPI

from fourcorners.completions import QUICK_CHARS, completion_routes
from fourcorners.errors import ContextOverflow, EngineBusy, EngineError, SettingsError
from fourcorners.rest import add_refusals
from tests.serving import Server, Threaded, hanging_up, running, serving, soon
from tests.support import NASTY


class Logprob(NamedTuple):
    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


class Piece(NamedTuple):
    text: str
    n_tokens: int = 1
    logprobs: tuple[Logprob, ...] = ()


def said(*texts: str) -> list[Piece]:
    return [Piece(text) for text in texts]


class Scripted:
    """A completion that gives the lists of its script, raises its errors, and waits for ever at None."""

    def __init__(self, script: Sequence[Any]) -> None:
        self.script, self.cancelled, self.under_way = script, threading.Event(), threading.Event()
        self.finish_reason = "length"
        self.usage = {"prompt_tokens": 7, "completion_tokens": 3, "cached_tokens": 5}

    async def __aiter__(self) -> AsyncIterator[list[Piece]]:
        for step in self.script:
            await asyncio.sleep(0)
            if isinstance(step, Exception):
                raise step
            if step is None:
                self.under_way.set()
                await asyncio.Event().wait()
            yield step

    def cancel(self) -> None:
        self.cancelled.set()


class Model:
    """Completes by its script, or raises at once where ``refusal`` says so; keeps what it was asked."""

    model_path = "/models/tiny-q8.gguf"

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.script: Sequence[Any] = [said("The best", " year"), said(" ever")]
        self.refusal: Exception | None = None
        self.asked: list[tuple[Any, dict[str, Any], int]] = []
        self.begun: list[Scripted] = []
        self.planning, self.may_plan = threading.Event(), threading.Event()
        self.may_plan.set()

    def complete(self, prompt: str | list[int], /, **settings: Any) -> Scripted:
        self.planning.set()
        assert self.may_plan.wait(timeout=30)
        self.asked.append((prompt, settings, threading.get_ident()))
        if self.refusal is not None:
            raise self.refusal
        self.begun.append(Scripted(self.script))
        return self.begun[-1]


_model = Model()


@pytest.fixture(scope="module")
def server() -> Iterator[Threaded]:
    app = FastAPI()
    add_refusals(app, 100_000)
    app.include_router(completion_routes(_model))
    with serving(app) as it:
        yield it


@pytest.fixture
def model() -> Model:
    _model.reset()
    return _model


def post(server: Threaded | Server, **body: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/completions", json={"prompt": "x", **body}, timeout=60)


def events(response: httpx.Response) -> list[Any]:
    """What a stream's events carry; the last is "[DONE]", as it is."""
    parts = response.text.split("\n\n")
    assert parts.pop() == ""
    assert all(part.startswith("data: ") and "\n" not in part for part in parts)
    return [part[6:] if part == "data: [DONE]" else json.loads(part[6:]) for part in parts]


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk["choices"][0]["text"] for chunk in chunks if chunk != "[DONE]" and chunk["choices"])


USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 3,
    "total_tokens": 10,
    "prompt_tokens_details": {"cached_tokens": 5},
}


# What a client gets


def test_one_object(server: Threaded, model: Model) -> None:
    response = post(server)
    assert response.status_code == 200
    answer = response.json()
    assert answer.pop("id").startswith("cmpl-")
    assert abs(answer.pop("created") - time.time()) < 60
    choice = {"text": "The best year ever", "index": 0, "logprobs": None, "finish_reason": "length"}
    assert answer == {"object": "text_completion", "model": "tiny-q8", "choices": [choice], "usage": USAGE}


@pytest.mark.parametrize("options", [{}, {"include_usage": False}, {"include_usage": True}, None])
def test_a_stream(server: Threaded, model: Model, options: dict[str, bool] | None) -> None:
    response = post(server, stream=True, stream_options=options, model='a "name"')
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    *chunks, done = events(response)
    assert done == "[DONE]"
    if options == {"include_usage": True}:
        usage = chunks.pop()
        assert (usage["choices"], usage["usage"]) == ([], USAGE)
    assert [chunk["choices"][0]["text"] for chunk in chunks] == ["The best", " year", " ever", ""]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "length"]
    assert len({(chunk["id"], chunk["created"]) for chunk in chunks}) == 1
    assert {chunk["model"] for chunk in chunks} == {'a "name"'}
    assert {tuple(chunk) for chunk in chunks} == {("id", "object", "created", "model", "choices")}
    assert {tuple(chunk["choices"][0]) for chunk in chunks} == {("text", "index", "logprobs", "finish_reason")}


def test_pieces_that_are_ready_together_come_in_one_write(server: Threaded, model: Model) -> None:
    model.script = [said("a", "b", "c"), said("", "d"), said("")]
    body = {"prompt": "x", "stream": True}
    with hanging_up(server.url, "/v1/completions", body) as client:
        received = b""
        while b"[DONE]" not in received:
            received += client.recv(65_536)
    head, _, rest = received.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head.lower()
    writes = []
    while rest.strip():
        size, _, rest = rest.partition(b"\r\n")
        writes.append(rest[: int(size, 16)].count(b'"text"'))
        rest = rest[int(size, 16) + 2 :]
    assert [count for count in writes if count] == [3, 1, 1]


@pytest.mark.parametrize("name", ['"\0"', "\0", 'x","choices":[', "ü"])
def test_any_text_and_any_model_name_come_through(server: Threaded, model: Model, name: str) -> None:
    model.script = [said(*NASTY)]
    chunks = events(post(server, stream=True, model=name))
    assert text_of(chunks) == post(server).json()["choices"][0]["text"] == "".join(NASTY)
    assert chunks[0]["model"] == post(server, model=name).json()["model"] == name


def test_logprobs_in_openais_form(server: Threaded, model: Model) -> None:
    first = Logprob("Th", -0.5, (("Th", -0.5), ("\ufffd", -1.0), ("\ufffd", -2.0)))
    second = Logprob("e", float("-inf"), (("a", -0.1), ("b", -0.2), ("c", -0.3)))
    model.script = [[Piece("", 1, (first,))], [Piece("The", 1, (second,))]]
    told = post(server, logprobs=3).json()["choices"][0]["logprobs"]
    assert told == {
        "tokens": ["Th", "e"],
        "token_logprobs": [-0.5, -9999.0],
        "top_logprobs": [{"Th": -0.5, "\ufffd": -1.0}, {"a": -0.1, "b": -0.2, "c": -0.3}],
        "text_offset": [0, 2],
    }
    assert model.asked[-1][1]["n_logprobs"] == 3
    *chunks, _, _ = events(post(server, logprobs=1, stream=True))
    parts = [chunk["choices"][0]["logprobs"] for chunk in chunks]
    assert [part["tokens"] for part in parts] == [["Th"], ["e"]]
    assert [part["top_logprobs"] for part in parts] == [[{"Th": -0.5}], [{"a": -0.1}]]
    assert [part["text_offset"] for part in parts] == [[0], [2]]
    assert post(server, logprobs=0).json()["choices"][0]["logprobs"]["top_logprobs"] == [{}, {}]


def test_models(server: Threaded, model: Model) -> None:
    listed = httpx.get(f"{server.url}/v1/models").json()
    (one,) = listed["data"]
    assert (listed["object"], one["id"], one["object"]) == ("list", "tiny-q8", "model")


# What a client may ask


def test_settings_have_openais_defaults(server: Threaded, model: Model) -> None:
    assert post(server, stop=None, seed=None, logprobs=None, user="me", n=1, best_of=1, echo=False).status_code == 200
    prompt, settings, _ = model.asked[-1]
    assert prompt == "x"
    assert settings == {
        "max_new_tokens": 16,
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "seed": None,
        "stop": [],
        "ignore_eos": False,
        "n_logprobs": None,
    }


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


@pytest.mark.parametrize(
    ("asked", "settings"),
    [
        ({"max_tokens": 5, "ignore_eos": True}, {"max_new_tokens": 5, "ignore_eos": True}),
        ({"temperature": 0, "seed": 3}, {"temperature": 0.0, "seed": 3}),
        ({"top_k": -1}, {"top_k": 0}),
        ({"top_k": 40, "top_p": 0.9, "min_p": 0.1}, {"top_k": 40, "top_p": 0.9, "min_p": 0.1}),
        ({"repeat_penalty": 1.1}, {"repetition_penalty": 1.1}),
        ({"repetition_penalty": 1.1}, {"repetition_penalty": 1.1}),
        ({"presence_penalty": 1, "frequency_penalty": -1}, {"presence_penalty": 1.0, "frequency_penalty": -1.0}),
        ({"stop": "\n"}, {"stop": ["\n"]}),
        ({"stop": ["a", "b"]}, {"stop": ["a", "b"]}),
        ({"logit_bias": {}}, {}),
        ({"grammar": 'start: "a"'}, {"grammar": 'start: "a"'}),
        ({"regex": "[0-9]+"}, {"regex": "[0-9]+"}),
        ({"choice": ["yes", "no"]}, {"choice": ["yes", "no"]}),
        ({"response_format": {"type": "text"}}, {}),
        ({"response_format": {"type": "json_object"}}, {"json_schema": {"type": "object"}}),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"schema": SCHEMA, "name": "n", "strict": True},
                }
            },
            {"json_schema": SCHEMA},
        ),
    ],
)
def test_settings_are_handed_on(server: Threaded, model: Model, asked: Any, settings: dict[str, Any]) -> None:
    assert post(server, **asked).status_code == 200
    _, given, _ = model.asked[-1]
    assert {name: given[name] for name in settings} == settings
    masks = {"grammar", "json_schema", "regex", "choice"}
    assert masks & set(given) == masks & set(settings)


@pytest.mark.parametrize(("prompt", "given"), [("a", "a"), (["a"], "a"), ([5], [5]), ([1, 2, 3], [1, 2, 3]), ("", "")])
def test_prompts(server: Threaded, model: Model, prompt: Any, given: Any) -> None:
    assert post(server, prompt=prompt).status_code == 200
    assert model.asked[-1][0] == given


@pytest.mark.parametrize(
    ("asked", "param", "named"),
    [
        ({"prompt": None}, "prompt", ["prompt is missing"]),
        ({"prompt": []}, "prompt", ["one text or the token ids of one"]),
        ({"prompt": ["a", "b"]}, "prompt", ["one text", "['a', 'b']"]),
        ({"prompt": [[1], [2]]}, "prompt", ["one text"]),
        ({"prompt": [1, True]}, "prompt", ["one text"]),
        ({"prompt": [1, "a"] * 1000}, "prompt", ["one text"]),
        ({"max_tokens": 0}, "max_tokens", ["max_tokens", "0"]),
        ({"max_tokens": "many"}, "max_tokens", ["max_tokens", "many"]),
        ({"temperature": "hot"}, "temperature", ["temperature", "hot"]),
        ({"logprobs": 21}, "logprobs", ["logprobs", "20", "21"]),
        ({"stop": [5]}, "stop", ["stop", "5"]),
        ({"n": 2}, "n", ["n=2", "leave n out"]),
        ({"best_of": 2}, "best_of", ["best_of=2"]),
        ({"echo": True}, "echo", ["echo=True"]),
        ({"logit_bias": {"5": 1}}, "logit_bias", ["logit_bias", "not supported"]),
        ({"suffix": "x", "colour": "red"}, "suffix", ["'suffix', 'colour'", "max_tokens"]),
        ({"stream_options": {"x": 1}}, "stream_options.x", ["stream_options.x"]),
        ({"choice": []}, "choice", ["choice"]),
        ({"regex": "a", "grammar": "b"}, None, ["grammar and regex", "give one"]),
        ({"repeat_penalty": 1, "repetition_penalty": 1}, None, ["one setting"]),
        ({"response_format": {"type": "json_schema"}}, "response_format", ["json_schema"]),
        ({"response_format": {"type": "xml"}}, "response_format", ["xml"]),
    ],
)
def test_what_is_refused_is_named(server: Threaded, model: Model, asked: Any, param: str, named: list[str]) -> None:
    response = post(server, **asked)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, None)
    assert [part for part in named if part not in error["message"]] == []
    assert len(error["message"]) < 600
    assert model.asked == []


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b'{"prompt": ', "application/json", 400),
        (b'{"prompt": "\xff"}', "application/json", 400),
        (b'{"prompt": "\\ud800"}', "application/json", 400),
        (b'{"prompt": "x", "temperature": NaN}', "application/json", 400),
        (b"[" * 50_000, "application/json", 400),
        (b"[]", "application/json", 400),
        (b"", "application/json", 400),
        (b'{"prompt": "x"}', "text/plain", 415),
        (b"x" * 100_001, "application/json", 413),
    ],
)
def test_a_body_that_is_no_request(server: Threaded, model: Model, content: bytes, kind: str, status: int) -> None:
    response = httpx.post(f"{server.url}/v1/completions", content=content, headers={"content-type": kind})
    assert response.status_code == status
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    assert model.asked == []


# What goes wrong

FAILURES = [
    (SettingsError("top_p=7 is too much"), 400, "invalid_request_error", None, "top_p=7"),
    (ContextOverflow("the prompt has 9 tokens"), 400, "invalid_request_error", "context_length_exceeded", "9 tokens"),
    (EngineBusy("64 wait"), 503, "server_error", "overloaded", "64 wait"),
    (EngineError("decode failed"), 503, "server_error", None, "decode failed"),
    (RuntimeError("secret"), 500, "server_error", None, "Internal Server Error"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize(("error", "status", "kind", "code", "message"), FAILURES)
def test_an_error_before_the_first_piece_has_a_status(
    server: Threaded,
    model: Model,
    error: Exception,
    status: int,
    kind: str,
    code: str | None,
    message: str,
    at_once: bool,
    stream: bool,
) -> None:
    model.refusal = error if at_once else None
    model.script = [error]
    response = post(server, stream=stream)
    assert response.status_code == status
    told = response.json()["error"]
    assert (told["type"], told["code"], told["param"]) == (kind, code, None)
    assert message in told["message"]
    assert "secret" not in response.text
    assert response.headers.get("retry-after") == ("1" if code == "overloaded" else None)


@pytest.mark.parametrize(("error", "status", "kind", "code", "message"), FAILURES)
def test_an_error_in_a_stream_ends_it(
    server: Threaded, model: Model, error: Exception, status: int, kind: str, code: str | None, message: str
) -> None:
    model.script = [said("The"), error]
    response = post(server, stream=True)
    assert response.status_code == 200
    first, last = events(response)
    assert first["choices"][0]["text"] == "The"
    assert (last["error"]["type"], last["error"]["code"]) == (kind, code)
    assert message in last["error"]["message"]
    assert "secret" not in response.text
    response = post(server)
    assert (response.status_code, response.json()) == (status, last)


# Clients that go away


@pytest.mark.parametrize("abruptly", [False, True])
@pytest.mark.parametrize(("stream", "script"), [(False, [said("a"), None]), (True, [None]), (True, [said("a"), None])])
def test_a_client_that_hangs_up_cancels_its_completion(
    server: Threaded, model: Model, caplog: pytest.LogCaptureFixture, stream: bool, script: list[Any], abruptly: bool
) -> None:
    model.script = script
    with hanging_up(server.url, "/v1/completions", {"prompt": "x", "stream": stream}, abruptly=abruptly):
        assert soon(lambda: bool(model.begun), within_s=30)
        assert model.begun[0].under_way.wait(timeout=30)
        time.sleep(0.05)
        assert not model.begun[0].cancelled.is_set()
    assert model.begun[0].cancelled.wait(timeout=1)
    assert soon(server.is_at_rest)
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_client_that_hangs_up_while_its_prompt_is_read(server: Threaded, model: Model) -> None:
    """A long prompt is tokenised beside the event loop; what it begins nobody waits for any more."""
    model.may_plan.clear()
    with hanging_up(server.url, "/v1/completions", {"prompt": "x" * (QUICK_CHARS + 1)}):
        assert model.planning.wait(timeout=30)
        model.planning.clear()
        assert httpx.get(f"{server.url}/v1/models").status_code == 200
    assert soon(server.is_at_rest)
    model.may_plan.set()
    assert soon(lambda: bool(model.begun))
    assert model.begun[0].cancelled.wait(timeout=1)


def test_only_long_and_constrained_prompts_need_another_thread(server: Threaded, model: Model) -> None:
    for asked in ({}, {"prompt": [1] * 10_000}, {"prompt": "x" * (QUICK_CHARS + 1)}, {"regex": "a"}):
        assert post(server, **asked).status_code == 200
    threads = [thread for _, _, thread in model.asked]
    assert threads[0] == threads[1]
    assert threads[0] not in threads[2:]


# The bundled reader, behind the real server


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(["-m", "fourcorners", "serve", "--raw", "--port", "0"], tmp_path_factory.mktemp("raw")) as it:
        yield it


PROMPT = "The first ferry leaves at 6:40 on weekdays. The second ferry leaves at"


def test_raw_a_stream_is_the_whole_text(raw: Server) -> None:
    for setting in ({"temperature": 0}, {"temperature": 1, "seed": 7}, {"temperature": 0, "logprobs": 2}):
        asked = {"prompt": PROMPT, "max_tokens": 40, "ignore_eos": True, **setting}
        whole = post(raw, **asked).json()
        *chunks, usage, done = events(post(raw, **asked, stream=True, stream_options={"include_usage": True}))
        assert done == "[DONE]"
        assert text_of(chunks) == whole["choices"][0]["text"] != ""
        assert chunks[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"] == "length"
        assert whole["usage"]["completion_tokens"] == usage["usage"]["completion_tokens"] == 40
        assert whole["usage"]["prompt_tokens"] > 10


def test_raw_a_prompt_that_comes_again_is_cached(raw: Server) -> None:
    asked = {"prompt": "Once upon a time there was a lighthouse keeper. " * 8, "max_tokens": 2, "temperature": 0}
    first, second = (post(raw, **asked).json() for _ in range(2))
    assert first["choices"][0]["text"] == second["choices"][0]["text"]
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] > 0.5 * second["usage"]["prompt_tokens"]


def test_raw_constraints_and_stops_hold(raw: Server) -> None:
    def text(**asked: Any) -> str:
        response = post(raw, prompt=PROMPT, **{"max_tokens": 60, "temperature": 0, **asked})
        assert response.status_code == 200, response.text
        return str(response.json()["choices"][0]["text"])

    assert text(choice=["seven", "eight"]) in ("seven", "eight")
    assert text(regex="[0-9]:[0-9]{2}").replace(":", "").isdecimal()
    assert text(grammar='start: "a" | "b"') in ("a", "b")
    hour = {"properties": {"hour": {"enum": [7, 8]}}, "required": ["hour"]}
    schema = {"type": "object", **hour, "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"schema": schema, "name": "time"}}
    assert json.loads(text(response_format=form))["hour"] in (7, 8)
    free = text(ignore_eos=True)
    letter = next(one for one in free[1:] if one.isalpha())
    assert text(ignore_eos=True, stop=letter) == free[: free.index(letter)]


def test_raw_logprobs_are_those_of_the_text(raw: Server) -> None:
    choice = post(raw, prompt=PROMPT, max_tokens=12, temperature=0, ignore_eos=True, logprobs=3).json()["choices"][0]
    told = choice["logprobs"]
    assert len(told["tokens"]) == len(told["token_logprobs"]) == 12
    assert "".join(told["tokens"]) == choice["text"]
    for token, logprob, top in zip(told["tokens"], told["token_logprobs"], told["top_logprobs"], strict=True):
        assert 1 <= len(top) <= 3
        assert top[token] == pytest.approx(logprob)
        assert logprob == pytest.approx(max(top.values()))


@pytest.mark.parametrize(
    ("asked", "code", "named"),
    [
        ({"top_p": 7}, None, "top_p"),
        ({"prompt": "word " * 20_000}, "context_length_exceeded", "4096"),
        ({"prompt": [10**9]}, None, "1000000000"),
        ({"prompt": [-1]}, None, "-1"),
        ({"regex": "(("}, None, "(("),
        ({"grammar": "start: frob"}, None, "frob"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "frob"}}}}, None, "frob"),
    ],
)
def test_raw_what_the_model_can_not_do_is_the_clients_fault(
    raw: Server, asked: Any, code: str | None, named: str
) -> None:
    response = post(raw, **asked)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["code"] == code
    assert named in error["message"]


def test_raw_many_clients_at_once_get_what_one_gets(raw: Server) -> None:
    def text(number: int) -> str:
        asked = {"prompt": PROMPT + " seven" * number, "max_tokens": 24, "temperature": 0, "ignore_eos": True}
        chunks = events(post(raw, **asked, stream=True))
        assert chunks[-1] == "[DONE]"
        return text_of(chunks)

    alone = [text(number) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(text, range(8)))
    assert sum(a == b for a, b in zip(alone, together, strict=True)) >= 7  # a near tie may fall otherwise


@pytest.mark.parametrize("stream", [False, True])
def test_raw_clients_that_hang_up_leave_the_model_free(raw: Server, stream: bool) -> None:
    long = {"prompt": PROMPT, "max_tokens": 3500, "ignore_eos": True, "stream": stream}
    n_logged = len(raw.log.read_text())
    for _ in range(40):  # more than run at once
        with hanging_up(raw.url, "/v1/completions", long):
            time.sleep(0.02)
    started = time.monotonic()
    assert post(raw, max_tokens=1).status_code == 200
    assert time.monotonic() - started < 5  # left to run, they would take more than a minute
    assert "Traceback" not in raw.log.read_text()[n_logged:]


def test_raw_is_on_no_other_server_but_described_on_this(raw: Server) -> None:
    from fourcorners.server import create_app

    assert "/v1/completions" in httpx.get(f"{raw.url}/openapi.json").json()["paths"]
    assert httpx.get(f"{raw.url}/health").status_code == 200
    (one,) = httpx.get(f"{raw.url}/v1/models").json()["data"]
    assert one["id"]
    with serving(create_app(documents=[])) as plain:
        assert httpx.post(f"{plain.url}/v1/completions", json={"prompt": "x"}).status_code == 404
