"""Whether a downloaded file is what the hub says it is, and that this was found once.

The hub's own name for a file's content is its sha256 (large files) or its git blob hash (small ones). Reading a file
for that takes about a second a gigabyte, so what was found is kept with the file's size and time of change.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

_CHUNK_BYTES = 2**20
_SHA256_DIGITS = 64
_CHECKSUM = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def is_checksum(etag: str) -> bool:
    """Whether the hub's name for a content can be compared with the content."""
    return bool(_CHECKSUM.fullmatch(etag))


def matches(path: Path, etag: str) -> bool:
    """Whether the content of ``path`` is the one that the hub names ``etag``. Reads all of it."""
    if len(etag) == _SHA256_DIGITS:
        digest = hashlib.sha256()
    else:
        digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest() == etag


def remember(path: Path, record: Path, etag: str) -> None:
    """Keep in ``record`` that ``path`` was checked. A folder that can't be written to keeps nothing."""
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        part = record.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(_state(path, etag)))
        part.replace(record)
    except OSError:  # a shared, read-only cache: it is checked again next time
        return


def is_remembered(path: Path, record: Path, etag: str) -> bool:
    """Whether ``path`` was checked, and has not been touched since."""
    try:
        return bool(json.loads(record.read_text()) == _state(path, etag))
    except (OSError, ValueError):
        return False


def _state(path: Path, etag: str) -> dict[str, str | int]:
    found = path.stat()
    return {"checksum": etag, "bytes": found.st_size, "changed_ns": found.st_mtime_ns}
