"""scripts/setup.py on a make-believe checkout: what it would install, never the installing itself."""

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


class Steps(list[str]):
    """What was done since the last look."""

    def taken(self) -> list[str]:
        steps = list(self)
        self.clear()
        return steps


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
def setup(tmp_path: Path, steps: Steps, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("setup_script", ROOT / "scripts" / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "chains").mkdir()
    (tmp_path / "chains" / "one.py").touch()
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "ENVIRONMENT", tmp_path / ".venv")
    monkeypatch.setattr(module, "PYTHON", python)
    monkeypatch.setattr(module, "_install_dependencies", lambda extras: steps.append("install " + " ".join(extras)))
    monkeypatch.setattr(module, "_pip", lambda *arguments: steps.append("link"))
    monkeypatch.setattr(sys, "argv", ["setup.py"])
    return module


def test_a_second_run_does_nothing(setup: ModuleType, steps: Steps) -> None:
    setup.main()
    assert steps.taken() == ["install dev", "link"]
    setup.main()
    assert steps.taken() == []


def test_a_new_file_is_linked_and_nothing_else(setup: ModuleType, steps: Steps, tmp_path: Path) -> None:
    setup.main()
    steps.taken()
    (tmp_path / "chains" / "two.py").touch()
    setup.main()
    assert steps.taken() == ["link"]


def test_another_pin_installs_again(setup: ModuleType, steps: Steps, tmp_path: Path) -> None:
    setup.main()
    steps.taken()
    (tmp_path / "constraints.txt").write_text("numpy==2.0\n")
    setup.main()
    assert steps.taken() == ["install dev", "link"]


def test_an_extra_is_installed_beside(setup: ModuleType, steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    setup.main()
    steps.taken()
    monkeypatch.setattr(sys, "argv", ["setup.py", "--extra", "training"])
    setup.main()
    assert steps.taken() == ["install dev training", "link"]


def test_too_old_a_python_is_told_what_to_do(setup: ModuleType, steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "MINIMUM_PYTHON", (99, 0))
    with pytest.raises(SystemExit, match="make PYTHON="):
        setup.main()
    assert steps.taken() == []


def test_every_package_folder_is_watched(setup: ModuleType) -> None:
    text = (ROOT / "pyproject.toml").read_text()
    declared = {line.strip().strip('",') for line in text.splitlines() if line.strip().startswith('"fourcorners.')}
    folders = {
        name.removeprefix("fourcorners.") for name in declared if (ROOT / name.removeprefix("fourcorners.")).is_dir()
    }
    assert folders <= set(setup.PACKAGE_FOLDERS)
