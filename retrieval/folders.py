"""The files below a folder that can be read."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from fourcorners.retrieval.formats import SUFFIXES
from fourcorners.retrieval.reading import printable

INDEX_NAME = ".fourcorners.db"
"""The index of a folder, where no other place was named: hidden, so that it is not read as a document."""
_N_NAMED = 4


def files_below(
    folder: str, warn: Callable[[str], object], fail: Callable[[str], object], ours: Collection[str] = ()
) -> Iterator[str]:
    """The readable files below ``folder``: sorted, files before subfolders. Links to folders are not followed.

    What is passed over (hidden, a link to a folder, of another kind by its name) is told to ``warn``, a subfolder that
    can't be read to ``fail``. ``ours``: files that are passed over without a word.
    """
    hidden, linked, other = list[str](), list[str](), list[str]()
    for parent, folders, names in os.walk(folder, onerror=lambda error: fail(_unread(error))):
        dotted = (name for name in (*folders, *names) if name.startswith("."))
        hidden += [str(Path(parent, name)) for name in dotted if not name.startswith(INDEX_NAME)]
        linked += [str(Path(parent, name)) for name in folders if name[0] != "." and Path(parent, name).is_symlink()]
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            file = Path(parent, name)
            if name.lower().endswith(SUFFIXES) and file.is_file():
                yield str(file)
            else:
                other.append(str(file))
    reasons = {
        "hidden": hidden,
        "a link to a folder; to have it read, name the folder": linked,
        "not text by name; to have one read, name it": other,
    }
    for reason, files in reasons.items():
        if skipped := sorted(printable(file) for file in files if file not in ours):
            more = f" and {len(skipped) - _N_NAMED} more" if len(skipped) > _N_NAMED else ""
            warn(f"skipped: {', '.join(skipped[:_N_NAMED])}{more} ({reason})")


def _unread(error: OSError) -> str:
    return f"skipped: can't read the folder {printable(error.filename)!r}: {error.strerror}"
