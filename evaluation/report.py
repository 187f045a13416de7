"""The figures as tables for people, as JSON for programs, and each row's as a line of a file."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from fourcorners.errors import SourceError
from fourcorners.evaluation.measuring import Measured, together
from fourcorners.evaluation.summary import Summary, by_column, curve_of, summarized, thinned

NOTHING = "–"
TOGETHER = "all together"


class _Column(NamedTuple):
    title: str
    value: Callable[[Summary], str]


def _share(value: float | None) -> str:
    return NOTHING if value is None else f"{value * 100:.1f}"


def _number(digits: int) -> Callable[[float | None], str]:
    return lambda value: NOTHING if value is None else f"{value:.{digits}f}"


def _part(part: int, whole: int) -> str:
    return _share(part / whole if whole else None)


_ANSWERS = (
    _Column("rows", lambda s: str(s.rows)),
    _Column("errors", lambda s: str(s.errors)),
    _Column("hits", lambda s: _share(s.hit)),
    _Column("EM", lambda s: _share(s.em_answerable)),
    _Column("F1", lambda s: _share(s.f1_answerable)),
    _Column("EM\nlenient", lambda s: _share(s.lenient)),
    _Column("ROUGE-L", lambda s: _share(s.rouge_l)),
    _Column("EM\nall", lambda s: _share(s.em)),
    _Column("F1\nall", lambda s: _share(s.f1)),
)
_QUOTES = (
    _Column("answers\ngiven", lambda s: str(s.confusion.answerable_answered + s.confusion.unanswerable_answered)),
    _Column("cited\nprecision", lambda s: _share(s.precision)),
    _Column("cited\nrecall", lambda s: _share(s.recall)),
    _Column("sentences", lambda s: _number(2)(s.sentences)),
    _Column("verbatim", lambda s: _share(s.verbatim)),
    _Column("words\ncopied", lambda s: _share(s.copied)),
    _Column("supported", lambda s: _share(s.supported)),
)
_REFUSALS = (
    _Column("answer-\nable", lambda s: str(s.answerable)),
    _Column("answered", lambda s: _part(s.confusion.answerable_answered, s.answerable)),
    _Column("unanswer-\nable", lambda s: str(s.unanswerable)),
    _Column("refused", lambda s: _part(s.confusion.unanswerable_refused, s.unanswerable)),
    _Column("thres-\nhold", lambda s: _number(3)(s.threshold)),
    _Column("cover-\nage", lambda s: _share(s.coverage)),
    _Column("risk", lambda s: _share(s.risk)),
    _Column("AURC", lambda s: _number(3)(s.aurc)),
    _Column("AUROC", lambda s: _number(3)(s.auroc)),
)
_NOTES = {
    "answers": "in percent; all: with a refusal as the right answer where there is none; else of the answerable",
    "quotes": "of the answers given, in percent; sentences: how many an answer has",
    "refusals": "risk: the share of the answers given that are wrong",
}


def tables(measured: Sequence[Measured], threshold: float | None, by: str | None, at_once: int) -> list[Table]:
    """Four tables with a line a question set, and below it one a group of ``by``."""
    lines: list[tuple[str, Summary]] = []
    for one in measured:
        lines.append((one.title, summarized(one.rows, threshold)))
        if by is not None:
            groups = by_column(one.rows, by).items()
            lines += [(f"  {name}", summarized(rows, threshold)) for name, rows in groups]
    if len(measured) > 1:
        lines.append((TOGETHER, summarized(together(measured), threshold)))
    named = {"answers": _ANSWERS, "quotes": _QUOTES, "refusals": _REFUSALS}
    return [*(_table(title, lines, columns) for title, columns in named.items()), _speed_table(measured, at_once)]


def _table(title: str, lines: Sequence[tuple[str, Summary]], columns: Sequence[_Column]) -> Table:
    table = _empty(title, [column.title for column in columns], _NOTES[title])
    for name, summary in lines:
        table.add_row(Text(name), *(column.value(summary) for column in columns))
    return table


def _speed_table(measured: Sequence[Measured], at_once: int) -> Table:
    columns = ["seconds", "ms a row", "tokens/s", "first token\nmedian ms", "first token\np95 ms"]
    table = _empty("speed", columns, f"{at_once} at once; tokens/s of all of them, forced tokens included")
    for one in measured:
        speed = one.speed()
        first = [speed[name] for name in ("first_token_s_median", "first_token_s_p95")]
        plain = [_number(1)(speed[name]) for name in ("seconds", "ms_per_row", "tokens_per_s")]
        table.add_row(Text(one.title), *plain, *(_number(1)(None if s is None else s * 1000) for s in first))
    return table


def _empty(title: str, columns: Sequence[str], note: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=0, caption=note, caption_justify="left", caption_style="dim")
    table.add_column(title, overflow="fold", min_width=10)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def as_json(
    measured: Sequence[Measured], threshold: float | None, by: str | None, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """All figures, with the risk-coverage curve of each question set as [coverage, risk, threshold]."""
    told = {**settings, "threshold": threshold, "sets": [_set_json(one, threshold, by) for one in measured]}
    return told | ({"all": summarized(together(measured), threshold).as_dict()} if len(measured) > 1 else {})


def _set_json(one: Measured, threshold: float | None, by: str | None) -> dict[str, Any]:
    curve = curve_of(one.rows)
    told: dict[str, Any] = {"set": one.title, **summarized(one.rows, threshold).as_dict(), "speed": one.speed()}
    if curve is not None:
        told["risk_coverage"] = thinned(curve)
    if by is not None:
        groups = by_column(one.rows, by).items()
        told["by"] = {by: {name: summarized(rows, threshold).as_dict() for name, rows in groups}}
    failed = [f"{row.row.id}: {row.answer.error}" for row in one.rows if row.answer.error]
    return {**told, "failed": failed} if failed else told


def write_details(path: Path, measured: Sequence[Measured], threshold: float | None) -> None:
    """One JSON object a row, in the order of the files. Raises SourceError where it can't be written."""
    try:
        with path.open("w", encoding="utf-8") as file:
            for one in measured:
                for row in one.rows:
                    told = {"set": one.title, **row.details(threshold)}
                    file.write(json.dumps(finite(told), ensure_ascii=False) + "\n")
    except OSError as error:
        raise SourceError(f"{path} can't be written: {error.strerror or error}") from error


def finite(value: Any) -> Any:
    """``value`` with null for the numbers that JSON lacks."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value


__all__ = ["as_json", "finite", "tables", "write_details"]
