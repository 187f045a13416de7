"""The reader's byte-level BPE vocabulary, split as llama.cpp's ``smollm`` pre-tokenizer splits."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

PAD, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
QUESTION, TEXT, NONE, AGAIN, CHECK = "<|question|>", "<|text|>", "<|none|>", "<|again|>", "<|check|>"
YES, START, END = "<|yes|>", "<|start|>", "<|end|>"
MARKS = tuple(f"<|mark_{number}|>" for number in range(1, 25))
CONTROL = (PAD, TURN_START, TURN_END, QUESTION, TEXT, NONE, AGAIN, CHECK, YES, START, END, *MARKS)
"""Control tokens have the first ids, in this order. ``YES``, ``START`` and ``END`` never stand in a row: their scores
are what a row is read for."""

PRE_TOKENIZER = "smollm"
"""The name under which llama.cpp knows this splitting (single digits, then the GPT-2 pattern)."""


def train_tokenizer(texts: Iterable[str], size: int) -> Tokenizer:
    """Learn a vocabulary of ``size`` tokens; a few seconds for 2 MB of text.

    Line breaks never merge with anything, so that text gets the same ids whether segments are joined or apart.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{N}"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(CONTROL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((line for text in texts for line in text.splitlines()), trainer)
    return tokenizer


class SegmentTokenizer:
    """Tokenises texts apart, as the runtime does, so that text can never become a control token."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        # Control tokens come as such, never out of a text.
        tokenizer.encode_special_tokens = True
        self._encoded = lru_cache(maxsize=200_000)(self._encode)

    @classmethod
    def load(cls, path: Path) -> SegmentTokenizer:
        """Read a tokenizer.json."""
        return cls(Tokenizer.from_file(str(path)))

    @staticmethod
    def control(token: str) -> int:
        """The id of a control token."""
        return CONTROL.index(token)

    @property
    def size(self) -> int:
        """Tokens of text, control tokens included; those of questions have ids of their own behind them."""
        return int(self.tokenizer.get_vocab_size())

    def question(self, text: str) -> list[int]:
        """Ids of a question's text: from its first layer on the model tells its words from those of the text."""
        return [token + self.size for token in self.text(text)]

    def text(self, text: str) -> tuple[int, ...]:
        """Ids of plain text; control tokens written in it stay text."""
        return self._encoded(text)[0]

    def covering(self, text: str, start: int, end: int) -> tuple[int, int]:
        """The first and the last token of ``text`` that hold characters ``start`` to ``end``."""
        touched = [n for n, (left, right) in enumerate(self._encoded(text)[1]) if left < end and right > start]
        return touched[0], touched[-1]

    def _encode(self, text: str) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        # A token's leading space belongs to no word.
        places = tuple((left + (right - left > 1 and text[left] == " "), right) for left, right in encoding.offsets)
        return tuple(encoding.ids), places
