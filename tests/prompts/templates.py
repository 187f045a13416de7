"""Chat templates of public models, as their tokenizer_config.json has them, and where they can be read.

Those with tools are shortened to what they do for a conversation without; their whole texts are in the slow tests.
"""

from __future__ import annotations

from dataclasses import dataclass

LLAMA_CPP = "llama.cpp, tests/test-chat-template.cpp"
_ALTERNATE = "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}"


@dataclass(frozen=True)
class Published:
    """``format`` is what it should be taken for; ``bos`` and ``eos`` the model's tokens."""

    model: str
    source: str
    format: str
    template: str
    bos: str = ""
    eos: str = ""
    default_system: bool = False
    """Whether the template adds a system text of its own where there is none."""


PUBLISHED = [
    Published(
        "teknium/OpenHermes-2.5-Mistral-7B",
        LLAMA_CPP,
        "chatml",
        r"{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
        r"'\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        eos="<|im_end|>",
    ),
    Published(
        "HuggingFaceTB/SmolLM2-360M-Instruct",
        "its tokenizer_config.json",
        "chatml",
        r"{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
        r"You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
        r"{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
        r"{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        bos="<|im_start|>",
        eos="<|im_end|>",
        default_system=True,
    ),
    Published(
        "meta-llama/Llama-2-7b-chat-hf",
        "chujiezheng/chat_templates, chat_templates/llama-2-chat.jinja (indentation removed)",
        "llama-2",
        r"{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
        r"{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
        r"{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
        r"{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}" + _ALTERNATE + r"{% endif %}"
        r"{% if loop.index0 == 0 and system_message != false %}"
        r"{% set content = '<<SYS>>\n' + system_message + '\n<</SYS>>\n\n' + message['content'] %}"
        r"{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}"
        r"{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
        r"{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
        bos="<s>",
        eos="</s>",
    ),
    Published(
        "meta-llama/Meta-Llama-3-8B-Instruct",
        LLAMA_CPP,
        "llama-3",
        r"{% set loop_messages = messages %}{% for message in loop_messages %}"
        r"{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] "
        r"| trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
        r"{{ content }}{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}",
        bos="<|begin_of_text|>",
        eos="<|eot_id|>",
    ),
    Published(
        "mistralai/Mistral-7B-Instruct-v0.2 (first version)",
        LLAMA_CPP,
        "mistral-v1",
        r"{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        + _ALTERNATE
        + r"{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
        r"{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}{% else %}"
        r"{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}",
        bos="<s>",
        eos="</s>",
    ),
    Published(
        "mistralai/Mistral-7B-Instruct-v0.2",
        LLAMA_CPP + ", 'v1' (shortened)",
        "mistral-v1",
        r"{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content'] %}"
        r"{%- set loop_messages = messages[1:] %}{%- else %}{%- set loop_messages = messages %}{%- endif %}"
        r"{{- bos_token }}{%- for message in loop_messages %}{%- if message['role'] == 'user' %}"
        r"{%- if loop.first and system_message is defined %}"
        r"{{- ' [INST] ' + system_message + '\n\n' + message['content'] + ' [/INST]' }}{%- else %}"
        r"{{- ' [INST] ' + message['content'] + ' [/INST]' }}{%- endif %}{%- else %}"
        r"{{- ' ' + message['content'] + eos_token}}{%- endif %}{%- endfor %}",
        bos="<s>",
        eos="</s>",
    ),
    Published(
        "mistralai/Mistral-Large-Instruct-2407",
        LLAMA_CPP + ", 'v3' (shortened)",
        "mistral-v3",
        r"{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content'] %}"
        r"{%- set loop_messages = messages[1:] %}{%- else %}{%- set loop_messages = messages %}{%- endif %}"
        r"{{- bos_token }}{%- for message in loop_messages %}{%- if message['role'] == 'user' %}"
        r"{%- if loop.last and system_message is defined %}"
        r"{{- '[INST] ' + system_message + '\n\n' + message['content'] + '[/INST]' }}{%- else %}"
        r"{{- '[INST] ' + message['content'] + '[/INST]' }}{%- endif %}{%- else %}"
        r"{{- ' ' + message['content']|trim + eos_token}}{%- endif %}{%- endfor %}",
        bos="<s>",
        eos="</s>",
    ),
    Published(
        "mistralai/Mistral-Nemo-Instruct-2407",
        LLAMA_CPP + ", 'v3-tekken' (shortened)",
        "mistral-v3-tekken",
        r"{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content'] %}"
        r"{%- set loop_messages = messages[1:] %}{%- else %}{%- set loop_messages = messages %}{%- endif %}"
        r"{{- bos_token }}{%- for message in loop_messages %}{%- if message['role'] == 'user' %}"
        r"{%- if loop.last and system_message is defined %}"
        r"{{- '[INST]' + system_message + '\n\n' + message['content'] + '[/INST]' }}{%- else %}"
        r"{{- '[INST]' + message['content'] + '[/INST]' }}{%- endif %}{%- else %}"
        r"{{- message['content'] + eos_token}}{%- endif %}{%- endfor %}",
        bos="<s>",
        eos="</s>",
    ),
    Published(
        "mistralai/Mistral-Large-Instruct-2411",
        LLAMA_CPP + ", 'v7'",
        "mistral-v7",
        r"{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
        r"{{ '[INST] ' + message['content'] + '[/INST]' }}{% elif message['role'] == 'system' %}"
        r"{{ '[SYSTEM_PROMPT] ' + message['content'] + '[/SYSTEM_PROMPT]' }}{% elif message['role'] == 'assistant' %}"
        r"{{ ' ' + message['content'] + eos_token }}{% else %}"
        r"{{ raise_exception('Only user, system and assistant roles are supported!') }}{% endif %}{% endfor %}",
        bos="<s>",
        eos="</s>",
    ),
    Published(
        "HuggingFaceH4/zephyr-7b-beta, TinyLlama/TinyLlama-1.1B-Chat-v1.0",
        "their tokenizer_config.json; huggingface/alignment-handbook, DEFAULT_CHAT_TEMPLATE",
        "zephyr",
        "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
        r"{{ '<|user|>\n' + message['content'] + eos_token }}"
        "\n{% elif message['role'] == 'system' %}\n"
        r"{{ '<|system|>\n' + message['content'] + eos_token }}"
        "\n{% elif message['role'] == 'assistant' %}\n"
        r"{{ '<|assistant|>\n'  + message['content'] + eos_token }}"
        "\n{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}",
        bos="<s>",
        eos="</s>",
    ),
    Published(
        "microsoft/Phi-3-small-8k-instruct",
        LLAMA_CPP,
        "phi-3",
        r"{{ bos_token }}{% for message in messages %}{{'<|' + message['role'] + '|>' + '\n' + message['content'] + "
        r"'<|end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}"
        r"{% endif %}",
        bos="<|endoftext|>",
        eos="<|endoftext|>",
    ),
    Published(
        "microsoft/Phi-3.5-mini-instruct",
        "llama.cpp, models/templates/microsoft-Phi-3.5-mini-instruct.jinja",
        "phi-3",
        r"{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}"
        r"{{'<|system|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'user' %}"
        r"{{'<|user|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'assistant' %}"
        r"{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}{% endfor %}"
        r"{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}",
        bos="<s>",
        eos="<|endoftext|>",
    ),
    Published(
        "google/gemma-2-2b-it",
        "llama.cpp, models/templates/google-gemma-2-2b-it.jinja",
        "gemma",
        r"{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
        r"{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        + _ALTERNATE
        + r"{% endif %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}"
        r"{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + "
        r"'<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}",
        bos="<bos>",
        eos="<eos>",
    ),
    Published(
        "tiiuae/falcon-7b-instruct",
        "openvino.genai, chat_template_fallback_map.hpp",
        "falcon",
        r"{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
        r"{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
        r"{% set system_message = '' %}{% endif %}{% for message in loop_messages %}"
        r"{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}" + _ALTERNATE + r"{% endif %}"
        r"{% if loop.index0 == 0 %}{{ system_message.strip() }}{% endif %}{% if message['role'] == 'user' %}"
        r"{{ '\n\nUser: ' + message['content'].strip().replace('\r\n', '\n').replace('\n\n', '\n') }}"
        r"{% elif message['role'] == 'assistant' %}"
        r"{{ '\n\nAssistant: ' + message['content'].strip().replace('\r\n', '\n').replace('\n\n', '\n') }}{% endif %}"
        r"{% endfor %}{% if add_generation_prompt %}{{ '\n\nAssistant:' }}{% endif %}",
        eos="<|endoftext|>",
    ),
]

PHI_4 = (
    r"{% for message in messages %}{% if (message['role'] == 'system') %}{{'<|im_start|>system<|im_sep|>' + "
    r"message['content'] + '<|im_end|>'}}{% elif (message['role'] == 'user') %}{{'<|im_start|>user<|im_sep|>' + "
    r"message['content'] + '<|im_end|><|im_start|>assistant<|im_sep|>'}}{% elif (message['role'] == 'assistant') %}"
    r"{{message['content'] + '<|im_end|>'}}{% endif %}{% endfor %}"
)
"""microsoft/phi-4, from llama.cpp's tests: it has ChatML's tokens, and is no ChatML."""
PHI_3_MINI = (
    r"{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') %}{{'<|user|>' + '\n' + "
    r"message['content'] + '<|end|>' + '\n' + '<|assistant|>' + '\n'}}{% elif (message['role'] == 'assistant') %}"
    r"{{message['content'] + '<|end|>' + '\n'}}{% endif %}{% endfor %}"
)
"""microsoft/Phi-3-mini-4k-instruct (first version), from llama.cpp's tests: it leaves the system message out."""
DEEPSEEK_V2 = (
    r"{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{{ bos_token }}"
    r"{% for message in messages %}{% if message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\n\n' }}"
    r"{% elif message['role'] == 'assistant' %}{{ 'Assistant: ' + message['content'] + eos_token }}"
    r"{% elif message['role'] == 'system' %}{{ message['content'] + '\n\n' }}{% endif %}{% endfor %}"
    r"{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
"""deepseek-ai/DeepSeek-V2, from llama.cpp's tests."""
