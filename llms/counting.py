"""How long a text is for an LLM, where the prompt is to be packed before the LLM sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fourcorners.grounding.packing import estimated_tokens


def token_counter(llm: Any) -> Callable[[str], int] | None:
    """A local and quick count for ``llm``; None for one that packs the documents itself, with its own tokenizer.

    The LLM's ``custom_get_token_ids`` where it was given, else an estimate on the safe side. LangChain's
    ``get_num_tokens`` is not asked: as a rule it loads a tokenizer from the net.
    """
    for _ in range(20):  # bind, with_retry and with_config wrap, with_fallbacks and configurable alternatives too
        inner = next(
            (getattr(llm, name, None) for name in ("bound", "runnable", "default") if hasattr(llm, name)), None
        )
        if inner is None:
            break
        llm = inner
    if getattr(llm, "packs_documents", False):
        return None
    token_ids: Callable[[str], list[int]] | None = getattr(llm, "custom_get_token_ids", None)
    return estimated_tokens if token_ids is None else lambda text: len(token_ids(text))
