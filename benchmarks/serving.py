"""Load as retrieval makes it: our server and its peers on the same GGUF, in one run, with one report.

    python -m benchmarks.serving --out FOLDER [--only W1,W2] [--peers llama-server,xllamacpp] [--repeat 5]

W1: one stream of 128 tokens after a short prompt, three times. W2: one context of 700 tokens, 16 questions with answers
of 48 tokens, 8 clients; W2b: 32 questions, 16 clients. W3: 8 contexts, 4 questions each, coming back in turn, one
client. W4: 16 contexts, 8 clients. W5 (ours only, see verbatim.py): answers that quote against free decoding.

A machine's speed drifts within minutes, so the servers take turns: in each of ``--repeat`` rounds each is started,
warmed up with a prompt of its own, runs every workload once and is stopped; every round begins with another server.
All get the same prompts, which are new in each round, so that no cache of an earlier one helps. Ratios are those of
medians; the ratios within the rounds are told beside them. A peer that by the rounds so far has less than ``--prune``
of the best peer's speed in all figures of a workload sits that workload out: no drift would make it the best, and the
slowest peers would take most of the time. With all peers five rounds take about half an hour on two
cores, with llama-server alone about 20 minutes. Nothing else may run meanwhile: servers that wait for their threads by
spinning, as llama-server does, lose nine tenths of their speed to one busy neighbour.

FOLDER gets serving.md, serving.svg, serving.json with every figure, and the servers' logs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.picture import picture
from benchmarks.processes import StartError, running
from benchmarks.prompts import Texts
from benchmarks.random_weights import KINDS, SHAPES, random_model
from benchmarks.report import PICTURE, report
from benchmarks.results import Results
from benchmarks.servers import MODELS, OURS, OURS_IN_PROCESS, Server, available_cores, known_servers
from benchmarks.workloads import WORKLOADS, NewClient, warm_up
from fourcorners.engine.runner import load_vocabulary

ROOT = Path(__file__).resolve().parent.parent
VERBATIM = "W5"
_console = Console(stderr=True)


def main() -> None:
    """Run, write the report, print it; exit status 1 where ours did not answer everything."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers started here are ended too
    wanted = arguments.only.split(",") if arguments.only else [*WORKLOADS, VERBATIM]
    if unknown := set(wanted) - {*WORKLOADS, VERBATIM}:
        sys.exit(f"unknown workload {sorted(unknown)}: choose from {[*WORKLOADS, VERBATIM]}")
    model = random_model(arguments.models, arguments.shape, arguments.kind)
    vocabulary, _ = load_vocabulary(model)
    servers = known_servers(
        sorted(vocabulary.end_tokens), arguments.threads, arguments.peer_python, arguments.example_server
    )
    results = Results(_chosen(servers, arguments.peers), arguments.repeat)
    results.about = _about(model, arguments.threads, arguments.repeat)
    texts = Texts(lambda text: len(vocabulary.plain(text)))
    started = time.monotonic()
    workloads = [name for name in wanted if name != VERBATIM]
    for turn in range(arguments.repeat if workloads else 0):
        _round(results, turn, workloads, model, texts, arguments)
        _write(results, arguments.out, started)
    if VERBATIM in wanted:
        _verbatim(results, model)
    _write(results, arguments.out, started)
    print(report(results))
    sys.exit(1 if any(line.startswith(OURS) for line in results.faults()) else 0)


def _write(results: Results, folder: Path, started: float) -> None:
    """After every round, so that a run that is broken off has told something."""
    results.about["time taken"] = f"{(time.monotonic() - started) / 60:.1f} minutes"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "serving.md").write_text(report(results), "utf-8")
    (folder / PICTURE).write_text(picture(results), "utf-8")
    (folder / "serving.json").write_text(json.dumps(results.as_dict(), indent=1), "utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--shape", choices=[*SHAPES], default="135m")
    parser.add_argument("--kind", choices=[*KINDS], default="q4_0")
    parser.add_argument("--repeat", type=int, default=5, help="rounds")
    parser.add_argument("--only", default="", metavar="W1,W2", help="workloads; all by default")
    parser.add_argument("--peers", metavar="A,B", help="peers by the beginning of their names; '' for none")
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--prune", type=float, default=0.7, help="0 repeats every peer in every round")
    parser.add_argument("--models", type=Path, default=MODELS, help="folder of the random models")
    parser.add_argument("--peer-python", default=sys.executable, metavar="PATH", help="where the peers are installed")
    parser.add_argument(
        "--example-server", type=Path, metavar="PATH", help="examples/server/server.py of llama-cpp-python's archive"
    )
    return parser.parse_args()


def _chosen(servers: Sequence[Server], peers: str | None) -> list[Server]:
    """Ours always; peers by the beginning of their names, in any case of letters."""
    names = None if peers is None else [name.strip().lower() for name in peers.split(",") if name.strip()]
    return [
        server
        for server in servers
        if server.name in (OURS, OURS_IN_PROCESS)
        or names is None
        or any(server.name.lower().startswith(name) for name in names)
    ]


def _round(
    results: Results, turn: int, workloads: list[str], model: Path, texts: Texts, arguments: argparse.Namespace
) -> None:
    """Every server once, beginning with another one in every round."""
    able = [server for server in results.servers if not server.missing]
    first = turn % len(able)
    for server in able[first:] + able[:first]:
        names = [
            name
            for name in workloads
            if (not server.workloads or name in server.workloads)
            and (not turn or results.worth_repeating(server.name, name, arguments.prune))
        ]
        if not names or server.name in results.start_faults:
            continue
        _console.print(f"round {turn + 1}/{results.rounds}: {server.name}: {', '.join(names)}")
        try:
            with running(server, model, arguments.out / "logs") as (new_client, _):
                faults = asyncio.run(warm_up(new_client, texts, str(turn)))
                if faults:
                    raise StartError(faults[0])
                for name in names:
                    _run(results, server, turn, name, texts, new_client)
        except StartError as error:
            results.start_faults[server.name] = str(error)
            _console.print(f"  {error}", style="red", highlight=False)


def _run(results: Results, server: Server, turn: int, name: str, texts: Texts, new_client: NewClient) -> None:
    started, used = time.perf_counter(), time.process_time()
    outcome = asyncio.run(WORKLOADS[name](new_client, texts, f"{turn}/{name}"))
    share = (time.process_time() - used) / (time.perf_counter() - started)
    results.put(server.name, name, turn, outcome)
    results.generator_share.setdefault(server.name, []).append(share)
    told = ", ".join(f"{key} {value:.4g}" for key, value in outcome.figures.items())
    _console.print(f"  {told or outcome.faults[0]}", highlight=False)


def _verbatim(results: Results, model: Path) -> None:
    """W5 in a process of its own."""
    specs = {"bundled": "bundled", model.stem: f"llama_cpp:{model}"}
    repeat = ("--repeat", str(2 * results.rounds))
    _console.print("verbatim answers")
    for name, spec in specs.items():
        command = [sys.executable, "-m", "benchmarks.verbatim", spec, *repeat, "--json"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            results.start_faults[f"{OURS}, {VERBATIM} with {name}"] = " / ".join(done.stderr.splitlines()[-2:])
        else:
            results.verbatim[name] = json.loads(done.stdout.splitlines()[-1])["summary"]


def _about(model: Path, threads: int, repeat: int) -> dict[str, str]:
    return {
        "model": f"{model.name}, random weights, {model.stat().st_size / 2**20:.0f} MiB",
        "machine": f"{_processor()}, {threads} threads, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}",
        "rounds": str(repeat),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown processor")


if __name__ == "__main__":
    main()
