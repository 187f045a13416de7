"""Batches of rows of similar length, made in a background thread while the model trains."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from training.mixture import MOST_SENTENCES
from training.rows import CONTEXT_TOKENS, Choice, Row

LENGTHS = (96, 128, 192, 256, 320, CONTEXT_TOKENS)
"""Few fixed lengths, so that a compiled model is compiled few times."""
QUESTION_REACH = 72
"""The question before the context lies within so many tokens; the rest of a longer one is not matched."""
WAYS = MOST_SENTENCES + 1
"""Most ways at a fork: the sentences and the refusal."""


@dataclass(frozen=True)
class Batch:
    """Tensors of one step. ``…_at`` are flat indices that count through ``ids.flatten()``."""

    ids: Tensor
    choice_at: Tensor
    choice_tokens: Tensor
    choice_prior: Tensor
    choice_right: Tensor
    copy_at: Tensor
    copy_next: Tensor
    copy_weight: Tensor
    context_at: Tensor
    context_next: Tensor
    point_row: Tensor
    point_head: Tensor
    point_from: Tensor
    point_to: Tensor
    sentence_of: Tensor
    in_question: Tensor
    end_at: Tensor
    end_start: Tensor
    end_prior: Tensor
    end_gold: Tensor

    def to(self, device: torch.device) -> Batch:
        """The batch on that device."""
        return Batch(**{name: value.to(device, non_blocking=True) for name, value in vars(self).items()})


def collate(rows: list[Row], length: int, rng: random.Random, context_share: float) -> Batch:
    """Pad on the right; sample a share of the prompt's positions for the language-model loss."""
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    choices: list[tuple[int, Choice]] = []
    copies: list[tuple[int, int, float]] = []
    context: list[tuple[int, int]] = []
    pointers: list[tuple[int, int, int, int]] = []
    for number, row in enumerate(rows):
        ids[number, : len(row.ids)] = torch.tensor(row.ids)
        base = number * length
        choices += [(base + choice.at, choice) for choice in row.choices]
        copies += [(base + at, row.ids[at + 1], weight) for at, weight in row.copies]
        picked = rng.sample(range(row.prompt_length - 1), int(row.prompt_length * context_share))
        context += [(base + at, row.ids[at + 1]) for at in picked]
        pointers += [(number, head, at, to) for at, head, to in row.pointers]
    point = torch.tensor(pointers, dtype=torch.long).reshape(-1, 4)
    return Batch(
        ids=ids,
        choice_at=torch.tensor([at for at, _ in choices], dtype=torch.long),
        choice_tokens=_padded([choice.tokens for _, choice in choices], 0),
        choice_prior=_padded([choice.prior for _, choice in choices], -torch.inf),
        choice_right=torch.tensor([choice.right for _, choice in choices], dtype=torch.long),
        copy_at=torch.tensor([at for at, _, _ in copies], dtype=torch.long),
        copy_next=torch.tensor([token for _, token, _ in copies], dtype=torch.long),
        copy_weight=torch.tensor([weight for _, _, weight in copies]),
        context_at=torch.tensor([at for at, _ in context], dtype=torch.long),
        context_next=torch.tensor([token for _, token in context], dtype=torch.long),
        point_row=point[:, 0],
        point_head=point[:, 1],
        point_from=point[:, 2],
        point_to=point[:, 3],
        **_matches(rows, length),
        **_ends(rows, length),
    )


def _padded(lists: list[tuple[int, ...]] | list[tuple[float, ...]], filler: float) -> Tensor:
    rows = [[*entries, *[filler] * (WAYS - len(entries))] for entries in lists]
    return torch.tensor(rows, dtype=torch.long if filler == 0 else torch.float).reshape(-1, WAYS)


def _matches(rows: list[Row], length: int) -> dict[str, Tensor]:
    """The sentence of each token (WAYS - 1: none), and which of the first tokens are the question's."""
    sentence_of = torch.full((len(rows), length), WAYS - 1)
    in_question = torch.zeros(len(rows), min(QUESTION_REACH, length), dtype=torch.bool)
    for number, row in enumerate(rows):
        in_question[number, row.question[0] : row.question[1]] = True
        for place, (start, end) in enumerate(row.spans[: WAYS - 1]):
            sentence_of[number, start:end] = place
    return {"sentence_of": sentence_of, "in_question": in_question}


def _ends(rows: list[Row], length: int) -> dict[str, Tensor]:
    """Where the sentences of each row end, with the refusal as last way; unused places have a prior of -inf."""
    at = [[number * length + end for end in row.ends] for number, row in enumerate(rows)]
    prior = [[*row.prior[:-1], *[-torch.inf] * (WAYS - len(row.prior)), row.prior[-1]] for row in rows]
    return {
        "end_at": torch.tensor([[*ends, *[0] * (WAYS - 1 - len(ends))] for ends in at]),
        "end_start": torch.tensor([[*row.starts, *[0] * (WAYS - 1 - len(row.starts))] for row in rows]),
        "end_prior": torch.tensor(prior, dtype=torch.float),
        "end_gold": torch.tensor([row.gold if row.gold >= 0 else WAYS - 1 for row in rows], dtype=torch.long),
    }


def up_to_context(row: Row) -> Row:
    """The row without what follows its context: enough for the word stage."""
    end = row.spans[-1][1]
    return replace(row, ids=row.ids[:end], prompt_length=end, choices=[], copies=[], pointers=[])


def batches(
    draw: Callable[[random.Random], Row], seed: int, tokens: int, context_share: float, *, context_only: bool = False
) -> Iterator[Batch]:
    """Endless batches of about ``tokens`` tokens; the same seed gives the same batches.

    Rows that are too long or show no sentence are left out.
    """
    rng = random.Random(seed)
    waiting: dict[int, list[Row]] = {length: [] for length in LENGTHS}

    def produce() -> Batch:
        while True:
            row = draw(rng)
            if context_only and row.ends:
                row = up_to_context(row)
            length = next((size for size in LENGTHS if len(row.ids) <= size), None)
            if length is None or not row.ends:
                continue
            waiting[length].append(row)
            if len(waiting[length]) == tokens // length:
                rows, waiting[length] = waiting[length], []
                return collate(rows, length, rng, context_share)

    with ThreadPoolExecutor(1) as worker:
        ahead = [worker.submit(produce) for _ in range(4)]
        while True:
            batch = ahead.pop(0).result()
            ahead.append(worker.submit(produce))
            yield batch
