"""What a TGI 3 server says on its streaming routes, after its OpenAPI schema; the words are canned.

From TGI's ``docs/openapi.json``: ``StreamResponse`` (index, token, generated_text, details, top_tokens), an error event
of ``ErrorResponse``, and the chat route's ``ChatCompletionChunk``. Not a recording.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

WORDS = ["It", " is", " a", " kind", " of", " learning", "."]
ANSWER = "".join(WORDS)


@dataclass
class LocalTgi:
    """``fail_after``: so many tokens, then an error event. ``token``: what it wants for authorization."""

    fail_after: int | None = None
    token: str = ""
    requests: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def serving_tgi(tgi: LocalTgi) -> Iterator[LocalTgi]:
    class Handler(_Handler):
        local = tgi

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    tgi.port = server.server_address[1]
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield tgi
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    local: LocalTgi

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.local.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        if self.local.token and self.headers.get("Authorization") != f"Bearer {self.local.token}":
            self._plain(401, {"error": "unauthorized", "error_type": "authentication"})
        elif self.path == "/generate_stream" or (self.path == "/" and body.get("stream")):
            self._events(_tokens(self.local.fail_after))
        elif self.path == "/v1/chat/completions" and body.get("stream"):
            self._events([*map(json.dumps, _chat()), "[DONE]"])
        else:
            self._plain(404, {"error": f"not here: {self.path}", "error_type": "not_found"})

    def _plain(self, status: int, value: dict[str, str]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _events(self, events: list[str]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for event in events:
            self.wfile.write(f"data:{event}\n\n".encode())
            self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        pass


def _tokens(fail_after: int | None) -> list[str]:
    pieces = [(word, False) for word in WORDS] + [("</s>", True)]
    events: list[dict[str, Any]] = []
    for index, (text, special) in enumerate(pieces, start=1):
        last = special
        details = {"finish_reason": "eos_token", "generated_tokens": len(pieces), "input_length": 5, "seed": 42}
        events.append(
            {
                "index": index,
                "token": {"id": 100 + index, "text": text, "logprob": -0.25, "special": special},
                "generated_text": ANSWER if last else None,
                "details": details if last else None,
            }
        )
    if fail_after is not None:
        failure = {"error": "Request failed during generation: out of memory", "error_type": "generation"}
        events = [*events[:fail_after], failure]
    return [json.dumps(event) for event in events]


def _chat() -> Iterator[dict[str, Any]]:
    common = {"object": "chat.completion.chunk", "id": "", "created": 1, "model": "m", "system_fingerprint": "3-native"}
    for word in [*WORDS, ""]:
        choice = {
            "index": 0,
            "delta": {"role": "assistant", "content": word},
            "logprobs": None,
            "finish_reason": None if word else "stop",
        }
        yield {**common, "choices": [choice], "usage": None}
