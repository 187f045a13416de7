"""The bundled reader: a small GGUF that answers without any download. Its card is README.md in this folder.

``reader.thresholds.json``, where it is there, is what ``fourcorners calibrate`` wrote for it; entries for another
reader are not heeded.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def reader_path() -> Path:
    """Where the bundled reader's GGUF lies."""
    return Path(str(files(__package__).joinpath("reader.gguf")))


def reader_thresholds_path() -> Path:
    """Where the thresholds that were calibrated for it lie, if any were."""
    return reader_path().with_name("reader.thresholds.json")
