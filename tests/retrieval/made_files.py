"""Real PDF, Word and other files, made for the tests."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import docx
from PIL import Image
from pypdf import PdfReader, PdfWriter
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

SCAN = None
"""A page that holds nothing but a picture."""


def pdf(pages: Iterable[Sequence[str] | None]) -> bytes:
    """A PDF with these lines on each page."""
    buffer = io.BytesIO()
    canvas = Canvas(buffer)
    for lines in pages:
        if lines is SCAN:
            canvas.drawImage(ImageReader(Image.new("L", (60, 80), 200)), 50, 50)
        else:
            for number, line in enumerate(lines or ()):
                canvas.drawString(72, 780 - 16 * number, line)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def encrypted(data: bytes, user: str, owner: str, algorithm: str) -> bytes:
    """``data``, a PDF, under passwords; an empty one for the user is no hindrance to reading."""
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(data)))
    writer.encrypt(user, owner, algorithm=algorithm)
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def word(*blocks: str | list[list[str]]) -> bytes:
    """A .docx: a text is a paragraph ("# " before it makes it a heading), a list of rows a table."""
    document = docx.Document()
    for block in blocks:
        if isinstance(block, list):
            table = document.add_table(rows=0, cols=len(block[0]))
            for row in block:
                for cell, text in zip(table.add_row().cells, row, strict=True):
                    cell.text = text
        elif block.startswith("# "):
            document.add_heading(block[2:], level=1)
        else:
            document.add_paragraph(block)
    return saved(document)


def saved(document: Any) -> bytes:
    """The bytes of a python-docx document."""
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def put(folder: Path, **files: str | bytes) -> None:
    """Files in ``folder``; in the names, which are Python's, "__" stands for "/" and the last "_" for the dot."""
    for name, content in files.items():
        path = folder / ".".join(name.replace("__", "/").rsplit("_", 1))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
