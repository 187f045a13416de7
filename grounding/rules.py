"""The rules that a sentence can break."""

from __future__ import annotations

from typing import Literal

Rule = Literal["number", "date", "name", "negation", "opposite", "quantity", "order", "elsewhere", "words", "nothing"]
"""``elsewhere``: it is said, but of something else; ``words``: a word has no counterpart; ``nothing``: no claim."""
Broken = tuple[Rule, str]
"""A rule, and the word that broke it."""
