"""A pydantic model as a form: what each field of a structured answer may hold, and what can't be grounded at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, Literal

import regex
from pydantic import BaseModel, RootModel
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema

from fourcorners.errors import SettingsError, shortened

Kind = Literal["text", "number", "integer", "date", "datetime", "time", "choice"]
MAX_ITEMS = 50
"""Of one list, unless the schema allows fewer."""
MAX_LEAVES = 200
"""Of one schema; a list counts once."""
_LIMITS = frozenset(
    ("minLength", "maxLength", "pattern", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
) | {"multipleOf"}
_EXACT = "x-exact"
_MOMENTS: dict[str, Kind] = {"date": "date", "date-time": "datetime", "time": "time"}
_CAMEL = regex.compile(r"(?<=\p{Ll})(?=\p{Lu})|[_\W]+")


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value. ``choices`` are the values of a "choice"; ``limits`` the constraints of the JSON schema. ``exact``
    numbers are written as texts, because pydantic makes floats of JSON's numbers on the way to a Decimal."""

    kind: Kind
    label: str
    hint: str
    nullable: bool
    choices: tuple[Any, ...] = ()
    limits: Mapping[str, Any] = field(default_factory=dict)
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """A list of ``least`` to ``most`` items of one kind."""

    item: Node
    label: str
    hint: str
    nullable: bool
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Record:
    """A model: its fields in order."""

    entries: tuple[Entry, ...]
    label: str
    hint: str
    nullable: bool


Node = Leaf | Series | Record


@dataclass(frozen=True, slots=True)
class Entry:
    """A field of a model. One that is not ``required`` has a default and may be left out."""

    key: str
    node: Node
    required: bool


@dataclass(frozen=True)
class Form:
    """A schema that can be filled in from documents; make it with ``form_of``."""

    model: type[BaseModel]
    root: Record

    @cached_property
    def description(self) -> str:
        """The fields, a line each, as the model is shown them."""
        return "\n".join(_described(self.root, ""))

    @cached_property
    def is_free(self) -> bool:
        """Whether it asks for nothing that has to stand in the documents."""
        return all(node.kind == "choice" for node in _nodes(self.root) if isinstance(node, Leaf))

    @cached_property
    def words(self) -> str:
        """All names and descriptions, to look for in the documents."""
        return " ".join(f"{node.label} {node.hint}" for node in _nodes(self.root))


def form_of(model: type[BaseModel]) -> Form:
    """The form for a pydantic model. Raises SettingsError naming the field that can't be grounded, and why.

    Texts, numbers, dates, times, enums, ``Literal``, ``bool``, models and lists of these can be; a union where one of
    its parts but ``None`` remains. Dicts, tuples, unions of models and models that hold themselves can't.
    """
    if not (isinstance(model, type) and issubclass(model, BaseModel)) or issubclass(model, RootModel):
        raise SettingsError(f"schema must be a pydantic model with fields, not {shortened(model)}")
    return _form_of(model)


@lru_cache(maxsize=64)
def _form_of(model: type[BaseModel]) -> Form:
    try:
        schema = model.model_json_schema(by_alias=True, mode="validation", schema_generator=_Generator)
    except PydanticUserError as error:
        raise SettingsError(f"schema {model.__name__} has no JSON schema: {str(error).splitlines()[0]}") from error
    root = _Reader(model.__name__, schema.get("$defs", {})).node(schema, "", "", frozenset())
    if not isinstance(root, Record):
        raise SettingsError(f"schema {model.__name__} must have fields")
    if (n_leaves := sum(isinstance(node, Leaf) for node in _nodes(root))) > MAX_LEAVES:
        raise SettingsError(f"schema {model.__name__} has {n_leaves} fields, {MAX_LEAVES} are allowed: split it")
    return Form(model, root)


class _Generator(GenerateJsonSchema):
    def decimal_schema(self, schema: Any) -> dict[str, Any]:
        """A Decimal is a number or a text to pydantic; which of the unions of both are Decimals is lost then."""
        made = super().decimal_schema(schema)
        number = next((one for one in made.get("anyOf", [made]) if one.get("type") == "number"), {"type": "number"})
        return {**number, _EXACT: True}


class _Reader:
    """Turns JSON schema into nodes."""

    def __init__(self, name: str, definitions: Mapping[str, Any]) -> None:
        self._name, self._definitions = name, definitions

    def node(self, given: Mapping[str, Any], path: str, label: str, inside: frozenset[str]) -> Node:
        """What stands at ``path``; ``inside`` are the definitions that it is part of."""
        schema, inside = self._resolved(given, path, inside)
        hint = str(schema.get("description", ""))
        title = str(schema.get("title", ""))
        if title and _words_of(title).lower() != label.lower():
            hint = f"{title} {hint}".strip() if label else hint
        if "const" in schema or "enum" in schema:
            return self._choice(schema.get("enum", [schema.get("const")]), path, label, hint)
        if options := schema.get("anyOf") or schema.get("oneOf"):
            return self._union(options, path, label, hint, inside)
        kinds = schema.get("type")
        if isinstance(kinds, list):
            return self._union([{**schema, "type": kind} for kind in kinds], path, label, hint, inside)
        return self._plain(schema, path, label, hint, inside)

    def _plain(self, schema: Mapping[str, Any], path: str, label: str, hint: str, inside: frozenset[str]) -> Node:
        match kind := schema.get("type"):
            case "string":
                return self._text(schema, path, label, hint)
            case "integer" | "number":
                return Leaf(kind, label, hint, False, limits=_limits(schema), exact=bool(schema.get(_EXACT)))
            case "boolean":
                return Leaf("choice", label, hint, False, (False, True))
            case "null":
                return Leaf("choice", label, hint, True)
            case "array":
                return self._series(schema, path, label, hint, inside)
            case "object":
                return self._record(schema, path, label, hint, inside)
        raise self._refusal(path, "may hold anything", "give it a type")

    def _resolved(
        self, schema: Mapping[str, Any], path: str, inside: frozenset[str]
    ) -> tuple[Mapping[str, Any], frozenset[str]]:
        """``schema`` with what it refers to; its own description goes before that of the definition."""
        while "$ref" in schema or len(schema.get("allOf", ())) == 1:
            target = schema["allOf"][0] if "allOf" in schema else {}
            own = {name: value for name, value in schema.items() if name not in ("$ref", "allOf")}
            if "$ref" in schema:
                name = schema["$ref"].rpartition("/")[2]
                if name in inside:
                    raise self._refusal(path, f"holds {name} inside itself", "leave that out, or repeat it by hand")
                inside |= {name}
                target = self._definitions[name]
            schema = {**target, **own}
        return schema, inside

    def _text(self, schema: Mapping[str, Any], path: str, label: str, hint: str) -> Leaf:
        shape = schema.get("format", "")
        if shape in ("duration", "binary", "base64", "base64url", "json-string"):
            raise self._refusal(path, f"is a {shape}", "take str, and convert it yourself")
        kind = _MOMENTS.get(shape, "text")
        return Leaf(kind, label, hint, False, limits=_limits(schema))

    def _choice(self, values: list[Any], path: str, label: str, hint: str) -> Leaf:
        if any(not isinstance(value, str | int | float | bool | None) for value in values):
            raise self._refusal(path, f"is one of {shortened(values)}", "take texts or numbers as the values")
        chosen = tuple(value for value in values if value is not None)
        return Leaf("choice", label, hint, len(chosen) < len(values), chosen)

    def _union(self, options: list[Any], path: str, label: str, hint: str, inside: frozenset[str]) -> Node:
        nodes = [self.node(option, path, label, inside) for option in options if option.get("type") != "null"]
        nullable = len(nodes) < len(options) or any(node.nullable for node in nodes)
        if not nodes:
            return Leaf("choice", label, hint, True)
        if len(nodes) == 1:
            return _changed(nodes[0], nullable, hint)
        leaves = [node for node in nodes if isinstance(node, Leaf)]
        if len(leaves) < len(nodes):
            raise self._refusal(path, "is a union with a model or a list in it", "choose one of its types")
        kinds = [leaf.kind for leaf in leaves]
        if set(kinds) == {"choice"}:
            choices = tuple(dict.fromkeys(value for leaf in leaves for value in leaf.choices))
            return Leaf("choice", label, hint, nullable, choices)
        order = ("datetime", "date", "time", "number", "integer", "text", "choice")
        best = min(leaves, key=lambda leaf: order.index(leaf.kind))
        return replace(best, nullable=nullable, hint=hint or best.hint)

    def _series(self, schema: Mapping[str, Any], path: str, label: str, hint: str, inside: frozenset[str]) -> Series:
        if "prefixItems" in schema or not isinstance(schema.get("items"), Mapping):
            raise self._refusal(path, "is a tuple, or a list of anything", "take a list of one type, or a model")
        if not schema["items"]:
            raise self._refusal(path, "is a list of anything", "say of what")
        item = self.node(schema["items"], f"{path}[]", label, inside)
        if isinstance(item, Series):
            raise self._refusal(path, "is a list of lists", "take a list of models")
        least = int(schema.get("minItems", 0))
        if least > MAX_ITEMS:
            raise self._refusal(path, f"has {least} items or more", f"{MAX_ITEMS} are the most")
        return Series(item, label, hint, False, least, min(MAX_ITEMS, int(schema.get("maxItems", MAX_ITEMS))))

    def _record(self, schema: Mapping[str, Any], path: str, label: str, hint: str, inside: frozenset[str]) -> Record:
        properties = schema.get("properties", {})
        if not properties:
            raise self._refusal(path, "is a dict, or a model without fields", "take a model that names its fields")
        required = set(schema.get("required", ()))
        entries = []
        for key, inner in properties.items():
            inner_path = f"{path}.{key}" if path else key
            entries.append(Entry(key, self.node(inner, inner_path, _words_of(key), inside), key in required))
        return Record(tuple(entries), label, hint, False)

    def _refusal(self, path: str, what: str, remedy: str) -> SettingsError:
        return SettingsError(
            f"schema {self._name}: field {path or 'itself'!r} {what}, which can't be grounded: {remedy}"
        )


def leaf_kind(leaf: Leaf) -> str:
    """The kind in words, for prompts."""
    if leaf.kind == "choice":
        shown = " or ".join(map(repr, leaf.choices)) or "null"
    else:
        shown = {"integer": "whole number", "text": "text copied from the context"}.get(leaf.kind, leaf.kind)
    return f"{shown} or null" if leaf.nullable and shown != "null" else shown


def _described(node: Node, path: str) -> Iterator[str]:
    match node:
        case Record():
            for entry in node.entries:
                yield from _described(entry.node, f"{path}.{entry.key}" if path else entry.key)
        case Series():
            if isinstance(node.item, Record) and node.hint:
                yield f"{path}: list, {node.hint}"
            yield from _described(node.item, f"{path}[]")
        case Leaf():
            yield f"{path}: {leaf_kind(node)}" + (f" ({node.hint})" if node.hint else "")


def _nodes(node: Node) -> Iterator[Node]:
    yield node
    if isinstance(node, Record):
        for entry in node.entries:
            yield from _nodes(entry.node)
    elif isinstance(node, Series):
        yield from _nodes(node.item)


def _changed(node: Node, nullable: bool, hint: str) -> Node:
    return replace(node, nullable=nullable, hint=hint or node.hint)


def _limits(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name in _LIMITS}


def _words_of(name: str) -> str:
    """``invoiceNumber`` and ``invoice_number`` as "invoice number"."""
    return " ".join(part for part in _CAMEL.split(name) if part).lower()
