"""Train the reader: ``python -m training.train --squad FILE --vectors FILE --out DIR --minutes 60``.

Writes DIR/tokenizer.json and DIR/checkpoint.pt (every two minutes, resumable with ``--resume``); prints losses, speed
and what is left. The learning rate follows the time budget: short warm-up, constant, then linearly down over the last
half. CPU and CUDA take the same command; both train in bfloat16, CUDA with a compiled model.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training import mixture
from training.batches import Batch, batches
from training.losses import LOSSES, losses
from training.model import Reader, Shape
from training.rows import texts_of
from training.tokenizer import CONTROL, QUESTION, SegmentTokenizer, train_tokenizer
from training.words import Words, learn_words

WARM_UP_STEPS = 100
DECAY_SHARE = 0.5
CHECKPOINT_SECONDS = 120.0
REPORT_STEPS = 100
VOCABULARY_EXAMPLES = 40_000
VOCABULARY_LINES = 60_000
"""Lines of the plain corpus that the vocabulary is learned from, beside the examples."""
WORD_SCALE = 0.25
"""Root mean square of a word's vector at the start; the other tokens' are a tenth of that."""
SIDE_SCALE = 3.0
"""How far the number that tells question from text begins from zero, beside that."""


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--squad", type=Path, nargs="*", default=[], help="SQuAD JSON files of the train split")
    parser.add_argument("--corpus", type=Path, help="folder made by training.corpus, for the vocabulary")
    parser.add_argument("--vectors", type=Path, help="word vectors made by training.vectors")
    parser.add_argument("--out", type=Path, required=True, help="folder for tokenizer and checkpoint")
    parser.add_argument("--minutes", type=float, default=60.0, help="time budget of the training loop")
    parser.add_argument("--word-minutes", type=float, default=5.0, help="time budget of the word stage before it")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--lr", type=float, default=3e-3, help="peak rate of the matrices (Muon)")
    parser.add_argument("--embedding-lr", type=float, default=1e-3, help="peak rate of embeddings and norms (AdamW)")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument(
        "--weights",
        type=float,
        nargs=len(LOSSES),
        default=list(LOSSES.values()),
        help=f"of {', '.join(LOSSES)}",
    )
    parser.add_argument(
        "--shares",
        type=float,
        nargs=len(mixture.SHARES),
        default=list(mixture.SHARES.values()),
        help=f"of {', '.join(mixture.SHARES)}",
    )
    shape = Shape()
    parser.add_argument("--width", type=int, default=shape.width)
    parser.add_argument("--layers", type=int, default=shape.layers)
    parser.add_argument("--heads", type=int, default=shape.heads)
    parser.add_argument("--feed-forward", type=int, default=shape.feed_forward)
    parser.add_argument("--vocabulary", type=int, default=shape.vocabulary, help="tokens of text and of questions")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        default=torch.cuda.is_available(),
        help="a tenth faster on a CPU, after minutes of compiling",
    )
    return parser.parse_args(argv)


def keep_freed_memory() -> None:
    """Tell glibc to keep large blocks: page faults otherwise take most of a step (2,000 against 10,000 tokens/s)."""
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    for option in (-3, -1):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
        mallopt(option, 2**31 - 1)


def optimisers(model: Reader, words: Words, options: argparse.Namespace) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks; AdamW for embeddings, norms and what the word stage has taught."""
    matching = {id(layer.weight) for layer in (model.blk[0].attn_q, model.blk[0].attn_k)}
    matrices = [p for p in model.blk.parameters() if p.ndim == 2 and id(p) not in matching]
    by_muon = {id(p) for p in matrices}
    others = [p for p in (*model.parameters(), *words.parameters()) if id(p) not in by_muon]
    return [
        torch.optim.Muon(matrices, lr=options.lr, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=options.embedding_lr, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def rate_factor(step: int, done: float) -> float:
    """Learning-rate factor after ``step`` steps and the share ``done`` of the time budget."""
    return min(1.0, (step + 1) / WARM_UP_STEPS, max(0.0, (1.0 - done) / DECAY_SHARE))


def save(path: Path, state: dict[str, Any]) -> None:
    """Write beside, then rename, so that a reader never sees half a file."""
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)


def tokenizer_for(options: argparse.Namespace, found: list[tuple[float, mixture.ExampleSource]]) -> SegmentTokenizer:
    """The tokenizer of the folder, or a new one learned from drawn examples and lines of the corpus."""
    path = options.out / "tokenizer.json"
    if not path.exists():
        rng = random.Random(options.seed)
        shares, draws = zip(*found, strict=True)
        texts = texts_of([rng.choices(draws, shares)[0](rng) for _ in range(VOCABULARY_EXAMPLES)])
        if options.corpus is not None:
            lines = (options.corpus / "corpus.txt").read_text("utf-8").splitlines()
            texts = sorted(set(texts)) + rng.sample(lines, min(VOCABULARY_LINES, len(lines)))
        train_tokenizer(texts, options.vocabulary // 2).save(str(path))
    return SegmentTokenizer.load(path)


def word_embeddings(tokenizer: SegmentTokenizer, shape: Shape, vectors: Path | None) -> Tensor:
    """What the embedding matrix begins with: the vector of each token that is a word, however it is capitalised.

    A question's tokens begin as those of text, but for the last number, which tells them apart.
    """
    matrix = torch.randn(shape.vocabulary, shape.width) * WORD_SCALE / 10
    if vectors is not None:
        _add_words(matrix[: tokenizer.size], tokenizer, shape, vectors)
    matrix[tokenizer.size : 2 * tokenizer.size] = matrix[: tokenizer.size]
    matrix[: tokenizer.size, -1] = -SIDE_SCALE * WORD_SCALE
    matrix[tokenizer.size :, -1] = SIDE_SCALE * WORD_SCALE
    matrix[tokenizer.control(QUESTION), -1] = SIDE_SCALE * WORD_SCALE
    return matrix


def _add_words(matrix: Tensor, tokenizer: SegmentTokenizer, shape: Shape, vectors: Path) -> None:
    with np.load(vectors) as stored:
        known = {str(word): number for number, word in enumerate(stored["words"])}
        table = torch.from_numpy(stored["vectors"].astype(np.float32))
    if table.shape[1] > shape.width:  # its main directions
        axes = torch.linalg.eigh(table.T @ table).eigenvectors[:, -shape.width :]
        table = F.normalize(table @ axes)
    scale = WORD_SCALE * shape.width**0.5
    for number in range(len(CONTROL), tokenizer.size):
        word = tokenizer.tokenizer.decode([number]).strip().lower()
        if word in known:
            matrix[number] += table[known[word]] * scale


class Trainer:
    """Holds model, optimisers and the clock; ``run`` trains until the time is used up."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        torch.manual_seed(options.seed)
        self.device = torch.device(options.device)
        found = mixture.sources(options.squad, dict(zip(mixture.SHARES, options.shares, strict=True)))
        self.tokenizer = tokenizer_for(options, found)
        self.draw = mixture.row_source(self.tokenizer, found)
        shape = Shape(options.vocabulary, options.width, options.layers, options.heads, options.feed_forward)
        model = Reader(shape, options.dropout)
        model.token_embd.weight.data.copy_(word_embeddings(self.tokenizer, shape, options.vectors))
        self.model = model.to(self.device)
        self.words = Words(options.width).to(self.device)
        self.weights = torch.tensor(options.weights, device=self.device)
        self.optimisers = optimisers(self.model, self.words, options)
        self.step, self.seconds = 0, 0.0
        if options.resume:
            self._load()

    def learn_words(self) -> None:
        """Before the first step: embeddings and matching heads learn which words of text and question pair up."""
        stream = batches(self.draw, self.options.seed + 1_000_000, self.options.batch_tokens, context_only=True)
        learn_words(self.model, self.words, stream, self.options.word_minutes, self.device)
        self._save()

    def run(self) -> None:
        """Train until the budget is used up; saves at the end and every two minutes."""
        self.model.train()
        trunk = torch.compile(self.model, dynamic=False) if self.options.compile else self.model
        stream = batches(self.draw, self.options.seed + self.step, self.options.batch_tokens)
        started, budget = time.monotonic() - self.seconds, self.options.minutes * 60
        counted, saved, tokens, sums = time.monotonic(), self.seconds, 0, torch.zeros(len(LOSSES))
        for batch in stream:
            self.seconds = time.monotonic() - started
            if self.seconds >= budget:
                break
            sums += self._step(trunk, batch.to(self.device), self.seconds / budget)
            tokens += batch.ids.numel()
            self.step += 1
            if self.step % REPORT_STEPS == 0:
                self._tell(sums / REPORT_STEPS, tokens / (time.monotonic() - counted))
                tokens, counted = 0, time.monotonic()
                sums.zero_()
            if self.seconds - saved > CHECKPOINT_SECONDS:
                self._save()
                saved = self.seconds
        self._save()

    def _tell(self, means: Tensor, speed: float) -> None:
        shown = " ".join(f"{name} {value:.3f}" for name, value in zip(LOSSES, means.tolist(), strict=True))
        print(
            f"step {self.step} {self.seconds / 60:.1f} of {self.options.minutes:g} min {shown} {speed:,.0f} tokens/s",
            flush=True,
        )

    def _step(self, trunk: nn.Module, batch: Batch, done: float) -> Tensor:
        factor = rate_factor(self.step, done)
        for optimiser, rate in zip(self.optimisers, (self.options.lr, self.options.embedding_lr), strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate * factor
        with torch.autocast(self.device.type, torch.bfloat16):
            found = losses(self.model, self.words, trunk, batch)
        (found * self.weights).sum().backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad()
        return found.detach().float().cpu()

    def _save(self) -> None:
        save(
            self.options.out / "checkpoint.pt",
            {
                "shape": self.model.shape.to_dict(),
                "model": self.model.state_dict(),
                "words": self.words.state_dict(),
                "step": self.step,
                "seconds": self.seconds,
                "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
                "options": {key: str(value) for key, value in vars(self.options).items()},
            },
        )

    def _load(self) -> None:
        state = torch.load(self.options.out / "checkpoint.pt", map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.words.load_state_dict(state["words"])
        if state["step"]:
            for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(saved)
        self.step, self.seconds = state["step"], state["seconds"]


def main() -> None:
    """Train as asked on the command line."""
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    torch.set_num_threads(os.cpu_count() or 1)
    torch._dynamo.config.recompile_limit = 64
    trainer = Trainer(options)
    print(f"{sum(p.numel() for p in trainer.model.parameters()):,} parameters on {trainer.device}", flush=True)
    if not options.resume:
        trainer.learn_words()
    trainer.run()


if __name__ == "__main__":
    main()
