import json

import pytest
from hypothesis import given
from pydantic import ValidationError

from fourcorners.grounding.evidence import Citation, GroundingOptions, Span, documents_from
from tests.support import contexts, evidence_of


@given(contexts)
def test_sentences_are_exact_places_in_document_order(texts: list[str]) -> None:
    evidence = evidence_of("?", texts)
    for sentence in evidence.sentences:
        assert texts[sentence.document][sentence.start : sentence.end] == sentence.text
        assert evidence.quote(Span(sentence.document, sentence.start, sentence.end)) == sentence.text
    places = [(sentence.document, sentence.start) for sentence in evidence.sentences]
    assert places == sorted(places)


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (2, 2), (3, 2)])
def test_a_span_is_never_empty_or_backwards(start: int, end: int) -> None:
    with pytest.raises(ValueError, match=f"{start}, {end}"):
        Span(0, start, end)


@pytest.mark.parametrize(
    "options",
    [
        {"grounding": "loose"},
        {"span": "word"},
        {"max_spans": 0},
        {"max_spans": 21},
        {"refusal": ""},
        {"refusal": " no"},
        {"refusal": "no\nidea"},
        {"prior_weight": -1},
        {"spam": 1},
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        GroundingOptions(**options)  # type: ignore[arg-type]


def test_plain_strings_get_numbers_as_ids() -> None:
    assert [document.id for document in documents_from(["a", "b"])] == ["1", "2"]


def test_a_citation_goes_through_json() -> None:
    cited = Citation("a.txt", 1, 3, 7, "text", (Span(2, 0, 4),)).as_dict()
    assert json.loads(json.dumps(cited)) == cited
    assert cited["also"] == [{"index": 2, "start": 0, "end": 4}]
