"""The load generator: a light client for ``POST /v1/completions`` with server-sent events.

It shares the machine with the server that it measures, so while an answer runs it only keeps the bytes and the time
they came at; they are read once the answer is over. (Tried: httpx takes about four times as much processor time per
event, 180 against 47 µs.) Every request has a connection of its own: llama-server closes most of its after an answer,
and keeps a thread waiting on each of the others.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

END = b"\r\n0\r\n\r\n"
"""How a chunked reply ends."""
TIMEOUT_S = 300.0
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


@dataclass(frozen=True, slots=True)
class Ask:
    """A prompt and how many tokens its answer must have."""

    prompt: str
    max_tokens: int


@dataclass(slots=True)
class Answer:
    """What came back, in seconds since the request was sent. ``fault`` is empty for a complete answer."""

    text: str = ""
    first_s: float = 0.0
    """Until the first text."""
    last_s: float = 0.0
    """Until the last text, or the reason for ending: a server may hold back text that is not yet whole UTF-8."""
    finish: str = ""
    n_tokens: int | None = None
    """As the server counts them; None where it does not tell."""
    n_cached: int | None = None
    fault: str = ""
    tokens: list[tuple[str, dict[str, float]]] = field(default_factory=list)
    """Where log-probabilities were asked for: each token's text, and the best choices in its place."""


class Asker(Protocol):
    """One client: one request at a time."""

    async def ask(self, ask: Ask) -> Answer:
        """The answer; problems are told in its ``fault``."""

    def close(self) -> None:
        """Hang up; an answer under way is lost."""


class Client:
    """Requests to an OpenAI-compatible server. ``extra`` goes into the body of each."""

    def __init__(self, port: int, extra: Mapping[str, Any] | None = None) -> None:
        self._port, self.extra = port, dict(extra or {})
        self._wire: _Wire | None = None
        self.cut_text = False
        """Whether the answer that was cancelled last had begun."""

    async def ask(self, ask: Ask) -> Answer:
        """See Asker. Every request sends ``ignore_eos`` and temperature 0."""
        request, started = self._request(ask), time.perf_counter()
        try:
            loop = asyncio.get_running_loop()
            _, self._wire = await loop.create_connection(_Wire, "127.0.0.1", self._port)
            await asyncio.wait_for(self._wire.send(request), TIMEOUT_S)
            return check(ask, read_answer(self._wire.parts, started))
        except TimeoutError:
            return Answer(fault=f"not over after {TIMEOUT_S:.0f} s")
        except (OSError, ValueError) as error:  # the second: what came can't be read
            return Answer(fault=f"{type(error).__name__}: {error}")
        except asyncio.CancelledError:
            self.cut_text = self._wire is not None and any(b"data:" in part for _, part in self._wire.parts)
            raise
        finally:
            self.close()

    def close(self) -> None:
        """See Asker."""
        if self._wire is not None:
            self._wire.abort()
        self._wire = None

    def _request(self, ask: Ask) -> bytes:
        body = {
            "prompt": ask.prompt,
            "max_tokens": ask.max_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
            **self.extra,
        }
        content = json.dumps(body).encode()
        head = (
            f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        return head.encode() + content


class _Wire(asyncio.Protocol):
    """A connection that keeps the parts of its reply with the time at which each came."""

    def __init__(self) -> None:
        self.parts: list[tuple[float, bytes]] = []
        self._transport: asyncio.Transport | None = None
        self._over = asyncio.get_running_loop().create_future()
        self._n_left: int | None = None
        self._tail = b""
        self._has_head = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish()

    async def send(self, request: bytes) -> None:
        """Send ``request`` and wait for the whole reply, or for the end of the connection."""
        assert self._transport is not None
        self._transport.write(request)
        await self._over

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self.parts.append((time.perf_counter(), data))
        if not self._has_head:
            so_far = b"".join(part for _, part in self.parts)
            head, gap, data = so_far.partition(b"\r\n\r\n")
            if not gap:
                return
            self._has_head, self._tail = True, b"\r\n"
            if length := _LENGTH.search(head):
                self._n_left = int(length[1])
        if self._n_left is not None:
            self._n_left -= len(data)
            ended = self._n_left <= 0
        else:
            self._tail = (self._tail + data)[-len(END) :]
            ended = self._tail == END
        if ended:
            self._finish()

    def _finish(self) -> None:
        if not self._over.done():
            self._over.set_result(None)


def read_answer(parts: Sequence[tuple[float, bytes]], started: float) -> Answer:
    """The answer that ``parts`` spell."""
    head, _, body = b"".join(part for _, part in parts).partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1:2]
    if status != [b"200"]:
        said = body[:300].decode("utf-8", "replace") if head else "the server hung up"
        return Answer(fault=f"HTTP {b''.join(status).decode() or '-'}: {said}")
    answer, pieces = Answer(), []
    for at, event in _events(parts, len(head) + 4):
        if isinstance(usage := event.get("usage"), dict):
            answer.n_tokens = usage.get("completion_tokens")
            answer.n_cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
        if "error" in event:
            answer.fault = f"error event: {event['error']}"
        for choice in event.get("choices", ()):
            answer.finish = choice.get("finish_reason") or answer.finish
            if told := choice.get("logprobs"):
                answer.tokens += zip(told["tokens"], told["top_logprobs"], strict=True)
            if text := choice.get("text"):
                answer.first_s = answer.first_s or at - started
                pieces.append(text)
            if text or choice.get("finish_reason"):
                answer.last_s = at - started
    answer.text = "".join(pieces)
    return answer


def check(ask: Ask, answer: Answer) -> Answer:
    """``answer`` with a fault where it lacks tokens."""
    if not answer.fault and answer.finish != "length":
        answer.fault = f"ended with {answer.finish or 'no reason'!r} before {ask.max_tokens} tokens"
    if not answer.fault and answer.n_tokens is not None and answer.n_tokens != ask.max_tokens:
        answer.fault = f"{answer.n_tokens} tokens instead of {ask.max_tokens}"
    return answer


def _events(parts: Sequence[tuple[float, bytes]], start: int) -> Iterator[tuple[float, dict[str, Any]]]:
    """The JSON events of a chunked reply whose body begins at byte ``start``, each with the time it was complete."""
    raw = b"".join(part for _, part in parts)
    ends, total = [], 0
    for _, part in parts:
        total += len(part)
        ends.append(total)
    body, chunk_ends, chunk_times = [], [], []
    length = 0
    while (line_end := raw.find(b"\r\n", start)) > 0:
        size = int(raw[start:line_end].split(b";")[0] or b"0", 16)
        if not size:
            break
        stop = line_end + 2 + size
        body.append(raw[line_end + 2 : stop])
        length += size
        chunk_ends.append(length)
        chunk_times.append(parts[min(bisect_left(ends, stop), len(parts) - 1)][0])
        start = stop + 2
    at = 0
    for line in b"".join(body).split(b"\n")[:-1]:
        at += len(line) + 1
        data = line.strip().removeprefix(b"data:").strip()
        if line.startswith(b"data:") and data.startswith(b"{"):
            index = min(bisect_left(chunk_ends, at - 1), len(chunk_times) - 1)
            yield chunk_times[index], json.loads(data)


async def spread(new_client: Callable[[], Asker], asks: Sequence[Ask], n_clients: int) -> tuple[list[Answer], float]:
    """Ask all of ``asks`` in order, by ``n_clients`` clients at once; the answers and the seconds it took."""
    answers = [Answer(fault="not asked")] * len(asks)
    waiting = iter(enumerate(asks))

    async def work() -> None:
        client = new_client()
        try:
            for index, ask in waiting:
                answers[index] = await client.ask(ask)
        finally:
            client.close()

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(n_clients)))
    return answers, time.perf_counter() - started
