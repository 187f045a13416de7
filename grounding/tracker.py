"""Where in the documents the bytes emitted so far may stand: the provenance of a span while it is decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import regex

from fourcorners.grounding.decoding import log_mass
from fourcorners.grounding.evidence import Sentence, Span
from fourcorners.grounding.segmentation import chunks

_HAS_WORD = regex.compile(r"[\p{L}\p{N}]")
MAX_WORD_BYTES = 256
_CLOSING = frozenset(")]}\"'”’»%°€$£¥")


@dataclass(frozen=True, slots=True)
class Start:
    """A place where a span may begin: byte ``offset`` in the UTF-8 ``data`` of a sentence, and its log prior."""

    sentence: Sentence
    data: bytes
    offset: int
    ends: frozenset[int]
    last_end: int
    prior: float


def word_starts(
    sentences: Sequence[Sentence], priors: Sequence[float], can_spell: Callable[[str], bool] = lambda _: True
) -> list[Start]:
    """All words of ``sentences``; each sentence's prior mass is shared out evenly among its own.

    A span begins at a word or number and ends at one, or at what closes one (a bracket, a quote, a unit sign). It
    neither begins in nor passes a word of more than MAX_WORD_BYTES, which is no word, nor a piece that the vocabulary
    has no tokens for (``can_spell``).
    """
    found: list[Start] = []
    for sentence, prior in zip(sentences, priors, strict=True):
        spelt = can_spell(sentence.text)
        begins, ends = _borders(sentence.text, (lambda _: True) if spelt else can_spell)
        data = sentence.text.encode()
        share = prior - float(np.log(max(1, len(begins))))
        found.extend(Start(sentence, data, offset, ends, last_end, share) for offset, last_end in begins)
    return found


def _borders(text: str, can_spell: Callable[[str], bool]) -> tuple[list[tuple[int, int]], frozenset[int]]:
    """Byte offsets at which a span may begin, each with the last at which it may end; and all ends."""
    begins: list[tuple[int, int]] = []
    ends: set[int] = set()
    run: list[int] = []
    last_end, offset = 0, 0
    for start, end in chunks(text):
        piece = text[start:end]
        size = len(piece.encode())
        is_word = _HAS_WORD.search(piece) is not None
        if size > MAX_WORD_BYTES or not can_spell(piece):
            begins, run = begins + [(begin, last_end) for begin in run], []
        elif is_word or piece in _CLOSING:
            last_end = offset + size
            ends.add(last_end)
            run += [offset] if is_word else []
        offset += size
    return begins + [(begin, last_end) for begin in run], frozenset(ends)


class SpanTracker:
    """Follows one span from its first byte. ``emitted`` are its bytes so far, ``alive`` the places they may stand."""

    def __init__(self, starts: Iterable[Start], excluded: Iterable[str] = ()) -> None:
        barred = [text.encode() for text in excluded]
        self.alive = [s for s in starts if not any(s.data.startswith(text, s.offset) for text in barred)]
        self.emitted = b""

    def advance(self, piece: bytes) -> None:
        """Append ``piece``."""
        self.emitted += piece
        self.alive = [s for s in self.alive if s.data.startswith(self.emitted, s.offset)]

    def masses(self, pieces: Iterable[bytes]) -> dict[bytes, float]:
        """Log prior mass behind each of ``pieces`` that some living place goes on with; the others are left out."""
        wanted = set(pieces)
        lengths = sorted({len(piece) for piece in wanted if piece})
        behind: dict[bytes, list[float]] = {}
        for start in self.alive:
            at = start.offset + len(self.emitted)
            for length in lengths:
                piece = start.data[at : at + length]
                if at + length > start.last_end:
                    break  # past it the span could not end any more
                if piece in wanted:
                    behind.setdefault(piece, []).append(start.prior)
        return {piece: log_mass(np.array(priors)) for piece, priors in behind.items()}

    def masses_total(self) -> float:
        """Log prior mass of all living places."""
        return log_mass(np.array([start.prior for start in self.alive])) if self.alive else -np.inf

    def end_mass(self) -> float:
        """Log prior mass of the living places where a word ends here; minus infinity where none does."""
        ending = [start.prior for start in self._ending()]
        return log_mass(np.array(ending)) if ending else -np.inf

    def spans(self) -> list[Span]:
        """The places of the finished span, best document first."""
        found = []
        for start in self._ending():
            begin = start.sentence.start + len(start.data[: start.offset].decode())
            found.append(Span(start.sentence.document, begin, begin + len(self.emitted.decode())))
        return sorted(set(found), key=lambda span: (span.document, span.start))

    def _ending(self) -> list[Start]:
        return [start for start in self.alive if start.offset + len(self.emitted) in start.ends]
