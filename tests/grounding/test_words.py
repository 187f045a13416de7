import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given

from fourcorners.grounding.words import fold, folded_words, function_words, guess_language, stem, word_families
from tests.support import texts


@given(texts)
def test_any_text_can_be_folded_and_stemmed(text: str) -> None:
    for word in folded_words(text):
        assert word == fold(word) or fold(word)  # folding goes on to work on what it made
        assert isinstance(stem(word, "english"), str)


def test_case_and_accents_do_not_count() -> None:
    assert folded_words("CAFÉ Cafe\u0301 café") == ["cafe"] * 3


def test_a_number_with_separators_is_one_word() -> None:
    assert folded_words("It was $1,200.50 at 6:40.") == ["it", "was", "1,200.50", "at", "6:40"]


def test_the_possessive_is_no_word() -> None:
    assert folded_words("the ferry's and the ferry’s") == ["the", "ferry", "and", "the", "ferry"]


def test_inflected_forms_share_a_stem() -> None:
    assert stem("leaves", "english") == stem("leave", "english")
    assert stem("word", "klingon") == "word"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("what is the best year of all time", "english"),
        ("comment tu t'appelle", "french"),
        ("wie heißt du und was ist das", "german"),
        ("1986", None),
        ("", None),
    ],
)
def test_function_words_tell_the_language(text: str, language: str | None) -> None:
    assert guess_language(folded_words(text)) == language


def test_function_words_are_listed_as_stems() -> None:
    assert "the" in function_words("english")
    assert "ferry" not in function_words("english")
    assert function_words("klingon") == frozenset()


def test_irregular_forms_share_a_stem() -> None:
    assert stem("began", "english") == stem("begins", "english")
    assert stem("children", "english") == stem("child", "english")


def test_a_family_brings_together_what_a_question_and_a_text_call_the_same_thing() -> None:
    assert stem("fee", "english") in word_families()[stem("costs", "english")]
    assert all(one not in others for one, others in word_families().items())


def test_threads_that_stem_at_once_get_what_each_would_get_alone() -> None:
    def stems(number: int) -> list[str]:
        stem.cache_clear()
        words = [f"{word}{ending}" for word in ("rain", "relat", "nation", "hop") for ending in ENDINGS]
        return [stem(word, "english") for word in words[number:] + words[:number]]

    alone = [stems(number) for number in range(16)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            for _ in range(3):
                assert list(pool.map(stems, range(16))) == alone
    finally:
        sys.setswitchinterval(before)
        stem.cache_clear()


ENDINGS = ["s", "ed", "ing", "ation", "ations", "ally", "fulness", "iveness", "ization", "ement", "es", "er"]
