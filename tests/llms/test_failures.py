import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from typing import Any

import pytest
from langchain_core.exceptions import ModelError

from fourcorners import init_llm
from fourcorners.errors import (
    BackendDenied,
    BackendError,
    BackendInterrupted,
    BackendRejected,
    BackendUnreachable,
    ContextOverflow,
    EngineBusy,
    EngineError,
    EngineTimeout,
    InputError,
    ModelLoadError,
)
from fourcorners.llms import retrying
from tests.llms.faulty import DONE, Faulty, answer, drop, faulty, hang, stream, token


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "_backoff", lambda state: 0.01)


def tgi(server: Faulty, **settings: Any) -> Any:
    return init_llm(f"tgi:{server.url}", **settings)


def asked(llm: Any, way: str) -> str:
    """In one of the four ways."""
    if way == "invoke":
        return str(llm.invoke("Hi"))
    if way == "stream":
        return "".join(llm.stream("Hi"))

    async def both() -> str:
        if way == "ainvoke":
            return str(await llm.ainvoke("Hi"))
        return "".join([piece async for piece in llm.astream("Hi")])

    return asyncio.run(both())


WAYS = pytest.mark.parametrize("way", ["invoke", "stream", "ainvoke", "astream"])


@WAYS
@pytest.mark.parametrize("fault", [answer(408), answer(429), answer(502), answer(503), answer(504), drop])
def test_what_may_pass_is_tried_again(way: str, fault: Callable[..., None]) -> None:
    with faulty(fault, fault, DONE) as server:
        assert asked(tgi(server), way) == "All well"
        assert server.n_posts == 3


@WAYS
def test_an_overload_told_in_the_first_event_is_tried_again(way: str) -> None:
    busy = stream('data:{"error":"Model is overloaded","error_type":"overloaded"}\n\n')
    with faulty(busy, DONE) as server:
        assert asked(tgi(server), way) == "All well"


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (answer(400, {"error": "no"}), BackendRejected),
        (answer(401, {"error": "no"}), BackendDenied),
        (answer(403, "no"), BackendDenied),
        (answer(404, "no"), ModelLoadError),
        (answer(302, "no", location="http://elsewhere.example/"), BackendError),
        (answer(422, {"error": "`inputs` must have less than 9 tokens. Given: 10"}), ContextOverflow),
        (answer(424, {"error": "Request failed during generation", "error_type": "generation"}), BackendError),
        (answer(500, "<html>no</html>"), BackendError),
        (answer(200, "<html>Welcome</html>"), BackendError),
        (answer(200, "[1, 2]"), BackendError),
        (stream("data: no json\n\n"), BackendError),
        (stream('data:{"error":"`top_p` must be > 0.0","error_type":"validation"}\n\n'), BackendRejected),
    ],
)
def test_what_does_not_pass_is_not_tried_again(fault: Callable[..., None], error: type[Exception]) -> None:
    with faulty(fault) as server:
        for way in ("invoke", "astream"):
            with pytest.raises(error, match=server.url):
                asked(tgi(server), way)
        assert server.n_posts == 2


def test_when_all_tries_fail_the_last_error_is_raised() -> None:
    with faulty(answer(503, {"error": "Model is overloaded"})) as server:
        with pytest.raises(EngineBusy, match=r"503: Model is overloaded.*try again later") as caught:
            asked(tgi(server, max_retries=2), "invoke")
        assert server.n_posts == 3
    assert isinstance(caught.value, ModelError)
    assert caught.value.is_retryable


@WAYS
def test_retry_after_is_obeyed(way: str) -> None:
    with faulty(answer(429, "", retry_after="1"), DONE) as server:
        began = time.monotonic()
        assert asked(tgi(server), way) == "All well"
        assert time.monotonic() - began >= 1.0


def test_a_server_that_wants_an_hour_is_not_waited_for() -> None:
    with faulty(answer(503, "", retry_after="3600")) as server:
        with pytest.raises(EngineBusy) as caught:
            asked(tgi(server), "invoke")
        assert server.n_posts == 1
    assert caught.value.retry_after_s == 3600


def test_no_retry_goes_past_the_deadline() -> None:
    with faulty(answer(503, "", retry_after="30")) as server:
        began = time.monotonic()
        with pytest.raises(EngineBusy):
            asked(tgi(server, timeout_s=2), "invoke")
        assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("", None), ("7", 7.0), ("1.5", 1.5), ("soon", None), ("-3", None), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0)],
)
def test_retry_after_is_a_number_or_a_date(value: str, seconds: float | None) -> None:
    assert retrying.seconds_of({"retry-after": value}) == seconds


@pytest.mark.parametrize("end", ["cut", "whole"])
@WAYS
def test_a_stream_that_breaks_off_is_an_error_and_what_came_is_kept(way: str, end: str) -> None:
    with faulty(stream(token("Half"), token(" a"), end=end)) as server:
        with pytest.raises(BackendInterrupted) as caught:
            asked(tgi(server), way)
        assert caught.value.partial == "Half a"
        assert server.n_posts == 1


def test_a_stream_shows_what_came_before_it_breaks_off() -> None:
    with faulty(stream(token("Half"), 'data:{"error":"Incomplete generation stream","error_type":"x"}\n\n')) as server:
        pieces: list[str] = []
        with pytest.raises(BackendError, match="Incomplete generation stream") as caught:
            pieces.extend(tgi(server).stream("Hi"))
        assert pieces == ["Half"]
        assert caught.value.partial == "Half"


@WAYS
def test_a_silent_server_is_a_timeout(way: str) -> None:
    with faulty(hang) as server:
        for settings in ({"read_timeout_s": 0.3}, {"timeout_s": 0.3}):
            began = time.monotonic()
            with pytest.raises(EngineTimeout, match="timeout_s"):
                asked(tgi(server, **settings), way)
            assert time.monotonic() - began < 3


def test_a_server_that_talks_for_ever_ends_at_the_deadline() -> None:
    with faulty(stream(*[token(" x")] * 3_000, end="hang")) as server:
        with pytest.raises(EngineTimeout) as caught:
            tgi(server, timeout_s=0.5).invoke("Hi")
        assert caught.value.partial.startswith("x x")


@WAYS
def test_no_server_is_unreachable(way: str) -> None:
    with faulty(DONE) as server:
        llm = tgi(server, max_retries=1)
    with pytest.raises(BackendUnreachable, match="is the server running"):
        asked(llm, way)


def test_what_is_no_tgi_says_so() -> None:
    with faulty(DONE) as server, pytest.raises(BackendError, match="not what TGI says"):
        init_llm(f"tgi:{server.url}/v1").invoke("Hi")


def test_errors_are_ours() -> None:
    assert issubclass(BackendError, EngineError)
    assert issubclass(BackendRejected, InputError)
    assert not issubclass(BackendDenied, InputError)


@pytest.fixture(params=[hang, stream(token("One"), end="hang")], ids=["before", "amid"])
def stuck(request: pytest.FixtureRequest) -> Iterator[Faulty]:
    with faulty(request.param, DONE) as server:
        yield server


@pytest.mark.parametrize("way", ["ainvoke", "astream", "abatch"])
def test_a_cancelled_task_closes_its_connection(stuck: Faulty, way: str) -> None:
    llm = tgi(stuck)

    async def work() -> None:
        async def ask() -> None:
            if way == "ainvoke":
                await llm.ainvoke("Hi")
            elif way == "abatch":
                await llm.abatch(["Hi"])
            else:
                async for _ in llm.astream("Hi"):
                    pass

        task = asyncio.create_task(ask())
        while not stuck.under_way.is_set():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(stuck.gone.wait, 5)
        assert await llm.ainvoke("Hi") == "All well"

    asyncio.run(work())


def test_a_closed_stream_closes_its_connection() -> None:
    for is_async in (False, True):
        with faulty(stream(token("One"), token("Two"), end="hang"), DONE) as server:
            llm = tgi(server)
            if is_async:

                async def work(llm: Any = llm) -> None:
                    async with aclosing(llm.astream("Hi")) as pieces:
                        assert await anext(pieces) == "One"

                asyncio.run(work())
            else:
                pieces = llm.stream("Hi")
                assert next(pieces) == "One"
                pieces.close()
            assert server.gone.wait(5)
            assert llm.invoke("Hi") == "All well"


def test_one_llm_serves_one_event_loop_after_another() -> None:
    with faulty(DONE) as server:
        llm = tgi(server)
        for _ in range(3):
            assert asyncio.run(llm.ainvoke("Hi")) == "All well"
        llm.close()


@pytest.mark.parametrize("bites", [1, 2, 7])
def test_events_may_come_in_any_pieces(bites: int) -> None:
    text = "Zürich\u2028\x0b 渡し船 🛳️"
    events = [": still here\n\n", token(text), "\n", token(".", generated_tokens=2)]
    with faulty(stream(*events, bites=bites)) as server:
        assert tgi(server).invoke("Hi") == text + "."


def test_special_tokens_and_halves_of_stop_strings_are_not_shown() -> None:
    events = [
        token("Yes"),
        token("<|im_"),
        token("end|>"),
        token("no"),
        token("</s>", special=True, generated_tokens=4),
    ]
    with faulty(stream(*events)) as server:
        llm = tgi(server, stop=["<|im_end|>"])
        assert llm.invoke("Hi") == "Yes"
        assert next(iter(llm.stream("Hi"))) == "Yes"
        result = llm.generate(["Hi"]).generations[0][0].generation_info
        assert result["finish_reason"] == "stop"
        assert result["usage"]["completion_tokens"] == 4


def test_many_at_once_do_not_mix() -> None:
    with faulty(DONE) as server:
        llm = tgi(server)

        async def many() -> list[str]:
            return list(await asyncio.gather(*[llm.ainvoke(f"Hi {n}") for n in range(40)]))

        assert asyncio.run(many()) == ["All well"] * 40
        assert llm.batch(["Hi"] * 40) == ["All well"] * 40
        assert server.paths.count("/info") == 1


def test_many_that_wait_for_a_server_that_is_not_there_fail_together() -> None:
    with faulty(DONE) as server:
        llm = tgi(server, max_retries=0)

    async def many() -> list[Any]:
        return list(await asyncio.gather(*[llm.ainvoke("Hi") for _ in range(20)], return_exceptions=True))

    assert all(isinstance(error, BackendUnreachable) for error in asyncio.run(many()))
    with faulty(DONE) as server:
        llm = tgi(server)
        assert llm.invoke("Hi") == "All well"
