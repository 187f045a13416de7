"""The five clients' own code against a server on this machine that speaks TGI's routes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tgi_server import ANSWER, LocalTgi, serving_tgi

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "five_clients.py"
IN_CORE = ("raw", "huggingface-hub", "langchain")


@pytest.fixture
def tgi() -> Iterator[LocalTgi]:
    with serving_tgi(LocalTgi()) as tgi:
        yield tgi


def ask(tgi: LocalTgi, *only: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLE), "--url", tgi.url, "What is it?", "--only", *only]
    environment = {**os.environ, "HF_TOKEN": "hf_secret", **env}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)


def test_the_clients_in_the_core_stream_the_same_answer(tgi: LocalTgi) -> None:
    done = ask(tgi, *IN_CORE)
    assert done.returncode == 0, done.stdout + done.stderr
    for section, name in zip(done.stdout.split("\n— ")[1:], IN_CORE, strict=True):
        assert section.startswith(f"{name}\n{ANSWER}")
        n_pieces = int(section.partition(" pieces")[0].split()[-1])
        assert n_pieces >= 7
    assert [path for path, _, _ in tgi.requests] == ["/generate_stream", "/", "/"]
    for _, headers, body in tgi.requests:
        assert "hf_secret" not in headers.get("authorization", "")
        wanted = {"max_new_tokens": 100, "temperature": 0.7, "do_sample": True, "seed": 42}
        assert {name: body["parameters"][name] for name in wanted} == wanted


def test_the_servers_own_token_is_sent(tgi: LocalTgi) -> None:
    tgi.token = "secret"
    assert ask(tgi, *IN_CORE, TGI_TOKEN="secret").returncode == 0
    done = ask(tgi, "raw", TGI_TOKEN="wrong")
    assert done.returncode == 1
    assert "failed: RuntimeError: 401" in done.stdout


def test_a_failure_in_the_middle_is_told_and_the_others_go_on(tgi: LocalTgi) -> None:
    tgi.fail_after = 2
    done = ask(tgi, "raw", "huggingface-hub")
    assert done.returncode == 1
    assert done.stdout.count("It is\n  failed:") == 2
    assert done.stdout.count("out of memory") == 2


def test_nobody_at_the_address() -> None:
    done = ask(LocalTgi(port=9), "raw")
    assert done.returncode == 1
    assert "failed: ConnectError" in done.stdout


@pytest.mark.extras
@pytest.mark.timeout(330)  # pip makes the environment
def test_tgis_own_client_in_its_own_environment(tgi: LocalTgi) -> None:
    done = ask(tgi, "text-generation")
    assert f"— text-generation\n{ANSWER}" in done.stdout, done.stdout + done.stderr
    ((path, headers, body),) = tgi.requests
    assert (path, body["stream"], "authorization" in headers) == ("/", True, False)


@pytest.mark.extras
def test_the_openai_client(tgi: LocalTgi) -> None:
    pytest.importorskip("openai")
    done = ask(tgi, "openai")
    assert f"— openai\n{ANSWER}" in done.stdout, done.stdout + done.stderr
    ((path, _, body),) = tgi.requests
    assert (path, body["max_tokens"], body["seed"]) == ("/v1/chat/completions", 100, 42)
