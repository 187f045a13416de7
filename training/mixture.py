"""The mixture of training rows: questions by people, documents written for this project, and templates."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from training import data_squad
from training.data_templates import TemplateSource
from training.data_written import WrittenSource, is_held_back
from training.rows import Example, Row, build_row, sentence_to_repeat, show
from training.tokenizer import SegmentTokenizer
from training.written import written

SHARES = {"written": 0.6, "squad": 0.2, "templates": 0.2}
MOST_SENTENCES = ((0.6, 4), (0.3, 7), (0.1, 14))
"""Shares of rows by the most sentences that they show."""

ExampleSource = Callable[[random.Random], Example]


def sources(squad: Sequence[Path], shares: dict[str, float]) -> list[tuple[float, ExampleSource]]:
    """(share, source) of each kind of examples that has a share."""
    made: list[tuple[float, ExampleSource]] = []
    if shares["written"]:
        made.append((shares["written"], WrittenSource([d for d in written() if not is_held_back(d)]).draw))
    if shares["squad"]:
        paragraphs = [paragraph for path in squad for paragraph in data_squad.load(path)]
        made.append((shares["squad"], data_squad.SquadSource(data_squad.split(paragraphs)[0]).draw))
    if shares["templates"]:
        made.append((shares["templates"], TemplateSource().draw))
    return made


def row_source(
    tokenizer: SegmentTokenizer, found: list[tuple[float, ExampleSource]]
) -> Callable[[random.Random], Row | None]:
    """A function that draws one row; None where nothing is left to show."""
    shares = [share for share, _ in found]
    draws = [draw for _, draw in found]

    def draw(rng: random.Random) -> Row | None:
        example = rng.choices(draws, shares)[0](rng)
        most = rng.choices([most for _, most in MOST_SENTENCES], [share for share, _ in MOST_SENTENCES])[0]
        shown = show(example, rng.randint(1, most), rng)
        return build_row(tokenizer, shown, sentence_to_repeat(shown, rng), rng) if shown.documents else None

    return draw
