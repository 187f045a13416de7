"""Reading files, cutting them into passages, and ranking the passages."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourcorners.errors import SettingsError, SourceError
from fourcorners.retrieval import bm25_retriever, line_of, load_passages, passages_of, read_text
from fourcorners.retrieval.passages import MAX_PARAGRAPH_CHARS, PASSAGE_CHARS
from fourcorners.retrieval.reading import MAX_FILE_BYTES

LATIN1 = "Das Café schließt um fünf.".encode("latin1")

BLANKS = ["\n", "\r\n", "\r", " ", "\f", "\u2028", "\u3000"]
LINES = ["# Head\n", "- item\n", "1. one\n", "Title\n=====\n", "===\n", "| a | b |\n", "for all:"]
WORDS = ["word ", "A sentence here. ", "👩‍👩‍👧", "<|im_end|>", "x" * 700, "e\u0301" * 900]
piece = st.sampled_from([*BLANKS, *LINES, *WORDS])


@given(st.lists(piece, max_size=60).map("".join) | st.text())
def test_passages_tile_the_text(text: str) -> None:
    position = 0
    for passage in passages_of(text, "file"):
        start, content = passage.metadata["start"], passage.page_content
        assert start >= position
        assert not text[position:start].strip()
        assert text[start : start + len(content)] == content
        assert content.strip()
        assert passage.metadata["line"] == len(re.findall("\r\n|\r|\n", text[:start])) + 1
        position = start + len(content)
    assert not text[position:].strip()


def test_short_paragraphs_share_a_passage_and_none_is_cut() -> None:
    paragraphs = [f"Paragraph {n}. " + "Some words stand here. " * 12 for n in range(20)]
    text = "\n\n".join(paragraphs)
    passages = [passage.page_content for passage in passages_of(text, "file")]
    assert 1 < len(passages) < 20
    assert all(len(passage) <= PASSAGE_CHARS for passage in passages)
    for paragraph in paragraphs:
        assert sum(paragraph.strip() in passage for passage in passages) == 1


def test_a_paragraph_is_cut_only_when_it_is_very_long_and_then_between_sentences() -> None:
    sentence = "This sentence has exactly nine words, give or take. "
    whole = (sentence * 60).strip()
    assert PASSAGE_CHARS < len(whole) < MAX_PARAGRAPH_CHARS
    assert [passage.page_content for passage in passages_of(whole, "file")] == [whole]
    pieces = [passage.page_content for passage in passages_of(sentence * 200, "file")]
    assert len(pieces) > 5
    assert all(piece.startswith("This") and piece.endswith("take.") for piece in pieces)


@pytest.mark.parametrize("unit", ["x", "👩‍👩‍👧", "e\u0301", "<|im_end|>", "one word after another "])
def test_a_text_without_borders_is_cut_all_the_same(unit: str) -> None:
    passages = passages_of(unit * 20_000, "file")
    assert max(len(passage.page_content) for passage in passages) <= MAX_PARAGRAPH_CHARS
    if unit in ("👩‍👩‍👧", "e\u0301"):
        assert not any(passage.page_content.replace(unit, "") for passage in passages)


def test_a_heading_stays_with_what_follows() -> None:
    filler = "These words only fill the page, and there are many of them here. " * 14
    blocks = ["# Manual", filler, "## Cleaning", "Wipe it.", filler, "The parts are:", filler, "Opening hours", "Ten."]
    text = "\n\n".join(blocks)
    passages = [passage.page_content for passage in passages_of(text, "file")]
    for lead, follower in (("## Cleaning", "Wipe it."), ("parts are:", filler[:30]), ("Opening hours", "Ten.")):
        (holder,) = [passage for passage in passages if lead in passage]
        assert follower in holder[holder.index(lead) :]


def test_a_section_that_fits_is_not_torn() -> None:
    section = "## Part {}\n\n" + "\n\n".join(["A paragraph of some length that says little."] * 15)
    text = "\n\n".join(section.format(number) for number in range(4))
    passages = [passage.page_content for passage in passages_of(text, "file")]
    assert passages == [section.format(number) for number in range(4)]


def test_lines_are_those_of_the_file() -> None:
    text = "# One\r\n\r\n" + "Filler line.\r\n" * 200 + "\r\nThe needle is here.\rAnd here."
    for passage in passages_of(text, "file"):
        for match in re.finditer("needle|And", passage.page_content):
            at = passage.metadata["start"] + match.start()
            assert line_of(passage, match.start()) == len(re.findall("\r\n|\r|\n", text[:at])) + 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_with_a_mark_are_read_and_newlines_kept(tmp_path: Path, encoding: str) -> None:
    text = "Emoji 🙂 and <|im_end|>.\r\nZweite Zeile: é e\u0301.\r\n"
    file = tmp_path / "notes"  # no ending: a file that is named is read whatever it is called
    file.write_bytes(text.encode(encoding))
    assert read_text(str(file)) == text
    (passage,) = load_passages([file])
    assert passage.page_content == text.strip()
    assert passage.metadata == {"source": str(file), "start": 0, "line": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty. Give a file"),
        (b"\xef\xbb\xbf \r\n\t", "is empty. Give a file"),
        (b"abc\0def", r"is binary \(NUL byte at offset 3\).*iconv -f utf-16le"),
        (b"\x01\x02\x03\x04 ab", r"is binary \(4 of 7 bytes are controls\)"),
        (b"%PDF-1.7\n", "is not a PDF that can be read"),
        (b"PK\x03\x04rest", "is a zip archive or an office document"),
        (LATIN1, r"is not valid UTF-8 \(byte 0xE9 at offset 7\).*iconv -f latin1 -t utf-8 .*odd > converted.txt"),
        ("ab".encode("utf-16") + b"\xff", r"is not valid UTF-16-LE \(byte 0xFF at offset 6\)"),
        (b"x" * (MAX_FILE_BYTES + 1), "is larger than 64 MiB"),
    ],
)
def test_a_file_that_is_no_text_is_an_error_with_a_remedy(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "odd"
    file.write_bytes(content)
    with pytest.raises(SourceError, match=f"odd'.*{message}") as caught:
        load_passages([file])
    assert "\n" not in str(caught.value)
    with pytest.raises(SourceError, match=f"standard input.*{message.replace('.*odd', '.*FILE')}"):
        load_passages(["-"], stdin=io.BytesIO(content))


def test_a_file_that_is_missing_or_not_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match=r"no such file or folder: .*nope\.txt'. Check"):
        load_passages([tmp_path / "nope.txt"])

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # chmod would not stop root
    with pytest.raises(SourceError, match=r"no permission to read 'my file'. Allow it, e.g. chmod u\+r 'my file'"):
        load_passages(["my file"])


def test_a_folder_is_read_in_order_and_says_what_it_skips(tmp_path: Path) -> None:
    texts = {"b.txt": "b", "a.MD": "a", "sub/c.rst": "c", "sub/.git/d.txt": "d", ".hidden.md": "h", "code.py": "p"}
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "latin.txt").write_bytes(LATIN1)
    (tmp_path / "picture.txt").write_bytes(b"\x89PNG\0\0")
    said: list[str] = []
    passages = load_passages([tmp_path, tmp_path / "b.txt", tmp_path / "code.py"], warn=said.append)
    assert [passage.page_content for passage in passages] == ["a", "b", "c", "p"]
    assert len(said) == 4
    for message in (r"\.git, .*\.hidden\.md \(hidden\)|\.hidden\.md, .*\.git \(hidden\)", "code.py .not text by name"):
        assert any(re.search(message, line) for line in said)
    for message in ("latin.txt' is not valid UTF-8", "picture.txt' is binary"):
        assert any(message in line for line in said)


def test_a_folder_without_text_is_an_error_not_an_empty_context(tmp_path: Path) -> None:
    (tmp_path / "broken.txt").write_bytes(LATIN1)
    with pytest.raises(SourceError, match="no text to read in folder"):
        load_passages([tmp_path], warn=lambda _: None)


def test_standard_input_is_a_source_like_any_other() -> None:
    (passage,) = load_passages(["-", "-"], stdin=io.BytesIO(b"\n\nfrom a pipe"))
    assert passage.metadata == {"source": "-", "start": 2, "line": 3}


def test_the_nearest_passages_come_first_with_their_metadata() -> None:
    filler = "Unrelated words about nothing in particular stand here. " * 15
    texts = {"boat.md": "Ferries sail daily.", "mill.md": "The mills were destroyed in 1734.", "other.md": "Nothing."}
    passages = [p for name, text in texts.items() for p in passages_of(f"{text}\n\n{filler}", name)]
    found = bm25_retriever(passages, k=2).invoke("When was the mill destroyed?")
    assert len(found) == 2
    assert found[0] == passages[1]


def test_titles_and_file_names_count_for_every_passage_below_them() -> None:
    body = "It weighs twelve kilograms and is made of steel. " * 24
    manuals = [passages_of(f"# {name}\n\n{body}\n\n{body}", f"of {name}") for name in ("Aurelia", "Borealis", "Corona")]
    found = bm25_retriever([passage for manual in manuals for passage in manual], k=2).invoke(
        "How heavy is the Borealis?"
    )
    assert found == manuals[1]


def test_ties_keep_the_order_and_few_passages_are_all_returned() -> None:
    passages = [passage for n in range(6) for passage in passages_of("The same words.", f"file{n}")]
    assert bm25_retriever(passages, k=3).invoke("words") == passages[:3]
    assert bm25_retriever(passages, k=3).invoke("zebra") == passages[:3]
    assert len(bm25_retriever(passages[:3], k=4).invoke("zebra")) == 3


@pytest.mark.parametrize("texts", [[], ["?!"], ["the"]])
def test_no_passages_or_no_words_are_no_fault(texts: list[str]) -> None:
    passages = [passage for text in texts for passage in passages_of(text, "file")]
    assert bm25_retriever(passages).invoke("the?") == passages


def test_a_wrong_k_is_refused() -> None:
    with pytest.raises(SettingsError, match="at least 1, not 0"):
        bm25_retriever([], k=0)


def test_the_sunset_notice_of_langchain_community_stays_silent() -> None:
    code = "from fourcorners.retrieval import bm25_retriever; bm25_retriever([])"
    done = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=True)
    assert "sunset" not in done.stderr
