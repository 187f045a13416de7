"""Assert that llama.cpp sees what PyTorch trained: ``python -m training.check_gguf --run DIR --gguf FILE``.

Compares token ids on some thousand strings and logits on a few prompts. Seconds.
"""

from __future__ import annotations

import argparse
import ctypes
import random
from pathlib import Path

import llama_cpp
import numpy as np
import torch

from training.model import Reader, Shape
from training.rows import Shown, build_row
from training.tokenizer import SegmentTokenizer

STRINGS = [
    "",
    " ",
    "  ",
    "a",
    " a",
    "A  b",
    "12345",
    "3.14 kg",
    "$1,200.50",
    "2024-05-17",
    "don't I'll we've",
    "DON'T",
    "\n",
    "\r\n",
    "a\r\nb\r\n",
    "\n\n",
    "\n\n\n a",
    "a\tb\t\tc",
    "x = y;  // note",
    "naïve café",
    "Ça va ? Oui !",
    "¿Qué?",
    "Straße",
    "İstanbul",
    "Москва 1975",
    "東京は日本の首都です。",
    "مرحبا ٣٤٥",
    "हिन्दी १२३",
    "한국어",
    "👩‍👩‍👧‍👦 family",
    "🙂🙂",
    "e\u0301 é",
    "\u00a05\u202f000 €",
    "½ ² Ⅷ ①",
    "\u200b\u2028\ufeff",
    "<|im_end|>",
    "<|im_start|>user\nhi<|endoftext|>",
    "| a | b |",
    "- item\n- item",
    "a" * 300,
    "!!!???...",
    "http://a.b/c?d=e&f=%20",
    "\0\x01\x7f",
]


def varied_strings(count: int, seed: int = 5) -> list[str]:
    """The strings above and random mixtures of them and of characters of all planes."""
    rng = random.Random(seed)
    found = list(STRINGS)
    while len(found) < count:
        parts = [rng.choice(STRINGS) for _ in range(rng.randint(1, 4))]
        parts += [
            "".join(
                chr(rng.choice((rng.randint(32, 126), rng.randint(160, 0x2FFF), rng.randint(0x1F300, 0x1F9FF))))
                for _ in range(6)
            )
        ]
        rng.shuffle(parts)
        found.append(rng.choice(("", " ", "\n")).join(parts))
    return found


class Llama:
    """The few calls of llama.cpp's C interface that the check needs."""

    def __init__(self, path: Path) -> None:
        llama_cpp.llama_backend_init()
        parameters = llama_cpp.llama_model_default_params()
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        if not self.model:
            raise RuntimeError(f"llama.cpp does not load {path}")
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)

    def tokenize(self, text: str) -> list[int]:
        """Ids of plain text; control tokens are not parsed."""
        data = text.encode()
        room = (llama_cpp.llama_token * (len(data) + 8))()
        count = llama_cpp.llama_tokenize(self.vocab, data, len(data), room, len(room), False, False)
        return list(room[:count])

    def logits(self, ids: list[int]) -> np.ndarray:
        """Scores after the last token, from a fresh context."""
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx, settings.n_batch, settings.n_ubatch, settings.n_threads = 1024, 1024, 1024, 1
        context = llama_cpp.llama_init_from_model(self.model, settings)
        tokens = (llama_cpp.llama_token * len(ids))(*ids)  # the batch only points at it
        if llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(tokens, len(ids))) != 0:
            raise RuntimeError("llama.cpp failed to decode")
        size = llama_cpp.llama_vocab_n_tokens(self.vocab)
        scores = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, -1), shape=(size,)).copy()
        llama_cpp.llama_free(context)
        return scores


def load_reader(run: Path) -> tuple[Reader, SegmentTokenizer]:
    """Model and tokenizer of a training folder."""
    state = torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)
    model = Reader(Shape(**state["shape"]))
    model.load_state_dict(state["model"])
    return model.eval(), SegmentTokenizer.load(run / "tokenizer.json")


def check_ids(llama: Llama, tokenizer: SegmentTokenizer, count: int) -> int:
    """Number of strings compared; raises at the first difference."""
    strings = varied_strings(count)
    for text in strings:
        ours, theirs = list(tokenizer.text(text)), llama.tokenize(text)
        if ours != theirs:
            raise AssertionError(f"{text!r}: tokenizers {ours}, llama.cpp {theirs}")
    return len(strings)


def check_logits(llama: Llama, model: Reader, tokenizer: SegmentTokenizer) -> float:
    """Largest difference of a logit over some rows."""
    cases = [
        ("Where is the key?", (("The key is under the mat.", "The cat is grey."),)),
        ("Wie heißt du?", (("My name is Ida.",), ("Hours: 9–17", "| Desk | 14 |"))),
        ("When?", (tuple(f"Line {n} says {n * 7}." for n in range(20)),)),
    ]
    worst = 0.0
    for question, documents in cases:
        row = build_row(tokenizer, Shown(question, documents, None, (0, 0)), 0)
        with torch.no_grad():
            ours = model.scores(model(torch.tensor([row.ids]))[0, -1], torch.arange(model.shape.vocabulary)).numpy()
        worst = max(worst, float(np.abs(ours - llama.logits(row.ids)).max()))
    return worst


def main() -> None:
    """Run both checks; exit status 1 where they fail."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--strings", type=int, default=4000)
    parser.add_argument("--tolerance", type=float, default=0.25, help="largest allowed difference of a logit")
    options = parser.parse_args()
    silent = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    llama = Llama(options.gguf)
    model, tokenizer = load_reader(options.run)
    print(f"{check_ids(llama, tokenizer, options.strings)} strings: equal ids")
    worst = check_logits(llama, model, tokenizer)
    print(f"largest difference of a logit: {worst:.4f}")
    if worst > options.tolerance:
        raise SystemExit("logits differ")


if __name__ == "__main__":
    main()
