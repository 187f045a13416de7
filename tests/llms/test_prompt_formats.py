"""The prompt format of a loaded model, from its file or by name, and with one begin-of-text token."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fourcorners import grounded_prompt, init_llm
from fourcorners.engine.vocabulary import Vocabulary
from fourcorners.errors import ModelLoadError, SettingsError
from fourcorners.llms.llama_cpp import LlamaCpp
from fourcorners.llms.run import plan_prompt, prompt_tokens
from fourcorners.models import reader_path
from fourcorners.prompts.chat_format import PLAIN
from fourcorners.prompts.contract import Segment
from fourcorners.prompts.detection import format_of_gguf
from fourcorners.prompts.families import CHATML, FORMATS, LLAMA3
from tests.llms.random_model import write_random_model
from tests.prompts.templates import PUBLISHED

TEMPLATES = {one.format: one.template for one in PUBLISHED}
Load = Callable[..., LlamaCpp]


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    """Loads a small model of random weights with this chat template; all are closed at the end."""
    made: list[LlamaCpp] = []

    def loading(template: str, **settings: object) -> LlamaCpp:
        path = tmp_path / f"model-{len(made)}.gguf"
        write_random_model(reader_path(), path, template)
        llm = init_llm(f"llama_cpp:{path}", **settings)
        assert isinstance(llm, LlamaCpp)
        made.append(llm)
        return llm

    yield loading
    for llm in made:
        llm.close()


def tokens(llm: LlamaCpp) -> list[int]:
    text = grounded_prompt().format(question="How much?", context="The tank holds 3.2 litres.")
    return plan_prompt(text, llm._engine, llm._profile, llm._format, llm.settings)


def test_a_format_can_be_named(bundled_llm: LlamaCpp) -> None:
    llm = init_llm("bundled", prompt_format="llama-3", max_running=1)
    assert isinstance(llm, LlamaCpp)
    assert bundled_llm._format is CHATML
    assert llm._format.begun_once("<|endoftext|>", added=True) == LLAMA3
    assert llm.prompt_format == "llama-3"
    llm.close()


def test_an_unknown_format_is_refused_with_those_there_are() -> None:
    with pytest.raises(SettingsError, match=r"unknown prompt_format='lama-3': did you mean 'llama-3'\?"):
        init_llm("bundled", prompt_format="lama-3")


@pytest.mark.parametrize("name", ["llama-3", "gemma", "chatml"])
def test_a_model_is_prompted_as_its_own_template_has_it(name: str, load: Load) -> None:
    llm = load(TEMPLATES[name])
    assert llm._format.name == name
    vocabulary = llm._engine.runner.vocabulary
    planned = tokens(llm)
    bos = vocabulary.control("<|endoftext|>")
    assert len(bos) == 1, "the reader's vocabulary has it as its begin-of-text token, and does not add it"
    assert planned.count(bos[0]) == (1 if FORMATS[name].writes_bos else 0)
    assert planned[:1] == bos or not FORMATS[name].writes_bos


def test_a_hostile_template_is_refused_when_the_model_is_loaded(load: Load) -> None:
    for template in ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ 'a' * 10**11 }}", "{{ broken", "{% for"):
        with pytest.raises(
            ModelLoadError, match=r"chat template of model-0\.gguf can't be used: .* prompt_format= one"
        ):
            load(template)
    llm = load("{{ broken", prompt_format="chatml")
    assert llm._format is CHATML
    assert llm.invoke(grounded_prompt().invoke({"question": "How much?", "context": "It holds 3.2 litres."}))


def test_a_model_without_a_template_gets_plain_prompts_and_the_log_says_so(
    load: Load, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert load("")._format is PLAIN
    assert "model-0.gguf gets plain prompts" in caplog.text


@pytest.mark.parametrize("name", ["llama-2", "mistral-v1", "mistral-v3", "zephyr", "gemma", "phi-3", "chatml"])
def test_one_begin_of_text_token_with_every_vocabulary(name: str, any_vocabulary: Vocabulary) -> None:
    bos, eos = any_vocabulary.bos_and_eos()
    if not bos:
        return
    found = format_of_gguf({"tokenizer.chat_template": TEMPLATES[name]}, bos=bos, eos=eos)
    chat_format = found.begun_once(bos, added=bool(any_vocabulary.begins()))
    user = [Segment("How much?", trusted=False)]
    (first,) = any_vocabulary.control(bos)
    for system in ([Segment("Answer.", trusted=True)], []):
        planned = prompt_tokens(chat_format.wrap(system, user), any_vocabulary)
        assert (planned[0] == first) == (bool(any_vocabulary.begins()) or found.writes_bos)
        assert planned[1] != first
