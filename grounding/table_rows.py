"""Rows of Markdown tables with the header of each cell before it, so that a number can be told by its column."""

from __future__ import annotations

import regex

MAX_TABLE_CHARS = 20_000


def spelled_out_row(text: str, start: int, end: int) -> str | None:
    """ "Lumo S model; power W 5" for the row at ``start`` to ``end`` of ``text``; None for what is no table's row."""
    if not text.startswith("|", start) and not text.startswith("|", max(0, start - 2)):
        return None
    above = text[max(0, start - MAX_TABLE_CHARS) : start].split("\n")[:-1]
    table: list[str] = []
    for line in reversed(above):
        if not line.lstrip().startswith("|"):
            break
        table.append(line)
    if len(table) < 2 or not _is_rule(table[-2]):
        return None
    names, values = _cells(table[-1]), _cells(text[start:end])
    if len(names) != len(values):
        return None
    pairs = [f"{_plain(name)} {value}" for name, value in zip(names[1:], values[1:], strict=True)]
    return "; ".join([f"{values[0]} {_plain(names[0])}", *pairs])  # the first cell is what the row is about


def _is_rule(line: str) -> bool:
    return "---" in line and not line.strip("|:- \t\r")


def _plain(name: str) -> str:
    """A header without parentheses, and small, so that it does not pass for a name."""
    bare = regex.sub(r"[()]", "", name)
    return bare[:1].lower() + bare[1:] if bare[1:2].islower() else bare


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip().removeprefix("|").removesuffix("|").split("|")]
