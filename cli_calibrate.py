"""``fourcorners calibrate``: a refusal threshold that keeps a risk bounded, from one's own questions.

What was found goes to standard output, all else to standard error. Exit status as for ``fourcorners eval``; 2 also
where the rows are too few or no threshold keeps the bound. Nothing is written when it is interrupted.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fourcorners.cli_eval import (
    AtOnceOption,
    Files,
    JsonOption,
    LimitOption,
    LlmOption,
    Session,
    SpanOption,
    SpansOption,
    TimeoutOption,
    check_folder,
    print_json,
    read,
)

if TYPE_CHECKING:
    from fourcorners.evaluation.calibration import Calibrated


class BoundName(StrEnum):
    """Which risk a threshold bounds."""

    selective = "selective"
    expected = "expected"


def calibrate_command(
    files: Files,
    max_risk: Annotated[
        float, typer.Option(metavar="X", help="At most this share of the answers may be wrong: 0.1, say.")
    ],
    confidence: Annotated[
        float, typer.Option(metavar="X", help="With this probability, for --bound selective.")
    ] = 0.95,
    bound: Annotated[
        BoundName,
        typer.Option(help="selective: of the answers given; expected: of the questions asked, on average."),
    ] = BoundName.selective,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="The threshold file; what it has for other models and spans stays.")
    ] = Path("thresholds.json"),
    llm: LlmOption = None,
    span: SpanOption = None,
    max_spans: SpansOption = None,
    with_swapped: Annotated[
        bool, typer.Option("--with-swapped", help="Add each question over another row's context.")
    ] = False,
    limit: LimitOption = None,
    concurrency: AtOnceOption = 8,
    timeout_s: TimeoutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the refusal threshold that answers most while the risk stays bounded, and write it to a file.

    The rows must be like the questions that will be asked, those without an answer included: the bound holds for such.
    Use the file with --thresholds, FOURCORNERS_THRESHOLDS or init_llm(…, thresholds=FILE). Exit status: 0 written,
    2 too few rows or no such threshold, 4 written, but some rows failed.
    """
    from fourcorners import cli

    def work() -> int:
        from fourcorners.evaluation.calibration import calibrated, check_wanted
        from fourcorners.evaluation.measuring import together
        from fourcorners.evaluation.summary import scores_of
        from fourcorners.llms.thresholds import read_thresholds
        from fourcorners.settings import load_settings

        settings = load_settings(llm=llm, span=span, max_spans=max_spans)
        settings = settings.model_copy(update={"thresholds": None})  # one that is out of date must not be in the way
        sets = read(files, limit)
        if with_swapped:
            sets += read(files, limit, swap=True)
        check_wanted(sum(len(rows) for _, rows in sets), max_risk, bound.value, confidence)
        check_folder(out, "threshold file")
        if out.exists():
            read_thresholds(out)  # what is there and can't be used is told before the work, not behind it
        session = Session(settings, "verbatim", concurrency, timeout_s)
        session.ask(sets, needs_scores=True)
        status = session.status()
        if status in (cli.INTERRUPTED, cli.FAULT):
            return status
        scores, wrong = scores_of(together(session.measured))
        found = calibrated(scores, wrong, max_risk=max_risk, bound=bound.value, confidence=confidence)
        write(found, session, out, as_json=as_json)
        return status

    raise typer.Exit(cli._status_of(work))


def write(found: Calibrated, session: Session, out: Path, *, as_json: bool) -> None:
    """Put the threshold in the file and tell what it does."""
    from fourcorners import cli
    from fourcorners.llms.thresholds import Threshold, write_threshold

    settings = session.settings
    entry = Threshold(
        **session.llm.threshold_owner(settings.span),
        span=settings.span,
        threshold=found.threshold,
        bound=found.bound,
        max_risk=found.max_risk,
        confidence=found.confidence,
        max_spans=settings.max_spans,
        rows=found.rows,
        coverage=round(found.coverage, 4),
        risk=round(found.risk, 4),
    )
    write_threshold(out, entry)
    if as_json:
        print_json({**entry.model_dump(), "file": str(out), "limit": found.limit})
        return
    share = "of the answers given" if found.bound == "selective" else "of the questions asked, on average"
    surely = f" with confidence {found.confidence:g}" if found.confidence is not None else ""
    cli._write(
        f"{out}: threshold {found.threshold:.4f} for {entry.model}, {entry.grounding}, {entry.span}\n"
        f"answers {found.coverage:.1%} of the {found.rows} rows, {found.risk:.1%} of them wrongly\n"
        f"on questions like these at most {found.max_risk:.1%} {share} are wrong{surely} (the bound reached: "
        f"{found.limit:.1%})\n"
    )
