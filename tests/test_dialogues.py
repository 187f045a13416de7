"""The dialogues of ``benchmarks/data``, held with the bundled reader: follow-ups that get their sentence."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.dialogues import dialogues, documents, outcomes
from fourcorners.llms.llama_cpp import LlamaCpp

pytestmark = pytest.mark.timeout(120)
LEAST = {"dev": 0.60, "test": 0.72}
LEAST_GAIN, MOST_BEHIND = 0.03, 0.13
"""Over the follow-up asked alone, and behind the same question as a person would put it."""


@pytest.mark.parametrize("half", ["dev", "test"])
def test_the_rule_helps_follow_ups_and_leaves_other_questions_alone(bundled_llm: LlamaCpp, half: str) -> None:
    hits, number, changed = Counter[str](), 0, []
    for asked, way, reply, hit in outcomes(half, bundled_llm):
        if asked.leans:
            hits[way] += hit
            number += way == "rule"
        elif way == "rule" and reply["standalone_question"] != asked.question:
            changed.append(reply["standalone_question"])
    shares = {way: hits[way] / number for way in hits}
    assert shares["rule"] >= LEAST[half]
    assert shares["rule"] >= shares["alone"] + LEAST_GAIN
    assert shares["rule"] >= shares["by hand"] - MOST_BEHIND
    assert len(changed) <= 1


@pytest.mark.parametrize("half", ["dev", "test"])
def test_the_gold_words_stand_in_the_documents(half: str) -> None:
    found, texts = dialogues(half), "\n".join(passage.page_content for passage in documents(half))
    assert len(found) >= 20
    assert all(2 <= len(turns) <= 4 for turns in found)
    assert [asked.gold for turns in found for asked in turns if asked.gold != "-" and asked.gold not in texts] == []
    assert not any(turns[0].leans for turns in found)
