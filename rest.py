"""What the REST routes refuse, and how they say what went wrong.

Every refusal is ``{"detail": …}``, a text or, for wrong fields, FastAPI's list of ``loc``, ``msg`` and ``type``:
413 too large a body, 415 no JSON, 422 input that can't be used (also too long for the model), 503 the engine failed and
may be tried again (with ``Retry-After`` where its queue was full), 500 anything else. Never a traceback. A stream has
begun with 200 by then; it ends with an ``error`` event that carries the status and the message.

A client that hangs up gets its work cancelled, whatever the route.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from sse_starlette import EventSourceResponse
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fourcorners.errors import EngineBusy, EngineError, FourCornersError, InputError, shortened

log = logging.getLogger("uvicorn.error")

RETRY_AFTER_S = 1
"""What a client is told to wait when the engine's queue is full."""

Place = tuple[str | int, ...]  # where in the request: ("inputs", 2, "question")


def add_refusals(app: FastAPI, max_body_bytes: int) -> None:
    """Give the app its body limit and its error handlers; chain routes need ``ChainRoute`` and ``body_check`` too."""
    app.add_middleware(_BodyLimit, limit=max_body_bytes)
    app.add_middleware(_HangUp)  # outside the limit: the limit counts what this hands on
    app.add_middleware(_PlainStartError)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(FourCornersError, _failed)
    app.add_exception_handler(Exception, _failed)


def body_check(input_type: Any) -> Callable[[Request], Awaitable[None]]:
    """A dependency that refuses a body before LangServe reads it.

    LangServe answers 500 to a wrong item of a batch, without its index, and to bytes that are no text.
    """
    schema: TypeAdapter[Any] = TypeAdapter(input_type)

    async def check(request: Request) -> None:
        if request.method != "POST":
            return
        body = await read_json(request)
        _check(schema, body, "inputs" if request.url.path.endswith("/batch") else "input")

    return check


async def read_json(request: Request) -> Any:
    """The body, or an HTTPException that says what is wrong with it."""
    # Also keeps web pages out: a browser sends JSON to another origin only with that origin's consent.
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, f"content-type must be application/json, not {shortened(kind)}")
    try:
        body = await request.json()
        if b"\\ud" in (await request.body()).lower():
            json.dumps(body, ensure_ascii=False).encode()  # raises on half a surrogate pair, which is no text
    except (ValueError, RecursionError) as error:
        raise HTTPException(422, f"the body is not valid JSON: {error}") from None
    return body


def _check(schema: TypeAdapter[Any], body: Any, key: str) -> None:
    if not isinstance(body, dict) or key not in body:
        raise HTTPException(422, f"the body must be an object with the key {key!r}, not {shortened(body)}")
    items = body[key] if key == "inputs" else [body[key]]
    if not isinstance(items, list):
        raise HTTPException(422, f"inputs must be a list, not {shortened(items)}")
    for index, item in enumerate(items):
        try:
            schema.validate_python(item)
        except ValidationError as error:
            entries = _entries(error.errors(), item, (key, index) if key == "inputs" else (key,))
            raise HTTPException(422, entries) from None
        except TypeError:  # from Document's own __init__, which pydantic calls
            raise HTTPException(422, f"{key}: a document in a context needs the key 'page_content'") from None


class _BodyLimit:
    """Stops reading a request that is, or says that it is, longer than ``limit`` bytes."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app, self.limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        size = 0
        declared = Headers(scope=scope).get("content-length", "0")

        async def counted() -> Message:
            nonlocal size
            if not declared.isdecimal() or int(declared) > self.limit:
                raise self._too_large()
            message = await receive()
            size += len(message.get("body", b""))
            if size > self.limit:
                raise self._too_large()
            return message

        await self.app(scope, counted, send)

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"the request is longer than {self.limit} bytes; send fewer or shorter documents")


@contextlib.asynccontextmanager
async def cancelled_by(event: Callable[[], Awaitable[bool]]) -> AsyncIterator[None]:
    """Cancels its block, and goes on behind it, when ``event()`` returns true while the block runs.

    A cancellation from elsewhere, such as that of a server that shuts down, passes through.
    """
    task = asyncio.current_task()
    assert task is not None
    n_before, came = task.cancelling(), False

    async def watch() -> None:
        nonlocal came
        if await event():
            came = True
            task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not came or task.cancelling() > n_before + 1:
            raise
    finally:
        watcher.cancel()
        if came:
            task.uncancel()


class _HangUp:
    """Cancels the work for a client that is gone before its response has begun; then the response itself watches.

    A server tells of a client that hangs up only to who calls ``receive`` after the body, which no handler does that
    awaits an answer. So this calls it, beside the app, and shares what it learns with an app that asks too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body_read, gone, begun = asyncio.Event(), asyncio.Event(), False

        async def gone_too_early() -> bool:
            await body_read.wait()
            await disconnected(receive)
            gone.set()
            return not begun

        async def shared_receive() -> Message:
            if body_read.is_set():
                await gone.wait()
                return {"type": "http.disconnect"}
            message = await receive()
            if not message.get("more_body", False):
                body_read.set()
            return message

        async def noting_send(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        # In the middle of its body the app is told by an exception, which nobody needs to see in the log.
        with contextlib.suppress(ClientDisconnect):
            async with cancelled_by(gone_too_early):
                await self.app(scope, shared_receive, noting_send)


async def disconnected(receive: Receive) -> None:
    """Returns when the client is gone or has its whole response; for after the body."""
    while (await receive())["type"] != "http.disconnect":
        pass


class _PlainStartError:
    """When the model or the documents can't be loaded, the server's log shows the message and no traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def shortening(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                last = message["message"].strip().rpartition("\n")[2]
                if last.startswith(FourCornersError.__module__):
                    message = {**message, "message": last}
            await send(message)

        await self.app(scope, receive, shortening if scope["type"] == "lifespan" else send)


class ChainRoute(APIRoute):
    """LangServe's ``error`` event says "Internal Server Error" whatever happened; here it says what did."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's hook for what happens around every request of a route."""
        original = super().get_route_handler()

        async def handler(request: Request) -> Response:
            response = await original(request)
            if isinstance(response, EventSourceResponse):
                response.body_iterator = _with_cause(response.body_iterator)
            return response

        return handler


async def _with_cause(events: Any) -> AsyncIterator[Any]:
    try:
        async for event in events:
            # LangServe yields its own error event just before it raises; the one below takes its place.
            if event["event"] != "error":
                yield event
    except Exception as error:
        if not isinstance(error, FourCornersError):
            log.error("unexpected error in a stream", exc_info=error)
        status, message = status_and_message(error)
        yield {"event": "error", "data": json.dumps({"status_code": status, "message": message})}
    finally:
        # A client that hangs up must stop the model now, not at the next garbage collection. LangServe's generator
        # yields once more while it is closed, which Python reports as a RuntimeError.
        with contextlib.suppress(RuntimeError):
            await events.aclose()


def status_and_message(error: Exception) -> tuple[int, str]:
    """What a client is told; a fault of the engine is logged here, as no one else will."""
    if not isinstance(error, FourCornersError):
        return 500, "Internal Server Error; the server's log has the details"
    if isinstance(error, InputError):
        return 422, str(error)
    if not isinstance(error, EngineBusy):
        log.error("%s: %s", type(error).__name__, error, exc_info=error)
    return 503 if isinstance(error, EngineError) else 500, str(error)


def headers_of(error: Exception) -> dict[str, str]:
    """The headers that go with ``status_and_message``."""
    return {"Retry-After": str(RETRY_AFTER_S)} if isinstance(error, EngineBusy) else {}


async def _failed(request: Request, error: Exception) -> JSONResponse:
    status, message = status_and_message(error)
    return JSONResponse({"detail": message}, status_code=status, headers=headers_of(error))


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """What LangServe itself refuses, such as a ``config`` that is no object. FastAPI would echo the whole value."""
    assert isinstance(error, RequestValidationError)
    items: list[Any] = [item if isinstance(item, dict) else {"msg": str(item)} for item in error.errors()]
    return JSONResponse({"detail": [_entry(item.get("loc", ()), [item]) for item in items]}, status_code=422)


def _entries(errors: Sequence[Any], value: Any, root: Place) -> list[dict[str, Any]]:
    """One entry per wrong place. A wrong value of a union has an error for each of its types: they become one, and
    what is said of a whole list or object is left out where there is something to say about a part of it."""
    places: dict[Place, list[Any]] = {}
    for error in errors:
        places.setdefault(_place(error, value), []).append(error)
    inner = [place for place in places if not any(place == other[: len(place)] != other for other in places)]
    return [_entry((*root, *place), places[place]) for place in inner]


def _place(error: Any, value: Any) -> Place:
    """pydantic's ``loc`` without the names of union members, which say nothing to a client."""
    place: list[str | int] = []
    for step in error["loc"]:
        if (isinstance(value, dict) and step in value) or (isinstance(value, list) and isinstance(step, int)):
            value = value[step]
            place.append(step)
    return (*place, error["loc"][-1]) if error["type"] == "missing" else tuple(place)


def _entry(place: Place, errors: Sequence[Any]) -> dict[str, Any]:
    """In the form of FastAPI's own 422, as /docs describes it, with the value cut short."""
    name = ".".join(map(str, place)) or "body"
    first = errors[0]
    kind, value = first.get("type", "invalid"), shortened(first.get("input"))
    if kind == "missing":
        message = f"{name} is missing"
    elif kind == "extra_forbidden":
        message = f"{name} is no known key; its value is {value}"
    else:
        wanted = dict.fromkeys(error["msg"].removeprefix("Input should be ") for error in errors)
        message = f"{name}: expected {' or '.join(wanted)}, got {value}"
    return {"loc": ["body", *place], "msg": message, "type": kind}


__all__ = [
    "ChainRoute",
    "add_refusals",
    "body_check",
    "disconnected",
    "headers_of",
    "read_json",
    "status_and_message",
]
