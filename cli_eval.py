"""``fourcorners eval``: how good a model is on one's own questions.

Figures go to standard output, the progress bar and all else to standard error. Exit status: 0 done, 4 done but some
rows failed (counted as errors), 1 all failed, 2 bad usage or a question set that can't be used, 130 interrupted: what
was done by then is reported all the same.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from fourcorners.evaluation.measuring import Measured
    from fourcorners.evaluation.rows import Row
    from fourcorners.settings import ServerSettings

WIDTH = 120
"""Of tables that go to no terminal."""


class Grounding(StrEnum):
    """How answers are bound to the text."""

    verbatim = "verbatim"
    free = "free"
    none = "none"


class Span(StrEnum):
    """What an answer is made of."""

    sentence = "sentence"
    phrase = "phrase"


Files = Annotated[list[Path], typer.Argument(help="Question sets: JSONL or SQuAD 2.0 JSON.", show_default=False)]
LlmOption = Annotated[
    str | None, typer.Option(metavar="SPEC", help="The model: bundled (the default), llama_cpp:PATH, …")
]
SpanOption = Annotated[Span | None, typer.Option(help="Whole sentences (the default) or one short phrase.")]
SpansOption = Annotated[
    int | None,
    typer.Option("--max-spans", metavar="N", help="How many of them an answer may have, 1 (the default) to 20."),
]
ThresholdsOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A threshold file that fourcorners calibrate wrote.")
]
LimitOption = Annotated[int | None, typer.Option(metavar="N", min=1, help="Only the first N rows of each file.")]
AtOnceOption = Annotated[int, typer.Option(metavar="N", min=1, max=128, help="So many questions at once.")]
TimeoutOption = Annotated[
    float | None,
    typer.Option("--timeout", metavar="S", min=0.001, help="Give a question up after S seconds (an error)."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print all figures as one JSON object.")]

EXAMPLES = """\
[bold]Examples[/bold]

fourcorners eval questions.jsonl --by kind --details rows.jsonl

fourcorners eval squad_dev.json --span phrase --llm llama_cpp:/path/to/model.gguf --plot risk.png

fourcorners eval questions.jsonl --swap --json
"""


def eval_command(
    files: Files,
    llm: LlmOption = None,
    grounding: Annotated[Grounding, typer.Option(help="How answers are bound to the text.")] = Grounding.verbatim,
    span: SpanOption = None,
    max_spans: SpansOption = None,
    threshold: Annotated[
        float | None, typer.Option(metavar="X", help="Refuse above this refusal score; by default the model's own.")
    ] = None,
    thresholds: ThresholdsOption = None,
    swap: Annotated[bool, typer.Option("--swap", help="Ask each question over another row's context.")] = False,
    limit: LimitOption = None,
    by: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Break the figures down by a column, such as kind.")
    ] = None,
    details: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write every row's answer and figures, one JSON object a line.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw risk, coverage and scores, as .png or .svg.")
    ] = None,
    concurrency: AtOnceOption = 8,
    timeout_s: TimeoutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a model on question sets: hits, EM, F1, refusals, risk and coverage, speed.

    A FILE is JSONL of {context, question, answers, answerable}, with id, kind, selected and answer_start where known,
    or SQuAD 2.0 JSON. Exit status: 0 done, 4 some rows failed, 1 all failed, 2 a file that can't be used.
    """
    from fourcorners import cli

    def work() -> int:
        from fourcorners.evaluation.measuring import own_threshold
        from fourcorners.prompts.grounded import grounding_options
        from fourcorners.settings import load_settings

        settings = load_settings(llm=llm, span=span, max_spans=max_spans, thresholds=thresholds)
        grounding_options(threshold=threshold)  # not nan
        if grounding is not Grounding.verbatim:
            _check_unscored({"--threshold": threshold, "--thresholds": thresholds, "--plot": plot}, grounding.value)
        sets = read(files, limit, swap=swap, by=by)
        _check_outputs(details, plot)
        session = Session(settings, grounding.value, concurrency, timeout_s)
        session.ask(sets, needs_scores=threshold is not None or plot is not None)
        level = own_threshold(session.llm, session.grounding, settings.span) if threshold is None else threshold
        _report(session, level, by, as_json=as_json)
        _write_files(session, level, details, plot)
        return session.status()

    raise typer.Exit(cli._status_of(work))


@dataclass
class Session:
    """A model and the question sets put to it; Ctrl-C ends it, and what is done is kept."""

    settings: ServerSettings
    grounding: Any
    concurrency: int
    timeout_s: float | None
    measured: list[Measured] = field(default_factory=list)
    llm: Any = None
    interrupted: bool = False

    def ask(self, sets: Sequence[tuple[str, list[Row]]], *, needs_scores: bool = False) -> None:
        """Load the model and put all rows to it. Raises SettingsError for one without scores that ``needs_scores``."""
        from fourcorners.errors import SettingsError
        from fourcorners.evaluation.measuring import Measured, chain_to_measure, measure, own_threshold
        from fourcorners.llms import init_llm

        settings = self.settings
        try:
            with _progress(sum(len(rows) for _, rows in sets)) as advance:
                self.llm = init_llm(settings.llm, **settings.loading)
                if needs_scores and own_threshold(self.llm, self.grounding, settings.span) is None:
                    raise SettingsError(f"{settings.llm!r} tells no refusal scores: it can have no threshold")
                chain = chain_to_measure(self.llm, self.grounding, settings.span, settings.max_spans)
                for title, rows in sets:
                    self.measured.append(Measured(title))
                    measure(
                        chain,
                        rows,
                        self.measured[-1],
                        span=settings.span,
                        concurrency=self.concurrency,
                        timeout_s=self.timeout_s,
                        progress=lambda title=title: advance(title),  # type: ignore[misc]
                    )
        except KeyboardInterrupt:
            if not any(one.answers for one in self.measured):
                raise
            self.interrupted = True

    def status(self) -> int:
        """The exit status; what failed is told."""
        from fourcorners import cli

        rows = [row for one in self.measured for row in one.rows]
        failed = [row for row in rows if row.answer.error]
        if failed:
            cli._tell(
                f"{len(failed)} of {len(rows)} rows failed; the first, {failed[0].row.id}: {failed[0].answer.error}"
            )
        if self.interrupted:
            cli._tell(f"interrupted after {len(rows)} rows")
            return cli.INTERRUPTED
        return cli.ANSWERED if not failed else cli.FAULT if len(failed) == len(rows) else cli.SKIPPED


def read(
    files: Sequence[Path], limit: int | None, *, swap: bool = False, by: str | None = None
) -> list[tuple[str, list[Row]]]:
    """The rows of each file with the name that it goes by in the tables."""
    from fourcorners.errors import SettingsError
    from fourcorners.evaluation.rows import read_rows, swapped

    stems = [path.stem for path in files]
    found: list[tuple[str, list[Row]]] = []
    for path, stem in zip(files, stems, strict=True):
        rows = read_rows(path)
        title = stem if stems.count(stem) == 1 else str(path)
        if swap:
            rows, title = swapped(rows, path), f"{title} (swapped)"
        found.append((title, rows[:limit]))
    known = dict.fromkeys(name for _, rows in found for row in rows for name in row.columns)
    if by is not None and by not in known:
        raise SettingsError(f"--by {by}: no row has such a column (there are: {', '.join(known)})")
    return found


def _check_outputs(details: Path | None, plot: Path | None) -> None:
    """A slip in them is told before the work, not behind it."""
    if details is not None:
        check_folder(details, "details")
    if plot is not None:
        from fourcorners.evaluation.plot import check_plot

        check_plot(plot)


def check_folder(path: Path, what: str) -> None:
    """Raises SettingsError where no file can be written to ``path``."""
    from fourcorners.errors import SettingsError

    if path.is_dir() or not path.absolute().parent.is_dir():
        raise SettingsError(f"the {what} can't be written to {str(path)!r}: name a file in a folder that is there")


def _check_unscored(options: dict[str, Any], grounding: str) -> None:
    """Raises SettingsError for options that need refusal scores, which only verbatim answers have."""
    from fourcorners.errors import SettingsError

    if given := [name for name, value in options.items() if value is not None]:
        raise SettingsError(f"--grounding {grounding} has no refusal scores: leave out {' and '.join(given)}")


@contextmanager
def _progress(n_rows: int) -> Iterator[Callable[[str], None]]:
    """A bar on standard error, where that is a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from fourcorners.cli import _VISIBLE, _stderr

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}", markup=False))
    console = _stderr()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=n_rows)
        yield lambda title: bar.update(task, advance=1, description=title.translate(_VISIBLE))


def _report(session: Session, threshold: float | None, by: str | None, *, as_json: bool) -> None:
    """The figures on standard output."""
    from fourcorners.evaluation.report import as_json as figures
    from fourcorners.evaluation.report import tables

    if as_json:
        settings = session.settings
        asked = {"llm": settings.llm, "grounding": session.grounding, "span": settings.span}
        print_json(figures(session.measured, threshold, by, {**asked, "max_spans": settings.max_spans}))
        return
    console = _stdout()
    for table in tables(session.measured, threshold, by, session.concurrency):
        console.print(table)


def _write_files(session: Session, threshold: float | None, details: Path | None, plot: Path | None) -> None:
    """What was asked for beside the figures."""
    if details is not None:
        from fourcorners.evaluation.report import write_details

        write_details(details, session.measured, threshold)
    if plot is not None and any(not row.answer.error for one in session.measured for row in one.rows):
        from fourcorners.evaluation.plot import draw

        draw(plot, session.measured, threshold)


def print_json(value: Any) -> None:
    """One JSON object on standard output; an infinite number is null."""
    from fourcorners.cli import _VISIBLE_JSON
    from fourcorners.evaluation.report import finite

    text = json.dumps(finite(value), ensure_ascii=sys.stdout.encoding.lower() != "utf-8")
    print(text.translate(_VISIBLE_JSON) if sys.stdout.isatty() else text, flush=True)


def _stdout() -> Console:
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=WIDTH)
