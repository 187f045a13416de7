"""Servers for tests: the real one in a process of its own, and an app in a thread, whose tasks and log can be seen."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import uvicorn
from fastapi import FastAPI
from langserve import RemoteRunnable

ROOT = Path(__file__).parent.parent


@dataclass
class Server:
    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def remote(self, path: str) -> RemoteRunnable[Any, Any]:
        return RemoteRunnable(self.url + path)

    @asynccontextmanager
    async def aremote(self, path: str) -> AsyncIterator[RemoteRunnable[Any, Any]]:
        """Closed in the event loop that it was used in; left to itself it closes at collection, in another one."""
        remote = self.remote(path)
        yield remote
        await remote.async_client.aclose()

    def post(self, path: str, body: Any) -> httpx.Response:
        return httpx.post(self.url + path, json=body, timeout=60)


@contextmanager
def running(arguments: list[str], folder: Path, **variables: str) -> Iterator[Server]:
    """A server on a free port, from the moment that it can answer until it has been told to stop."""
    log = folder / "server.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FOURCORNERS_")}
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, env=environment | variables, stdout=sink, stderr=sink
        )
    try:
        yield Server(_address(process, log), process, log)
    finally:
        process.terminate()
        process.wait(timeout=30)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"running on (http://\S+)", log.read_text()):
            return found[1]
        time.sleep(0.05)
    raise AssertionError(f"the server did not start:\n{log.read_text()}")


class Threaded(uvicorn.Server):
    """uvicorn in a thread. Its log goes where the test's own does."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(uvicorn.Config(app, port=0, log_config=None))
        self.url, self._n_at_rest = "", 0
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        self._n_at_rest = len(asyncio.all_tasks())
        self.url = f"http://127.0.0.1:{self.servers[0].sockets[0].getsockname()[1]}"

    def is_at_rest(self) -> bool:
        """No task but those that were there before the first request."""
        assert self._loop is not None
        return len(asyncio.all_tasks(self._loop)) <= self._n_at_rest


@contextmanager
def serving(app: FastAPI) -> Iterator[Threaded]:
    server = Threaded(app)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert soon(lambda: bool(server.url), within_s=60)
        yield server
    finally:
        server.should_exit = True
        thread.join(timeout=30)


def soon(holds: Callable[[], bool], within_s: float = 1.0) -> bool:
    """Whether it holds, now or within that time."""
    deadline = time.monotonic() + within_s
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.005)
    return holds()


@contextmanager
def hanging_up(
    url: str, path: str, body: Any, *, abruptly: bool = False, n_missing: int = 0
) -> Iterator[socket.socket]:
    """A client that sends a request (but for its last bytes), and is gone at the end of the block."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    address = urlsplit(url)
    assert address.hostname is not None
    with socket.create_connection((address.hostname, address.port or 80), timeout=30) as client:
        client.sendall(head.encode() + data[: len(data) - n_missing])
        yield client
        if abruptly:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, no farewell
