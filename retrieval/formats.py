"""The passages of one file, whatever its format: text, HTML, PDF or Word (.docx)."""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from langchain_core.documents import Document

from fourcorners.errors import FourCornersError, SourceError, shortened
from fourcorners.retrieval.passages import PARAGRAPH_GAP, passages_of
from fourcorners.retrieval.reading import decoded, naming, printable

TEXT_SUFFIXES = (".txt", ".text", ".md", ".markdown", ".rst")
HTML_SUFFIXES = (".html", ".htm", ".xhtml")
SUFFIXES = (*TEXT_SUFFIXES, *HTML_SUFFIXES, ".pdf", ".docx")
"""What is read in a folder; a file that is named itself may have any name."""
MAX_UNPACKED_BYTES = 512 * 2**20
_MAX_LISTED_PAGES = 8


class Extract(NamedTuple):
    """What one file gave: its passages, and what could not be read of it ("" where all could)."""

    passages: list[Document]
    missed: str = ""


class MissingPackage(SourceError):
    """A file that this installation can't read, though another could."""


def passages_in(data: bytes, path: str, *, any_encoding: bool = False) -> Extract:
    """The passages of ``data``, the content of the file ``path``; ``any_encoding`` as for ``decoded``.

    Besides ``source``, ``start`` and ``line`` a passage of a PDF has ``page`` and one of a Word file ``paragraph``,
    both from 1. ``start`` and ``line`` count in the text extracted: of the page, or of the whole file. Raises
    SourceError where there is no text, and says why.
    """
    source, suffix = printable(path), Path(path).suffix.lower()
    if data.startswith(b"%PDF") or suffix == ".pdf":
        return _pdf_passages(data, path, source)
    if suffix == ".docx" or _is_word(data):
        return Extract(_word_passages(_word_text(data, path), source))
    if suffix in HTML_SUFFIXES:
        return Extract(passages_of(_html_text(data, path), source))
    return Extract(passages_of(decoded(data, path, any_encoding=any_encoding), source))


# PDF


def _pdf_passages(data: bytes, path: str, source: str) -> Extract:
    pages, name = _pdf_pages(data, path), naming(path)[0]
    found = [
        passage
        for number, text in enumerate(pages, start=1)
        for passage in passages_of(text, source, page=number)  # a passage never runs over a page's end
    ]
    blank = [str(number) for number, text in enumerate(pages, start=1) if not text.strip()]
    if not found:
        raise SourceError(
            f"{name} has no text layer on any of its {len(pages)} pages: they are scanned, or pictures. "
            f"Have the text recognised first, e.g. with ocrmypdf."
        )
    more = f" and {len(blank) - _MAX_LISTED_PAGES} more" if len(blank) > _MAX_LISTED_PAGES else ""
    missed = f"no text on page {', '.join(blank[:_MAX_LISTED_PAGES])}{more} of {name} (blank or scanned)"
    return Extract(found, missed if blank else "")


def _pdf_pages(data: bytes, path: str) -> list[str]:
    import pypdf
    from pypdf.errors import DependencyError

    name = naming(path)[0]
    with _as_source_error(name, "PDF"):
        try:
            reader = pypdf.PdfReader(io.BytesIO(data))
            if reader.is_encrypted and not reader.decrypt(""):
                raise SourceError(f"{name} is protected with a password. Give a copy without one.")
            pages = [_clean(page.extract_text()) for page in reader.pages]
        except DependencyError as error:
            raise MissingPackage(
                f"{name} is encrypted with AES. To read such files: pip install 'fourcorners[encrypted-pdf]'"
            ) from error
    return pages


def _clean(text: str) -> str:
    """``text`` as valid Unicode: a PDF's fonts may map a glyph to NUL or to half a surrogate pair."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\ufffd")


# Word

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_NOT_SHOWN = {_FALLBACK, f"{_W}moveFrom", f"{_W}pPr", f"{_W}rPr"}
_AS_TEXT = {f"{_W}tab": "\t", f"{_W}br": "\n", f"{_W}cr": "\n", f"{_W}noBreakHyphen": "\u2011"}
_GRID_COLUMNS = 3


def _is_word(data: bytes) -> bool:
    if not data.startswith(b"PK\x03\x04"):
        return False
    try:
        return "word/document.xml" in zipfile.ZipFile(io.BytesIO(data)).namelist()
    except zipfile.BadZipFile:
        return False


def _word_text(data: bytes, path: str) -> str:
    """Paragraphs and tables in the order of the page, apart by a blank line; no headers, footers, notes, comments."""
    import docx

    name = naming(path)[0]
    if data.startswith(b"\xd0\xcf\x11\xe0"):
        raise SourceError(f"{name} is protected with a password, or an old .doc. Save it as .docx without a password.")
    with _as_source_error(name, "Word file"):
        unpacked = sum(entry.file_size for entry in zipfile.ZipFile(io.BytesIO(data)).infolist())
        if unpacked > MAX_UNPACKED_BYTES:
            raise SourceError(f"{name} unpacks to {unpacked >> 20} MiB, {MAX_UNPACKED_BYTES >> 20} are allowed.")
        body = docx.Document(io.BytesIO(data)).element.body
        blocks = [text for block in _blocks(body) if (text := _one_block(block))]
    if not blocks:
        raise SourceError(f"{name} has no text in it (pictures only?). Give a file with text in it.")
    return PARAGRAPH_GAP.join(blocks)


def _one_block(text: str) -> str:
    """Without blank lines, so that a blank line is always the gap between two paragraphs."""
    return "\n".join(line.rstrip() for line in text.replace("\r", "\n").split("\n") if line.strip())


def _blocks(parent: Any) -> Iterator[str]:
    """The paragraphs and tables below ``parent``, content controls and text boxes too, tracked changes accepted."""
    for child in parent:
        if child.tag == f"{_W}p":
            yield "".join(_pieces(child))
            for box in child.iter(f"{_W}txbxContent"):
                if not any(above.tag == _FALLBACK for above in box.iterancestors()):
                    yield from _blocks(box)
        elif child.tag == f"{_W}tbl":
            yield _table(child)
        elif child.tag not in _NOT_SHOWN:
            yield from _blocks(child)


def _pieces(parent: Any) -> Iterator[str]:
    for child in parent:
        if child.tag == f"{_W}t":
            yield child.text or ""
        elif child.tag in _AS_TEXT:
            yield _AS_TEXT[child.tag]
        elif child.tag not in _NOT_SHOWN and child.tag != f"{_W}txbxContent":
            yield from _pieces(child)


def _table(table: Any) -> str:
    """Rows as in Markdown; the first is a header where it is marked so, or where the table is a grid, not pairs."""
    rows = list(table.iterchildren(f"{_W}tr"))
    cells = [[" ".join(" ".join(_blocks(cell)).split()) for cell in row.iterchildren(f"{_W}tc")] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in cells if any(row)]
    marked = bool(rows) and rows[0].find(f"{_W}trPr/{_W}tblHeader") is not None
    if len(lines) > 1 and any(cells[0]) and (marked or len(cells[0]) >= _GRID_COLUMNS):
        lines.insert(1, "|---" * len(cells[0]) + "|")
    return "\n".join(lines)


def _word_passages(text: str, source: str) -> list[Document]:
    found, number, counted = passages_of(text, source), 1, 0
    for passage in found:
        start = passage.metadata["start"]
        number += text.count(PARAGRAPH_GAP, counted, start)
        counted = start
        passage.metadata["paragraph"] = number
    return found


# HTML

_UNSEEN = "script, style, template, noscript, svg, iframe, head, [hidden]"
_NOT_DISPLAYED = re.compile(r"display\s*:\s*none", re.I)
_PLAIN = ["a", "img", "b", "strong", "i", "em", "u", "s", "del", "code", "kbd", "samp", "sub", "sup", "mark"]


def _html_text(data: bytes, path: str) -> str:
    """What a browser shows, headings, lists and tables as in Markdown; above it the page's title, where that is new."""
    from bs4 import BeautifulSoup
    from markdownify import MarkdownConverter

    name = naming(path)[0]
    markup = _markup(data, path)
    with _as_source_error(name, "HTML file"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bs4 has advice on markup that looks like XML or like a file name
        page = BeautifulSoup(markup, "lxml")
        title = " ".join(page.title.get_text().split()) if page.title else ""
        for element in [*page.select(_UNSEEN), *page.find_all(style=_NOT_DISPLAYED)]:
            element.decompose()
        converter = MarkdownConverter(
            heading_style="ATX",
            bullets="-",
            strip=_PLAIN,
            escape_asterisks=False,
            escape_underscores=False,
            escape_misc=False,
        )
        text, title = _clean(converter.convert_soup(page)).strip(), _clean(title)
    if not text:
        raise SourceError(f"{name} has no text in it. A page that a script fills must be saved once it is filled.")
    return text if title in text else f"{title}\n\n{text}"


def _markup(data: bytes, path: str) -> str:
    """Decoded by byte order mark, else as UTF-8, else by the charset that the page declares."""
    from bs4.dammit import EncodingDetector

    declared = EncodingDetector.find_declared_encoding(data, is_html=True)
    try:
        return decoded(data, path)
    except SourceError:
        if declared:
            try:
                return data.decode(declared)
            except (LookupError, UnicodeDecodeError):
                pass
    return decoded(data, path, any_encoding=True)


@contextmanager
def _as_source_error(name: str, kind: str) -> Iterator[None]:
    """Whatever a reader of foreign files stumbles over is a fault of the file."""
    try:
        yield
    except FourCornersError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {shortened(str(error))}"
        raise SourceError(f"{name} is not a {kind} that can be read ({reason}). Open it and save it anew.") from error
