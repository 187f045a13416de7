"""The contract of structured answers, checked on a whole reply."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from pydantic import BaseModel

from fourcorners.grounding.evidence import Evidence, documents_from
from fourcorners.grounding.segmentation import chunks


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of a JSON value by its path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from leaves(inner, f"{path}[{number}]")
    else:
        yield path, value


def check_reply(
    reply: Mapping[str, Any], schema: type[BaseModel], texts: Sequence[str], refusal: str = "Unsure about answer"
) -> None:
    """JSON that validates and stands in the documents, or an honest refusal."""
    for source in reply["fields"].values():
        if source is not None and "quote" in source:
            _check_places(source, texts)
    if reply["refused"]:
        assert reply["answer"] == refusal
        assert reply["result"] is None
        assert reply["citations"] == []
        return
    data = json.loads(reply["answer"], parse_float=Decimal)
    assert "\n" not in reply["answer"]
    model = schema.model_validate_json(reply["answer"])
    assert model.model_dump(mode="json", by_alias=True) == reply["result"]
    for path, value in leaves(data):
        source = reply["fields"][path]
        if value is None:
            assert source is None
        elif source == {"guarantee": "schema"}:
            continue
        elif isinstance(value, str):
            if value != source["quote"]:
                assert value[:1].isdigit() or value[:1] == "-", "only numbers, dates and times are written anew"
                if value.count("-") < 2 and ":" not in value:
                    _check_number(Decimal(value), source["quote"])
        else:
            assert not isinstance(value, bool)
            _check_number(value, source["quote"])
    cited = [(one["index"], one["start"], one["end"]) for one in reply["citations"]]
    assert len(set(cited)) == len(cited)
    assert set(cited) == {(s["index"], s["start"], s["end"]) for s in reply["fields"].values() if s and "quote" in s}


def _check_places(source: Mapping[str, Any], texts: Sequence[str]) -> None:
    sentences = Evidence("?", documents_from(texts)).sentences
    places = [source, *source["also"]]
    assert len({(place["index"], place["start"], place["end"]) for place in places}) == len(places)
    assert texts[source["index"]][source["start"] : source["end"]] == source["quote"]
    for place in places:
        around = [s for s in sentences if s.document == place["index"] and s.start <= place["start"] < s.end]
        assert len(around) == 1, "a value stands in one sentence"
        (sentence,) = around
        assert place["end"] <= sentence.end
        borders = chunks(sentence.text)
        assert place["start"] - sentence.start in {start for start, _ in borders}


def _check_number(value: int | Decimal, quote: str) -> None:
    """The digits of the number are those of the quote, but for zeros that a "k" or "million" stands for."""
    said = "".join(char for char in format(value, "f") if char.isdigit()).strip("0")
    stands = "".join(str(int(char)) for char in quote if char.isdecimal()).strip("0")
    assert said == stands
    assert (value < 0) == quote.lstrip("$€£¥ ").startswith(("-", "−")) or value == 0
