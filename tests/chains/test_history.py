from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.chat_history import InMemoryChatMessageHistory
from langchain_core.messages import (
    AIMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from fourcorners.chains.history import Conversation, conversation_of
from fourcorners.errors import InputError
from fourcorners.grounding.follow_up import Turn
from tests.support import texts

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
TURNS = (Turn("Who?", "She."), Turn("And when?", "In 1986."))


@pytest.mark.parametrize(
    "history",
    [
        [HumanMessage("Who?"), AIMessage("She."), HumanMessage("And when?"), AIMessage("In 1986.")],
        [("user", "Who?"), ("assistant", "She."), ("human", "And when?"), ("ai", "In 1986.")],
        [["user", "Who?"], ["assistant", "She."], ["user", "And when?"], ["assistant", "In 1986."]],
        (
            {"role": "user", "content": "Who?"},
            {"role": "assistant", "content": "She."},
            {"type": "human", "content": "And when?"},
            {"role": "assistant", "content": "In 1986."},
        ),
        InMemoryChatMessageHistory(
            messages=[HumanMessage("Who?"), AIMessage("She."), HumanMessage("And when?"), AIMessage("In 1986.")]
        ),
        [
            SystemMessage("Be brief."),
            HumanMessage([{"type": "text", "text": "Who?"}, IMAGE]),
            AIMessage("", tool_calls=[{"name": "search", "args": {}, "id": "1"}]),
            ToolMessage("27 hits", tool_call_id="1"),
            AIMessage("She."),
            ChatMessage(content="And when?", role="user"),
            AIMessage([{"type": "text", "text": "In 1986."}]),
            HumanMessage(""),
        ],
    ],
)
def test_every_form_of_history_has_the_same_turns(history: Any) -> None:
    assert conversation_of(history, 1000) == Conversation(TURNS, 0)


@pytest.mark.parametrize("history", [None, [], (), [SystemMessage("Be brief.")], [("user", " ")]])
def test_a_history_may_be_empty(history: Any) -> None:
    assert conversation_of(history, 1000) == Conversation()


def test_messages_in_a_row_belong_to_one_turn_and_an_opening_has_no_question() -> None:
    history = [("ai", "Hello!"), ("user", "One?"), ("user", "Two?"), ("ai", "a"), ("ai", "b")]
    assert conversation_of(history, 1000).turns == (Turn("", "Hello!"), Turn("One?"), Turn("Two?", "a\nb"))


@pytest.mark.parametrize(
    ("history", "named"),
    [
        ("Who?", "list of messages"),
        (5, "list of messages"),
        ({"role": "user", "content": "x"}, "list of messages"),
        (["Who?"], "message 1"),
        ([("user", "x"), None], "message 2"),
        ([("user", "x"), ("user", "x", "x")], "message 2"),
        ([("nobody", "x")], "nobody"),
        ([("user", 5)], "message 1"),
        ([{"content": "x"}], "role"),
        ([{"role": "user"}], "content"),
        ([{"role": 5, "content": "x"}], "message 1"),
        ([("user", "half \ud800")], "surrogate"),
    ],
)
def test_what_is_no_history_is_refused_with_its_place(history: Any, named: str) -> None:
    with pytest.raises(InputError, match=named):
        conversation_of(history, 1000)


def test_the_newest_turns_are_kept_and_the_rest_counted() -> None:
    history = [("user", f"{n:04}") for n in range(100)]
    kept = conversation_of(history, 20)
    assert [turn.question for turn in kept.turns] == ["0095", "0096", "0097", "0098", "0099"]
    assert kept.n_left_out == 95
    assert conversation_of(history, 0) == Conversation((), 100)


def test_of_a_turn_that_is_too_long_the_beginning_is_kept() -> None:
    kept = conversation_of([("user", "q" * 90), ("ai", "a" * 1_000_000)], 100)
    assert kept == Conversation((Turn("q" * 50, "a" * 50),), 1)


@given(st.lists(st.tuples(st.sampled_from(["user", "assistant"]), texts), max_size=6), st.integers(0, 200))
def test_no_message_can_begin_another_one(history: list[tuple[str, str]], budget: int) -> None:
    kept = conversation_of(history, budget)
    assert sum(len(turn.question) + len(turn.answer) for turn in kept.turns) <= budget
    n_messages = sum(bool(text.strip()) for turn in kept.turns for text in (turn.question, turn.answer))
    at_the_margin = [line for line in kept.as_text().splitlines() if not line.startswith("  ")]
    assert len(at_the_margin) == n_messages
    assert all(line.startswith(("User: ", "Assistant: ")) for line in at_the_margin)
