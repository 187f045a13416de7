"""One file as text, or an error that says what to do about it."""

from __future__ import annotations

import codecs
import shlex
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

from fourcorners.errors import SourceError

MAX_FILE_BYTES = 64 * 2**20
STDIN = "-"
_FORMATS = {
    b"%PDF": "a PDF; turn it into text first, e.g. with pdftotext",
    b"PK\x03\x04": "a zip archive or an office document; turn it into text first, e.g. with pandoc -t plain",
}
_BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_CONTROL_BYTES = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))


def read_text(path: str, stdin: BinaryIO | None = None) -> str:
    """The text of one file, newlines as they stand. Raises SourceError with the reason and a remedy."""
    name, argument = ("standard input", "FILE") if path == STDIN else (repr(path), shlex.quote(path))
    try:
        with nullcontext(stdin or sys.stdin.buffer) if path == STDIN else Path(path).open("rb") as file:
            return _decoded(file.read(MAX_FILE_BYTES + 1), name, argument)
    except FileNotFoundError as error:
        raise SourceError(f"no such file or folder: {name}. Check its name and the folder you are in.") from error
    except PermissionError as error:
        raise SourceError(f"no permission to read {name}. Allow it, e.g. chmod u+r {argument}") from error
    except OSError as error:
        raise SourceError(f"can't read {name}: {error.strerror}. Give a text file.") from error


def _decoded(data: bytes, name: str, argument: str) -> str:
    if len(data) > MAX_FILE_BYTES:
        raise SourceError(f"{name} is larger than {MAX_FILE_BYTES >> 20} MiB. Give the part that matters.")
    mark = next((mark for mark in _BYTE_ORDER_MARKS if data.startswith(mark)), b"")
    encoding = _BYTE_ORDER_MARKS.get(mark, "utf-8")
    if not mark:
        _refuse_binary(data, name, argument)
    try:
        text = data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        offset = len(mark) + error.start
        raise SourceError(
            f"{name} is not valid {encoding.upper()} (byte 0x{data[offset]:02X} at offset {offset}). Convert it from "
            f"its own encoding, e.g. iconv -f latin1 -t utf-8 {argument} > converted.txt"
        ) from error
    if "\0" in text:
        raise SourceError(f"{name} is binary (NUL character at {text.index(chr(0))}). Give a text file.")
    if not text.strip():
        raise SourceError(f"{name} is empty. Give a file with text in it.")
    return text


def _refuse_binary(data: bytes, name: str, argument: str) -> None:
    if kind := next((kind for magic, kind in _FORMATS.items() if data.startswith(magic)), None):
        raise SourceError(f"{name} is {kind}.")
    if (offset := data.find(b"\0")) >= 0:
        raise SourceError(
            f"{name} is binary (NUL byte at offset {offset}). Give a text file; if it is UTF-16 text, convert it, "
            f"e.g. iconv -f utf-16le -t utf-8 {argument} > converted.txt"
        )
    if (controls := len(data) - len(data.translate(None, _CONTROL_BYTES))) > 0.3 * len(data):
        raise SourceError(f"{name} is binary ({controls} of {len(data)} bytes are controls). Give a text file.")
