"""What the reader is trained on: the answer, and helpers that show it where to look.

Only ``choice``, ``inside`` and ``copy`` are about the output. The others teach inner steps directly, without which a
model of this size did not find them in an hour: which words pair up (match), which sentence is relevant and how it
began (relevance, start), and where to look while answering (pointer).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.batches import Batch
from training.model import Reader

LOSSES = {
    "choice": 1.0,
    "inside": 0.1,
    "copy": 0.3,
    "context": 0.1,
    "pointer": 0.3,
    "relevance": 1.0,
    "start": 0.2,
    "match": 2.0,
}
"""Losses and their weights; what each is, see ``losses``."""


MOST_AFFINITY = 20.0


class Helpers(nn.Module):  # type: ignore[misc]
    """Heads that only training has: they teach the end of a sentence how relevant it is and how it began."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width)
        self.word_norm = nn.RMSNorm(width)
        self.relevance = nn.Linear(width, 1)
        self.start = nn.Linear(width, width, bias=False)
        self.word_weight = nn.Linear(width, 1)
        self.nothing = nn.Parameter(torch.zeros(2))

    def forward(self, model: Reader, middle: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss of relevance (with the lexical prior) and of the first token of each sentence."""
        ends = self.norm(middle.flatten(0, 1)[batch.end_at])
        scores = self.relevance(ends).squeeze(-1).float()
        relevance = F.cross_entropy(F.pad(scores, (0, 1)) + batch.end_prior, batch.end_gold)
        used = batch.end_prior[:, :-1].isfinite()
        start = F.cross_entropy(model.logits(self.start(ends[used])), batch.end_start[used])
        return relevance, start


def match_loss(model: Reader, helpers: Helpers, queries: Tensor, keys: Tensor, batch: Batch) -> Tensor:
    """How badly the attention of sentence tokens to the question's tells the right sentence, beside the prior.

    Each question word looks for its best counterpart in each sentence (late interaction, as in ColBERT), so pairs such
    as "heavy" and "weighs" get a direct gradient. Without this loss they were not learned in the time.
    """
    reach = batch.in_question.shape[1]
    affinity = torch.einsum("rhtd,rhjd->rhtj", queries, keys[:, :, :reach]).float() / queries.shape[-1] ** 0.5
    words = helpers.word_norm(model.token_embd(batch.ids[:, :reach]))
    weight = F.softplus(helpers.word_weight(words).squeeze(-1)) * batch.in_question
    strength = affinity.clamp(-MOST_AFFINITY, MOST_AFFINITY).exp()
    inside = F.one_hot(batch.sentence_of, batch.end_prior.shape[1])[..., :-1].float()
    inside = inside / inside.sum(1, keepdim=True).clamp(min=1.0)  # the mean, lest long sentences win
    best = torch.einsum("rts,rhtj->rhsj", inside, strength).clamp(min=1e-6).float().log().sum(1)
    scores = (best * weight[:, None]).sum(-1)
    nothing = helpers.nothing[0] + helpers.nothing[1] * weight.sum(-1)
    return F.cross_entropy(torch.cat((scores, nothing[:, None]), dim=-1).float() + batch.end_prior, batch.end_gold)


def choice_loss(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """At each fork: the right way under model *and* lexical prior, and the mass that falls on any allowed way.

    The prior is in the loss because it is in the runtime's score: the model learns what words alone do not tell.
    """
    allowed = logits.gather(1, batch.choice_tokens)
    right = F.cross_entropy(allowed + batch.choice_prior, batch.choice_right)
    inside = allowed.masked_fill(batch.choice_prior == -torch.inf, -torch.inf).logsumexp(-1)
    return right, (logits.logsumexp(-1) - inside).mean()


def pointer_loss(queries: Tensor, keys: Tensor, batch: Batch) -> Tensor:
    """How little of a head's attention goes where it should."""
    q = queries[batch.point_row, batch.point_head, batch.point_from]
    k = keys[batch.point_row, batch.point_head]
    scores = torch.einsum("nd,ntd->nt", q, k).float() / q.shape[-1] ** 0.5
    columns = torch.arange(scores.shape[1], device=scores.device)
    return F.cross_entropy(scores.masked_fill(columns > batch.point_from[:, None], -torch.inf), batch.point_to)


def losses(model: Reader, helpers: Helpers, trunk: nn.Module, batch: Batch) -> Tensor:
    """The losses of LOSSES of one batch, each a mean in nats."""
    hidden, match_q, match_k, middle, queries, keys = trunk(batch.ids)
    flat = hidden.flatten(0, 1)
    logits = model.logits(flat[torch.cat((batch.choice_at, batch.copy_at, batch.context_at))])
    of_choices, of_copies, of_context = logits.split([len(batch.choice_at), len(batch.copy_at), len(batch.context_at)])
    right, inside = choice_loss(of_choices, batch)
    copies = F.cross_entropy(of_copies, batch.copy_next, reduction="none")
    copy = (copies * batch.copy_weight).sum() / batch.copy_weight.sum()
    context = F.cross_entropy(of_context, batch.context_next)
    match = match_loss(model, helpers, match_q, match_k, batch)
    relevance, start = helpers(model, middle, batch)
    return torch.stack((right, inside, copy, context, pointer_loss(queries, keys, batch), relevance, start, match))
