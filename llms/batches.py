"""What LLMs need for many prompts at once."""

from __future__ import annotations

from langchain_core.outputs import Generation, GenerationChunk
from langchain_core.runnables import RunnableConfig


def limited(
    config: RunnableConfig | list[RunnableConfig] | None, most: int
) -> RunnableConfig | list[RunnableConfig] | None:
    """``config`` with at most so many at a time, unless it says how many."""
    if isinstance(config, list):
        return [limited(one, most) for one in config]  # type: ignore[misc]
    if config and config.get("max_concurrency"):
        return config
    return {**(config or {}), "max_concurrency": most}


def joined(chunks: list[GenerationChunk]) -> Generation:
    """The chunks of one answer as a whole; what happened is in the last."""
    text = "".join(chunk.text for chunk in chunks)
    return Generation(text=text, generation_info=chunks[-1].generation_info if chunks else None)
