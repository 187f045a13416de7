"""``init_llm("provider:model")``: one string chooses the model, a list of them several that answer alike."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from langchain_core.language_models.llms import BaseLLM

from fourcorners.errors import SettingsError, shortened
from fourcorners.models.hub_file import SCHEME, hub_file

log = logging.getLogger(__name__)

BUNDLED_CONTEXT_TOKENS = 4_096


def init_llm(spec: str | Sequence[str] = "bundled", **settings: Any) -> BaseLLM:
    """The LLM for ``spec``.

    In this process: ``"bundled"`` (the reader in this package), ``"llama_cpp:PATH"`` (any GGUF) or
    ``"llama_cpp:hf:ORG/REPO/FILE.gguf[@REVISION]"`` (one of the Hugging Face hub, downloaded unless it is here). On a
    server: ``"tgi:URL"``, ``"openai:URL#MODEL"`` (vLLM, SGLang, llama-server, any OpenAI-compatible one),
    ``"huggingface:ORG/MODEL"`` (Inference Providers; ``@PROVIDER`` behind it picks one). A list of such specs is one
    LLM that spreads its requests over them (``ReplicatedLLM``).

    ``settings`` are those of ``GenerationSettings`` (``max_new_tokens``, ``temperature`` …) and of ``LlamaCpp`` or
    ``RemoteLLM``; with a list they are for all. A model in this process is loaded at once: milliseconds for the
    bundled reader, seconds for large files; a server is not asked anything yet. Raises SettingsError for an unknown
    provider or setting, ModelLoadError for a file that is missing or damaged, ModelFetchError for one that can't be
    got.
    """
    if isinstance(spec, list | tuple):
        return _replicas(spec, settings)
    if not isinstance(spec, str):
        raise SettingsError(f"a model spec is a text such as 'bundled', not {shortened(spec)}")
    provider, _, model = spec.partition(":")
    if provider not in _PROVIDERS:
        known = ", ".join(repr(name) for name in sorted(_PROVIDERS))
        raise SettingsError(f"unknown model provider {shortened(provider)} in {shortened(spec)}: use one of {known}")
    return _PROVIDERS[provider](model, settings)


def _bundled(model: str, settings: dict[str, Any]) -> BaseLLM:
    from fourcorners.llms.llama_cpp import LlamaCpp
    from fourcorners.models import reader_path

    if model:
        raise SettingsError(f"'bundled' takes no model name, but got {model!r}: write just 'bundled'")
    # Longer than it was trained for, so that a long question goes through: the prior carries the choice there.
    return LlamaCpp.load(reader_path(), **{"n_context_tokens": BUNDLED_CONTEXT_TOKENS, **settings})


def _llama_cpp(model: str, settings: dict[str, Any]) -> BaseLLM:
    from fourcorners.llms.llama_cpp import LlamaCpp

    if not model:
        raise SettingsError("'llama_cpp' needs the path of a GGUF file: write 'llama_cpp:PATH'")
    return LlamaCpp.load(model_file(model), **settings)


def model_file(model: str) -> Path:
    """The GGUF of ``llama_cpp:`` specs: a path as it is, one of the hub downloaded unless it is here."""
    if not model.startswith(SCHEME):
        return Path(model)
    from fourcorners.models.hub import Hub

    return Hub().fetch(hub_file(model), tell=log.info)


def _tgi(url: str, settings: dict[str, Any]) -> BaseLLM:
    from fourcorners.llms.tgi import TgiLLM

    if not url:
        raise SettingsError("'tgi' needs the server's URL: write 'tgi:http://HOST:PORT'")
    return TgiLLM.connect(url, **settings)


def _openai(place: str, settings: dict[str, Any]) -> BaseLLM:
    from fourcorners.llms.openai_like import OpenAiLLM

    url, _, model = place.partition("#")
    if not url:
        raise SettingsError("'openai' needs the server's URL: write 'openai:http://HOST:PORT#MODEL'")
    return OpenAiLLM.connect(url, **{"model": model, **settings})


def _huggingface(model: str, settings: dict[str, Any]) -> BaseLLM:
    from fourcorners.llms.huggingface import connect

    return connect(model, settings)


def _replicas(specs: Sequence[str], settings: dict[str, Any]) -> BaseLLM:
    from fourcorners.llms.remote import RemoteLLM
    from fourcorners.llms.replicas import ReplicatedLLM

    llms = []
    for spec in specs:
        remote = isinstance(spec, str) and spec.partition(":")[0] in _REMOTE
        alone = {"max_retries": 0} if len(specs) > 1 else {}
        # Where another can be asked, that comes before asking the same once more.
        llms.append(init_llm(spec, **(alone | settings if remote else settings)))
    # Replicas are named in replies and errors, so without the password that a URL may have.
    names = [
        f"{spec.partition(':')[0]}:{llm.url}" if isinstance(llm, RemoteLLM) else spec
        for spec, llm in zip(specs, llms, strict=True)
    ]
    return ReplicatedLLM.of(names, llms)


_REMOTE = ("tgi", "openai", "huggingface")
_PROVIDERS: dict[str, Callable[[str, dict[str, Any]], BaseLLM]] = {
    "bundled": _bundled,
    "huggingface": _huggingface,
    "llama_cpp": _llama_cpp,
    "openai": _openai,
    "tgi": _tgi,
}
