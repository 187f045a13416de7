"""The node, in graphs that LangGraph compiles and runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.documents import Document
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage, HumanMessage
from langchain_core.runnables import Runnable, RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph, add_messages
from pydantic import BaseModel

from fourcorners import rag_chain
from fourcorners.chains import answer_node
from fourcorners.errors import EngineBusy, InputError
from fourcorners.llms.llama_cpp import LlamaCpp
from fourcorners.retrieval import bm25_retriever

pytestmark = pytest.mark.timeout(60)
QUESTION = "How long is the guarantee?"
FACT = "The guarantee is 24 months."
CAPACITY = "The boiler holds 90 litres."
DOCUMENTS = [
    Document(FACT, metadata={"source": "terms.md"}),
    Document(CAPACITY, metadata={"source": "boiler.md"}),
]
SHOWN = f"{FACT}\n\nSources:\n[1] terms.md"


class State(MessagesState):
    question: str
    reply: dict[str, Any]


@pytest.fixture(scope="module")
def chain(bundled_llm: LlamaCpp) -> Runnable[Any, dict[str, Any]]:
    return rag_chain(bm25_retriever(DOCUMENTS), bundled_llm)


def graph_of(node: Any, state: Any = State, **options: Any) -> Any:
    graph = StateGraph(state)
    graph.add_node("answer", node)
    graph.add_edge(START, "answer")
    graph.add_edge("answer", END)
    return graph.compile(**options)


def test_a_person_asks_and_the_state_holds_the_answer_and_the_reply(chain: Any) -> None:
    state = graph_of(answer_node(chain)).invoke({"messages": [HumanMessage(QUESTION)]})
    assert [type(message) for message in state["messages"]] == [HumanMessage, AIMessage]
    assert state["messages"][-1].text == SHOWN
    assert state["messages"][-1].response_metadata["citations"][0]["quote"] == FACT
    assert (state["reply"]["answer"], state["reply"]["guarantee"]) == (FACT, "enforced")


@pytest.mark.asyncio
async def test_the_same_asynchronously(chain: Any) -> None:
    state = await graph_of(answer_node(chain)).ainvoke({"messages": [HumanMessage(QUESTION)]})
    assert state["messages"][-1].text == SHOWN
    assert state["reply"]["answer"] == FACT


def test_a_refusal_is_a_message_without_sources(chain: Any) -> None:
    state = graph_of(answer_node(chain)).invoke({"messages": [HumanMessage("Who was the first president of France?")]})
    assert state["messages"][-1].text == "Unsure about answer"
    assert state["reply"]["refused"] is True


# Where the question comes from


@pytest.mark.parametrize(
    ("given", "options", "question"),
    [
        ({"question": QUESTION}, {}, QUESTION),
        ({"messages": [], "question": QUESTION}, {}, QUESTION),
        ({"messages": [HumanMessage("Hello"), AIMessage("Hi")], "question": QUESTION}, {}, QUESTION),
        ({"messages": [HumanMessage(QUESTION)], "question": "of an earlier turn"}, {}, QUESTION),
        ({"messages": [HumanMessage("and that?")], "question": QUESTION}, {"question_key": "question"}, QUESTION),
        ({"messages": [HumanMessage(QUESTION), AIMessage("thinking")]}, {}, QUESTION),
        ({"messages": [{"role": "user", "content": QUESTION}]}, {}, QUESTION),
        ({"messages": [HumanMessage([{"type": "text", "text": QUESTION}])]}, {}, QUESTION),
    ],
)
def test_the_question_is_found(chain: Any, given: Any, options: Any, question: str) -> None:
    assert graph_of(answer_node(chain, **options)).invoke(given)["reply"]["question"] == question


@pytest.mark.parametrize(
    "given", [{}, {"messages": []}, {"messages": [AIMessage("Hi")]}, {"messages": 3}, {"question": 3}]
)
def test_a_state_without_a_question_is_an_error(chain: Any, given: Any) -> None:
    with pytest.raises(InputError):
        answer_node(chain).invoke(given)


def test_a_question_of_the_wrong_type_is_an_error(chain: Any) -> None:
    with pytest.raises(InputError, match=r"state\['asked'\] must be a question, not None"):
        answer_node(chain, question_key="asked").invoke({"messages": [HumanMessage(QUESTION)]})


@dataclass
class Typed:
    question: str
    messages: Annotated[list[AnyMessage], add_messages] = field(default_factory=list)


class Checked(BaseModel):
    messages: Annotated[list[AnyMessage], add_messages]


class Renamed(TypedDict):
    asked: str
    thread: Annotated[list[AnyMessage], add_messages]
    found: dict[str, Any]


def test_states_of_other_kinds(chain: Any) -> None:
    assert graph_of(answer_node(chain), Typed).invoke({"question": QUESTION})["messages"][-1].text == SHOWN
    assert (
        graph_of(answer_node(chain), Checked).invoke({"messages": [("user", QUESTION)]})["messages"][-1].text == SHOWN
    )
    node = answer_node(chain, question_key="asked", messages_key="thread", reply_key="found")
    state = graph_of(node, Renamed).invoke({"asked": QUESTION})
    assert (state["thread"][-1].text, state["found"]["answer"]) == (SHOWN, FACT)


# Memory


def test_a_checkpointer_keeps_the_conversation_and_the_reply(chain: Any) -> None:
    graph = graph_of(answer_node(chain), checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    graph.invoke({"messages": [HumanMessage(QUESTION)]}, config)
    graph.invoke({"messages": [HumanMessage("How much does the boiler hold?")]}, config)
    kept = graph.get_state(config).values
    assert [message.text for message in kept["messages"][1::2]] == [SHOWN, f"{CAPACITY}\n\nSources:\n[1] boiler.md"]
    assert kept["reply"]["answer"] == CAPACITY
    (citation,) = kept["reply"]["citations"]
    assert kept["reply"]["context"][citation["index"]].page_content == CAPACITY
    replies = [s.values["reply"]["answer"] for s in graph.get_state_history(config) if s.values.get("reply")]
    assert FACT in replies


# Streams


def check_messages(events: list[tuple[Any, dict[str, Any]]]) -> None:
    chunks = [message for message, meta in events if meta["langgraph_node"] == "answer"]
    assert all(isinstance(chunk, AIMessageChunk) for chunk in chunks)
    assert len(chunks) > 3, "the answer comes in pieces"
    assert "".join(chunk.text for chunk in chunks) == SHOWN
    assert len({chunk.id for chunk in chunks}) == 1


def test_messages_are_streamed_in_pieces_and_once(chain: Any) -> None:
    given = {"messages": [HumanMessage(QUESTION)]}
    check_messages(list(graph_of(answer_node(chain)).stream(given, stream_mode="messages")))


@pytest.mark.asyncio
async def test_messages_are_streamed_asynchronously(chain: Any) -> None:
    given = {"messages": [HumanMessage(QUESTION)]}
    stream = graph_of(answer_node(chain)).astream(given, stream_mode="messages")
    check_messages([event async for event in stream])


def test_updates_hold_message_and_reply(chain: Any) -> None:
    (update,) = graph_of(answer_node(chain)).stream({"messages": [HumanMessage(QUESTION)]}, stream_mode="updates")
    assert update["answer"]["messages"][0].text == SHOWN
    assert update["answer"]["reply"]["answer"] == FACT


@pytest.mark.asyncio
async def test_events_name_the_chain_inside(chain: Any) -> None:
    given = {"messages": [HumanMessage(QUESTION)]}
    events = [event async for event in graph_of(answer_node(chain)).astream_events(given, version="v2")]
    names = {(event["event"], event["name"]) for event in events}
    assert {
        ("on_chat_model_stream", "answer"),
        ("on_retriever_end", "BM25Retriever"),
        ("on_chain_end", "rag_chain"),
    } <= names


def test_a_chat_models_own_tokens_are_not_shown_twice() -> None:
    model = GenericFakeChatModel(messages=iter([AIMessage(FACT)]))
    graph = graph_of(answer_node(rag_chain(bm25_retriever(DOCUMENTS), model)))
    events = list(graph.stream({"messages": [HumanMessage(QUESTION)]}, stream_mode="messages"))
    assert "".join(message.text for message, _ in events) == SHOWN


# Faults


def busy(_: Any) -> Any:
    raise EngineBusy("the queue is full")


@pytest.mark.asyncio
async def test_a_fault_is_raised_and_is_no_answer() -> None:
    graph = graph_of(answer_node(RunnableLambda(busy)), checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    with pytest.raises(EngineBusy):
        graph.invoke({"messages": [HumanMessage(QUESTION)]}, config)
    assert [message.type for message in graph.get_state(config).values["messages"]] == ["human"]
    with pytest.raises(EngineBusy):
        await graph_of(answer_node(RunnableLambda(busy))).ainvoke({"messages": [HumanMessage(QUESTION)]})


def test_a_chain_that_returns_no_reply_is_an_error() -> None:
    with pytest.raises(InputError, match="must return a reply"):
        answer_node(RunnableLambda(lambda _: "24 months")).invoke({"question": QUESTION})
