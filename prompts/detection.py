"""Which prompt format a model wants: by name, from its GGUF, its tokenizer_config.json, or its id."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from fourcorners.errors import ModelLoadError, shortened
from fourcorners.prompts.chat_format import PLAIN, ChatFormat
from fourcorners.prompts.families import CHATML, FORMATS, PHI2, format_named, format_of_id
from fourcorners.prompts.from_template import format_from_template
from fourcorners.prompts.template_sandbox import TemplateFault

_warn = logging.getLogger(__name__).warning

MAX_CONFIG_BYTES = 64 * 2**20
"""tokenizer_config.json lists added tokens, a few MB at most."""
_KNOWN_TEMPLATES = {"f91864928fcc": CHATML}
"""Beginnings of the SHA-256 of templates that need not be rendered again; the bundled reader has the first."""
_ARCHITECTURES = {"phi2": PHI2}
"""GGUF architectures of which every model takes the same format."""


def format_of_gguf(
    metadata: Mapping[str, str], *, prompt_format: str | None = None, model: str = "", bos: str = "", eos: str = ""
) -> ChatFormat:
    """The format for a GGUF with this ``metadata``: the one named, else its own template's, else by its name.

    Where none of these says anything it is PLAIN, with a warning in the log. ``model`` is for messages, ``bos`` and
    ``eos`` are the texts of the vocabulary's tokens. Raises SettingsError for an unknown ``prompt_format``,
    ModelLoadError for a template that can't be used.
    """
    name = metadata.get("general.name", "") or metadata.get("general.basename", "")
    called = model or name or "this model"
    if prompt_format is not None:
        return format_named(prompt_format)
    template = metadata.get("tokenizer.chat_template", "")
    if template.strip():
        return _from_template(template, called, metadata.get("general.architecture", "") or "template", bos, eos)
    known = format_of_id(name) or _ARCHITECTURES.get(metadata.get("general.architecture", ""))
    return known or _plain(called, "its GGUF carries no chat template, and its name is none that is known")


def format_of_tokenizer_config(
    source: Mapping[str, Any] | str | os.PathLike[str], *, prompt_format: str | None = None, model: str = ""
) -> ChatFormat:
    """The format for a model with this tokenizer_config.json: the parsed JSON, the file, or the folder it is in.

    A ``chat_template.jinja`` beside the file counts before the template in it, as for the transformers library. Raises
    as ``format_of_gguf``, and ModelLoadError where the file can't be read.
    """
    if prompt_format is not None:
        return format_named(prompt_format)
    config, beside = _config(source)
    called = model or str(config.get("name_or_path") or config.get("_name_or_path") or "this model")
    bos, eos = (_token_text(config.get(name)) for name in ("bos_token", "eos_token"))
    template = beside or _template_of(config)
    if not template.strip():
        known = format_of_id(called)
        return known or _plain(called, "its tokenizer_config.json has no chat template, and its name is none known")
    found = _from_template(template, called, "template", bos, eos)
    return replace(found, specials=_specials(config)) if _specials(config) else found


def format_of_model_id(model_id: str, *, prompt_format: str | None = None) -> ChatFormat:
    """The format for ``ORG/MODEL``, as TGI's ``/info`` has it in ``model_id``; PLAIN with a warning where unknown."""
    if prompt_format is not None:
        return format_named(prompt_format)
    return format_of_id(model_id) or _plain(model_id, "its id is none that is known")


def _plain(model: str, why: str) -> ChatFormat:
    _warn(
        "%s gets plain prompts without turn markers: %s. If it has a format, give prompt_format= (one of %s)",
        model,
        why,
        ", ".join(FORMATS),
    )
    return PLAIN


def _from_template(template: str, model: str, name: str, bos: str, eos: str) -> ChatFormat:
    known = _KNOWN_TEMPLATES.get(sha256(template.encode("utf-8", "replace")).hexdigest()[:12])
    if known is not None:
        return known
    try:
        return format_from_template(template, name=name, bos=bos, eos=eos)
    except TemplateFault as fault:
        raise ModelLoadError(
            f"the chat template of {model} can't be used: {fault}. Load it with prompt_format= one of "
            f"{', '.join(FORMATS)}"
        ) from fault


def _config(source: Mapping[str, Any] | str | os.PathLike[str]) -> tuple[Mapping[str, Any], str]:
    """The configuration, and the template in a file beside it."""
    if isinstance(source, Mapping):
        return source, ""
    path = Path(source)
    path = path / "tokenizer_config.json" if path.is_dir() else path
    try:
        config = json.loads(_text(path))
        jinja = path.with_name("chat_template.jinja")
        beside = _text(jinja) if jinja.is_file() else ""
    except (OSError, ValueError, RecursionError) as error:  # no file, no JSON, no UTF-8, or nested too deeply
        raise ModelLoadError(f"{path} can't be read: {error}. Give prompt_format= instead") from error
    if not isinstance(config, dict):
        raise ModelLoadError(f"{path} holds {shortened(config)}, not an object. Give prompt_format= instead")
    return config, beside


def _text(path: Path) -> str:
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise ValueError(f"it is larger than {MAX_CONFIG_BYTES} bytes")
    return path.read_text("utf-8")


def _template_of(config: Mapping[str, Any]) -> str:
    """The template for conversations; a model may have others for tools."""
    given = config.get("chat_template")
    if isinstance(given, str):
        return given
    if isinstance(given, Sequence):
        given = {one.get("name"): one.get("template") for one in given if isinstance(one, Mapping)}
    if isinstance(given, Mapping):
        chosen = given.get("default") or next(iter(given.values()), "")
        return chosen if isinstance(chosen, str) else ""
    return ""


def _token_text(token: Any) -> str:
    """A token is its text, or an object that has it."""
    text = token.get("content") if isinstance(token, Mapping) else token
    return text if isinstance(text, str) else ""


def _specials(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Texts that this tokenizer takes for special tokens wherever they stand."""
    added = config.get("added_tokens_decoder")
    listed = added.values() if isinstance(added, Mapping) else ()
    texts = [_token_text(token) for token in listed if isinstance(token, Mapping) and token.get("special")]
    return tuple(sorted({text for text in texts if len(text.strip()) > 2}))
