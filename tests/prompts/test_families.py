"""Each family's format writes what the model's own chat template writes."""

from __future__ import annotations

import pytest

from fourcorners.errors import SettingsError
from fourcorners.prompts.chat_format import ChatFormat
from fourcorners.prompts.contract import Segment
from fourcorners.prompts.families import ALIASES, DOLLY, FORMATS, format_named, format_of_id
from fourcorners.prompts.from_template import MAX_STOPS, format_from_template
from fourcorners.prompts.template_sandbox import render
from tests.prompts.templates import PUBLISHED, Published

SYSTEM, USER = "Answer from the context.", "How much does the tank hold?"
CARDS = {
    "phi-2": "Instruct: How much does the tank hold?\nOutput:",
    "dolly": "Below is an instruction that describes a task. Write a response that appropriately completes the request."
    "\n\n### Instruction:\nHow much does the tank hold?\n\n### Response:\n",
    "redpajama": "<human>: How much does the tank hold?\n<bot>:",
    "redpajama-instruct": "Q: How much does the tank hold?\nA:",
}
"""Formats without a template, as the cards of microsoft/phi-2, databricks/dolly-v2-3b (instruct_pipeline.py) and
togethercomputer/RedPajama-INCITE-Chat-3B-v1 and -Instruct-3B-v1 show them."""


def written(chat_format: ChatFormat, system: str) -> str:
    segments = [Segment(system, trusted=False)] if system else []
    return "".join(one.text for one in chat_format.wrap(segments, [Segment(USER, trusted=False)]))


def rendered(one: Published, *messages: tuple[str, str]) -> str:
    (text,) = render(one.template, [[{"role": r, "content": c} for r, c in messages]], bos=one.bos, eos=one.eos)
    assert isinstance(text, str), text
    return text


@pytest.mark.parametrize("one", PUBLISHED, ids=lambda one: one.model)
def test_a_format_writes_what_the_models_own_template_writes(one: Published) -> None:
    chat_format = FORMATS[one.format]
    if chat_format.takes_system:
        text = rendered(one, ("system", SYSTEM), ("user", USER))
    else:
        text = rendered(one, ("user", f"{SYSTEM}\n\n{USER}"))
    bos = one.bos if format_from_template(one.template, bos=one.bos, eos=one.eos).writes_bos else ""
    assert text.startswith(bos)
    assert text.removeprefix(bos).lstrip(" ") == written(chat_format, SYSTEM)
    if not one.default_system:
        assert rendered(one, ("user", USER)).removeprefix(bos).lstrip(" ") == written(chat_format, "")


@pytest.mark.parametrize("one", PUBLISHED, ids=lambda one: one.model)
def test_a_published_template_is_recognised(one: Published) -> None:
    found = format_from_template(one.template, bos=one.bos, eos=one.eos)
    assert found.name == one.format
    assert found.stop == FORMATS[one.format].stop
    assert written(found, SYSTEM) == written(FORMATS[one.format], SYSTEM)
    assert ("SmolLM" in written(found, "")) == one.default_system


@pytest.mark.parametrize("one", PUBLISHED, ids=lambda one: one.model)
def test_an_answer_begins_and_ends_where_the_template_has_it(one: Published) -> None:
    chat_format = FORMATS[one.format]
    text = rendered(one, ("user", USER), ("assistant", "3.2 litres."), ("user", "And?"))
    before, _, after = text.partition("3.2 litres.")
    assert before.removesuffix(" ").endswith(chat_format.before_answer.removesuffix(" "))
    if "first version" not in one.model:  # it has no space where the tokenizer makes one
        assert before.endswith(chat_format.before_answer + chat_format.answer_prefix)
    assert any(stop in after for stop in chat_format.stop)


@pytest.mark.parametrize("name", CARDS)
def test_a_format_without_a_template_is_that_of_the_model_card(name: str) -> None:
    assert written(FORMATS[name], "") == CARDS[name]


def test_the_system_text_leads_the_users_where_there_is_no_turn_for_it() -> None:
    assert written(FORMATS["redpajama"], SYSTEM) == f"<human>: {SYSTEM}\n\n{USER}\n<bot>:"


def test_dolly_ends_with_its_end_key() -> None:
    assert DOLLY.stop[0] == "### End"


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_has_stops_that_every_server_takes(name: str) -> None:
    chat_format = FORMATS[name]
    assert (0 < len(chat_format.stop) <= MAX_STOPS) == (name != "plain")
    for stop in chat_format.stop:
        assert stop.strip() in chat_format.markers


@pytest.mark.parametrize("name", FORMATS)
def test_no_text_of_a_format_begins_with_a_begin_of_text_token(name: str) -> None:
    for text in (written(FORMATS[name], ""), written(FORMATS[name], SYSTEM)):
        assert not text.startswith(("<s>", "<bos>", "<|begin_of_text|>", "<|endoftext|>"))


@pytest.mark.parametrize("name", FORMATS)
def test_only_markers_are_trusted(name: str) -> None:
    segments = FORMATS[name].wrap([Segment("SYSTEM", False)], [Segment("USER", False)])
    assert [segment.text for segment in segments if not segment.trusted] == ["SYSTEM", "USER"]


def test_every_name_and_alias_can_be_given() -> None:
    assert {format_named(name).name for name in FORMATS} == set(FORMATS)
    assert all(format_named(alias) is FORMATS[name] for alias, name in ALIASES.items())
    assert format_named(" Llama_3 ") is FORMATS["llama-3"]


@pytest.mark.parametrize("name", ["lama-3", "", "x" * 500, None, 3])
def test_an_unknown_name_is_an_error_that_lists_them(name: object) -> None:
    with pytest.raises(SettingsError, match=r"prompt_format=.*llama-3") as caught:
        format_named(name)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 500


def test_a_near_name_is_suggested() -> None:
    with pytest.raises(SettingsError, match="did you mean 'llama-3'"):
        format_named("lama-3")


IDS = {
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": "zephyr",
    "HuggingFaceH4/zephyr-7b-beta": "zephyr",
    "stabilityai/stablelm-zephyr-3b": None,
    "meta-llama/Llama-2-7b-chat-hf": "llama-2",
    "meta-llama/Llama-2-7b-hf": None,
    "codellama/CodeLlama-7b-Instruct-hf": "llama-2",
    "meta-llama/Meta-Llama-3-8B-Instruct": "llama-3",
    "Meta Llama 3.1 8B Instruct": "llama-3",
    "meta-llama/Meta-Llama-3-8B": None,
    "mistralai/Mistral-7B-Instruct-v0.1": "mistral-v1",
    "mistralai/Mistral-7B-Instruct-v0.2": "mistral-v1",
    "mistralai/Mistral-7B-Instruct-v0.3": "mistral-v3",
    "mistralai/Mistral-7B-v0.1": None,
    "mistralai/Mixtral-8x7B-Instruct-v0.1": "mistral-v1",
    "mistralai/Mixtral-8x22B-Instruct-v0.1": "mistral-v3",
    "mistralai/Mistral-Nemo-Instruct-2407": "mistral-v3-tekken",
    "mistralai/Mistral-Large-Instruct-2411": "mistral-v7",
    "mistralai/Mistral-Small-3.1-24B-Instruct-2503": "mistral-v7-tekken",
    "google/gemma-2-2b-it": "gemma",
    "google/gemma-1.1-7b-it": "gemma",
    "google/gemma-3-4b-it": "gemma",
    "google/gemma-7b": None,
    "google/gemma-4-31B-it": None,
    "microsoft/phi-2": "phi-2",
    "susnato/phi-2": "phi-2",
    "cognitivecomputations/dolphin-2_6-phi-2": None,
    "microsoft/Phi-3-mini-4k-instruct": "phi-3",
    "microsoft/Phi-3.5-mini-instruct": "phi-3",
    "microsoft/phi-4": None,
    "tiiuae/falcon-7b-instruct": "falcon",
    "tiiuae/falcon-7b": None,
    "tiiuae/Falcon3-7B-Instruct": None,
    "databricks/dolly-v2-3b": "dolly",
    "togethercomputer/RedPajama-INCITE-Chat-3B-v1": "redpajama",
    "togethercomputer/RedPajama-INCITE-Instruct-3B-v1": "redpajama-instruct",
    "togethercomputer/RedPajama-INCITE-Base-3B-v1": None,
    "HuggingFaceTB/SmolLM2-135M-Instruct": "chatml",
    "HuggingFaceTB/SmolLM2-135M": None,
    "Qwen/Qwen2.5-0.5B-Instruct": "chatml",
    "Qwen/Qwen2.5-0.5B": None,
    "Qwen/Qwen3-0.6B": "chatml",
    "Qwen/Qwen3-0.6B-Base": None,
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": None,
    "/data/models/Mistral-7B-Instruct-v0.2/": "mistral-v1",
    "": None,
}


@pytest.mark.parametrize("model_id", IDS)
def test_an_id_tells_the_format_or_nothing(model_id: str) -> None:
    found = format_of_id(model_id)
    assert (found.name if found else None) == IDS[model_id]
