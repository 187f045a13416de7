"""How fast a GGUF is on this machine, and how much memory it takes.

    python -m fourcorners.llms.bench '{"path": "model.gguf", "n_prompt_tokens": 512, "n_new_tokens": 64, "repeats": 3}'

prints the figures of one model as JSON. That is how ``bench`` runs each in a process of its own: so that its memory is
its own, and a model that ends the process ends no other's measurement.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from fourcorners.errors import FourCornersError, ModelLoadError

LEAST_ID = 256
"""Of the made-up prompts' tokens: below are control tokens and single bytes."""
STRIDE = 7_919
TIMEOUT_S = 3_600.0


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians of some runs, each on a prompt of its own; rates are tokens a second of one request alone.

    ``first_token_s`` is from the submission of the prompt. ``peak_mib`` is the most memory that the process ever had,
    Python and its packages (about 100 MiB) counted in; 0 where the system does not tell. ``load_s`` is until the model
    can be asked.
    """

    load_s: float
    first_token_s: float
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    peak_mib: int


def bench(path: Path, *, n_prompt_tokens: int = 512, n_new_tokens: int = 64, repeats: int = 3) -> Figures:
    """Measure the model at ``path`` in a process of its own. Raises ModelLoadError where that fails."""
    order = {"n_prompt_tokens": n_prompt_tokens, "n_new_tokens": n_new_tokens, "repeats": repeats}
    command = [sys.executable, "-m", "fourcorners.llms.bench", json.dumps({"path": str(path), **order})]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise ModelLoadError(f"'{path}' was not measured within {TIMEOUT_S:.0f} s: ask for fewer tokens") from error
    if done.returncode != 0:
        told = done.stderr.strip().splitlines()
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"status {done.returncode}"
        raise ModelLoadError(f"measuring '{path}' ended with {how}: {told[-1] if told else 'nothing was said'}")
    return Figures(**json.loads(done.stdout))


def measure(path: Path, n_prompt_tokens: int, n_new_tokens: int, repeats: int) -> Figures:
    """Measure the model at ``path`` in this process."""
    from fourcorners.engine.generation import Finish, Generation, Piece, Wish
    from fourcorners.llms.llama_cpp import LlamaCpp

    started = time.perf_counter()
    llm = LlamaCpp.load(path, n_context_tokens=n_prompt_tokens + n_new_tokens, max_running=1, parked_mib=0)
    loaded = time.perf_counter() - started
    engine = llm._engine
    wish = Wish(n_new_tokens, ignore_eos=True)
    first_token: list[float] = []
    decode: list[float] = []
    for run in range(repeats + 1):
        tokens = _made_up(n_prompt_tokens, len(engine.runner.vocabulary.pieces), run)
        times: list[float] = []
        started = time.perf_counter()
        for event in engine.submit(Generation(engine, tokens, wish).program()):
            if isinstance(event, Piece) and event.n_tokens:
                times.append(time.perf_counter())
            elif isinstance(event, Finish):
                break
        if run:  # the first one warms up
            first_token.append(times[0] - started)
            decode.append((len(times) - 1) / (times[-1] - times[0]))
    llm.close()
    first = statistics.median(first_token)
    return Figures(loaded, first, n_prompt_tokens / first, statistics.median(decode), _peak_mib())


def _made_up(n_tokens: int, n_vocabulary: int, run: int) -> list[int]:
    """A prompt that shares nothing with those of other runs: nothing of it is remembered from them."""
    room = max(n_vocabulary - LEAST_ID, 1)
    return [min(LEAST_ID, n_vocabulary - 1) + (STRIDE * (i + 1) + run) % room for i in range(n_tokens)]


def _peak_mib() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 2**10  # macOS counts bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit // 2**20


if __name__ == "__main__":
    try:
        wanted = json.loads(sys.argv[1])
        print(json.dumps(asdict(measure(Path(wanted.pop("path")), **wanted))))
    except FourCornersError as error:
        sys.exit(str(error))
