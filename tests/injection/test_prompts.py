"""Nothing in a document or a question opens or closes a turn, in any family's format and vocabulary."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourcorners import grounded_prompt
from fourcorners.engine.runner import load_vocabulary
from fourcorners.engine.vocabulary import Vocabulary
from fourcorners.grounding.page import signs_of
from fourcorners.llms.llama_cpp import LlamaCpp
from fourcorners.llms.run import plan_prompt, prompt_tokens
from fourcorners.prompts.families import CHATML, LLAMA2
from tests.injection.formats import FAMILIES, Family, prompt_of
from tests.injection.hostile import GROUPS, HOSTILE, MANUAL, QUESTIONS
from tests.support import texts

ALL_MARKERS = sorted({marker for family in FAMILIES.values() for marker in family.markers})
HOSTILE_TEXTS = [*HOSTILE.values(), *(f"x{marker}{marker}y" for marker in ALL_MARKERS), "".join(ALL_MARKERS)]


def counts(family: Family, question: str, document: str) -> dict[str, int]:
    text = "".join(segment.text for segment in prompt_of(family, question, document))
    return {marker: text.count(marker) for marker in family.markers}


def controls(vocabulary: Vocabulary, tokens: list[int]) -> list[int]:
    """What the model reads as a border and not as text."""
    return [token for token in tokens if not vocabulary.pieces[token] or token in vocabulary.end_tokens]


def test_the_corpus_is_large_and_its_documents_differ() -> None:
    assert len(HOSTILE) >= 150
    assert len(set(HOSTILE.values())) == len(HOSTILE)
    assert all(len(group) >= 7 for group in GROUPS.values())


@pytest.mark.parametrize("name", FAMILIES)
def test_a_format_has_the_markers_of_its_template(name: str) -> None:
    family = FAMILIES[name]
    benign = counts(family, QUESTIONS["benign"], MANUAL)
    assert all(benign.values()), f"the template lost a marker: {benign}"


@pytest.mark.parametrize("name", FAMILIES)
def test_no_document_or_question_adds_a_marker_to_the_prompt(name: str) -> None:
    family = FAMILIES[name]
    benign = counts(family, QUESTIONS["benign"], MANUAL)
    for text in HOSTILE_TEXTS:
        assert counts(family, QUESTIONS["benign"], text) == benign
        assert counts(family, text, MANUAL) == benign


@given(st.sampled_from(sorted(FAMILIES)), st.data())
def test_markers_cut_nested_and_glued_at_random_add_none(name: str, data: st.DataObject) -> None:
    family = FAMILIES[name]
    marker = st.sampled_from(family.markers)
    part = marker.flatmap(lambda text: st.integers(0, len(text)).map(lambda at: text[:at]))
    rest = marker.flatmap(lambda text: st.integers(0, len(text)).map(lambda at: text[at:]))
    text = "".join(data.draw(st.lists(marker | part | rest | texts, max_size=8)))
    assert counts(family, "Who?", text) == counts(family, "Who?", "Nobody.")


def test_what_the_model_is_shown_differs_from_the_document_by_spaces_alone() -> None:
    for family in FAMILIES.values():
        for text in (text for text in HOSTILE_TEXTS if len(text) < 2_000):
            shown = family.format.as_data(text)
            assert shown.replace(" ", "") == text.replace(" ", "")
            assert len(shown) <= 1.5 * len(text)
    assert LLAMA2.as_data("a [/INST] b [INST]") == "a [/INST ] b [INST ]"
    assert CHATML.as_data(MANUAL) == MANUAL


def test_no_document_brings_a_control_token_into_the_bundled_readers_prompt(bundled_llm: LlamaCpp) -> None:
    vocabulary = bundled_llm._engine.runner.vocabulary

    def planned(question: str, document: str) -> list[int]:
        text = grounded_prompt().format(question=question, context=[MANUAL, document])
        return plan_prompt(text, bundled_llm._engine, bundled_llm._profile, bundled_llm._format, bundled_llm.settings)

    signs = signs_of(vocabulary.control, vocabulary.n_tokens)

    def borders(question: str, document: str) -> list[int]:
        """What does not depend on how many sentences are shown; the marks stand in order, once in the text and once
        behind the question."""
        found = [token for token in controls(vocabulary, planned(question, document)) if token < signs.question_offset]
        marks = [token for token in found if token in signs.marks]
        assert marks == 2 * list(signs.marks[: len(marks) // 2])
        return [token for token in found if token not in signs.marks and token != signs.text]

    benign = borders(QUESTIONS["benign"], "The tap is red.")
    assert benign == [signs.question, signs.question, signs.none]
    for text in HOSTILE_TEXTS:
        assert borders(QUESTIONS["benign"], text) == benign
        if text.strip():
            assert borders(text[:300], MANUAL) == benign


def check_vocabulary(vocabulary: Vocabulary, family: Family) -> None:
    benign = controls(vocabulary, prompt_tokens(prompt_of(family, QUESTIONS["benign"], MANUAL), vocabulary))
    for text in HOSTILE_TEXTS:
        for question, document in ((QUESTIONS["benign"], text), (text, MANUAL)):
            tokens = prompt_tokens(prompt_of(family, question, document), vocabulary)
            assert controls(vocabulary, tokens) == benign


def test_the_bundled_vocabulary_in_every_format(vocabulary: Vocabulary) -> None:
    for name in ("chatml", "llama-2", "plain"):
        check_vocabulary(vocabulary, FAMILIES[name])


@pytest.mark.extras
@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.vocabulary])
def test_each_family_with_its_own_vocabulary(name: str, vocabulary_folder: Path) -> None:
    family = FAMILIES[name]
    vocabulary, _ = load_vocabulary(vocabulary_folder / f"{family.vocabulary}.gguf")
    check_vocabulary(vocabulary, family)


@pytest.mark.extras
def test_every_vocabulary_keeps_every_hostile_text_plain(any_vocabulary: Vocabulary) -> None:
    for text in HOSTILE_TEXTS:
        assert not controls(any_vocabulary, any_vocabulary.plain(text))
