from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, Optional

import pytest
from pydantic import BaseModel, ConfigDict, Field, RootModel, create_model

from fourcorners.errors import SettingsError
from fourcorners.grounding.fields import MAX_ITEMS, Leaf, Node, Record, Series, form_of


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Address(BaseModel):
    street: str
    city: str | None = None


class Everything(BaseModel):
    text: str = Field(description="what it says")
    maybe: Optional[str]  # noqa: UP045
    count: Annotated[int, Field(ge=1, le=9)]
    share: float
    money: Decimal
    day: date
    moment: datetime
    clock: time
    sure: bool
    colour: Colour
    size: Literal["s", "m"] | None
    one: Literal[1]
    address: Address
    other: Address | None = None
    tags: list[str] = Field(max_length=3, min_length=1)
    homes: list[Address]
    either: int | str
    renamed: str = Field(alias="reNamed")


def nodes(model: type[BaseModel]) -> dict[str, Node]:
    return {entry.key: entry.node for entry in form_of(model).root.entries}


def test_every_kind_of_field_becomes_what_it_may_hold() -> None:
    found = nodes(Everything)
    kinds = {key: node.kind for key, node in found.items() if isinstance(node, Leaf)}
    assert kinds == {
        "text": "text",
        "maybe": "text",
        "count": "integer",
        "share": "number",
        "money": "number",
        "day": "date",
        "moment": "datetime",
        "clock": "time",
        "sure": "choice",
        "colour": "choice",
        "size": "choice",
        "one": "choice",
        "either": "integer",
        "reNamed": "text",
    }
    assert [key for key, node in found.items() if node.nullable] == ["maybe", "size", "other"]
    colour, size, count = found["colour"], found["size"], found["count"]
    assert isinstance(colour, Leaf)
    assert isinstance(size, Leaf)
    assert isinstance(count, Leaf)
    assert colour.choices == ("red", "blue")
    assert size.choices == ("s", "m")
    assert count.limits == {"minimum": 1, "maximum": 9}
    assert isinstance(found["address"], Record)
    tags, homes = found["tags"], found["homes"]
    assert isinstance(tags, Series)
    assert isinstance(homes, Series)
    assert (tags.least, tags.most, homes.least, homes.most) == (1, 3, 0, MAX_ITEMS)
    assert isinstance(homes.item, Record)


def test_names_and_descriptions_are_kept_and_the_order_is_the_models_own() -> None:
    form = form_of(Everything)
    assert [entry.key for entry in form.root.entries][:2] == ["text", "maybe"]
    assert "what it says" in form.words
    lines = form.description.splitlines()
    assert lines[0] == "text: text copied from the context (what it says)"
    assert "address.city: text copied from the context or null" in lines
    assert "homes[].street: text copied from the context" in lines
    assert "colour: 'red' or 'blue'" in lines[9]


def model_of(kind: Any) -> type[BaseModel]:
    made: type[BaseModel] = create_model("Made", field=(kind, ...))
    return made


class Loop(BaseModel):
    inner: Optional["Loop"] = None


class Bare(BaseModel):
    pass


class Odd:
    pass


class HoldsOdd(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    odd: Odd


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (model_of(dict[str, str]), "'field' is a dict"),
        (model_of(dict), "'field' is a dict"),
        (model_of(Any), "'field' may hold anything"),
        (model_of(list), "'field' is a .*list of anything"),
        (model_of(list[Any]), "list of anything"),
        (model_of(tuple[int, str]), "'field' is a tuple"),
        (model_of(list[list[str]]), "list of lists"),
        (model_of(Address | Everything), "'field' is a union"),
        (model_of(str | Address), "'field' is a union"),
        (model_of(bytes), "binary"),
        (model_of(Bare), "without fields"),
        (Loop, "'inner.*' holds Loop inside itself"),
        (Bare, "without fields"),
        (HoldsOdd, "no JSON schema"),
        (RootModel[list[str]], "model with fields"),
        (str, "pydantic model"),
        ({"type": "object"}, "pydantic model"),
        (Address(street="x"), "pydantic model"),
    ],
)
def test_what_cannot_be_grounded_is_refused_with_its_name(model: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        form_of(model)


def test_too_many_fields_are_refused() -> None:
    fields: Any = {f"f{n}": (str, ...) for n in range(201)}
    with pytest.raises(SettingsError, match=r"201 fields, 200"):
        form_of(create_model("Big", **fields))
