"""The picture: risk against coverage, and the scores of questions with and without an answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fourcorners.errors import SettingsError
from fourcorners.evaluation.measuring import Measured, together
from fourcorners.evaluation.summary import curve_of, summarized

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ENDINGS = (".png", ".svg")
MAX_BINS = 40
_ANSWERABLE, _UNANSWERABLE, _LINE = "#2b6cb0", "#d97706", "#555555"


def check_plot(path: Path) -> None:
    """Before anything is asked. Raises SettingsError for another ending, or where matplotlib is missing."""
    if path.suffix.lower() not in ENDINGS:
        raise SettingsError(f"a picture can be written to .png and .svg, not to {str(path)!r}")
    if not path.absolute().parent.is_dir():
        raise SettingsError(f"there is no folder {str(path.parent)!r} for the picture")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise SettingsError(f"--plot needs the extra eval ({error}): pip install 'fourcorners[eval]'") from error


def draw(path: Path, measured: Sequence[Measured], threshold: float | None) -> None:
    """Write the picture, as PNG or SVG by the ending. Raises SettingsError where no answer has a score."""
    from matplotlib.figure import Figure  # without pyplot: no window, no state

    scored = [one for one in measured if curve_of(one.rows) is not None]
    if not scored:
        raise SettingsError("there is nothing to draw: this model tells no refusal scores")
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_curves(left, scored, threshold)
    _draw_scores(right, scored, threshold)
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise SettingsError(f"{path} can't be written: {error.strerror or error}") from error


def _draw_curves(axes: Axes, measured: Sequence[Measured], threshold: float | None) -> None:
    curves = [
        (one.title, one.rows) for one in measured if len(measured) == 1 or any(r.row.answerable for r in one.rows)
    ]
    if len(measured) > 1:
        curves.append(("all together", together(measured)))
    for title, rows in curves:
        curve, summary = curve_of(rows), summarized(rows, threshold)
        if curve is None:
            continue
        area = "" if summary.aurc is None else f" (AURC {summary.aurc:.3f})"
        (line,) = axes.step(curve.coverage, curve.risk, where="post", label=_escaped(title) + area, linewidth=1.6)
        if summary.coverage and summary.risk is not None:
            axes.plot(summary.coverage, summary.risk, "o", color=line.get_color(), markersize=7)
    if threshold is not None and np.isfinite(threshold):
        axes.plot([], [], "o", color=_LINE, label=f"at the threshold {threshold:.3g}")
    axes.set(xlabel="coverage: share of the questions answered", ylabel="risk: share of the answers that are wrong")
    axes.set(title="Risk and coverage", xlim=(0, 1.01), ylim=(0, 1.02 if axes.get_ylim()[1] > 0.7 else None))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def _draw_scores(axes: Axes, measured: Sequence[Measured], threshold: float | None) -> None:
    rows = [row for row in together(measured) if np.isfinite(row.answer.score or 0.0)]
    groups = [
        [row.answer.score for row in rows if row.row.answerable is kind and row.answer.score is not None]
        for kind in (True, False)
    ]
    both = [score for group in groups for score in group]
    edges = np.histogram_bin_edges(both or [0.0], bins=min(MAX_BINS, max(10, len(both) // 8)))
    names = ("with an answer", "without an answer")
    for group, name, colour in zip(groups, names, (_ANSWERABLE, _UNANSWERABLE), strict=True):
        if group:
            axes.hist(group, bins=list(edges), alpha=0.55, color=colour, label=f"{name} ({len(group)})")
    if threshold is not None and np.isfinite(threshold):
        axes.axvline(threshold, color=_LINE, linestyle="--", label=f"threshold {threshold:.3g}")
    axes.set(xlabel="refusal score (refused above the threshold)", ylabel="questions", title="Refusal scores")
    axes.legend(fontsize="small")


def _escaped(text: str) -> str:
    return text.replace("$", r"\$").lstrip("_")  # formulas, and labels that a legend leaves out


__all__ = ["check_plot", "draw"]
