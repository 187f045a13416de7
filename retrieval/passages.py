"""A text cut into passages that respect its paragraphs and sections; each is ``text[start:end]``, exactly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import regex
from langchain_core.documents import Document

from fourcorners.grounding.segmentation import Offsets, chunks, sentences

PASSAGE_CHARS = 1_200
"""Consecutive paragraphs share a passage up to this length."""
MAX_PARAGRAPH_CHARS = 4_000
"""A longer paragraph is cut, between its lines or sentences."""
PARAGRAPH_GAP = "\n\n"
"""What parts the paragraphs of a Word file in its extracted text, and nothing else in it."""
_LINE = regex.compile(r"[^\r\n]+")
_LINE_BREAK = regex.compile(r"\r\n|\r|\n")
_MARKDOWN_HEADING = regex.compile(r"[ ]{0,3}#{1,6}[ \t]")
_UNDERLINED = regex.compile(r"[^\r\n]+(?:\r\n|\r|\n)[ \t]*([=\-~^\"*+#`])\1{2,}")
_TITLE = regex.compile(r"(?!\s*(?:[\-*+•>|]|\d+[.)]\s))[^\r\n]{1,80}(?<![.!?:;,|])")


def passages_of(text: str, source: str, page: int | None = None) -> list[Document]:
    """The passages of one text, in order: whole paragraphs, short ones together, a heading with what follows it.

    With ``page`` the text is that of one page, from 1, of ``source``.
    """
    found, line, counted = list[Document](), 1, 0
    for start, end in _packed(_section_parts(text)):
        line += len(_LINE_BREAK.findall(text, counted, start))
        counted = start
        metadata = {"source": source, "start": start, "line": line} | ({} if page is None else {"page": page})
        found.append(Document(page_content=text[start:end], metadata=metadata, id=passage_id(metadata)))
    return found


def passage_id(metadata: Mapping[str, Any]) -> str:
    """The id of the passage with these metadata, unlike that of any other of the same files."""
    page = f"page={metadata['page']}," if "page" in metadata else ""
    return f"{metadata['source']}#{page}{metadata['start']}"


def line_of(passage: Document, offset: int) -> int:
    """The line of the file on which character ``offset`` of ``passage`` stands, from 1."""
    return int(passage.metadata.get("line", 1)) + len(_LINE_BREAK.findall(passage.page_content, 0, offset))


def place_of(passage: Document, offset: int) -> dict[str, int]:
    """Where in its file a character of ``passage`` stands: its line, and the page or paragraph where there are such."""
    place = {"line": line_of(passage, offset)}
    if "page" in passage.metadata:
        place["page"] = int(passage.metadata["page"])
    if "paragraph" in passage.metadata:
        gaps = passage.page_content.count(PARAGRAPH_GAP, 0, offset)
        place["paragraph"] = int(passage.metadata["paragraph"]) + gaps
    return place


def _section_parts(text: str) -> Iterator[Offsets]:
    """A section in one piece where it fits in a passage, so that packing does not tear it; else packed by itself."""
    section: list[Offsets] = []
    for paragraph in (*_paragraphs(text), None):
        starts = paragraph is None or _MARKDOWN_HEADING.match(text, *paragraph) or _is_title(text, *paragraph)
        if section and starts and (paragraph is None or not _leads_on(text, *section[-1])):
            whole = section[0][0], section[-1][1]
            yield from [whole] if whole[1] - whole[0] <= PASSAGE_CHARS else _packed(_with_leads(text, section))
            section = []
        if paragraph is not None:
            section.append(paragraph)


def _packed(pieces: Iterable[Offsets]) -> Iterator[Offsets]:
    """Neighbours joined while they fit in PASSAGE_CHARS."""
    held: Offsets | None = None
    for start, end in pieces:
        if held and end - held[0] > PASSAGE_CHARS:
            yield held
            held = None
        held = (held[0] if held else start), end
    if held:
        yield held


def _with_leads(text: str, paragraphs: Iterable[Offsets]) -> Iterator[Offsets]:
    """Headings, and introductions that end in a colon, joined to what follows; what is too long cut."""
    held = end = -1
    for start, end in paragraphs:
        held = start if held < 0 else held
        if _leads_on(text, start, end) and end - held <= PASSAGE_CHARS:
            continue
        yield from _cut(text, held, end) if end - start > MAX_PARAGRAPH_CHARS else [(held, end)]
        held = -1
    if held >= 0:
        yield held, end


def _paragraphs(text: str) -> Iterator[Offsets]:
    """Runs of lines that no blank line, page break or Markdown heading parts; the first line keeps its indentation."""
    start = end = line_end = -1
    for match in _LINE.finditer(text):
        line = match.group()
        if line.isspace():
            continue
        after_blank = not _LINE_BREAK.fullmatch(text, line_end, match.start())
        apart = after_blank or line[0] == "\f" or _MARKDOWN_HEADING.match(line)
        if start >= 0 and apart:
            yield start, end
        start = match.start() if start < 0 or apart else start
        end, line_end = match.start() + len(line.rstrip()), match.end()
    if start >= 0:
        yield start, end


def _is_title(text: str, start: int, end: int) -> bool:
    return bool(_UNDERLINED.fullmatch(text, start, end) or _TITLE.fullmatch(text, start, end))


def _leads_on(text: str, start: int, end: int) -> bool:
    is_heading = _MARKDOWN_HEADING.match(text, start, end) and not _LINE_BREAK.search(text, start, end)
    return bool(is_heading) or text[end - 1] == ":" or _is_title(text, start, end)


def _cut(text: str, start: int, end: int) -> list[Offsets]:
    """Pieces of a long paragraph, between sentences or lines, or between graphemes where it has none."""
    piece = text[start:end]
    borders = [0, *(sentence[1] for sentence in sentences(piece)), len(piece)]
    if max(after - before for before, after in pairwise(borders)) > MAX_PARAGRAPH_CHARS:
        borders = [0, *(chunk[1] for chunk in chunks(piece))]
    parts = ((start + before, start + after) for before, after in pairwise(borders))
    return list(_packed(filter(None, (_stripped(text, *part) for part in parts))))


def _stripped(text: str, start: int, end: int) -> Offsets | None:
    piece = text[start:end]
    start += len(piece) - len(piece.lstrip())
    return (start, start + len(piece.strip())) if piece.strip() else None
