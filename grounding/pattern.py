"""What a remote model may answer, as a small tree that is written out as a regex or as a grammar of llama.cpp (GBNF).

Servers differ in which of the two they take; written from one tree, both say the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_META = re.compile(r"[\\.^$*+?{}\[\]|()]")


@dataclass(frozen=True, slots=True)
class Literal:
    """Exactly this text."""

    text: str

    def regex(self) -> str:
        """The text with what a regex would read as a sign escaped; white space other than a space by its code."""
        escaped = _META.sub(lambda match: "\\" + match[0], self.text)
        return "".join(char if char.isprintable() else _code(char) for char in escaped)

    def gbnf(self) -> str:
        """A quoted string of GBNF, which reads ``\\n``, ``\\xNN``, ``\\uNNNN`` and ``\\UNNNNNNNN``."""
        return '"' + "".join(_gbnf_char(char) for char in self.text) + '"'


@dataclass(frozen=True, slots=True)
class Digits:
    """One digit from ``first`` to ``last``."""

    first: int
    last: int

    def regex(self) -> str:
        """A class of characters."""
        return f"[{self.first}-{self.last}]" if self.first < self.last else str(self.first)

    def gbnf(self) -> str:
        """A class of characters, which GBNF writes alike."""
        return f"[{self.first}-{self.last}]"


@dataclass(frozen=True, slots=True)
class Row:
    """All of ``parts``, in order."""

    parts: tuple[Pattern, ...]

    def regex(self) -> str:
        """The parts side by side."""
        return "".join(part.regex() for part in self.parts)

    def gbnf(self) -> str:
        """The parts side by side."""
        return " ".join(part.gbnf() for part in self.parts)


@dataclass(frozen=True, slots=True)
class Either:
    """One of ``parts``."""

    parts: tuple[Pattern, ...]

    def regex(self) -> str:
        """A group of alternatives."""
        return "(" + "|".join(part.regex() for part in self.parts) + ")"

    def gbnf(self) -> str:
        """A group of alternatives."""
        return "(" + " | ".join(part.gbnf() for part in self.parts) + ")"


@dataclass(frozen=True, slots=True)
class Maybe:
    """``part`` or nothing."""

    part: Pattern

    def regex(self) -> str:
        """A group with a question mark."""
        return f"({self.part.regex()})?"

    def gbnf(self) -> str:
        """A group with a question mark."""
        return f"({self.part.gbnf()})?"


Pattern = Literal | Digits | Row | Either | Maybe


def as_gbnf(pattern: Pattern) -> str:
    """A whole grammar."""
    return f"root ::= {pattern.gbnf()}\n"


def matches(pattern: Pattern, text: str) -> bool:
    """Whether ``text`` as a whole is one of those that ``pattern`` allows."""
    return re.fullmatch(pattern.regex(), text) is not None


def number_up_to(last: int) -> Pattern:
    """A number from 1 to ``last`` without leading zeros."""
    digits = str(last)
    shorter: list[Pattern] = [Row((Digits(1, 9), *[Digits(0, 9)] * (length - 1))) for length in range(1, len(digits))]
    return Either((*shorter, *_as_long(digits)))


def _as_long(digits: str) -> list[Pattern]:
    """Numbers of as many digits as ``digits`` that are no larger: by the place where they first are smaller."""
    found: list[Pattern] = []
    for place, digit in enumerate(map(int, digits)):
        low = 0 if place else 1
        if digit > low:
            head = [Literal(digits[:place])] if place else []
            tail = [Digits(0, 9)] * (len(digits) - place - 1)
            found.append(Row((*head, Digits(low, digit - 1), *tail)))
    return [*found, Literal(digits)]


def one_to(most: int, part: Pattern, joint: str) -> Pattern:
    """One to ``most`` times ``part``, with ``joint`` between them."""
    whole = part
    for _ in range(most - 1):
        whole = Row((part, Maybe(Row((Literal(joint), whole)))))
    return whole


def prefixes(pieces: Sequence[str]) -> Pattern:
    """The first of ``pieces``, or the first two, or … all of them, joined."""
    whole: Pattern = Literal(pieces[-1])
    for piece in reversed(pieces[:-1]):
        whole = Row((Literal(piece), Maybe(whole)))
    return whole


def _code(char: str) -> str:
    short = {"\n": r"\n", "\t": r"\t", "\r": r"\r"}.get(char)
    if short:
        return short
    return char if ord(char) > 127 else f"\\x{ord(char):02x}"


def _gbnf_char(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char.isprintable():
        return char
    short = {"\n": r"\n", "\t": r"\t", "\r": r"\r"}.get(char)
    code = ord(char)
    return short or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}")
