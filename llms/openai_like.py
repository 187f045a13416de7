"""OpenAI-compatible servers: OpenAI itself, vLLM, SGLang, llama-server, llama-cpp-python's server, our own, any other.

Written against OpenAI's API reference and what each server adds to it (``wire.py`` names the sources). Run against the
real thing: llama-cpp-python's server, llama.cpp's (through xllamacpp), our own. Not yet run: OpenAI, vLLM, SGLang.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from fourcorners.errors import BackendError, BackendRejected, ModelLoadError, SettingsError, shortened
from fourcorners.llms.asking import Ask, Delta
from fourcorners.llms.credentials import OPENAI_HOST
from fourcorners.llms.facts import Facts
from fourcorners.llms.remote import RemoteLLM
from fourcorners.llms.remote_run import Reader
from fourcorners.llms.settings import GenerationSettings
from fourcorners.llms.wire import OPENAI, OPENAI_ITSELF, SERVERS, Api, Server, request_fields
from fourcorners.prompts.detection import format_of_model_id
from fourcorners.prompts.guarding import as_message

_OWNERS = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llama-server", "fourcorners": "fourcorners"}
"""Who servers say that their models are owned by."""


class OpenAiLLM(RemoteLLM):
    """A model behind an OpenAI-compatible server; ``init_llm("openai:URL#MODEL")`` makes one.

    ``server`` says of which kind it is ("vllm", "sglang", "llama-server", "llama-cpp-python", "fourcorners", or
    "openai" for any other); left out, ``/v1/models`` is read. It decides how a model is held to a pattern, and so
    whether verbatim answers are ``enforced`` or ``verified``. ``api`` is "chat" or, for raw prompts in
    ``prompt_format``, "completions". ``system_role=False`` puts the system text before the user's, for models whose
    template has no system turn.
    """

    server: str = ""
    api: Literal["", "chat", "completions"] = ""
    system_role: bool = True

    @property
    def _llm_type(self) -> str:
        return "fourcorners-openai"

    @property
    def _root(self) -> str:
        """The path to OpenAI's routes: a URL may end in it already."""
        return "" if urlsplit(self.url).path.rstrip("/").endswith("/v1") else "/v1"

    def _look(self) -> Facts:
        if self.server and self.server not in SERVERS:
            known = ", ".join(SERVERS)
            raise SettingsError(f"unknown kind of server {self.server!r}: use one of {known}, or leave it out")
        entry = self._model_entry()
        server = SERVERS[self.server] if self.server else self._recognised(entry)
        api: Api = self.api or ("completions" if server is SERVERS["fourcorners"] else "chat")
        model = self.model or str(entry.get("id", ""))
        if not model:
            raise SettingsError(f"{self.url} does not say which models it has: write 'openai:URL#MODEL'")
        chat_format = (
            format_of_model_id(model, prompt_format=self.prompt_format or None) if api == "completions" else None
        )
        return Facts(server, api, model, self._window(server, entry), chat_format)

    def _model_entry(self) -> Mapping[str, Any]:
        """What the server lists about the model; nothing where it lists none."""
        try:
            listed = self._get(self._root + "/models")
        except (BackendRejected, ModelLoadError):
            return {}
        data = listed.get("data") if isinstance(listed, Mapping) else None
        if not isinstance(data, list):
            raise BackendError(
                f"{self.url}{self._root}/models answered {shortened(listed)}: is it an OpenAI-compatible server?"
            )
        entries = [entry for entry in data if isinstance(entry, Mapping)]
        if not self.model:
            return entries[0] if entries else {}
        same = [entry for entry in entries if entry.get("id") == self.model]
        # Servers of one model take any name for it; to know their kind, any entry will do.
        return same[0] if same else {**entries[0], "id": self.model} if entries else {}

    def _recognised(self, entry: Mapping[str, Any]) -> Server:
        if self._address.host == OPENAI_HOST:
            return OPENAI_ITSELF
        owner = str(entry.get("owned_by", ""))
        if owner == "me" and "permissions" in entry:
            return SERVERS["llama-cpp-python"]
        kind = _OWNERS.get(owner)
        if kind == "vllm" and self._vllm_version() < (0, 11):
            kind = "vllm-before-0.11"
        return SERVERS[kind] if kind else OPENAI

    def _vllm_version(self) -> tuple[int, int]:
        try:
            told = self._outside("/version")
        except (BackendError, BackendRejected, ModelLoadError):
            told = None
        match = re.match(r"(\d+)\.(\d+)", str(told.get("version", ""))) if isinstance(told, Mapping) else None
        return (int(match[1]), int(match[2])) if match else (0, 11)

    def _outside(self, path: str) -> Any:
        """What stands beside OpenAI's routes."""
        if self._root:
            return self._get(path)
        return self._get("/.." + path)

    def _window(self, server: Server, entry: Mapping[str, Any]) -> int | None:
        window = entry.get("max_model_len")
        if server is SERVERS["llama-server"]:
            try:
                window = self._outside("/props").get("default_generation_settings", {}).get("n_ctx")
            except (BackendError, BackendRejected, ModelLoadError, AttributeError):
                window = None
        return window if isinstance(window, int) and window > 0 else None

    def _body(self, ask: Ask, facts: Facts, settings: GenerationSettings, streamed: bool) -> tuple[str, dict[str, Any]]:
        body: dict[str, Any] = {"model": facts.model}
        body |= request_fields(facts.server, facts.api, settings, ask.pattern)
        if facts.server is SERVERS["llama-cpp-python"]:
            # Its streams tell neither usage nor what went wrong: an answer of a few numbers is better had whole.
            body |= {"stream": True} if streamed and ask.pattern is None else {}
        elif streamed:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        if facts.api == "completions":
            assert facts.chat_format is not None
            return self._root + "/completions", {**body, "prompt": facts.chat_format.prompt_text(ask.system, ask.user)}
        return self._root + "/chat/completions", {**body, "messages": self._messages(ask)}

    def _messages(self, ask: Ask) -> list[dict[str, str]]:
        system, user = as_message(ask.system), as_message(ask.user)
        if system and not self.system_role:
            system, user = "", f"{system}\n\n{user}"
        turns = [{"role": "system", "content": system}] if system else []
        return [*turns, {"role": "user", "content": user}]

    def _reader(self, facts: Facts) -> Reader:
        return _OpenAiReader()


class _OpenAiReader:
    """Chat completions and completions, in chunks or whole."""

    def read(self, payload: dict[str, Any]) -> Delta:
        """What an event says."""
        usage = _usage(payload.get("usage"))
        choices = payload.get("choices")
        if not isinstance(choices, list):
            raise BackendError(f"an event without choices came: {shortened(payload)}")
        if not choices:
            return Delta("", usage=usage)
        choice = choices[0]
        message = choice.get("delta") or choice.get("message") or {}
        text = choice["text"] if isinstance(choice.get("text"), str) else message.get("content") or ""
        return Delta(str(text), choice.get("finish_reason"), usage, tuple(_logprobs(choice.get("logprobs"))))


def _usage(told: Any) -> dict[str, int]:
    if not isinstance(told, Mapping):
        return {}
    names = ("prompt_tokens", "completion_tokens")
    usage = {name: told[name] for name in names if isinstance(told.get(name), int)}
    cached = (told.get("prompt_tokens_details") or {}).get("cached_tokens")
    return usage | ({"cached_tokens": cached} if isinstance(cached, int) else {})


def _logprobs(told: Any) -> list[dict[str, Any]]:
    """In one form, from OpenAI's two."""
    if not isinstance(told, Mapping):
        return []
    if isinstance(told.get("content"), list):
        return [
            {
                "text": one.get("token", ""),
                "logprob": one.get("logprob"),
                "top": [(top.get("token", ""), top.get("logprob")) for top in one.get("top_logprobs") or []],
            }
            for one in told["content"]
        ]
    tops = told.get("top_logprobs") or [{}] * len(told.get("tokens") or [])
    return [
        {"text": text, "logprob": logprob, "top": list((top or {}).items())}
        for text, logprob, top in zip(told.get("tokens") or [], told.get("token_logprobs") or [], tops, strict=False)
    ]
