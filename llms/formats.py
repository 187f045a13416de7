"""The prompt format of a model of which only the name is known."""

from __future__ import annotations

import warnings

from fourcorners.errors import SettingsError
from fourcorners.prompts.chat_format import CHATML, LLAMA2, MISTRAL, PLAIN, ChatFormat

_FORMATS = {one.name: one for one in (CHATML, LLAMA2, MISTRAL, PLAIN)}
_FAMILIES = {
    "llama-2": LLAMA2,
    "codellama": LLAMA2,
    "mistral": MISTRAL,
    "mixtral": MISTRAL,
    "qwen": CHATML,
    "smollm": CHATML,
    "hermes": CHATML,
}


def format_named(name: str, model: str) -> ChatFormat:
    """The format called ``name``; without one, that of the family that ``model``'s name tells.

    A model of an unknown family gets the plain format, with a warning. Raises SettingsError for an unknown name.
    """
    if name:
        if name not in _FORMATS:
            raise SettingsError(f"unknown prompt_format {name!r}: use one of {', '.join(sorted(_FORMATS))}")
        return _FORMATS[name]
    found = next((made for family, made in _FAMILIES.items() if family in model.lower()), None)
    if found is None:
        warnings.warn(
            f"the prompt format of {model!r} is not known: it is asked in plain text; name it with prompt_format=",
            stacklevel=2,
        )
    return found or PLAIN
