"""Measure a checkpoint on held-back data: ``python -m training.evaluate --run DIR --squad FILE``. Minutes.

Scores are the runtime's: at each token where the grammar leaves a choice, the model's log-probabilities plus the log
prior mass behind each way, renormalised; forced tokens cost nothing. choice = share of answerable questions whose gold
sentence scores highest among the sentences; AUROC = how well the refusal's lead separates questions without an answer
from those with one; right = share of all questions decided rightly at threshold 0.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from training import data_squad
from training.check_gguf import load_reader
from training.data_templates import TemplateSource
from training.model import Reader
from training.rows import Example, Task, branches, prompt_segments, show
from training.tokenizer import TURN_END, SegmentTokenizer

SHOWN = 6
BRANCH_TOKENS = 12
"""Alternatives are followed so far; equal ones beyond that count as equal."""
WEIGHTS = (0.0, 0.15, 0.25, 0.5, 0.75, 1.0)
"""Weights of the model's scores beside the full lexical prior; 0 is the prior alone."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """One question: the index of its gold sentence, the ways, their log prior, and the model's scores at each fork."""

    gold: int | None
    ways: list[tuple[int, ...]]
    prior: Floats
    forks: dict[tuple[int, ...], dict[int, float]]

    def joint(self, weight: float, prior_weight: float = 1.0) -> Floats:
        """Log-probability of each sentence, then of the refusal, as the runtime computes it."""
        scores = np.zeros(len(self.ways))
        for prefix, logits in self.forks.items():
            members = [number for number, way in enumerate(self.ways) if way[: len(prefix)] == prefix]
            tokens = sorted(logits)
            below = [[n for n in members if self.ways[n][len(prefix)] == token] for token in tokens]
            mass = np.array([np.logaddexp.reduce(prior_weight * self.prior[group]) for group in below])
            value = weight * np.array([logits[token] for token in tokens]) + mass
            value -= np.logaddexp.reduce(value)
            for group, part in zip(below, value, strict=True):
                scores[group] += part
        return scores


def held_back_squad(paragraphs: Sequence[data_squad.Paragraph], rng: random.Random) -> list[Example]:
    """Each answerable question twice: with its paragraph, and without the gold sentence or over other paragraphs."""
    examples: list[Example] = []
    for paragraph in paragraphs:
        for question in paragraph.questions:
            if question.start < 0:
                examples.append(Example(question.text, (paragraph.text,), None, ""))
                continue
            example = Example(question.text, (paragraph.text,), (0, question.start), question.answer)
            others = [p.text for p in rng.sample(list(paragraphs), 3) if question.answer not in p.text]
            near = (
                replace(example, removed=True)
                if rng.random() < 0.5 or not others
                else Example(question.text, tuple(others), None, "")
            )
            examples += [example, near]
    return examples


def ranks_auroc(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float:
    """Probability that a positive scores above a negative; ties count half."""
    if not len(positive) or not len(negative):
        return float("nan")
    above = (positive[:, None] > negative[None]).mean() + 0.5 * (positive[:, None] == negative[None]).mean()
    return float(above)


def score(model: Reader, tokenizer: SegmentTokenizer, example: Example, most: int) -> Scored | None:
    """The model's scores at each fork of the grammar, in one pass; None where nothing is shown."""
    shown = show(example, most)
    if not shown.documents:
        return None
    prompt = tokenizer.segments(prompt_segments("sentence", shown.question, shown.documents))
    ways = [tuple(way[:BRANCH_TOKENS]) for way in branches(tokenizer, shown)]
    allowed: dict[tuple[int, ...], set[int]] = {}
    for way in ways:
        for depth, token in enumerate(way):
            allowed.setdefault(way[:depth], set()).add(token)
    forks = [prefix for prefix, tokens in allowed.items() if len(tokens) > 1]
    ids = torch.zeros(len(forks), len(prompt) + max(map(len, forks)), dtype=torch.long)
    for row, prefix in enumerate(forks):
        ids[row, : len(prompt) + len(prefix)] = torch.tensor([*prompt, *prefix])
    hidden, *_ = model(ids)
    ends = torch.stack([hidden[row, len(prompt) + len(prefix) - 1] for row, prefix in enumerate(forks)])
    logits = model.logits(ends).numpy()
    found = {p: {token: float(logits[row, token]) for token in allowed[p]} for row, p in enumerate(forks)}
    return Scored(shown.gold, ways, np.array(shown.prior), found)


def report(title: str, scored: Sequence[Scored]) -> None:
    """Print choice, AUROC and right decisions for several weights of the model, and for the model alone."""
    answerable = sum(s.gold is not None for s in scored)
    print(f"\n{title}: {answerable} answerable, {len(scored) - answerable} not")
    rows = [(f"prior + {weight} model", [s.joint(weight) for s in scored]) for weight in WEIGHTS]
    rows.append(("model alone", [s.joint(1.0, 0.0) for s in scored]))
    refuse = np.array([s.gold is None for s in scored])
    for name, scores in rows:
        chosen = [int(v[:-1].argmax()) == s.gold for v, s in zip(scores, scored, strict=True) if s.gold is not None]
        lead = np.array([v[-1] - v[:-1].max() for v in scores])
        right = [
            int(v.argmax()) == (len(v) - 1 if s.gold is None else s.gold) for v, s in zip(scores, scored, strict=True)
        ]
        auroc = ranks_auroc(lead[refuse], lead[~refuse])
        print(f"  {name:18} choice {np.mean(chosen):.3f}  AUROC {auroc:.3f}  right {np.mean(right):.3f}")


def phrase_exact(model: Reader, tokenizer: SegmentTokenizer, examples: Sequence[Example], limit: int = 16) -> float:
    """Share of answerable questions whose freely decoded phrase equals the answer (no grammar, so a lower bound)."""
    task: Task = "phrase"
    right, count = 0, 0
    for example in examples:
        shown = show(example, SHOWN)
        if shown.gold is None:
            continue
        ids = tokenizer.segments(prompt_segments(task, shown.question, shown.documents))
        start = len(ids)
        while len(ids) < start + limit:
            hidden, *_ = model(torch.tensor([ids]))
            ids.append(int(model.logits(hidden[0, -1]).argmax()))
            if ids[-1] == tokenizer.segments([(TURN_END, True)])[0]:
                break
        text = tokenizer.tokenizer.decode(ids[start:], skip_special_tokens=True)
        right += text.strip(" .").lower() == shown.answer.strip(" .").lower()
        count += 1
    return right / max(count, 1)


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder with checkpoint.pt and tokenizer.json")
    parser.add_argument("--squad", type=Path, required=True)
    parser.add_argument("--count", type=int, default=600, help="questions a set at most")
    parser.add_argument("--most-sentences", type=int, default=SHOWN, help="shown to the model")
    parser.add_argument("--phrases", type=int, default=100)
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)  # short sequences: a second thread only waits
    model, tokenizer = load_reader(options.run)
    rng = random.Random(11)
    squad = held_back_squad(data_squad.split(data_squad.load(options.squad))[1], rng)
    seen, unseen = TemplateSource(), TemplateSource(held_back=True)
    sets = {
        "held-back SQuAD articles": rng.sample(squad, min(options.count, len(squad))),
        "template relations, trained": [seen.draw(rng) for _ in range(options.count)],
        "template relations, held back": [unseen.draw(rng) for _ in range(options.count)],
    }
    for title, examples in sets.items():
        scored = [score(model, tokenizer, example, options.most_sentences) for example in examples]
        report(title, [entry for entry in scored if entry is not None])
        print(
            f"  phrases decoded exactly: {phrase_exact(model, tokenizer, examples[: options.phrases]):.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
