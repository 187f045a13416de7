"""The bundled reader: a small GGUF that answers without any download. Its card is README.md in this folder."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def reader_path() -> Path:
    """Where the bundled reader's GGUF lies."""
    return Path(str(files(__package__).joinpath("reader.gguf")))
