"""Starting a server, talking to it, and ending it: only what was started here is ever ended, by its own process."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from benchmarks.load import Answer, Ask, Asker, Client, check
from benchmarks.servers import Server

START_S = 90.0


class StartError(Exception):
    """A server did not come up; the text is the end of what it wrote."""


@contextmanager
def running(server: Server, model: Path, folder: Path) -> Iterator[tuple[Callable[[], Asker], int]]:
    """Start ``server`` on ``model``; gives a maker of clients and the process id. Its log goes to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    stem = "".join(letter if letter.isalnum() else "-" for letter in server.name)
    values = {"{model}": str(model), "{port}": str(port), "{config}": str(folder / f"{stem}.json")}
    if server.config is not None:
        # A port is a number there.
        text = _filled(json.dumps(server.config).replace('"{port}"', "{port}"), values)
        Path(values["{config}"]).write_text(text, "utf-8")
    command = [_filled(word, values) for word in server.command]
    pipe = None if server.health else subprocess.PIPE
    log_path = folder / f"{stem}.log"
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=pipe or subprocess.DEVNULL,
            stdout=pipe or log,
            stderr=log,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        try:
            if server.health:
                _wait_until_healthy(process, f"http://127.0.0.1:{port}{server.health}", log_path)
                yield lambda: Client(port, server.extra), process.pid
            else:
                line = _Line(process)
                if line.read() is None:
                    raise StartError(_end_of(log_path))
                yield lambda: line, process.pid
        finally:
            _end(process)


class _Line:
    """The client of a process that answers one request at a time over its pipes; all clients share it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in: IO[bytes] = process.stdin
        self._out: IO[bytes] = process.stdout
        self._turn = threading.Lock()

    def read(self) -> dict[str, Any] | None:
        """The next line; None when the process has ended."""
        line = self._out.readline()
        return json.loads(line) if line else None

    async def ask(self, ask: Ask) -> Answer:
        """See Asker."""
        return await asyncio.to_thread(self._ask, ask)

    def close(self) -> None:
        """See Asker; the process is shared, so nothing ends."""

    def _ask(self, ask: Ask) -> Answer:
        with self._turn:
            try:
                request = {"prompt": ask.prompt, "max_tokens": ask.max_tokens}
                self._in.write(json.dumps(request).encode() + b"\n")
                self._in.flush()
            except OSError as error:
                return Answer(fault=f"{type(error).__name__}: {error}")
            reply = self.read()
        return check(ask, Answer(**reply)) if reply is not None else Answer(fault="the process ended")


def _wait_until_healthy(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise StartError(f"ended with status {process.returncode}: {_end_of(log)}")
        try:
            with urllib.request.urlopen(url, timeout=5) as reply:
                if reply.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise StartError(f"not ready after {START_S:.0f} s: {_end_of(log)}")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with suppress(OSError):  # what was written last may meet an ended process
            process.stdin.close()
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _end_of(log: Path) -> str:
    return " / ".join(log.read_text("utf-8", "replace").splitlines()[-5:])


def _filled(text: str, values: dict[str, str]) -> str:
    for gap, value in values.items():
        text = text.replace(gap, value)
    return text


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
