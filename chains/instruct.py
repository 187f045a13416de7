"""System text and question in, the model's own words out: the plain chain, with no documents and no guarantee."""

from __future__ import annotations

from typing import Any

from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import Runnable
from pydantic import BaseModel, ConfigDict

from fourcorners.chains.answer import Llm
from fourcorners.chains.speaking import without_speakers
from fourcorners.errors import SettingsError, shortened
from fourcorners.prompts.instruct import instruct_prompt


class Instruction(BaseModel):
    """What ``instruct_chain`` takes, beside a plain text. ``system`` None: the chain's own."""

    model_config = ConfigDict(title="Instruction")

    question: str
    system: str | None = None


def instruct_chain(llm: Llm, system: str = "") -> Runnable[Any, str]:
    """A question, or ``{"question", "system"}``, to the model's answer: ``PromptTemplate | LLM | StrOutputParser``.

    Nothing is grounded: the guarantee is ``none``. An in-process model gets system text and question in its own chat
    format, where neither can open or close a turn; a chat model gets them as messages, any other LLM as one text. The
    bundled reader can only copy from documents and has nothing sensible to say here. Raises SettingsError where
    ``system`` is no text; the chain raises InputError for bad input and EngineError for faults.
    """
    if not isinstance(system, str):
        raise SettingsError(f"system must be a text, not {type(system).__name__} {shortened(system)}")
    chain: Runnable[Any, str] = instruct_prompt(system) | without_speakers(llm) | StrOutputParser()
    return chain
