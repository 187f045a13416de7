"""Real servers of other makers, with a small model, each in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WINDOW_TOKENS = 4_096
_XLLAMACPP = """
import sys, time, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel, params.warmup = sys.argv[1], int(sys.argv[3]), 2, False
params.hostnames, params.port = ["127.0.0.1"], int(sys.argv[2])
params.cpuparams.n_threads = 1
server = xllamacpp.Server(params)
while True:
    time.sleep(1)
"""


@contextmanager
def llama_cpp_python(model: Path, folder: Path) -> Iterator[str]:
    """``python -m llama_cpp.server``; its URL."""
    port = _free_port()
    options = ["--model", str(model), "--port", str(port), "--n_ctx", str(WINDOW_TOKENS), "--n_threads", "1"]
    # The bundled llama-cpp-python ends a stream for the next request unless it is told not to.
    options += ["--interrupt_requests", "false"]
    with _running([sys.executable, "-m", "llama_cpp.server", *options], port, folder, "/v1/models") as url:
        yield url


@contextmanager
def llama_server(model: Path, folder: Path) -> Iterator[str]:
    """llama.cpp's own server, as xllamacpp has it built in; its URL."""
    port = _free_port()
    command = [sys.executable, "-c", _XLLAMACPP, str(model), str(port), str(2 * WINDOW_TOKENS)]
    with _running(command, port, folder, "/health") as url:
        yield url


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _running(command: list[str], port: int, folder: Path, path: str) -> Iterator[str]:
    log, url = folder / "server.log", f"http://127.0.0.1:{port}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FOURCORNERS_")}
    with log.open("wb") as sink:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=sink, stderr=sink)
    try:
        deadline = time.monotonic() + 90
        while not _answers(url + path):
            assert process.poll() is None, log.read_text("utf-8", "replace")[-3_000:]
            assert time.monotonic() < deadline, log.read_text("utf-8", "replace")[-3_000:]
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
