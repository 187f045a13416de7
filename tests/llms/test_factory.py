import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from fourcorners import answer_chain, init_llm
from fourcorners.errors import ModelLoadError, SettingsError
from fourcorners.llms.llama_cpp import LlamaCpp
from fourcorners.models import reader_path
from tests.support import YEAR


@pytest.mark.parametrize(
    ("spec", "settings", "message"),
    [
        ("gpt:4", {}, r"unknown model provider 'gpt' in 'gpt:4': use one of 'bundled', 'huggingface', 'llama_cpp'"),
        ("", {}, "unknown model provider ''"),
        ("/path/to/model.gguf", {}, "unknown model provider"),
        (3, {}, "not 3"),
        (None, {}, "not None"),
        ("bundled:big", {}, "'big'"),
        ("llama_cpp:", {}, "llama_cpp:PATH"),
        ("bundled", {"tempratur": 1}, "unknown setting 'tempratur'.*temperature"),
        ("bundled", {"temperature": "hot"}, "temperature='hot'"),
        ("bundled", {"n_threads": "two"}, "n_threads='two'"),
        ("bundled", {"n_threads": -1}, "n_threads=-1"),
        ("bundled", {"n_context_tokens": True}, "n_context_tokens=True"),
        ("bundled", {"n_context_tokens": 3}, "3"),
        ("bundled", {"n_context_tokens": 512, "n_cache_tokens": 100}, "n_cache_tokens=100.*512"),
        ("bundled", {"n_cache_tokens": "many"}, "n_cache_tokens='many'"),
        ("bundled", {"max_running": 0}, "max_running=0"),
        ("bundled", {"max_running": 1_000}, "max_running=1000 must be from 1 to 128"),
        ("bundled", {"max_waiting": -1}, "max_waiting=-1"),
        ("bundled", {"parked_mib": 1.5}, "parked_mib=1.5"),
        ("bundled", {"tags": 3}, "tags"),
        ("bundled", {"model_path": "x"}, "model_path"),
        ("bundled", {"cache": True}, "cache"),
    ],
)
def test_a_bad_spec_or_setting_is_refused_with_the_value(spec: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        init_llm(spec, **settings)


def test_a_missing_or_damaged_model_is_no_settings_error(tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(reader_path().read_bytes()[:50_000])
    for path in (tmp_path / "none.gguf", cut):
        with pytest.raises(ModelLoadError, match=re.escape(str(path))):
            init_llm(f"llama_cpp:{path}")


def test_a_path_with_colons_and_spaces_loads(tmp_path: Path) -> None:
    path = tmp_path / "my model: v1.gguf"
    shutil.copy(reader_path(), path)
    llm = init_llm(f"llama_cpp:{path}", n_context_tokens=512, n_threads=1)
    assert answer_chain(llm).invoke(YEAR) == "The best year ever is 1986"


def test_loading_settings_reach_the_engine() -> None:
    llm = init_llm(
        "bundled", n_context_tokens=512, n_cache_tokens=1_024, n_threads=2, max_running=3, max_waiting=4, parked_mib=5
    )
    assert isinstance(llm, LlamaCpp)
    engine = llm._engine
    assert engine.runner.n_context_tokens == 512
    assert engine.runner.main.n_cells == llm.metrics.n_cells == 1_024
    assert engine.runner.n_threads == 2
    assert (engine.limits.max_running, engine.limits.max_waiting) == (3, 4)
    assert engine._worker.cache.tree.max_parked_bytes == 5 * 2**20
    llm.close()
