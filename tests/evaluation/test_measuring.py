"""From a model's answers to the figures, with the bundled reader and with models that do as they are told."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from langchain_core.runnables import RunnableGenerator
from rich.console import Console

from fourcorners import grounded_chain
from fourcorners.errors import EngineBusy
from fourcorners.evaluation.answering import Answer, answer_of
from fourcorners.evaluation.judging import Judged, judged
from fourcorners.evaluation.measuring import Measured, chain_to_measure, measure, own_threshold, together
from fourcorners.evaluation.places import Quote
from fourcorners.evaluation.report import as_json, finite, tables, write_details
from fourcorners.evaluation.rows import Row
from fourcorners.evaluation.summary import by_column, curve_of, scores_of, summarized, thinned
from fourcorners.grounding.evidence import Span
from fourcorners.llms.llama_cpp import LlamaCpp
from tests.support import REFUSAL, Recorder

TEXT = "The museum opens at 10:00. An adult ticket costs €12.50. Dogs are not allowed."
ROWS = [
    Row("When does the museum open?", (TEXT,), ("10:00",), id="a", columns={"kind": "time"}),
    Row("How much is an adult ticket?", (TEXT,), ("€12.50",), id="b", columns={"kind": "price"}),
    Row("Who painted the Mona Lisa?", (TEXT,), answerable=False, id="c", columns={"kind": "none"}),
    Row("Who painted the Mona Lisa?", ("",), answerable=False, id="d", columns={"kind": "none"}),
]


def measured(llm: Any, rows: list[Row] = ROWS, *, grounding: Any = "verbatim", **options: Any) -> Measured:
    into = Measured("museum")
    measure(chain_to_measure(llm, grounding, "sentence", 1), rows, into, span="sentence", **options)
    return into


def made(answerable: bool, score: float | None, *, right: bool, error: str = "", text: str = "Bob") -> Judged:
    """A judged row with a given score."""
    answers = (text,) if right else ("Zoe",)
    row = Row("?", (f"{text} won.",), answers if answerable else (), answerable)
    quote = Quote(text, (Span(0, 0, len(text)),))
    return judged(row, Answer(error=error) if error else Answer(text, (quote,), score=score, n_sentences=1), "phrase")


# The bundled reader


def test_best_answers_and_scores_are_recorded_whatever_the_threshold(bundled_llm: LlamaCpp) -> None:
    rows = measured(bundled_llm).rows
    assert [row.answer.text for row in rows[:2]] == [TEXT[:26], TEXT[27:56]]
    assert rows[2].answer.text in TEXT
    assert all(math.isfinite(row.answer.score or 0) and not row.answer.refused for row in rows[:3])
    assert (rows[3].answer.text, rows[3].answer.refused, rows[3].answer.score) == ("", True, math.inf)
    assert [row.hit for row in rows] == [True, True, False, False]


def test_figures_do_not_depend_on_how_many_run_at_once(bundled_llm: LlamaCpp) -> None:
    one, many = (measured(bundled_llm, ROWS * 5, concurrency=n) for n in (1, 16))
    one_figures, many_figures = (summarized(run.rows, math.inf) for run in (one, many))
    assert one_figures == many_figures
    (first, wrong), (second, also_wrong) = scores_of(one.rows), scores_of(many.rows)
    assert wrong == also_wrong
    assert first == pytest.approx(second, abs=1e-2)  # sums in another order


def test_all_answered_and_all_refused(bundled_llm: LlamaCpp) -> None:
    rows = measured(bundled_llm).rows
    everything, nothing = summarized(rows, math.inf), summarized(rows, -math.inf)
    assert [everything.hit, everything.coverage, everything.risk] == pytest.approx([1, 0.75, 1 / 3])
    assert (everything.verbatim, everything.copied, everything.sentences) == (1.0, 1.0, 1.0)
    assert (everything.precision, everything.recall) == (1.0, 1.0)
    assert everything.confusion.unanswerable_answered == everything.confusion.unanswerable_refused == 1
    assert (nothing.hit, nothing.coverage, nothing.risk, nothing.em) == (0.0, 0.0, None, 0.5)
    assert everything.auroc == nothing.auroc == 1.0
    assert everything.aurc == nothing.aurc


def test_the_models_own_threshold_is_known(bundled_llm: LlamaCpp) -> None:
    for span in ("sentence", "phrase"):
        reply = chain_of(bundled_llm, span).invoke({"question": "?", "context": TEXT})
        assert own_threshold(bundled_llm, "verbatim", span) == reply["threshold"]
    assert own_threshold(bundled_llm, "free", "sentence") is None
    assert own_threshold(Recorder(), "verbatim", "sentence") is None


def chain_of(llm: Any, span: Any) -> Any:
    return grounded_chain(llm, span=span)


def test_speed_is_told(bundled_llm: LlamaCpp) -> None:
    speed = measured(bundled_llm).speed()
    assert all(value is not None and value > 0 for value in speed.values())
    assert speed["first_token_s_median"] <= speed["first_token_s_p95"] <= speed["seconds"]  # type: ignore[operator]


# Other models


def test_a_model_without_scores_gets_what_can_be_measured() -> None:
    rows = measured(Recorder(reply="The museum opens at 10:00.")).rows
    found = summarized(rows, None)
    assert [row.hit for row in rows] == [True, False, False, False]
    assert (found.hit, found.risk, found.verbatim) == (0.5, 0.75, 0.75)
    assert (found.auroc, found.aurc, found.threshold, curve_of(rows)) == (None, None, None, None)
    assert summarized(measured(Recorder(reply=REFUSAL)).rows, 0.0).coverage == 0.0


def test_free_answers_are_measured_without_their_marks() -> None:
    rows = measured(Recorder(reply="The museum opens at 10:00. It is in Rome."), ROWS[:1], grounding="free").rows
    (row,) = rows
    assert row.answer.text == "The museum opens at 10:00. It is in Rome."
    assert (row.hit, row.answer.n_sentences, row.answer.n_supported) == (True, 2, 1)
    assert summarized(rows, None).supported == 0.5


def test_plain_answers_hit_by_what_they_say() -> None:
    (row,) = measured(Recorder(reply="At 10:00, I think."), ROWS[:1], grounding="none").rows
    assert (row.hit, row.verbatim, row.answer.quotes) == (True, False, ())


class Failing:
    """A chain that fails as often as it is told to."""

    def __init__(self, *faults: Exception | float) -> None:
        self.faults = list(faults)

    async def __call__(self, inputs: Any) -> Any:
        async for _ in inputs:
            fault = self.faults.pop(0) if self.faults else 0.0
            if isinstance(fault, Exception):
                raise fault
            await asyncio.sleep(fault)
            yield {
                "answer": "Bob", "refused": False, "score": 0.5, "threshold": 0.0, "sentences": [], "citations": [],
                "usage": {}, "guarantee": "enforced",
            }  # fmt: skip


def test_a_row_that_fails_is_an_error_and_no_refusal_and_the_run_goes_on() -> None:
    into = Measured("x")
    chain: Any = RunnableGenerator(Failing(ValueError("too long"), 0.0, 10.0, EngineBusy("later"), 0.0))
    rows = [Row("?", ("Bob won.",), ("Bob",)) for _ in range(4)]
    measure(chain, rows, into, span="sentence", concurrency=1, timeout_s=0.3)
    assert [row.answer.error for row in into.rows] == ["ValueError: too long", "", "not done after 0.3 s", ""]
    found = summarized(into.rows, math.inf)
    assert (found.rows, found.errors, found.answerable, found.coverage, found.hit) == (4, 2, 2, 1.0, 1.0)
    details = into.rows[0].details(0.0)
    assert details["error"] == "ValueError: too long"
    assert [details[name] for name in ("refused", "hit", "em", "answer")] == [None] * 4


def test_what_is_done_is_kept_when_the_run_is_broken_off() -> None:
    into = Measured("x")
    chain: Any = RunnableGenerator(Failing())

    def stop() -> None:
        if len(into.answers) == 2:
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, BaseExceptionGroup)):
        measure(chain, [Row("?", ("Bob won.",), ("Bob",))] * 9, into, span="sentence", concurrency=1, progress=stop)
    assert len(into.rows) == 2
    assert into.seconds > 0


# Figures by hand


def test_risk_coverage_and_confusion_by_hand() -> None:
    rows = [
        made(True, -2.0, right=True),
        made(True, -1.0, right=False),
        made(False, 0.0, right=False),
        made(True, 1.0, right=True),
        made(True, 0.5, right=True, error="broken"),
    ]
    found = summarized(rows, 0.5)
    assert (found.rows, found.errors, found.answerable, found.unanswerable) == (5, 1, 3, 1)
    assert vars_of(found.confusion) == (2, 1, 1, 0)
    assert [found.coverage, found.risk] == pytest.approx([0.75, 2 / 3])
    assert [found.hit, found.em_answerable, found.em] == pytest.approx([1 / 3, 1 / 3, 1 / 4])
    assert found.auroc == pytest.approx(2 / 3)
    assert found.aurc == pytest.approx((0 + 1 / 2 + 2 / 3 + 2 / 4) / 4)
    assert summarized(rows, -0.5).em == 0.5  # one right, and one refused that has no answer


def vars_of(confusion: Any) -> tuple[int, ...]:
    return tuple(getattr(confusion, name) for name in confusion.__slots__)


def test_what_counts_as_right_depends_on_the_span() -> None:
    row = Row("?", ("Bob won.",), ("Bob",))
    answer = Answer("Bob won.", (Quote("Bob won.", (Span(0, 0, 8),)),), n_sentences=1)
    assert [judged(row, answer, span).right for span in ("sentence", "phrase")] == [True, False]
    assert judged(row, answer, "phrase").precision == 3 / 8
    assert not judged(Row("?", ("Bob won.",), answerable=False), answer, "sentence").right


def test_infinite_scores_come_back_as_such() -> None:
    reply: dict[str, Any] = {
        "answer": "x", "score": None, "threshold": math.inf, "sentences": [], "citations": [], "usage": {},
        "guarantee": "enforced",
    }  # fmt: skip
    assert answer_of({**reply, "refused": True}).score == math.inf
    assert answer_of({**reply, "refused": False}).score == -math.inf
    assert answer_of({**reply, "refused": False, "threshold": None}).score is None


def test_a_row_that_has_no_score_leaves_no_curve() -> None:
    assert curve_of([made(True, 1.0, right=True), made(True, None, right=True)]) is None
    assert summarized([], 0.0).hit is None


def test_groups_are_in_the_order_of_the_file(bundled_llm: LlamaCpp) -> None:
    rows = measured(bundled_llm).rows
    assert {name: len(group) for name, group in by_column(rows, "kind").items()} == {"time": 1, "price": 1, "none": 2}
    assert list(by_column(rows, "other")) == ["–"]


# Reports


def shown(parts: Sequence[Any]) -> str:
    console = Console(width=120, record=True, file=StringIO())
    for part in parts:
        console.print(part)
    return console.export_text()


def test_tables_have_a_line_a_set_a_line_a_group_and_one_for_all(bundled_llm: LlamaCpp) -> None:
    one = measured(bundled_llm)
    other = Measured("[bold]other", one.answers, one.seconds)
    text = shown(tables([one, other], 0.5, "kind", 8))
    assert text.count("[bold]other") == 4
    assert text.count("all together") == 3
    assert text.count("  price") == 6
    assert "8 at once" in text
    assert "all together" not in shown(tables([one], 0.5, None, 8))


def test_json_has_all_figures_and_the_curve(bundled_llm: LlamaCpp) -> None:
    one = measured(bundled_llm)
    told = finite(as_json([one, one], math.inf, "kind", {"llm": "bundled"}))
    json.dumps(told, allow_nan=False)
    assert (told["llm"], told["threshold"], told["sets"][0]["set"]) == ("bundled", None, "museum")
    assert set(told["sets"][0]["by"]["kind"]) == {"time", "price", "none"}
    assert [point[0] for point in told["sets"][0]["risk_coverage"]] == [0.25, 0.5, 0.75]
    assert told["all"]["rows"] == 8


def test_a_long_curve_is_thinned_to_its_ends() -> None:
    curve = curve_of([made(True, float(n), right=n % 2 == 0) for n in range(1000)])
    assert curve is not None
    points = thinned(curve)
    assert len(points) == 101
    assert (points[0], points[-1]) == ((0.001, 0.0, 0.0), (1.0, 0.5, 999.0))


def test_details_have_a_line_a_row(bundled_llm: LlamaCpp, tmp_path: Path) -> None:
    write_details(tmp_path / "rows.jsonl", [measured(bundled_llm)], 1e9)
    lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text("utf-8").splitlines()]
    assert [line["id"] for line in lines] == ["a", "b", "c", "d"]
    first, *_, last = lines
    assert (first["answer"], first["hit"], first["right"], first["kind"]) == (TEXT[:26], True, True, "time")
    assert (last["answer"], last["refused"], last["score"], last["right"]) == (None, True, None, True)
    assert "context" not in first
    write_details(tmp_path / "rows.jsonl", [measured(bundled_llm, ROWS[:1])], -1e9)
    (line,) = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text("utf-8").splitlines()]
    assert (line["answer"], line["best_answer"], line["hit"], line["best_is_right"]) == (None, TEXT[:26], False, True)


def test_rows_of_all_sets_together() -> None:
    one = Measured("a", {0: made(True, 0.0, right=True)})
    assert len(together([one, one])) == 2
