"""Many clients for long, a third of the requests broken off: nothing may be lost, mixed up or left behind.

    python -m benchmarks.soak [--requests 1000] [--clients 16] [--out FOLDER]

A request is a prompt out of a handful of contexts with a random length. A third hang up at a random moment, before the
first text or in the middle. What is checked:

- none lost: every other request gets all its tokens;
- none wrong: every other answer is the greedy answer that the same prompt got alone, up to a token where the two part
  ways because another choice was as good as equal there: closer than twice the numeric noise between batches of
  different shape. Random weights bring that about often, so it is told how much of the text was compared, and how many
  of the possible mix-ups (one prompt's answer given to another) the check would have seen;
- memory: the server's resident size after the first 200 requests against that at the end;
- nothing goes on: once all are served or gone the server's processor time stands still.

Exit status 0 if all hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import cast

from benchmarks.load import Answer, Ask, Client
from benchmarks.processes import running
from benchmarks.prompts import Texts
from benchmarks.random_weights import KINDS, SHAPES, random_model
from benchmarks.servers import MODELS, available_cores, known_servers
from fourcorners.engine.runner import load_vocabulary

CONTEXTS, QUESTIONS = 5, 8
LONGEST, SHORTEST = 64, 8
CHOICES = 5
SETTLED = 200
"""Requests after which memory must stay flat."""
NEAR = 0.2
"""In nats. Between a batch of one and one of 16 the logits of Q4_0 differ by up to 0.09."""
PARKED_MIB = 64
"""What the server may keep of contexts, so little that it is full before the memory must stay flat."""
IDLE_SHARE = 0.2
"""Of a core, when nothing is asked."""


@dataclass(slots=True)
class Soak:
    """What happened."""

    served: int = 0
    n_characters: int = 0
    n_equal_characters: int = 0
    """Before the first difference from the answer alone."""
    cancelled_early: int = 0
    """Before the first text."""
    cancelled_late: int = 0
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    memory: list[tuple[int, float]] = field(default_factory=list)
    """Requests over, and the server's resident MiB then."""
    seen_mix_ups: float = 0.0
    idle_share: float = 0.0
    seconds: float = 0.0

    @property
    def over(self) -> int:
        """Requests that are served or gone."""
        return self.served + self.cancelled_early + self.cancelled_late

    def growth(self, n_requests: int) -> float | None:
        """MiB from the peak of the first part after SETTLED requests to that of the last one, each 30 % of the run.

        Peaks, because contexts on their way come and go: 15 MiB up and down with each of the 135M shape.
        """
        part = 0.3 * n_requests
        early = [mib for n, mib in self.memory if SETTLED <= n < SETTLED + part]
        late = [mib for n, mib in self.memory if n >= n_requests - part]
        return max(late) - max(early) if early and late else None


Token = tuple[str, dict[str, float]]
"""Its text, and the log-probabilities of the best choices in its place."""


def compared(text: str, alone: list[Token]) -> tuple[int, bool]:
    """How many characters of ``text`` are those of ``alone``, and whether what follows can be told by noise."""
    at, told_by_noise = 0, False
    for token, choices in alone:
        rest = text[at:]
        if not rest or _broken(rest) or _broken(token):
            return at, True
        best = max(choices.values())
        # A shorter or a longer token with the same beginning shows only further on.
        others = [other for other, value in choices.items() if other != token and best - value <= NEAR]
        told_by_noise = told_by_noise or any(_begin_alike(rest, other) for other in others)
        if not _begin_alike(rest, token):
            return at, told_by_noise
        at += min(len(token), len(rest))
    return at, True


def _begin_alike(text: str, token: str) -> bool:
    return bool(token) and (text.startswith(token) or token.startswith(text))


def _broken(text: str) -> bool:
    """Tokens that are parts of a character can't be compared as text."""
    return text.startswith(("\N{REPLACEMENT CHARACTER}", "bytes:"))


async def answers_alone(new_client: Callable[[], Client], texts: Texts) -> dict[str, list[Token]]:
    """The answer of every prompt, one after the other."""
    client, alone = new_client(), {}
    client.extra["logprobs"] = CHOICES
    for prompt in (prompt for n in range(CONTEXTS) for prompt in texts.prompts(f"soak/{n}", QUESTIONS)):
        answer = await client.ask(Ask(prompt, LONGEST))
        if answer.fault:
            sys.exit(f"an answer to compare with failed: {answer.fault}")
        alone[prompt] = answer.tokens
    client.close()
    return alone


def seen_mix_ups(alone: dict[str, list[Token]]) -> float:
    """The share of the pairs of prompts where the one's answer would not pass for the other's."""
    texts = ["".join(token for token, _ in tokens) for tokens in alone.values()]
    seen = [
        not compared(text, tokens)[1]
        for own, tokens in enumerate(alone.values())
        for other, text in enumerate(texts)
        if own != other
    ]
    return sum(seen) / len(seen)


async def soak(
    new_client: Callable[[], Client],
    alone: dict[str, list[Token]],
    pid: int,
    n_requests: int,
    n_clients: int,
    cancelled: float,
) -> Soak:
    """Send the requests; what happened."""
    told, chance, times = Soak(), random.Random(7), [1.0]
    choices = [(chance.choice(list(alone)), chance.randint(SHORTEST, LONGEST)) for _ in range(n_requests)]
    cut = [chance.random() if chance.random() < cancelled else None for _ in range(n_requests)]
    waiting = iter(range(n_requests))

    async def work() -> None:
        client = new_client()
        for index in waiting:
            prompt, length = choices[index]
            moment = cut[index]
            patience = None if moment is None else max(0.002, moment * median(times[-100:]))
            started = time.perf_counter()
            try:
                answer = await asyncio.wait_for(client.ask(Ask(prompt, length)), patience)
            except TimeoutError:
                told.cancelled_late += client.cut_text
                told.cancelled_early += not client.cut_text
            else:
                times.append(time.perf_counter() - started)
                _judge(told, alone[prompt], answer)
            if told.over % 10 == 0 and (mib := resident_mib(pid)) is not None:
                told.memory.append((told.over, mib))
        client.close()

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(n_clients)))
    told.seconds = time.perf_counter() - started
    await asyncio.sleep(1.0)
    used = processor_seconds(pid)
    await asyncio.sleep(2.0)
    told.idle_share = (processor_seconds(pid) - used) / 2.0
    return told


def _judge(told: Soak, alone: list[Token], answer: Answer) -> None:
    told.served += 1
    if answer.fault:
        told.lost.append(answer.fault)
        return
    n_equal, fine = compared(answer.text, alone)
    told.n_characters += len(answer.text)
    told.n_equal_characters += n_equal
    if not fine:
        own = "".join(token for token, _ in alone)
        told.wrong.append(
            f"after {n_equal} characters {answer.text[n_equal:][:20]!r} instead of {own[n_equal:][:20]!r}"
        )


def resident_mib(pid: int) -> float | None:
    """The process's resident memory; None where there is no /proc."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:")), None)


def processor_seconds(pid: int) -> float:
    """Processor time used so far by all threads; 0 where there is no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Start the server, prepare, soak, tell."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server started here is ended too
    model = random_model(arguments.models, arguments.shape, arguments.kind)
    vocabulary, _ = load_vocabulary(model)
    texts = Texts(lambda text: len(vocabulary.plain(text)))
    server = known_servers(sorted(vocabulary.end_tokens), arguments.threads)[0]
    os.environ["FOURCORNERS_PARKED_MIB"] = str(PARKED_MIB)
    with tempfile.TemporaryDirectory() as scratch, running(server, model, arguments.out or Path(scratch)) as (new, pid):
        new_client = cast(Callable[[], Client], new)  # ours talks HTTP
        alone = asyncio.run(answers_alone(new_client, texts))
        told = asyncio.run(soak(new_client, alone, pid, arguments.requests, arguments.clients, arguments.cancelled))
    told.seen_mix_ups = seen_mix_ups(alone)
    growth = told.growth(arguments.requests)
    holds = {
        "none lost": not told.lost,
        "none wrong": not told.wrong,
        "memory flat": growth is None or growth <= arguments.max_growth,
        "idle at the end": told.idle_share <= IDLE_SHARE,
    }
    _tell(told, growth, holds, arguments)
    sys.exit(0 if all(holds.values()) else 1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--cancelled", type=float, default=1 / 3, help="share of the requests that hang up")
    parser.add_argument("--max-growth", type=float, default=16.0, metavar="MIB")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="for soak.md, soak.json and the server's log")
    parser.add_argument("--shape", choices=[*SHAPES], default="135m")
    parser.add_argument("--kind", choices=[*KINDS], default="q4_0")
    parser.add_argument("--models", type=Path, default=MODELS, help="folder of the random models")
    parser.add_argument("--threads", type=int, default=available_cores())
    return parser.parse_args()


def _tell(told: Soak, growth: float | None, holds: dict[str, bool], arguments: argparse.Namespace) -> None:
    sizes = [mib for _, mib in told.memory]
    rows = {
        "requests": f"{told.over} by {arguments.clients} clients in {told.seconds:.0f} s",
        "served": f"{told.served}",
        "compared": f"{told.n_equal_characters / max(1, told.n_characters):.0%} of the text; of all possible mix-ups "
        f"{told.seen_mix_ups:.1%} would have been seen",
        "cancelled": f"{told.cancelled_early} before the first text, {told.cancelled_late} in the middle",
        "lost": f"{len(told.lost)}{_first(told.lost)}",
        "wrong": f"{len(told.wrong)}{_first(told.wrong)}",
        "memory": f"{sizes[0]:.0f} MiB at first, {max(sizes):.0f} MiB at most" if sizes else "not known",
        f"growth after the first {SETTLED}": "not known" if growth is None else f"{growth:.1f} MiB",
        "processor time when idle": f"{told.idle_share:.1%} of a core",
        **{name: "yes" if held else "NO" for name, held in holds.items() if growth is not None or "memory" not in name},
    }
    text = "# Soak\n\n| what | |\n|---|---|\n" + "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    print(text)
    if arguments.out:
        (arguments.out / "soak.md").write_text(text + "\n", "utf-8")
        (arguments.out / "soak.json").write_text(json.dumps(asdict(told), indent=1), "utf-8")


def _first(problems: list[str]) -> str:
    return f"; the first: {problems[0]}" if problems else ""


if __name__ == "__main__":
    main()
