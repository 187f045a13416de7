"""The main job: questions about four documents, answered with quotes and their places, or refused.

Run it with ``make demo``, or ``python examples/demo.py``. Everything happens on this machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from fourcorners import init_llm, rag_chain
from fourcorners.retrieval import bm25_retriever, line_of, load_passages

DOCUMENTS = Path(__file__).parent / "documents"

ANSWERED = (
    "How much water does the tank hold?",
    "Until when can I cancel a booking?",
    "How long does the crossing take?",
    "How much is the deposit for a city bicycle?",
)
STREAMED = "Who built the lighthouse?"
REFUSED = "What is the password of the wireless network?"

console = Console(highlight=False, soft_wrap=True)


def main() -> None:
    """Ask, and show each answer with the places that it was quoted from."""
    passages = load_passages([DOCUMENTS])
    chain = rag_chain(bm25_retriever(passages), init_llm("bundled"))
    console.print(f"{len(passages)} passages from {len({p.metadata['source'] for p in passages})} documents")

    for question in ANSWERED:
        show_question(question)
        reply = chain.invoke(question)
        console.print(Text(reply["answer"]))
        show_sources(reply)

    show_question(STREAMED, "streamed")
    streamed: Any = None
    n_pieces = 0
    for chunk in chain.stream(STREAMED):
        if piece := chunk.get("answer"):
            console.print(Text(piece), end="")
            n_pieces += 1
        streamed = chunk if streamed is None else streamed + chunk
    console.print()
    show_sources(streamed)
    console.print(f"  came in {n_pieces} pieces", style="dim")

    show_question(REFUSED, "the answer is in none of the documents")
    reply = chain.invoke(REFUSED)
    console.print(Text(reply["answer"]), style="yellow")
    console.print(f"  refused: {reply['refused']}", style="dim")


def show_question(question: str, note: str = "") -> None:
    """Print a question in bold."""
    console.print(f"\n[bold]{question}[/bold]" + (f"  [dim]({note})[/dim]" if note else ""))


def show_sources(reply: Any) -> None:
    """Print file and line of each quote."""
    for citation in reply["citations"]:
        passage = reply["context"][citation["index"]]
        assert passage.page_content[citation["start"] : citation["end"]] == citation["quote"]
        name = Path(passage.metadata["source"]).name
        console.print(Text(f"  {name}:{line_of(passage, citation['start'])}", style="cyan"))


if __name__ == "__main__":
    main()
