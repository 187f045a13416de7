"""Chat templates of the families that we know, as their GGUFs carry them (shortened), and the markers of each."""

from __future__ import annotations

from dataclasses import dataclass

from fourcorners.llms.run import _segments
from fourcorners.prompts.chat_format import PLAIN, ChatFormat
from fourcorners.prompts.contract import Segment, load_contract
from fourcorners.prompts.from_template import format_from_template
from tests.support import evidence_of

_REFUSES_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"


@dataclass(frozen=True)
class Family:
    """``markers`` are what opens and closes its turns; ``vocabulary`` a file of scripts/fetch_vocabularies.py."""

    template: str
    markers: tuple[str, ...]
    vocabulary: str = ""

    @property
    def format(self) -> ChatFormat:
        return format_from_template(self.template) if self.template else PLAIN


def _turns(before: str, after: str, opening: str, *, lead: str = "") -> str:
    """A template that puts ``before`` (with the role in it) and ``after`` around each message."""
    return (
        f"{lead}{{% for m in messages %}}{before.replace('ROLE', '{{ m.role }}')}{{{{ m.content }}}}{after}"
        f"{{% endfor %}}{opening}"
    )


def _roles(system: str, user: str, closing: str, opening: str) -> str:
    return (
        f"{{% for m in messages %}}{{% if m.role == 'system' %}}{system}{{% else %}}{user}{{% endif %}}"
        f"{{{{ m.content }}}}{closing}{{% endfor %}}{opening}"
    )


FAMILIES = {
    "chatml": Family(
        _turns("<|im_start|>ROLE\n", "<|im_end|>\n", "<|im_start|>assistant\n"), ("<|im_start|>", "<|im_end|>"), "qwen2"
    ),
    "llama-2": Family(
        "{% for m in messages %}{% if m.role == 'system' %}<<SYS>>{{ m.content }}<</SYS>>"
        "{% else %}[INST] {{ m.content }} [/INST]{% endif %}{% endfor %}",
        ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"),
        "llama-spm",
    ),
    "llama-3": Family(
        _turns(
            "<|start_header_id|>ROLE<|end_header_id|>\n\n",
            "<|eot_id|>",
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "llama-bpe",
    ),
    "mistral": Family(_REFUSES_SYSTEM + _turns("[INST] ", " [/INST]", ""), ("[INST]", "[/INST]"), "llama-spm"),
    "mistral-v7": Family(
        _roles("[SYSTEM_PROMPT]", "[INST]", "", "").replace(
            "{{ m.content }}",
            "{{ m.content }}{% if m.role == 'system' %}[/SYSTEM_PROMPT]{% else %}[/INST]{% endif %}",
        ),
        ("[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[INST]", "[/INST]"),
    ),
    "gemma": Family(
        _REFUSES_SYSTEM + _turns("<start_of_turn>ROLE\n", "<end_of_turn>\n", "<start_of_turn>model\n"),
        ("<start_of_turn>", "<end_of_turn>"),
    ),
    "gemma-4": Family(
        _turns("<|turn>ROLE\n", "<turn|>\n", "<|turn>model\n"),
        ("<|turn>", "<turn|>"),
        "gemma-4",
    ),
    "phi-3": Family(
        _turns("<|ROLE|>\n", "<|end|>\n", "<|assistant|>\n"),
        ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        "phi-3",
    ),
    "command-r": Family(
        _roles(
            "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>",
            "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>",
            "<|END_OF_TURN_TOKEN|>",
            "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
        ),
        ("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>"),
        "command-r",
    ),
    "deepseek": Family(
        _roles("", "<｜User｜>", "", "<｜Assistant｜>"), ("<｜User｜>", "<｜Assistant｜>"), "deepseek-llm"
    ),
    "deepseek-coder": Family(
        _roles("", "### Instruction:\n", "\n", "### Response:\n"),
        ("### Instruction:", "### Response:"),
        "deepseek-coder",
    ),
    "zephyr": Family(
        _turns("<|ROLE|>\n", "</s>\n", "<|assistant|>\n"),
        ("<|system|>", "<|user|>", "<|assistant|>", "</s>"),
        "llama-spm",
    ),
    "vicuna": Family(_roles("", "USER: ", " ", "ASSISTANT:"), ("USER:", "ASSISTANT:"), "llama-spm"),
    "alpaca": Family(
        _roles("", "### Instruction:\n", "\n\n", "### Response:\n"), ("### Instruction:", "### Response:"), "llama-spm"
    ),
    "gpt-oss": Family(
        _turns("<|start|>ROLE<|message|>", "<|end|>", "<|start|>assistant<|channel|>final<|message|>"),
        ("<|start|>", "<|message|>", "<|end|>", "<|channel|>"),
    ),
    "granite": Family(
        _turns(
            "<|start_of_role|>ROLE<|end_of_role|>",
            "<|end_of_text|>\n",
            "<|start_of_role|>assistant<|end_of_role|>",
        ),
        ("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"),
    ),
    "falcon": Family(_roles("", "User: ", "\n\n", "Falcon:"), ("User:", "Falcon:"), "falcon"),
    "solar": Family(
        _roles("### System:\n", "### User:\n", "\n\n", "### Assistant:\n"),
        ("### System:", "### User:", "### Assistant:"),
        "llama-spm",
    ),
    "openchat": Family(
        _REFUSES_SYSTEM + _turns("GPT4 Correct User: ", "<|end_of_turn|>", "GPT4 Correct Assistant:"),
        ("GPT4 Correct User:", "<|end_of_turn|>", "GPT4 Correct Assistant:"),
        "llama-spm",
    ),
    "exaone": Family(
        _turns("[|ROLE|]", "[|endofturn|]\n", "[|assistant|]"), ("[|user|]", "[|endofturn|]", "[|assistant|]"), "gpt-2"
    ),
    "plain": Family("", ("\n\nAnswer:",), "gpt-2"),
}


def prompt_of(family: Family, question: str, document: str) -> list[Segment]:
    """The segments of the prompt as the engine's are made."""
    contract = load_contract("verbatim_sentence")
    return _segments(contract, evidence_of(question, [document]), [document], family.format)
