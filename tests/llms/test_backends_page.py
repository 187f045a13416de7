import re
from pathlib import Path

import pytest

from fourcorners.llms import wire

PAGE = (Path(__file__).parents[2] / "docs" / "backends.md").read_text("utf-8")
COLUMNS = [
    [wire.TGI],
    [wire.OPENAI, wire.OPENAI_ITSELF, wire.HUGGINGFACE],
    [wire.VLLM, wire.VLLM_BEFORE_0_11, wire.SGLANG],
    [wire.LLAMA_SERVER],
    [wire.LLAMA_CPP_PYTHON],
    [wire.FOURCORNERS],
]
(TABLE,) = re.findall(r"\| setting \|.*?\n\n", PAGE, flags=re.S)
ROWS = [[cell.strip() for cell in line.strip("| ").split("|")] for line in TABLE.strip().splitlines()[2:]]


def test_the_code_of_the_page_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)
    assert blocks
    exec(compile("\n".join(blocks), "backends.md", "exec"), {"__name__": "backends"})


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_the_table_of_settings_says_what_the_tables_do(row: list[str]) -> None:
    for name in re.findall(r"`(\w+)`", row[0]):
        for cell, servers in zip(row[1:], COLUMNS, strict=True):
            able = [name in server.fields or name in wire.NOT_SENT for server in servers]
            assert any(able) is (cell != "no"), (name, servers[0].name)
            assert all(able) or cell == "no" or "only" in cell, (name, servers[0].name)


def test_no_setting_is_missing() -> None:
    told = {name for row in ROWS for name in re.findall(r"`(\w+)`", row[0])}
    in_tables = {name for server in (*wire.SERVERS.values(), wire.TGI) for name in server.fields}
    assert told == in_tables | {"do_sample"}
