"""An agent that looks things up: LangChain's ``create_agent`` with the documents as its tool.

Run it with ``python examples/agent.py``. The agent's own model is scripted here, so that it runs on this machine; put
any chat model that calls tools in its place. The tool's answers come from the bundled reader.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from fourcorners import init_llm
from fourcorners.chains import answer_tool
from fourcorners.retrieval import bm25_retriever, load_passages

DOCUMENTS = Path(__file__).parent / "documents"


class ScriptedModel(BaseChatModel):
    """Passes the person's question on to the tool, then repeats what the tool said."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **_: Any) -> ScriptedModel:
        """The agent offers its tools here."""
        return self

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        last = messages[-1]
        if isinstance(last, ToolMessage):
            message = AIMessage(f"I looked it up.\n{last.text}")
        else:
            call = {"name": "answer_from_documents", "args": {"question": last.text}, "id": "1", "type": "tool_call"}
            message = AIMessage("", tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=message)])


def main() -> None:
    """Ask the agent two questions; the documents answer only one of them."""
    retriever = bm25_retriever(load_passages([DOCUMENTS]))
    tool = answer_tool(retriever, init_llm("bundled"), description="Answers from the island's brochures.")
    agent: Any = create_agent(ScriptedModel(), [tool])

    for question in ("Who built the lighthouse?", "What is the password of the wireless network?"):
        state = agent.invoke({"messages": [HumanMessage(question)]})
        print(f"{question}\n{state['messages'][-1].text}")
        reply = state["messages"][-2].artifact
        print(f"(refused: {reply['refused']}, guarantee: {reply['guarantee']})\n")


if __name__ == "__main__":
    main()
