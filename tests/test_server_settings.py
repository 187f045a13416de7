from __future__ import annotations

import os
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from fourcorners import init_llm, server
from fourcorners.errors import SettingsError
from fourcorners.llms.llama_cpp import LlamaCpp
from fourcorners.settings import load_settings


@pytest.fixture(autouse=True)
def empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in os.environ:
        if name.startswith("FOURCORNERS_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_default_is_loopback() -> None:
    settings = load_settings()
    assert (settings.host, settings.port, settings.llm, settings.paths) == ("127.0.0.1", 8000, "bundled", ())


def test_an_argument_wins_over_the_environment_over_the_file(
    monkeypatch: pytest.MonkeyPatch, empty_folder: Path
) -> None:
    (empty_folder / ".env").write_text("FOURCORNERS_PORT=1\nFOURCORNERS_HOST=a\nFOURCORNERS_LLM=b\nOTHER=c\n")
    monkeypatch.setenv("FOURCORNERS_PORT", "2")
    monkeypatch.setenv("FOURCORNERS_HOST", "d")
    settings = load_settings(port=3, host=None)
    assert (settings.port, settings.host, settings.llm) == (3, "d", "b")


def test_raw_is_off_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().raw is False
    assert load_settings(raw=True).raw is True
    monkeypatch.setenv("FOURCORNERS_RAW", "1")
    assert load_settings(raw=None).raw is True


def test_paths_are_separated_as_in_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOURCORNERS_PATHS", f"a b.txt{os.pathsep}docs")
    assert load_settings().paths == (Path("a b.txt"), Path("docs"))


@pytest.mark.parametrize("where", ["argument", "environment", "file"])
def test_an_unknown_setting_is_an_error_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, empty_folder: Path, where: str
) -> None:
    if where == "environment":
        monkeypatch.setenv("FOURCORNERS_PROT", "2")
    if where == "file":
        (empty_folder / ".env").write_text("FOURCORNERS_PROT=2\n")
    with pytest.raises(SettingsError, match=r"unknown setting 'prot'.*FOURCORNERS_PROT.*did you mean 'port'"):
        load_settings(**({"prot": 2} if where == "argument" else {}))


@pytest.mark.parametrize(
    ("name", "value"),
    [("port", 70_000), ("port", "http"), ("raw", "much"), ("span", "word"), ("max_spans", 0), ("passages", -1)],
)
def test_a_wrong_value_is_named_with_its_setting(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=rf"setting {name} .*{value}"):
        load_settings(**{name: value})


def test_how_the_model_is_loaded_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().loading == {}
    monkeypatch.setenv("FOURCORNERS_PARKED_MIB", "0")
    monkeypatch.setenv("FOURCORNERS_MAX_RUNNING", "3")
    assert load_settings(max_waiting=5).loading == {"parked_mib": 0, "max_running": 3, "max_waiting": 5}


def test_the_server_loads_its_model_so(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[LlamaCpp] = []

    def init_and_keep(spec: str, **settings: object) -> LlamaCpp:
        model = init_llm(spec, **settings)
        assert isinstance(model, LlamaCpp)
        loaded.append(model)
        return model

    monkeypatch.setattr(server, "init_llm", init_and_keep)
    with TestClient(server.create_app(settings=load_settings(max_running=2, parked_mib=1))):
        assert (loaded[0].max_running, loaded[0].parked_mib) == (2, 1)
