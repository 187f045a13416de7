"""Verbatim answers by number: a model is shown numbered sentences and names those that answer.

For servers that can hold a model to a pattern. The quotes come from the documents, never from the model's text, so
they are verbatim whatever it says; the pattern leaves it nothing to say but numbers or the refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import regex

from fourcorners.errors import SettingsError, shortened
from fourcorners.grounding.evidence import Evidence, Sentence
from fourcorners.grounding.lookalike import begins_like, reads_like
from fourcorners.grounding.packing import Packed, pack
from fourcorners.grounding.pattern import Either, Literal, Pattern, number_up_to, one_to, prefixes
from fourcorners.grounding.prior import PriorScores
from fourcorners.grounding.segmentation import chunks

JOINT = ", "
"""Between numbers."""
MAX_PHRASE_WORDS = 16
MAX_PHRASE_STARTS = 200
"""Of one sentence: a longer one is only searched up to there, so that a server can compile the pattern in time."""
NUMBERING_TOKENS = 7
"""What a number in brackets takes of the window, at most."""
_NUMBERS = regex.compile(r"\d+(?:,\s*\d+)*")
_SPACE = regex.compile(r"[\s\x1c-\x1f]+")
_HAS_WORD = regex.compile(r"[\p{L}\p{N}]")
_CLOSING = frozenset(")]}\"'”’»%°€$£¥")


@dataclass(frozen=True, slots=True)
class Page:
    """What the model is shown: ``lines`` by document, and the sentence that each number from 1 stands for."""

    blocks: tuple[str, ...]
    sentences: tuple[Sentence, ...]


def page_of(evidence: Evidence, packed: Packed, most_chars: int | None = None) -> Page:
    """The shown sentences with their numbers, each wording once; what reads like the refusal is left out.

    A sentence is shown up to ``most_chars``; it is quoted whole.
    """
    refusal, seen = evidence.options.refusal, set[str]()
    lines: dict[int, list[str]] = {}
    chosen: list[Sentence] = []
    for index in packed.shown:
        sentence = evidence.sentences[index]
        if sentence.text in seen or reads_like(sentence.text, refusal):
            continue
        seen.add(sentence.text)
        chosen.append(sentence)
        view = _SPACE.sub(" ", sentence.text[:most_chars])
        lines.setdefault(sentence.document, []).append(f"[{len(chosen)}] {view}")
    return Page(tuple("\n".join(block) for block in lines.values()), tuple(chosen))


def pack_numbered(
    evidence: Evidence, prior: PriorScores, count_tokens: Callable[[str], int], budget_tokens: int | None
) -> tuple[Packed, Page]:
    """What fits in ``budget_tokens`` (None: all), by the options' policy, as a page. Raises ContextOverflow."""
    if budget_tokens is None:
        packed = Packed(tuple(range(len(evidence.sentences))), ())
        return packed, page_of(evidence, packed)
    most = max(1, len(evidence.sentences))
    packed = pack(evidence, prior, lambda text: count_tokens(text) + NUMBERING_TOKENS, budget_tokens, most)
    return packed, page_of(evidence, packed, max(1, budget_tokens))  # a token has a character at least


def choice_pattern(page: Page, max_spans: int, refusal: str) -> Pattern:
    """One to ``max_spans`` numbers of ``page``, or the refusal. Raises SettingsError for one that reads like them."""
    if _NUMBERS.fullmatch(refusal):
        raise SettingsError(
            f"refusal={shortened(refusal)} can't be told from the number of a sentence, which this back end's "
            f"answers are made of: use words"
        )
    numbers = one_to(min(max_spans, len(page.sentences)), number_up_to(len(page.sentences)), JOINT)
    return Either((Literal(refusal), numbers))


class NumberReader:
    """Reads numbers as they come in pieces; each is given out once it can't grow any more."""

    def __init__(self, page: Page, refusal: str) -> None:
        self._page, self._refusal = page, refusal
        self._text, self._n_read = "", 0
        self._said: set[int] = set()

    @property
    def text(self) -> str:
        """All that came."""
        return self._text

    def feed(self, text: str) -> list[Sentence]:
        """The sentences whose numbers are complete now."""
        self._text += text
        if not self._text.lstrip()[:1].isdigit() or "," not in self._text[self._n_read :]:
            return []
        end = self._text.rindex(",")
        done, self._n_read = self._text[self._n_read : end], end + 1
        return self._sentences(done)

    def end(self, *, cut: bool = False) -> list[Sentence]:
        """The last; where the text was ``cut`` short, its last number may be only the beginning of one."""
        rest, self._n_read = self._text[self._n_read :], len(self._text)
        return [] if cut or self.refused else self._sentences(rest)

    @property
    def refused(self) -> bool:
        """Whether all of it is the refusal: with the pattern, nothing else can be."""
        return self._text.strip() == self._refusal

    def _sentences(self, text: str) -> list[Sentence]:
        numbers = [int(part) for part in text.split(",") if part.strip().isdecimal()]
        fresh = [n for n in dict.fromkeys(numbers) if 1 <= n <= len(self._page.sentences) and n not in self._said]
        self._said.update(fresh)
        return [self._page.sentences[number - 1] for number in fresh]


def phrase_pattern(sentence: Sentence, refusal: str) -> Pattern | None:
    """A run of up to MAX_PHRASE_WORDS whole words of ``sentence``; None where it has no word.

    Begins at a word or number and ends at one, or at what closes one (a bracket, a quote, a unit sign); nowhere where
    it could read like the refusal.
    """
    borders = chunks(sentence.text)
    pieces = [sentence.text[start:end] for start, end in borders]
    words = [
        n
        for n, piece in enumerate(pieces)
        if _HAS_WORD.search(piece) and not begins_like(sentence.text[borders[n][0] :][:2_000], refusal)
    ][:MAX_PHRASE_STARTS]
    runs = [_runs_from(pieces, start) for start in words]
    return Either(tuple(dict.fromkeys(runs))) if runs else None


def phrase_spans(sentence: Sentence, phrase: str) -> list[tuple[int, int]]:
    """Where ``phrase`` stands in ``sentence`` as whole words, in characters of the document."""
    borders = chunks(sentence.text)
    starts, ends = {start for start, _ in borders}, {end for _, end in borders}
    found, at = [], sentence.text.find(phrase)
    while at >= 0 and phrase:
        if at in starts and at + len(phrase) in ends:
            found.append((sentence.start + at, sentence.start + at + len(phrase)))
        at = sentence.text.find(phrase, at + 1)
    return found


def _runs_from(pieces: Sequence[str], start: int) -> Pattern:
    stretches, n_words, held = list[str](), 0, ""
    for piece in pieces[start:]:
        is_word = _HAS_WORD.search(piece) is not None
        n_words += is_word
        if n_words > MAX_PHRASE_WORDS:
            break
        held += piece
        if is_word or piece in _CLOSING:
            stretches.append(held)
            held = ""
    return prefixes(stretches)


__all__ = [
    "JOINT",
    "NumberReader",
    "Page",
    "choice_pattern",
    "pack_numbered",
    "page_of",
    "phrase_pattern",
    "phrase_spans",
]
