"""What the engine has done and is doing, as plain numbers. Reading them takes no lock and stops nobody."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class Counts:
    """Tokens of one request, or of all. ``cached`` were taken from the prefix tree instead of prefilled; ``decoded``
    were sampled; ``forced`` had no alternative and were not; ``drafted`` were guessed, ``accepted`` guessed right."""

    prefilled: int = 0
    cached: int = 0
    decoded: int = 0
    forced: int = 0
    drafted: int = 0
    accepted: int = 0

    def add(self, other: Counts) -> None:
        """Sum up."""
        self.prefilled += other.prefilled
        self.cached += other.cached
        self.decoded += other.decoded
        self.forced += other.forced
        self.drafted += other.drafted
        self.accepted += other.accepted


@dataclass(slots=True)
class StepTimes:
    """Seconds of the last steps of one batch size."""

    n_steps: int = 0
    total_seconds: float = 0.0
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=64))

    def add(self, seconds: float) -> None:
        """Count one step."""
        self.n_steps += 1
        self.total_seconds += seconds
        self.recent.append(seconds)

    @property
    def mean(self) -> float:
        """Of the last steps; 0 before the first is counted, which another thread may see."""
        recent = list(self.recent)
        return sum(recent) / len(recent) if recent else 0.0


class Metrics:
    """Counters since the engine was made, and gauges of the present moment; see ``snapshot``."""

    def __init__(self) -> None:
        self.tokens = Counts()
        self.n_waiting = self.n_running = 0
        self.n_requests = self.n_finished = self.n_cancelled = self.n_failed = self.n_refused = 0
        self.n_preempted = self.n_restarts = 0
        self.n_live_cells = self.n_cells = self.n_threads = 0
        self.n_parked_bytes = self.n_parked = self.n_restored = self.n_forgotten = 0
        self.model_seconds = self.busy_seconds = 0.0
        self.step_times: dict[int, StepTimes] = {}

    def step(self, n_tokens: int, seconds: float) -> None:
        """Count one llama.cpp call on ``n_tokens`` tokens."""
        self.model_seconds += seconds
        self.step_times.setdefault(n_tokens, StepTimes()).add(seconds)

    @property
    def n_steps(self) -> int:
        """llama.cpp calls."""
        return sum(times.n_steps for times in list(self.step_times.values()))

    @property
    def overhead_share(self) -> float:
        """The part of the busy time that was not spent in llama.cpp: Python's."""
        return 1 - self.model_seconds / self.busy_seconds if self.busy_seconds else 0.0

    @property
    def hit_rate(self) -> float:
        """The part of all prompt tokens that came from the prefix tree."""
        total = self.tokens.cached + self.tokens.prefilled
        return self.tokens.cached / total if total else 0.0

    def snapshot(self) -> dict[str, Any]:
        """All of it, ready for JSON. ``step_seconds`` is by batch size: the mean of the last 64 steps."""
        plain = {name: value for name, value in vars(self).items() if isinstance(value, int | float)}
        means = {n: times.mean for n, times in sorted(self.step_times.items())}
        return {
            **plain,
            "n_steps": self.n_steps,
            "tokens": asdict(self.tokens),
            "parked_mib": self.n_parked_bytes / 2**20,
            "hit_rate": self.hit_rate,
            "overhead_share": self.overhead_share,
            "step_seconds": means,
        }
