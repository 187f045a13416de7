"""A small hub on this machine: the few endpoints that huggingface_hub asks when it gets a file, with faults to order.

As the real one does, it sends large files' readers on to another host (here: another name of this machine), which
knows byte ranges.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "1" * 40
TOKEN = "hf_good"
_RESOLVE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<name>.+)")
_TREE = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)")


@dataclass
class LocalHub:
    """``break_after``: for each coming download the bytes after which its connection ends."""

    files: dict[str, bytes]
    repo: str = "org/repo"
    gated: bool = False
    break_after: list[int] = field(default_factory=list)
    corrupt: bool = False
    knows_ranges: bool = True
    status: int = 0
    """Answer everything with this instead."""
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ranges(self) -> list[str]:
        """What each download asked for."""
        return [
            headers.get("range", "")
            for method, path, headers in self.requests
            if path.startswith("/cdn/") and method == "GET"
        ]


@contextmanager
def serving(hub: LocalHub) -> Iterator[LocalHub]:
    class Handler(_Handler):
        local = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.port = server.server_address[1]
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    local: LocalHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.local.requests.append((self.command, path, {k.lower(): v for k, v in self.headers.items()}))
        if self.local.status:
            self._send(self.local.status)
        elif found := _RESOLVE.fullmatch(path):
            self._resolve(**found.groupdict())
        elif found := _TREE.fullmatch(path):
            names = [
                {"type": "file", "path": name, "size": len(data), "oid": "0" * 40}
                for name, data in self.local.files.items()
            ]
            self._send(200, body=json.dumps(names).encode())
        elif path.startswith("/cdn/"):
            self._content(path.removeprefix("/cdn/"))
        else:
            self._send(404)

    def _resolve(self, repo: str, revision: str, name: str) -> None:
        if repo != self.local.repo:
            return self._send(401, {"X-Error-Code": "RepoNotFound"})
        if self.local.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._send(401, {"X-Error-Code": "GatedRepo"})
        if revision not in ("main", COMMIT):
            return self._send(404, {"X-Error-Code": "RevisionNotFound"})
        if name not in self.local.files:
            return self._send(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        content = self.local.files[name]
        headers = {
            "X-Repo-Commit": COMMIT,
            "X-Linked-Etag": f'"{sha256(content)}"',
            "X-Linked-Size": str(len(content)),
            "Location": f"http://localhost:{self.local.port}/cdn/{name}",
        }
        return self._send(302, headers)

    def _content(self, name: str) -> None:
        content = self.local.files[name]
        if self.local.corrupt:
            content = content[:-1] + bytes([content[-1] ^ 1])
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")) if self.local.knows_ranges else None
        start = int(asked[1]) if asked else 0
        headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if asked else {}
        end = self.local.break_after.pop(0) if self.local.break_after and self.command == "GET" else None
        self._send(206 if asked else 200, headers, content[start:], end)

    def _send(
        self, status: int, headers: dict[str, str] | None = None, body: bytes = b"", end: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:end])
        if end is not None:
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass
