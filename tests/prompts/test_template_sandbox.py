"""A chat template comes with a model file that anybody may have made: it runs, and can do nothing."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from fourcorners.prompts.template_sandbox import MAX_TEMPLATE_CHARS, MAX_TEXT_CHARS, TemplateFault, render

ASK = [{"role": "user", "content": "Who?"}]


def outcome(template: str) -> str:
    """What it renders to, or why it does not."""
    try:
        (text,) = render(template, [ASK])
    except TemplateFault as fault:
        return f"fault: {fault}"
    return text if isinstance(text, str) else f"fault: {text}"


def test_templates_have_what_the_transformers_library_gives_them() -> None:
    template = (
        "{% for m in messages %}\n{% if m.role != 'user' %}{% continue %}{% endif %}\n"
        "{% generation %}{{ bos_token }}{{ m | tojson }}{{ eos_token }}{% endgeneration %}\n{% endfor %}"
        "{{ strftime_now('%Y') | length }}{{ add_generation_prompt }}"
    )
    (text,) = render(template, [[{"role": "system", "content": "é"}, *ASK]], bos="<s>", eos="</s>")
    assert text == '<s>{"role": "user", "content": "Who?"}</s>4True'


def test_a_conversation_that_a_template_refuses_does_not_spoil_the_others() -> None:
    template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}{{ messages[0].content }}"
    )
    refused, text = render(template, [[{"role": "system", "content": "x"}], ASK])
    assert isinstance(refused, TemplateFault)
    assert "no system" in str(refused)
    assert text == "Who?"


REACHING = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.popen('touch PWNED').read() }}",
    "{{ messages.__class__.__base__.__subclasses__() }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ raise_exception.__globals__ }}",
    "{{ strftime_now.__globals__ }}",
    "{{ (messages | map(attribute='__class__') | first).__mro__ }}",
    "{{ (''|attr('__class__')).__mro__ }}",
    "{{ '{0.__class__.__mro__}'.format(messages) }}",
    "{{ '{m.__class__.__mro__}'.format_map({'m': messages}) }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context.environment.loader.x }}",
    "{% include '/etc/passwd' %}",
    "{% import '/etc/passwd' as x %}",
    "{% extends '/etc/passwd' %}",
    "{{ messages.append(1) }}",
    "{{ messages[0].update({'content': 'PWNED'}) }}",
    "{{ open('/etc/passwd').read() }}",
    "{{ __import__('os').system('touch PWNED') }}",
    "{{ url_for.__globals__ }}",
    "{{ lipsum.__globals__.os }}",
]


@pytest.mark.parametrize("template", REACHING)
def test_nothing_outside_can_be_reached(template: str) -> None:
    text = outcome(template)
    assert text.startswith("fault: ") or not text.strip(), text
    assert "root:" not in text
    assert not list(Path.cwd().iterdir())


EATING = [
    "{{ 'a' * 10**10 }}",
    "{{ [0] * 10**10 }}",
    "{{ 'a' | center(10**10) }}",
    "{{ '%10000000000d' % 1 }}",
    "{{ '{:10000000000}'.format(1) }}",
    "{{ 'a'.ljust(10**10) }}",
    "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}",
    "{% for a in range(9999) %}{% for b in range(9999) %}{% set c = 1 %}{% endfor %}{% endfor %}",
    "{% for a in range(9999) %}{% for b in range(9999) %}" + "PWNED" * 100 + "{% endfor %}{% endfor %}",
    "{{ 7 ** (7 ** 9) }}",
    "{% macro f(x) %}{{ f(x) }}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}",
    "{{ 1" + " + 1" * 20_000 + " }}",
    "{{ " + "not " * 20_000 + "1 }}",
    "{% if 1 %}" * 5_000 + "{% endif %}" * 5_000,
    "{{ 'a' | replace('', 'a' * 9999) | replace('a', 'a' * 9999) | replace('a', 'a' * 9999) | length }}",
    "{{ messages | tojson(indent=10**10) }}",
    "{{ range(99999) | map('string') | join('a' * 99999) | length }}",
    "x" * (MAX_TEXT_CHARS + 1),
    "x" * (MAX_TEMPLATE_CHARS + 1),
]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit a process's memory")
@pytest.mark.parametrize("template", EATING, ids=lambda template: template[:40])
def test_a_greedy_template_is_stopped(template: str) -> None:
    before = time.monotonic()
    text = outcome(template)
    assert text.startswith("fault: ")
    assert time.monotonic() - before < 20
    assert len(text) < 400
    assert "Traceback" not in text


def test_the_reason_says_what_is_too_much() -> None:
    assert outcome("{{ 'a' * 10**10 }}") == "fault: it takes more memory than a template is given"
    assert outcome("{{ " + "(" * 20_000) == "fault: it is nested too deeply"
    assert outcome("x" * 60_000) == f"fault: it writes more than {MAX_TEXT_CHARS} characters"
    assert "100001 characters" in outcome("x" * 100_001)
    assert "TemplateSyntaxError" in outcome("{{ broken")


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for the interpreter is a shell script")
def test_a_template_sees_no_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, script = Path.cwd() / "seen", Path.cwd() / "python"
    script.write_text(f'#!/bin/sh\nenv > {seen}\nexec {sys.executable} "$@"\n')
    script.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert outcome("{{ 1 + 1 }}") == "2"
    assert "HF_TOKEN" not in seen.read_text()


def test_without_an_interpreter_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "")
    assert "no Python interpreter" in outcome("{{ 1 }}")
    monkeypatch.setattr(sys, "executable", os.fspath(Path.cwd() / "missing"))
    assert "no process could be started" in outcome("{{ 1 }}")
