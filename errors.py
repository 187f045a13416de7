"""Everything that fourcorners raises on purpose.

FourCornersError                  the root: catch it to catch all of them
├── InputError (ValueError)       the caller's input can't be used: wrong type, unknown setting, too long a question
│   ├── SettingsError             an unknown model spec, an unknown setting or a value out of range
│   ├── SourceError               a document file that is missing, empty, binary or not in a readable encoding
│   ├── IndexFileError            an index that is missing, damaged, of another format, or being written by another
│   ├── QuestionSetError          a question set for an evaluation with a row that can't be used
│   ├── ThresholdError            a threshold file that can't be used, or rows that no threshold can be made from
│   └── BackendRejected           a remote server says that it can't use the request
├── ModelLoadError                a model file that is missing, truncated, or not a GGUF; a model that a server lacks
│   └── ModelFetchError           a model that can't be got from the hub: no such file, gated, interrupted, disk full
├── ContextOverflow               the prompt does not fit in the model's window
├── AnswerFormatError             an LLM that can't be held to JSON or quotes answered something else: may be retried
├── BackendDenied                 a remote server does not take the credentials, or wants some
└── EngineError                   the engine failed or was closed while it worked: never a refusal, may be retried
    ├── EngineBusy                the queue is full: try again later
    ├── EngineTimeout             the request was not done by its deadline
    ├── EngineClosed              the engine was closed before the request was done
    └── BackendError              a remote server failed, or answered what it should not
        ├── BackendUnreachable    there is no connection to it
        └── BackendInterrupted    the connection was lost amid an answer

``str(error)`` is one or two sentences: what was wrong, with the value, and what to do.
"""

from __future__ import annotations

from langchain_core.exceptions import (
    ContextOverflowError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
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


class BackendRejected(InputError):
    """A remote server says that it can't use the request."""


class BackendDenied(FourCornersError, ModelAuthenticationError):
    """A remote server does not take the credentials, or wants some."""


class ModelLoadError(FourCornersError, ModelNotFoundError):
    """A model file can't be loaded, or a server does not have the model."""


class ModelFetchError(ModelLoadError):
    """A model file can't be got from the hub, and no copy of it is here."""


class ContextOverflow(InputError, ContextOverflowError):
    """The prompt does not fit in the model's window, even after packing."""


class AnswerFormatError(FourCornersError, OutputParserException):
    """An LLM that can't be held to JSON, or to quotes, while it decodes answered something else."""


class EngineError(FourCornersError, ModelAPIError):
    """The engine failed while it worked on a request.

    ``partial`` is the text that was released before the fault.
    """

    partial = ""


class EngineBusy(EngineError):
    """The engine's queue is full; nothing was begun, and the request may be tried again later.

    ``retry_after_s`` is how long a remote server said to wait.
    """

    retry_after_s: float | None = None


class EngineTimeout(EngineError, TimeoutError):
    """The request was not done by its deadline."""


class EngineClosed(EngineError):
    """The engine was closed before the request was done."""


class BackendError(EngineError):
    """A remote server failed, or answered what it should not."""


class BackendUnreachable(BackendError, ModelConnectionError):
    """There is no connection to a remote server."""


class BackendInterrupted(BackendError):
    """The connection to a remote server was lost amid an answer."""


__all__ = [
    "AnswerFormatError",
    "BackendDenied",
    "BackendError",
    "BackendInterrupted",
    "BackendRejected",
    "BackendUnreachable",
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
