"""The reader's byte-level BPE vocabulary, split as llama.cpp's ``smollm`` pre-tokenizer splits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

PAD, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CONTROL = (PAD, TURN_START, TURN_END)
"""Control tokens have the ids 0, 1 and 2, in this order."""

PRE_TOKENIZER = "smollm"
"""The name under which llama.cpp knows this splitting (single digits, then the GPT-2 pattern)."""

Segment = tuple[str, bool]
"""A text and whether it is one control token."""


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
    """Tokenises segments apart, as the runtime does, so that text can never become a control token."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        # Trusted text never needs parsing for control tokens: those come as segments of their own.
        tokenizer.encode_special_tokens = True
        self._text_ids = lru_cache(maxsize=50_000)(self._encode)

    @classmethod
    def load(cls, path: Path) -> SegmentTokenizer:
        """Read a tokenizer.json."""
        return cls(Tokenizer.from_file(str(path)))

    def text(self, text: str) -> tuple[int, ...]:
        """Ids of plain text; control tokens written in it stay text."""
        return self._text_ids(text)

    def segments(self, segments: Sequence[Segment]) -> list[int]:
        """Ids of the segments, one after the other."""
        ids: list[int] = []
        for text, is_control in segments:
            ids.extend((CONTROL.index(text),) if is_control else self.text(text))
        return ids

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False).ids)
