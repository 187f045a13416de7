"""``init_llm("provider:model")``: one string chooses the model."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langchain_core.language_models.llms import BaseLLM

from fourcorners.errors import SettingsError, shortened
from fourcorners.models.hub_file import SCHEME, hub_file

log = logging.getLogger(__name__)

BUNDLED_CONTEXT_TOKENS = 4_096


def init_llm(spec: str = "bundled", **settings: Any) -> BaseLLM:
    """The LLM for ``spec``: ``"bundled"`` (the reader in this package), ``"llama_cpp:PATH"`` (any GGUF) or
    ``"llama_cpp:hf:ORG/REPO/FILE.gguf[@REVISION]"`` (one of the Hugging Face hub, downloaded unless it is here).

    ``settings`` are the fields of ``LlamaCpp`` (``max_new_tokens``, ``temperature``, ``n_context_tokens`` …). The
    model is loaded at once: milliseconds for the bundled reader, seconds for large files. Raises SettingsError for an
    unknown provider or setting, ModelLoadError for a file that is missing or damaged, ModelFetchError for one that
    can't be got.
    """
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


_PROVIDERS: dict[str, Callable[[str, dict[str, Any]], BaseLLM]] = {"bundled": _bundled, "llama_cpp": _llama_cpp}
