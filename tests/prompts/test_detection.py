"""The right format for a model: by name, from its GGUF, its tokenizer_config.json, or its id."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings

from fourcorners.engine.runner import load_vocabulary
from fourcorners.errors import ModelLoadError, SettingsError
from fourcorners.models import reader_path
from fourcorners.prompts.chat_format import PLAIN, SPEAKERS, ChatFormat
from fourcorners.prompts.contract import Segment
from fourcorners.prompts.detection import (
    _KNOWN_TEMPLATES,
    format_of_gguf,
    format_of_model_id,
    format_of_tokenizer_config,
)
from fourcorners.prompts.families import CHATML, FORMATS, GEMMA, LLAMA2, LLAMA3, MISTRAL, PHI2, PHI3
from fourcorners.prompts.from_template import format_from_template
from fourcorners.prompts.template_sandbox import TemplateFault
from tests.prompts.templates import DEEPSEEK_V2, PHI_3_MINI, PHI_4, PUBLISHED
from tests.support import texts

ZEPHYR_LIKE = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def written(chat_format: ChatFormat, *, system: bool = True) -> str:
    segments = chat_format.wrap([Segment("SYSTEM", True)] if system else [], [Segment("USER", False)])
    return "".join(segment.text for segment in segments)


def from_gguf(template: str, **more: str) -> ChatFormat:
    return format_of_gguf({"tokenizer.chat_template": template, "general.name": "m"}, **more)


def test_the_bundled_reader_speaks_chatml_and_its_template_is_not_rendered_to_find_out() -> None:
    template = load_vocabulary(reader_path())[1]["tokenizer.chat_template"]
    assert sha256(template.encode()).hexdigest()[:12] in _KNOWN_TEMPLATES
    assert format_of_gguf({"tokenizer.chat_template": template}) is CHATML
    assert format_from_template(template) is CHATML


@pytest.mark.parametrize("one", PUBLISHED, ids=lambda one: one.model)
def test_a_gguf_with_a_published_template(one: object) -> None:
    found = from_gguf(one.template, bos=one.bos, eos=one.eos)  # type: ignore[attr-defined]
    assert found.name == one.format  # type: ignore[attr-defined]


def test_a_name_given_comes_before_all_that_a_model_says() -> None:
    metadata = {"tokenizer.chat_template": "{{ broken", "general.name": "Mistral 7B Instruct"}
    assert format_of_gguf(metadata, prompt_format="llama-3") is LLAMA3
    assert format_of_tokenizer_config({"chat_template": "{{ broken"}, prompt_format="gemma") is GEMMA
    assert format_of_model_id("org/unknown", prompt_format="llama-2") is LLAMA2
    with pytest.raises(SettingsError, match="prompt_format='lama'"):
        format_of_gguf(metadata, prompt_format="lama")


def test_without_a_template_the_name_or_the_architecture_tells(caplog: pytest.LogCaptureFixture) -> None:
    assert format_of_gguf({"general.name": "Mistral 7B Instruct v0.2"}) is MISTRAL
    assert format_of_gguf({"general.architecture": "phi2", "general.name": "something"}) is PHI2
    assert not caplog.records


def test_a_model_that_tells_nothing_gets_plain_prompts_and_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert format_of_gguf({"general.name": "Own Model"}, model="own.gguf") is PLAIN
        assert format_of_model_id("org/own") is PLAIN
        assert format_of_tokenizer_config({"bos_token": "<s>"}, model="own/config") is PLAIN
    assert len(caplog.records) == 3
    for name, record in zip(("own.gguf", "org/own", "own/config"), caplog.records, strict=True):
        assert record.getMessage().startswith(f"{name} gets plain prompts")
        assert "prompt_format=" in record.getMessage()


def test_an_unknown_template_is_read_off() -> None:
    found = from_gguf(PHI_4, eos="<|endoftext|>")
    assert found.name == "template"
    assert written(found) == (
        "<|im_start|>system<|im_sep|>SYSTEM<|im_end|><|im_start|>user<|im_sep|>USER<|im_end|>"
        "<|im_start|>assistant<|im_sep|>"
    )
    assert written(found, system=False).startswith("<|im_start|>user<|im_sep|>USER")
    assert found.stop == ("<|im_end|>", "<|endoftext|>", "<|im_start|>", "<|im_sep|>")
    assert [s.text for s in found.wrap([], [Segment("USER", False)]) if not s.trusted] == ["USER"]


def test_an_answer_of_an_unknown_template_ends_at_its_end_token_or_the_next_turn() -> None:
    found = format_from_template(DEEPSEEK_V2, bos="<｜begin▁of▁sentence｜>", eos="<｜end▁of▁sentence｜>")
    assert written(found) == "SYSTEM\n\nUser: USER\n\nAssistant:"
    assert found.stop[:2] == ("<｜end▁of▁sentence｜>", "User:")
    assert found.answer_prefix == " "
    assert found.writes_bos
    silent = "{% for m in messages %}{{ m.content }} = {% endfor %}"
    assert format_from_template(silent).stop == SPEAKERS


def test_a_template_that_leaves_the_system_message_out_does_not_lose_it() -> None:
    found = format_from_template(PHI_3_MINI, bos="<s>", eos="<|endoftext|>")
    assert not found.takes_system
    assert written(found) == "<|user|>\nSYSTEM\n\nUSER<|end|>\n<|assistant|>\n"


def test_a_begin_of_text_token_is_left_to_whoever_tokenises_the_prompt() -> None:
    body = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<bot>"
    for lead in ("{{ bos_token }}", "<s>", "{{ bos_token }}<s>", "<|begin_of_text|>", "[BOS]"):
        found = format_from_template(lead + body, bos="[BOS]")
        assert found.writes_bos
        assert written(found) == "<system>SYSTEM<user>USER<bot>"
        assert written(found, system=False) == "<user>USER<bot>"
    assert not format_from_template(body, bos="[BOS]").writes_bos
    turns = "{% for m in messages %}[BOS]{{ m.role }} {{ m.content }}{% endfor %}[BOS]bot"
    assert written(format_from_template(turns, bos="[BOS]"), system=False) == "[BOS]user USER[BOS]bot"


BROKEN = {
    "no Jinja": "{{ broken",
    "an error": "{{ 1 / 0 }}",
    "unknown function": "{{ undefined_function(messages) }}",
    "no message": "no turns at all",
    "the message twice": "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}",
    "another message": "{% for m in messages %}{{ m.content | upper }}{% endfor %}",
    "refuses all": "{{ raise_exception('not for you') }}",
    "reaches out": "{{ ''.__class__.__mro__ }}",
    "eats": "{{ 'a' * 10**10 }}{{ messages[0].content }}",
    "hangs": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}{{ messages[0].content }}",
    "too long": "x" * 200_000,
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_or_hostile_template_is_an_error_with_its_remedy(name: str) -> None:
    with pytest.raises(
        ModelLoadError, match=r"chat template of bad\.gguf can't be used: .*prompt_format= one of .*llama"
    ):
        from_gguf(BROKEN[name], model="bad.gguf")
    assert from_gguf(BROKEN[name], prompt_format="chatml") is CHATML


@settings(max_examples=10)
@given(texts)
def test_any_template_gives_a_format_or_a_fault(template: str) -> None:
    with suppress(TemplateFault):
        assert isinstance(format_from_template(template), ChatFormat)


def test_a_tokenizer_config_in_all_its_shapes(tmp_path: Path) -> None:
    config = {
        "bos_token": {"content": "<s>", "special": True},
        "eos_token": "</s>",
        "chat_template": [{"name": "tool_use", "template": "{{ x"}, {"name": "default", "template": ZEPHYR_LIKE}],
        "added_tokens_decoder": {
            "1": {"content": "<s>", "special": True},
            "7": {"content": "~~end~~", "special": True},
            "8": {"content": "    ", "special": False},
            "9": {"content": "<b>", "special": False},
        },
    }
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(config))
    for source in (config, path, str(path), tmp_path):
        found = format_of_tokenizer_config(source)
        assert found.name == "zephyr"
        assert found.specials == ("<s>", "~~end~~")
        assert found.as_data("~~end~~ <b>") == "~~end~ ~ <b>"
    (tmp_path / "chat_template.jinja").write_text("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<a>")
    assert written(format_of_tokenizer_config(tmp_path)) == "<system>SYSTEM<user>USER<a>"
    assert format_of_tokenizer_config({"chat_template": {"default": ZEPHYR_LIKE}, "eos_token": "</s>"}).name == "zephyr"


def test_a_tokenizer_config_without_a_template_is_known_by_its_name() -> None:
    assert format_of_tokenizer_config({"name_or_path": "microsoft/Phi-3-mini-4k-instruct"}) is PHI3
    assert format_of_tokenizer_config({"chat_template": None}, model="google/gemma-2-2b-it") is GEMMA


@pytest.mark.parametrize("content", [b"{", b"[]", b'"text"', b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_tokenizer_config_is_an_error_that_names_it(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer_config.json"
    path.write_bytes(content)
    with pytest.raises(ModelLoadError, match=r"tokenizer_config\.json .*prompt_format="):
        format_of_tokenizer_config(path)


def test_a_missing_tokenizer_config_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="tokenizer_config"):
        format_of_tokenizer_config(tmp_path)


@pytest.mark.parametrize("wrong", [3, ["x"], [{"name": 1}], {"default": 5}, {}])
def test_a_template_of_another_type_is_none(wrong: object) -> None:
    assert format_of_tokenizer_config({"chat_template": wrong}) is PLAIN


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "plain"])
def test_a_format_written_as_a_template_is_found_again(name: str) -> None:
    chat_format = FORMATS[name]
    before_user, before_answer = json.dumps(chat_format.before_user), json.dumps(chat_format.before_answer)
    user = "(messages | selectattr('role', 'equalto', 'user') | first).content"
    if chat_format.takes_system:
        before_system, lone = json.dumps(chat_format.before_system), json.dumps(chat_format.before_lone_user)
        lead = f"{before_system} + messages[0].content + {before_user} if messages[0].role == 'system' else {lone}"
    else:
        lead = f"raise_exception('none') if messages[0].role == 'system' else {before_user}"
    found = format_from_template(
        f"{{{{ bos_token }}}}{{{{ {lead} }}}}{{{{ {user} }}}}{{{{ {before_answer} }}}}", bos="<s>"
    )
    assert found.name == name
    assert written(found) == written(chat_format)
    assert written(found, system=False) == written(chat_format, system=False)


def test_a_template_that_does_not_open_the_answer_is_opened_as_in_its_dialogues() -> None:
    chatml = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    assert format_from_template(chatml) is CHATML
    vicuna = "{% for m in messages %}{{ m.role }}: {{ m.content }} {% endfor %}"
    assert written(format_from_template(vicuna)) == "system: SYSTEM user: USER assistant:"
    assert format_from_template(vicuna).answer_prefix == " "


def test_a_begin_of_text_token_that_opens_every_turn_stays_where_it_is_inside() -> None:
    # mlabonne/AlphaMonarch-7B, from llama.cpp's tests
    monarch = (
        r"{% for message in messages %}{{bos_token + message['role'] + '\n' + message['content'] + eos_token + '\n'}}"
        r"{% endfor %}{% if add_generation_prompt %}{{ bos_token + 'assistant\n' }}{% endif %}"
    )
    found = format_from_template(monarch, bos="<s>", eos="</s>")
    assert written(found) == "system\nSYSTEM</s>\n<s>user\nUSER</s>\n<s>assistant\n"
    assert written(found, system=False) == "user\nUSER</s>\n<s>assistant\n"
    assert found.writes_bos
    assert found.stop == ("</s>",)
