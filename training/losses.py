"""What the reader is trained for: which sentence answers, that it does, and where in it the answer stands."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.batches import WAYS, Batch
from training.model import Reader
from training.tokenizer import CONTROL, END, START, YES
from training.words import Words

LOSSES = {"choice": 1.0, "inner": 0.5, "span": 0.6, "check": 0.5, "match": 0.5}
"""Names of the losses and their usual weights.

choice: which sentence, or the refusal, at the marks behind the question; inner: which sentence, at the marks in the
text; span: first and last token of the answer in the repeated sentence; check: whether the repeated sentence answers;
match: which words pair up (words.py).
"""
PRIOR_SHARE = 0.75
"""Share of rows whose scores are added to the lexical prior's, as at run time; the others teach to do without."""


def losses(model: Reader, words: Words, trunk: nn.Module, batch: Batch) -> Tensor:
    """The means of all losses, in the order of ``LOSSES``; ``trunk`` is ``model`` or its compiled form."""
    signs = torch.tensor([CONTROL.index(token) for token in (YES, START, END)], device=batch.ids.device)
    yes, start, end = model.scores(trunk(batch.ids).flatten(0, 1), signs).unbind(-1)
    absent = batch.prior[:, :-1].isinf()
    of_marks = yes[batch.mark_at].masked_fill(absent, -torch.inf)
    with_prior = torch.rand(len(batch.gold), 1, device=yes.device) < PRIOR_SHARE
    prior = torch.where(with_prior | batch.prior.isinf(), batch.prior, 0.0)
    choice = F.cross_entropy(torch.cat((of_marks, yes[batch.none_at, None]), dim=1) + prior, batch.gold)
    of_inner = yes[batch.inner_at].masked_fill(absent, -torch.inf)
    answerable = (batch.gold < WAYS - 1).nonzero()[:, 0]
    inner = F.cross_entropy(of_inner[answerable], batch.gold[answerable]) if len(answerable) else choice * 0
    span = (_span(start, batch, batch.start_at) + _span(end, batch, batch.end_at)) / 2
    check = F.binary_cross_entropy_with_logits(yes[batch.check_at], batch.check_right)
    return torch.stack((choice, inner, span, check, words.loss(model, batch)))


def _span(scores: Tensor, batch: Batch, right_at: Tensor) -> Tensor:
    """Cross entropy over the tokens of the repeated sentence, of the rows whose repeated sentence answers."""
    scores = scores.clamp(max=30)
    mass = torch.zeros(len(batch.gold), device=scores.device).index_add(
        0, batch.again_row, scores[batch.again_at].exp()
    )
    return (mass[batch.span_row].log() - scores[right_at]).mean() if len(right_at) else scores.sum() * 0
