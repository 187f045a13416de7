"""How our server and its peers are started: each with its best sensible settings, all on the same GGUF and threads."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PEERS = Path(__file__).resolve().parent / "peers"
MODELS = Path(__file__).resolve().parent.parent / ".cache" / "models"
"""Where the random models are kept."""
OURS = "fourcorners"
OURS_IN_PROCESS = "fourcorners in-process"
SERIAL = "langchain-community serial"
CONTEXT_TOKENS = 16_384
"""Room for 16 contexts of 700 tokens with their questions and answers."""


@dataclass(frozen=True, slots=True)
class Server:
    """``command`` with ``{model}``, ``{port}`` and ``{config}`` to fill in. Without ``health`` it talks over pipes."""

    name: str
    command: tuple[str, ...]
    version: str = ""
    health: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What its requests carry beside the common fields."""
    workloads: tuple[str, ...] = ()
    """Empty: all."""
    config: Mapping[str, Any] | None = None
    """Written to the file ``{config}``."""
    note: str = ""
    missing: str = ""
    """Why it can't be started here; empty if it can."""

    def told(self) -> str:
        """The settings as the report shows them, without the places of this machine."""
        words = [Path(word).name if "/" in word else word for word in self.command]
        lines = [f"`{shlex.join(words)}`"]
        if self.config is not None:
            lines.append(f"config `{json.dumps(self.config)}`")
        if self.extra:
            lines.append(f"requests carry `{_short(json.dumps(self.extra))}`")
        return "; ".join([*lines, *([self.note] if self.note else [])])


def available_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def known_servers(
    end_tokens: Sequence[int], threads: int, peer_python: str = sys.executable, example: Path | None = None
) -> list[Server]:
    """All of them, ours first. ``end_tokens`` are biased away where a peer knows no ``ignore_eos``."""
    no_end = {"logit_bias": {str(token): -100.0 for token in end_tokens}}
    return [
        *_ours(threads),
        *_llama_servers(threads),
        _xllamacpp(threads, peer_python),
        _python_server(threads, peer_python, no_end),
        _example_server(threads, peer_python, no_end, example),
        _serial(threads, peer_python),
    ]


def _ours(threads: int) -> list[Server]:
    serve = (sys.executable, "-m", "fourcorners", "serve", "--raw", "--llm", "llama_cpp:{model}", "--port", "{port}")
    script = (sys.executable, str(PEERS / "in_process.py"), "fourcorners", "{model}", str(threads))
    return [
        Server(OURS, serve, health="/health"),
        Server(
            OURS_IN_PROCESS,
            script,
            workloads=("W1",),
            note="`llm.stream`, which puts the prompt into the model's chat format: its answers are others",
        ),
    ]


def _llama_servers(threads: int) -> list[Server]:
    path = shutil.which("llama-server")
    version = _said([path, "--version"]).partition("\n")[0].removeprefix("version: ") if path else ""
    room = ("-c", str(CONTEXT_TOKENS))
    kinds: dict[str, tuple[str, ...]] = {
        "llama-server": (),
        "llama-server 8 slots": ("-np", "8", "--kv-unified", *room),
        "llama-server 16 slots": ("-np", "16", "--kv-unified", *room),
        "llama-server 8 split slots": ("-np", "8", "--no-kv-unified", *room),
    }
    common = (path or "llama-server", "-m", "{model}", "--port", "{port}", "-t", str(threads))
    return [
        Server(
            name,
            common + flags,
            version=version,
            health="/health",
            extra={"top_k": 1},
            note="" if flags else "as it comes: slots, window, flash attention and prompt cache are its own choice",
            missing="" if path else "llama-server is not on PATH",
        )
        for name, flags in kinds.items()
    ]


def _xllamacpp(threads: int, python: str) -> Server:
    version = _package(python, "xllamacpp")
    script = (python, str(PEERS / "xllamacpp_server.py"), "{model}", "{port}", str(threads), "8", str(CONTEXT_TOKENS))
    return Server(
        "xllamacpp 8 slots",
        script,
        version=version,
        health="/health",
        extra={"top_k": 1},
        note="unified KV",
        missing="" if version else "xllamacpp is not installed",
    )


def _python_server(threads: int, python: str, no_end: Mapping[str, Any]) -> Server:
    version = _package(python, "llama_cpp_python", "llama_cpp.server", "starlette_context", "sse_starlette")
    settings = {
        "model": "{model}",
        "port": "{port}",
        "n_ctx": "4096",
        "n_batch": "512",
        "n_threads": str(threads),
        "n_threads_batch": str(threads),
        "flash_attn": "True",
        "logits_all": "False",
        "interrupt_requests": "False",
        "verbose": "False",
    }
    flags = [word for name, value in settings.items() for word in (f"--{name}", value)]
    return Server(
        "llama-cpp-python server",
        (python, "-m", "llama_cpp.server", *flags),
        version=version,
        health="/v1/models",
        extra={"top_k": 1, "top_p": 1.0, "repeat_penalty": 1.0, **no_end},
        note="one request at a time; it tells no token counts",
        missing="" if version else "llama-cpp-python[server] is not installed",
    )


def _example_server(threads: int, python: str, no_end: Mapping[str, Any], script: Path | None) -> Server:
    version = _package(python, "llama_cpp_python", "openai", "jinja2", "safetensors", "websockets", "fastapi")
    missing = "" if version else "openai, jinja2, safetensors or websockets is not installed"
    config = {
        "server": {"port": "{port}"},
        "model": {
            "path": "{model}",
            "alias": "model",
            "n_ctx": CONTEXT_TOKENS,
            "n_seq_max": 64,
            "n_batch": 512,
            "n_ubatch": 512,
            "threads": threads,
            "threads_batch": threads,
            "kv_unified": True,
            "flash_attn": True,
            "store_logits": False,
        },
    }
    return Server(
        "llama-cpp-python example",
        (python, str(script or "server.py"), "-C", "{config}"),
        version=version,
        health="/healthz",
        extra=no_end,
        config=config,
        note="examples/server/server.py of its source archive, which batches; it tells no token counts, and text "
        "after bytes that are not UTF-8 is lost",
        missing=missing if script else "no path given (--example-server)",
    )


def _serial(threads: int, python: str) -> Server:
    version = _package(python, "langchain_community", "llama_cpp")
    return Server(
        SERIAL,
        (python, str(PEERS / "in_process.py"), "langchain-community", "{model}", str(threads)),
        version=version,
        workloads=("W1", "W2"),
        note="n_ctx=4096, n_batch=512, f16_kv, flash_attn, rope as the GGUF says, temperature=0, top_k=1, end tokens "
        "biased away; one request at a time, since two that overlap end the process",
        missing="" if version else "langchain-community or llama-cpp-python is not installed",
    )


def _package(python: str, distribution: str, *modules: str) -> str:
    """The version of ``distribution`` in the interpreter ``python``; empty where it or one of ``modules`` lacks."""
    check = (
        "import importlib.metadata, importlib.util, sys\n"
        "assert all(importlib.util.find_spec(name) for name in sys.argv[2:])\n"
        "print(importlib.metadata.version(sys.argv[1]))"
    )
    return _said([python, "-c", check, distribution, *modules])


def _said(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout or done.stderr).strip() if done.returncode == 0 else ""


def _short(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:117]}…"
