"""Contexts that contradict what everybody knows: the answer is the context's, or it is refused.

How often it is right is measured, and the bounds are a little below what was measured (see benchmarks/data/README.md);
that every answer is of the context holds by construction.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from fourcorners import grounded_chain
from fourcorners.llms.llama_cpp import LlamaCpp
from tests.support import check_answer, evidence_of

pytestmark = pytest.mark.timeout(100)
DATA = Path(__file__).parents[2] / "benchmarks" / "data"
SPANS = ["sentence", "phrase"]


def cases(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text("utf-8").splitlines()]


def asked(llm: LlamaCpp, case: dict[str, Any], span: Any, **options: Any) -> dict[str, Any]:
    given = {"question": case["question"], "context": case["context"]}
    reply = grounded_chain(llm, span=span, **options).invoke(given)
    evidence = evidence_of(case["question"], [case["context"]], span=span)
    check_answer(reply["answer"], reply["citations"], reply["refused"], evidence, span == "sentence")
    assert case["common"] not in reply["answer"]
    return reply


def test_the_sets_hold_what_they_say() -> None:
    told, untold = cases("counterfactual"), cases("counterfactual_unanswered")
    assert len(told) >= 30
    assert len(untold) >= 20
    assert all(case["answer"] in case["context"] and case["common"] not in case["context"] for case in told)
    assert not any(case["common"] in case["context"] for case in untold)


@pytest.mark.parametrize(("span", "least"), [("sentence", 0.9), ("phrase", 0.3)])
def test_a_context_against_common_knowledge_is_answered_by_the_context(
    bundled_llm: LlamaCpp, span: str, least: float
) -> None:
    told = cases("counterfactual")
    replies = [asked(bundled_llm, case, span) for case in told]
    right = [
        not reply["refused"]
        and (case["answer"] in reply["answer"] or (span == "phrase" and reply["answer"] in case["answer"]))
        for case, reply in zip(told, replies, strict=True)
    ]
    assert sum(right) / len(told) >= least


@pytest.mark.parametrize("span", SPANS)
def test_forced_to_answer_it_still_says_nothing_but_the_context(bundled_llm: LlamaCpp, span: str) -> None:
    for case in cases("counterfactual") + cases("counterfactual_unanswered"):
        assert not asked(bundled_llm, case, span, threshold=float("inf"))["refused"]


@pytest.mark.parametrize(("span", "least"), [("sentence", 0.45), ("phrase", 0.3)])
def test_what_everybody_knows_but_the_context_does_not_say_is_refused(
    bundled_llm: LlamaCpp, span: str, least: float
) -> None:
    untold = cases("counterfactual_unanswered")
    refused = [asked(bundled_llm, case, span)["refused"] for case in untold]
    assert sum(refused) / len(untold) >= least


@pytest.mark.parametrize("span", SPANS)
def test_where_the_context_is_about_something_else_nearly_all_is_refused(bundled_llm: LlamaCpp, span: str) -> None:
    untold = cases("counterfactual_unanswered")
    swapped = [
        {**case, "context": untold[(number + step) % len(untold)]["context"]}
        for number, case in enumerate(untold)
        for step in (7, 13, 19)
    ]
    refused = [asked(bundled_llm, case, span)["refused"] for case in swapped]
    assert sum(refused) / len(swapped) >= 0.9
