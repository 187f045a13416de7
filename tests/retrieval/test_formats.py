"""PDF, Word and HTML files as passages, and what is said of those that can't be read."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import docx
import pytest
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls
from hypothesis import given
from hypothesis import strategies as st

from fourcorners.errors import SourceError
from fourcorners.retrieval import formats, load_passages, place_of
from fourcorners.retrieval.formats import MissingPackage, passages_in
from fourcorners.retrieval.reading import decoded
from tests.retrieval.made_files import SCAN, encrypted, pdf, saved, word

PAGES = [["The manual of the pump.", "It weighs nine kilograms."], ["Warranty", "The warranty is 24 months."]]


def text_of(data: bytes, name: str) -> str:
    return "\n\n".join(passage.page_content for passage in passages_in(data, name).passages)


def quoted(data: bytes, name: str, quote: str) -> dict[str, int]:
    """Where ``quote`` stands."""
    (found,) = [passage for passage in passages_in(data, name).passages if quote in passage.page_content]
    return place_of(found, found.page_content.index(quote))


# PDF


def test_passages_of_a_pdf_name_their_page_and_never_run_over_it() -> None:
    first, second = passages_in(pdf(PAGES), "pump.pdf").passages
    assert first.page_content.split("\n") == PAGES[0]
    assert second.page_content.split("\n") == PAGES[1]
    assert first.metadata == {"source": "pump.pdf", "start": 0, "line": 1, "page": 1}
    assert (second.metadata["page"], first.id != second.id) == (2, True)
    assert quoted(pdf(PAGES), "pump.pdf", "The warranty is") == {"line": 2, "page": 2}


def test_a_pdf_is_known_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "download").write_bytes(pdf(PAGES))
    assert [passage.metadata["page"] for passage in load_passages([tmp_path / "download"])] == [1, 2]
    assert len(load_passages(["-"], stdin=io.BytesIO(pdf(PAGES)))) == 2


@pytest.mark.parametrize("algorithm", ["RC4-128", "AES-128", "AES-256"])
def test_a_protected_pdf_is_refused_and_one_that_anybody_may_read_is_read(algorithm: str) -> None:
    with pytest.raises(SourceError, match=r"^'a\.pdf' is protected with a password"):
        passages_in(encrypted(pdf(PAGES), "secret", "boss", algorithm), "a.pdf")
    assert "The warranty is 24 months." in text_of(encrypted(pdf(PAGES), "", "boss", algorithm), "a.pdf")


def test_without_the_package_for_aes_the_remedy_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(encrypted(pdf(PAGES), "", "boss", "AES-256"))
    code = (
        "import sys; sys.modules.update({'cryptography': None, 'Crypto': None});"
        "from fourcorners.retrieval import load_passages; load_passages(['a.pdf'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "MissingPackage: 'a.pdf' is encrypted with AES" in done.stderr
    assert "fourcorners[encrypted-pdf]" in done.stderr
    assert issubclass(MissingPackage, SourceError)


def test_a_scanned_pdf_is_refused_and_a_scanned_page_is_named() -> None:
    with pytest.raises(SourceError, match=r"'a\.pdf' has no text layer on any of its 2 pages: .*ocrmypdf"):
        passages_in(pdf([SCAN, SCAN]), "a.pdf")
    passages, missed = passages_in(pdf([SCAN, PAGES[0], SCAN]), "a.pdf")
    assert [passage.metadata["page"] for passage in passages] == [2]
    assert missed == "no text on page 1, 3 of 'a.pdf' (blank or scanned)"
    _, missed = passages_in(pdf([PAGES[0], *[SCAN] * 20]), "a.pdf")
    assert "2, 3, 4, 5, 6, 7, 8, 9 and 12 more" in missed


@pytest.mark.parametrize("data", [b"%PDF-1.7\n", b"", b"no pdf at all", pdf(PAGES)[:300], b"%PDF-1.4\n" + bytes(500)])
def test_a_broken_pdf_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(SourceError, match=r"^'a\.pdf' (is not a PDF that can be read|has no text layer)") as caught:
        passages_in(data, "a.pdf")
    assert "\n" not in str(caught.value)


@given(st.integers(0, 4000), st.binary(max_size=20))
def test_a_damaged_pdf_is_read_or_refused(at: int, damage: bytes) -> None:
    whole = pdf(PAGES)
    at %= len(whole)
    try:
        found = passages_in(whole[:at] + damage + whole[at + len(damage) :], "a.pdf").passages
    except SourceError:
        return
    assert all(passage.page_content.encode() and passage.metadata["page"] >= 1 for passage in found)


# Word

LETTER = ("# Terms", "The deposit is 50 euros.", [["Model", "City", "Weight"], ["Swift", "Lyon", "12 kg"]], "Bye.")


def test_a_word_file_is_paragraphs_and_tables_in_order() -> None:
    (passage,) = passages_in(word(*LETTER), "terms.docx").passages
    table = "| Model | City | Weight |\n|---|---|---|\n| Swift | Lyon | 12 kg |"
    assert passage.page_content == f"Terms\n\nThe deposit is 50 euros.\n\n{table}\n\nBye."
    assert passage.metadata == {"source": "terms.docx", "start": 0, "line": 1, "paragraph": 1}
    assert quoted(word(*LETTER), "terms.docx", "The deposit")["paragraph"] == 2
    assert quoted(word(*LETTER), "terms.docx", "Bye.")["paragraph"] == 4


def test_paragraphs_are_counted_on_over_many_passages() -> None:
    long = [f"Paragraph {number}. " + "Words and more words stand here. " * 20 for number in range(1, 40)]
    passages = passages_in(word(*long), "long.docx").passages
    assert len(passages) > 10
    for passage in passages:
        for match in re.finditer(r"Paragraph (\d+)\.", passage.page_content):
            assert place_of(passage, match.start())["paragraph"] == int(match[1])


def test_a_table_of_pairs_has_no_header() -> None:
    assert (
        text_of(word([["Weight", "12 kg"], ["Price", "90 euros"]]), "a.docx")
        == "| Weight | 12 kg |\n| Price | 90 euros |"
    )


def test_what_word_hides_in_frames_is_read_too_and_what_was_deleted_is_not() -> None:
    document: Any = docx.Document()
    body = document.element.body
    run = "<w:r><w:t>{}</w:t></w:r>"
    control = f"<w:sdt {nsdecls('w')}><w:sdtContent><w:p>{run.format('In a control.')}</w:p></w:sdtContent></w:sdt>"
    changed = (
        f"<w:p {nsdecls('w')}><w:ins>{run.format('Put in.')}</w:ins>"
        f"<w:del><w:r><w:delText>Taken out.</w:delText></w:r></w:del>"
        f"<w:moveFrom>{run.format('Moved away.')}</w:moveFrom></w:p>"
    )
    inside = f"<w:txbxContent><w:p>{run.format('In a box.')}</w:p></w:txbxContent>"
    box = (
        f'<w:p {nsdecls("w")} xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"><w:r>'
        f"<mc:AlternateContent><mc:Choice>{inside}</mc:Choice><mc:Fallback>{inside}</mc:Fallback>"
        f"</mc:AlternateContent></w:r>{run.format('Around it.')}</w:p>"
    )
    lines = f"<w:p {nsdecls('w')}><w:r><w:t>One</w:t><w:br/><w:br/><w:t>two</w:t><w:tab/><w:t>three</w:t></w:r></w:p>"
    for xml in (control, changed, box, lines):
        body.insert(len(body) - 1, parse_xml(xml))
    (passage,) = passages_in(saved(document), "a.docx").passages
    assert passage.page_content.split("\n\n") == [
        "In a control.",
        "Put in.",
        "Around it.",
        "In a box.",
        "One\ntwo\tthree",
    ]


def a_zip(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PK\x03\x04rest", "is not a Word file that can be read"),
        (word(*LETTER)[:2000], "is not a Word file that can be read"),
        (a_zip(mimetype=b"application/vnd.oasis"), "is not a Word file that can be read"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "is protected with a password, or an old .doc"),
        (b"", "is not a Word file that can be read"),
        (word(), r"has no text in it \(pictures only\?\)"),
    ],
)
def test_a_word_file_that_can_not_be_read(data: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=rf"^'a\.docx' {message}") as caught:
        passages_in(data, "a.docx")
    assert "\n" not in str(caught.value)


def test_an_archive_that_unpacks_to_too_much_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "MAX_UNPACKED_BYTES", 2**20)
    bomb = word("a" * 2**21)
    assert len(bomb) < 2**20
    with pytest.raises(SourceError, match=r"unpacks to 2 MiB, 1 are allowed"):
        passages_in(bomb, "a.docx")


def test_other_archives_are_no_text() -> None:
    with pytest.raises(SourceError, match="is a zip archive or an office document"):
        passages_in(a_zip(mimetype=b"application/vnd.oasis"), "a.odt")


# HTML

PAGE = """<!DOCTYPE html><html><head><title>Opening  hours</title><style>p {color: red}</style>
<script>var secret = 1;</script></head><body><h1>The museum</h1><!-- a comment -->
<p>It opens at <b>ten</b>, <a href="x">every day</a>; tickets cost&nbsp;&euro;12.<br>Dogs_are *not* allowed.</p>
<p style="color: red; display: none">hidden one</p><p hidden>hidden two</p><template>three</template>
<table><tr><th>Day</th><th>Closes</th></tr><tr><td>Monday</td><td>17:00</td></tr></table>
<ul><li>One</li><li>Two</li></ul></body></html>"""


def test_html_is_what_a_browser_shows() -> None:
    text = text_of(PAGE.encode(), "museum.html")
    assert text.startswith("Opening hours\n\n# The museum")
    assert "It opens at ten, every day; tickets cost\xa0€12." in text
    assert "Dogs_are *not* allowed." in text
    assert "| Day | Closes |\n| --- | --- |\n| Monday | 17:00 |" in text
    assert "- One\n- Two" in text
    for hidden in ("secret", "color", "comment", "hidden", "three"):
        assert hidden not in text


def test_the_line_is_that_of_the_extracted_text() -> None:
    passages = passages_in(PAGE.encode(), "museum.html").passages
    whole = "\n".join(p.page_content for p in passages)
    line = quoted(PAGE.encode(), "museum.html", "Monday")["line"]
    assert whole.split("\n")[line - 1] == "| Monday | 17:00 |"


@pytest.mark.parametrize(
    "data",
    [
        "<p>Das Café schließt.</p>".encode(),
        "<p>Das Café schließt.</p>".encode("utf-16"),
        '<meta charset="latin1"><p>Das Café schließt.</p>'.encode("latin1"),
        "<p>Das Café schließt.</p>".encode("cp1252"),
        "<p>Das Caf&eacute; schlie&#223;t.</p>".encode("ascii"),
    ],
)
def test_html_in_any_encoding(data: bytes) -> None:
    assert text_of(data, "a.htm") == "Das Café schließt."


def test_a_declared_charset_is_believed_where_it_is_not_utf8() -> None:
    data = '<meta http-equiv="Content-Type" content="text/html; charset=shift_jis"><p>東京の天気</p>'.encode(
        "shift_jis"
    )
    assert text_of(data, "a.html") == "東京の天気"


@pytest.mark.parametrize("data", [b"", b"<html></html>", b"<script>x()</script>", b"<p>\xff\x00\x01"])
def test_html_without_text(data: bytes) -> None:
    with pytest.raises(SourceError, match=r"^'a\.html' (has no text|is empty|is binary)"):
        passages_in(data, "a.html")


@given(st.lists(st.sampled_from(["<p>", "<div>", "</table>", "<td>", "<!--", "]]>", "&#xD800;", "&#0;", "x", "<"])))
def test_any_markup_gives_text_or_is_refused(pieces: list[str]) -> None:
    try:
        found = passages_in("".join(pieces).encode(), "a.html").passages
    except SourceError:
        return
    assert all(passage.page_content.encode() for passage in found)


def test_markup_nested_too_deeply_is_refused() -> None:
    data = b"<div>" * 20_000 + b"deep" + b"</div>" * 20_000
    with pytest.raises(SourceError, match="is not a HTML file that can be read"):
        passages_in(data, "a.html")


# Encodings


@given(st.text(st.characters(codec="cp1252", exclude_categories=["Cc"]), min_size=1))
def test_windows_1252_is_read_as_such_or_was_utf8(text: str) -> None:
    data = text.encode("cp1252")
    try:
        found = decoded(data, "a.txt", any_encoding=True)
    except SourceError:
        return  # blank, or more like damaged UTF-8
    assert found in (text, data.decode("utf-8", "replace"))


def test_a_text_in_latin1_is_read_where_any_encoding_will_do() -> None:
    data = "Das Café schließt um fünf.".encode("latin1")
    with pytest.raises(SourceError, match="not valid UTF-8"):
        decoded(data, "a.txt")
    assert decoded(data, "a.txt", any_encoding=True) == "Das Café schließt um fünf."


@pytest.mark.parametrize(
    "data",
    [
        "Ein paar Wörter über Käse, hübsch geschrieben, ".encode() + b"\xff cut",  # damaged UTF-8
        b"\x89PNG\r\n\x1a\n\x01\x02 \xff\xfe\xfd",
        bytes(range(1, 256)),
    ],
)
def test_what_is_no_text_of_one_byte_a_letter_is_refused_all_the_same(data: bytes) -> None:
    with pytest.raises(SourceError):
        decoded(data, "a.txt", any_encoding=True)
