"""A conversation as chains get it, in LangChain's forms, made into turns and into a text that a model may read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, convert_to_messages

from fourcorners.errors import InputError, shortened
from fourcorners.grounding.follow_up import Turn
from fourcorners.prompts.grounded import check_encodable

_USER_ROLES, _MODEL_ROLES = frozenset({"user", "human"}), frozenset({"assistant", "ai", "model"})


@dataclass(frozen=True, slots=True)
class Conversation:
    """The newest turns that the budget takes, oldest first, and how many others were left out or cut."""

    turns: tuple[Turn, ...] = ()
    n_left_out: int = 0

    def as_text(self) -> str:
        """A line or more for each message; only a message's own first line begins at the margin."""
        lines = []
        for turn in self.turns:
            lines += [f"{who}: {_indented(text)}" for who, text in _said(turn) if text.strip()]
        return "\n".join(lines)


def _said(turn: Turn) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("User", turn.question), ("Assistant", turn.answer)


def _indented(text: str) -> str:
    """A message's further lines moved in, so that none of them looks like the begin of another message."""
    return "\n  ".join(line for line in text.strip().splitlines() if line.strip())


def conversation_of(history: Any, max_chars: int) -> Conversation:
    """The turns of ``history``, the newest that have ``max_chars`` characters together.

    ``history`` is None or a list of messages: LangChain's, ``(role, text)`` or ``{"role", "content"}``. Text blocks of
    a multimodal message are read; its images, tool messages and system messages are no part of a conversation and are
    passed over. Raises InputError for anything else, naming the item.
    """
    turns = _turns(messages_of(history))
    kept: list[Turn] = []
    left, n_whole = max_chars, 0
    for turn in reversed(turns):
        size = len(turn.question) + len(turn.answer)
        if size > left:
            if not kept and left:  # of the newest turn at least how its texts begin
                kept.append(Turn(turn.question[: left // 2], turn.answer[: left - left // 2]))
            break
        kept.append(turn)
        left, n_whole = left - size, n_whole + 1
    return Conversation(tuple(reversed(kept)), len(turns) - n_whole)


def messages_of(history: Any) -> list[BaseMessage]:
    """``history`` as LangChain messages. Raises InputError."""
    if isinstance(history, BaseChatMessageHistory):
        history = history.messages
    if history is None:
        return []
    if not isinstance(history, list | tuple):
        raise InputError(
            f"history must be a list of messages, (role, text) pairs or {{'role', 'content'}}, not {shortened(history)}"
        )
    return [_message(item, number) for number, item in enumerate(history, start=1)]


def _message(item: Any, number: int) -> BaseMessage:
    is_pair = isinstance(item, Sequence) and not isinstance(item, str) and len(item) == 2
    if not (isinstance(item, BaseMessage | Mapping) or is_pair):
        raise InputError(f"message {number} of the history must be a message or (role, text), not {shortened(item)}")
    if is_pair and not (isinstance(item[0], str) and isinstance(item[1], str | list)):
        raise InputError(f"message {number} of the history must be (role, text), not {shortened(item)}")
    try:
        (message,) = convert_to_messages([dict(item) if isinstance(item, Mapping) else item])
    except Exception as error:  # LangChain raises what comes, from KeyError to pydantic's own
        raise InputError(
            f"message {number} of the history can't be read ({shortened(item)}): give it a role such as user or "
            "assistant, and a content"
        ) from error
    check_encodable(f"message {number} of the history", text_of(message))
    return message


def text_of(message: BaseMessage) -> str:
    """The text of a message: its content, or the text blocks of it."""
    return str(message.text)


def is_question(message: BaseMessage) -> bool:
    """Whether the user said it."""
    role = message.role if isinstance(message, ChatMessage) else ""
    return isinstance(message, HumanMessage) or role.lower() in _USER_ROLES


def _is_answer(message: BaseMessage) -> bool:
    role = message.role if isinstance(message, ChatMessage) else ""
    return isinstance(message, AIMessage) or role.lower() in _MODEL_ROLES


def _turns(messages: Sequence[BaseMessage]) -> list[Turn]:
    """Each question with the answers up to the next one; what was said before the first question has none."""
    turns: list[Turn] = []
    for message in messages:
        text = text_of(message)
        if not text.strip():
            continue
        if is_question(message):
            turns.append(Turn(text))
        elif _is_answer(message):
            last = turns.pop() if turns else Turn("")
            turns.append(Turn(last.question, f"{last.answer}\n{text}" if last.answer else text))
    return turns
