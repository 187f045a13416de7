"""The tool, called by LangChain's own agent with a scripted model."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.documents import Document
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import TypeAdapter

from fourcorners import rag_chain
from fourcorners.chains import answer_tool
from fourcorners.errors import ContextOverflow, EngineBusy, EngineClosed, InputError, SettingsError
from fourcorners.llms.llama_cpp import LlamaCpp
from fourcorners.retrieval import bm25_retriever
from tests.injection.hostile import HOSTILE
from tests.scripted import Scripted, calling

pytestmark = pytest.mark.timeout(60)
QUESTION = "How long is the guarantee?"
FACT = "The guarantee is 24 months."
DOCUMENTS = [
    Document(FACT, id="g", metadata={"source": "terms.md", "page": 7}),
    Document("The boiler holds 90 litres.", metadata={"source": "boiler.md"}),
]


@pytest.fixture(scope="module")
def retriever() -> BaseRetriever:
    return bm25_retriever(DOCUMENTS)


@pytest.fixture
def tool(retriever: BaseRetriever, bundled_llm: LlamaCpp) -> BaseTool:
    return answer_tool(retriever, bundled_llm)


def tool_message(state: dict[str, Any]) -> ToolMessage:
    (message,) = [message for message in state["messages"] if isinstance(message, ToolMessage)]
    return message


def agent_with(tool: BaseTool, **arguments: Any) -> tuple[Any, Scripted]:
    model = Scripted(script=[calling(tool.name, **arguments), AIMessage("24 months [1].")])
    return create_agent(model, [tool]), model


# What the agent's model is told


def test_an_agent_gets_the_answer_with_its_source_and_the_reply_as_artifact(tool: BaseTool) -> None:
    agent, model = agent_with(tool, question=QUESTION)
    state = agent.invoke({"messages": [HumanMessage("Is it still under guarantee?")]})
    message = tool_message(state)
    assert message.status == "success"
    assert f"[1] {FACT}" in message.text
    assert "[1] terms.md, page 7" in message.text
    assert message.artifact["citations"][0]["quote"] == FACT
    assert message.artifact["context"][0].metadata["page"] == 7
    assert (message.artifact["guarantee"], message.artifact["refused"]) == ("enforced", False)
    assert model.seen[1][-1] is message or model.seen[1][-1].content == message.content
    assert state["messages"][-1].text == "24 months [1]."


@pytest.mark.asyncio
async def test_an_agent_can_call_it_asynchronously(tool: BaseTool) -> None:
    agent, _ = agent_with(tool, question=QUESTION)
    state = await agent.ainvoke({"messages": [HumanMessage("Is it still under guarantee?")]})
    assert tool_message(state).artifact["answer"] == FACT


def test_a_refusal_is_plain_to_the_agent(tool: BaseTool) -> None:
    agent, _ = agent_with(tool, question="Who was the first president of France?")
    message = tool_message(agent.invoke({"messages": [HumanMessage("?")]}))
    assert message.status == "success"
    assert message.text.startswith("Unsure about answer\nThe documents do not say it")
    assert message.artifact["refused"] is True


def test_the_model_is_offered_a_typed_argument(tool: BaseTool) -> None:
    agent, model = agent_with(tool, question=QUESTION)
    agent.invoke({"messages": [HumanMessage("?")]})
    (offered,) = model.tools
    function = offered["function"]
    assert function["name"] == "answer_from_documents"
    assert "from nothing else" in function["description"]
    assert function["parameters"]["required"] == ["question"]
    question = function["parameters"]["properties"]["question"]
    assert question["type"] == "string"
    assert "complete question" in question["description"]


def test_name_and_description_can_be_set(retriever: BaseRetriever, bundled_llm: LlamaCpp) -> None:
    tool = answer_tool(retriever, bundled_llm, name="manuals", description="Boiler manuals.", span="phrase")
    function = convert_to_openai_tool(tool)["function"]
    assert (function["name"], function["description"]) == ("manuals", "Boiler manuals.")
    artifact = tool.invoke(calling("manuals", question=QUESTION).tool_calls[0]).artifact
    assert artifact["answer"] in FACT


# Arguments that an agent can mend


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "question: Field required"),
        ({"question": 3}, "question: Input should be a valid string"),
        ({"question": None}, "question: Input should be a valid string"),
        ({"question": ["Who?"]}, "question: Input should be a valid string"),
        ({"question": " \n"}, "question: question is empty"),
        ({"question": "x" * 100_001}, "100000 are allowed: shorten it"),
        ({"question": "half \ud800"}, "half a surrogate pair"),
        ({"question": QUESTION, "spam": 1}, "spam: Extra inputs are not permitted"),
        ({"query": QUESTION}, "question: Field required; query: Extra inputs"),
    ],
)
@pytest.mark.asyncio
async def test_bad_arguments_come_back_with_what_to_change(tool: BaseTool, arguments: Any, told: str) -> None:
    call = calling(tool.name, **arguments).tool_calls[0]
    for message in (tool.invoke(call), await tool.ainvoke(call)):
        assert message.status == "error"
        assert message.artifact is None
        assert told in message.text
        assert 'Call it again with {"question": "…"}' in message.text


def test_in_an_agent_bad_arguments_are_told_to_its_model(tool: BaseTool) -> None:
    agent, model = agent_with(tool, query=QUESTION)
    state = agent.invoke({"messages": [HumanMessage("?")]})
    assert tool_message(state).status == "error"
    assert "question: Field required" in model.seen[1][-1].text


def test_a_question_too_long_for_the_window_is_told_to_the_agent(tool: BaseTool) -> None:
    message = tool.invoke(calling(tool.name, question="why so? " * 12_000).tool_calls[0])
    assert message.status == "error"
    assert "shorten the question" in message.text


# Faults are raised


@pytest.mark.parametrize(
    "fault", [EngineBusy("full"), EngineClosed("closed"), TimeoutError("index down"), OSError("x")]
)
@pytest.mark.asyncio
async def test_a_fault_is_raised_through_the_agent(bundled_llm: LlamaCpp, fault: Exception) -> None:
    def broken(_: str) -> list[Document]:
        raise fault

    tool = answer_tool(RunnableLambda(broken), bundled_llm)
    agent, _ = agent_with(tool, question=QUESTION)
    with pytest.raises(type(fault)):
        agent.invoke({"messages": [HumanMessage("?")]})
    agent, _ = agent_with(tool, question=QUESTION)
    with pytest.raises(type(fault)):
        await agent.ainvoke({"messages": [HumanMessage("?")]})


def test_a_closed_engine_is_raised(own_llm: LlamaCpp, retriever: BaseRetriever) -> None:
    tool = answer_tool(retriever, own_llm)
    own_llm.close()
    with pytest.raises(EngineClosed):
        tool.invoke({"question": QUESTION})


def test_a_slip_inside_the_retriever_is_not_blamed_on_the_arguments(bundled_llm: LlamaCpp) -> None:
    tool = answer_tool(RunnableLambda(lambda _: TypeAdapter(int).validate_python("no number")), bundled_llm)
    agent, _ = agent_with(tool, question=QUESTION)
    with pytest.raises(RuntimeError, match="the chain behind the tool 'answer_from_documents' failed"):
        agent.invoke({"messages": [HumanMessage("?")]})


def test_a_retriever_that_returns_no_documents_is_no_refusal(bundled_llm: LlamaCpp) -> None:
    tool = answer_tool(RunnableLambda(lambda _: 3), bundled_llm)
    with pytest.raises(InputError, match="context must be a text"):
        tool.invoke({"question": QUESTION})


# Chains of one's own


def test_a_chain_that_is_there_already(retriever: BaseRetriever, bundled_llm: LlamaCpp) -> None:
    tool = answer_tool(rag_chain(retriever, bundled_llm, refusal="No idea"), name="ask")
    assert "No idea\nThe documents do not say it" in tool.invoke({"question": "Who won?"})
    assert f"[1] {FACT}" in tool.invoke(QUESTION)


def test_an_llm_that_is_not_held_to_the_text_says_so(retriever: BaseRetriever) -> None:
    tool = answer_tool(retriever, FakeListLLM(responses=["About two years."]))
    assert tool.invoke(QUESTION).startswith("Answered from the documents as far as the model kept to them")


def test_a_chain_without_a_reply_is_refused() -> None:
    with pytest.raises(InputError, match="must return a reply"):
        answer_tool(RunnableLambda(lambda _: "24 months")).invoke(QUESTION)


def overflowing(_: Any) -> Any:
    raise ContextOverflow("the prompt has 9 tokens: shorten it")


@pytest.mark.asyncio
async def test_an_overflow_is_a_message_in_both_ways_of_calling() -> None:
    tool = answer_tool(RunnableLambda(overflowing))
    assert tool.invoke(QUESTION) == await tool.ainvoke(QUESTION) == "the prompt has 9 tokens: shorten it"


@pytest.mark.parametrize("name", ["", "two words", "a.b", "9lives", "x" * 65, "späte_frage", "a\n"])
def test_a_name_that_makers_of_models_refuse_is_refused_here(retriever: BaseRetriever, name: str) -> None:
    with pytest.raises(SettingsError, match="no name for a tool"):
        answer_tool(retriever, FakeListLLM(responses=[]), name=name)


def test_settings_that_can_not_be_meant(retriever: BaseRetriever, bundled_llm: LlamaCpp) -> None:
    with pytest.raises(SettingsError, match="need an llm"):
        answer_tool(retriever)
    with pytest.raises(SettingsError, match=r"the settings \['span'\] need an llm"):
        answer_tool(rag_chain(retriever, bundled_llm), span="phrase")
    with pytest.raises(SettingsError, match="description='' is empty"):
        answer_tool(retriever, bundled_llm, description="")
    with pytest.raises(SettingsError, match="span='word'"):
        answer_tool(retriever, bundled_llm, span="word")


# How it stands in a run


def test_the_runs_inside_are_children_of_the_tools(tool: BaseTool) -> None:
    from langchain_core.tracers.run_collector import RunCollectorCallbackHandler

    collector = RunCollectorCallbackHandler()
    tool.invoke({"question": QUESTION}, {"callbacks": [collector], "tags": ["mine"]})
    (run,) = collector.traced_runs
    assert (run.name, run.run_type) == ("answer_from_documents", "tool")
    assert [child.name for child in run.child_runs] == ["rag_chain"]


def finding(text: str) -> RunnableLambda[str, list[Document]]:
    return RunnableLambda(lambda _: [Document(text)])


def test_hostile_documents_reach_the_agent_as_quotes_alone(bundled_llm: LlamaCpp) -> None:
    for text in HOSTILE.values():
        tool = answer_tool(finding(text), bundled_llm, threshold=float("inf"))
        message = tool.invoke(calling(tool.name, question="What must I do?").tool_calls[0])
        quotes = [citation["quote"] for citation in message.artifact["citations"]]
        assert message.artifact["refused"] or all(quote in text for quote in quotes)
        assert message.text.split("\n")[0].endswith(":") or message.artifact["refused"]
