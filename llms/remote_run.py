"""One answer of a remote model: drives a policy with what a server sends, and tells at the end what happened."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import Any, Protocol

from langchain_core.outputs import GenerationChunk

from fourcorners.errors import BackendInterrupted, EngineError
from fourcorners.grounding.decoding import Outcome, Piece
from fourcorners.llms.asking import FINISH_REASONS, Ask, Delta, Next
from fourcorners.llms.remote_policies import Policy
from fourcorners.llms.transport import Call, Transport


class Reader(Protocol):
    """Understands the events of one answer of one kind of server."""

    def read(self, payload: dict[str, Any]) -> Delta:
        """What an event says. A finish reason comes with the last that has text, or behind it."""


class Backend(Protocol):
    """Turns what is asked into a request of one kind of server."""

    transport: Transport

    def call(self, ask: Ask, streamed: bool) -> Call:
        """The request. Raises SettingsError for a setting that the server can't do."""

    def reader(self) -> Reader:
        """For the events of one answer."""


class RemoteRun:
    """The chunks of one answer; iterated once. ``info`` is what the last chunk tells beside usage and timing.

    Where a server fails amid an answer the error is raised, and has the text that was released in ``partial``.
    """

    def __init__(
        self, policy: Policy, backend: Backend, info: dict[str, Any], *, streamed: bool, keep_logprobs: bool
    ) -> None:
        self._policy, self._backend, self._streamed = policy, backend, streamed
        self._info, self._keep_logprobs = info, keep_logprobs
        self._logprobs: list[dict[str, Any]] = []
        self._usage: Counter[str] = Counter()
        self._released = ""
        self._finish = ""
        self._started, self._first = time.monotonic(), 0.0

    def chunks(self) -> Iterator[GenerationChunk]:
        """Text chunks, then one empty chunk that carries the info."""
        events: Generator[dict[str, Any], None, None] | None = None
        try:
            step = next(self._policy, None)
            while step is not None:
                reply = None
                if isinstance(step, Ask):
                    if events is not None:
                        events.close()
                    events, reader = self._backend.transport.events(self._begun(step)), self._backend.reader()
                elif isinstance(step, Next):
                    assert events is not None
                    payload = next(events, None)
                    reply = self._read(reader, payload)
                elif text := self._take(step):
                    yield GenerationChunk(text=text)
                step = self._go_on(reply)
        except EngineError as error:
            raise self._with_partial(error)  # noqa: B904 - it is the error itself
        finally:
            self._policy.close()
            if events is not None:
                events.close()
        yield self._last_chunk()

    async def achunks(self) -> AsyncIterator[GenerationChunk]:
        """As ``chunks``."""
        events: AsyncGenerator[dict[str, Any], None] | None = None
        try:
            step = next(self._policy, None)
            while step is not None:
                reply = None
                if isinstance(step, Ask):
                    if events is not None:
                        await events.aclose()
                    events, reader = self._backend.transport.aevents(self._begun(step)), self._backend.reader()
                elif isinstance(step, Next):
                    assert events is not None
                    payload = await anext(events, None)
                    reply = self._read(reader, payload)
                elif text := self._take(step):
                    yield GenerationChunk(text=text)
                step = self._go_on(reply)
        except EngineError as error:
            raise self._with_partial(error)  # noqa: B904
        finally:
            self._policy.close()
            if events is not None:
                await events.aclose()
        yield self._last_chunk()

    def _begun(self, ask: Ask) -> Call:
        self._finish = ""
        return self._backend.call(ask, self._streamed)

    def _go_on(self, reply: Delta | None) -> Any:
        try:
            return self._policy.send(reply)
        except StopIteration:
            return None

    def _read(self, reader: Reader, payload: dict[str, Any] | None) -> Delta | None:
        if payload is None:
            if not self._finish:
                raise BackendInterrupted(
                    f"{self._backend.transport.address.url} ended the answer without saying why: the connection may "
                    f"have been cut; try again"
                )
            return None
        delta = reader.read(payload)
        if delta.finish_reason:
            self._finish = FINISH_REASONS.get(delta.finish_reason, delta.finish_reason)
            delta = delta._replace(finish_reason=self._finish)
        self._usage.update(delta.usage)
        if self._keep_logprobs:
            self._logprobs.extend(map(dict, delta.logprobs))
        return delta

    def _take(self, step: Any) -> str:
        """Account for what the policy says; returns the text to show."""
        if isinstance(step, Outcome):
            self._finish = step.finish_reason
            self._info |= {
                "refused": step.refused,
                "score": None,
                "threshold": None,
                "citations": [citation.as_dict() for citation in step.citations],
                **step.details,
            }
            return ""
        if isinstance(step, Delta):
            self._finish = step.finish_reason or self._finish
            return ""
        assert isinstance(step, Piece)
        if step.text and not self._first:
            self._first = time.monotonic()
        self._released += step.text
        return step.text

    def _with_partial(self, error: EngineError) -> EngineError:
        error.partial = self._released
        return error

    def _last_chunk(self) -> GenerationChunk:
        ended = time.monotonic()
        usage = dict(self._usage)
        if "prompt_tokens" in usage and "completion_tokens" in usage:
            usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
        if lost := self._info.pop("n_left_out_unverified", 0):
            usage["left_out_unverified"] = lost
        taken = max(ended - self._started, 1e-9)
        timing = {
            "time_to_first_token_s": round((self._first or ended) - self._started, 6),
            "tokens_per_s": round(usage.get("completion_tokens", 0) / taken, 3),
        }
        info = {**self._info, "finish_reason": self._finish or "stop", "usage": usage, "timing": timing}
        if self._keep_logprobs:
            info["logprobs"] = self._logprobs
        return GenerationChunk(text="", generation_info=info)


__all__ = ["Backend", "Reader", "RemoteRun"]
