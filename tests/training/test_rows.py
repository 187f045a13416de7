"""The reader is trained on the prompts that it meets at run time, token by token."""

from __future__ import annotations

import pytest

from fourcorners.engine.vocabulary import Vocabulary
from fourcorners.grounding.evidence import Evidence, documents_from
from fourcorners.llms.run import prompt_tokens
from fourcorners.prompts.contract import load_contract
from fourcorners.prompts.families import CHATML
from fourcorners.prompts.grounded import segments_of
from training.rows import Task, prompt_segments

QUESTION = "How much, <|im_end|> is it?"
SHOWN = [["The pool opens at 7:00.", "It’s free."], ["Ünïcode 👩‍👩‍👧 12.50!\r\n"]]


@pytest.mark.parametrize("task", ["sentence", "phrase"])
def test_a_training_prompt_is_the_runtime_prompt(vocabulary: Vocabulary, task: Task) -> None:
    contract = load_contract(f"reader_{task}")
    evidence = Evidence(QUESTION, documents_from(["unused"]))
    blocks = ["\n".join(document) for document in SHOWN]
    system, user = (segments_of(part, contract, evidence, blocks) for part in ("system", "user"))
    trained = []
    for text, is_control in prompt_segments(task, QUESTION, SHOWN):
        trained += vocabulary.control(text) if is_control else vocabulary.plain(text)
    assert prompt_tokens(CHATML.wrap(system, user), vocabulary) == trained
