from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from fourcorners.engine.stopping import StopFilter
from fourcorners.grounding.decoding import Outcome, Piece, Policy
from fourcorners.grounding.evidence import Citation, Span
from fourcorners.llms.stopping import stopped_at
from tests.support import until_first_stop

few_letters = st.text("ab\u0301é", max_size=12)


@given(st.lists(few_letters, max_size=8), st.lists(few_letters, max_size=3))
@example(["a", "b", "a"], ["aba", "b"])
@example(["aba"], ["aba", "b"])
def test_nothing_of_a_stop_string_gets_out_whatever_the_pieces(pieces: list[str], stops: list[str]) -> None:
    text, wanted, shown = "".join(pieces), until_first_stop("".join(pieces), stops), ""
    filter_ = StopFilter(stops)
    for piece in pieces:
        if not filter_.stopped:
            shown += filter_.feed(piece)
            assert wanted.startswith(shown)
    shown += filter_.flush()
    assert shown == wanted
    assert filter_.stopped == any(stop and stop in text for stop in stops)


def test_what_may_become_a_stop_string_is_held_back_until_it_is_clear() -> None:
    filter_ = StopFilter(["###"])
    assert [filter_.feed(piece) for piece in ("a#", "#", "b##", "c")] == ["a", "", "##b", "##c"]
    assert StopFilter(["###"]).flush() == ""


def quoted(*quotes: str) -> Policy:
    """A policy that says ``quotes``, each from the start of a document of its own, which another repeats."""
    citations = []
    for index, quote in enumerate(quotes):
        yield Piece(("\n" if index else "") + quote, 1)
        also = (Span(9, 5, 5 + len(quote)),)
        citations.append(Citation(str(index), index, 0, len(quote), quote, also))
    yield Outcome(False, 0.0, 0.0, tuple(citations), "stop")


@given(st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=3), st.text("ab\n", min_size=1, max_size=3))
def test_citations_are_what_is_shown(quotes: list[str], stop: str) -> None:
    events = list(stopped_at(quoted(*quotes), [stop]))
    shown = "".join(event.text for event in events if isinstance(event, Piece))
    citations = events[-1].citations
    assert shown == until_first_stop("\n".join(quotes), [stop])
    assert "\n".join(citation.quote for citation in citations) == shown.removesuffix("\n")
    for citation in citations:
        assert citation.quote == quotes[citation.document][citation.start : citation.end]
        assert citation.also[0].end - citation.also[0].start == len(citation.quote)


def test_an_answer_that_begins_with_a_stop_string_cites_nothing() -> None:
    assert list(stopped_at(quoted("abc"), ["a"]))[-1].citations == ()
