"""How many threads a step gets: all of them on a quiet machine, fewer while others need the cores.

llama.cpp's threads wait for one another hundreds of times a step, spinning. When one of them has lost its core to
another program the others burn theirs until the kernel gives it back: on two cores with one other busy thread a step
on two threads took 3 to 100 times as long, on one thread only twice as long as on a quiet machine.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

MOST_WAITING = 0.2
"""A thread that computes all the time and waits for its core longer than this share of it has company there."""
VERDICT_SECONDS = 0.05
"""So much model time makes a verdict: single steps are often interrupted for no reason."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds until more threads are tried again; doubled each time that it was too early."""


def core_wait() -> float:
    """Seconds that the calling thread has waited for a core so far, where the system tells (Linux); else 0."""
    try:
        # The second figure of schedstat, in nanoseconds; waiting for a lock, such as Python's, is not in it.
        return int(Path("/proc/thread-self/schedstat").read_bytes().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


class ThreadGovernor:
    """Told of each step's time, says how many threads the next one gets; ``n`` of at most ``n_max``.

    For the one thread that calls llama.cpp, which takes its part in the computation. ``waited`` is asked about 20 times
    a second.
    """

    def __init__(self, n_max: int, waited: Callable[[], float] = core_wait) -> None:
        self.n = self.n_max = n_max
        self._waited, self._wait_before = waited, waited()
        self._seconds = 0.0
        self._pause, self._retry_at = FIRST_PAUSE, 0.0

    def step(self, now: float, seconds: float) -> int:
        """Account for a step that ended at ``now``; returns the number of threads from now on."""
        if self.n_max > 1:
            self._seconds += seconds
            if self._seconds >= VERDICT_SECONDS:
                self._judge(now)
        return self.n

    def _judge(self, now: float) -> None:
        waited = self._waited()
        share, self._seconds = (waited - self._wait_before) / self._seconds, 0.0
        self._wait_before = waited
        if share > MOST_WAITING:
            if self.n == self.n_max:
                self._pause = min(LONGEST_PAUSE, 2 * self._pause)
            self.n = max(1, min(self.n - 1, self.n * 3 // 4))
            self._retry_at = now + self._pause
        elif self.n == self.n_max:
            self._pause = max(FIRST_PAUSE, self._pause / 2)
        elif now >= self._retry_at:
            self.n = self.n_max
