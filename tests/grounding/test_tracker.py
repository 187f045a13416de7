import numpy as np
import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from fourcorners.grounding.segmentation import chunks
from fourcorners.grounding.tracker import SpanTracker, Start, word_starts
from tests.support import contexts, evidence_of


def starts(*texts: str) -> list[Start]:
    sentences = evidence_of("?", texts).sentences
    return word_starts(sentences, [0.0] * len(sentences))


def places(tracker: SpanTracker) -> list[tuple[int, int, int]]:
    return [(span.document, span.start, span.end) for span in tracker.spans()]


def test_a_span_is_known_by_its_bytes_in_all_documents() -> None:
    tracker = SpanTracker(starts("The red ferry.", "A red ferry, a red bus."))
    for piece in (b"re", b"d ferr", b"y"):
        tracker.advance(piece)
    assert places(tracker) == [(0, 4, 13), (1, 2, 11)]


def test_offsets_are_characters_not_bytes() -> None:
    tracker = SpanTracker(starts("Ünïcödé 👩‍👩‍👧‍👦 cafe\u0301 s'il"))
    tracker.advance("cafe\u0301".encode())
    text = "Ünïcödé 👩‍👩‍👧‍👦 cafe\u0301 s'il"
    ((_, start, end),) = places(tracker)
    assert text[start:end] == "cafe\u0301"


def test_a_span_ends_only_at_the_end_of_a_word() -> None:
    tracker = SpanTracker(starts("It costs $1,200.50 now."))
    tracker.advance(b"$1,200")
    assert tracker.end_mass() == -np.inf
    assert tracker.spans() == []
    tracker.advance(b".50")
    assert tracker.end_mass() > -np.inf
    assert places(tracker) == [(0, 9, 18)]


def test_a_span_begins_at_a_word_and_ends_at_one_or_what_closes_it() -> None:
    tracker = SpanTracker(starts("“Ring (twice), please.”"))
    assert {start.data[start.offset :].decode()[0] for start in tracker.alive} == {"R", "t", "p"}
    for piece in (b"Ring", b" (twice", b")"):
        tracker.advance(piece)
        assert tracker.spans()
    tracker.advance(b",")
    assert tracker.spans() == []


def test_what_is_said_already_or_the_refusal_cannot_be_said_again() -> None:
    tracker = SpanTracker(starts("red bus and red ferry"), excluded=["red"])
    assert {start.data[start.offset :] for start in tracker.alive} == {b"bus and red ferry", b"and red ferry", b"ferry"}


@given(contexts, st.data())
def test_the_mass_of_what_goes_on_and_of_what_ends_is_the_whole_mass(texts: list[str], data: st.DataObject) -> None:
    sentences = evidence_of("?", texts).sentences
    priors = data.draw(st.lists(st.floats(-5, 5), min_size=len(sentences), max_size=len(sentences)))
    tracker = SpanTracker(word_starts(sentences, priors))
    if not tracker.alive:
        return
    assert tracker.masses_total() == pytest.approx(np.logaddexp.reduce(priors))
    target = data.draw(st.sampled_from(tracker.alive))
    for byte in target.data[target.offset : min(target.offset + 6, target.last_end)]:
        goes_on = tracker.masses(bytes([value]) for value in range(256)).values()
        at_the_end = [s.prior for s in tracker.alive if s.offset + len(tracker.emitted) >= s.last_end]
        parts = [*goes_on, *at_the_end]
        assert np.logaddexp.reduce(parts) == pytest.approx(tracker.masses_total())
        tracker.advance(bytes([byte]))


@given(contexts, st.data())
def test_every_run_of_words_is_found_where_it_stands(texts: list[str], data: st.DataObject) -> None:
    sentences = evidence_of("?", texts).sentences
    if not sentences:
        return
    sentence = data.draw(st.sampled_from(sentences))
    solid = [(s, e) for s, e in chunks(sentence.text) if regex.search(r"[\p{L}\p{N}]", sentence.text[s:e])]
    first = data.draw(st.integers(0, len(solid) - 1))
    last = data.draw(st.integers(first, len(solid) - 1))
    quote = sentence.text[solid[first][0] : solid[last][1]]
    tracker = SpanTracker(word_starts(sentences, [0.0] * len(sentences)))
    for byte in quote.encode():
        tracker.advance(bytes([byte]))
    found = places(tracker)
    assert (sentence.document, sentence.start + solid[first][0], sentence.start + solid[last][1]) in found
    assert all(texts[document][start:end] == quote for document, start, end in found)
    assert found == sorted(set(found))
