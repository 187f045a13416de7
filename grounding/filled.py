"""A filled-in form: its JSON, the validated model, and for each value where it stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from fourcorners.grounding.evidence import Citation, Evidence, Span
from fourcorners.grounding.fields import Form, Leaf, Node, Record, Series
from fourcorners.grounding.readings import as_json

MAX_REPAIRS = 50
"""Optional values that pydantic does not take are left out, one after the other."""


@dataclass(slots=True)
class Value:
    """What was written into a leaf; ``places`` is empty for a free choice. ``note`` says why there is none."""

    leaf: Leaf
    value: Any
    places: tuple[Span, ...] = ()
    note: str = ""


Tree = Value | dict[str, Any] | list[Any] | None


@dataclass(frozen=True, slots=True)
class FilledForm:
    """``data`` is what the JSON says, ``model`` the validated instance; both None where ``refused``.

    ``citations`` has one entry for each leaf of ``data`` by its path (``items[0].price``): None for null, a Citation,
    or "schema" for a free choice. ``missing`` are paths of what is required and not in the documents, ``invalid`` paths
    and reasons of what the schema does not take.
    """

    data: dict[str, Any] | None
    model: BaseModel | None
    citations: dict[str, Citation | str | None]
    missing: tuple[str, ...]
    invalid: dict[str, str] = field(default_factory=dict)

    @property
    def refused(self) -> bool:
        """Whether the documents do not fill the form."""
        return self.model is None

    @property
    def cited(self) -> tuple[Citation, ...]:
        """The citations, each place once, in the order of the fields; none where it is refused."""
        if self.refused:
            return ()
        all_of_them = [one for one in self.citations.values() if isinstance(one, Citation)]
        return tuple({(one.document, one.start, one.end): one for one in reversed(all_of_them)}.values())[::-1]

    @property
    def text(self) -> str:
        """The JSON on one line."""
        return as_json(self.data)


_ABSENT = object()
_NOTHING = Leaf("choice", "", "", True)


def finish(form: Form, tree: Tree, evidence: Evidence) -> FilledForm:
    """Put together what was found, and have pydantic validate it.

    What is required and was not found makes the object around it void, up to an optional one or an item of a list,
    which are left out. Where the whole form is void, or nothing at all was found, it is refused. Optional values that
    break a rule of the model's own are left out too, and listed as invalid.
    """
    invalid: dict[str, str] = {}
    for _ in range(MAX_REPAIRS):
        put = _Assembly(evidence)
        data = put.value(form.root, tree, "")
        citations = put.kept("")
        if data is _ABSENT or not put.found_anything(form.is_free, citations):
            return FilledForm(None, None, citations, tuple(put.missing), invalid)
        try:
            model = form.model.model_validate_json(as_json(data))
        except ValidationError as error:
            problems = {_path(one["loc"]): one["msg"] for one in error.errors(include_url=False)}
            new = problems.keys() - invalid.keys()
            invalid |= problems
            blanked = [_blank(put, path) for path in new]
            if not blanked or not all(blanked):
                return FilledForm(None, None, {}, tuple(put.missing), invalid)
        else:
            return FilledForm(data, model, citations, tuple(put.missing), invalid)
    return FilledForm(None, None, {}, (), invalid)


class _Assembly:
    """From the tree of values to plain data; keeps what was cited, by path."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._values: dict[str, Value] = {}
        self.missing: list[str] = []

    def value(self, node: Node, tree: Tree, path: str) -> Any:
        """Plain data, or _ABSENT."""
        match node:
            case Leaf():
                return self._leaf(node, tree, path)
            case Series():
                return self._series(node, tree, path)
            case Record():
                return self._record(node, tree, path)

    def value_at(self, path: str) -> Value | None:
        """The leaf at ``path``."""
        return self._values.get(path)

    def kept(self, path: str) -> dict[str, Citation | str | None]:
        """The citations of all leaves that are in the data, at ``path`` and below."""
        return {where: self._citation(value) for where, value in self._values.items() if where.startswith(path)}

    @staticmethod
    def found_anything(is_free: bool, citations: Mapping[str, Citation | str | None]) -> bool:
        """Whether something was found, or nothing was to be looked for."""
        return is_free or any(isinstance(one, Citation) for one in citations.values())

    def _leaf(self, leaf: Leaf, tree: Tree, path: str) -> Any:
        value = tree if isinstance(tree, Value) else Value(leaf, None)
        if value.value is None and not leaf.nullable:
            self._values[path] = value
            return _ABSENT
        self._values[path] = value
        return value.value

    def _series(self, series: Series, tree: Tree, path: str) -> Any:
        items = tree if isinstance(tree, list) else []
        put: list[Any] = []
        for item in items:
            if isinstance(item, dict) and _is_empty(item):
                continue
            where = f"{path}[{len(put)}]"
            data = self.value(series.item, item, where)
            if data is _ABSENT:
                if isinstance(series.item, Record):
                    self._note_missing(where)
                self._forget(where)
            else:
                put.append(data)
        if len(put) < series.least:
            self._forget(f"{path}[")
            return None if series.nullable else _ABSENT
        return put

    def _record(self, record: Record, tree: Tree, path: str) -> Any:
        entries = tree if isinstance(tree, dict) else {}
        if record.nullable and _is_empty(entries):
            self._values[path] = Value(_NOTHING, None)
            return None
        put: dict[str, Any] = {}
        void = []
        for entry in record.entries:
            where = f"{path}.{entry.key}" if path else entry.key
            data = self.value(entry.node, entries.get(entry.key), where)
            if data is not _ABSENT:
                put[entry.key] = data
            elif entry.required:
                void.append(entry)
        for entry in void:
            self._note_missing(f"{path}.{entry.key}" if path else entry.key)
        if not void:
            return put
        if record.nullable:
            self._forget(f"{path}.")
            self._values[path] = Value(_NOTHING, None)
            return None
        return _ABSENT

    def _note_missing(self, path: str) -> None:
        """Once, and only the innermost: "vendor.name" and not "vendor" too."""
        if not any(one == path or one.startswith((f"{path}.", f"{path}[")) for one in self.missing):
            self.missing.append(path)

    def _forget(self, prefix: str) -> None:
        for path in [path for path in self._values if path.startswith(prefix)]:
            del self._values[path]

    def _citation(self, value: Value) -> Citation | str | None:
        if value.value is None:
            return None
        if not value.places:
            return "schema"
        first, *others = value.places
        document = self._evidence.documents[first.document]
        quote = document.text[first.start : first.end]
        return Citation(document.id, first.document, first.start, first.end, quote, tuple(others))


def _is_empty(tree: Tree) -> bool:
    """Whether there was something to look for, and nothing was found."""
    grounded = [value for value in _values(tree) if value.leaf.kind != "choice"]
    return bool(grounded) and all(value.value is None for value in grounded)


def _values(tree: Tree) -> Iterator[Value]:
    match tree:
        case Value():
            yield tree
        case dict():
            for inner in tree.values():
                yield from _values(inner)
        case list():
            for inner in tree:
                yield from _values(inner)


def _blank(put: _Assembly, path: str) -> bool:
    """Leave out the value at ``path``; False where there is none that could be."""
    value = put.value_at(path)
    if value is None or value.value is None:
        return False
    value.value, value.places = None, ()
    return True


def _path(parts: tuple[int | str, ...]) -> str:
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path


def form_details(filled: FilledForm, guarantee: str) -> dict[str, Any]:
    """What a reply says of a filled form, in plain types for JSON."""
    fields: dict[str, Any] = {}
    for path, one in filled.citations.items():
        if one is None:
            fields[path] = None
        elif isinstance(one, str):
            fields[path] = {"guarantee": "schema"}
        else:
            fields[path] = {"guarantee": guarantee, **one.as_dict()}
    return {
        "result": None if filled.model is None else filled.model.model_dump(mode="json", by_alias=True),
        "fields": fields,
        "missing": list(filled.missing),
        "invalid": filled.invalid,
    }


def nothing_filled(form: Form) -> dict[str, Any]:
    """``form_details`` where there are no documents to look in."""
    missing = tuple(entry.key for entry in form.root.entries if entry.required and not entry.node.nullable)
    return form_details(FilledForm(None, None, {}, missing), "enforced")
