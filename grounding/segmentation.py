"""Where a text may be cut: sentences, and words that must stay whole.

Every function returns character offsets into the text as supplied; nothing is normalised, so ``text[start:end]`` is
always the exact source. Languages: sentence borders come from the ``sentencex`` library, which knows the
abbreviations of some 30 languages; layout (list items, table rows, headings, wrapped lines) is ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import regex
import sentencex

Offsets = tuple[int, int]

MAX_SENTENCE_CHARS = 2_000
"""A longer stretch without a sentence border is cut into pieces, so that a file without punctuation stays usable."""
MAX_BLOCK_CHARS = 4_000

_LINE = regex.compile(r"[^\r\n\x0b\x0c\u2028\u2029]+")
_PARAGRAPH_GAP = regex.compile(r"\n\s*\n|\r\n\s*\r\n|\r\s*\r|[\x0c\u2029]")
_ITEM_START = regex.compile(r"\s*(?:[-*+•‣◦–—]\s|\(?\d{1,3}[.)]\s|\(?[a-zA-Z][.)]\s|#{1,6}\s|>|\||```|~~~)")
_RULE = regex.compile(r"[\s\-=_*~|:+`#>]*")
_ITEM_MARKER = regex.compile(r"\s*(?:(?:[-*+•‣◦]|#{1,6}|>|\(?\d{1,3}[.)]|\*\*|__)\s+)*")
_SENTENCE_END = regex.compile(r"[.!?:;。！？…][\"'”’»)\]*_]*\s*\Z")
_LEAD_IN = regex.compile(r"\s*((?:\*\*|__)[^*_\r\n]{1,80}[.!?](?:\*\*|__))\s+(?=\S)")
"""A bold title that opens a paragraph, as in contracts and FAQs: "**3. Rent.** The tenant pays …"."""
_WRAP_MIN_CHARS = 45
MIN_LOWER_SHARE = 0.3
_HAS_WORD = regex.compile(r"[\p{L}\p{N}]")

_CURRENCY = r"(?:[$€£¥₹₽₩]|USD|EUR|GBP|CHF|JPY|Rs\.?)"
_NUMBER = r"[+\-−]?\d+(?:[.,'’:/\-–]\d+|(?:[ \u00a0\u202f]\d{3})(?!\d))*"
_UNIT = (
    r"(?:[ \u00a0\u202f]?(?:%|‰|°[CFK]?|[$€£¥₹]"
    r"|(?:USD|EUR|GBP|CHF|euros?|dollars?|pounds?|cents?|percent|per cent|[hH]undred|thousand|[mb]illion|trillion"
    r"|[kcmµ]?[gmlLWVAΩJsN]|[kMGT]?Hz|[kMGT]i?B|kWh|bar|psi|rpm|km/h|mph"
    r"|inch(?:es)?|ft|lbs?|oz|[ap]\.?m\.?)(?![\p{L}\p{M}])))"
)
_MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?"
    r"|Nov(?:ember)?|Dec(?:ember)?)\.?"
)
_DAY = r"\d{1,2}(?:st|nd|rd|th)?"
_DATE = rf"(?:{_DAY}(?: of)? {_MONTH}(?:,? \d{{4}})?|{_MONTH} {_DAY}(?:, \d{{4}})?|{_MONTH} \d{{4}})(?!\d)"
_WORD_CHAR = r"[\p{L}\p{M}\p{N}_\u200c\u200d]"
_WORD = rf"{_WORD_CHAR}+(?:[.'’\-‐‑/@&+]{_WORD_CHAR}+)*"
_AMOUNT = rf"(?:{_CURRENCY}[ \u00a0]?)?{_NUMBER}(?:{_WORD_CHAR}+)?(?:[\-‐‑]{_WORD_CHAR}+)*{_UNIT}*"
_CHUNK = regex.compile(rf"\s+|{_DATE}|{_AMOUNT}|{_WORD}|\X")


def sentences(text: str, language: str = "en") -> list[Offsets]:
    """Offsets of the sentences, list items, table rows and headings of ``text``, in order, without outer white space.

    Linear in the length of the text (about 5 MB/s). A piece without any letter or digit is left out.
    """
    found: list[Offsets] = []
    for start, end in _blocks(text):
        lead = _LEAD_IN.match(text, start, end)
        if lead:
            found.append(lead.span(1))
            start = lead.end()
        marker = _ITEM_MARKER.match(text, start, end)
        if marker and marker.end() < end:
            start = marker.end()  # else "1." passes for a sentence
        is_row = text.startswith("|", start)  # a row stays whole: half of one says nothing
        for border in [(start, end)] if is_row else _borders(text, start, end, language):
            found.extend(_bounded(text, *_trimmed(text, *border)))
    return [(start, end) for start, end in found if _HAS_WORD.search(text, start, end)]


def chunks(text: str) -> list[Offsets]:
    """Offsets that tile ``text``: white space, words, whole numbers, prices, dates, and single graphemes.

    A span that begins and ends at these borders never cuts a number, price, date, hyphenated word or a letter from
    its combining marks.
    """
    return [match.span() for match in _CHUNK.finditer(text)]


def headings(text: str) -> list[Offsets]:
    """Offsets of the Markdown heading lines of ``text`` (``# …`` to ``###### …``), marker included."""
    return [match.span() for match in regex.finditer(r"(?m)^[ \t]{0,3}#{1,6}[ \t]+\S[^\r\n]*", text)]


def _borders(text: str, start: int, end: int, language: str) -> Iterator[Offsets]:
    """What sentencex finds in a block; of a long one piece by piece, because its time grows with the square."""
    while end - start > MAX_BLOCK_CHARS:
        found = sentencex.get_sentence_boundaries(language, text[start : start + MAX_BLOCK_CHARS])
        whole = found[:-1] or found  # the last may go on behind the piece
        yield from ((start + one["start_index"], start + one["end_index"]) for one in whole)
        start += whole[-1]["end_index"] if whole else MAX_BLOCK_CHARS
    for one in sentencex.get_sentence_boundaries(language, text[start:end]):
        yield start + one["start_index"], start + one["end_index"]


def _blocks(text: str) -> Iterator[Offsets]:
    """Stretches that no sentence crosses: paragraphs, list items, table rows, headings."""
    run: list[Offsets] = []
    for match in _LINE.finditer(text):
        line = match.span()
        if _RULE.fullmatch(text, *line):
            yield from _joined(text, run)
            run = []
            continue
        if run and (_PARAGRAPH_GAP.search(text, run[-1][1], line[0]) or _ITEM_START.match(text, *line)):
            yield from _joined(text, run)
            run = []
        run.append(line)
    yield from _joined(text, run)


def _joined(text: str, lines: list[Offsets]) -> Iterator[Offsets]:
    """Join the lines of one paragraph where it was wrapped; keep line-per-entry layouts apart."""
    if not lines:
        return
    wrapped = _is_wrapped(text, lines)
    block_start, block_end = lines[0]
    for start, end in lines[1:]:
        goes_on = wrapped or (
            _starts_lower(text, start, end)
            and not _SENTENCE_END.search(text[max(block_start, block_end - 8) : block_end])
        )
        if not goes_on:
            yield block_start, block_end
            block_start = start
        block_end = end
    yield block_start, block_end


def _is_wrapped(text: str, lines: list[Offsets]) -> bool:
    """Whether a program wrapped these lines: no first word of a line would have fitted on the line before it.

    Entries of about the same length pass that test too; but they all begin with a capital or a digit.
    """
    if text.startswith(("#", "|"), lines[0][0]):
        return False
    width = max(len(text[start:end].rstrip()) for start, end in lines)
    if width < _WRAP_MIN_CHARS:
        return False
    n_lower = sum(_starts_lower(text, start, end) for start, end in lines[1:])
    if n_lower < MIN_LOWER_SHARE * (len(lines) - 1):
        return False
    for (start, end), (next_start, next_end) in pairwise(lines):
        first_word = text[next_start:next_end].split(maxsplit=1)[0]
        if len(text[start:end].rstrip()) + 1 + len(first_word) <= width:
            return False
    return True


def _starts_lower(text: str, start: int, end: int) -> bool:
    return text[start:end].lstrip()[:1].islower()


def _trimmed(text: str, start: int, end: int) -> Offsets:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    marker = _ITEM_MARKER.match(text, start, end)
    if marker and marker.end() < end:
        start = marker.end()
    return start, end


def _bounded(text: str, start: int, end: int) -> Iterator[Offsets]:
    """Cut what is longer than MAX_SENTENCE_CHARS, at white space where there is some, never inside a grapheme."""
    while end - start > MAX_SENTENCE_CHARS:
        cut = _last_space(text, start + MAX_SENTENCE_CHARS // 2, start + MAX_SENTENCE_CHARS)
        yield _trimmed(text, start, cut)
        start = cut
    yield _trimmed(text, start, end)


def _last_space(text: str, low: int, high: int) -> int:
    for position in range(high, low, -1):
        if text[position].isspace():
            return position
    graphemes = [match.start() for match in regex.finditer(r"\X", text[high - 64 : high + 64])]
    return high - 64 + max((g for g in graphemes if g <= 64), default=64)
