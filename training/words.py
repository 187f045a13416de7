"""Which words of a question and of a sentence pair up ("heavy", "weighs"): learned on bare embeddings first, ten times
faster than in the whole model, and held on to while that learns.

Late interaction as in ColBERT (Khattab and Zaharia 2020, arXiv 2004.12832): each token of the question looks for its
best counterparts in each sentence. Queries and keys are those of the first layer's first heads.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.batches import Batch
from training.model import MATCHING_HEADS, Reader

REPORT_STEPS = 200
MOST_AFFINITY = 20.0
OTHER_SIDE = 2.0


class Words(nn.Module):  # type: ignore[misc]
    """What matching needs beside the model, and is not exported: the weight of each word, and of no match at all."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width)
        self.weight = nn.Linear(width, 1)
        self.nothing = nn.Parameter(torch.zeros(2))

    def loss(self, model: Reader, batch: Batch) -> Tensor:
        """How badly the affinity of the words tells the right sentence, or that there is none, beside the prior."""
        # Without the last number, which only tells the sides apart.
        queries, keys = (side[..., :-1] for side in model.first_heads(batch.ids))
        reach = batch.in_question.shape[1]
        affinity = torch.einsum("rhtd,rhjd->rhtj", queries, keys[:, :, :reach]).float() / queries.shape[-1] ** 0.5
        words = self.norm(model.token_embd(batch.ids[:, :reach]))
        weight = F.softplus(self.weight(words).squeeze(-1)) * batch.in_question
        strength = affinity.clamp(-MOST_AFFINITY, MOST_AFFINITY).exp()
        inside = F.one_hot(batch.sentence_of, batch.prior.shape[1])[..., :-1].float()
        inside = inside / inside.sum(1, keepdim=True).clamp(min=1.0)  # the mean, lest long sentences win
        best = torch.einsum("rts,rhtj->rhsj", inside, strength).clamp(min=1e-6).float().log().sum(1)
        scores = (best * weight[:, None]).sum(-1)
        nothing = self.nothing[0] + self.nothing[1] * weight.sum(-1)
        return F.cross_entropy(torch.cat((scores, nothing[:, None]), dim=-1).float() + batch.prior, batch.gold)


@torch.no_grad()  # type: ignore[untyped-decorator]
def _start_neutral(model: Reader) -> None:
    """Let the affinity of two words start as that of their vectors, and each side look at the other.

    What tells question from text is the last number of an embedding; it counts in each head's last number, which
    positions hardly turn. Without it a token would look at itself alone.
    """
    first, size = model.blk[0], model.shape.head_width
    for head in range(MATCHING_HEADS):
        rows = slice(head * size, (head + 1) * size)
        nn.init.orthogonal_(first.attn_k.weight[rows, :-1])
        first.attn_k.weight[rows, :-1] *= 1.2
        first.attn_k.weight[rows, -1] = 0.0
        first.attn_k.weight[rows.stop - 1] = 0.0
        first.attn_q.weight[rows] = first.attn_k.weight[rows]
        first.attn_k.weight[rows.stop - 1, -1] = OTHER_SIDE
        first.attn_q.weight[rows.stop - 1, -1] = -OTHER_SIDE


def learn_words(
    model: Reader, words: Words, stream: Iterator[Batch], minutes: float, device: torch.device, rate: float = 1e-3
) -> None:
    """Train embeddings and matching heads for ``minutes`` with Adam, the rate falling linearly to a tenth."""
    _start_neutral(model)
    first = model.blk[0]
    trained = [model.token_embd.weight, first.attn_q.weight, first.attn_k.weight, *first.attn_norm.parameters()]
    optimiser = torch.optim.Adam([*trained, *words.parameters()], lr=rate)
    started, total, rows = time.monotonic(), 0.0, 0
    for step, batch in enumerate(stream):
        done = (time.monotonic() - started) / (minutes * 60)
        if done >= 1:
            return
        optimiser.param_groups[0]["lr"] = rate * (1 - 0.9 * done)
        with torch.autocast(device.type, torch.bfloat16):
            loss = words.loss(model, batch.to(device))
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        total, rows = total + loss.item(), rows + len(batch.ids)
        if (step + 1) % REPORT_STEPS == 0:
            print(f"words: {60 * minutes * done:.0f} s rows {rows:,} match {total / REPORT_STEPS:.3f}", flush=True)
            total = 0.0
