"""Fit the weights of the lexical prior (``grounding/prior.py``) and print them.

    python -m training.fit_prior --squad squad2_train.json --plain benchmarks/data/plain_dev.jsonl

Half a minute on one core for 4,700 questions. Two steps: the weights that rank sentences, by a softmax over sentences
and refusal; then the refusal's own, by a logistic regression of "right sentence on top" against "nothing to find".
Rows: each SQuAD question on its own paragraph, on a random other one, and on its own without the right sentence; the
plain questions and near misses as they are.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fourcorners.grounding.evidence import Evidence, Sentence, documents_from
from fourcorners.grounding.prior import REFUSAL_FEATURES, SENTENCE_FEATURES, Floats, kind_scores, prior_features

SEED = 0
RANK_WEIGHTS = {"answered": 1.0, "unanswerable": 1.0, "swapped": 0.35, "removed": 0.35}
REFUSAL_ROW_WEIGHTS = {"answered": 1.0, "unanswerable": 3.0, "swapped": 0.15, "removed": 0.05, "plain": 6.0}
"""Near misses by people are rare and count more; paragraphs with a sentence cut out are plenty and count less."""
RIDGE = 1e-3


@dataclass(frozen=True)
class Row:
    """Features of one question; ``gold`` is the index of the right sentence, -1 for the refusal."""

    sentences: Floats
    kinds: Floats
    refusal: Floats
    gold: int
    kind: str


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


def plain_rows(path: Path) -> Iterator[Row]:
    """Rows of a JSONL file of ``context``, ``question``, ``answers``."""
    for line in path.read_text("utf-8").splitlines():
        entry = json.loads(line)
        sentences = Evidence("", documents_from([entry["context"]])).sentences
        holding = [i for i, s in enumerate(sentences) if any(answer in s.text for answer in entry["answers"])]
        if entry["answerable"] and not holding:
            continue
        yield from _row(entry["question"], sentences, holding[0] if holding else -1, "plain")


def _row(question: str, sentences: tuple[Sentence, ...], gold: int, kind: str) -> Iterator[Row]:
    features = prior_features(question, sentences) if sentences else None
    if features is not None:
        yield Row(features[0], kind_scores(question, sentences), features[1], gold, kind)


def fit_sentences(data: list[Row]) -> tuple[Floats, Floats]:
    """Maximum likelihood of the right branch under a softmax over sentences and refusal (L-BFGS)."""
    width = max(len(row.sentences) for row in data)
    sentences = torch.zeros(len(data), width, len(SENTENCE_FEATURES))
    absent = torch.ones(len(data), width, dtype=torch.bool)
    for index, row in enumerate(data):
        sentences[index, : len(row.sentences)] = torch.tensor(row.sentences)
        absent[index, : len(row.sentences)] = False
    refusal = torch.tensor(np.array([row.refusal for row in data]), dtype=torch.float32)
    gold = torch.tensor([row.gold if row.gold >= 0 else width for row in data])
    weight = torch.tensor([RANK_WEIGHTS[row.kind] for row in data])
    of_sentences = torch.zeros(len(SENTENCE_FEATURES), requires_grad=True)
    of_refusal = torch.zeros(len(REFUSAL_FEATURES), requires_grad=True)

    def loss() -> torch.Tensor:
        scores = (sentences @ of_sentences).masked_fill(absent, -1e9)
        logits = torch.cat([scores, (refusal @ of_refusal)[:, None]], dim=1)
        losses = torch.nn.functional.cross_entropy(logits, gold, reduction="none")
        return (weight * losses).sum() / weight.sum() + RIDGE * (of_sentences**2).sum()

    _minimise(loss, [of_sentences, of_refusal])
    return of_sentences.detach().numpy().astype(float), of_refusal.detach().numpy().astype(float)


def fit_refusal(data: list[Row], of_sentences: Floats) -> tuple[Floats, float]:
    """The refusal's weights, and the share of the best sentence's score that it gets (see BEST_SCORE_WEIGHT)."""
    features, targets, weights = [], [], []
    for row in data:
        scores = row.sentences @ of_sentences + row.kinds
        if row.gold >= 0 and int(scores.argmax()) != row.gold:
            continue  # neither answer nor refusal would be right
        features.append([*row.refusal, scores.max()])
        targets.append(float(row.gold < 0))
        weights.append(REFUSAL_ROW_WEIGHTS[row.kind])
    inputs, wanted, weight = (
        torch.tensor(np.array(part), dtype=torch.float32) for part in (features, targets, weights)
    )
    chosen = torch.zeros(inputs.shape[1], requires_grad=True)

    def loss() -> torch.Tensor:
        losses = torch.nn.functional.binary_cross_entropy_with_logits(inputs @ chosen, wanted, reduction="none")
        return (weight * losses).sum() / weight.sum() + RIDGE * (chosen[1:] ** 2).sum()

    _minimise(loss, [chosen])
    found = chosen.detach().numpy().astype(float)
    return found[:-1], float(found[-1]) + 1.0  # the score is refusal minus best


def _minimise(loss: Callable[[], torch.Tensor], parameters: list[torch.Tensor]) -> None:
    optimizer = torch.optim.LBFGS(parameters, max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)


def main() -> None:
    """Print the fitted weights as they stand in ``grounding/prior.py``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--squad", type=Path, required=True, help="SQuAD 2.0 JSON, a train split")
    parser.add_argument("--plain", type=Path, required=True, help="JSONL of plain questions and near misses")
    arguments = parser.parse_args()
    human = list(rows(arguments.squad))
    of_sentences, _ = fit_sentences(human)
    of_refusal, share = fit_refusal(human + list(plain_rows(arguments.plain)), of_sentences)
    print("SENTENCE_WEIGHTS =", [round(float(value), 2) for value in of_sentences])
    print("REFUSAL_WEIGHTS =", [round(float(value), 2) for value in of_refusal])
    print("BEST_SCORE_WEIGHT =", round(share, 2))


if __name__ == "__main__":
    main()
