"""Documents with questions, written for this project: ``training/documents/*.txt``, and their check.

    python -m training.written training/documents/FILE.txt …

A block is a line ``### kind``, the text, and lines of questions. ``? one way || another way => answer`` has an answer
that stands in the text word for word; where it stands there more than once, `` @ words around it`` behind it tells
which is meant. ``! one way || another way`` has no answer in this text.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "documents"


@dataclass(frozen=True)
class Asked:
    """Ways to ask the same; ``place`` are the answer's offsets in the text, None where it has none."""

    ways: tuple[str, ...]
    place: tuple[int, int] | None


@dataclass(frozen=True)
class Written:
    """One document. ``source`` is where it starts: file and line."""

    kind: str
    text: str
    asked: tuple[Asked, ...]
    source: str


def written(paths: Sequence[Path] | None = None) -> list[Written]:
    """All documents of the files, by default of those in ``documents``. Raises ValueError naming file and line."""
    faults: list[str] = []
    chosen = sorted(FOLDER.glob("*.txt")) if paths is None else paths
    found = [document for path in chosen for document in _blocks(path, faults)]
    if faults:
        raise ValueError("\n".join(faults))
    return found


def _blocks(path: Path, faults: list[str]) -> Iterator[Written]:
    """The documents of a file; what is wrong with a line goes to ``faults``."""
    lines = path.read_text("utf-8").splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("### ")]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        body = lines[start + 1 : end]
        split = next((n for n, line in enumerate(body) if line[:2] in ("? ", "! ")), len(body))
        text = "\n".join(body[:split]).strip()
        asked: list[Asked] = []
        for number, line in enumerate(body[split:], start=start + 2 + split):
            if line.strip():
                try:
                    asked.append(_asked(line, text, f"{path.name}:{number}"))
                except ValueError as error:
                    faults.append(str(error))
        yield Written(lines[start][4:].strip(), text, tuple(asked), f"{path.name}:{start + 1}")


def _asked(line: str, text: str, where: str) -> Asked:
    mark, rest = line[:2], line[2:].strip()
    if mark == "! ":
        if "=>" in rest:
            raise ValueError(f"{where}: a line with ! has no answer: {line!r}")
        return Asked(_ways(rest, where), None)
    if mark != "? " or " => " not in rest:
        raise ValueError(f"{where}: neither '? question => answer' nor '! question': {line!r}")
    ways, _, answer = rest.rpartition(" => ")
    answer, _, around = answer.partition(" @ ")
    return Asked(_ways(ways, where), _place(answer.strip(), around.strip(), text, where))


def _ways(text: str, where: str) -> tuple[str, ...]:
    ways = tuple(way.strip() for way in text.split("||"))
    if not all(ways):
        raise ValueError(f"{where}: an empty question: {text!r}")
    return ways


def _place(answer: str, around: str, text: str, where: str) -> tuple[int, int]:
    if not answer or answer not in text:
        raise ValueError(f"{where}: the answer is not in the text: {answer!r}")
    if around:
        if text.count(around) != 1 or around.count(answer) != 1:
            raise ValueError(f"{where}: {around!r} must stand once in the text and hold {answer!r} once")
        start = text.index(around) + around.index(answer)
    elif text.count(answer) != 1:
        raise ValueError(f"{where}: {answer!r} stands {text.count(answer)} times: write ' @ words around it' behind it")
    else:
        start = text.index(answer)
    return start, start + len(answer)


def main() -> None:
    """Check files: prints every fault, then what there is."""
    faults: list[str] = []
    found = [document for name in sys.argv[1:] for document in _blocks(Path(name), faults)]
    asked = [one for document in found for one in document.asked]
    answerable = sum(one.place is not None for one in asked)
    print("\n".join(faults) + "\n" * bool(faults), end="")
    print(
        f"{len(found)} documents of {sum(len(one.text.split()) for one in found):,} words, {answerable:,} questions "
        f"with an answer and {len(asked) - answerable:,} without, in {sum(len(one.ways) for one in asked):,} wordings"
    )
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
