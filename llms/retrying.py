"""When a request to a server is tried again, and how long to wait before.

Only what failed before the first byte of an answer is tried again: then nobody has seen anything, and a generation
changes nothing on the server. Only what may pass is: no connection, 408, 429, 502, 503, 504.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from fourcorners.errors import EngineError

RETRIED_STATUSES = frozenset({408, 429, 502, 503, 504})
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 20.0
LONGEST_RETRY_AFTER_S = 60.0
"""A server that wants to be left alone for longer is not waited for."""
_backoff = wait_random_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S)


class Transient:
    """What ``mark`` leaves on an error that may be tried again: how long the server said to wait."""

    __slots__ = ("retry_after_s",)

    def __init__(self, retry_after_s: float | None) -> None:
        self.retry_after_s = retry_after_s


def mark(error: EngineError, retry_after_s: float | None = None) -> EngineError:
    """``error``, as one that may be tried again."""
    error.__dict__["transient"] = Transient(retry_after_s)
    return error


def is_transient(error: BaseException) -> bool:
    """Whether to try again."""
    found = getattr(error, "transient", None)
    return isinstance(found, Transient) and (found.retry_after_s or 0.0) <= LONGEST_RETRY_AFTER_S


def seconds_of(headers: Mapping[str, str]) -> float | None:
    """What ``Retry-After`` says, in seconds from now; it may be a number or a date (RFC 9110, 10.2.3)."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    if value.replace(".", "", 1).isdecimal():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


class Deadline:
    """A moment that no wait goes past."""

    def __init__(self, timeout_s: float | None) -> None:
        self._end = None if timeout_s is None else time.monotonic() + timeout_s

    @property
    def left_s(self) -> float | None:
        """Seconds until then, less than 0 once it is past."""
        return None if self._end is None else self._end - time.monotonic()

    @property
    def is_past(self) -> bool:
        """Whether it is over."""
        left = self.left_s
        return left is not None and left <= 0


def retrying(max_retries: int, deadline: Deadline) -> Retrying:
    """Tries for a thread, as tenacity's ``for attempt in …: with attempt:``."""
    return Retrying(**_policy(max_retries, deadline))


def aretrying(max_retries: int, deadline: Deadline) -> AsyncRetrying:
    """As ``retrying``, for an event loop."""
    return AsyncRetrying(**_policy(max_retries, deadline))


def _policy(max_retries: int, deadline: Deadline) -> dict[str, Any]:
    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        told = getattr(getattr(error, "transient", None), "retry_after_s", None)
        return max(told or 0.0, float(_backoff(state)))

    def no_time(state: RetryCallState) -> bool:
        left = deadline.left_s
        return left is not None and state.upcoming_sleep >= left

    return {
        "retry": retry_if_exception(is_transient),
        "stop": lambda state: stop_after_attempt(max_retries + 1)(state) or no_time(state),
        "wait": wait,
        "reraise": True,
    }
