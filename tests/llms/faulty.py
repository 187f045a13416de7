"""A server on a bare socket that does to its clients what networks and overloaded servers do."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

INFO = {"model_id": "mistralai/Mistral-7B", "max_total_tokens": 4_096, "version": "3.3.6-no-tgi"}
MODELS = {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "somebody"}]}


@dataclass
class Faulty:
    """What it was asked, and what it does to each POST in turn (the last to all further ones)."""

    script: list[Callable[[Faulty, socket.socket], None]]
    url: str = ""
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)
    under_way: threading.Event = field(default_factory=threading.Event)
    clients: list[socket.socket] = field(default_factory=list)

    @property
    def n_posts(self) -> int:
        return len(self.bodies)

    def serve(self, client: socket.socket) -> None:
        with client, suppress(OSError), client.makefile("rb") as lines:
            while line := lines.readline():
                method, path, _ = line.decode().split(" ", 2)
                headers = {}
                while header := lines.readline().decode().strip():
                    name, _, value = header.partition(":")
                    headers[name.strip().lower()] = value.strip()
                body = lines.read(int(headers.get("content-length", 0)))
                self.paths.append(path)
                self.headers.append(headers)
                if method == "GET":
                    answer(200, INFO if path == "/info" else MODELS)(self, client)
                    continue
                self.bodies.append(json.loads(body))
                self.script[min(self.n_posts, len(self.script)) - 1](self, client)


@contextmanager
def faulty(*script: Callable[[Faulty, socket.socket], None]) -> Iterator[Faulty]:
    server = Faulty(list(script))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server.url = f"http://127.0.0.1:{listening.getsockname()[1]}"

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listening.accept()
                    server.clients.append(client)
                    threading.Thread(target=server.serve, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield server
        for end in (listening, *server.clients):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def answer(status: int, body: Any = "", **headers: str) -> Callable[[Faulty, socket.socket], None]:
    """A whole answer."""
    data = (body if isinstance(body, str) else json.dumps(body)).encode()

    def act(_: Faulty, client: socket.socket) -> None:
        told = {"content-type": "application/json", "content-length": str(len(data))}
        told |= {name.replace("_", "-"): value for name, value in headers.items()}
        head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
        client.sendall(f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + data)

    return act


def token(text: str, *, special: bool = False, **details: Any) -> str:
    """An event of TGI's."""
    event: dict[str, Any] = {"index": 1, "token": {"id": 1, "text": text, "logprob": -0.1, "special": special}}
    if details:
        event["details"] = {"finish_reason": "eos_token", "generated_tokens": 3, "input_length": 9} | details
    return f"data:{json.dumps(event, ensure_ascii=False)}\n\n"


def stream(*events: str, end: str = "whole", bites: int = 0) -> Callable[[Faulty, socket.socket], None]:
    """Events, in pieces of so many bytes; then the ``end``: "whole", "cut" (no last chunk) or "hang"."""

    def act(server: Faulty, client: socket.socket) -> None:
        client.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        data = "".join(events).encode()
        for part in (
            [data[n : n + bites] for n in range(0, len(data), bites)] if bites else [e.encode() for e in events]
        ):
            client.sendall(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        server.under_way.set()
        if end == "whole":
            client.sendall(b"0\r\n\r\n")
        elif end == "hang":
            hang(server, client)
        else:
            drop(server, client)

    return act


def hang(server: Faulty, client: socket.socket) -> None:
    """Say nothing more, and note when the client is gone."""
    server.under_way.set()
    client.settimeout(20)
    with suppress(TimeoutError):
        try:
            is_gone = not client.recv(1)
        except ConnectionError:  # it left with something unread
            is_gone = True
        if is_gone:
            server.gone.set()


def drop(_: Faulty, client: socket.socket) -> None:
    """Hang up without a word."""
    client.shutdown(socket.SHUT_RDWR)


DONE = stream(token("All"), token(" well"), token("</s>", special=True, generated_tokens=3))
