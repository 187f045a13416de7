import pytest
from hypothesis import given

from fourcorners.engine.runner import load_vocabulary
from fourcorners.models import reader_path
from fourcorners.prompts.chat_format import CHATML, LLAMA2, MISTRAL, PLAIN, ChatFormat, chat_format_of
from fourcorners.prompts.contract import Segment
from tests.support import texts

LLAMA3 = (
    "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    " + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system role') }}{% endif %}"
    "{% for message in messages %}{% if message['role'] == 'assistant' %}{% set role = 'model' %}"
    "{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
MISTRAL_JINJA = (
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% else %}{{ message['content'] + eos_token }}"
    "{% endif %}{% endfor %}"
)


def detected(template: str) -> ChatFormat:
    return chat_format_of({"tokenizer.chat_template": template, "general.architecture": "test"})


def rendered(chat_format: ChatFormat) -> str:
    segments = chat_format.wrap([Segment("SYSTEM", True)], [Segment("USER", False)])
    return "".join(segment.text for segment in segments)


def test_the_bundled_reader_speaks_chatml() -> None:
    assert chat_format_of(load_vocabulary(reader_path())[1]) is CHATML


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ '<|im_start|>' + message['role'] }}", CHATML),
        ("[INST] <<SYS>>\\n{{ system }}\\n<</SYS>>", LLAMA2),
        ("", PLAIN),
        (" \n", PLAIN),
        ("{{ broken", PLAIN),
        ("{% broken [INST]", MISTRAL),
        ("{{ 1 / 0 }}", PLAIN),
        ("{{ messages.nothing.at.all() }}", PLAIN),
        ("{{ undefined_function(messages) }}", PLAIN),
        ("no turns at all", PLAIN),
    ],
)
def test_a_format_is_found_from_the_template_alone(template: str, expected: ChatFormat) -> None:
    assert detected(template) is expected


def test_no_metadata_means_plain_text() -> None:
    assert chat_format_of({}) is PLAIN


def test_a_template_like_that_of_llama_3_is_read_off() -> None:
    assert rendered(detected(LLAMA3)) == (
        "<|start_header_id|>system<|end_header_id|>\n\nSYSTEM<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nUSER<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_without_a_system_turn_the_system_text_leads_the_users() -> None:
    assert rendered(detected(GEMMA)) == "<start_of_turn>user\nSYSTEM\n\nUSER<end_of_turn>\n<start_of_turn>model\n"


def test_a_template_like_that_of_mistral_gets_the_space_before_its_answer() -> None:
    found = detected(MISTRAL_JINJA)
    assert rendered(found) == "[INST] SYSTEM\n\nUSER [/INST]"
    assert found.answer_prefix == " "


@pytest.mark.parametrize("chat_format", [CHATML, LLAMA2, MISTRAL, PLAIN])
def test_only_markers_are_trusted(chat_format: ChatFormat) -> None:
    segments = chat_format.wrap([Segment("SYSTEM", False)], [Segment("USER", False)])
    assert [segment.text for segment in segments if not segment.trusted] == ["SYSTEM", "USER"]


def test_a_template_cannot_reach_out_of_its_sandbox() -> None:
    assert detected("{{ ''.__class__.__mro__[1].__subclasses__() }}") is PLAIN


@given(texts)
def test_any_template_gives_some_format(template: str) -> None:
    assert isinstance(detected(template), ChatFormat)
