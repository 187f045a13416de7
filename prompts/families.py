"""The prompt formats of the model families, and the models that use them.

Each is the text that the family's own chat template makes of a system and a user message (tests/prompts/templates.py
has those templates and where they are from); Phi-2, Dolly and RedPajama have none, theirs are from the model cards.
"""

from __future__ import annotations

from difflib import get_close_matches

import regex

from fourcorners.errors import SettingsError, shortened
from fourcorners.prompts.chat_format import PLAIN, ChatFormat

CHATML = ChatFormat(
    "chatml",
    "<|im_start|>system\n",
    "<|im_end|>\n<|im_start|>user\n",
    "<|im_end|>\n<|im_start|>assistant\n",
    before_lone_user="<|im_start|>user\n",
    stop=("<|im_end|>", "<|im_start|>", "<|endoftext|>"),
)
LLAMA2 = ChatFormat(
    "llama-2",
    "[INST] <<SYS>>\n",
    "\n<</SYS>>\n\n",
    " [/INST]",
    before_lone_user="[INST] ",
    answer_prefix=" ",
    stop=("</s>", "[INST]"),
    writes_bos=True,
)
LLAMA3 = ChatFormat(
    "llama-3",
    "<|start_header_id|>system<|end_header_id|>\n\n",
    "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n",
    "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    before_lone_user="<|start_header_id|>user<|end_header_id|>\n\n",
    stop=("<|eot_id|>", "<|end_of_text|>", "<|start_header_id|>"),
    writes_bos=True,
)
_MISTRAL_STOP = ("</s>", "[INST]")
MISTRAL = ChatFormat(
    "mistral-v1",
    "",
    "[INST] ",
    " [/INST]",
    answer_prefix=" ",
    stop=_MISTRAL_STOP,
    takes_system=False,
    writes_bos=True,
)
MISTRAL_V3 = ChatFormat(
    "mistral-v3",
    "",
    "[INST] ",
    "[/INST]",
    answer_prefix=" ",
    stop=_MISTRAL_STOP,
    takes_system=False,
    writes_bos=True,
)
MISTRAL_V3_TEKKEN = ChatFormat(
    "mistral-v3-tekken", "", "[INST]", "[/INST]", stop=_MISTRAL_STOP, takes_system=False, writes_bos=True
)
MISTRAL_V7 = ChatFormat(
    "mistral-v7",
    "[SYSTEM_PROMPT] ",
    "[/SYSTEM_PROMPT][INST] ",
    "[/INST]",
    before_lone_user="[INST] ",
    answer_prefix=" ",
    stop=_MISTRAL_STOP,
    writes_bos=True,
)
MISTRAL_V7_TEKKEN = ChatFormat(
    "mistral-v7-tekken",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT][INST]",
    "[/INST]",
    before_lone_user="[INST]",
    stop=_MISTRAL_STOP,
    writes_bos=True,
)
ZEPHYR = ChatFormat(
    "zephyr",
    "<|system|>\n",
    "</s>\n<|user|>\n",
    "</s>\n<|assistant|>\n",
    before_lone_user="<|user|>\n",
    stop=("</s>", "<|user|>", "<|system|>"),
)
PHI2 = ChatFormat(
    "phi-2",
    "",
    "Instruct: ",
    "\nOutput:",
    answer_prefix=" ",
    stop=("<|endoftext|>", "\nInstruct:"),
    takes_system=False,
)
PHI3 = ChatFormat(
    "phi-3",
    "<|system|>\n",
    "<|end|>\n<|user|>\n",
    "<|end|>\n<|assistant|>\n",
    before_lone_user="<|user|>\n",
    stop=("<|end|>", "<|user|>", "<|endoftext|>"),
)
GEMMA = ChatFormat(
    "gemma",
    "",
    "<start_of_turn>user\n",
    "<end_of_turn>\n<start_of_turn>model\n",
    stop=("<end_of_turn>", "<start_of_turn>", "<eos>"),
    takes_system=False,
    writes_bos=True,
)
FALCON = ChatFormat(
    "falcon",
    "",
    "\n\nUser: ",
    "\n\nAssistant:",
    before_lone_user="\n\nUser: ",
    answer_prefix=" ",
    stop=("\nUser:", "<|endoftext|>"),
)
DOLLY = ChatFormat(
    "dolly",
    "",
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n",
    "\n\n### Response:\n",
    stop=("### End", "### Instruction:", "<|endoftext|>"),
    takes_system=False,
)
REDPAJAMA = ChatFormat(
    "redpajama",
    "",
    "<human>: ",
    "\n<bot>:",
    answer_prefix=" ",
    stop=("\n<human>", "<|endoftext|>"),
    takes_system=False,
)
REDPAJAMA_INSTRUCT = ChatFormat(
    "redpajama-instruct", "", "Q: ", "\nA:", answer_prefix=" ", stop=("\nQ:", "<|endoftext|>"), takes_system=False
)

FORMATS: dict[str, ChatFormat] = {
    one.name: one
    for one in (
        CHATML, LLAMA2, LLAMA3, MISTRAL, MISTRAL_V3, MISTRAL_V3_TEKKEN, MISTRAL_V7, MISTRAL_V7_TEKKEN,
        ZEPHYR, PHI2, PHI3, GEMMA, FALCON, DOLLY, REDPAJAMA, REDPAJAMA_INSTRUCT, PLAIN,
    )
}  # fmt: skip
"""By name, as ``prompt_format=`` takes it."""

ALIASES = {
    "qwen": "chatml",
    "smollm": "chatml",
    "smollm2": "chatml",
    "llama2": "llama-2",
    "llama3": "llama-3",
    "mistral": "mistral-v1",
    "tinyllama": "zephyr",
    "phi2": "phi-2",
    "phi3": "phi-3",
    "none": "plain",
}

_MODELS: tuple[tuple[str, ChatFormat], ...] = (
    (r"tiny-?llama.*chat-v(?:1|0\.[6-9])|zephyr-(?:7b|orpo)", ZEPHYR),
    (r"(?:code)?llama-?2.*chat|code-?llama.*instruct", LLAMA2),
    (r"llama-?3.*instruct", LLAMA3),
    (r"mistral-nemo.*instruct|ministral.*2410", MISTRAL_V3_TEKKEN),
    (r"mistral-large.*2411", MISTRAL_V7),
    (r"mistral-small.*(?:2501|2503|2506)", MISTRAL_V7_TEKKEN),
    (r"mistral-7b-instruct-v0\.3|mixtral-8x22b-instruct|mistral-large.*2407|mistral-small.*2409", MISTRAL_V3),
    (r"mistral-7b-instruct|mixtral-8x7b-instruct", MISTRAL),
    (r"gemma-?(?:1\.1|[23]n?)?-(?:e?\d+b|270m)-it\b", GEMMA),
    (r"^phi-?2\b", PHI2),
    (r"phi-?3(?:\.5)?-(?:mini|small|medium).*instruct", PHI3),
    (r"falcon-(?:7b|40b)-instruct", FALCON),
    (r"^dolly-v[12]", DOLLY),
    (r"redpajama.*chat", REDPAJAMA),
    (r"redpajama.*instruct", REDPAJAMA_INSTRUCT),
    (r"smollm2?-.*instruct|qwen(?:1\.5|2|2\.5)?-.*(?:chat|instruct)|qwen3-(?!.*base)|chatml|openhermes", CHATML),
)
"""What a model's id (``ORG/MODEL``) or GGUF's name says, the first that fits. What is not sure is not here."""


def format_named(name: str) -> ChatFormat:
    """The format of this name or alias. Raises SettingsError naming those there are."""
    key = name.strip().lower().replace("_", "-") if isinstance(name, str) else ""
    found = FORMATS.get(ALIASES.get(key, key))
    if found is None:
        near = get_close_matches(key, [*FORMATS, *ALIASES], n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise SettingsError(f"unknown prompt_format={shortened(name)}: {hint}There are {', '.join(FORMATS)}")
    return found


def format_of_id(model_id: str) -> ChatFormat | None:
    """The format that a model of this id is known to use, None where the id alone does not tell (a base model too)."""
    name = regex.sub(r"[\s_]+", "-", model_id.strip().rstrip("/").lower().rsplit("/", 1)[-1])
    return next((chosen for pattern, chosen in _MODELS if regex.search(pattern, name)), None)
