"""Measure a checkpoint on data that it never saw: ``python -m training.evaluate --run DIR FILE.jsonl …``. A minute.

Rows are ``{"context", "question", "answers", "answerable"}``. Three lines a set: the lexical prior alone, the model
alone, both. hit = share of the answerable whose best sentence holds a gold answer (nothing refused); AUROC = how well
the refusal's lead separates questions without an answer from those with one; exact = share of the answerable whose best
span in the best sentence is a gold answer, articles and case forgiven.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from training import data_squad
from training.check_gguf import load_reader
from training.data_templates import TemplateSource
from training.data_written import example_of, is_held_back
from training.model import Reader
from training.rows import Example, build_row, show
from training.tokenizer import CONTROL, END, MARKS, START, YES, SegmentTokenizer
from training.written import written

LONGEST_SPAN = 16
"""Tokens of an answer at most."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """A question over one text, with all answers that count."""

    question: str
    context: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Read:
    """What prior and model say of one case: scores of the sentences, the refusal's last; the confirmation and the span
    of each way's best sentence."""

    case: Case
    sentences: list[str]
    prior: Floats
    model: Floats
    checks: Floats
    spans: list[str]


def cases_of(path: Path) -> list[Case]:
    """The rows of a JSONL file."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    return [
        Case(r["question"], r["context"], tuple(r.get("answers") or ()) if r.get("answerable", True) else ())
        for r in rows
    ]


def case_of(example: Example) -> Case:
    """An example of training's kind as a case."""
    return Case(example.question, "\n\n".join(example.documents), (example.answer,) if example.gold else ())


@torch.no_grad()  # type: ignore[untyped-decorator]
def read(model: Reader, tokenizer: SegmentTokenizer, case: Case, most: int) -> Read | None:
    """Score one case as the runtime does; None where there is nothing to read."""
    shown = show(Example(case.question, (case.context,), None, ""), most)
    if not shown.documents:
        return None
    while len((row := build_row(tokenizer, shown, None)).ids) > 448 and most > 1:
        most -= 1
        shown = show(Example(case.question, (case.context,), None, ""), most)
    yes, start, end = (torch.tensor([CONTROL.index(token)]) for token in (YES, START, END))
    hidden = model(torch.tensor([row.ids]))[0]
    scores = model.scores(hidden[row.marks], yes)[:, 0].double().numpy()
    sentences = shown.sentences
    checks, spans = np.full(len(sentences), -np.inf), [""] * len(sentences)
    prior = np.array(shown.prior)
    wanted = {int((prior + scores)[:-1].argmax()), int(scores[:-1].argmax()), int(prior[:-1].argmax())}
    for number in wanted:
        again = build_row(tokenizer, shown, number)
        hidden = model(torch.tensor([again.ids]))[0]
        checks[number] = float(model.scores(hidden[again.check], yes)[0])
        spans[number] = best_span(
            sentences[number],
            tokenizer,
            model.scores(hidden[again.again], start)[:, 0].numpy(),
            model.scores(hidden[again.again], end)[:, 0].numpy(),
        )
    return Read(case, sentences, prior, scores, checks, spans)


def best_span(text: str, tokenizer: SegmentTokenizer, starts: Floats, ends: Floats) -> str:
    """The stretch of tokens whose first and last score best together."""
    places = tokenizer.tokenizer.encode(text, add_special_tokens=False).offsets
    _, left, right = max(
        (starts[i] + ends[j], i, j) for i in range(len(starts)) for j in range(i, min(len(starts), i + LONGEST_SPAN))
    )
    return text[places[left][0] : places[right][1]].strip(" .,;:")


def auroc(positive: Floats, negative: Floats) -> float:
    """Probability that a positive scores above a negative; ties count half."""
    if not len(positive) or not len(negative):
        return float("nan")
    return float((positive[:, None] > negative[None]).mean() + 0.5 * (positive[:, None] == negative[None]).mean())


def plain(text: str) -> str:
    """Lower case, without articles and punctuation, as SQuAD's own measure does."""
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", re.sub(r"[^\w\s]", "", text.lower())).split())


def report(title: str, found: Sequence[Read], check_weight: float) -> None:
    """Print the three lines."""
    refuse = np.array([not one.case.answers for one in found])
    print(f"{title}: {int((~refuse).sum())} answerable, {int(refuse.sum())} not")
    ways = {"prior": (1.0, 0.0, 0.0), "model": (0.0, 1.0, check_weight), "both": (1.0, 1.0, check_weight)}
    for name, (of_prior, of_model, of_check) in ways.items():
        hits, exact, leads = [], [], []
        for one in found:
            scores = of_prior * one.prior + of_model * one.model
            best = int(scores[:-1].argmax())
            leads.append(scores[-1] - scores[best] - of_check * one.checks[best])
            if one.case.answers:
                hits.append(any(answer in one.sentences[best] for answer in one.case.answers))
                exact.append(plain(one.spans[best]) in {plain(answer) for answer in one.case.answers})
        lead = np.array(leads)
        print(
            f"  {name:6} hit {np.mean(hits) if hits else 0:.3f}  AUROC {auroc(lead[refuse], lead[~refuse]):.3f}"
            f"  exact {np.mean(exact) if exact else 0:.3f}",
            flush=True,
        )


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="*", help="JSONL files")
    parser.add_argument("--run", type=Path, required=True, help="folder with checkpoint.pt and tokenizer.json")
    parser.add_argument("--squad", type=Path, help="SQuAD JSON of the train split: its two held-back articles")
    parser.add_argument("--count", type=int, default=400, help="questions a set at most")
    parser.add_argument("--most-sentences", type=int, default=len(MARKS), help="shown to the model")
    parser.add_argument("--check-weight", type=float, default=1.0)
    options = parser.parse_args()
    torch.set_num_threads(1)  # short sequences: a second thread only waits
    model, tokenizer = load_reader(options.run)
    rng = random.Random(11)
    sets = {path.stem: cases_of(path) for path in options.files}
    kept = [d for d in written() if is_held_back(d)]
    sets["written, held back"] = [case_of(example_of(d, asked, rng)) for d in kept for asked in d.asked]
    unseen = TemplateSource(held_back=True)
    sets["templates, held back"] = [case_of(unseen.draw(rng)) for _ in range(options.count // 2)]
    if options.squad is not None:
        articles = data_squad.split(data_squad.load(options.squad))[1]
        sets["SQuAD, held back"] = [
            Case(q.text, p.text, (q.answer,) if q.answer else ()) for p in articles for q in p.questions
        ]
    for title, cases in sets.items():
        chosen = rng.sample(cases, min(options.count, len(cases)))
        found = [read(model, tokenizer, case, options.most_sentences) for case in chosen]
        report(title, [one for one in found if one is not None], options.check_weight)


if __name__ == "__main__":
    main()
