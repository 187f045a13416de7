"""The runnables that users compose."""

from fourcorners.chains.answer import answer_chain, grounded_chain
from fourcorners.chains.markers import marked_answer
from fourcorners.chains.rag import rag_chain

__all__ = ["answer_chain", "grounded_chain", "marked_answer", "rag_chain"]
