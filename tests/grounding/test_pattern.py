import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_cpp import LlamaGrammar
from llguidance import LLMatcher, grammar_from

from fourcorners.engine.vocabulary import Vocabulary
from fourcorners.grounding.pattern import Either, Literal, as_gbnf, matches, number_up_to, one_to, prefixes

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
NASTY = [
    "a.b*c",
    'say "no"',
    "back\\slash",
    "tab\tline\nend\r",
    "[x]{2}(y)|z^$?+",
    "渡し船 🛳️",
    "\x00\x7f",
    "-/'",
    "\u2028",
]


@pytest.mark.parametrize("last", [1, 2, 9, 10, 11, 19, 20, 99, 100, 101, 110, 237, 999, 1_000, 1_951])
def test_exactly_the_numbers_up_to_the_last_are_allowed(last: int) -> None:
    pattern = number_up_to(last)
    allowed = [number for number in range(2_100) if matches(pattern, str(number))]
    assert allowed == list(range(1, last + 1))
    assert not any(matches(pattern, text) for text in ("", "01", "1 ", "-1", "1.0", str(last * 10 + 1)))


@given(texts)
def test_a_literal_allows_itself_alone(text: str) -> None:
    assert matches(Literal(text), text)
    assert not matches(Literal(text), text + "x")
    assert re.fullmatch(Literal(text).regex(), text) is not None


@pytest.mark.parametrize("most", [1, 2, 5])
def test_one_to_so_many(most: int) -> None:
    pattern = one_to(most, number_up_to(12), ", ")
    for n in range(1, most + 1):
        assert matches(pattern, ", ".join(["12"] * n))
    assert not matches(pattern, ", ".join(["1"] * (most + 1)))
    assert not matches(pattern, "1, ")


def test_prefixes() -> None:
    pattern = prefixes(["one", " two", " three"])
    assert [text for text in ("", "one", "one two", "one two three", "two", "one tw") if matches(pattern, text)] == [
        "one",
        "one two",
        "one two three",
    ]


@pytest.mark.parametrize("text", NASTY)
def test_llama_cpp_reads_the_grammar(text: str) -> None:
    LlamaGrammar.from_string(as_gbnf(Either((Literal(text), number_up_to(237)))), verbose=False)


@pytest.mark.parametrize("text", [text for text in NASTY if "\x00" not in text])
def test_regex_and_grammar_allow_the_same(vocabulary: Vocabulary, text: str) -> None:
    """By another reader of both languages, token by token."""
    pattern = Either((Literal(text), one_to(2, number_up_to(23), ", ")))
    spoken = [text, "7", "23", "23, 1", "24", text + "x", "7, ", "0"]
    for kind, grammar in (("regex", pattern.regex()), ("gbnf", as_gbnf(pattern))):
        found = [one for one in spoken if _accepts(vocabulary, grammar_from(kind, grammar), one)]
        assert found == [text, "7", "23", "23, 1"], kind


def _accepts(vocabulary: Vocabulary, grammar: str, text: str) -> bool:
    matcher = LLMatcher(vocabulary.constraint_tokenizer, grammar, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    tokens = vocabulary.plain(text)
    return bool(matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting())
