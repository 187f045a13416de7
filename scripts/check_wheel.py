"""Build the wheel, install it into an empty environment outside the checkout, and run the main job from there."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_READER_BYTES = 16 * 2**20
FOREIGN = ("tests/", "training/", "benchmarks/", "examples/", "docs/", "scripts/", "constraints.txt", "README.md")
JOB = """
from fourcorners import grounded_chain, init_llm
import fourcorners
reply = grounded_chain(init_llm("bundled")).invoke(
    {"question": "When does the museum open?", "context": "The museum opens at 10:00. It has a garden."})
assert reply["answer"] == "The museum opens at 10:00.", reply
assert reply["guarantee"] == "enforced", reply
print(reply["answer"], reply["citations"], fourcorners.__file__)
"""


def main() -> None:
    """Exit non-zero, saying why, where the wheel is not fit to ship."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)])
        wheel = next(folder.glob("*.whl"))
        _check_content(wheel)
        environment = folder / "venv"
        venv.create(environment, with_pip=True)
        python = environment / "bin" / "python"
        constraints = ["--constraint", str(ROOT / "constraints.txt")]
        _run([str(python), "-m", "pip", "install", "--quiet", *constraints, str(wheel)], cwd=folder)
        _run([str(python), "-c", JOB], cwd=folder)
        command = [
            str(environment / "bin" / "fourcorners"),
            "ask",
            "When does it open?",
            "--context",
            "It opens at ten.",
        ]
        _run(command, cwd=folder)


def _check_content(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {entry.filename: entry.file_size for entry in archive.infolist()}
    strays = [name for name in names if not name.startswith(("fourcorners/", "fourcorners-"))]
    strays += [name for name in names if name.removeprefix("fourcorners/").startswith(FOREIGN)]
    size = names.get("fourcorners/models/reader.gguf", 0)
    if strays:
        sys.exit(f"the wheel carries files that do not belong in it: {strays[:5]}")
    if not 0 < size <= MAX_READER_BYTES:
        sys.exit(f"the bundled reader in the wheel has {size} bytes: 1 to {MAX_READER_BYTES} are allowed")


def _run(command: list[str], cwd: Path | None = None) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, check=False)
    if done.returncode != 0:
        sys.exit(f"failed with {done.returncode}: {' '.join(command[:6])}")


if __name__ == "__main__":
    main()
