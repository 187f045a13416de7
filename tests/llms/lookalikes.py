"""Servers that are none: they take what TGI, vLLM, SGLang and other OpenAI-compatible servers publish that they take.

No TGI, no vLLM and no SGLang: no model is behind them, and what passes here has not been run against the real thing.
What they are for is that a request with a wrong field, value or type is refused as strictly as the published schema
allows, and that answers come in the published form. Sources as in ``llms/wire.py``.

In place of a model stands a rule: it names or copies the line that shares most words with the question, or refuses;
without a context it counts. It keeps to a pattern because it picks what the pattern lets through.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

REFUSAL = "Unsure about answer"
WINDOW_TOKENS = 2_000


@dataclass
class Seen:
    """What came in, and how the server is to behave."""

    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    n_looked_at: int = 0
    ignores_pattern: bool = False
    says: str | None = None
    delay_s: float = 0.0
    n_left: int = 0

    async def tokens(self, text: str) -> AsyncIterator[str]:
        """The text token by token."""
        for token in re.findall(r"\s*\w+|\s*[^\w\s]|\s+", text):
            await asyncio.sleep(self.delay_s)
            yield token

    async def watched(self, events: AsyncIterator[str]) -> AsyncGenerator[str, None]:
        """The events; counts those who leave before the end."""
        done = False
        try:
            async for event in events:
                yield event
            done = True
        finally:
            self.n_left += not done


def n_tokens(text: str) -> int:
    return len(re.findall(r"\w+|[^\w\s]", text))


def said(prompt: str, seen: Seen, regex: str | None, seed: int | None, temperature: float) -> str:
    """What stands in place of a model says."""
    if seen.says is not None:
        return seen.says
    question = re.findall(r"Question: (.*)", prompt)
    if regex is not None and not seen.ignores_pattern:
        candidates = [*_numbers(prompt, question), REFUSAL, *_runs(prompt)]
        return next(text for text in candidates if re.fullmatch(regex, text))
    if question:
        return _best(re.findall(r"(?:^|\n)(?!Question|You |Answer)(.+)", prompt), question[-1]) or REFUSAL
    chance = random.Random(seed if seed is not None else random.random())
    numbers = [str(n) for n in range(1, 400)]
    if temperature > 0:
        chance.shuffle(numbers)
    return " ".join(numbers)


def _numbers(prompt: str, question: list[str]) -> list[str]:
    lines = re.findall(r"\[(\d+)\] (.*)", prompt)
    ranked = sorted(lines, key=lambda line: -_overlap(line[1], question[-1] if question else ""))
    if not ranked or not _overlap(ranked[0][1], question[-1] if question else ""):
        return []
    return [", ".join(number for number, _ in ranked[:n]) for n in range(len(ranked), 0, -1)]


def _runs(prompt: str) -> list[str]:
    words = re.findall(r"Sentence:\n(.*)", prompt)
    if not words:
        return []
    parts = words[-1].split(" ")
    return [" ".join(parts[n:]).rstrip(".") for n in range(len(parts) - 1, -1, -1)]


def _best(lines: list[str], question: str) -> str:
    sentences = [one.strip() for line in lines for one in re.split(r"(?<=[.!?]) ", line)]
    best = max(sentences, key=lambda sentence: _overlap(sentence, question), default="")
    return best if _overlap(best, question) else ""


def _overlap(sentence: str, question: str) -> int:
    words = {word.lower() for word in re.findall(r"\w{4,}", question)}
    return sum(word.lower() in words for word in re.findall(r"\w+", sentence))


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


# TGI


class Grammar(_Strict):
    type: Literal["regex", "json"]
    value: Any


class Parameters(_Strict):
    best_of: int | None = None
    decoder_input_details: bool = False
    details: bool = True
    do_sample: bool = False
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    grammar: Grammar | None = None
    max_new_tokens: Annotated[int, Field(gt=0)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0)] | None = None
    return_full_text: bool | None = None
    seed: Annotated[int, Field(ge=0)] | None = None
    stop: Annotated[list[str], Field(max_length=4)] = []
    temperature: Annotated[float, Field(gt=0)] | None = None
    top_k: Annotated[int, Field(gt=0)] | None = None
    top_n_tokens: Annotated[int, Field(ge=0, le=5)] | None = None
    top_p: Annotated[float, Field(gt=0, lt=1)] | None = None
    truncate: int | None = None
    typical_p: Annotated[float, Field(gt=0, lt=1)] | None = None
    watermark: bool = False


class GenerateRequest(_Strict):
    inputs: str
    parameters: Parameters = Parameters()


def no_tgi(seen: Seen, model_id: str = "mistralai/Mistral-7B-Instruct-v0.2") -> FastAPI:
    """What takes requests as TGI 3.3 publishes them."""
    app = FastAPI()
    _refuses(app, lambda message: {"error": f"Input validation error: {message}", "error_type": "validation"}, 422)

    @app.get("/info")
    async def info() -> dict[str, Any]:
        seen.n_looked_at += 1
        limits = {"max_total_tokens": WINDOW_TOKENS, "max_input_tokens": WINDOW_TOKENS - 1, "max_stop_sequences": 4}
        rest = {"max_concurrent_requests": 128, "max_best_of": 2, "max_client_batch_size": 4, "validation_workers": 2}
        return {"model_id": model_id, **limits, **rest, "router": "text-generation-router", "version": "3.3.6-no-tgi"}

    @app.post("/generate_stream")
    async def generate(request: Request, wanted: GenerateRequest) -> Response:
        seen.requests.append(wanted.model_dump(exclude_unset=True))
        seen.headers.append(dict(request.headers))
        settings, n_prompt = wanted.parameters, n_tokens(wanted.inputs)
        if not wanted.inputs:
            return JSONResponse({"error": "`inputs` cannot be empty", "error_type": "validation"}, 422)
        new = settings.max_new_tokens or 100
        if n_prompt + new > WINDOW_TOKENS:
            said_so = (
                f"Input validation error: `inputs` tokens + `max_new_tokens` must be <= {WINDOW_TOKENS}. "
                f"Given: {n_prompt} `inputs` tokens and {new} `max_new_tokens`"
            )
            return JSONResponse({"error": said_so, "error_type": "validation"}, 422)
        regex = settings.grammar.value if settings.grammar and settings.grammar.type == "regex" else None
        text = said(wanted.inputs, seen, regex, settings.seed, settings.temperature or 0)
        return StreamingResponse(
            seen.watched(_tgi_events(seen, text, settings, n_prompt)), media_type="text/event-stream"
        )

    return app


async def _tgi_events(seen: Seen, text: str, settings: Parameters, n_prompt: int) -> AsyncIterator[str]:
    whole, index, reason, held = "", 0, "", None
    async for token in seen.tokens(text):
        if held is not None:
            yield held
        index += 1
        whole += token
        event = {"index": index, "token": _tgi_token(token), "generated_text": None, "details": None}
        if settings.top_n_tokens:
            event["top_tokens"] = [_tgi_token(token)] * settings.top_n_tokens
        held = f"data:{json.dumps(event, ensure_ascii=False)}\n\n"
        # Like TGI, text behind a stop string is cut, the stop string itself is not.
        if any(stop in whole for stop in settings.stop):
            reason = "stop_sequence"
        elif index == settings.max_new_tokens:
            reason = "length"
        if reason:
            break
    if not reason:
        if held is not None:
            yield held
        index, reason = index + 1, "eos_token"
        event = {"index": index, "token": {**_tgi_token("</s>"), "special": True}, "generated_text": None}
    details = {"finish_reason": reason, "generated_tokens": index, "input_length": n_prompt, "seed": settings.seed}
    yield f"data:{json.dumps({**event, 'generated_text': whole, 'details': details}, ensure_ascii=False)}\n\n"


def _tgi_token(text: str) -> dict[str, Any]:
    return {"id": 7, "text": text, "logprob": -0.5, "special": False}


# OpenAI-compatible


class StructuredOutputs(_Strict):
    """vLLM's."""

    json_: Any = Field(None, alias="json")
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None


class StreamOptions(_Strict):
    include_usage: bool = False


class Message(_Strict):
    role: Literal["system", "user", "assistant"]
    content: str


class ChatRequest(_Strict):
    """OpenAI's own fields."""

    model: str
    messages: Annotated[list[Message], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    seed: int | None = None
    stop: Annotated[list[str], Field(max_length=4)] = []
    stream: bool = False
    stream_options: StreamOptions | None = None
    response_format: dict[str, Any] | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    user: str | None = None


class OpenModelRequest(ChatRequest):
    """What vLLM and SGLang add."""

    stop: list[str] = []
    top_k: Annotated[int, Field(ge=-1)] = -1
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    ignore_eos: bool = False


class VllmRequest(OpenModelRequest):
    structured_outputs: StructuredOutputs | None = None


class OldVllmRequest(OpenModelRequest):
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_json: Any = None


class SglangRequest(OpenModelRequest):
    regex: str | None = None
    ebnf: str | None = None


Kind = Literal["openai", "vllm", "vllm-old", "sglang"]
_KINDS: dict[str, type[ChatRequest]] = {
    "openai": ChatRequest,
    "vllm": VllmRequest,
    "vllm-old": OldVllmRequest,
    "sglang": SglangRequest,
}


def no_openai(seen: Seen, kind: Kind = "openai", model: str = "some-model") -> FastAPI:
    """What takes requests as OpenAI, vLLM or SGLang publish them."""
    app, request_type = FastAPI(), _KINDS[kind]
    _refuses(app, lambda message: {"error": {"message": message, "type": "invalid_request_error", "code": 400}}, 400)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        seen.n_looked_at += 1
        entry = {"id": model, "object": "model", "created": 1, "owned_by": kind.partition("-")[0]}
        return {"object": "list", "data": [entry | ({} if kind == "openai" else {"max_model_len": WINDOW_TOKENS})]}

    @app.get("/version")
    async def version() -> dict[str, str]:
        return {"version": "0.9.2" if kind == "vllm-old" else "0.12.0"}

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        raw = await request.json()
        try:
            wanted = request_type.model_validate(raw)
        except ValueError as error:
            return JSONResponse({"error": {"message": str(error), "type": "invalid_request_error"}}, 400)
        seen.requests.append(raw)
        seen.headers.append(dict(request.headers))
        prompt = "\n\n".join(message.content for message in wanted.messages)
        n_prompt = n_tokens(prompt)
        if n_prompt + (wanted.max_tokens or 0) > WINDOW_TOKENS:
            told = f"This model's maximum context length is {WINDOW_TOKENS} tokens. However, you requested more."
            return JSONResponse({"error": {"message": told, "type": "BadRequestError", "code": 400}}, 400)
        text = said(prompt, seen, _regex_of(wanted), wanted.seed, wanted.temperature)
        body = seen.watched(_openai_events(seen, text, wanted, n_prompt))
        if wanted.stream:
            return StreamingResponse(body, media_type="text/event-stream")
        return JSONResponse(await _openai_whole(body, request))

    return app


def _regex_of(wanted: ChatRequest) -> str | None:
    if isinstance(wanted, VllmRequest) and wanted.structured_outputs:
        return wanted.structured_outputs.regex
    found: str | None = getattr(wanted, "guided_regex", None) or getattr(wanted, "regex", None)
    return found


async def _openai_events(seen: Seen, text: str, wanted: ChatRequest, n_prompt: int) -> AsyncIterator[str]:
    whole, n_new, reason = "", 0, "stop"
    yield _chunk({"delta": {"role": "assistant", "content": ""}, "finish_reason": None})
    async for token in seen.tokens(text):
        n_new += 1
        whole += token
        # Like OpenAI, the stop string and what follows are cut.
        found = [whole.index(stop) for stop in wanted.stop if stop in whole]
        if found:
            token = token[: max(0, len(token) - (len(whole) - min(found)))]
        logprobs = {"content": [{"token": token, "logprob": -0.5, "top_logprobs": []}]} if wanted.logprobs else None
        yield _chunk({"delta": {"content": token}, "logprobs": logprobs, "finish_reason": None})
        if found:
            break
        if n_new == wanted.max_tokens:
            reason = "length"
            break
    yield _chunk({"delta": {}, "finish_reason": reason})
    if not wanted.stream or (wanted.stream_options and wanted.stream_options.include_usage):
        usage = {"prompt_tokens": n_prompt, "completion_tokens": n_new, "total_tokens": n_prompt + n_new}
        yield f"data: {json.dumps({'id': 'x', 'object': 'chat.completion.chunk', 'choices': [], 'usage': usage})}\n\n"
    yield "data: [DONE]\n\n"


def _chunk(choice: dict[str, Any]) -> str:
    return (
        f"data: {json.dumps({'id': 'x', 'object': 'chat.completion.chunk', 'choices': [{'index': 0, **choice}]})}\n\n"
    )


async def _openai_whole(events: AsyncGenerator[str, None], request: Request) -> dict[str, Any]:
    """All of it as one object; like vLLM it stops where nobody waits any more."""
    payloads = []
    async for event in events:
        if await request.is_disconnected():
            await events.aclose()
            return {}
        if "[DONE]" not in event:
            payloads.append(json.loads(event[6:]))
    choices = [payload["choices"][0] for payload in payloads if payload["choices"]]
    text = "".join(choice["delta"].get("content", "") for choice in choices)
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": choices[-1]["finish_reason"],
    }
    return {"id": "x", "object": "chat.completion", "choices": [choice], "usage": payloads[-1]["usage"]}


def _refuses(app: FastAPI, told: Any, status: int) -> None:
    @app.exception_handler(RequestValidationError)
    async def refused(_: Request, error: RequestValidationError) -> Response:
        return JSONResponse(told(str(error.errors())[:500]), status)
