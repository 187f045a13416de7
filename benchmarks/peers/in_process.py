"""Answers one request after the other through a LangChain LLM in this process.

    PYTHON in_process.py {langchain-community,fourcorners} MODEL THREADS

Reads lines of JSON with ``prompt`` and ``max_tokens`` and writes a line with ``text``, ``first_s``, ``last_s``,
``n_tokens`` and ``finish`` for each. The first line that it writes says that the model is loaded. Runs in the
interpreter that the library is installed in, and imports nothing else of this project.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

Stream = Callable[[str, int], Iterator[str]]
Count = Callable[[str], int]


def main() -> None:
    library, model, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    stream, count = {"langchain-community": _community, "fourcorners": _fourcorners}[library](model, threads)
    print("{}", flush=True)
    for line in sys.stdin:
        print(json.dumps(_answer(stream, count, json.loads(line))), flush=True)


def _answer(stream: Stream, count: Count, request: dict[str, Any]) -> dict[str, Any]:
    pieces: list[str] = []
    first = started = time.perf_counter()
    for piece in stream(request["prompt"], request["max_tokens"]):
        if piece:
            first = first if pieces else time.perf_counter()
            pieces.append(piece)
    last = time.perf_counter()
    n_tokens = count(request["prompt"])
    return {
        "text": "".join(pieces),
        "first_s": first - started,
        "last_s": last - started,
        "n_tokens": n_tokens,
        "finish": "length" if n_tokens == request["max_tokens"] else "stop",
    }


def _community(model: str, threads: int) -> tuple[Stream, Count]:
    llms = importlib.import_module("langchain_community.llms")
    llm = llms.LlamaCpp(
        model_path=model,
        n_ctx=4096,
        n_batch=512,
        n_threads=threads,
        f16_kv=True,
        rope_freq_base=0.0,  # 0: as the GGUF says; the defaults override it
        rope_freq_scale=0.0,
        temperature=0.0,
        top_k=1,
        top_p=1.0,
        repeat_penalty=1.0,
        model_kwargs={"n_threads_batch": threads, "flash_attn": True},
        verbose=False,
    )
    native = importlib.import_module("llama_cpp")
    vocab = native.llama_model_get_vocab(llm.client.model)
    # It knows no ignore_eos.
    bias = {token: -100.0 for token in range(llm.client.n_vocab()) if native.llama_vocab_is_eog(vocab, token)}

    def stream(prompt: str, max_tokens: int) -> Iterator[str]:
        yield from llm.stream(prompt, max_tokens=max_tokens, logit_bias=bias)

    def count(prompt: str) -> int:
        # The last token of an answer is never evaluated, so the cache holds one less.
        return int(llm.client.n_tokens) - len(llm.client.tokenize(prompt.encode(), special=True)) + 1

    return stream, count


def _fourcorners(model: str, threads: int) -> tuple[Stream, Count]:
    llm = importlib.import_module("fourcorners").init_llm(f"llama_cpp:{model}", n_threads=threads)
    callbacks = importlib.import_module("langchain_core.callbacks")
    n_tokens = 0

    class Usage(callbacks.BaseCallbackHandler):  # type: ignore[name-defined,misc]
        def on_llm_end(self, response: Any, **_: Any) -> None:
            nonlocal n_tokens
            n_tokens = response.generations[0][0].generation_info["usage"]["completion_tokens"]

    usage = Usage()

    def stream(prompt: str, max_tokens: int) -> Iterator[str]:
        yield from llm.stream(prompt, {"callbacks": [usage]}, max_new_tokens=max_tokens, ignore_eos=True)

    return stream, lambda _: n_tokens


if __name__ == "__main__":
    main()
