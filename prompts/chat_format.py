"""How a model family wants its turns marked, found from the GGUF's own metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import regex
from jinja2.sandbox import ImmutableSandboxedEnvironment

from fourcorners.prompts.contract import Segment

_SYSTEM_MARK, _USER_MARK = "\x01system\x01", "\x01user\x01"
_MARKERS = regex.compile(r"<<[^<>\n]+>>|<[^<>\n]+>|\[[^\[\]\n]+\]|##+ ?[^\n#]+|[\p{L}]+:(?=\s*\Z)")
"""What in the text around a turn a model may take for its border: <…>, […], ### … and a role with its colon."""
SPEAKERS = ("\nUser:", "\nHuman:", "\nQuestion:")
"""How a model without turn tokens begins to speak for somebody else."""


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """Turn markers around the system and the user text. ``answer_prefix`` is what the model writes before its answer.

    ``takes_system`` is False for formats without a system turn: then the system text leads the user's.
    """

    name: str
    before_system: str
    before_user: str
    before_answer: str
    answer_prefix: str = ""
    stop: tuple[str, ...] = ()
    takes_system: bool = True

    def wrap(self, system: Sequence[Segment], user: Sequence[Segment]) -> list[Segment]:
        """The whole prompt: trusted markers around the given segments."""
        if not self.takes_system:
            gap = [Segment("\n\n", trusted=True)] if system else []
            return [_marker(self.before_user), *system, *gap, *user, _marker(self.before_answer)]
        markers = (_marker(self.before_system), _marker(self.before_user), _marker(self.before_answer))
        return [markers[0], *system, markers[1], *user, markers[2]]

    def as_data(self, text: str) -> str:
        """``text`` as the model is shown it: a space in everything that reads like a marker of this format.

        Not every marker is a control token: to the vocabulary of Llama 2 ``[/INST]`` is text like any other.
        """
        pattern = _marker_pattern(self.before_system, self.before_user, self.before_answer)
        return pattern.sub(lambda match: f"{match[0][:-1]} {match[0][-1]}", text) if pattern else text

    def guarded(self, segments: Sequence[Segment]) -> list[Segment]:
        """``segments`` with the untrusted ones as data."""
        return [s if s.trusted else Segment(self.as_data(s.text), trusted=False) for s in segments]


CHATML = ChatFormat(
    "chatml",
    "<|im_start|>system\n",
    "<|im_end|>\n<|im_start|>user\n",
    "<|im_end|>\n<|im_start|>assistant\n",
    stop=("<|im_end|>",),
)
LLAMA2 = ChatFormat("llama-2", "[INST] <<SYS>>\n", "\n<</SYS>>\n\n", " [/INST]", answer_prefix=" ")
MISTRAL = ChatFormat("mistral", "", "[INST] ", " [/INST]", answer_prefix=" ", takes_system=False)
PLAIN = ChatFormat("plain", "", "\n\n", "\n\nAnswer:", answer_prefix=" ")


def chat_format_of(metadata: Mapping[str, str]) -> ChatFormat:
    """The format for a GGUF with this ``metadata`` (``tokenizer.chat_template``); PLAIN where it names none."""
    template = metadata.get("tokenizer.chat_template", "")
    if not template.strip():
        return PLAIN
    if "<|im_start|>" in template:
        return CHATML
    if "<<SYS>>" in template:
        return LLAMA2
    return _from_template(template, metadata) or (MISTRAL if "[INST]" in template else PLAIN)


def _from_template(template: str, metadata: Mapping[str, str]) -> ChatFormat | None:
    """Any other template: render it around marks and read off what stands between them."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    for takes_system in (True, False):
        messages = [{"role": "system", "content": _SYSTEM_MARK}] if takes_system else []
        messages.append({"role": "user", "content": _USER_MARK})
        try:
            text = environment.from_string(template).render(
                messages=messages, add_generation_prompt=True, bos_token="", eos_token="", raise_exception=_refuse
            )
        except Exception:  # somebody else's program: whatever it raises, it can't be used
            continue
        if text.count(_USER_MARK) != 1 or (takes_system and text.count(_SYSTEM_MARK) != 1):
            continue
        before, _, after = text.partition(_USER_MARK)
        lead, _, middle = before.partition(_SYSTEM_MARK) if takes_system else ("", "", before)
        name = metadata.get("general.architecture", "template")
        spaced = " " if after.endswith("[/INST]") else ""
        return ChatFormat(name, lead, middle, after, answer_prefix=spaced, takes_system=takes_system)
    return None


def _refuse(message: str) -> None:
    raise ValueError(message)


@cache
def _marker_pattern(*around: str) -> regex.Pattern[str] | None:
    found = {match[0].strip() for text in around for match in _MARKERS.finditer(text)}
    return regex.compile("|".join(map(regex.escape, sorted(found, key=len, reverse=True)))) if found else None


def _marker(text: str) -> Segment:
    return Segment(text, trusted=True)
