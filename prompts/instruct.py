"""``instruct_prompt()``: a PromptTemplate for a system text and a question, with no documents and no guarantee."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage
from langchain_core.prompt_values import PromptValue, StringPromptValue
from langchain_core.prompts import PromptTemplate
from pydantic import BaseModel, PrivateAttr

from fourcorners.errors import InputError, shortened
from fourcorners.prompts.contract import Segment
from fourcorners.prompts.grounded import check_encodable, check_question


class InstructText(str):
    """A system text and a question as plain text, and apart for a model's own chat format. Neither is trusted."""

    system: str
    question: str

    @classmethod
    def of(cls, system: str, question: str) -> InstructText:
        """Join them, the system text first."""
        text = cls("\n\n".join(part for part in (system, question) if part))
        text.system, text.question = system, question
        return text

    def segments(self) -> tuple[list[Segment], list[Segment]]:
        """What goes in the system turn and in the user's."""
        system = [Segment(self.system, trusted=False)] if self.system else []
        return system, [Segment(self.question, trusted=False)]


class InstructPromptValue(StringPromptValue):
    """The value of an instruct prompt: an InstructText for LLMs, two messages for chat models."""

    _instruct: InstructText = PrivateAttr()

    @classmethod
    def of(cls, text: InstructText) -> InstructPromptValue:
        """Wrap ``text``; pydantic would strip it to a plain ``str`` in a field, so it is kept apart."""
        value = cls(text=str(text))
        value._instruct = text
        return value

    def to_string(self) -> str:
        """The text with its parts."""
        return self._instruct

    def to_messages(self) -> list[BaseMessage]:
        """A system message, where there is a system text, and the question."""
        system = [SystemMessage(self._instruct.system)] if self._instruct.system else []
        return [*system, HumanMessage(self._instruct.question)]


class InstructPromptTemplate(PromptTemplate):
    """Use ``instruct_prompt()`` to make one."""

    system: str = ""

    def _validate_input(self, inner_input: Any) -> dict[str, Any]:
        if isinstance(inner_input, BaseModel):
            inner_input = dict(inner_input)
        if isinstance(inner_input, str):
            return {"question": inner_input}
        if not isinstance(inner_input, Mapping) or "question" not in inner_input:
            raise InputError(
                f"the input must be a question, a text or {{'question', 'system'}}, not {shortened(inner_input)}"
            )
        return dict(inner_input)

    def format_prompt(self, **kwargs: Any) -> PromptValue:
        """Raises InputError where the question is missing or empty, or one of the two is no text."""
        question, system = kwargs.get("question"), kwargs.get("system")
        check_question(question)
        system = self.system if system is None else system
        if not isinstance(system, str):
            raise InputError(f"system must be a text, not {type(system).__name__} {shortened(system)}")
        check_encodable("system", system)
        return InstructPromptValue.of(InstructText.of(system, str(question)))

    async def aformat_prompt(self, **kwargs: Any) -> PromptValue:
        """As ``format_prompt``."""
        return self.format_prompt(**kwargs)

    def format(self, **kwargs: Any) -> str:
        """As ``format_prompt``, the text alone."""
        return self.format_prompt(**kwargs).to_string()


def instruct_prompt(system: str = "") -> InstructPromptTemplate:
    """A prompt for a question, or ``{"question", "system"}``; ``system`` is the text where the input has none."""
    return InstructPromptTemplate(
        template="{question}", system=system, input_variables=["question"], input_types={"question": str}
    )
