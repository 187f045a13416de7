"""What idle contexts cost, live in the cache or parked in host memory.

    python -m benchmarks.cells MODEL.gguf [--tokens 700]

Prints prefill and decode rates of one more request while 0 to 8 contexts of other requests are live in the same lane,
then the same while they are parked, and what parking and restoring take. Medians of five.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fourcorners.engine.lane import Saved, Span
from fourcorners.engine.llama_lane import LlamaLane
from fourcorners.engine.runner import Runner

OTHERS = (0, 1, 2, 4, 8)
CHUNK = 256
REPEATS = 5
N_DECODED = 8


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=int, default=700, help="of each context")
    arguments = parser.parse_args()
    n_tokens = arguments.tokens
    room = (max(OTHERS) + 2) * (n_tokens + N_DECODED)
    runner = Runner(arguments.model, n_context_tokens=n_tokens + 2 * N_DECODED, n_cache_tokens=room)
    table = Table("others", "are", "prefill (tokens/s)", "decode (ms a token)", title=f"contexts of {n_tokens} tokens")
    prefill(runner.main, 0, n_tokens)
    saved = runner.main.save(0, 0, n_tokens)
    runner.main.clear()
    for where in ("live", "parked"):
        for n_others in OTHERS:
            others = [saved._replace(data=saved.data.copy()) for _ in range(n_others)]
            if where == "live":
                assert all(runner.main.load(slot + 1, other) for slot, other in enumerate(others))
            rates = [request(runner.main, n_tokens) for _ in range(REPEATS)]
            table.add_row(
                str(n_others), where, *(f"{statistics.median(column):.1f}" for column in zip(*rates, strict=True))
            )
            runner.main.clear()
    console = Console()
    console.print(table)
    console.print(
        f"parking one takes {parking(runner.main, n_tokens) * 1e3:.1f} ms and {saved.n_bytes / 2**20:.1f} MiB,"
    )
    console.print(f"restoring it {restoring(runner.main, saved) * 1e3:.1f} ms")
    runner.close()


def prefill(lane: LlamaLane, slot: int, n_tokens: int) -> float:
    """Seconds for a context of made-up tokens."""
    started = time.perf_counter()
    for start in range(0, n_tokens, CHUNK):
        tokens = [100 + (start + i) % 1000 for i in range(min(CHUNK, n_tokens - start))]
        lane.decode([Span(slot, start, tokens, 0)])
    return time.perf_counter() - started


def request(lane: LlamaLane, n_tokens: int) -> tuple[float, float]:
    """Tokens a second of its prefill, and milliseconds of each token that it decodes; leaves its slot empty."""
    prefilled = prefill(lane, 0, n_tokens)
    started = time.perf_counter()
    for step in range(N_DECODED):
        lane.decode([Span(0, n_tokens + step, [100 + step], 1)])
    decoded = time.perf_counter() - started
    lane.remove(0, 0, -1)
    return n_tokens / prefilled, 1e3 * decoded / N_DECODED


def parking(lane: LlamaLane, n_tokens: int) -> float:
    """Seconds to save a context."""
    prefill(lane, 0, n_tokens)
    return timed(lambda: lane.save(0, 0, n_tokens))


def restoring(lane: LlamaLane, saved: Saved) -> float:
    """Seconds to load one."""
    return timed(lambda: lane.load(0, saved))


def timed(work: Callable[[], object]) -> float:
    """The median of several runs, in seconds."""
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


if __name__ == "__main__":
    main()
