"""Measure a checkpoint on held-back data: ``python -m training.evaluate --run DIR --squad FILE``. Minutes.

Sentences are scored as the grammar scores them: each next token's probability is renormalised over the tokens that some
sentence (or the refusal) still allows, so that forced tokens cost nothing. With and without the lexical prior:
choice = share of answerable questions whose gold sentence has the highest score among the sentences; AUROC = how well
the refusal's lead separates questions without an answer from those with one.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from training import data_squad
from training.check_gguf import load_reader
from training.data_templates import TemplateSource
from training.model import Reader
from training.rows import Example, Shown, Task, branches, prompt_segments, show
from training.tokenizer import TURN_END, SegmentTokenizer

SHOWN = 6
BRANCH_TOKENS = 12
"""Alternatives are followed so far; equal ones beyond that count as equal."""
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0)


@dataclass(frozen=True)
class Scored:
    """Log-scores of one question: sentences in order, then the refusal."""

    gold: int | None
    model: NDArray[np.float64]
    prior: NDArray[np.float64]


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


def branch_scores(model: Reader, tokenizer: SegmentTokenizer, shown: Shown) -> NDArray[np.float64]:
    """Log-probability of each sentence, then of the refusal, under the grammar. One pass over the forks' prefixes."""
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
    logits = model.logits(
        torch.stack([hidden[row, len(prompt) + len(prefix) - 1] for row, prefix in enumerate(forks)])
    ).double()
    scores = np.zeros(len(ways))
    for row, prefix in enumerate(forks):
        total = logits[row, sorted(allowed[prefix])].logsumexp(-1)
        for number, way in enumerate(ways):
            if way[: len(prefix)] == prefix:
                scores[number] += float(logits[row, way[len(prefix)]] - total)
    return scores


def score(model: Reader, tokenizer: SegmentTokenizer, examples: Iterable[Example]) -> list[Scored]:
    """Scores of each example that shows a sentence at all."""
    found = []
    for example in examples:
        shown = show(example, SHOWN)
        if shown.documents:
            prior = np.array(shown.prior)
            found.append(Scored(shown.gold, branch_scores(model, tokenizer, shown), prior - np.logaddexp.reduce(prior)))
    return found


def report(title: str, scored: Sequence[Scored]) -> None:
    """Print choice and AUROC for several weights of the prior, and for the prior alone."""
    answerable = [s for s in scored if s.gold is not None]
    print(f"\n{title}: {len(answerable)} answerable, {len(scored) - len(answerable)} not")
    rows = [(f"model + {weight} prior", [s.model + weight * s.prior for s in scored]) for weight in WEIGHTS]
    rows.append(("prior alone", [s.prior for s in scored]))
    for name, scores in rows:
        chosen = [int(v[:-1].argmax()) == s.gold for v, s in zip(scores, scored, strict=True) if s.gold is not None]
        lead = np.array([v[-1] - v[:-1].max() for v in scores])
        refuse = np.array([s.gold is None for s in scored])
        decided = [
            (v.argmax() == len(v) - 1) if s.gold is None else v.argmax() == s.gold
            for v, s in zip(scores, scored, strict=True)
        ]
        auroc = ranks_auroc(lead[refuse], lead[~refuse])
        print(f"  {name:20} choice {np.mean(chosen):.3f}  AUROC {auroc:.3f}  right {np.mean(decided):.3f}")


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
        "template relations, trained": [seen.draw(rng) for _ in range(options.count // 3)],
        "template relations, held back": [unseen.draw(rng) for _ in range(options.count // 2)],
    }
    for title, examples in sets.items():
        report(title, score(model, tokenizer, examples))
        print(
            f"  phrases decoded exactly: {phrase_exact(model, tokenizer, examples[: options.phrases]):.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
