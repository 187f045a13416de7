"""From files to the passages that a question is answered from: reading, cutting, ranking.

A passage is ``text[start:end]`` of its file, exactly. Its metadata say where it stands: ``source`` (the path as given),
``start`` (characters from the beginning of the file's text, a byte order mark not counted) and ``line`` (from 1).
"""

from __future__ import annotations

import codecs
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import regex
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from fourcorners.errors import SettingsError, SourceError
from fourcorners.grounding.segmentation import Offsets, chunks, headings, sentences
from fourcorners.grounding.words import folded_words, function_words, guess_language, stem

TEXT_SUFFIXES = (".txt", ".text", ".md", ".markdown", ".rst")
"""What is read in a folder; a file that is named itself may have any name."""
MAX_FILE_BYTES = 64 * 2**20
PASSAGE_CHARS = 1_200
"""Consecutive paragraphs share a passage up to this length."""
MAX_PARAGRAPH_CHARS = 4_000
"""A longer paragraph is cut, between its lines or sentences."""
MAX_QUERY_TERMS = 256
STDIN = "-"

_FORMATS = {
    b"%PDF": "a PDF; turn it into text first, e.g. with pdftotext",
    b"PK\x03\x04": "a zip archive or an office document; turn it into text first, e.g. with pandoc -t plain",
}
_BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_CONTROL_BYTES = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))

_warn = logging.getLogger(__name__).warning

_LINE = regex.compile(r"[^\r\n]+")
_LINE_BREAK = regex.compile(r"\r\n|\r|\n")
_MARKDOWN_HEADING = regex.compile(r"[ ]{0,3}#{1,6}[ \t]")
_UNDERLINED = regex.compile(r"[^\r\n]+(?:\r\n|\r|\n)[ \t]*([=\-~^\"*+#`])\1{2,}")
_TITLE = regex.compile(r"(?!\s*(?:[\-*+•>|]|\d+[.)]\s))[^\r\n]{1,80}(?<![.!?:;,|])")


def load_passages(
    paths: Iterable[str | os.PathLike[str]], stdin: BinaryIO | None = None, warn: Callable[[str], object] = _warn
) -> list[Document]:
    """The passages of files, folders and standard input (``-``), in the order given; a file given twice is read once.

    Raises SourceError for what is named and can't be read as text. What is skipped inside a folder (hidden, not text by
    name, unreadable) is told to ``warn``; a folder without any text is an error.
    """
    read, passages = set[str](), list[Document]()
    for path in [os.fspath(path) for path in paths]:
        usable = False
        for source in _sources(path, warn):
            file = source if source == STDIN else os.path.realpath(source)
            try:
                if file not in read:
                    passages.extend(passages_of(read_text(source, stdin), source))
                read.add(file)
                usable = True
            except SourceError as error:
                if source == path:
                    raise
                warn(f"skipped: {error}")
        if not usable:
            raise SourceError(f"no text to read in folder {path!r} ({', '.join(TEXT_SUFFIXES)}). Name other files.")
    return passages


def _sources(path: str, warn: Callable[[str], object]) -> Iterator[str]:
    """``path`` itself, or the text files below the folder ``path``: sorted, files before subfolders."""
    if path == STDIN or not Path(path).is_dir():
        yield path
        return
    hidden, other = list[str](), list[str]()
    for parent, folders, names in os.walk(path, onerror=lambda error: warn(f"skipped: {error}")):
        hidden += [str(Path(parent, name)) for name in (*folders, *names) if name.startswith(".")]
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            file = Path(parent, name)
            if name.lower().endswith(TEXT_SUFFIXES) and file.is_file():
                yield str(file)
            else:
                other.append(str(file))
    for skipped, reason in ((hidden, "hidden"), (other, "not text by name; to have one read, name it")):
        if skipped:
            more = f" and {len(skipped) - 4} more" if len(skipped) > 4 else ""
            warn(f"skipped: {', '.join(sorted(skipped)[:4])}{more} ({reason})")


def read_text(path: str, stdin: BinaryIO | None = None) -> str:
    """The text of one file, newlines as they stand. Raises SourceError with the reason and a remedy."""
    name, argument = ("standard input", "FILE") if path == STDIN else (repr(path), shlex.quote(path))
    try:
        with nullcontext(stdin or sys.stdin.buffer) if path == STDIN else Path(path).open("rb") as file:
            return _decoded(file.read(MAX_FILE_BYTES + 1), name, argument)
    except FileNotFoundError as error:
        raise SourceError(f"no such file or folder: {name}. Check its name and the folder you are in.") from error
    except PermissionError as error:
        raise SourceError(f"no permission to read {name}. Allow it, e.g. chmod u+r {argument}") from error
    except OSError as error:
        raise SourceError(f"can't read {name}: {error.strerror}. Give a text file.") from error


def _decoded(data: bytes, name: str, argument: str) -> str:
    if len(data) > MAX_FILE_BYTES:
        raise SourceError(f"{name} is larger than {MAX_FILE_BYTES >> 20} MiB. Give the part that matters.")
    mark = next((mark for mark in _BYTE_ORDER_MARKS if data.startswith(mark)), b"")
    encoding = _BYTE_ORDER_MARKS.get(mark, "utf-8")
    if not mark:
        _refuse_binary(data, name, argument)
    try:
        text = data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        offset = len(mark) + error.start
        raise SourceError(
            f"{name} is not valid {encoding.upper()} (byte 0x{data[offset]:02X} at offset {offset}). Convert it from "
            f"its own encoding, e.g. iconv -f latin1 -t utf-8 {argument} > converted.txt"
        ) from error
    if "\0" in text:
        raise SourceError(f"{name} is binary (NUL character at {text.index(chr(0))}). Give a text file.")
    if not text.strip():
        raise SourceError(f"{name} is empty. Give a file with text in it.")
    return text


def _refuse_binary(data: bytes, name: str, argument: str) -> None:
    if kind := next((kind for magic, kind in _FORMATS.items() if data.startswith(magic)), None):
        raise SourceError(f"{name} is {kind}.")
    if (offset := data.find(b"\0")) >= 0:
        raise SourceError(
            f"{name} is binary (NUL byte at offset {offset}). Give a text file; if it is UTF-16 text, convert it, "
            f"e.g. iconv -f utf-16le -t utf-8 {argument} > converted.txt"
        )
    if (controls := len(data) - len(data.translate(None, _CONTROL_BYTES))) > 0.3 * len(data):
        raise SourceError(f"{name} is binary ({controls} of {len(data)} bytes are controls). Give a text file.")


def passages_of(text: str, source: str) -> list[Document]:
    """The passages of one text, in order: whole paragraphs, short ones together, a heading with what follows it."""
    found, line, counted = list[Document](), 1, 0
    for start, end in _packed(_section_parts(text)):
        line += len(_LINE_BREAK.findall(text, counted, start))
        counted = start
        metadata = {"source": source, "start": start, "line": line}
        found.append(Document(page_content=text[start:end], metadata=metadata, id=f"{source}#{start}"))
    return found


def line_of(passage: Document, offset: int) -> int:
    """The line of the file on which character ``offset`` of ``passage`` stands, from 1."""
    return int(passage.metadata.get("line", 1)) + len(_LINE_BREAK.findall(passage.page_content, 0, offset))


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


def bm25_retriever(passages: Sequence[Document], k: int = 4) -> BaseRetriever:
    """The ``k`` passages nearest to a question by BM25 over stems, ties in order; all of them where there are no more.

    The name of a passage's file, and the title and heading above it, count as words of the passage.
    """
    if k < 1:
        raise SettingsError(f"k, the number of passages to read, must be at least 1, not {k!r}.")
    with warnings.catch_warnings():  # langchain-community announces at import that it is no longer maintained
        warnings.filterwarnings("ignore", message=".*langchain-community.* is being sunset")
        from langchain_community.retrievers import BM25Retriever

    indexed = [folded_words(text) for text in _with_titles(passages)]
    all_words = [word for words in indexed for word in words]
    language = guess_language(all_words[:: 1 + len(all_words) // 400]) or "english"

    def terms(words: Iterable[str]) -> list[str]:
        stems = [stem(word, language) for word in words]
        return [term for term in stems if term not in function_words(language)] or stems

    def query_terms(question: str) -> list[str]:
        return list(dict.fromkeys(terms(folded_words(question))))[:MAX_QUERY_TERMS]

    ranking = _Ranking([terms(words) for words in indexed])
    return BM25Retriever(vectorizer=ranking, docs=list(passages), k=k, preprocess_func=query_terms)


def _with_titles(passages: Sequence[Document]) -> Iterator[str]:
    source = title = heading = ""
    for passage in passages:
        if passage.metadata.get("source", "") != source:
            source, heading = str(passage.metadata.get("source", "")), ""
            title = passage.page_content.strip().split("\n", 1)[0][:200]
        yield f"{Path(source).stem} {title} {heading} {passage.page_content}"
        if found := headings(passage.page_content):
            heading = passage.page_content[slice(*found[-1])]


class _Ranking:
    """What BM25Retriever asks of rank_bm25, but for no passages too, and with ties in the order given.

    BM25Plus, because the plain formula gives words that stand in most of a few passages a negative weight.
    """

    def __init__(self, documents: list[list[str]]) -> None:
        from rank_bm25 import BM25Plus

        self._bm25 = BM25Plus(documents) if any(documents) else None

    def get_top_n(self, query: list[str], documents: list[Document], n: int) -> list[Document]:
        if self._bm25 is None:
            return documents[:n]
        order: Any = (-self._bm25.get_scores(query)).argsort(kind="stable")
        return [documents[index] for index in order[:n]]
