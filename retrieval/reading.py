"""The bytes of one file, and text out of bytes, or an error that says what to do about it."""

from __future__ import annotations

import codecs
import os
import shlex
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

from fourcorners.errors import SourceError

MAX_FILE_BYTES = 64 * 2**20
STDIN = "-"
_FORMATS = {
    b"PK\x03\x04": "a zip archive or an office document; turn it into text first, e.g. with pandoc -t plain",
    b"\xd0\xcf\x11\xe0": "an old or password-protected office document; save it as .docx without a password",
}
_BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_CONTROL_BYTES = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))


def read_text(path: str, stdin: BinaryIO | None = None) -> str:
    """The text of one text file, newlines as they stand. Raises SourceError with the reason and a remedy."""
    return decoded(read_bytes(path, stdin), path)


def read_bytes(path: str, stdin: BinaryIO | None = None) -> bytes:
    """The bytes of one file or of standard input (``-``). Raises SourceError with the reason and a remedy."""
    name, argument = naming(path)
    try:
        with nullcontext(stdin or sys.stdin.buffer) if path == STDIN else Path(path).open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise SourceError(f"no such file or folder: {name}. Check its name and the folder you are in.") from error
    except PermissionError as error:
        raise SourceError(f"no permission to read {name}. Allow it, e.g. chmod u+r {argument}") from error
    except OSError as error:
        raise SourceError(f"can't read {name}: {error.strerror}. Give a text file.") from error
    if len(data) > MAX_FILE_BYTES:
        raise SourceError(f"{name} is larger than {MAX_FILE_BYTES >> 20} MiB. Give the part that matters.")
    return data


def decoded(data: bytes, path: str, *, any_encoding: bool = False) -> str:
    """``data``, the content of ``path``, as text. Raises SourceError where it is empty, binary or not UTF-8 or UTF-16.

    With ``any_encoding`` what is neither, nor damaged UTF-8, is read as Windows-1252, the usual one in the West.
    """
    name, argument = naming(path)
    mark = next((mark for mark in _BYTE_ORDER_MARKS if data.startswith(mark)), b"")
    encoding = _BYTE_ORDER_MARKS.get(mark, "utf-8")
    if not mark:
        _refuse_binary(data, name, argument)
    try:
        text = data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        if any_encoding and not mark and _is_single_byte_text(data):
            return data.decode("cp1252", errors="replace")
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


def naming(path: str) -> tuple[str, str]:
    """``path`` for an error message, and as an argument in a command that the message suggests."""
    return ("standard input", "FILE") if path == STDIN else (repr(printable(path)), shlex.quote(printable(path)))


def printable(path: str | bytes) -> str:
    """``path`` with bytes that are not UTF-8 written as ``\\xff``: it can be printed, encoded and put into JSON."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


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


def _is_single_byte_text(data: bytes) -> bool:
    """Whether ``data``, which is not UTF-8, looks like text of one byte a letter: no controls, little valid UTF-8."""
    if data.translate(None, _CONTROL_BYTES) != data:
        return False
    lenient = data.decode("utf-8", "replace")
    n_wrong = lenient.count("\ufffd")
    n_right = sum(char > "\x7f" for char in lenient) - n_wrong
    return n_wrong > n_right
