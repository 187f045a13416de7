"""``POST /v1/completions`` and ``GET /v1/models`` as OpenAI has them: a raw prompt, and text that nothing grounds.

For load tools, and for clients that know nothing else; off unless ``serve --raw``. One model is served: ``model`` may
be any name, and comes back in the answer. Beside OpenAI's fields there are those of other servers of open models
(``top_k``, ``min_p``, ``repetition_penalty`` or ``repeat_penalty``, ``ignore_eos``) and one constraint:
``response_format``, ``grammar`` (Lark), ``regex`` or ``choice``. A field that is not known, or asks for what is not
done here, is an error.

Errors are OpenAI's: ``{"error": {"message", "type", "param", "code"}}`` with 400 for input that can't be used, 413,
415, 503 (with ``Retry-After`` where the queue is full) or 500. What goes wrong in a stream ends it with such an object
as its last event, without ``[DONE]``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol, cast

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from fourcorners.completion_request import CompletionRequest
from fourcorners.errors import ContextOverflow, EngineBusy, FourCornersError, InputError, SettingsError, shortened
from fourcorners.rest import disconnected, headers_of, read_json, status_and_message

log = logging.getLogger("uvicorn.error")

QUICK_CHARS = 8_000
"""A prompt up to this long is tokenised in a few milliseconds: sooner done than handed to another thread."""
LEAST_LOGPROB = -9999.0
"""What stands for minus infinity, which JSON can't say."""

# What the model must offer


class TokenLogprob(Protocol):
    """One token, with its log-probability and those of the most probable tokens in its place."""

    @property
    def text(self) -> str: ...
    @property
    def logprob(self) -> float: ...
    @property
    def top(self) -> Sequence[tuple[str, float]]: ...


class Piece(Protocol):
    """A part of the text; empty where a token makes no whole character yet."""

    @property
    def text(self) -> str: ...
    @property
    def logprobs(self) -> Sequence[TokenLogprob]: ...


class Completion(Protocol):
    """A text under way: each step of the iteration gives all the pieces that are ready.

    The reason and the counts are there when it has ended.
    """

    @property
    def finish_reason(self) -> str:
        """``stop`` or ``length``."""
        ...

    @property
    def usage(self) -> Mapping[str, int]:
        """``prompt_tokens``, ``completion_tokens`` and ``cached_tokens``."""
        ...

    def __aiter__(self) -> AsyncIterator[Sequence[Piece]]: ...

    def cancel(self) -> None:
        """Stop it; nothing happens to one that has ended."""
        ...


class Completer(Protocol):
    """A model that completes raw prompts."""

    def complete(self, prompt: str | list[int], /, **settings: Any) -> Completion:
        """Begin, without waiting for the model. Raises SettingsError, ContextOverflow or EngineBusy at once."""
        ...


def completer_of(llm: object) -> Completer:
    """``llm``, if it completes raw prompts. Raises SettingsError if it does not."""
    if not callable(getattr(llm, "complete", None)):
        raise SettingsError(
            f"raw completions (--raw, FOURCORNERS_RAW) need a model run by llama.cpp in this process, and "
            f"{type(llm).__name__} is none: leave raw out, or choose bundled or llama_cpp:PATH as the model"
        )
    return cast("Completer", llm)


# The routes


def completion_routes(llm: object) -> APIRouter:
    """The routes. Raises SettingsError if ``llm`` does not complete raw prompts."""
    completer, made = completer_of(llm), int(time.time())
    name = Path(getattr(llm, "model_path", "") or "fourcorners").stem
    router = APIRouter(route_class=_OpenAiRoute, tags=["raw completions"])

    @router.post("/v1/completions")
    async def completions(wanted: CompletionRequest) -> Response:
        """Continue a raw prompt, as OpenAI's completions do. The text is not grounded."""
        completion = await _begun(completer, wanted)
        answer = _Answer(wanted.model or name, wanted.logprobs)
        if wanted.stream:
            include_usage = wanted.stream_options is not None and wanted.stream_options.include_usage
            return _EventStream(completion, answer, include_usage)
        return JSONResponse(await answer.whole(completion))

    @router.get("/v1/models")
    async def models() -> Response:
        """The one model that is served."""
        served = {"id": name, "object": "model", "created": made, "owned_by": "fourcorners"}
        return JSONResponse({"object": "list", "data": [served]})

    return router


async def _begun(completer: Completer, wanted: CompletionRequest) -> Completion:
    """Without holding up the event loop, and so that nothing runs on for a client that goes away meanwhile."""
    prompt, settings = wanted.prompt, wanted.settings()
    if not wanted.constraint() and (isinstance(prompt, list) or len(prompt) <= QUICK_CHARS):
        return completer.complete(prompt, **settings)
    beginning = asyncio.get_running_loop().run_in_executor(None, lambda: completer.complete(prompt, **settings))
    try:
        return await asyncio.shield(beginning)
    except asyncio.CancelledError:
        beginning.add_done_callback(_cancel_begun)
        raise


def _cancel_begun(beginning: asyncio.Future[Completion]) -> None:
    if not beginning.cancelled() and beginning.exception() is None:
        beginning.result().cancel()


class _OpenAiRoute(APIRoute):
    """Errors as OpenAI words them."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's hook for what happens around every request of a route."""
        original = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                if request.method == "POST":
                    await read_json(request)  # which the request keeps
                return await original(request)
            except ClientDisconnect:
                raise
            except Exception as error:
                return _error_response(error)

        return handler


# What a client gets


class _Answer:
    """The objects of one answer, which share their id, time and model."""

    def __init__(self, model: str, n_top: int | None) -> None:
        self._head = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
        }
        self._n_top, self._n_chars = n_top, 0
        # json.dumps of a whole chunk would take three times as long as that of its text.
        before, after = _json(self._object("\0")).rsplit(_json("\0"), maxsplit=1)
        self._before, self._after = f"data: {before}", f"{after}\n\n"

    async def whole(self, completion: Completion) -> dict[str, Any]:
        """All of it as one object."""
        pieces: list[Piece] = []
        try:
            async for ready in completion:
                pieces += ready
        except BaseException:
            completion.cancel()
            raise
        text = "".join([piece.text for piece in pieces])
        whole = self._object(text, self._logprobs(pieces), completion.finish_reason)
        return {**whole, "usage": _usage(completion.usage)}

    def events(self, pieces: Sequence[Piece]) -> bytes:
        """The pieces as server-sent events, one for each, in one go."""
        if self._n_top is not None:
            told = [piece for piece in pieces if piece.text or piece.logprobs]
            return b"".join([self._event(self._object(piece.text, self._logprobs([piece]))) for piece in told])
        before, after = self._before, self._after
        return "".join([before + json.dumps(piece.text) + after for piece in pieces if piece.text]).encode()

    def end(self, completion: Completion, include_usage: bool) -> bytes:
        """The events behind the last piece."""
        last = self._event(self._object("", finish_reason=completion.finish_reason))
        if include_usage:
            last += self._event({**self._head, "choices": [], "usage": _usage(completion.usage)})
        return last + b"data: [DONE]\n\n"

    def _event(self, content: Mapping[str, Any]) -> bytes:
        return f"data: {_json(content)}\n\n".encode()

    def _object(self, text: str, logprobs: Any = None, finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"text": text, "index": 0, "logprobs": logprobs, "finish_reason": finish_reason}
        return {**self._head, "choices": [choice]}

    def _logprobs(self, pieces: Sequence[Piece]) -> dict[str, Any] | None:
        """In OpenAI's form; ``text_offset`` counts characters from the beginning of the answer."""
        if self._n_top is None:
            return None
        entries = [entry for piece in pieces for entry in piece.logprobs]
        offsets = []
        for entry in entries:
            offsets.append(self._n_chars)
            self._n_chars += len(entry.text)
        return {
            "tokens": [entry.text for entry in entries],
            "token_logprobs": [max(entry.logprob, LEAST_LOGPROB) for entry in entries],
            # Back to front, so that of tokens that read alike (parts of characters do) the most probable stays.
            "top_logprobs": [
                {text: max(value, LEAST_LOGPROB) for text, value in reversed(entry.top[: self._n_top])}
                for entry in entries
            ],
            "text_offset": offsets,
        }


class _EventStream(Response):
    """One write for all pieces that are ready. It begins with the first of them: an error before that has a status."""

    media_type = "text/event-stream"

    def __init__(self, completion: Completion, answer: _Answer, include_usage: bool) -> None:
        # Not Response's own, which would count the bytes of a body that is not there yet.
        self.status_code, self.background = HTTPStatus.OK, None
        self.init_headers({"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        self._completion, self._answer, self._include_usage = completion, answer, include_usage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # In a task of its own: here each piece would wake it through the frames of the whole app around it.
        sending = asyncio.create_task(self._send(scope, receive, send))
        gone = asyncio.create_task(disconnected(receive))
        try:
            await asyncio.wait((sending, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            sending.cancel()
            self._completion.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sending

    async def _send(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun, events = False, self._answer.events
        try:
            async for pieces in self._completion:
                if not begun:
                    await self._begin(send)
                    begun = True
                if body := events(pieces):
                    await send({"type": "http.response.body", "body": body, "more_body": True})
            last = self._answer.end(self._completion, self._include_usage)
        except Exception as error:
            refusal = _error_response(error)
            if not begun:
                await refusal(scope, receive, send)
                return
            last = b"data: " + bytes(refusal.body) + b"\n\n"
        if not begun:
            await self._begin(send)
        await send({"type": "http.response.body", "body": last, "more_body": False})

    async def _begin(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _usage(counts: Mapping[str, int]) -> dict[str, Any]:
    prompt, new = counts["prompt_tokens"], counts["completion_tokens"]
    return {
        "prompt_tokens": prompt,
        "completion_tokens": new,
        "total_tokens": prompt + new,
        "prompt_tokens_details": {"cached_tokens": counts["cached_tokens"]},
    }


# What a client gets when something is wrong


def _error_response(error: Exception) -> JSONResponse:
    param = code = None
    if isinstance(error, RequestValidationError):
        message, param = _problem(error.errors())
        status = 400
    elif isinstance(error, HTTPException):
        status, message = 400 if error.status_code == 422 else error.status_code, str(error.detail)
    else:
        status, message = status_and_message(error)
        if isinstance(error, InputError):
            status = 400
        if not isinstance(error, FourCornersError):
            log.error("unexpected error in a completion", exc_info=error)
        if isinstance(error, ContextOverflow):
            code = "context_length_exceeded"
        elif isinstance(error, EngineBusy):
            code = "overloaded"
    kind = "invalid_request_error" if status < 500 else "server_error"
    content = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return JSONResponse(content, status_code=status, headers=headers_of(error))


def _problem(errors: Sequence[Any]) -> tuple[str, str | None]:
    """What is wrong, and the field that it is wrong with."""
    unknown = [".".join(map(str, error["loc"][1:])) for error in errors if error["type"] == "extra_forbidden"]
    if unknown:
        known = ", ".join(CompletionRequest.model_fields)
        return f"unknown field {', '.join(map(shortened, unknown))}; known fields: {known}", unknown[0]
    first = errors[0]
    # Of a union pydantic names the member too: a field's own name is the first step.
    place = str(first["loc"][1]) if len(first["loc"]) > 1 else None
    if first["type"] == "value_error":
        return first["msg"].removeprefix("Value error, "), place
    if first["type"] == "missing":
        return f"{first['loc'][-1]} is missing", place
    expected = first["msg"].removeprefix("Input should be ")
    return f"{place or 'the body'}: expected {expected}, got {shortened(first['input'])}", place


__all__ = ["Completer", "Completion", "completer_of", "completion_routes"]
