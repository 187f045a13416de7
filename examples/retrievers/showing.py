"""What the examples beside this file share: documents to search, and a question answered from what was found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from langchain_core.documents import Document
from langchain_core.runnables import Runnable

from fourcorners import init_llm, rag_chain
from fourcorners.retrieval import load_passages

DOCUMENTS = Path(__file__).parent.parent / "documents"
QUESTIONS = (
    "How much water does the tank hold?",
    "Until when can I cancel a booking?",
    "What is the password of the wireless network?",
)


def passages() -> list[Document]:
    """The documents of ``examples/documents``, cut into passages."""
    return load_passages([DOCUMENTS])


def show(retriever: Runnable[str, Any]) -> None:
    """Ask with ``retriever`` in front; print each answer, and the place of each quote."""
    chain = rag_chain(retriever, init_llm("bundled"))
    for question in QUESTIONS:
        reply = chain.invoke(question)
        print(f"{question}\n  {reply['answer']}")
        for citation in reply["citations"]:
            document = reply["context"][citation["index"]]
            assert document.page_content[citation["start"] : citation["end"]] == citation["quote"]
            print(f"  from {Path(document.metadata['source']).name}, characters {citation['start']}-{citation['end']}")
