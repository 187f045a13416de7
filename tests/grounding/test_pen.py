"""What is written is one of the options, whatever the logits say and whatever the vocabulary can spell."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourcorners.engine.vocabulary import Vocabulary
from fourcorners.grounding.field_options import run_bodies
from fourcorners.grounding.pen import Option, Options, Pen
from fourcorners.grounding.proposals import proposals, word_borders
from tests.support import MadeUpModel, any_char, evidence_of, result_of, rules, texts


class FewLetters:
    """A vocabulary that can spell little more than ASCII words; one token is a whole phrase."""

    pieces: Sequence[bytes] = (b"", *(bytes([n]) for n in range(32, 127)), b' "', b"ab", b"abc abc", "é".encode()[:1])
    eos = 0
    end_tokens = frozenset({0})
    constraint_tokenizer: Any = None

    def plain(self, text: str) -> list[int]:
        return [self.pieces.index(bytes([byte])) for byte in text.encode() if 32 <= byte < 127]


def option(text: str, ends: Sequence[int] = ()) -> Option:
    body = text.encode()
    return Option(body, frozenset(ends or [len(body)]), 0.0, text)


def chosen(pen: Pen, options: list[Option], model: MadeUpModel) -> tuple[Option, bytes]:
    found: tuple[Option, bytes] = result_of(pen.choose(Options(options), b'",}'), model)
    return found


@given(st.lists(st.text(any_char, min_size=1, max_size=9), min_size=1, max_size=8), st.integers(0, 99), st.booleans())
def test_it_writes_one_of_the_options(vocabulary: Vocabulary, values: list[str], seed: int, few: bool) -> None:
    tokens: Any = FewLetters() if few else vocabulary
    pen = Pen([1, 2, 3], tokens, rules(temperature=float(seed % 2), seed=seed))
    pen.write('{"a":')
    model = MadeUpModel(len(tokens.pieces), seed)
    for _ in range(2):
        one, written = chosen(pen, [option(value) for value in values], model)
        assert written == one.body
        assert one.value in values
        pen.write(", ")


@given(texts, st.integers(0, 99))
def test_runs_are_whole_words_of_the_text_in_json(vocabulary: Vocabulary, text: str, seed: int) -> None:
    evidence = evidence_of("?", [text])
    bodies = list(run_bodies(evidence, range(len(evidence.sentences))))
    if not bodies:
        return
    pen = Pen([1], vocabulary, rules())
    options = [Option(b'"' + body, frozenset(end + 1 for end in ends), 0.0, True) for body, ends in bodies]
    _, written = chosen(pen, options, MadeUpModel(len(vocabulary.pieces), seed))
    quote = json.loads(written.decode() + '"')
    around = [s.text for s in evidence.sentences if quote in s.text]
    assert around
    places = [(at, at + len(quote)) for s in around for at in range(len(s)) if s.startswith(quote, at)]
    borders = [word_borders(s) for s in around]
    assert any(start in begins and end in ends for start, end in places for begins, ends in borders)


@pytest.mark.parametrize("window", [1, 8, 12])
def test_past_the_window_the_model_is_asked_no_more(vocabulary: Vocabulary, window: int) -> None:
    pen = Pen([1, 2, 3, 4, 5], vocabulary, rules(window_tokens=window))
    model = MadeUpModel(len(vocabulary.pieces))
    for _ in range(12):
        one, written = chosen(pen, [option("abc"), option("abd"), option("x")], model)
        assert written == one.body
    assert pen.full
    assert len(model.sequence) <= window
    assert result_of(pen.goes_on(b",", b"]"), model) is False


def test_the_prior_decides_where_the_model_has_no_weight(vocabulary: Vocabulary) -> None:
    options = [Option(text.encode(), frozenset({len(text)}), prior, text) for text, prior in (("ab", 0.0), ("ac", 1.0))]
    for seed in range(5):
        pen = Pen([1], vocabulary, rules(model_weight=0.0))
        assert chosen(pen, options, MadeUpModel(len(vocabulary.pieces), seed))[0].value == "ac"


def test_an_untrained_model_can_end_a_value_anywhere_it_may_end(vocabulary: Vocabulary) -> None:
    ends = set()
    for seed in range(60):
        pen = Pen([1], vocabulary, rules(temperature=3.0, seed=seed))
        _, written = chosen(pen, [option("a b c", [1, 3, 5])], MadeUpModel(len(vocabulary.pieces), seed))
        ends.add(written)
    assert ends == {b"a", b"a b", b"a b c"}


@given(texts)
def test_proposals_begin_and_end_with_words(text: str) -> None:
    begins, ends = word_borders(text)
    for one in proposals(text):
        assert one.start in begins
        assert one.end in ends
        assert one.start < one.end


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("Invoice number: HQ-7", ["HQ-7"]),
        ("| Lamp | 12.50 |", ["Lamp", "12.50"]),
        ("Write to ada@example.org or call +44 20 7946 0102.", ["ada@example.org", "+44 20 7946 0102"]),
        ("It was sold by Acme Tools Ltd in Leeds.", ["Acme Tools Ltd", "Leeds"]),
        ("Price: $1,200.50 (net)", ["$1,200.50"]),
        ("See https://a.example/b?c=1 today", ["https://a.example/b?c=1"]),
    ],
)
def test_what_looks_like_a_value_is_proposed(text: str, values: list[str]) -> None:
    proposed = {text[one.start : one.end] for one in proposals(text)}
    assert proposed.issuperset(values)
