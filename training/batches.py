"""Batches of rows of similar length, made in a background thread while the model trains."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from training.rows import ROW_TOKENS, Row
from training.tokenizer import MARKS

LENGTHS = (64, 96, 128, 192, 256, 320, ROW_TOKENS)
"""Few fixed lengths, so that a compiled model is compiled few times."""
WAYS = len(MARKS) + 1
QUESTION_REACH = 48
"""Of a longer question so many tokens are matched with those of the text."""


@dataclass(frozen=True)
class Batch:
    """Tensors of one step. Places (``…_at``) are flat indices that count through ``ids.flatten()``; unused ones are 0.

    ``prior`` is minus infinity where there is no sentence; its last column is the refusal, at ``none_at``.
    """

    ids: Tensor
    mark_at: Tensor
    inner_at: Tensor
    none_at: Tensor
    prior: Tensor
    gold: Tensor
    sentence_of: Tensor
    in_question: Tensor
    again_at: Tensor
    again_row: Tensor
    span_row: Tensor
    start_at: Tensor
    end_at: Tensor
    check_at: Tensor
    check_right: Tensor

    def to(self, device: torch.device) -> Batch:
        """The batch on that device."""
        return Batch(**{name: value.to(device, non_blocking=True) for name, value in vars(self).items()})


def collate(rows: Sequence[Row], length: int) -> Batch:
    """Pad on the right."""
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, : len(row.ids)] = torch.tensor(row.ids)
    bases = [number * length for number in range(len(rows))]
    pairs = list(zip(bases, rows, strict=True))
    again = [(base + at, n) for n, (base, row) in enumerate(pairs) for at in row.again]
    spans = [
        (n, base + row.again[row.start], base + row.again[row.end])
        for n, (base, row) in enumerate(pairs)
        if row.start >= 0
    ]
    checks = [(base + row.check, float(row.start >= 0)) for base, row in pairs if row.check]
    return Batch(
        ids=ids,
        mark_at=_padded([[base + at for at in row.marks[:-1]] for base, row in pairs]),
        inner_at=_padded([[base + at for at in row.inner] for base, row in pairs]),
        none_at=torch.tensor([base + row.marks[-1] for base, row in pairs]),
        prior=torch.tensor(
            [[*row.prior[:-1], *[-torch.inf] * (WAYS - len(row.prior)), row.prior[-1]] for row in rows],
            dtype=torch.float,
        ),
        gold=torch.tensor([row.gold if row.gold < len(row.inner) else WAYS - 1 for row in rows]),
        **_matches(rows, length),
        again_at=torch.tensor([at for at, _ in again], dtype=torch.long),
        again_row=torch.tensor([n for _, n in again], dtype=torch.long),
        span_row=torch.tensor([n for n, _, _ in spans], dtype=torch.long),
        start_at=torch.tensor([at for _, at, _ in spans], dtype=torch.long),
        end_at=torch.tensor([at for _, _, at in spans], dtype=torch.long),
        check_at=torch.tensor([at for at, _ in checks], dtype=torch.long),
        check_right=torch.tensor([right for _, right in checks]),
    )


def _matches(rows: Sequence[Row], length: int) -> dict[str, Tensor]:
    """The sentence of each token (WAYS - 1: none), and which of the first tokens are the question's."""
    sentence_of = torch.full((len(rows), length), WAYS - 1)
    in_question = torch.zeros(len(rows), min(QUESTION_REACH, length), dtype=torch.bool)
    for number, row in enumerate(rows):
        in_question[number, 1 : row.question_end] = True
        for place, (start, end) in enumerate(zip(row.starts, row.inner, strict=True)):
            sentence_of[number, start:end] = place
    return {"sentence_of": sentence_of, "in_question": in_question}


def _padded(lists: list[list[int]]) -> Tensor:
    return torch.tensor([[*places, *[0] * (WAYS - 1 - len(places))] for places in lists])


def batches(
    draw: Callable[[random.Random], Row | None], seed: int, tokens: int, *, context_only: bool = False
) -> Iterator[Batch]:
    """Endless batches of about ``tokens`` tokens; the same seed gives the same batches. Rows too long are left out.

    With ``context_only`` rows end behind their last sentence: enough for the word stage.
    """
    rng = random.Random(seed)
    waiting: dict[int, list[Row]] = {length: [] for length in LENGTHS}

    def produce() -> Batch:
        while True:
            row = draw(rng)
            if context_only and row is not None:
                row = replace(
                    row, ids=row.ids[: row.inner[-1]], marks=[0] * len(row.marks), again=[], start=-1, check=0
                )
            length = next((size for size in LENGTHS if row is not None and len(row.ids) <= size), None)
            if row is None or length is None or not row.inner:
                continue
            waiting[length].append(row)
            if len(waiting[length]) == tokens // length:
                rows, waiting[length] = waiting[length], []
                return collate(rows, length)

    with ThreadPoolExecutor(1) as worker:
        ahead = [worker.submit(produce) for _ in range(4)]
        while True:
            batch = ahead.pop(0).result()
            ahead.append(worker.submit(produce))
            yield batch
