"""Structured answers: an invoice, a CV and a product sheet as instances of pydantic models, each value with its place.

Run it with ``python examples/structured.py``. Everything happens on this machine, with the bundled reader.
"""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field
from rich.console import Console
from rich.text import Text

from fourcorners import grounded_chain, init_llm

FORMS = Path(__file__).parent / "forms"

console = Console(highlight=False, soft_wrap=True)


class Line(BaseModel):
    """One row of an invoice."""

    item: str
    quantity: int
    unit_price: Decimal
    amount: Decimal


class Invoice(BaseModel):
    """An invoice; what may be missing is optional."""

    invoice_number: str
    invoice_date: date
    due_date: date | None
    vendor: str = Field(description="company that sells")
    customer: str | None = Field(description="bill to")
    lines: list[Line] = Field(description="items of the table")
    subtotal: Decimal | None
    vat_percent: Decimal | None = Field(description="VAT in percent")
    total_due: Decimal
    contact_email: str | None
    purchase_order: str | None = Field(description="number of the purchase order")


class Job(BaseModel):
    """One entry under the experience of a CV."""

    position: str
    summary: str | None = Field(description="what was done")


class Cv(BaseModel):
    """A CV."""

    name: str = Field(description="name of the candidate")
    email: str | None
    phone: str | None
    city: str | None = Field(description="lives in")
    experience: list[Job]
    education: list[str]
    skills: list[str]
    languages: list[str]
    driving_licence: str | None


class Product(BaseModel):
    """A product sheet, with numbers as they are written on the continent."""

    article_number: str
    product_name: str
    manufacturer: str | None = Field(description="made by")
    colour: str | None
    capacity_litres: float | None
    weight_kg: float
    power_watt: int | None
    price: Decimal
    warranty_months: int | None
    in_stock_since: date | None
    features: list[str]
    kind: Literal["kettle", "toaster", "coffee machine"]


EXAMPLES: tuple[tuple[str, type[BaseModel]], ...] = (
    ("invoice.txt", Invoice),
    ("cv.txt", Cv),
    ("product.txt", Product),
)


def main() -> None:
    """Fill in each form, and show each value with the words that it was taken from."""
    llm = init_llm("bundled")
    for name, schema in EXAMPLES:
        text = (FORMS / name).read_text("utf-8")
        chain = grounded_chain(llm, schema=schema)
        reply = chain.invoke({"question": f"Fill in the form for {name}.", "context": text})
        console.print(f"\n[bold]{name}[/bold]  [dim]refused: {reply['refused']}, missing: {reply['missing']}[/dim]")
        show_fields(reply, text)


def show_fields(reply: dict[str, Any], text: str) -> None:
    """Print each path of the form with its value, and line and words of the document."""
    values = dict(leaves(json.loads(reply["answer"]))) if not reply["refused"] else {}
    for path, source in reply["fields"].items():
        shown = f"  {path} = {json.dumps(values.get(path), ensure_ascii=False)}"
        if source is None or "quote" not in source:
            console.print(Text(shown + ("" if source is None else "  (chosen by the model)")))
            continue
        assert text[source["start"] : source["end"]] == source["quote"]
        line = text.count("\n", 0, source["start"]) + 1
        console.print(Text(shown), Text(f"  line {line}: {source['quote']}", style="cyan"))


def leaves(value: Any, path: str = "") -> list[tuple[str, Any]]:
    """The values of a JSON object by their path, as ``fields`` names them."""
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in leaves(inner, f"{path}.{key}" if path else key)]
    if isinstance(value, list):
        return [leaf for number, inner in enumerate(value) for leaf in leaves(inner, f"{path}[{number}]")]
    return [(path, value)]


if __name__ == "__main__":
    main()
