"""How near an answer is to a gold answer: texts in, numbers out."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache

from fourcorners.grounding.quantities import Unit, unit_named

COPIED_RUN_WORDS = 4
"""Shorter runs that stand in the context too may be there by chance."""
_FIRST_WITHOUT_SPACES = "\u2e80"
"""The first letter of the scripts that put no spaces between words."""
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_PARTS = re.compile(rf"{_NUMBER.pattern}|[^\W\d_]+|[%‰°$€£¥]")
_GROUPED = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


def normalized(text: str) -> str:
    """As SQuAD's official script has it: lower case, no punctuation, no articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, golds: Sequence[str]) -> float:
    """1.0 where ``answer`` is one of ``golds`` once both are normalised; no gold answers: where it is empty."""
    return _best(lambda gold: float(normalized(answer) == normalized(gold)), golds)


def f1_score(answer: str, golds: Sequence[str]) -> float:
    """The F1 of the words that ``answer`` and the best of ``golds`` have in common, as in SQuAD 2.0's script."""
    return _best(lambda gold: _f1(normalized(answer).split(), normalized(gold).split()), golds)


def _best(measure: Callable[[str], float], golds: Sequence[str]) -> float:
    return max(measure(gold) for gold in [gold for gold in golds if normalized(gold)] or [""])


def _f1(said: list[str], wanted: list[str]) -> float:
    if not said or not wanted:
        return float(said == wanted)
    common = sum((Counter(said) & Counter(wanted)).values())
    return 2 * common / (len(said) + len(wanted))


def lenient_match(answer: str, golds: Sequence[str]) -> float:
    """As ``exact_match``, but a unit or currency sign that only one of both has is forgiven: "1.2 kg" for "1.2".

    Numbers keep their decimal point, which SQuAD's normalisation drops with the punctuation.
    """
    said, numbers = _without_units(answer), _numbers(answer)
    near = [gold for gold in golds if _numbers(gold) == numbers]
    return float(any(_same(said, _without_units(gold)) or exact_match(answer, [gold]) for gold in near))


def _numbers(text: str) -> list[str]:
    return _NUMBER.findall(_GROUPED.sub("", text))


def _same(one: tuple[list[str], list[Unit]], other: tuple[list[str], list[Unit]]) -> bool:
    (words, units), (other_words, other_units) = one, other
    return bool(words) and words == other_words and (not units or not other_units or units == other_units)


def _without_units(text: str) -> tuple[list[str], list[Unit]]:
    parts = _PARTS.findall(_GROUPED.sub("", text))
    kept: list[str] = []
    units: list[Unit] = []
    for place, part in enumerate(parts):
        beside = (parts[place - 1] if place else "", parts[place + 1] if place + 1 < len(parts) else "")
        unit = unit_named(part) if any(other[:1].isdigit() for other in beside) else None
        if unit is not None:
            units.append(unit)
        elif not _ARTICLES.fullmatch(part.lower()):
            kept.append(part.lower())
    return kept, units


def rouge_l(answer: str, golds: Sequence[str]) -> float:
    """ROUGE-L (F1 of the longest common subsequence of words) against the best of ``golds``; 0.0 without any.

    Words are runs of ASCII letters and digits in lower case, unstemmed, as in the package rouge-score; beyond that of
    any letters. Lin 2004, https://aclanthology.org/W04-1013
    """
    said = _words(answer)
    return max((_rouge_l(said, _words(gold)) for gold in golds), default=0.0)


def _rouge_l(said: list[str], wanted: list[str]) -> float:
    common = longest_common_subsequence(said, wanted)
    return 2 * common / (len(said) + len(wanted)) if common else 0.0


def longest_common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """Its length, in one pass over ``other`` with a bit for each word of ``one`` (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for place, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << place
    all_ones = row = (1 << len(one)) - 1
    for word in other:
        matched = row & places.get(word, 0)
        row = ((row + matched) | (row - matched)) & all_ones
    return len(one) - row.bit_count()


def holds(text: str, gold: str) -> bool:
    """Whether ``gold`` stands in ``text``, in any case and spacing, and not cut out of a longer word or number."""
    return bool(gold.split()) and pattern_of(gold).search(text) is not None


@lru_cache(maxsize=4096)
def pattern_of(gold: str, *, may_cut: bool = False) -> re.Pattern[str]:
    """What finds ``gold`` (which has a word) in a text, as ``holds`` does; with ``may_cut`` also inside of words."""
    words = gold.split()
    if may_cut:
        return re.compile(r"\s+".join(map(re.escape, words)), re.IGNORECASE)
    first, last = words[0][0], words[-1][-1]
    before = r"(?<!\d[.,])" if first.isdigit() else ""
    behind = r"(?![.,]\d)" if last.isdigit() else ""
    body = r"\s+".join(map(re.escape, words))
    edges = [r"(?<!\w)" if _bounded(first) else "", r"(?!\w)" if _bounded(last) else ""]
    return re.compile(f"{edges[0]}{before}{body}{edges[1]}{behind}", re.IGNORECASE)


def _bounded(letter: str) -> bool:
    return (letter.isalnum() or letter == "_") and letter < _FIRST_WITHOUT_SPACES


def copied_share(answer: str, context: Sequence[str]) -> float:
    """The share of the words of ``answer`` that lie in runs of at least four words which stand in the context.

    A line of fewer words counts where all of it stands there. 0.0 for no words.
    """
    sources = [_words(text) for text in context]
    runs: dict[int, set[tuple[str, ...]]] = {}
    n_words = n_copied = 0
    for line in answer.splitlines():
        words = _words(line)
        size = min(COPIED_RUN_WORDS, len(words))
        if not size:
            continue
        if size not in runs:
            runs[size] = {tuple(source[at : at + size]) for source in sources for at in range(len(source) - size + 1)}
        copied = {
            at + k
            for at in range(len(words) - size + 1)
            if tuple(words[at : at + size]) in runs[size]
            for k in range(size)
        }
        n_words, n_copied = n_words + len(words), n_copied + len(copied)
    return n_copied / n_words if n_words else 0.0


def is_verbatim(answer: str, context: Sequence[str]) -> bool:
    """Whether the answer's lines are copied, character for character: each stands in a text of the context."""
    if any(answer in text for text in context):
        return bool(answer)
    lines = [line for line in answer.split("\n") if line]
    return bool(lines) and all(any(line in text for text in context) for line in lines)


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


__all__ = [
    "copied_share",
    "exact_match",
    "f1_score",
    "holds",
    "is_verbatim",
    "lenient_match",
    "longest_common_subsequence",
    "normalized",
    "pattern_of",
    "rouge_l",
]
