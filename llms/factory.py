"""``init_llm("provider:model")``: one string chooses the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langchain_core.language_models.llms import BaseLLM

from fourcorners.errors import SettingsError, shortened

BUNDLED_CONTEXT_TOKENS = 4_096


def init_llm(spec: str = "bundled", **settings: Any) -> BaseLLM:
    """The LLM for ``spec``: ``"bundled"`` (the reader in this package) or ``"llama_cpp:PATH"`` (any GGUF).

    ``settings`` are the fields of ``LlamaCpp`` (``max_new_tokens``, ``temperature``, ``n_context_tokens`` …). The
    model is loaded at once: milliseconds for the bundled reader, seconds for large files. Raises SettingsError for an
    unknown provider or setting, ModelLoadError for a file that is missing or damaged.
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
    return LlamaCpp.load(model, **settings)


_PROVIDERS: dict[str, Callable[[str, dict[str, Any]], BaseLLM]] = {"bundled": _bundled, "llama_cpp": _llama_cpp}
