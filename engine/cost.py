"""What a model step costs by the number of its tokens, measured on this machine, and what follows from that.

Twice the tokens cost neither as much nor twice as much: llama.cpp has other kernels for other sizes. On one machine a
Q8_0 model took 6.6 ms for 1 token, 17.2 for 2, 26.5 for 4 and 32.5 for 8: there two sequences are better run apart.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import tempfile
from bisect import bisect_left
from collections.abc import Callable, Mapping
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from fourcorners.errors import EngineError, ModelLoadError

SIZES = (1, 64, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 24, 32, 128, 256)
"""What ``measure`` measures, in this order: 64 comes early to tell what a prompt costs, should the time run out."""
MAX_PLANNED = 64
"""More sequences than this are always run in one batch."""
MIN_GAIN = 1.05
"""Drafts that promise less than this are left: the chance of acceptance is itself a guess."""
PROMPT = 64
"""From so many tokens on a step's cost grows in proportion, but for attention."""
MAX_UNEVEN = 1.5
_FORMAT = 2


class Part(NamedTuple):
    """One batch of single-token decodes; ``n_padding`` tokens more, of no use to anybody, make it cheaper."""

    n_tokens: int
    n_padding: int


class _Plan(NamedTuple):
    """Compared in this order: of two plans that take as long, the one with fewer and fuller batches is better."""

    seconds: float
    n_parts: int
    n_padding: int
    parts: tuple[Part, ...]


class StepCost:
    """Made of measured points, tokens of a step to seconds. Immutable, so safe from any thread.

    Raises EngineError unless there is a point, all sizes are positive and all times positive and finite.
    """

    def __init__(self, points: Mapping[int, float]) -> None:
        if not points or any(n < 1 or not 0 < seconds < math.inf for n, seconds in points.items()):
            raise EngineError(f"a step cost can't be made of {dict(points)!r}")
        self.points = {n: float(points[n]) for n in sorted(points)}
        self._sizes = tuple(self.points)
        self._times = tuple(self.points.values())

    @property
    def is_sound(self) -> bool:
        """Whether it is worth keeping: a machine that was busy just then, or a first step that read the model from
        disk, makes one token dearer than a few, or a long prompt much dearer a token than a short one."""
        few = [seconds for n, seconds in self.points.items() if 1 < n <= 8]
        prompts = [n for n in self.points if n >= PROMPT]
        is_even = all(self.is_likely(n, self.points[n]) for n in prompts)
        return bool(few) and self._times[0] <= MAX_UNEVEN * min(few) and is_even

    def is_likely(self, n: int, seconds: float) -> bool:
        """Whether ``n`` tokens of a prompt may take so long, by what fewer of them take."""
        fewer = [points / m for m, points in self.points.items() if PROMPT <= m < n]
        return not fewer or seconds / n <= MAX_UNEVEN * min(fewer)

    def seconds(self, n: int) -> float:
        """Of a step of ``n`` tokens: on the line between two measured sizes, beyond the last in proportion to it."""
        sizes, times = self._sizes, self._times
        at = bisect_left(sizes, n)
        if n <= 0:
            return 0.0
        if at == len(sizes):
            return times[-1] * n / sizes[-1]
        if at == 0 or sizes[at] == n:
            return times[at]
        share = (n - sizes[at - 1]) / (sizes[at] - sizes[at - 1])
        return times[at - 1] + share * (times[at] - times[at - 1])

    def parts(self, n: int) -> tuple[Part, ...]:
        """The batches that ``n`` sequences are best decoded in, by one token each, the largest first.

        Together they never take longer than one batch of ``n``. The first call takes 5 ms.
        """
        if n <= 0:
            return ()
        return self._plan(n).parts

    def chunk(self, max_seconds: float, at_most: int) -> int:
        """The most tokens of a prompt that a step of ``max_seconds`` may take; never more than ``at_most``.

        It is a multiple of 64 or, below that, of 8, and at least 8, so that a prompt gets on however slow the model is.
        """
        for n in range(at_most // 64 * 64, 0, -64):
            if self.seconds(n) <= max_seconds:
                return n
        for n in range(min(56, at_most // 8 * 8), 8, -8):
            if self.seconds(n) <= max_seconds:
                return n
        return min(8, at_most)

    def draft(self, n_running: int, n_possible: int, acceptance: float) -> int:
        """How many draft tokens make a step yield most tokens a second, where each is accepted with ``acceptance``.

        One of the ``n_running`` sequences (at least 1) carries them, and all go in one batch. A draft is accepted up to
        its first wrong token. 0 unless the gain is MIN_GAIN.
        """
        expected = list(accumulate((acceptance**k for k in range(1, n_possible + 1)), initial=float(n_running)))
        rates = [tokens / self.seconds(n_running + k) for k, tokens in enumerate(expected)]
        rates[0] = MIN_GAIN * n_running / self._plan(n_running).seconds
        return rates.index(max(rates))

    def _plan(self, n: int) -> _Plan:
        return self._plans[n] if n <= MAX_PLANNED else self._one_batch(n)

    @cached_property
    def _plans(self) -> tuple[_Plan, ...]:
        """The best plan for each number of sequences: one batch, or a batch and the best plan for the others."""
        plans = [_Plan(0.0, 0, 0, ())]
        batches = [self._one_batch(size) for size in range(1, MAX_PLANNED + 1)]
        for n in range(1, MAX_PLANNED + 1):
            plans.append(min(_joined(batches[size - 1], plans[n - size]) for size in range(1, n + 1)))
        return tuple(plan._replace(parts=tuple(sorted(plan.parts, reverse=True))) for plan in plans)

    def _one_batch(self, n: int) -> _Plan:
        # Between two measured sizes the cost is a straight line: no other size than those can be the cheapest.
        sizes = (n, *self._sizes[bisect_left(self._sizes, n) :])
        size = min(sizes, key=lambda size: (self.seconds(size), size))
        return _Plan(self.seconds(size), 1, size - n, (Part(n, size - n),))


def _joined(first: _Plan, others: _Plan) -> _Plan:
    return _Plan(
        first.seconds + others.seconds,
        first.n_parts + others.n_parts,
        first.n_padding + others.n_padding,
        first.parts + others.parts,
    )


def measure(step: Callable[[int], float], budget_seconds: float) -> StepCost:
    """Measure SIZES with ``step``, which runs a batch of so many tokens and returns the seconds it took.

    Stops before the size that would exceed the budget, by an estimate; size 1 is always measured, after one step to
    warm up. Of several runs the fastest counts: other load only ever adds. Passes on what ``step`` raises.
    """
    spent = step(1)
    points: dict[int, float] = {}
    for n in SIZES:
        if n == 64 and 16 * points[1] > budget_seconds / 2:  # a token of a prompt costs about a quarter of a step
            continue
        if n not in (1, 64) and spent + StepCost(points).seconds(n) > budget_seconds:
            break
        for i in range(3 if n == 1 else 2):
            if i and n > 16 and StepCost(points).is_likely(n, points[n]):
                break
            seconds = step(n)
            spent += seconds
            points[n] = min(seconds, points.get(n, math.inf))
            if spent > budget_seconds:
                break
    return StepCost(points)


def cached(key: str, make: Callable[[], StepCost], folder: Path | None = None) -> StepCost:
    """The costs kept under ``key``, else those that ``make`` measures, which are then kept.

    ``folder`` is by default ``fourcorners/step-cost`` in the user's cache. A file that is damaged, of another version
    or can't be written is no error. Safe between processes: a file appears whole.
    """
    name = hashlib.sha256(key.encode()).hexdigest()[:32] + ".json"
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: no home folder
        folder = folder or _default_folder()
        kept = _read(folder / name, key)
        if kept is not None:
            return kept
    made = make()
    if folder is not None and made.is_sound:
        with contextlib.suppress(OSError):
            _write(folder / name, {"format": _FORMAT, "key": key, "seconds": made.points})
    return made


def machine_key(model_path: str | os.PathLike[str], n_threads: int) -> str:
    """A hash of what the measured times depend on: the model's file, the CPU, the threads, llama.cpp's version.

    Raises ModelLoadError where the file is missing. Name, size and time of change stand for its content.
    """
    path = Path(model_path)
    try:
        file = path.stat()
    except OSError as error:
        raise ModelLoadError(f"no model file at {str(path)!r}: {error.strerror}") from error
    try:
        version = importlib.metadata.version("llama_cpp_python")
    except importlib.metadata.PackageNotFoundError:
        version = ""
    facts = [path.name, file.st_size, file.st_mtime_ns, _cpu(), n_threads, version]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _default_folder() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # Its specification says that a relative path is to be ignored.
    return (base if base.is_absolute() else Path.home() / ".cache") / "fourcorners" / "step-cost"


def _read(file: Path, key: str) -> StepCost | None:
    try:
        content = json.loads(file.read_bytes())
        if content["format"] != _FORMAT or content["key"] != key:
            return None
        return StepCost({int(n): float(seconds) for n, seconds in content["seconds"].items()})
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, EngineError):
        return None


def _write(file: Path, content: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=file.parent, prefix=file.stem, suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            json.dump(content, out)
        Path(scratch).replace(file)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
