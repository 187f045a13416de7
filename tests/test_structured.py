"""What ``examples/structured.py`` shows: an invoice, a CV and a product sheet, read by the bundled reader."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fourcorners import grounded_chain
from fourcorners.llms.llama_cpp import LlamaCpp
from tests.conftest import FAMILIES
from tests.llms.random_model import write_random_model
from tests.values import check_reply

ROOT = Path(__file__).resolve().parent.parent
FORMS = ROOT / "examples" / "forms"
SCRIPT = ROOT / "examples" / "structured.py"
RIGHT: dict[str, dict[str, Any]] = {
    "invoice.txt": {
        "invoice_number": "HQ-2024-0917",
        "invoice_date": "2024-09-03",
        "due_date": "2024-10-03",
        "vendor": "Harbour & Quill Stationers Ltd",
        "customer": "Meridian School of Languages",
        "lines": [
            {"item": "Exercise books, A4, ruled", "quantity": 120, "unit_price": "1.45", "amount": "174.00"},
            {"item": "Whiteboard markers, set of 4", "quantity": 15, "unit_price": "6.20", "amount": "93.00"},
            {"item": "Copier paper, 500 sheets", "quantity": 40, "unit_price": "4.10", "amount": "164.00"},
        ],
        "subtotal": "431.00",
        "vat_percent": "20",
        "total_due": "517.20",
        "contact_email": "accounts@harbourquill.example",
        "purchase_order": None,
    },
    "cv.txt": {
        "name": "Ines Carvalho",
        "email": "ines.carvalho@example.org",
        "phone": "+351 912 555 014",
        "city": "Porto",
        "experience": [
            {"position": "Senior Data Engineer", "summary": "Moved nightly reports from 6 hours to 40 minutes"},
            {"position": "Data Engineer", "summary": "Built the meter-reading pipeline for 310,000 households"},
        ],
        "education": [
            "MSc Computer Science, University of Porto, 2017",
            "BSc Mathematics, University of Coimbra, 2015",
        ],
        "skills": ["Python", "SQL", "Apache Airflow", "dbt", "Terraform"],
        "languages": ["Portuguese", "English", "Spanish"],
        "driving_licence": None,
    },
    "product.txt": {
        "article_number": "FW-ALB2-GR",
        "product_name": "Alba 2 Travel Kettle",
        "manufacturer": "Fjordware AS",
        "colour": "graphite grey",
        "capacity_litres": 0.6,
        "weight_kg": 0.74,
        "power_watt": 1100,
        "price": "49.90",
        "warranty_months": 36,
        "in_stock_since": "2024-02-14",
        "features": ["Folds down to 6 cm", "Works on 110 and 230 volts", "Switches off when it boils dry"],
        "kind": "kettle",
    },
}


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("structured", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["structured"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", RIGHT)
def test_the_bundled_reader_fills_in_every_field(bundled_llm: LlamaCpp, example: ModuleType, name: str) -> None:
    text = (FORMS / name).read_text("utf-8")
    schema = dict(example.EXAMPLES)[name]
    reply = grounded_chain(bundled_llm, schema=schema).invoke({"question": "Fill in the form.", "context": text})
    check_reply(reply, schema, [text])
    assert reply["result"] == RIGHT[name]


@pytest.mark.parametrize("name", RIGHT)
def test_an_untrained_model_invents_nothing_either(random_llm: LlamaCpp, example: ModuleType, name: str) -> None:
    text = (FORMS / name).read_text("utf-8")
    schema = dict(example.EXAMPLES)[name]
    chain = grounded_chain(random_llm, schema=schema, threshold=1e9)
    reply = chain.invoke({"question": "Fill in the form.", "context": text})
    check_reply(reply, schema, [text])
    assert not reply["refused"]


@pytest.mark.extras
@pytest.mark.parametrize("family", FAMILIES)
def test_with_the_vocabulary_of_any_family(
    vocabulary_folder: Path, tmp_path: Path, example: ModuleType, family: str
) -> None:
    path = tmp_path / f"{family}.gguf"
    write_random_model(vocabulary_folder / path.name, path, "")
    llm = LlamaCpp.load(path)
    try:
        for name, schema in example.EXAMPLES:
            text = (FORMS / name).read_text("utf-8") + ' "quoted\\" 👩‍👩‍👧‍👦 \x07 日本語 café'
            reply = grounded_chain(llm, schema=schema, threshold=1e9).invoke(
                {"question": "Fill it in.", "context": text}
            )
            check_reply(reply, schema, [text])
            assert not reply["refused"]
    finally:
        llm.close()


def test_a_value_in_two_documents_cites_the_better_ranked(bundled_llm: LlamaCpp, example: ModuleType) -> None:
    text = (FORMS / "product.txt").read_text("utf-8")
    context = ["A kettle is a vessel for boiling water.", text, text]
    reply = grounded_chain(bundled_llm, schema=example.Product).invoke({"question": "Fill it in.", "context": context})
    check_reply(reply, example.Product, context)
    colour = reply["fields"]["colour"]
    assert colour["index"] == 1
    assert colour["also"] == [{"index": 2, "start": colour["start"], "end": colour["end"]}]


def test_the_page_about_it_says_what_happens(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "structured.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(code, "structured.md", "exec", dont_inherit=True), {"__name__": "page"})
    assert capsys.readouterr().out.splitlines() == re.findall(r"^print\(.*?\)  # (.*)$", code, re.MULTILINE)


def test_the_script_runs_and_shows_every_place(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    shown = re.findall(r"^  (\S+) = (\S.*?)  +line (\d+): (.*)$", done.stdout, re.MULTILINE)
    assert len(shown) > 50
    assert ("invoice_number", '"HQ-2024-0917"', "7", "HQ-2024-0917") in shown
    lines = [(FORMS / name).read_text("utf-8").split("\n") for name in RIGHT]
    assert all(any(quote in one[int(n) - 1] for one in lines if int(n) <= len(one)) for _, _, n, quote in shown)
