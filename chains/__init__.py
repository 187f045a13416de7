"""The runnables that users compose."""

from fourcorners.chains.answer import answer_chain, grounded_chain
from fourcorners.chains.chat import chat_chain
from fourcorners.chains.instruct import instruct_chain
from fourcorners.chains.rag import rag_chain

__all__ = ["answer_chain", "chat_chain", "grounded_chain", "instruct_chain", "rag_chain"]
