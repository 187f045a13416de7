"""Batches of rows of similar length, made in a background thread while the model trains."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from training.rows import CONTEXT_TOKENS, FULL_WEIGHT_TOKENS, Row

LENGTHS = (96, 128, 192, 256, 320, 384, CONTEXT_TOKENS)
"""Few fixed lengths, so that a compiled model is compiled few times."""


@dataclass(frozen=True)
class Batch:
    """Tensors of one step. Flat indices count through ``ids.flatten()``."""

    ids: Tensor
    answer_at: Tensor
    answer_next: Tensor
    answer_weight: Tensor
    context_at: Tensor
    context_next: Tensor
    pointer_row: Tensor
    pointer_at: Tensor
    pointer_gold: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(**{name: value.to(device, non_blocking=True) for name, value in vars(self).items()})


def collate(rows: list[Row], length: int, rng: random.Random, context_share: float) -> Batch:
    """Pad on the right; sample a share of the context positions for the language-model loss."""
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    answers: list[tuple[int, int, float]] = []
    context: list[tuple[int, int]] = []
    pointers: list[tuple[int, int, int, int]] = []
    for number, row in enumerate(rows):
        ids[number, : len(row.ids)] = torch.tensor(row.ids)
        base = number * length
        answers += [(base + at, row.ids[at + 1], weight) for at, weight in row.targets]
        first = row.targets[0][0]
        picked = rng.sample(range(first), int(first * context_share))
        context += [(base + at, row.ids[at + 1]) for at in picked]
        pointers += [(number, at, *row.gold_span) for at, _ in row.targets[:FULL_WEIGHT_TOKENS]]
    where = torch.tensor([(r, at) for r, at, _, _ in pointers])
    columns = torch.arange(length)
    spans = torch.tensor([(low, high) for _, _, low, high in pointers])
    return Batch(
        ids=ids,
        answer_at=torch.tensor([a for a, _, _ in answers]),
        answer_next=torch.tensor([n for _, n, _ in answers]),
        answer_weight=torch.tensor([w for _, _, w in answers]),
        context_at=torch.tensor([a for a, _ in context], dtype=torch.long),
        context_next=torch.tensor([n for _, n in context], dtype=torch.long),
        pointer_row=where[:, 0],
        pointer_at=where[:, 1],
        pointer_gold=(columns >= spans[:, :1]) & (columns < spans[:, 1:]),
    )


def batches(draw: Callable[[random.Random], Row], seed: int, tokens: int, context_share: float) -> Iterator[Batch]:
    """Endless batches of about ``tokens`` tokens; the same seed gives the same batches. Too long rows are left out."""
    rng = random.Random(seed)
    waiting: dict[int, list[Row]] = {length: [] for length in LENGTHS}

    def produce() -> Batch:
        while True:
            row = draw(rng)
            length = next((size for size in LENGTHS if len(row.ids) <= size), None)
            if length is None:
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
