"""The whole chat templates of seventy models, tools and all, as llama.cpp carries them for its own tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from fourcorners.prompts.chat_format import ChatFormat
from fourcorners.prompts.contract import Segment
from fourcorners.prompts.from_template import MAX_STOPS, format_from_template
from fourcorners.prompts.template_sandbox import TemplateFault, render

pytestmark = pytest.mark.extras

SYSTEM, USER = "Answer from the context.", "How much does the tank hold?"
BOS, EOS = "[bos]", "</s>"
NAMES = {
    "Qwen-Qwen2.5-7B-Instruct": "chatml",
    "Qwen-Qwen3-0.6B": "chatml",
    "Mistral-Small-3.2-24B-Instruct-2506": "mistral-v7-tekken",
    "mistralai-Mistral-Nemo-Instruct-2407": "mistral-v3-tekken",
    "google-gemma-2-2b-it": "gemma",
    "microsoft-Phi-3.5-mini-instruct": "phi-3",
}
NEED_MORE = {"fireworks-ai-llama-3-firefunction-v2"}
"""Templates that can't be rendered without a list of functions."""


def written(chat_format: ChatFormat, system: str) -> str:
    segments = [Segment(system, trusted=False)] if system else []
    return "".join(one.text for one in chat_format.wrap(segments, [Segment(USER, trusted=False)]))


def without_beginning(text: str) -> str:
    for beginning in (BOS, "<s>", "<bos>", "<|startoftext|>"):
        text = text.removeprefix(beginning)
    return text


@pytest.mark.timeout(600)  # two processes for each template
def test_a_prompt_is_what_the_models_own_template_writes(vocabulary_folder: Path) -> None:
    paths = sorted(vocabulary_folder.glob("templates/*.jinja"))
    assert len(paths) >= 60
    for path in paths:
        template = path.read_text("utf-8")
        try:
            found = format_from_template(template, bos=BOS, eos=EOS)
        except TemplateFault:
            assert path.stem in NEED_MORE
            continue
        assert found.name == NAMES.get(path.stem, found.name)
        assert 0 < len(found.stop) <= MAX_STOPS
        user = {"role": "user", "content": USER}
        whole, lone = render(template, [[{"role": "system", "content": SYSTEM}, user], [user]], bos=BOS, eos=EOS)
        if isinstance(whole, str) and found.takes_system:
            assert written(found, SYSTEM) == without_beginning(whole), path.stem
        if isinstance(lone, str):
            assert written(found, "") == without_beginning(lone), path.stem


def test_the_models_that_the_table_knows_are_found(vocabulary_folder: Path) -> None:
    for name, expected in NAMES.items():
        template = (vocabulary_folder / "templates" / f"{name}.jinja").read_text("utf-8")
        assert format_from_template(template, bos=BOS, eos=EOS).name == expected
