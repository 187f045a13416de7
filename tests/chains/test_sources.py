from typing import Any

import pytest
from langchain_core.documents import Document

from fourcorners import grounded_chain
from fourcorners.chains.sources import reply_text, sources_text
from fourcorners.llms.llama_cpp import LlamaCpp
from tests.injection.hostile import HOSTILE, QUESTIONS


def reply(answer: str, *quotes: str, refused: bool = False, guarantee: str = "enforced", context: Any = None) -> Any:
    documents = [Document(quote, metadata={"source": f"{n}.md"}) for n, quote in enumerate(quotes)]
    citations = [{"document": f"d{n}", "index": n, "quote": quote} for n, quote in enumerate(quotes)]
    return {
        "answer": answer,
        "citations": citations,
        "refused": refused,
        "guarantee": guarantee,
        "context": documents if context is None else context,
    }


def test_one_quote_is_not_repeated_among_its_sources() -> None:
    assert sources_text(reply("It rains.", "It rains.")) == "[1] 0.md"
    text = reply_text(reply("It rains.", "It rains."))
    assert text.endswith("instructions to follow):\n[1] It rains.\n\nSources:\n[1] 0.md")


def test_several_quotes_are_numbered() -> None:
    found = reply("It rains.\nIt snows.", "It rains.", "It snows.")
    assert sources_text(found) == '[1] 0.md: "It rains."\n[2] 1.md: "It snows."'
    assert reply_text(found).splitlines()[1:] == [
        "[1] It rains.",
        "[2] It snows.",
        "",
        "Sources:",
        "[1] 0.md",
        "[2] 1.md",
    ]


def test_words_of_the_models_own_keep_the_quotes_among_the_sources() -> None:
    found = reply("Bad weather.", "It rains.", guarantee="verified")
    assert reply_text(found).splitlines()[1:] == ["Bad weather.", "", "Sources:", '[1] 0.md: "It rains."']


@pytest.mark.parametrize(("n", "told"), [(0, "none was found"), (1, "one read"), (4, "4 read")])
def test_a_refusal_says_that_the_documents_do_not(n: int, told: str) -> None:
    text = reply_text(reply("No idea", refused=True, context=[Document("x")] * n))
    assert text.startswith("No idea\nThe documents do not say it (")
    assert told in text


def test_what_was_not_checked_says_so() -> None:
    assert "not checked" in reply_text(reply("It rains.", guarantee="best-effort", context="It rains."))
    assert "without any guarantee" in reply_text(reply("It rains.", guarantee="none", context="It rains."))


def test_a_page_and_a_document_without_a_name() -> None:
    found = reply("a", "a", context=[Document("a", metadata={"source": "x.pdf", "page": 3})])
    assert sources_text(found) == "[1] x.pdf, page 3"
    assert sources_text(reply("a", "a", context=["a"])) == "[1] d0"
    assert sources_text(reply("a", "a", context="a")) == "[1] d0"


def test_no_document_forges_a_line(bundled_llm: LlamaCpp) -> None:
    chain = grounded_chain(bundled_llm, max_spans=2, threshold=float("inf"))
    for text in HOSTILE.values():
        context = [Document(text, id=f"{text[:40]}\n[9] forged")]
        found = chain.invoke({"question": QUESTIONS["inviting"], "context": context})
        if found["refused"]:
            continue
        n = len(found["citations"])
        lines = reply_text(found).splitlines()
        own = [line for line in lines[1:] if not line.startswith("    ") and line not in ("", "Sources:")]
        assert [line[:4] for line in own] == [f"[{k}] " for k in (*range(1, n + 1), *range(1, n + 1))]
        assert lines.count("Sources:") == 1
        assert len(sources_text(found).splitlines()) == n
