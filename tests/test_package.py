import importlib
import subprocess
import sys
from importlib.metadata import entry_points, version

import pytest

import fourcorners

PUBLIC = {
    "__version__",
    "answer_chain",
    "answer_node",
    "answer_tool",
    "chat_chain",
    "grounded_chain",
    "grounded_prompt",
    "init_llm",
    "instruct_chain",
    "rag_chain",
}


def test_the_public_names_are_these_and_all_can_be_imported() -> None:
    assert set(fourcorners.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(fourcorners, name) is not None
    assert sorted(PUBLIC) == fourcorners.__all__


@pytest.mark.parametrize("package", ["chains", "llms"])
def test_each_room_exports_what_it_names(package: str) -> None:
    module = importlib.import_module(f"fourcorners.{package}")
    assert all(callable(getattr(module, name)) for name in module.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = fourcorners.nothing


def test_the_version_is_that_of_the_distribution() -> None:
    assert version("fourcorners") == fourcorners.__version__
    (script,) = entry_points(group="console_scripts", name="fourcorners")
    assert script.value == "fourcorners.cli:main"


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = {"langchain", "langchain_core", "llama_cpp", "llguidance", "numpy", "pydantic", "fastapi"}
    assert not modules_after("import fourcorners") & heavy


def test_grounding_loads_neither_langchains_models_nor_llama_cpp() -> None:
    loaded = modules_after("import fourcorners.grounding.sentence_policy, fourcorners.grounding.phrase_policy")
    assert not loaded & {"llama_cpp", "langchain", "langchain_community", "fastapi", "httpx"}


def test_the_chains_load_without_the_engine() -> None:
    assert "llama_cpp" not in modules_after("from fourcorners import answer_chain, rag_chain")
