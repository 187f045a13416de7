"""W5: verbatim answers of two sentences against free decoding of as many tokens, in this process.

    python -m benchmarks.verbatim bundled llama_cpp:PATH … [--repeat 5] [--json]

A question asks two things, each answered by one of the context's two documents. It is asked grounded (``max_spans=2``,
never refusing; a random model is led by the lexical prior), and only answers of at least two sentences count. Beside
each runs a free answer of the same engine that decodes exactly as many tokens, after a plain prompt of as many tokens
as the grounded one and about other documents. A *cold* pair meets its context for the first time; the *warm* pairs
after it ask more about the same. Time runs to the last character.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.outputs import LLMResult

from benchmarks.prompts import Texts
from fourcorners import grounded_prompt, init_llm
from fourcorners.engine.runner import load_vocabulary
from fourcorners.engine.vocabulary import Vocabulary
from fourcorners.llms.llama_cpp import LlamaCpp

QUESTIONS = 4
"""On each context: the first is cold."""
PRIOR_WEIGHT = 10.0
"""For random weights, which prefer no sentence; the bundled reader has a weight of its own."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A grounded answer and the free one beside it; times in ms to the last character."""

    cold: bool
    n_tokens: int
    n_sentences: int
    n_prompt_tokens: tuple[int, int]
    n_cached_tokens: tuple[int, int]
    verbatim_ms: float
    free_ms: float


class _Timed:
    """An LLM whose runs are timed to the last character."""

    def __init__(self, llm: Any) -> None:
        self._llm, self._info = llm, _Info()

    def __call__(self, asked: Any, **settings: Any) -> tuple[float, dict[str, Any]]:
        started = last = time.perf_counter()
        for text in self._llm.stream(asked, {"callbacks": [self._info]}, **settings):
            last = time.perf_counter() if text else last
        return 1000 * (last - started), self._info.info


class _Info(BaseCallbackHandler):
    """Keeps what the last run told about itself."""

    def __init__(self) -> None:
        self.info: dict[str, Any] = {}

    def on_llm_end(self, response: LLMResult, **_: Any) -> None:
        self.info = response.generations[0][0].generation_info or {}


def pairs(spec: str, repeat: int) -> list[Pair]:
    """The pairs on ``repeat`` contexts that had an answer of at least two sentences."""
    llm, texts = init_llm(spec), Texts(len)
    assert isinstance(llm, LlamaCpp)
    weight: dict[str, Any] = {} if spec == "bundled" else {"prior_weight": PRIOR_WEIGHT}
    prompt = grounded_prompt(max_spans=2, threshold=1000, **weight)
    vocabulary, _ = load_vocabulary(llm.model_path)
    timed, found = _Timed(llm), []
    timed(prompt.format_prompt(question="Is it warm?", context=texts.context("warm-up", 2_000)))
    around = timed("Is it warm?", max_new_tokens=4)[1]["usage"]["prompt_tokens"] - len(vocabulary.plain("Is it warm?"))
    for number in range(repeat):
        context, questions = _two_documents(texts, f"verbatim/{number}")
        plain_context = vocabulary.plain(texts.context(f"free/{number}", 20_000))
        for turn, question in enumerate(questions):
            verbatim_ms, verbatim = timed(prompt.format_prompt(question=question, context=context))
            usage = verbatim["usage"]
            plain = _of_length(usage["prompt_tokens"] - around, plain_context, question, vocabulary)
            free_ms, free = timed(plain, max_new_tokens=usage["completion_tokens"], ignore_eos=True)
            if len(verbatim["citations"]) < 2 or free["usage"]["completion_tokens"] != usage["completion_tokens"]:
                continue
            found.append(
                Pair(
                    cold=turn == 0,
                    n_tokens=usage["completion_tokens"],
                    n_sentences=len(verbatim["citations"]),
                    n_prompt_tokens=(usage["prompt_tokens"], free["usage"]["prompt_tokens"]),
                    n_cached_tokens=(usage["cached_tokens"], free["usage"]["cached_tokens"]),
                    verbatim_ms=verbatim_ms,
                    free_ms=free_ms,
                )
            )
    llm.close()
    return found


def _two_documents(texts: Texts, key: str) -> tuple[str, list[str]]:
    """A context of two documents under a line of its own, and questions that ask about both."""
    chance = random.Random(key)
    first, second = chance.sample(list(texts.documents), 2)
    context = f"File {chance.getrandbits(40):010x}\n\n{first}\n\n{second}"
    asked = zip(texts.documents[first], texts.documents[second], strict=False)
    return context, [" ".join(both) for both in list(asked)[:QUESTIONS]]


def _of_length(n_tokens: int, context: list[int], question: str, vocabulary: Vocabulary) -> str:
    """A plain prompt that asks ``question``, cut so that it has ``n_tokens`` tokens (one more or less at a bad cut)."""
    end = f"\n\nQuestion: {question}\nAnswer:"
    first = n_tokens - len(vocabulary.plain(end))
    prompts = [vocabulary.text(context[:cut]) + end for cut in range(max(0, first - 2), max(0, first) + 3)]
    return min(prompts, key=lambda text: abs(len(vocabulary.plain(text)) - n_tokens))


def summary(found: list[Pair]) -> dict[str, dict[str, float]]:
    """Medians of the cold and the warm pairs; ``ratio`` is the median of the pairs' own ratios."""
    told = {}
    for name, chosen in (("cold", [p for p in found if p.cold]), ("warm", [p for p in found if not p.cold])):
        if chosen:
            told[name] = {
                "pairs": len(chosen),
                "tokens": median(p.n_tokens for p in chosen),
                "prompt": median(p.n_prompt_tokens[0] for p in chosen),
                "plain prompt": median(p.n_prompt_tokens[1] for p in chosen),
                "cached": median(p.n_cached_tokens[0] for p in chosen),
                "plain cached": median(p.n_cached_tokens[1] for p in chosen),
                "verbatim ms": median(p.verbatim_ms for p in chosen),
                "free ms": median(p.free_ms for p in chosen),
                "ratio": median(p.verbatim_ms / p.free_ms for p in chosen),
            }
    return told


def main() -> None:
    """Print a summary, or with ``--json`` every pair as well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("specs", nargs="+", help="model specs of init_llm")
    parser.add_argument("--repeat", type=int, default=5, help="contexts for each model")
    parser.add_argument("--json", action="store_true", help="one object a model, on one line")
    arguments = parser.parse_args()
    for spec in arguments.specs:
        found = pairs(spec, arguments.repeat)
        if arguments.json:
            print(json.dumps({"summary": summary(found), "pairs": [asdict(pair) for pair in found]}), flush=True)
            continue
        print(spec)
        for name, figures in summary(found).items():
            print(f"  {name}: " + ", ".join(f"{key} {value:.4g}" for key, value in figures.items()))


if __name__ == "__main__":
    main()
