"""The word stage: pairs such as "heavy" and "weighs" are learned on bare embeddings, 20 times faster than in the whole.

Only the embeddings and the matching heads take part, fed with embeddings instead of the layers below.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch import nn

from training.batches import Batch
from training.losses import Helpers, match_loss
from training.model import MATCH_HEADS, MATCH_LAYER, Reader

REPORT_STEPS = 250


@torch.no_grad()  # type: ignore[untyped-decorator]
def _start_neutral(model: Reader) -> None:
    """Let the matching heads read a part of the embedding that starts near zero, so that unknown words match nothing.

    The rest of the embedding is made larger: it tells tokens apart and keeps the norm from blowing up the first part.
    """
    block, part = model.blk[MATCH_LAYER], model.shape.width * 4 // 5
    model.token_embd.weight[:, :part] *= 0.1
    model.token_embd.weight[:, part:] *= 3.0
    for layer in (block.attn_q, block.attn_k):
        layer.weight[: MATCH_HEADS * model.shape.head_width, part:] = 0.0


def learn_words(
    model: Reader, helpers: Helpers, stream: Iterator[Batch], minutes: float, device: torch.device, rate: float = 3e-3
) -> None:
    """Train for ``minutes`` with Adam, the rate falling linearly to a tenth."""
    block = model.blk[MATCH_LAYER]
    _start_neutral(model)
    trained: list[nn.Parameter] = [model.token_embd.weight, block.attn_q.weight, block.attn_k.weight]
    trained += [*block.attn_norm.parameters(), *helpers.parameters()]
    optimiser = torch.optim.Adam(trained, lr=rate)
    started, total, rows = time.monotonic(), 0.0, 0
    for step, batch in enumerate(stream):
        done = (time.monotonic() - started) / (minutes * 60)
        if done >= 1:
            return
        optimiser.param_groups[0]["lr"] = rate * (1 - 0.9 * done)
        on_device = batch.to(device)
        with torch.autocast(device.type, torch.bfloat16):
            queries, keys = model.word_match(on_device.ids)
            loss = match_loss(model, helpers, queries, keys, on_device)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        total, rows = total + loss.item(), rows + len(batch.ids)
        if (step + 1) % REPORT_STEPS == 0:
            print(f"words: step {step + 1} rows {rows:,} match {total / REPORT_STEPS:.3f}", flush=True)
            total = 0.0
