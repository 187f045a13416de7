"""Fetch the vocabulary-only GGUFs and chat templates that llama-cpp-python's source carries, for the slow tests.

Standard library only.

    python scripts/fetch_vocabularies.py [FOLDER]      # default: .cache/vocabularies

pip gets the source archive (77 MB, about ten seconds; from its cache where it was built from source). A second run
does nothing.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".cache" / "vocabularies"
PACKAGE = "llama-cpp-python"
MEMBER = re.compile(r".*/vendor/llama\.cpp/models/(?:ggml-vocab-([\w-]+\.gguf)|(templates/[\w.-]+\.jinja))")


def main() -> None:
    """Fill the folder unless it is filled already."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    if any(folder.glob("*.gguf")) and any(folder.glob("templates/*.jinja")):
        return
    with tempfile.TemporaryDirectory() as scratch:
        count = _extract(_download(Path(scratch)), folder)
    if not count:
        sys.exit(
            f"the source of {PACKAGE} has no vocabularies and templates: {MEMBER.pattern} matches none of its files"
        )
    print(f"{count} vocabularies and templates in {folder}")


def _download(scratch: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", PACKAGE]
    done = subprocess.run([*command, "--dest", str(scratch), _requirement()], check=False)
    archives = list(scratch.glob("*.tar.gz"))
    if done.returncode != 0 or not archives:
        sys.exit(
            f"pip could not download the source of {PACKAGE} (see above): check that a package index can be reached"
        )
    return archives[0]


def _requirement() -> str:
    """The pinned version."""
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    return next((pin for pin in pins if re.match(r"llama[-_]cpp[-_]python==", pin)), PACKAGE)


def _extract(archive: Path, folder: Path) -> int:
    """Each file appears under its name only when it is whole."""
    (folder / "templates").mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n")
    count = 0
    with tarfile.open(archive) as files:
        for member in files:
            found = MEMBER.fullmatch(member.name)
            source = files.extractfile(member) if found else None
            if found and source:
                target = folder / (found[1] or found[2])
                part = target.with_name(f"{target.name}.part")
                part.write_bytes(source.read())
                part.rename(target)
                count += 1
    return count


if __name__ == "__main__":
    main()
