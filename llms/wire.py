"""How each kind of server spells the generation settings: one table a server, and nothing about it anywhere else.

A setting that a table lacks can't be done there, and asking for it is an error. One that is not asked for is sent all
the same where the server would take another value than ours for it (``always``).

Sources: TGI 3.3, docs/openapi.json in its repository (GenerateParameters) and router/src/validation.rs; OpenAI's API
reference (chat completions, completions); vLLM, docs "OpenAI-Compatible Server" and "Structured Outputs" (the fields
guided_* were removed in 0.12); SGLang, docs "OpenAI APIs - Completions" and "Structured Outputs"; llama.cpp,
tools/server/README.md; llama-cpp-python 0.3, llama_cpp/server/types.py; Hugging Face, docs "Chat Completion" of the
Inference Providers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from fourcorners.errors import SettingsError, shortened
from fourcorners.grounding.pattern import Either, Pattern, as_gbnf
from fourcorners.grounding.pattern import Literal as Exactly
from fourcorners.llms.settings import GenerationSettings

Api = Literal["generate", "chat", "completions"]
NOT_SENT = ("do_sample", "timeout_s")
"""Settings that are seen to on this side of the connection."""
_NEUTRAL = GenerationSettings()


class Field(NamedTuple):
    """Where a setting goes in the body (dots lead into objects), as what, and for which kinds of request."""

    path: str
    convert: Callable[[Any], Any] = lambda value: value
    always: bool = False
    apis: tuple[Api, ...] = ("generate", "chat", "completions")


class Server(NamedTuple):
    """A kind of server: its name in errors, its table, and how it is held to a pattern, if it can be."""

    name: str
    fields: Mapping[str, tuple[Field, ...]]
    pattern: Field | None = None


def request_fields(
    server: Server, api: Api, settings: GenerationSettings, pattern: Pattern | None = None
) -> dict[str, Any]:
    """The part of a request's body that says how to generate. Raises SettingsError for what the server can't do."""
    body: dict[str, Any] = {}
    for name in GenerationSettings.model_fields:
        value = getattr(settings, name)
        asked = value != getattr(_NEUTRAL, name)
        fields = [field for field in server.fields.get(name, ()) if api in field.apis]
        if asked and not fields and name not in NOT_SENT:
            can = ", ".join(sorted(server.fields))
            raise SettingsError(f"{server.name} can't do {name}={shortened(value)}: leave it out (it can do {can})")
        for field in fields:
            if asked or field.always:
                _put(body, field, value)
    if pattern is not None:
        assert server.pattern is not None
        _put(body, server.pattern, pattern)
    return body


def _put(body: dict[str, Any], field: Field, value: Any) -> None:
    *parents, last = field.path.split(".")
    for parent in parents:
        body = body.setdefault(parent, {})
    body[last] = field.convert(value)


def _schema(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else dict(value)


def _named_schema(value: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": _schema(value), "strict": True}}


def _choice_pattern(value: Any) -> Pattern:
    return Either(tuple(Exactly(text) for text in value))


def _first_four(value: Any) -> list[str]:
    return list(value)[:4]  # this side looks for all of them


def _field(path: str, convert: Callable[[Any], Any] | None = None, *, always: bool = False) -> tuple[Field]:
    return (Field(path, convert or (lambda value: value), always),)


def _all_as(nothing: Any) -> Callable[[Any], Any]:
    return lambda value: value or nothing


_GRAMMAR = "parameters.grammar"
TGI = Server(
    "TGI",
    {
        "max_new_tokens": _field("parameters.max_new_tokens", always=True),
        "temperature": (
            Field("parameters.temperature"),  # none where it is 0, which TGI refuses
            Field("parameters.do_sample", lambda value: value > 0, always=True),
        ),
        "top_k": _field("parameters.top_k"),
        "top_p": _field("parameters.top_p"),
        "repetition_penalty": _field("parameters.repetition_penalty"),
        "frequency_penalty": _field("parameters.frequency_penalty"),
        "seed": _field("parameters.seed"),
        "stop": _field("parameters.stop", _first_four),
        "n_logprobs": _field("parameters.top_n_tokens", _all_as(None)),
        "json_schema": _field(_GRAMMAR, lambda value: {"type": "json", "value": _schema(value)}),
        "regex": _field(_GRAMMAR, lambda value: {"type": "regex", "value": value}),
        "choice": _field(_GRAMMAR, lambda value: {"type": "regex", "value": _choice_pattern(value).regex()}),
    },
    Field(_GRAMMAR, lambda pattern: {"type": "regex", "value": pattern.regex()}),
)
_OPENAI: dict[str, tuple[Field, ...]] = {
    "max_new_tokens": _field("max_tokens", always=True),
    "temperature": _field("temperature", always=True),
    "top_p": _field("top_p"),
    "presence_penalty": _field("presence_penalty"),
    "frequency_penalty": _field("frequency_penalty"),
    "seed": _field("seed"),
    "stop": _field("stop", _first_four),
    "json_schema": _field("response_format", _named_schema),
    "n_logprobs": (
        Field("logprobs", lambda value: True, apis=("chat",)),
        Field("top_logprobs", apis=("chat",)),
        Field("logprobs", apis=("completions",)),
    ),
}
_WITH_USER = _OPENAI | {"client": _field("user")}
OPENAI = Server("an OpenAI-compatible server", _WITH_USER)
OPENAI_ITSELF = Server("OpenAI", _WITH_USER | {"max_new_tokens": _field("max_completion_tokens", always=True)})
HUGGINGFACE = Server("Hugging Face Inference Providers", _OPENAI)
_OPEN_MODELS = _OPENAI | {
    "top_p": _field("top_p", always=True),
    "top_k": _field("top_k", _all_as(-1), always=True),
    "min_p": _field("min_p", always=True),
    "repetition_penalty": _field("repetition_penalty", always=True),
    "ignore_eos": _field("ignore_eos"),
    "stop": _field("stop", list),
}
VLLM = Server(
    "vLLM",
    _OPEN_MODELS
    | {
        "json_schema": _field("structured_outputs.json", _schema),
        "regex": _field("structured_outputs.regex"),
        "choice": _field("structured_outputs.choice", list),
    },
    Field("structured_outputs.regex", lambda pattern: pattern.regex()),
)
VLLM_BEFORE_0_11 = Server(
    "vLLM before 0.11",
    _OPEN_MODELS
    | {
        "json_schema": _field("guided_json", _schema),
        "regex": _field("guided_regex"),
        "choice": _field("guided_choice", list),
    },
    Field("guided_regex", lambda pattern: pattern.regex()),
)
SGLANG = Server(
    "SGLang",
    _OPEN_MODELS
    | {
        "regex": _field("regex"),
        "choice": _field("regex", lambda value: _choice_pattern(value).regex()),
    },
    Field("regex", lambda pattern: pattern.regex()),
)
_GGML = _OPEN_MODELS | {
    "top_k": _field("top_k", always=True),
    "repetition_penalty": _field("repeat_penalty", always=True),
    "choice": _field("grammar", lambda value: as_gbnf(_choice_pattern(value))),
}
LLAMA_SERVER = Server("llama-server", _GGML, Field("grammar", as_gbnf))
LLAMA_CPP_PYTHON = Server(
    "llama-cpp-python's server",
    {name: field for name, field in _GGML.items() if name != "ignore_eos"}
    | {
        "json_schema": (
            Field("response_format", lambda value: {"type": "json_object", "schema": _schema(value)}, apis=("chat",)),
        )
    },
    Field("grammar", as_gbnf),
)
FOURCORNERS = Server(
    "fourcorners",
    {name: field for name, field in _OPEN_MODELS.items() if name != "n_logprobs"}
    | {
        "n_logprobs": (Field("logprobs", apis=("completions",)),),
        "grammar": _field("grammar"),
        "regex": _field("regex"),
        "choice": _field("choice", list),
    },
    Field("regex", lambda pattern: pattern.regex()),
)
SERVERS: Mapping[str, Server] = {
    "openai": OPENAI,
    "vllm": VLLM,
    "vllm-before-0.11": VLLM_BEFORE_0_11,
    "sglang": SGLANG,
    "llama-server": LLAMA_SERVER,
    "llama-cpp-python": LLAMA_CPP_PYTHON,
    "fourcorners": FOURCORNERS,
}
"""The kinds of OpenAI-compatible servers, as the setting ``server`` names them."""

__all__ = ["HUGGINGFACE", "OPENAI", "OPENAI_ITSELF", "SERVERS", "TGI", "Api", "Server", "request_fields"]
