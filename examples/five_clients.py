"""Five ways to ask one TGI server, each streaming: the clients of the TGI notebooks side by side.

    python examples/five_clients.py --url http://127.0.0.1:8080 "What is deep learning?"
    python examples/five_clients.py --url … --only openai langchain

raw              plain HTTP: POST /generate_stream, server-sent events
text-generation  TGI's own client; it needs huggingface-hub < 1, and so runs in an environment of its own
                 (.cache/text-generation-client, made on first use with pip)
huggingface-hub  InferenceClient.text_generation
langchain        HuggingFaceEndpoint
openai           the chat route /v1; pip install openai

Where the server wants a token, it is read from TGI_TOKEN. HF_TOKEN is never sent: the server may be anybody's. Exit
status: 0 all answered, 1 one of them did not.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".cache" / "text-generation-client"
REQUIREMENTS = ("text-generation==0.7.0", "huggingface-hub<1")
CHILD = Path(__file__).with_name("text_generation_client.py")
TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Request:
    """What each client asks. ``temperature`` stands for the sampling settings that all five know."""

    url: str
    prompt: str
    max_new_tokens: int
    temperature: float
    seed: int
    token: str = ""


def raw(request: Request) -> Iterator[str]:
    """Nothing but HTTP: one event a token, ``token.text`` is its text."""
    body = {"inputs": request.prompt, "parameters": _parameters(request)}
    headers = {"Authorization": f"Bearer {request.token}"} if request.token else {}
    url = f"{request.url}/generate_stream"
    with httpx.stream("POST", url, json=body, headers=headers, timeout=TIMEOUT_S) as response:
        if response.is_error:
            response.read()
            raise RuntimeError(f"{response.status_code} {response.text}")
        for line in response.iter_lines():
            if not line.startswith("data:"):
                continue
            event = json.loads(line.removeprefix("data:"))
            if "error" in event:
                raise RuntimeError(event["error"])
            if not event["token"]["special"]:
                yield event["token"]["text"]


def text_generation(request: Request) -> Iterator[str]:
    """TGI's own client, in a process of its own environment; one JSON text a line comes back."""
    order = {"url": request.url, "prompt": request.prompt, "token": request.token, "timeout": int(TIMEOUT_S)}
    command = [str(_own_python()), str(CHILD)]
    parameters = _parameters(request)
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    with child:
        child.stdin.write(json.dumps(order | {"parameters": parameters}))  # not as arguments: others could read those
        child.stdin.close()
        for line in child.stdout:
            yield json.loads(line)
        told = child.stderr.read().strip()
    if child.returncode:
        raise RuntimeError(told.splitlines()[-1] if told else f"it ended with status {child.returncode}")


def huggingface_hub(request: Request) -> Iterator[str]:
    """The general client of the Hugging Face hub, given the server's address as its model."""
    from huggingface_hub import InferenceClient

    client = InferenceClient(model=request.url, token=request.token or None, timeout=TIMEOUT_S)
    yield from client.text_generation(request.prompt, stream=True, **_parameters(request))


def langchain(request: Request) -> Iterator[str]:
    """As a LangChain LLM: whatever takes a runnable takes it."""
    from langchain_huggingface import HuggingFaceEndpoint

    headers = {"Authorization": f"Bearer {request.token}"} if request.token else {}
    parameters = _parameters(request)
    llm = HuggingFaceEndpoint(
        endpoint_url=request.url,
        streaming=True,
        server_kwargs={"headers": headers},
        top_p=None,
        typical_p=None,
        timeout=int(TIMEOUT_S),
        **parameters,
    )
    yield from llm.stream(request.prompt)


def openai(request: Request) -> Iterator[str]:
    """The OpenAI client on TGI's chat route; the server puts the model's turn markers around the prompt."""
    from openai import OpenAI

    client = OpenAI(base_url=f"{request.url}/v1", api_key=request.token or "-", timeout=TIMEOUT_S)
    chunks = client.chat.completions.create(
        model="tgi",
        messages=[{"role": "user", "content": request.prompt}],
        max_tokens=request.max_new_tokens,
        temperature=request.temperature,
        seed=request.seed,
        stream=True,
    )
    for chunk in chunks:
        if chunk.choices and chunk.choices[0].delta.content:
            yield chunk.choices[0].delta.content


CLIENTS: dict[str, Callable[[Request], Iterator[str]]] = {
    "raw": raw,
    "text-generation": text_generation,
    "huggingface-hub": huggingface_hub,
    "langchain": langchain,
    "openai": openai,
}


def main() -> int:
    """Ask with each client in turn; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompt", nargs="?", default="What is deep learning?")
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="of the TGI server")
    parser.add_argument("--only", nargs="+", choices=CLIENTS, default=list(CLIENTS), metavar="CLIENT")
    parser.add_argument("--max-new-tokens", type=int, default=100)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--seed", type=int, default=42)
    given = parser.parse_args()
    _keep_to_ourselves()
    token = os.environ.get("TGI_TOKEN", "")
    request = Request(given.url.rstrip("/"), given.prompt, given.max_new_tokens, given.temperature, given.seed, token)
    answered = [show(name, request) for name in given.only]
    return 0 if all(answered) else 1


def show(name: str, request: Request) -> bool:
    """Print the answer as it comes; whether one came."""
    print(f"\n— {name}", flush=True)
    started, first, n_pieces = time.perf_counter(), 0.0, 0
    try:
        for piece in CLIENTS[name](request):
            first = first or time.perf_counter() - started
            n_pieces += 1
            print(piece, end="", flush=True)
    except ImportError as error:
        print(f"  not installed: pip install {error.name}")
        return False
    except Exception as error:  # one client's fault is no reason not to show the others
        print(f"\n  failed: {type(error).__name__}: {error}")
        return False
    total = time.perf_counter() - started
    print(f"\n  {n_pieces} pieces, the first after {first:.2f} s, all after {total:.2f} s")
    return n_pieces > 0


def _keep_to_ourselves() -> None:
    """huggingface_hub reads these when it is imported, and sends a token of its own to whatever server it is given."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACEHUB_API_TOKEN"):
        os.environ.pop(name, None)
    os.environ |= {"HF_TOKEN_PATH": os.devnull, "HF_HUB_DISABLE_TELEMETRY": "1"}


def _parameters(request: Request) -> dict[str, Any]:
    return {
        "max_new_tokens": request.max_new_tokens,
        "temperature": request.temperature,
        "do_sample": True,
        "seed": request.seed,
    }


def _own_python() -> Path:
    """The interpreter of the client's own environment, which is made if it is not there."""
    python = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin") / "python"
    ready = ENVIRONMENT / "ready"
    if not ready.exists():
        print(f"  making its environment in {os.path.relpath(ENVIRONMENT)} …", file=sys.stderr)
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        done = subprocess.run(
            [python, "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=False, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"pip could not install {' '.join(REQUIREMENTS)}: {done.stderr.strip()}")
        ready.touch()
    return python


if __name__ == "__main__":
    sys.exit(main())
