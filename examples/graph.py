"""The answer step as a node of a LangGraph graph, with memory, streamed.

Run it with ``python examples/graph.py``. Everything happens on this machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph

from fourcorners import init_llm, rag_chain
from fourcorners.chains import answer_node
from fourcorners.retrieval import bm25_retriever, load_passages

DOCUMENTS = Path(__file__).parent / "documents"


class State(MessagesState):
    """The conversation, and the last reply with its citations."""

    reply: dict[str, Any]


def main() -> None:
    """Two turns of one conversation, and what the graph remembers of it."""
    chain = rag_chain(bm25_retriever(load_passages([DOCUMENTS])), init_llm("bundled"))
    builder: Any = StateGraph(State)
    builder.add_node("answer", answer_node(chain))
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    graph = builder.compile(checkpointer=InMemorySaver())
    thread: RunnableConfig = {"configurable": {"thread_id": "a visitor"}}

    for question in ("How long does the crossing take?", "Until when can I cancel a booking?"):
        print(f"\n{question}")
        for message, _ in graph.stream({"messages": [HumanMessage(question)]}, thread, stream_mode="messages"):
            print(message.text, end="", flush=True)
        print()

    kept = graph.get_state(thread).values
    print(f"\n{len(kept['messages'])} messages kept; the last reply's guarantee: {kept['reply']['guarantee']}")


if __name__ == "__main__":
    main()
