"""``fourcorners index``: the command, its progress bar and its summary."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fourcorners.retrieval import IndexReport


def index_command(
    folder: Annotated[str, typer.Argument(help="The folder whose files are read.", show_default=False)],
    index: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Where to keep the index; by default in FOLDER, hidden.", show_default=False),
    ] = None,
) -> None:
    """Keep an index of a FOLDER for --index: text, Markdown, HTML, PDF and Word (.docx) files.

    Run it again after changes: only new and changed files are read. Exit status: 0 all read, 4 some files were
    skipped (named on standard error with the reason), 2 nothing to read or an index that can't be used.
    """
    from fourcorners.cli import ANSWERED, SKIPPED, _status_of, _write

    def work() -> int:
        report = _indexed(folder, index)
        _write(_summary(report) + "\n")
        return SKIPPED if report.skipped else ANSWERED

    raise typer.Exit(_status_of(work))


def _indexed(folder: str, index: str | None) -> IndexReport:
    """Index ``folder``; a terminal is shown how far it is."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from fourcorners.cli import _VISIBLE, _stderr, _tell
    from fourcorners.retrieval import index_folder
    from fourcorners.retrieval.reading import printable

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # what it says of odd files, it says without their names
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}", markup=False))
    console = _stderr()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("")

        def show(file: str, done: int, total: int) -> None:
            name = " ".join(printable(file).split()).translate(_VISIBLE)
            bar.update(task, completed=done, total=total, description=name)

        return index_folder(folder, index, warn=_tell, progress=show)


def _summary(report: IndexReport) -> str:
    """What a run did, in one line."""
    from fourcorners.retrieval.reading import printable

    counts = {"read": report.n_read, "unchanged": report.n_unchanged, "gone": report.n_removed}
    told = ", ".join(f"{number} {name}" for name, number in (counts | {"skipped": len(report.skipped)}).items())
    return f"{printable(str(report.file))}: {report.n_passages} passages (files: {told})"
