"""Set up the virtual environment that the Makefile's commands run in. Standard library only.

    python3 scripts/setup.py            # run and test
    python3 scripts/setup.py --extra training

A second run with nothing changed ends within a second.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import time
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / "bin" / "python"
PACKAGE_FOLDERS = ("chains", "engine", "evaluation", "grounding", "llms", "models", "prompts", "retrieval", ".")
STEP = re.compile(r"\[(\d+)/(\d+)\]")
MINIMUM_PYTHON = (3, 11)


def main() -> None:
    """Create or refresh ``.venv``; does nothing where nothing has changed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extra", action="append", default=["dev"], help="an optional-dependencies group")
    extras = sorted(set(parser.parse_args().extra))
    if sys.version_info < MINIMUM_PYTHON:
        found = ".".join(map(str, sys.version_info[:3]))
        sys.exit(f"fourcorners needs Python 3.11 or newer, this is {found}: run make PYTHON=python3.11 …")
    requirements = _digest([ROOT / "pyproject.toml", ROOT / "constraints.txt"], ",".join(extras))
    files = _digest([], "\n".join(_package_files()))
    stamp = ENVIRONMENT / f"ready-{'-'.join(extras)}"
    state = f"{requirements}\n{files}"
    if stamp.is_file() and stamp.read_text() == state:
        return
    if not PYTHON.is_file():
        _say("Creating the virtual environment .venv")
        venv.create(ENVIRONMENT, with_pip=True)
    if not stamp.is_file() or stamp.read_text().split("\n")[0] != requirements:
        _install_dependencies(extras)
    _say("Linking the package into .venv")
    _pip("install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", ".", "-C", "editable_mode=strict")
    stamp.write_text(state)


def _install_dependencies(extras: list[str]) -> None:
    started = time.monotonic()
    _say("Installing the build tools")
    _pip("install", "--quiet", "--upgrade", "--constraint", "constraints.txt", "setuptools", "wheel")
    _build_llama_cpp()
    _say("Installing the other packages (about a minute)")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(name for extra in extras for name in groups[extra])]
    _pip("install", "--quiet", "--constraint", "constraints.txt", *wanted)
    _say(f"Installed in {time.monotonic() - started:.0f} s")


def _build_llama_cpp() -> None:
    """Build llama.cpp's wheel with visible progress; pip keeps it in its cache for the next environment."""
    installed = subprocess.run([PYTHON, "-c", "import llama_cpp"], capture_output=True, check=False)
    if installed.returncode == 0:
        return
    _say("Getting llama-cpp-python: built from source for this machine, 3 to 6 minutes on two cores the first time")
    command = [str(PYTHON), "-m", "pip", "install", "-v", "--constraint", "constraints.txt", "llama-cpp-python"]
    log = ENVIRONMENT / "llama-cpp-python.log"
    shown = -1
    with log.open("w") as kept:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            kept.write(line)
            if step := STEP.search(line):
                shown = _show_progress(int(step[1]), int(step[2]), shown)
    if shown >= 0:
        print(flush=True)
    if process.wait() != 0:
        tail = "".join(log.read_text(errors="replace").splitlines(keepends=True)[-25:])
        sys.exit(f"{tail}\nllama-cpp-python could not be built (log: {log.relative_to(ROOT)}): it needs a C++ compiler")


def _show_progress(done: int, total: int, shown: int) -> int:
    percent = 100 * done // max(total, 1)
    if sys.stdout.isatty():
        print(f"\r  compiling llama.cpp: {percent:3d} % ({done}/{total})", end="", flush=True)
        return percent
    if percent // 10 > shown // 10:
        print(f"  compiling llama.cpp: {percent} %", flush=True)
        return percent
    return shown


def _package_files() -> list[str]:
    """Names of the files that the editable install links one by one: a new one needs a new link."""
    return sorted(
        str(path.relative_to(ROOT))
        for folder in PACKAGE_FOLDERS
        for pattern in ("*.py", "*.txt", "*.gguf", "*.json")
        for path in (ROOT / folder).glob(pattern)
    )


def _digest(paths: list[Path], text: str) -> str:
    digest = hashlib.sha256(f"{sys.version_info[:2]}{text}".encode())
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _pip(*arguments: str) -> None:
    environment = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run([PYTHON, "-m", "pip", *arguments], cwd=ROOT, env=environment, check=False)
    if done.returncode != 0:
        sys.exit(f"pip {arguments[0]} failed (see above): check that a package index can be reached")


def _say(text: str) -> None:
    print(f"» {text}", flush=True)


if __name__ == "__main__":
    main()
