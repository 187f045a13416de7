"""The runnables that users compose."""

from fourcorners.chains.answer import answer_chain, grounded_chain
from fourcorners.chains.chat import chat_chain
from fourcorners.chains.instruct import instruct_chain
from fourcorners.chains.markers import marked_answer
from fourcorners.chains.node import answer_node
from fourcorners.chains.rag import rag_chain
from fourcorners.chains.tool import answer_tool

__all__ = [
    "answer_chain",
    "answer_node",
    "answer_tool",
    "chat_chain",
    "grounded_chain",
    "instruct_chain",
    "marked_answer",
    "rag_chain",
]
