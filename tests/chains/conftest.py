from __future__ import annotations

from collections.abc import Iterator

import pytest

from fourcorners.llms import init_llm
from fourcorners.llms.llama_cpp import LlamaCpp
from fourcorners.models import reader_path
from tests.llms.random_model import write_random_model


@pytest.fixture(scope="session")
def random_llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaCpp]:
    """A model that has learnt nothing, and no prior beside it: what holds with it holds with any."""
    path = tmp_path_factory.mktemp("models") / "random.gguf"
    write_random_model(reader_path(), path, "")
    llm = init_llm(f"llama_cpp:{path}")
    assert isinstance(llm, LlamaCpp)
    yield llm
    llm.close()
