"""The container script: without Docker for real; its calls go through docker-py to a daemon of canned words."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.tgi_server import LocalTgi, serving_tgi

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "tgi_container.py"


def run(*arguments: str, host: str, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("HF_TOKEN", "DOCKER_HOST")}
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env=environment | {"DOCKER_HOST": host} | env,
    )


def test_without_docker_the_user_is_told_what_to_install(tmp_path: Path) -> None:
    done = run("start", "--model", "org/model", host=f"unix://{tmp_path}/no.sock")
    assert done.returncode == 1
    assert re.match(
        r"error: (the Python package 'docker' is missing: pip install|no Docker daemon answers)", done.stderr
    )
    assert "Traceback" not in done.stderr


class Daemon(BaseHTTPRequestHandler):
    """The few routes of the Docker Engine API that the script asks."""

    requests: list[tuple[str, str, Any]]
    status = "running"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def _answer(self) -> None:
        n_bytes = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(n_bytes) or "null")
        path = re.sub(r"^/v[\d.]+|\?.*", "", self.path)
        self.requests.append((self.command, path, body))
        answers: dict[str, tuple[int, Any]] = {
            "/version": (200, {"ApiVersion": "1.50"}),
            "/_ping": (200, "OK"),
            "/containers/create": (201, {"Id": "abc", "Warnings": []}),
            "/containers/abc/start": (204, None),
            "/containers/abc/stop": (204, None),
            "/containers/abc": (204, None),
        }
        inspected = {"Id": "abc", "Name": "/fourcorners-tgi", "State": {"Status": self.status}, "Config": {"Tty": True}}
        answers |= dict.fromkeys(("/containers/abc/json", "/containers/fourcorners-tgi/json"), (200, inspected))
        answers["/containers/abc/logs"] = (200, "shard ended: out of memory")
        status, value = answers.get(path, (404, {"message": f"no such thing: {path}"}))
        data = value.encode() if isinstance(value, str) else json.dumps(value).encode() if value else b""
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(value, str) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def daemon() -> Iterator[tuple[str, type[Daemon]]]:
    pytest.importorskip("docker")

    class Own(Daemon):
        requests: list[tuple[str, str, Any]] = []  # noqa: RUF012

    server = ThreadingHTTPServer(("127.0.0.1", 0), Own)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"tcp://127.0.0.1:{server.server_address[1]}", Own
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.extras
def test_it_starts_with_the_notebooks_settings_and_stops(daemon: tuple[str, type[Daemon]], tmp_path: Path) -> None:
    host, seen = daemon
    with serving_tgi(LocalTgi()) as tgi:
        options = ["--model", "org/model", "--port", str(tgi.port), "--volume", str(tmp_path / "data")]
        done = run("start", *options, "--quantize", "awq", "--wait", "60", host=host, HF_TOKEN="hf_x")
        assert (done.stdout, done.stderr) == (f"{tgi.url}\n", "")
    (created,) = [body for method, path, body in seen.requests if path == "/containers/create"]
    assert "--model-id=org/model" in created["Cmd"]
    assert {"--max-input-length=3072", "--max-total-tokens=4096", "--quantize=awq"} < set(created["Cmd"])
    assert created["Env"] == ["HF_TOKEN=hf_x"]
    settings = created["HostConfig"]
    assert settings["ShmSize"] == 2**30
    assert settings["Binds"] == [f"{tmp_path / 'data'}:/data:rw"]
    assert settings["PortBindings"]["80/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": str(tgi.port)}]
    assert settings["DeviceRequests"][0]["Capabilities"] == [["gpu"]]
    assert run("stop", host=host).stdout == "fourcorners-tgi stopped\n"
    assert ("DELETE", "/containers/abc") in [(method, path) for method, path, _ in seen.requests]
    assert "there is no container 'other'" in run("stop", "--name", "other", host=host).stderr


@pytest.mark.extras
def test_a_server_that_ends_is_told_of_with_its_last_words(daemon: tuple[str, type[Daemon]], tmp_path: Path) -> None:
    host, seen = daemon
    seen.status = "exited"
    done = run("start", "--model", "m", "--gpus", "none", "--volume", str(tmp_path), host=host)
    assert done.returncode == 1
    assert "the server ended:\nshard ended: out of memory" in done.stderr
