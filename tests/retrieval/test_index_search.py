"""What is found in an index, by any question, in threads and under asyncio."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourcorners.errors import IndexFileError, SettingsError
from fourcorners.retrieval import (
    DocumentIndex,
    IndexRetriever,
    bm25_retriever,
    index_folder,
    load_passages,
    open_index,
    retriever_for,
)
from tests.retrieval.made_files import put
from tests.support import texts

FACTS = {
    "ferry.md": "# The ferry\n\nThe ferries were sailing daily from Holm, and a ticket costs 1,200.50 crowns.",
    "cafe.txt": "Das Café Müller in der Straße am Dampfschifffahrtsmuseum schließt um fünf und die Katze ist nicht da.",
    "tokyo.txt": "東京タワーの高さは333メートルです。白い猫がいます。",
    "seoul.txt": "서울의 인구는 천만 명입니다.",
    "bangkok.txt": "กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย",
    "cairo.txt": "القاهرة هي عاصمة مصر.",
    "emoji.txt": 'The party 🎉 begins at eight. C++ and NEAR(a b) and col:umn* are "quoted".',
    "moscow.txt": "Москва является столицей России и стоит на реке.",
    "other.txt": "Nothing of interest stands here at all.",
}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DocumentIndex]:
    folder = tmp_path_factory.mktemp("facts")
    for name, text in FACTS.items():
        (folder / name).write_text(text)
    index_folder(folder)
    with open_index(folder) as opened:
        yield opened


def first(index: DocumentIndex, question: str) -> str:
    found = index.search(question, k=1)
    return Path(found[0].metadata["source"]).name if found else ""


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("Does the ferry sail?", "ferry.md"),
        ("FERRIES", "ferry.md"),
        ("What costs 1,200.50?", "ferry.md"),
        ("holm", "ferry.md"),
        ("cafe muller", "cafe.txt"),
        ("CAFÉ", "cafe.txt"),
        ("cafe\u0301", "cafe.txt"),
        ("strasse", "cafe.txt"),
        ("Wo ist das Museum?", "cafe.txt"),  # inside a longer word
        ("dampfschiff", "cafe.txt"),
        ("Katzen", "cafe.txt"),
        ("東京", "tokyo.txt"),
        ("東京タワーの高さは?", "tokyo.txt"),
        ("タワー", "tokyo.txt"),
        ("猫", "tokyo.txt"),
        ("ﾀﾜｰ", "tokyo.txt"),
        ("서울 인구", "seoul.txt"),
        ("เมืองหลวง", "bangkok.txt"),
        ("عاصمة", "cairo.txt"),
        ("столица России", "moscow.txt"),
        ("When does the 🎉 party begin?", "emoji.txt"),
        ("NEAR(a b)", "emoji.txt"),
        ('"quoted', "emoji.txt"),
        ("col:umn*", "emoji.txt"),
    ],
)
def test_what_is_found(index: DocumentIndex, question: str, name: str) -> None:
    assert first(index, question) == name


@pytest.mark.parametrize("question", ["", " ", "?!", "🎉", '"', "''", "***", "\0", "xyzzyx", "\ud800"])
def test_what_finds_nothing_is_no_fault(index: DocumentIndex, question: str) -> None:
    assert index.search(question, k=2) == []


@given(texts | st.text())
def test_no_question_breaks_the_query(index: DocumentIndex, question: str) -> None:
    for passage in index.search(question, k=3):
        assert passage.page_content in FACTS.values()


def test_a_question_of_a_hundred_thousand_characters(index: DocumentIndex) -> None:
    assert first(index, " ".join(f"word{n}" for n in range(1_500)) + " ferry") == "ferry.md"
    assert first(index, "ferry " * 15_000) == "ferry.md"
    assert first(index, "猫" * 100_000) == "tokyo.txt"


def test_an_index_that_is_read_anyway_is_returned_whole(index: DocumentIndex) -> None:
    assert len(index.search("zebra", k=8)) == 0
    assert len(index.search("zebra", k=9)) == 9
    found = index.search("ferry", k=9)
    assert len(found) == 9
    assert "ferries" in found[0].page_content


def test_titles_and_names_count_as_in_memory(tmp_path: Path) -> None:
    body = "It weighs twelve kilograms and is made of steel. " * 24
    for name in ("Aurelia", "Borealis", "Corona"):
        (tmp_path / f"of {name}.md").write_text(f"# {name}\n\n{body}\n\n{body}")
    index_folder(tmp_path)
    question = "How heavy is the Borealis?"
    found = open_index(tmp_path).as_retriever(k=2).invoke(question)
    assert found == bm25_retriever(load_passages([tmp_path]), k=2).invoke(question)
    assert {Path(passage.metadata["source"]).name for passage in found} == {"of Borealis.md"}


def test_it_ranks_like_bm25_in_memory(tmp_path: Path) -> None:
    """On made-up texts whose words are as unevenly spread as real ones."""
    chance = random.Random(11)
    words = [f"w{number}x" for number in range(3000)]
    weights = [1 / (1 + number) for number in range(3000)]
    for number in range(300):
        put(tmp_path, **{f"f{number}_txt": " ".join(chance.choices(words, weights, k=120))})
    index_folder(tmp_path)
    passages = load_passages([tmp_path])
    memory, n_same, n_first, n_theirs = bm25_retriever(passages, k=4), 0, 0, 0
    with open_index(tmp_path) as index:
        for _ in range(100):
            wanted = chance.choice(passages)
            question = " ".join(chance.sample(wanted.page_content.split(), 6))
            ours, theirs = index.search(question, k=4), memory.invoke(question)
            n_same += len({p.id for p in ours} & {p.id for p in theirs})
            n_first += ours[0].id == wanted.id
            n_theirs += theirs[0].id == wanted.id
    assert n_same > 340
    assert n_theirs > 60
    assert n_first >= n_theirs - 5


# As a retriever


def test_it_is_a_langchain_retriever(index: DocumentIndex) -> None:
    retriever = index.as_retriever(k=2)
    assert isinstance(retriever, IndexRetriever)
    assert len(retriever.batch(["ferry", "cafe"])) == 2
    events = next(iter(retriever.stream("ferry")))
    assert "ferries" in events[0].page_content


@pytest.mark.asyncio
async def test_asyncio_is_not_held_up(index: DocumentIndex) -> None:
    retriever = index.as_retriever(k=1)
    n_turns = 0

    async def turn() -> None:
        nonlocal n_turns
        while True:
            n_turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(turn())
    found = await asyncio.gather(*(retriever.ainvoke(question) for question in ["ferry", "東京", "카페 서울"] * 100))
    other.cancel()
    assert [len(some) for some in found] == [1] * 300
    assert n_turns > 10
    assert await retriever.ainvoke("ferry") == retriever.invoke("ferry")


def test_many_threads_may_search_at_once(index: DocumentIndex) -> None:
    expected = {question: index.search(question, k=3) for question in ("ferry", "東京", "Katze", "Museum", "party")}
    with ThreadPoolExecutor(16) as pool:
        asked = list(expected) * 60
        assert list(pool.map(lambda question: index.search(question, k=3), asked)) == [expected[q] for q in asked]


def test_a_forked_process_searches_by_itself(index: DocumentIndex) -> None:
    index.search("ferry")
    pid = os.fork()
    if pid == 0:
        os._exit(0 if "ferries" in index.search("ferry", k=1)[0].page_content else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert index.search("ferry", k=1)


def test_a_closed_index_says_so(tmp_path: Path) -> None:
    put(tmp_path, a_txt="One text.")
    index_folder(tmp_path)
    index = open_index(tmp_path)
    index.close()
    with pytest.raises(IndexFileError, match="was closed"):
        index.search("text")


def test_an_index_that_vanishes_is_an_error_not_a_refusal(tmp_path: Path) -> None:
    put(tmp_path, a_txt="One text.")
    file = index_folder(tmp_path).file
    retriever = open_index(file).as_retriever()
    file.unlink()
    with pytest.raises(IndexFileError, match="no index at"):
        retriever.invoke("text")


def test_an_index_made_anew_is_read_anew(tmp_path: Path) -> None:
    put(tmp_path, a_txt="The old text.")
    file = index_folder(tmp_path).file
    with open_index(file) as index:
        assert [p.page_content for p in index.search("text")] == ["The old text."]
        file.unlink()
        put(tmp_path, a_txt="The new text.")
        index_folder(tmp_path)
        assert [p.page_content for p in index.search("text")] == ["The new text."]


def test_wrong_settings(index: DocumentIndex, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="at least 1, not 0"):
        index.as_retriever(k=0)
    with pytest.raises(SettingsError, match=r"files \('a.txt'\) and an index \('x.db'\): give one"):
        retriever_for(["a.txt"], "x.db")


def test_one_function_for_files_and_index(tmp_path: Path) -> None:
    put(tmp_path, a_txt="The ferry sails.", b_txt="Nothing.")
    file = index_folder(tmp_path).file
    for retriever in (retriever_for([tmp_path], k=1, warn=lambda _: None), retriever_for(index=file, k=1)):
        assert [p.page_content for p in retriever.invoke("Does the ferry sail?")] == ["The ferry sails."]
    assert retriever_for().invoke("Who?") == []
