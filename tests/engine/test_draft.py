import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourcorners.engine.draft import MIN_MATCH, Drafter, SuffixAutomaton

few_tokens = st.lists(st.integers(0, 2), max_size=40) | st.lists(st.integers(0, 40), max_size=40)


def longest_repeat(text: list[int]) -> tuple[int, int]:
    """The length of the longest end of ``text`` that also ends earlier, and where it first does."""
    for length in range(len(text) - 1, 0, -1):
        for end in range(length, len(text)):
            if text[end - length : end] == text[-length:]:
                return length, end
    return 0, 0


@given(few_tokens, few_tokens, st.integers(0, 10))
def test_matches_and_proposals_are_those_of_a_search_by_hand(prompt: list[int], answer: list[int], n: int) -> None:
    automaton, text = SuffixAutomaton(prompt), list(prompt)
    for n_fed in range(len(answer) + 1):
        length, end = longest_repeat(text)
        assert automaton.match_length == min(length, n_fed)
        assert list(automaton.propose(n)) == (text[end : end + n] if automaton.match_length else [])
        if n_fed < len(answer):
            automaton.feed(answer[n_fed])
            text.append(answer[n_fed])


def fed(prompt: str, answer: str) -> SuffixAutomaton:
    automaton = SuffixAutomaton(map(ord, prompt))
    for letter in answer:
        automaton.feed(ord(letter))
    return automaton


def proposed(prompt: str, answer: str, n: int = 4) -> str:
    return "".join(map(chr, fed(prompt, answer).propose(n)))


def test_the_prompt_is_copied_from_and_so_is_the_answer() -> None:
    assert proposed("one two three", "two") == " thr"
    assert proposed("nothing here", "abcdefgh abc") == "defg"


def test_of_several_places_it_is_the_first() -> None:
    assert proposed("xy1234 xy5678", "xy") == "1234"


def test_the_prompt_before_the_answer_tells_equal_places_apart() -> None:
    assert proposed("Q xy1234 A xy5678 A ", "xy") == "5678"


def test_nothing_is_proposed_before_the_answer_or_for_what_is_new() -> None:
    assert fed("abab", "").match_length == 0
    assert proposed("abab", "") == ""
    assert proposed("abab", "z") == ""
    assert proposed("", "") == ""


def test_a_loop_is_proposed_as_far_as_it_goes() -> None:
    assert proposed("", "abcabc") == "abc"
    assert proposed("", "aaaa") == "a"


def drafting(prompt: str, answer: str, **options) -> Drafter:
    drafter = Drafter(SuffixAutomaton(map(ord, prompt)), **options)
    for letter in answer:
        drafter.observe(ord(letter))
    return drafter


def test_a_match_of_one_token_is_not_drafted() -> None:
    assert MIN_MATCH == 2
    drafter = drafting("one two three", "t", worth=lambda n, chance: pytest.fail("nothing was to be asked"))
    assert drafter.propose() == ()
    assert drafter.acceptance == 0.0


def test_no_more_is_drafted_than_allowed_nor_than_is_worth_it() -> None:
    asked = []

    def worth(n: int, chance: float) -> int:
        asked.append((n, chance))
        return 2

    assert len(drafting("0123456789abcdef", "012").propose()) == 8
    assert len(drafting("0123456789abcdef", "012", max_tokens=3).propose()) == 3
    drafter = drafting("0123456789abcdef", "0123", worth=worth)
    assert drafter.propose() == (ord("4"), ord("5"))
    assert asked == [(8, drafter.acceptance)]


def test_the_estimate_follows_the_results() -> None:
    drafter = drafting("0123456789abcdef", "012")
    first = drafter.acceptance
    assert len(drafter.propose()) == 8
    drafter.result(8, 8)
    high = drafter.acceptance
    for _ in range(10):
        drafter.propose()
        drafter.result(8, 0)
    low = drafter.acceptance
    assert 0.0 < low < 0.35 < first < high < 1.0
    for _ in range(20):
        drafter.propose()
        drafter.result(8, 6)  # six right, one wrong
    assert drafter.acceptance == pytest.approx(6 / 7, abs=0.05)


def test_long_matches_have_an_estimate_of_their_own() -> None:
    text = "0123456789abcdefghij"
    short, long = drafting(text, text[:2]), drafting(text, text[:18])
    assert short.acceptance < long.acceptance
    before = long.acceptance
    for letter in text[:2]:
        long.observe(ord(letter))
    long.propose()
    long.result(8, 0)
    assert long.acceptance < short.acceptance
    for letter in text[2:18]:
        long.observe(ord(letter))
    assert long.acceptance == before


def test_guesses_that_were_held_back_teach_too() -> None:
    text = "".join(map(chr, range(100, 400)))
    drafter = drafting(text, "", worth=lambda n, chance: 8 if chance > 0.8 else 0)
    drafter.observe(ord(text[0]))
    drafter.observe(ord(text[1]))
    drafts = []
    for letter in text[2:]:
        drafts.append(len(drafter.propose()))
        drafter.observe(ord(letter))
    assert drafts[0] == 0, "the chance is too low at first"
    assert max(drafts) == 8, "and rises while the guesses turn out right"
    assert drafts.index(8) < 20


@given(few_tokens, few_tokens, st.integers(-1, 10), st.randoms(use_true_random=False))
def test_a_drafter_proposes_what_its_automaton_does(prompt, answer, wanted: int, random) -> None:
    drafter, automaton = Drafter(SuffixAutomaton(prompt), worth=lambda n, chance: wanted), SuffixAutomaton(prompt)
    for token in answer:
        proposal = drafter.propose()
        expected = automaton.propose(8)[: max(0, wanted)] if automaton.match_length >= MIN_MATCH else ()
        assert proposal == expected
        if proposal:
            drafter.result(len(proposal), random.randint(0, len(proposal)))
        assert 0.0 <= drafter.acceptance < 1.0
        drafter.observe(token)
        automaton.feed(token)
