"""JSON from a model that nothing constrained: each value is looked for in the documents before it counts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Any

from fourcorners.errors import shortened
from fourcorners.grounding.evidence import Evidence
from fourcorners.grounding.fields import Form, Leaf, Node, Record, Series
from fourcorners.grounding.filled import FilledForm, Tree, Value, finish
from fourcorners.grounding.readings import Readings, as_written, fits

MAX_CHARS = 1_000_000
MAX_TRIES = 100


def json_object(text: str, form: Form) -> dict[str, Any] | None:
    """The first JSON object in ``text`` that has a field of ``form``, whatever stands around it; None where there is
    none that is whole."""
    decoder = json.JSONDecoder(parse_float=Decimal, parse_constant=lambda _: None)
    keys = {entry.key for entry in form.root.entries}
    for start in _braces(text[:MAX_CHARS]):
        try:
            found, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError, InvalidOperation):
            continue
        if isinstance(found, dict) and keys.intersection(found):
            return found
    return None


def check_form(form: Form, data: dict[str, Any], evidence: Evidence) -> FilledForm:
    """``data`` with everything left out that does not stand in the documents; that is listed as invalid."""
    checker = _Checker(evidence)
    tree = checker.tree(form.root, data, "")
    filled = finish(form, tree, evidence)
    return replace(filled, invalid={**checker.dropped, **filled.invalid})


class _Checker:
    def __init__(self, evidence: Evidence) -> None:
        self._readings = Readings(evidence, range(len(evidence.sentences)))
        self.dropped: dict[str, str] = {}

    def tree(self, node: Node, data: Any, path: str) -> Tree:
        """What of ``data`` holds, in the form's own order."""
        match node:
            case Record():
                return {
                    entry.key: self.tree(
                        entry.node,
                        data.get(entry.key) if isinstance(data, dict) else None,
                        f"{path}.{entry.key}" if path else entry.key,
                    )
                    for entry in node.entries
                }
            case Series():
                items = data[: node.most] if isinstance(data, list) else []
                return [self.tree(node.item, item, f"{path}[{number}]") for number, item in enumerate(items)]
            case Leaf():
                return self._leaf(node, data, path)

    def _leaf(self, leaf: Leaf, data: Any, path: str) -> Value:
        if data is None:
            return Value(leaf, None)
        if leaf.kind == "choice":
            chosen = next((one for one in leaf.choices if one == data and type(one) is type(data)), None)
            if chosen is None:
                self.dropped[path] = f"{shortened(data)} is none of the values that the schema has"
            return Value(leaf, chosen)
        value = _as_value(leaf, data)
        places = self._readings.places(value, leaf) if value is not None else []
        if not places:
            self.dropped[path] = f"{shortened(data)} does not stand in the context"
            return Value(leaf, None)
        stands = self._readings.as_it_stands(value, leaf, places[0])
        return Value(leaf, as_written(leaf, stands), tuple(dict.fromkeys(places)))


def _as_value(leaf: Leaf, data: Any) -> Any:
    """``data`` as the readings have it; None where it is of another kind."""
    if leaf.kind not in ("number", "integer"):
        return data.strip() if isinstance(data, str) else None
    if isinstance(data, bool) or not isinstance(data, int | Decimal | str):
        return None
    try:
        number = Decimal(data)
    except InvalidOperation:
        return None
    return number if number.is_finite() and abs(number.adjusted()) < 400 and fits(number, leaf.kind) else None


def _braces(text: str) -> Iterator[int]:
    start = text.find("{")
    for _ in range(MAX_TRIES):
        if start < 0:
            return
        yield start
        start = text.find("{", start + 1)
