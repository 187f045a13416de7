"""Fit the weights of the lexical prior (``grounding/prior.py``) on a SQuAD 2.0 train file and print them.

    python -m training.fit_prior --squad squad2_train.json

One minute on one core for 4,700 questions. Rows: each question on its own paragraph (the sentence that holds the
answer is right), on a random other paragraph and on its own without that sentence (the refusal is right).
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fourcorners.grounding.evidence import Evidence, Sentence, documents_from
from fourcorners.grounding.prior import REFUSAL_FEATURES, SENTENCE_FEATURES, Floats, prior_features

SEED = 0
WEIGHTS = {"answered": 1.0, "unanswerable": 1.0, "swapped": 0.35, "removed": 0.35}
RIDGE = 1e-3


@dataclass(frozen=True)
class Row:
    """Features of one question; ``gold`` is the index of the right sentence, -1 for the refusal."""

    sentences: Floats
    refusal: Floats
    gold: int
    weight: float


def rows(squad: Path) -> Iterator[Row]:
    """Rows of all questions in the file."""
    articles = json.loads(squad.read_text("utf-8"))["data"]
    paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
    split = [Evidence("", documents_from([p["context"]])).sentences for p in paragraphs]
    chance = random.Random(SEED)
    for own, paragraph in enumerate(paragraphs):
        for qa in paragraph["qas"]:
            gold = _gold(split[own], qa["answers"])
            yield from _row(qa["question"], split[own], gold, "unanswerable" if gold < 0 else "answered")
            other = chance.randrange(len(split))
            if gold < 0 or other == own:
                continue
            yield from _row(qa["question"], split[other], -1, "swapped")
            yield from _row(qa["question"], split[own][:gold] + split[own][gold + 1 :], -1, "removed")


def _gold(sentences: tuple[Sentence, ...], answers: list[dict[str, int]]) -> int:
    if not answers:
        return -1
    start = answers[0]["answer_start"]
    return next((i for i, s in enumerate(sentences) if s.start <= start < s.end), -1)


def _row(question: str, sentences: tuple[Sentence, ...], gold: int, kind: str) -> Iterator[Row]:
    features = prior_features(question, sentences) if sentences else None
    if features is not None:
        yield Row(*features, gold, WEIGHTS[kind])


def fit(data: list[Row]) -> tuple[Floats, Floats]:
    """Maximum likelihood of the right branch under a softmax over sentences and refusal (L-BFGS)."""
    width = max(len(row.sentences) for row in data)
    sentences = torch.zeros(len(data), width, len(SENTENCE_FEATURES))
    absent = torch.ones(len(data), width, dtype=torch.bool)
    for index, row in enumerate(data):
        sentences[index, : len(row.sentences)] = torch.tensor(row.sentences)
        absent[index, : len(row.sentences)] = False
    refusal = torch.tensor(np.array([row.refusal for row in data]), dtype=torch.float32)
    gold = torch.tensor([row.gold if row.gold >= 0 else width for row in data])
    weight = torch.tensor([row.weight for row in data])
    of_sentences = torch.zeros(len(SENTENCE_FEATURES), requires_grad=True)
    of_refusal = torch.zeros(len(REFUSAL_FEATURES), requires_grad=True)
    optimizer = torch.optim.LBFGS([of_sentences, of_refusal], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        scores = (sentences @ of_sentences).masked_fill(absent, -1e9)
        logits = torch.cat([scores, (refusal @ of_refusal)[:, None]], dim=1)
        losses = torch.nn.functional.cross_entropy(logits, gold, reduction="none")
        loss = (weight * losses).sum() / weight.sum() + RIDGE * (of_sentences**2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return of_sentences.detach().numpy().astype(float), of_refusal.detach().numpy().astype(float)


def main() -> None:
    """Print the fitted weights as they stand in ``grounding/prior.py``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--squad", type=Path, required=True, help="SQuAD 2.0 JSON, a train split")
    arguments = parser.parse_args()
    of_sentences, of_refusal = fit(list(rows(arguments.squad)))
    print("SENTENCE_WEIGHTS =", [round(float(value), 2) for value in of_sentences])
    print("REFUSAL_WEIGHTS =", [round(float(value), 2) for value in of_refusal])


if __name__ == "__main__":
    main()
