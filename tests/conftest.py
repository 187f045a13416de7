"""Fixtures for all tests. The bundled reader is loaded once; no test sees the developer's environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from fourcorners.engine.runner import Runner, load_vocabulary
from fourcorners.engine.vocabulary import Vocabulary
from fourcorners.llms import init_llm
from fourcorners.llms.llama_cpp import LlamaCpp
from fourcorners.models import reader_path
from tests.llms.random_model import write_random_model

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell has jobs in the background ignore it, and the processes that tests start and interrupt would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent

FAMILIES = [
    "aquila",
    "baichuan",
    "command-r",
    "deepseek-coder",
    "deepseek-llm",
    "falcon",
    "gemma-4",
    "gpt-2",
    "gpt-neox",
    "llama-bpe",
    "llama-spm",
    "mpt",
    "phi-3",
    "qwen2",
    "qwen35",
    "refact",
    "starcoder",
]
"""All that llama-cpp-python's source carries but those of encoders (BERT), which do not keep the text."""


_quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
settings.register_profile(
    "core", max_examples=20, deadline=None, derandomize=True, database=None, suppress_health_check=_quiet
)
settings.register_profile("search", max_examples=400, deadline=None, database=None, suppress_health_check=_quiet)
settings.load_profile("core")  # pytest --hypothesis-profile=search looks further, at random


CACHE_HOME = os.environ.get("XDG_CACHE_HOME")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a step costs is measured anew, and not kept where the developer's own engines look."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No variable of ours or Python's from outside, and an empty working directory (no ``.env``)."""
    for name in list(os.environ):
        if name.startswith(("FOURCORNERS_", "PYTHON")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))


@pytest.fixture(scope="session")
def bundled_llm() -> Iterator[LlamaCpp]:
    """The bundled reader, loaded once for all tests; close none but your own."""
    llm = init_llm("bundled")
    assert isinstance(llm, LlamaCpp)
    yield llm
    llm.close()


@pytest.fixture(scope="session")
def random_llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaCpp]:
    """A model that has learnt nothing, and no prior beside it: what holds with it holds with any."""
    path = tmp_path_factory.mktemp("models") / "random.gguf"
    write_random_model(reader_path(), path, "")
    llm = init_llm(f"llama_cpp:{path}")
    assert isinstance(llm, LlamaCpp)
    yield llm
    llm.close()


@pytest.fixture
def own_llm() -> Iterator[LlamaCpp]:
    """A bundled reader for this test alone, which may break or close it."""
    llm = init_llm("bundled")
    assert isinstance(llm, LlamaCpp)
    yield llm
    llm.close()


@pytest.fixture
def runner() -> Iterator[Runner]:
    """A runner of its own on the bundled reader."""
    made = Runner(reader_path())
    yield made
    made.close()


@pytest.fixture(scope="session")
def vocabulary(bundled_llm: LlamaCpp) -> Vocabulary:
    """The bundled reader's vocabulary."""
    return bundled_llm._engine.runner.vocabulary


@pytest.fixture(scope="session")
def vocabulary_folder() -> Path:
    """Vocabulary-only GGUFs of a dozen model families (extras only): fetched once, or from ``VOCABULARIES``."""
    if given := os.environ.get("VOCABULARIES"):
        return Path(given)
    folder = ROOT / ".cache" / "vocabularies"
    environment = {name: value for name, value in os.environ.items() if name != "XDG_CACHE_HOME"}
    if CACHE_HOME is not None:
        environment["XDG_CACHE_HOME"] = CACHE_HOME  # pip may have the archive
    script = ROOT / "scripts" / "fetch_vocabularies.py"
    subprocess.run([sys.executable, script, folder], check=True, timeout=300, env=environment)
    return folder


_loaded: dict[str, Vocabulary] = {}


@pytest.fixture(
    params=["bundled", *(pytest.param(name, marks=pytest.mark.extras) for name in FAMILIES)], scope="session"
)
def any_vocabulary(request: pytest.FixtureRequest) -> Vocabulary:
    """The bundled reader's vocabulary, and in extras one of each family."""
    name = request.param
    if name not in _loaded:
        path = reader_path() if name == "bundled" else request.getfixturevalue("vocabulary_folder") / f"{name}.gguf"
        _loaded[name], _ = load_vocabulary(path)
    return _loaded[name]
