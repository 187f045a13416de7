import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fourcorners.engine.lane import Span
from fourcorners.engine.runner import Runner, load_vocabulary
from fourcorners.errors import ModelLoadError, SettingsError
from fourcorners.models import reader_path

SIZE = reader_path().stat().st_size


@pytest.mark.parametrize("size", [0, 3, 4, 23, 24, 100, 5_000, 100_000, SIZE // 2, SIZE - 1])
def test_a_truncated_model_is_refused_with_its_path(tmp_path: Path, size: int) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(reader_path().read_bytes()[:size])
    with pytest.raises(ModelLoadError, match=re.escape(str(path))):
        Runner(path)


@pytest.mark.parametrize("content", [b"PK\x03\x04" + b"x" * 100, b"GGML" + b"\0" * 100, b"GGUF" + b"\xff" * 100])
def test_what_is_no_gguf_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelLoadError, match=re.escape(str(path))):
        Runner(path)


def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.gguf", tmp_path):
        with pytest.raises(ModelLoadError, match="no model file"):
            Runner(path)


@pytest.mark.parametrize("name", ["with space.gguf", "ünïcödé 文.gguf"])
def test_any_path_will_do(tmp_path: Path, name: str) -> None:
    shutil.copy(reader_path(), tmp_path / name)
    Runner(tmp_path / name).close()


@pytest.mark.parametrize("window", [1, 15, 2_000_000])
def test_a_window_out_of_range_is_refused(window: int) -> None:
    with pytest.raises(SettingsError, match=str(window)):
        Runner(reader_path(), n_context_tokens=window)


def test_less_cache_than_a_window_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"n_cache_tokens=300.*400"):
        Runner(reader_path(), n_context_tokens=400, n_cache_tokens=300)


def test_the_cache_is_what_was_asked_for_or_four_windows() -> None:
    for asked, n_cells in ((2_048, 2_048), (0, 4_096)):
        made = Runner(reader_path(), n_context_tokens=1_024, n_cache_tokens=asked)
        assert made.main.n_cells == n_cells
        assert made.apart is not None
        assert made.apart.n_cells > made.n_context_tokens
        made.close()


SMALLEST = """
from fourcorners.engine.engine import Engine, Limits
from fourcorners.engine.program import Forward
from fourcorners.engine.runner import Runner
from fourcorners.models import reader_path

def program():
    yield Forward(0, (20,) * 16)
    yield "done"

for window in (16, 40, 300):
    engine = Engine(Runner(reader_path(), n_context_tokens=window, max_running=128), Limits(max_running=128))
    assert [list(r) for r in [engine.submit(program()) for _ in range(128)]] == [["done"]] * 128
    engine.close()
"""


def test_the_smallest_windows_work() -> None:
    """In a process of its own: llama.cpp ends the process over a batch that is larger than the context."""
    done = subprocess.run([sys.executable, "-c", SMALLEST], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_what_a_step_costs_is_measured_and_leaves_the_lanes_empty(runner: Runner) -> None:
    cost = runner.step_cost(0.1)
    assert 0 < cost.seconds(1) < 1
    assert {1, 64} <= set(cost.points)
    for start in range(0, runner.main.n_cells, 512):
        runner.main.decode([Span(0, start, [20] * 512, 0)])
    if cost.is_sound:  # else the machine was busy just then
        assert runner.step_cost(0.0).points == cost.points, "kept from the first time"


def test_closing_twice_is_harmless() -> None:
    runner = Runner(reader_path())
    runner.close()
    runner.close()


def test_the_vocabulary_loads_without_the_weights() -> None:
    vocabulary, metadata = load_vocabulary(reader_path())
    assert metadata["general.architecture"] == "llama"
    assert vocabulary.text(vocabulary.plain("The ferry")) == "The ferry"
