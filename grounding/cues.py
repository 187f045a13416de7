"""Closed lists of words that carry the form of a statement: negations, pronouns, quantifiers …"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from fourcorners.grounding.words import fold


@cache
def cues(name: str) -> frozenset[str]:
    """The folded words of one line of ``cues.txt``. Raises KeyError for a list that is not there."""
    return _lists()[name]


def data_lines(name: str) -> list[str]:
    """The lines of a data file beside this module, without comments."""
    lines = files(__package__).joinpath(name).read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@cache
def _lists() -> dict[str, frozenset[str]]:
    named = (line.partition(":") for line in data_lines("cues.txt"))
    return {name: frozenset(map(fold, words.split())) for name, _, words in named}
