"""What goes wrong between here and a server, as our own errors. The one place where foreign ones are translated."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
from httpx_sse import SSEError

from fourcorners.errors import (
    BackendDenied,
    BackendError,
    BackendInterrupted,
    BackendRejected,
    BackendUnreachable,
    ContextOverflow,
    EngineBusy,
    EngineError,
    EngineTimeout,
    FourCornersError,
    ModelLoadError,
)
from fourcorners.llms.credentials import Address
from fourcorners.llms.retrying import RETRIED_STATUSES, Deadline, mark, seconds_of

MAX_ERROR_BYTES = 65_536
_MAX_TOLD_CHARS = 300
_OVERFLOW = re.compile(
    r"context_length_exceeded|exceed_context_size|maximum context length|context (?:length|window|size)"
    r"|max_new_tokens` must be <=|must have less than \d+ tokens|is longer than the model's context",
    re.I,
)
"""How OpenAI, llama-server, vLLM, SGLang, llama-cpp-python and TGI say that a prompt is too long."""


@contextmanager
def translated(address: Address, deadline: Deadline | None = None) -> Iterator[None]:
    """Lets httpx's errors out as ours; others pass."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
        if deadline is not None and deadline.is_past:
            raise EngineTimeout(f"{address.url} was not even reached by the deadline: raise timeout_s") from error
        told = _reason(error)
        raise mark(
            BackendUnreachable(f"no connection to {address.url} ({told}): is the server running, and the URL right?")
        ) from error
    except httpx.TimeoutException as error:
        raise EngineTimeout(
            f"{address.url} said nothing for too long ({type(error).__name__}): raise read_timeout_s or timeout_s, or "
            f"look whether it is overloaded"
        ) from error
    except (httpx.RemoteProtocolError, httpx.NetworkError) as error:
        raise mark(
            BackendInterrupted(f"the connection to {address.url} was lost ({_reason(error)}): try again")
        ) from error
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, SSEError, UnicodeError) as error:
        raise BackendError(f"{address.url} can't be talked to: {_reason(error)}") from error


def error_of(status: int, headers: Mapping[str, str], body: bytes, address: Address) -> FourCornersError:
    """The error for an answer with another status than 200."""
    said = address.without_secrets(_message(body))
    where = f"{address.url} answered {status}: {said}"
    if status in (401, 403, 407):
        wants = "an api_key" if address.authorization is None else "another api_key"
        return BackendDenied(f"{where}. It wants {wants}, or one with more rights")
    if status == 404:
        return ModelLoadError(f"{where}. Look at the URL and the name of the model")
    if 300 <= status < 400:
        to = headers.get("location", "elsewhere")
        return BackendError(
            f"{where}. It sends on to {to}, which is not followed: name that URL yourself if it is right"
        )
    if status in RETRIED_STATUSES:
        return mark(_passing(status, headers, where), seconds_of(headers))
    if _OVERFLOW.search(said):
        return ContextOverflow(f"{where}. Give less context, or set n_context_tokens so that it is packed to fit")
    if 400 <= status < 500 and status != 424:  # TGI's 424: the generation failed
        return BackendRejected(f"{where}. Look at the settings")
    return BackendError(where)


def error_in_event(payload: Mapping[str, Any], address: Address) -> FourCornersError:
    """The error for an object that tells of one: servers send it where the status has gone out as 200 already."""
    said = address.without_secrets(_message(json.dumps(payload).encode()))
    where = f"{address.url} answered with an error: {said}"
    kind = payload.get("error_type")
    if kind == "overloaded":
        return mark(_passing(429, {}, where))
    if _OVERFLOW.search(said):
        return ContextOverflow(f"{where}. Give less context, or set n_context_tokens so that it is packed to fit")
    error = payload.get("error")
    code = error.get("code") if isinstance(error, Mapping) else None
    if kind == "validation" or code in (400, 422):
        return BackendRejected(f"{where}. Look at the settings")
    return BackendError(where)


def _passing(status: int, headers: Mapping[str, str], where: str) -> EngineError:
    if status in (429, 503):
        busy = EngineBusy(f"{where}. It has too much to do: try again later")
        busy.retry_after_s = seconds_of(headers)
        return busy
    return EngineTimeout(where) if status in (408, 504) else BackendError(where)


def _message(body: bytes) -> str:
    """What an error says, in the forms of OpenAI, TGI, FastAPI; else the beginning of the body."""
    text = body[:MAX_ERROR_BYTES].decode("utf-8", "replace").strip()
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    for name in ("error", "message", "detail"):
        if isinstance(found, Mapping) and found.get(name):
            found = found[name]
    said = found if isinstance(found, str) else json.dumps(found) if found else text or "nothing"
    code = " (context_length_exceeded)" if "context_length_exceeded" in text and "context_length" not in said else ""
    said = " ".join(said.split())
    return (said if len(said) <= _MAX_TOLD_CHARS else said[: _MAX_TOLD_CHARS - 1] + "…") + code


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:_MAX_TOLD_CHARS] or type(error).__name__
