"""What a run of the benchmark gathered, and the medians and ratios that follow from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks.servers import OURS, OURS_IN_PROCESS, SERIAL, Server
from benchmarks.workloads import METRICS, Metric, Outcome

HEAD_CHARACTERS = 16


@dataclass(frozen=True, slots=True)
class Goal:
    """``metric`` of ``ours`` divided by that of ``against`` (empty: the best peer over HTTP), at least or at most."""

    metric: str
    value: float
    ours: str = OURS
    against: str = ""


GOALS = (
    Goal("W1 decode", 0.95),
    Goal("W1 decode", 0.97, ours=OURS_IN_PROCESS),
    Goal("W1 first", 1.10),
    Goal("W2", 1.8),
    Goal("W2b", 1.6),
    Goal("W2", 5.0, against=SERIAL),
    Goal("W3", 1.2),
    Goal("W4", 1.3),
)
AGAIN_GOAL = 10.0
"""How many times sooner the first token of a context that comes back must be than that of a new one."""
VERBATIM_GOAL = 0.5
"""Time of a verbatim answer divided by that of a free one."""


@dataclass(slots=True)
class Results:
    """``outcomes[server][workload]`` holds one Outcome a round, None where it was not run."""

    servers: list[Server]
    rounds: int
    outcomes: dict[str, dict[str, list[Outcome | None]]] = field(default_factory=dict)
    generator_share: dict[str, list[float]] = field(default_factory=dict)
    """The load generator's processor time as a share of one core."""
    start_faults: dict[str, str] = field(default_factory=dict)
    verbatim: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    about: dict[str, str] = field(default_factory=dict)

    def put(self, server: str, workload: str, turn: int, outcome: Outcome) -> None:
        """Keep the outcome of round ``turn``."""
        rows = self.outcomes.setdefault(server, {}).setdefault(workload, [None] * self.rounds)
        rows[turn] = outcome

    def values(self, server: str, metric: Metric) -> list[float | None]:
        """The metric's figure in each round."""
        rows = self.outcomes.get(server, {}).get(metric.workload, [])
        return [row.figures.get(metric.key) if row is not None else None for row in rows]

    def median(self, server: str, metric: Metric) -> float | None:
        """The median over the rounds that have the figure."""
        found = [value for value in self.values(server, metric) if value is not None]
        return median(found) if found else None

    def best_peer(self, metric: Metric) -> str | None:
        """The name of the peer over HTTP whose median is best."""
        medians = {
            server.name: value
            for server in self.servers
            if server.health and server.name != OURS and (value := self.median(server.name, metric)) is not None
        }
        return (max if metric.higher else min)(medians, key=lambda name: medians[name]) if medians else None

    def ratio(self, ours: str, against: str, metric: Metric) -> tuple[float, list[float]] | None:
        """The ratio of the medians, and those of the rounds that both have."""
        mine, theirs = self.median(ours, metric), self.median(against, metric)
        if mine is None or theirs is None:
            return None
        rounds = zip(self.values(ours, metric), self.values(against, metric), strict=False)
        return mine / theirs, [a / b for a, b in rounds if a is not None and b is not None]

    def worth_repeating(self, server: str, workload: str, factor: float) -> bool:
        """False where the rounds so far leave ``server`` further than ``factor`` from the best peer everywhere."""
        if server in (OURS, OURS_IN_PROCESS) or not factor:
            return True
        metrics = [metric for metric in METRICS if metric.workload == workload]
        for metric in metrics:
            best, own = self.best_peer(metric), self.median(server, metric)
            top = self.median(best, metric) if best else None
            if top is None:
                return True
            if own is not None and (own / top if metric.higher else top / own) >= factor:
                return True
        return False

    def equal_texts(self, server: str, other: str) -> tuple[int, int, int]:
        """How many answers both gave, how many of them are equal, and how many are in the first characters."""
        compared = whole = head = 0
        for workload, rows in self.outcomes.get(server, {}).items():
            others = self.outcomes.get(other, {}).get(workload, [])
            for mine, theirs in _both(rows, others):
                for a, b in zip(mine.texts, theirs.texts, strict=True):
                    compared += 1
                    whole += a == b
                    head += a[:HEAD_CHARACTERS] == b[:HEAD_CHARACTERS]
        return compared, whole, head

    def faults(self) -> list[str]:
        """Everything that went wrong, one line each."""
        lines = [f"{name}: did not start: {why}" for name, why in self.start_faults.items()]
        for server, workloads in self.outcomes.items():
            for workload, rows in workloads.items():
                for turn, row in enumerate(rows):
                    if row is not None and row.faults:
                        lines.append(
                            f"{server}: {workload}, round {turn + 1}: {len(row.faults)} answers failed, "
                            f"the first with: {row.faults[0]}"
                        )
        return lines

    def as_dict(self) -> dict[str, Any]:
        """Every figure of every round, for a file."""
        return {
            "about": self.about,
            "figures": {
                server.name: {metric.key: self.values(server.name, metric) for metric in METRICS}
                for server in self.servers
                if server.name in self.outcomes
            },
            "verbatim": self.verbatim,
            "faults": self.faults(),
        }


def _both(first: Iterable[Outcome | None], second: Iterable[Outcome | None]) -> Iterable[tuple[Outcome, Outcome]]:
    return [(a, b) for a, b in zip(first, second, strict=False) if a is not None and b is not None]
