"""fourcorners: the answer step of a retrieval pipeline.

Given a question and the text that a retriever found, it answers only from that text, with exact citations, or says
that it is unsure. The names below are the public interface; all else may change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "answer_chain",
    "answer_node",
    "answer_tool",
    "chat_chain",
    "grounded_chain",
    "grounded_prompt",
    "init_llm",
    "instruct_chain",
    "rag_chain",
]

if TYPE_CHECKING:
    from fourcorners.chains import (
        answer_chain,
        answer_node,
        answer_tool,
        chat_chain,
        grounded_chain,
        instruct_chain,
        rag_chain,
    )
    from fourcorners.llms import init_llm
    from fourcorners.prompts.grounded import grounded_prompt

_HOMES = {
    "answer_chain": "fourcorners.chains",
    "answer_node": "fourcorners.chains",
    "answer_tool": "fourcorners.chains",
    "chat_chain": "fourcorners.chains",
    "grounded_chain": "fourcorners.chains",
    "grounded_prompt": "fourcorners.prompts.grounded",
    "init_llm": "fourcorners.llms",
    "instruct_chain": "fourcorners.chains",
    "rag_chain": "fourcorners.chains",
}


def __getattr__(name: str) -> Any:
    # LangChain takes about a second to import: `fourcorners --version` must not wait for it.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
