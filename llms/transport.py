"""HTTP to a server: JSON in, JSON or a stream of JSON events out; from threads and from event loops.

Everything that goes wrong comes out as one of our errors, translated in ``remote_errors``. Leaving a stream before its
end closes its connection, by which servers know that they may stop.
"""

from __future__ import annotations

import asyncio
import json
import threading
import weakref
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import AsyncExitStack, ExitStack, aclosing
from typing import Any, NamedTuple

import httpx
from httpx_sse import EventSource, ServerSentEvent

from fourcorners.errors import BackendError, EngineTimeout, shortened
from fourcorners.llms.credentials import Address
from fourcorners.llms.remote_errors import MAX_ERROR_BYTES, error_in_event, error_of, translated
from fourcorners.llms.retrying import Deadline, aretrying, retrying

JSON = dict[str, Any]


class Call(NamedTuple):
    """A request: path behind the server's URL, body, and by when it must be done."""

    path: str
    body: JSON
    deadline: Deadline = Deadline(None)


class Transport:
    """Connections to one server, kept open between requests. Safe from threads and event loops.

    ``connect_timeout_s`` bounds the making of a connection, ``read_timeout_s`` each silence of the server, the time to
    the first token included. A request that fails before its first event is tried up to ``max_retries`` times more.
    Redirects are not followed: they would carry prompts to a host that nobody named.
    """

    def __init__(self, address: Address, *, connect_timeout_s: float, read_timeout_s: float, max_retries: int) -> None:
        self.address, self._max_retries = address, max_retries
        self._timeout = httpx.Timeout(read_timeout_s, connect=connect_timeout_s, pool=None)
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None
        self._held: weakref.WeakKeyDictionary[Any, tuple[httpx.AsyncClient, AsyncGenerator[None, None]]]
        self._held = weakref.WeakKeyDictionary()

    def get(self, path: str, deadline: Deadline | None = None) -> Any:
        """The JSON at ``path``."""
        deadline = deadline or Deadline(None)
        for attempt in retrying(self._max_retries, deadline):
            with attempt, translated(self.address, deadline):
                response = self._sync_client().get(self.address.url + path, timeout=self._bounded(deadline))
                if response.status_code != httpx.codes.OK:
                    raise error_of(response.status_code, response.headers, response.content, self.address)
                return _json(response.content, self.address)
        raise AssertionError("tenacity ends with a result or an error")

    def events(self, call: Call) -> Generator[JSON, None, None]:
        """The events of an answer, or its one object where it is not streamed. Nothing is tried again behind the first
        event."""
        with ExitStack() as stack:
            for attempt in retrying(self._max_retries, call.deadline):
                with attempt:
                    payloads = self._open(call, stack)
                    first = next(payloads, None)
            if first is None:
                return
            yield first
            yield from payloads

    async def aevents(self, call: Call) -> AsyncGenerator[JSON, None]:
        """As ``events``."""
        async with AsyncExitStack() as stack:
            async for attempt in aretrying(self._max_retries, call.deadline):
                with attempt:
                    payloads = await self._aopen(call, stack)
                    first = await anext(payloads, None)
            if first is None:
                return
            yield first
            async for payload in payloads:
                yield payload

    def close(self) -> None:
        """Close what threads have used; the connections of an event loop are closed when it ends."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _open(self, call: Call, stack: ExitStack) -> Iterator[JSON]:
        stack.close()  # what an earlier try has left
        with translated(self.address, call.deadline):
            request = self._sync_client().stream(
                "POST", self.address.url + call.path, json=call.body, timeout=self._bounded(call.deadline)
            )
            response = stack.enter_context(request)
            if response.status_code != httpx.codes.OK:
                body = b"".join(_limited(response.iter_bytes()))
                raise error_of(response.status_code, response.headers, body, self.address)
        return self._payloads(response, call.deadline)

    async def _aopen(self, call: Call, stack: AsyncExitStack) -> AsyncGenerator[JSON, None]:
        await stack.aclose()
        with translated(self.address, call.deadline):
            client = await self._async_client()
            request = client.stream(
                "POST", self.address.url + call.path, json=call.body, timeout=self._bounded(call.deadline)
            )
            response = await stack.enter_async_context(request)
            if response.status_code != httpx.codes.OK:
                body = b""
                async for part in response.aiter_bytes():
                    body += part
                    if len(body) > MAX_ERROR_BYTES:
                        break
                raise error_of(response.status_code, response.headers, body, self.address)
        payloads = self._apayloads(response, call.deadline)
        stack.push_async_callback(payloads.aclose)
        return payloads

    def _payloads(self, response: httpx.Response, deadline: Deadline) -> Iterator[JSON]:
        if not _is_stream(response):
            with translated(self.address):
                yield _whole(response.read(), self.address)
            return
        events = EventSource(response).iter_sse()
        while True:
            with translated(self.address):
                event = next(events, None)
            if event is None or event.data.strip() == "[DONE]":
                return
            if payload := self._payload(event, deadline):
                yield payload

    async def _apayloads(self, response: httpx.Response, deadline: Deadline) -> AsyncGenerator[JSON, None]:
        if not _is_stream(response):
            with translated(self.address):
                yield _whole(await response.aread(), self.address)
            return
        async with aclosing(EventSource(response).aiter_sse()) as events:
            while True:
                with translated(self.address):
                    event = await anext(events, None)
                if event is None or event.data.strip() == "[DONE]":
                    return
                if payload := self._payload(event, deadline):
                    yield payload

    def _payload(self, event: ServerSentEvent, deadline: Deadline) -> JSON | None:
        """What an event says; None for one that says nothing, such as a sign of life."""
        if deadline.is_past:
            raise EngineTimeout(f"{self.address.url} was not done by the deadline: raise timeout_s")
        if not event.data.strip():
            return None
        payload = _json(event.data, self.address)
        if not isinstance(payload, dict):
            raise BackendError(f"{self.address.url} sent {shortened(event.data)}, which is no event of an answer")
        if event.event == "error" or "error" in payload:
            raise error_in_event(payload, self.address)
        return payload

    def _bounded(self, deadline: Deadline) -> httpx.Timeout:
        if deadline.left_s is None:
            return self._timeout
        left = max(deadline.left_s, 0.001)
        usual = self._timeout
        return httpx.Timeout(min(usual.read or left, left), connect=min(usual.connect or left, left), pool=None)

    def _sync_client(self) -> httpx.Client:
        with self._lock:
            if self._client is None:
                self._client = httpx.Client(headers=self._headers(), timeout=self._timeout, limits=_NO_LIMITS)
                weakref.finalize(self, self._client.close)
            return self._client

    async def _async_client(self) -> httpx.AsyncClient:
        """A client of this event loop's own, which is closed when the loop ends."""
        loop = asyncio.get_running_loop()
        with self._lock:
            held = self._held.get(loop)
        if held is None:
            client = httpx.AsyncClient(headers=self._headers(), timeout=self._timeout, limits=_NO_LIMITS)
            held = client, _until_the_loop_ends(client)
            with self._lock:
                self._held[loop] = held
            await anext(held[1])
        return held[0]

    def _headers(self) -> dict[str, str]:
        secret = self.address.authorization
        return {"authorization": secret.get_secret_value()} if secret is not None else {}


_NO_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=32)
"""Callers bound what they have under way; to wait for a free connection here would look like a slow server."""


async def _until_the_loop_ends(client: httpx.AsyncClient) -> AsyncGenerator[None, None]:
    # asyncio.run and uvicorn close the asynchronous generators that are left when a loop ends: a place to clean up.
    try:
        yield
    finally:
        await client.aclose()


def _is_stream(response: httpx.Response) -> bool:
    kind: str = response.headers.get("content-type", "")
    return kind.partition(";")[0].strip().lower() == "text/event-stream"


def _limited(parts: Iterator[bytes]) -> Iterator[bytes]:
    n_bytes = 0
    for part in parts:
        yield part
        n_bytes += len(part)
        if n_bytes > MAX_ERROR_BYTES:
            return


def _whole(body: bytes, address: Address) -> JSON:
    payload = _json(body, address)
    if not isinstance(payload, dict):
        raise BackendError(f"{address.url} sent {shortened(body)}, which is no answer")
    if payload.get("error"):
        raise error_in_event(payload, address)
    return payload


def _json(body: bytes | str, address: Address) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        said = shortened(address.without_secrets(str(body[:200])))
        raise BackendError(
            f"{address.url} sent {said}, which is no JSON: is it the kind of server that was named?"
        ) from None


__all__ = ["Call", "Transport"]
