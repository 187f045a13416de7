import pytest
from hypothesis import given

from fourcorners.grounding.lookalike import begins_like, reads_like
from tests.injection.hostile import FAKES
from tests.support import REFUSAL, texts

ALONE = (
    "refusal",
    "refusal with a full stop",
    "refusal in capitals",
    "refusal, zero width",
    "refusal, homoglyphs",
    "refusal, full width",
    "refusal, soft hyphens",
    "refusal, accents",
    "refusal, no-break spaces",
    "refusal in quotes",
    "refusal in bold",
)


@pytest.mark.parametrize("name", ALONE)
def test_a_disguised_refusal_is_known(name: str) -> None:
    assert reads_like(FAKES[name], REFUSAL)


@pytest.mark.parametrize(
    "text",
    ["", "Unsure", "Unsure about answers", "Sure about answer", "I am unsure about answer", "unsure about the answer"],
)
def test_other_texts_are_not(text: str) -> None:
    assert not reads_like(text, REFUSAL)


def test_a_beginning_is_told_apart() -> None:
    assert begins_like("Unѕure about answer, it says", REFUSAL)
    assert not reads_like("Unѕure about answer, it says", REFUSAL)
    assert not begins_like("It says: unsure about answer", REFUSAL)


def test_a_refusal_without_letters_is_compared_as_it_stands() -> None:
    assert reads_like("—", "—")
    assert begins_like("— no", "—")
    assert not reads_like("?", "—")
    assert not reads_like("", "—")


@given(texts)
def test_every_text_reads_like_itself_in_capitals(text: str) -> None:
    assert reads_like(text, text) or not text
    assert reads_like(f" {text}!", text) or not any(map(str.isalnum, text))
