from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourcorners.engine.vocabulary import Vocabulary
from fourcorners.grounding.grammar import Constraint, phrase_grammar, sentence_grammar
from fourcorners.grounding.segmentation import chunks
from tests.support import NASTY, REFUSAL, any_char, texts

Accepts = Callable[[str, str], bool]
line = texts.map(lambda text: text.strip()).filter(bool)


def walks(vocabulary: Vocabulary, constraint: Constraint, tokens: Sequence[int]) -> bool:
    for depth, token in enumerate(tokens):
        if token not in constraint.allowed_after(tokens[:depth]):
            return False
    return vocabulary.eos in constraint.allowed_after(tokens)


@pytest.fixture(scope="module")
def accepts(vocabulary: Vocabulary) -> Accepts:
    """Whether a grammar takes a text. Where bytes are forced it wants the usual tokens; single bytes pass less."""
    of_byte = {piece: token for token, piece in reversed(list(enumerate(vocabulary.pieces))) if len(piece) == 1}

    def accepts(grammar: str, text: str) -> bool:
        constraint = Constraint(vocabulary.constraint_tokenizer, grammar)
        spelled = walks(vocabulary, constraint, vocabulary.plain(text))
        by_byte = walks(vocabulary, constraint, [of_byte[bytes([byte])] for byte in text.encode()])
        assert spelled or not by_byte
        return spelled

    return accepts


@pytest.mark.parametrize(
    "text", [piece.strip() or "x" for piece in NASTY] + ['a\x7f"b\\', "\\u0041", "/", "line\nbreak"]
)
def test_a_sentence_is_accepted_as_it_stands(accepts: Accepts, text: str) -> None:
    assert accepts(sentence_grammar([text, "other"]), text)


@given(st.lists(line, min_size=1, max_size=5), line)
def test_only_whole_sentences_are_accepted(accepts: Accepts, sentences: list[str], other: str) -> None:
    grammar = sentence_grammar(sentences)
    assert accepts(grammar, sentences[0])
    assert accepts(grammar, other) == (other in sentences)
    assert accepts(grammar, sentences[0][:-1]) == (sentences[0][:-1] in sentences)
    assert accepts(grammar, sentences[0] + "x") == (sentences[0] + "x" in sentences)
    assert not accepts(grammar, "")


def test_the_end_may_be_an_alternative_too(accepts: Accepts) -> None:
    grammar = sentence_grammar(["\nmore"], may_end=True)
    assert accepts(grammar, "")
    assert accepts(grammar, "\nmore")
    assert not accepts(grammar, "\nmor")


PRICE = "It costs $1,200.50 for 3.2 kg on 12 March 2024 at the well-known shop."


@pytest.mark.parametrize(
    "span", ["It costs", "$1,200.50", "3.2 kg", "12 March 2024", "well-known shop", "shop.", PRICE]
)
def test_runs_of_whole_words_are_accepted(accepts: Accepts, span: str) -> None:
    assert accepts(phrase_grammar([PRICE], refusal=None), span)


@pytest.mark.parametrize(
    "span",
    [
        *("", " ", "1", "$1", "1,200.50", "1,200", "$1,200", ",", "200.50", "2 kg", "3.2"),
        *("12", "March", "12 March", "2024", "well", "known shop", "It cost", "t costs"),
        *(" It costs", "It costs ", "It for", "the the"),
    ],
)
def test_nothing_is_cut_out_of_a_number_price_date_or_word(accepts: Accepts, span: str) -> None:
    assert not accepts(phrase_grammar([PRICE], refusal=None), span)


def test_no_span_runs_over_two_texts(accepts: Accepts) -> None:
    grammar = phrase_grammar(["one two", "three four"], refusal=REFUSAL)
    assert accepts(grammar, "one two")
    assert accepts(grammar, REFUSAL)
    assert not any(
        accepts(grammar, text) for text in ("two three", "twothree", "two\nthree", "one two three", "Unsure")
    )


def test_a_prefix_comes_before_every_alternative(accepts: Accepts) -> None:
    grammar = phrase_grammar(["one two"], refusal=REFUSAL, prefix=" ")
    assert accepts(grammar, " two")
    assert accepts(grammar, " " + REFUSAL)
    assert not accepts(grammar, "two")


@given(line, st.data())
def test_every_run_of_whole_words_is_accepted_and_no_other(accepts: Accepts, text: str, data: st.DataObject) -> None:
    borders = chunks(text)
    solid = [(start, end) for start, end in borders if not text[start:end].isspace()]
    grammar = phrase_grammar([text], refusal=None)
    first = data.draw(st.sampled_from(range(len(solid))))
    last = data.draw(st.sampled_from(range(first, len(solid))))
    assert accepts(grammar, text[solid[first][0] : solid[last][1]])
    start = data.draw(st.integers(0, len(text) - 1))
    cut = text[start : data.draw(st.integers(start + 1, len(text)))]
    runs = {text[a:b] for i, (a, _) in enumerate(solid) for _, b in solid[i:]}
    if cut == cut.strip():
        assert accepts(grammar, cut) == (cut in runs)


@given(st.lists(line, min_size=2, max_size=4, unique=True), st.randoms(use_true_random=False))
def test_jumping_between_paths_gives_what_a_fresh_start_gives(
    vocabulary: Vocabulary, sentences: list[str], random
) -> None:
    grammar = sentence_grammar(sentences)
    constraint = Constraint(vocabulary.constraint_tokenizer, grammar)
    paths = [vocabulary.plain(text) for text in sentences]
    for _ in range(6):
        path = random.choice(paths)
        path = path[: random.randint(0, len(path))]
        fresh = Constraint(vocabulary.constraint_tokenizer, grammar)
        assert constraint.allowed_after(path).tolist() == fresh.allowed_after(path).tolist()


@given(st.text(any_char, min_size=1, max_size=40))
def test_any_characters_compile(vocabulary: Vocabulary, text: str) -> None:
    Constraint(vocabulary.constraint_tokenizer, sentence_grammar([text]))
    Constraint(vocabulary.constraint_tokenizer, phrase_grammar([text], refusal=REFUSAL))
