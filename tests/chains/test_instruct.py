from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.outputs import LLMResult
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable

from fourcorners import init_llm, instruct_chain
from fourcorners.chains.instruct import Instruction
from fourcorners.errors import InputError, SettingsError
from fourcorners.llms import run
from fourcorners.llms.llama_cpp import LlamaCpp
from fourcorners.llms.run import prompt_tokens
from fourcorners.models import reader_path
from fourcorners.prompts.chat_format import PLAIN, SPEAKERS, ChatFormat
from fourcorners.prompts.families import CHATML, LLAMA2, MISTRAL
from fourcorners.prompts.instruct import InstructText, instruct_prompt
from tests.llms.random_model import write_random_model
from tests.support import Recorder, texts

pytestmark = pytest.mark.timeout(60)
SYSTEM, QUESTION = "Answer in one word.", "What is the capital of France?"


@pytest.fixture(scope="module")
def random_llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaCpp]:
    target = tmp_path_factory.mktemp("random") / "model.gguf"
    write_random_model(reader_path(), target, "")
    llm = init_llm(f"llama_cpp:{target}", max_new_tokens=12)
    assert isinstance(llm, LlamaCpp)
    yield llm
    llm.close()


class Info(BaseCallbackHandler):
    def __init__(self) -> None:
        self.info: dict[str, Any] = {}

    def on_llm_end(self, response: LLMResult, **_: Any) -> None:
        self.info = response.generations[0][0].generation_info or {}


@pytest.mark.asyncio
async def test_every_way_gives_the_same_text(random_llm: LlamaCpp) -> None:
    chain = instruct_chain(random_llm, SYSTEM)
    text = chain.invoke(QUESTION)
    assert text
    assert text == "".join(chain.stream(QUESTION))
    assert text == await chain.ainvoke(QUESTION)
    assert text == "".join([piece async for piece in chain.astream({"question": QUESTION, "system": SYSTEM})])
    assert chain.batch([QUESTION, {"question": QUESTION}]) == [text, text]
    assert await chain.abatch([QUESTION, {"question": QUESTION, "system": None}]) == [text, text]
    assert chain.invoke(Instruction(question=QUESTION)) == text
    assert instruct_chain(random_llm).invoke({"question": QUESTION, "system": SYSTEM}) == text
    assert instruct_chain(random_llm, "Sing.").invoke(QUESTION) != text


def test_nothing_is_guaranteed(random_llm: LlamaCpp) -> None:
    seen = Info()
    instruct_chain(random_llm).invoke(QUESTION, {"callbacks": [seen]})
    assert seen.info["guarantee"] == "none"
    assert seen.info["citations"] == []


def test_a_chat_model_gets_messages_and_another_llm_one_text() -> None:
    assert instruct_chain(FakeListChatModel(responses=["Paris"]), SYSTEM).invoke(QUESTION) == "Paris"
    prompt: Runnable[Any, PromptValue] = instruct_prompt(SYSTEM)
    assert prompt.invoke(QUESTION).to_messages() == [SystemMessage(SYSTEM), HumanMessage(QUESTION)]
    assert prompt.invoke({"question": QUESTION, "system": ""}).to_messages() == [HumanMessage(QUESTION)]
    llm = Recorder(reply="Paris\nUser: and of Spain?")
    assert instruct_chain(llm, SYSTEM).invoke(QUESTION) == "Paris"
    assert llm.seen == [f"{SYSTEM}\n\n{QUESTION}"]


def test_a_model_in_process_without_turn_tokens_is_stopped_before_it_speaks_as_the_user(
    random_llm: LlamaCpp, monkeypatch: pytest.MonkeyPatch
) -> None:
    stops: list[tuple[str, ...]] = []
    free = run.free_generation

    def noted(engine: Any, tokens: Any, settings: Any, stop: Any = ()) -> Any:
        stops.append(tuple(stop))
        return free(engine, tokens, settings, stop)

    monkeypatch.setattr(run, "free_generation", noted)
    instruct_chain(random_llm.bind(stop=["my own"])).invoke(QUESTION)
    random_llm.invoke(QUESTION)
    assert stops == [SPEAKERS, ()]  # a prompt of the caller's own is his own affair


@pytest.mark.parametrize("chat_format", [CHATML, LLAMA2, MISTRAL, PLAIN])
def test_the_models_own_chat_format_goes_around_it(chat_format: ChatFormat) -> None:
    text = "".join(segment.text for segment in chat_format.wrap(*InstructText.of(SYSTEM, QUESTION).segments()))
    assert text.index(SYSTEM) < text.index(QUESTION) < text.rindex(chat_format.before_answer)


@given(system=texts, question=texts.filter(str.strip))
def test_no_text_opens_or_closes_a_turn(bundled_llm: LlamaCpp, system: str, question: str) -> None:
    vocabulary = bundled_llm._engine.runner.vocabulary
    for text in (system, question):
        assert (
            vocabulary.plain(text)
            == prompt_tokens(InstructText.of("", text).segments()[1], vocabulary)[len(vocabulary.begins()) :]
        )
    segments = CHATML.wrap(*InstructText.of(system, question).segments())
    assert [segment.text for segment in segments if not segment.trusted] == [
        part for part in (system, question) if part
    ]


@pytest.mark.parametrize(
    "given", [None, 5, "", "  ", [], {}, {"system": "x"}, {"question": 5}, {"question": "x", "system": 5}, "\ud800"]
)
def test_bad_input_is_refused(given: Any) -> None:
    with pytest.raises(InputError):
        instruct_chain(Recorder()).invoke(given)


def test_a_system_text_is_a_text() -> None:
    with pytest.raises(SettingsError, match="system"):
        instruct_chain(Recorder(), system=5)  # type: ignore[arg-type]
