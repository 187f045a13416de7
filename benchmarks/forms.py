"""How many values of small forms the bundled reader finds, and how many it takes from a document that has none of them.

Run it with ``python -m benchmarks.forms``. Half a minute.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.form_cases import SCHEMAS
from fourcorners import grounded_chain, init_llm

SHIFT = 5


def main() -> None:
    llm = init_llm("bundled")
    lines = (Path(__file__).parent / "data" / "forms.jsonl").read_text("utf-8").splitlines()
    cases = [json.loads(line) for line in lines]
    for name in dict.fromkeys(case["set"] for case in cases):
        counts = [right_of(llm, case) for case in cases if case["set"] == name]
        print(f"{name} set: {sum(right for right, _ in counts)} of {sum(total for _, total in counts)} values right")
    taken, total = unrelated(llm, cases)
    print(f"from an unrelated document: {taken} of {total} fields filled in")


def right_of(llm: Any, case: dict[str, Any]) -> tuple[int, int]:
    """Right values, and values there are; a refused form has none right."""
    reply = filled(llm, case["schema"], case["text"])
    found = {} if reply["refused"] else dict(leaves(json.loads(reply["answer"])))
    wanted = dict(leaves(case["values"]))
    wrong = {path: (found.get(path), value) for path, value in wanted.items() if found.get(path) != value}
    for path, (got, value) in wrong.items():
        print(f"  {case['schema']}.{path}: {got!r}, not {value!r}")
    return len(wanted) - len(wrong), len(wanted)


def unrelated(llm: Any, cases: list[dict[str, Any]]) -> tuple[int, int]:
    """Fields that are filled in, of all that are to be found, where each form gets another form's document."""
    taken = total = 0
    for number, case in enumerate(cases):
        reply = filled(llm, case["schema"], cases[(number + SHIFT) % len(cases)]["text"])
        sources = [one for one in reply["fields"].values() if one is None or "quote" in one]
        taken, total = taken + sum(one is not None for one in sources), total + len(sources)
    return taken, total


def filled(llm: Any, schema: str, text: str) -> dict[str, Any]:
    chain = grounded_chain(llm, schema=SCHEMAS[schema])
    return chain.invoke({"question": "Fill in the form.", "context": text})


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


if __name__ == "__main__":
    main()
