"""Metadata as JSON has it: what callers put on their documents must not break a reply on its way out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from datetime import date, time
from enum import Enum
from typing import Any

from langchain_core.documents import Document
from pydantic import BaseModel

MAX_DEPTH = 16
"""Deeper levels, of a structure that holds itself for one, become text."""
_MAX_INT = 2**63
"""orjson, which LangServe writes with, takes no larger ones."""


def json_safe(value: Any, depth: int = 0) -> Any:
    """``value`` in strings, finite numbers, booleans, None, lists, and dicts with strings as keys.

    Dates become ISO 8601, numbers of numpy plain ones, arrays and sets lists, numbers that JSON lacks None or text;
    all else is ``str(value)``. What is JSON already comes out equal.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return json_safe(value.value, depth + 1)
    if isinstance(value, str):
        return _encodable(value)
    if isinstance(value, int):
        return int(value) if -_MAX_INT <= value < _MAX_INT else str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, date | time):
        return value.isoformat()
    if depth >= MAX_DEPTH:
        return _as_text(value)
    return _composite(value, depth + 1)


def _composite(value: Any, depth: int) -> Any:
    try:
        if isinstance(value, BaseModel):
            value = value.model_dump()
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        elif isinstance(value, bytes | bytearray):
            return bytes(value).decode("utf-8", "replace")
        elif callable(to_list := getattr(value, "tolist", None)):  # numpy's scalars and arrays, torch's tensors
            return json_safe(to_list(), depth)
        if isinstance(value, Mapping):
            return {_key(name): json_safe(item, depth) for name, item in value.items()}
        if isinstance(value, set | frozenset):
            return sorted((json_safe(item, depth) for item in value), key=str)
        if isinstance(value, Iterable) and hasattr(value, "__len__"):
            return [json_safe(item, depth) for item in value]
    except Exception:  # whatever a foreign object does: its text is still worth having
        return _as_text(value)
    return _as_text(value)


def as_given(context: Any) -> Any:
    """``context`` for a reply: the Documents as given, those with odd metadata in a form that LangServe can send."""
    if isinstance(context, Document):
        return _sendable(context)
    if isinstance(context, list | tuple):
        return type(context)(map(as_given, context)) if type(context) in (list, tuple) else [*map(as_given, context)]
    return context


def _sendable(document: Document) -> Document:
    if type(document) is not Document or _is_plain(document.metadata):
        return document
    return _Sendable(id=document.id, page_content=document.page_content, metadata=document.metadata)


class _Sendable(Document):
    """A Document that equals the one given, odd metadata and all, and is dumped as JSON has it."""

    def model_dump(self, **settings: Any) -> dict[str, Any]:
        """LangServe writes what this returns."""
        dumped: dict[str, Any] = json_safe(super().model_dump(**settings))
        return dumped

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Document):
            return NotImplemented
        mine, theirs = ((d.id, d.page_content, d.metadata) for d in (self, other))
        return mine == theirs

    __hash__ = None  # type: ignore[assignment]  # as Document's own


def _is_plain(value: Any) -> bool:
    safe = json_safe(value)
    return type(value) is type(safe) and bool(_same(value, safe))


def _same(value: Any, safe: Any) -> bool:
    if type(value) is not type(safe):
        return False
    if isinstance(value, dict):
        return len(value) == len(safe) and all(
            isinstance(key, str) and key in safe and _same(item, safe[key]) for key, item in value.items()
        )
    if isinstance(value, list):
        return len(value) == len(safe) and all(map(_same, value, safe))
    return bool(value == safe)


def _key(name: Any) -> str:
    return _encodable(name) if isinstance(name, str) else _as_text(json_safe(name, MAX_DEPTH))


def _as_text(value: Any) -> str:
    try:
        return _encodable(str(value))
    except Exception:
        return f"<{type(value).__name__}>"


def _encodable(text: str) -> str:
    return str(text).encode("utf-8", "replace").decode()
