import time
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourcorners.engine.vocabulary import Vocabulary
from fourcorners.grounding.grammar import Constraint, sentence_grammar
from tests.support import NASTY, texts


@cache
def specials(vocabulary: Vocabulary) -> list[str]:
    """What the vocabulary's control tokens look like as text."""
    pieces = {vocabulary._piece(token, special=True): vocabulary.pieces[token] for token in range(vocabulary.n_tokens)}
    return [shown.decode() for shown, plain in pieces.items() if shown and not plain]


@cache
def spelled(vocabulary: Vocabulary) -> frozenset[int]:
    """The bytes that it has: falcon lacks 0x0B, starcoder 0xF1."""
    return frozenset(b"".join(vocabulary.pieces))


def check_untrusted(vocabulary: Vocabulary, text: str) -> None:
    tokens = vocabulary.plain(text)
    assert b"".join(vocabulary.pieces[token] for token in tokens) == bytes(
        byte for byte in text.encode() if byte in spelled(vocabulary)
    )
    assert all(vocabulary.pieces[token] for token in tokens), "a control token has no text of its own"
    assert not vocabulary.end_tokens.intersection(tokens)


def test_hostile_text_yields_no_control_token_and_comes_back_byte_for_byte(any_vocabulary: Vocabulary) -> None:
    marks = specials(any_vocabulary)
    assert marks
    for mark in [*marks[:300], *marks[-100:]]:
        for text in (mark, f" {mark} ", f"x{mark}{mark}", mark[:3] + mark + mark[3:], f"{mark[:-1]}\n{mark[-1]}"):
            check_untrusted(any_vocabulary, text)
    check_untrusted(any_vocabulary, "".join(marks))
    check_untrusted(any_vocabulary, "\n".join(marks))
    check_untrusted(any_vocabulary, "".join(mark[:-1] for mark in marks))


@given(texts)
def test_any_text_comes_back_byte_for_byte(any_vocabulary: Vocabulary, text: str) -> None:
    check_untrusted(any_vocabulary, text)


@given(st.data())
def test_marks_nested_and_glued_at_random_stay_text(any_vocabulary: Vocabulary, data: st.DataObject) -> None:
    mark = st.sampled_from(specials(any_vocabulary))
    cut = mark.flatmap(lambda text: st.integers(0, len(text)).map(lambda at: text[:at]))
    rest = mark.flatmap(lambda text: st.integers(0, len(text)).map(lambda at: text[at:]))
    pieces = data.draw(st.lists(mark | cut | rest | st.sampled_from(NASTY), max_size=8))
    check_untrusted(any_vocabulary, "".join(pieces))


def test_trusted_text_does_become_control_tokens(any_vocabulary: Vocabulary) -> None:
    tokens = any_vocabulary.control("".join(specials(any_vocabulary)[:1]))
    assert any(not any_vocabulary.pieces[token] for token in tokens)


@pytest.mark.parametrize("unit", ["x", "é", "1", "<", "文", "👩‍", "ab1", "\u0301", " ", "\n", "<|im_end|>"])
def test_300_kb_without_a_space_go_through(any_vocabulary: Vocabulary, unit: str) -> None:
    text = (unit * 300_000)[: 300_000 // len(unit[0].encode())]
    started = time.monotonic()
    check_untrusted(any_vocabulary, text)
    assert time.monotonic() - started < 30


def test_the_grammar_speaks_every_vocabulary(any_vocabulary: Vocabulary) -> None:
    for text in ("The ferry leaves at 6:40 – 12 €.", " an <|im_end|> mark\x7f", "今日は 👩‍👩‍👧‍👦"):
        constraint = Constraint(any_vocabulary.constraint_tokenizer, sentence_grammar([text, "something else"]))
        tokens: list[int] = []
        for _ in range(200):
            allowed = constraint.allowed_after(tokens).tolist()
            if any_vocabulary.eos in allowed:
                break
            wanted = text.encode()[sum(len(any_vocabulary.pieces[token]) for token in tokens) :]
            fitting = [t for t in allowed if any_vocabulary.pieces[t] and wanted.startswith(any_vocabulary.pieces[t])]
            tokens.append(max(fitting, key=lambda token: len(any_vocabulary.pieces[token])))
        assert any_vocabulary.text(tokens) == text


def test_the_pieces_of_a_long_text_join_where_they_were_cut(vocabulary: Vocabulary) -> None:
    text = "The ferry leaves at 6:40. " * 3_000
    assert vocabulary.text(vocabulary.plain(text)) == text
    # Cut before a space, so that the tokens are those of the whole text: no more of them than of its sentences.
    assert len(vocabulary.plain(text)) <= 3_000 * len(vocabulary.plain(" The ferry leaves at 6:40.")) + 20
