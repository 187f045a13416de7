"""LangChain LLMs that can be grounded, and the one factory for them."""

from fourcorners.llms.factory import init_llm

__all__ = ["init_llm"]
