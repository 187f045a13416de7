"""``fourcorners models`` as a person meets it, with a hub on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fourcorners.models import reader_path
from tests.models.hub_server import LocalHub, serving

SCRIPT = Path(sys.executable).with_name("fourcorners")
READER = reader_path().read_bytes()
SPEC = "llama_cpp:hf:org/repo/reader.gguf"


@pytest.fixture
def local() -> Iterator[LocalHub]:
    with serving(LocalHub({"reader.gguf": READER})) as local:
        yield local


def models(*arguments: str, home: Path, endpoint: str = "http://127.0.0.1:9") -> tuple[int, str, str]:
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("FOURCORNERS_", "PYTHON", "HF_"))
    }
    done = subprocess.run(
        [SCRIPT, "models", *arguments],
        env=clean | {"HF_HOME": str(home), "HF_ENDPOINT": endpoint},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=home,
    )
    return done.returncode, done.stdout, done.stderr


def test_pull_list_info_remove(local: LocalHub, tmp_path: Path) -> None:
    status, out, err = models("pull", SPEC, home=tmp_path, endpoint=local.url)
    assert (status, out.splitlines()[0]) == (0, SPEC)
    assert Path(out.splitlines()[1]).read_bytes() == READER
    assert f"reader.gguf: {len(READER) / 1e6:,.1f} MB" in err

    status, out, err = models("list", home=tmp_path)
    assert (status, err) == (0, "")
    head, _, bundled, fetched = (line for line in out.splitlines() if line.strip())
    assert head.split() == ["spec", "size", "weights", "context", "format", "prompt", "format", "checksum"]
    assert bundled.split()[0] == "bundled"
    assert (fetched.split()[0], fetched.split()[-1]) == (SPEC, "checked")

    status, out, _ = models("info", SPEC, "--json", home=tmp_path)
    told = json.loads(out)
    assert (status, told["bytes"], told["format"], told["checked"]) == (0, len(READER), "GGUF v3", True)
    assert (told["prompt_format"], told["metadata"]["general.architecture"]) == ("chatml", "llama")

    status, out, _ = models("remove", SPEC, "--json", home=tmp_path)
    assert (status, json.loads(out)) == (0, {"spec": SPEC, "freed_bytes": len(READER)})
    status, out, _ = models("list", "--json", home=tmp_path)
    assert [row["spec"] for row in json.loads(out)] == ["bundled"]


def test_what_is_not_here_or_no_model_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF\x03\0\0\0" + b"\xff" * 16)
    for arguments, status, message in [
        (("info", SPEC), 1, "is not on this machine: fourcorners models pull"),
        (("info", "nope"), 2, "'nope' names no model file: give bundled"),
        (("info", "llama_cpp:bad.gguf"), 1, "18446744073709551615 tensors, which can't be"),
        (("pull", "hf:org/file.gguf"), 2, "hf:ORG/REPO/FILE.gguf"),
    ]:
        code, _, err = models(*arguments, home=tmp_path)
        assert (code, err.count("\n")) == (status, 1)
        assert message in err


def test_a_file_that_writes_to_terminals_is_shown_harmless(tmp_path: Path) -> None:
    changed = READER.replace(b"fourcorners reader", b"four\x1b]0;owned\x07ader", 1)
    assert len(changed) == len(READER)
    (tmp_path / "m.gguf").write_bytes(changed)
    status, out, _ = models("info", "llama_cpp:m.gguf", home=tmp_path)
    assert status == 0
    assert "\\x1b]0;owned\\x07ader" in out
    assert "\x1b" not in out


def test_bench_measures_each_and_goes_on_after_a_failure(tmp_path: Path) -> None:
    (tmp_path / "cut.gguf").write_bytes(READER[:-50_000])
    few = ("--prompt-tokens", "64", "--new-tokens", "8", "--repeats", "1")
    status, out, err = models("bench", "bundled", "llama_cpp:cut.gguf", *few, "--json", home=tmp_path)
    whole, cut = json.loads(out)
    assert status == 4
    assert f"error: model file 'cut.gguf' ends after {len(READER) - 50_000} of at least" in err
    assert (whole["spec"], whole["problem"], "ends after" in cut["problem"]) == ("bundled", "", True)
    assert 20 < whole["peak_mib"] < 4_000
    assert min(whole["load_s"], whole["first_token_s"]) > 0
    assert min(whole["prefill_tokens_per_s"], whole["decode_tokens_per_s"]) > 1
    status, _, err = models("bench", "bundled", "--prompt-tokens", "100000", "--json", home=tmp_path)
    assert status == 1
    assert "100064 tokens, but the model was made for 1024" in err
