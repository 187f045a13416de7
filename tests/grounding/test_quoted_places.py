from hypothesis import given
from hypothesis import strategies as st

from fourcorners.grounding.evidence import Span
from fourcorners.grounding.prior import lexical_prior
from fourcorners.grounding.quoted_places import quoted_places, snapped
from fourcorners.grounding.segmentation import chunks
from tests.support import check_place, contexts, evidence_of
from tests.support import texts as any_texts


def places(question: str, texts: list[str], quote: str, known: Span) -> list[tuple[int, int]]:
    evidence = evidence_of(question, texts)
    found = quoted_places(evidence, lexical_prior(question, evidence.sentences), quote, [known])
    return [(span.document, span.start) for span in found]


def test_the_best_ranked_of_like_sentences_is_cited_first() -> None:
    texts = ["Our warranty is two years.", "The warranty lasts two years.", "Two years, the warranty lasts two years."]
    assert places("How long is the warranty?", texts, "two years", Span(1, 19, 28)) == [(0, 16), (1, 19), (2, 30)]


def test_a_sentence_on_something_else_is_no_source_though_it_is_listed() -> None:
    texts = ["Room 40 is closed on Fridays.", "The ferry carries 40 bikes."]
    assert places("How many bikes does the ferry carry?", texts, "40", Span(1, 18, 20)) == [(1, 18), (0, 5)]


def test_neither_cut_out_of_words_nor_of_numbers() -> None:
    texts = ["It is 1986.", "It is 19,86 or 1986-7 or a1986."]
    assert places("Which year is it?", texts, "1986", Span(0, 6, 10)) == [(0, 6)]


@given(contexts, st.data())
def test_every_place_is_the_quote_between_borders(texts: list[str], data: st.DataObject) -> None:
    evidence = evidence_of("ferry?", texts)
    if not evidence.sentences:
        return
    sentence = data.draw(st.sampled_from(evidence.sentences))
    borders = [chunk for chunk in chunks(sentence.text) if not sentence.text[slice(*chunk)].isspace()]
    start, end = data.draw(st.sampled_from(borders))
    known = Span(sentence.document, sentence.start + start, sentence.start + end)
    found = quoted_places(evidence, lexical_prior("ferry?", evidence.sentences), evidence.quote(known), [known])
    assert known in found
    assert len(set(found)) == len(found)
    for span in found:
        assert evidence.quote(span) == evidence.quote(known)
        check_place(evidence, span.document, span.start, span.end, whole_sentence=False)


@given(any_texts.filter(bool), st.data())
def test_snapping_only_widens(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    low, high = snapped(text, start, end)
    assert low <= start < end <= high
    assert low in {s for s, _ in chunks(text)}
    assert high in {e for _, e in chunks(text)}
