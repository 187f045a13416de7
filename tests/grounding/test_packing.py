import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourcorners.errors import ContextOverflow
from fourcorners.grounding.packing import MAX_NAMED, LeftOut, Packed, estimated_tokens, pack, packing_info
from fourcorners.grounding.prior import lexical_prior
from tests.support import contexts, evidence_of

FACTS = ["The ferry leaves at 6:40. It is red. It carries 40 bikes.", "\nDogs travel free. The pier is old.\n"]
policies = st.sampled_from(["window", "rank"])


def n_words(text: str) -> int:
    return len(text.split())


def packed(
    question: str, texts: list[str], budget: int, most: int | None = None, policy: str = "window", room: int = 0
) -> Packed:
    evidence = evidence_of(question, texts, packing=policy)
    prior = lexical_prior(question, evidence.sentences)
    return pack(evidence, prior, n_words, budget, most, room or None)


@pytest.mark.parametrize("policy", ["window", "rank", "error"])
def test_whole_documents_are_shown_where_they_fit(policy: str) -> None:
    result = packed("When does the ferry leave?", FACTS, 100, policy=policy)
    assert result == Packed((0, 1, 2, 3, 4), (FACTS[0], FACTS[1].strip()))
    assert result.n_left_out == 0


def test_else_the_best_sentences_are_shown_in_document_order() -> None:
    result = packed("When does the ferry leave, and do dogs travel free?", FACTS, 16)
    assert result.blocks == ("The ferry leaves at 6:40.", "Dogs travel free.")
    assert result.shown == (0, 3)
    assert result.left_out == (LeftOut(0, 2, len("It is red.It carries 40 bikes.")), LeftOut(1, 1, 16))
    assert result.n_left_out == 3


def test_a_model_that_reads_sentences_gets_them_a_line_each() -> None:
    result = packed("When does the ferry leave?", FACTS, 100, most=3)
    assert len(result.shown) == 3
    assert result.n_left_out == 2
    assert 0 in result.shown
    assert sum(len(block.split("\n")) for block in result.blocks) == 3


@pytest.mark.parametrize("policy", ["window", "rank"])
def test_where_no_sentence_fits_it_says_so(policy: str) -> None:
    with pytest.raises(ContextOverflow, match="2 tokens"):
        packed("?", [" ".join(["word"] * 50)], 2, most=1, policy=policy)


@pytest.mark.parametrize(("policy", "most"), [("window", 10), ("rank", 20)])
def test_a_sentence_that_does_not_fit_is_shown_in_part_and_can_be_quoted(policy: str, most: int) -> None:
    result = packed("?", [" ".join(["word"] * 50)], 20, policy=policy)
    assert 5 <= result.blocks[0].count("word") <= most
    assert result.shown == (0,)
    (missing,) = result.left_out
    assert (missing.sentences, missing.characters) == (0, 249 - len(result.blocks[0]))


def test_rank_keeps_whole_documents_in_order_while_they_fit() -> None:
    texts = ["One two three.", "Four five six. Seven.", "\n", "Ferry one two three four five six.", "Ferry."]
    result = packed("Ferry?", texts, 14, policy="rank")
    assert result.blocks == ("One two three.", "Four five six. Seven.")
    assert [(one.document, one.sentences) for one in result.left_out] == [(3, 1), (4, 1)]
    assert packed("Seven?", texts, 14, policy="rank") == result, "the question changes nothing"


def test_rank_cuts_a_first_document_that_is_too_long_between_sentences() -> None:
    text = "\n\nOne  two three.\n\n- Four five.\n- Six seven eight. Nine.\n\nTen."
    result = packed("Ten?", [text, "Eleven."], 9, policy="rank")
    assert result.blocks == ("One  two three.\n\n- Four five.",)
    assert result.shown == (0, 1)
    assert [(one.document, one.sentences) for one in result.left_out] == [(0, 3), (1, 1)]


def test_rank_does_not_stumble_over_a_document_without_words() -> None:
    result = packed("Ferry?", ["- " * 500, "The ferry is red. It is old."], 6, policy="rank")
    assert result.blocks == ("The ferry is red.",)


def test_rank_for_a_model_that_reads_sentences_leaves_out_the_documents_that_do_not_fit() -> None:
    texts = ["It is red. It is old. It is new.", "The ferry leaves at 6:40."]
    assert packed("When does the ferry leave?", texts, 12, most=2, policy="rank", room=50).shown == (0, 1)
    assert 3 in packed("When does the ferry leave?", texts, 50, most=2, policy="rank").shown


@pytest.mark.parametrize("most", [None, 4])
def test_error_names_both_numbers(most: int | None) -> None:
    with pytest.raises(ContextOverflow, match=r"have 23 tokens.*room for 16.*'window' or 'rank'"):
        packed("When does the ferry leave?", FACTS, 16, most, policy="error")
    assert packed("When does the ferry leave?", FACTS, 23, most, policy="error").shown


def test_nothing_but_signs_is_cut_where_it_does_not_fit() -> None:
    for policy in ("window", "rank"):
        result = packed("?", ["-- " * 500], 10, policy=policy)
        assert 1 <= n_words(result.blocks[0]) <= 10


@given(contexts, st.integers(8, 60), st.none() | st.integers(1, 4), policies)
def test_what_is_shown_fits_the_budget_and_nothing_is_dropped_in_silence(
    texts: list[str], budget: int, most: int | None, policy: str
) -> None:
    evidence = evidence_of("ferry?", texts)
    if not evidence.sentences:
        return
    try:
        result = packed("ferry?", texts, budget, most, policy)
    except ContextOverflow:
        return
    assert list(result.shown) == sorted(set(result.shown))
    texts_shown = {evidence.sentences[index].text for index in result.shown}
    left = [sentence for sentence in evidence.sentences if sentence.text not in texts_shown]
    assert result.n_left_out == len(left)
    for one in result.left_out:
        mine = [sentence for sentence in left if sentence.document == one.document]
        assert one.sentences == len(mine)
        assert one.characters >= sum(len(sentence.text) for sentence in mine)
    assert sum(n_words(block) for block in result.blocks) <= budget
    assert most is None or len(result.shown) <= most
    for index in result.shown:
        assert any(evidence.sentences[index].text[:1] in block for block in result.blocks)


@given(contexts, st.integers(8, 60), st.integers(8, 60))
def test_by_rank_a_smaller_budget_shows_a_beginning_of_what_a_larger_one_shows(
    texts: list[str], one: int, other: int
) -> None:
    small, large = ("\n\n".join(packed("?", texts, n, policy="rank").blocks) for n in sorted((one, other)))
    assert large.startswith(small)


def test_equal_sentences_take_the_place_of_one_and_are_not_left_out() -> None:
    texts = ["The ferry is red. " * 20, "The bus is red.", "The bike is red."]
    result = packed("What is red?", texts, 100, most=3)
    assert "\n".join(result.blocks).split("\n").count("The ferry is red.") == 1
    assert {"The bus is red.", "The bike is red."} <= set("\n".join(result.blocks).split("\n"))
    assert result.left_out == ()


def test_so_many_documents_are_named_and_all_are_counted() -> None:
    texts = [f"The house number {number} is old." for number in range(500)]
    info = packing_info(packed("Which house?", texts, 30), evidence_of("Which house?", texts))
    assert len(info["left_out"]) == MAX_NAMED
    assert info["n_left_out_documents"] == info["n_left_out"] > 490
    assert set(info["left_out"][0]) == {"index", "document", "sentences", "characters"}
    assert packing_info(packed("?", ["One."], 30), evidence_of("?", ["One."])) == {}


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("", 0, 0),
        ("The ferry leaves every morning.", 7, 14),
        ("今日は晴れ", 5, 10),
        ("1986", 4, 4),
        ("👩‍👩‍👧‍👦", 7, 25),
    ],
)
def test_the_estimate_is_on_the_safe_side(text: str, least: int, most: int) -> None:
    assert least <= estimated_tokens(text) <= most
