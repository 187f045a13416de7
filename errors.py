"""Everything that fourcorners raises on purpose.

FourCornersError                  the root: catch it to catch all of them
├── InputError (ValueError)       the caller's input can't be used: wrong type, unknown setting, too long a question
│   ├── SettingsError             an unknown model spec, an unknown setting or a value out of range
│   ├── SourceError               a document file that is missing, empty, binary or not in a readable encoding
│   ├── IndexFileError            an index that is missing, damaged, of another format, or being written by another
│   ├── QuestionSetError          a question set for an evaluation with a row that can't be used
│   └── ThresholdError            a threshold file that can't be used, or rows that no threshold can be made from
├── ModelLoadError                a model file that is missing, truncated, or not a GGUF
│   └── ModelFetchError           a model that can't be got from the hub: no such file, gated, interrupted, disk full
├── ContextOverflow               the prompt does not fit in the model's window
├── AnswerFormatError             an LLM that can't be held to JSON answered something else: may be retried
└── EngineError                   the engine failed or was closed while it worked: never a refusal, may be retried
    ├── EngineBusy                the queue is full: try again later
    ├── EngineTimeout             the request was not done by its deadline
    └── EngineClosed              the engine was closed before the request was done

``str(error)`` is one or two sentences: what was wrong, with the value, and what to do.
"""

from __future__ import annotations

from langchain_core.exceptions import (
    ContextOverflowError,
    ModelAPIError,
    ModelError,
    ModelInvalidRequestError,
    ModelNotFoundError,
    OutputParserException,
)


class FourCornersError(Exception):
    """The root of all errors raised on purpose."""


class InputError(FourCornersError, ModelInvalidRequestError, ValueError):
    """The caller's input can't be used."""


class SettingsError(InputError):
    """An unknown model spec, an unknown setting, or a value out of range."""


class SourceError(InputError):
    """A document file can't be used as text."""


class IndexFileError(InputError):
    """An index file can't be used."""


class QuestionSetError(InputError):
    """A question set can't be used: it is missing, or a row of it is wrong."""


class ThresholdError(InputError):
    """A threshold file can't be used, or no threshold keeps the bound that was asked for."""


class ModelLoadError(FourCornersError, ModelNotFoundError):
    """A model file can't be loaded."""


class ModelFetchError(ModelLoadError):
    """A model file can't be got from the hub, and no copy of it is here."""


class ContextOverflow(InputError, ContextOverflowError):
    """The prompt does not fit in the model's window, even after packing."""


class AnswerFormatError(FourCornersError, OutputParserException):
    """An LLM that can't be held to JSON while it decodes answered something else."""


class EngineError(FourCornersError, ModelAPIError):
    """The engine failed while it worked on a request."""


class EngineBusy(EngineError):
    """The engine's queue is full; nothing was begun, and the request may be tried again later."""


class EngineTimeout(EngineError, TimeoutError):
    """The request was not done by its deadline."""


class EngineClosed(EngineError):
    """The engine was closed before the request was done."""


__all__ = [
    "AnswerFormatError",
    "ContextOverflow",
    "EngineBusy",
    "EngineClosed",
    "EngineError",
    "EngineTimeout",
    "FourCornersError",
    "IndexFileError",
    "InputError",
    "ModelError",
    "ModelFetchError",
    "ModelLoadError",
    "QuestionSetError",
    "SettingsError",
    "SourceError",
    "ThresholdError",
]


def shortened(value: object, limit: int = 80) -> str:
    """``repr(value)`` cut to ``limit`` characters, for error messages."""
    text = repr(value if not isinstance(value, str) else value[: limit * 2])
    return text if len(text) <= limit else text[: limit - 1] + "…"
