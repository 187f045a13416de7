"""The report of a run as markdown."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from benchmarks.results import AGAIN_GOAL, GOALS, HEAD_CHARACTERS, VERBATIM_GOAL, Goal, Results
from benchmarks.servers import OURS, OURS_IN_PROCESS
from benchmarks.workloads import METRICS, Metric

PICTURE = "serving.svg"


def report(results: Results) -> str:
    """Goals first, then every median, then what they rest on."""
    sections = [
        ("", "# Serving under load"),
        ("", "\n".join(f"- {name}: {value}" for name, value in results.about.items())),
        ("Against the best peer", _goals(results)),
        ("Medians", f"{_medians(results)}\n\n![the medians as bars]({PICTURE})"),
        ("Verbatim answers (W5)", _verbatim(results)),
        ("Same text", _texts(results)),
        ("Settings", _settings(results)),
        ("What went wrong", "\n".join(f"- {line}" for line in results.faults()) or "Nothing."),
    ]
    return "\n\n".join(f"## {title}\n\n{text}" if title else text for title, text in sections if text) + "\n"


def _goals(results: Results) -> str:
    rows = [row for goal in GOALS if (row := _goal(results, goal))]
    by_key = {metric.key: metric for metric in METRICS}
    cold, again = (results.median(OURS, by_key[key]) for key in ("W3 cold", "W3 again"))
    if cold and again:
        met = _met(cold / again >= AGAIN_GOAL)
        rows.append(
            f"| W3 {by_key['W3 again'].title} | {again:.0f} ms | its cold one | {cold:.0f} ms "
            f"| {cold / again:.1f} x sooner | | ≥ {AGAIN_GOAL:g} x | {met} |"
        )
    for spec, kinds in results.verbatim.items():
        for kind, figures in kinds.items():
            rows.append(
                f"| W5 {spec}, {kind} context | {figures['verbatim ms']:.0f} ms | free decoding "
                f"| {figures['free ms']:.0f} ms | {figures['ratio']:.2f} | | ≤ {VERBATIM_GOAL:g} "
                f"| {_met(figures['ratio'] <= VERBATIM_GOAL)} |"
            )
    head = "| what | ours | against | its figure | ratio | lowest to highest round | goal | met |\n" + "|---" * 8 + "|"
    return "\n".join([head, *rows]) if rows else ""


def _goal(results: Results, goal: Goal) -> str:
    metric = next(metric for metric in METRICS if metric.key == goal.metric)
    against = goal.against or results.best_peer(metric)
    found = results.ratio(goal.ours, against, metric) if against else None
    if found is None or against is None:
        return ""
    ratio, rounds = found
    mine, theirs = results.median(goal.ours, metric), results.median(against, metric)
    title = f"{metric.workload} {metric.title}" + (", in-process" if goal.ours == OURS_IN_PROCESS else "")
    spread = f"{min(rounds):.2f} to {max(rounds):.2f}" if rounds else ""
    met = _met(ratio >= goal.value if metric.higher else ratio <= goal.value)
    return (
        f"| {title} | {_figure(mine)} {metric.unit} | {against} | {_figure(theirs)} | {ratio:.2f} | {spread} "
        f"| {'≥' if metric.higher else '≤'} {goal.value:g} | {met} |"
    )


def _medians(results: Results) -> str:
    shown = [metric for metric in METRICS if any(results.median(s.name, metric) for s in results.servers)]
    best = {metric.key: results.best_peer(metric) for metric in shown}
    lines = [
        "In brackets: divided by the best peer's, which is in bold; n is the number of rounds where not all were run. "
        "The best peer is one that is asked over HTTP: what runs in-process saves itself the way there.",
        "",
        "| server | " + " | ".join(f"{m.key} ({m.unit})" for m in shown) + " | load generator |",
        "|---" * (len(shown) + 2) + "|",
    ]
    for server in results.servers:
        if server.name in results.outcomes:
            cells = [_cell(results, server.name, metric, best[metric.key]) for metric in shown]
            share = median(results.generator_share.get(server.name, [0.0]))
            lines.append(f"| {server.name} | {' | '.join(cells)} | {share:.1%} of a core |")
    return "\n".join(lines)


def _cell(results: Results, server: str, metric: Metric, best: str | None) -> str:
    value = results.median(server, metric)
    if value is None:
        return "–"
    n = sum(v is not None for v in results.values(server, metric))
    told = f"**{_figure(value)}**" if server == best else _figure(value)
    ratio = results.ratio(server, best, metric) if best and server != best else None
    if ratio is not None:
        told += f" ({ratio[0]:.2f})"
    return told if n == results.rounds else f"{told} n={n}"


def _verbatim(results: Results) -> str:
    if not results.verbatim:
        return ""
    names = list(dict.fromkeys(name for kinds in results.verbatim.values() for row in kinds.values() for name in row))
    lines = ["| model | context | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for spec, kinds in results.verbatim.items():
        for kind, row in kinds.items():
            lines.append(f"| {spec} | {kind} | " + " | ".join(f"{row[name]:.4g}" for name in names) + " |")
    return "\n".join(lines)


def _texts(results: Results) -> str:
    ran = [server.name for server in results.servers if server.name in results.outcomes]
    reference = next((name for name in ran if name not in (OURS, OURS_IN_PROCESS)), None)
    if reference is None or len(ran) < 2:
        return ""
    lines = [
        f"Greedy answers compared with those of {reference}. Random weights leave small margins between the first "
        "choices, so that batches of another shape part ways sooner or later; from there on the texts differ.",
        "",
        f"| server | answers compared | equal | equal in the first {HEAD_CHARACTERS} characters |",
        "|---|---|---|---|",
    ]
    for name in ran:
        compared, whole, head = results.equal_texts(name, reference)
        if name not in (reference, OURS_IN_PROCESS) and compared:
            lines.append(f"| {name} | {compared} | {whole / compared:.0%} | {head / compared:.0%} |")
    return "\n".join(lines)


def _settings(results: Results) -> str:
    def lines() -> Iterable[str]:
        for server in results.servers:
            version = f" {server.version}" if server.version else ""
            yield f"- **{server.name}**{version}: {server.missing or server.told()}"

    return "\n".join(lines())


def _met(holds: bool) -> str:
    return "yes" if holds else "no"


def _figure(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
