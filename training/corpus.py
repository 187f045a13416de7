"""Plain English to learn words from: the documentation in Debian packages, and WordNet's definitions.

    python -m training.corpus --out training/runs/corpus

Downloads each package of ``packages.txt`` with apt-get (needs Debian), unpacks it without installing, and writes
DIR/corpus.txt: one paragraph a line, no code, no duplicates; DIR/packages.json lists version and sha256 of each.
Packages that are there already are not fetched again. About 5 minutes.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import re
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from rich.progress import track

LIST = Path(__file__).with_name("packages.txt")
MAX_FILE_BYTES = 40_000_000
MIN_WORDS = 8
_SKIPPED = frozenset({"script", "style", "pre", "code", "nav", "head", "footer", "kbd", "samp", "svg", "tt"})
_BLOCKS = frozenset({"p", "div", "li", "td", "th", "dd", "dt", "h1", "h2", "h3", "h4", "br", "section", "tr", "table"})
_VOID = frozenset({"br", "img", "hr", "meta", "link", "input", "col", "area", "base", "wbr"})
_ROFF = re.compile(r"^[.\'].*$|\\f.|\\[-&|e]", re.M)
_ENGLISH = re.compile(r"\b(?:the|of|and|to|is|in|that|are|for|with|it|be|was|or)\b")
_LETTERS = re.compile(r"[A-Za-z ]")


class _Text(HTMLParser):
    """The prose of a page; code, menus and styles left out."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._depth = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SKIPPED and tag not in _VOID:
            self._depth += 1
        elif tag in _BLOCKS:
            self.parts.append("\n\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in _SKIPPED:
            self._depth = max(0, self._depth - 1)
        elif tag in _BLOCKS:
            self.parts.append("\n\n")

    def handle_data(self, data: str) -> None:
        if not self._depth:
            self.parts.append(data)


def paragraphs(path: Path) -> Iterator[str]:
    """The English paragraphs of one file, each on one line; none for kinds of files that hold no prose."""
    name = path.name.removesuffix(".gz").removesuffix(".dz").lower()
    if path.stat().st_size > MAX_FILE_BYTES or path.is_symlink():
        return
    data = path.read_bytes()
    if path.suffix in (".gz", ".dz"):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError):
            return
    text = data.decode("utf-8", "replace")
    if name.endswith((".html", ".xhtml", ".htm", ".page", ".docbook", ".xml")):
        parser = _Text()
        parser.feed(text)
        text = "".join(parser.parts)
    elif re.search(r"\.\d\w*$", name):
        text = re.sub(r"^\.(?:TP|PP|P|IP|SH|SS|LP|br|RS|RE)\b.*$", "\n", text, flags=re.M)
        text = _ROFF.sub("", text)
    elif name.startswith("data."):
        text = re.sub(r"^\d{8} .*\| ", "\n", text, flags=re.M)
    elif not name.endswith((".txt", ".dict", ".rst", ".md", ".info")) and "fortunes" not in str(path):
        return
    for block in re.split(r"\n\s*\n|^%$", text, flags=re.M):
        line = " ".join(block.split())
        if is_prose(line):
            yield line


def is_prose(line: str) -> bool:
    """Whether a line reads like English sentences."""
    words = line.split()
    return (
        len(words) >= MIN_WORDS
        and len(_LETTERS.findall(line)) > 0.82 * len(line)
        and len(_ENGLISH.findall(line)) > 0.12 * len(words)
        and max(map(len, words)) < 60
    )


def fetched(name: str, folder: Path) -> Path | None:
    """The package's file, downloaded if it is not there; None where the archive has none of that name."""
    if not any(folder.glob(f"{name}_*.deb")):
        subprocess.run(["apt-get", "download", "-q", name], cwd=folder, check=False, capture_output=True)
    return next(iter(sorted(folder.glob(f"{name}_*.deb"))), None)


def unpacked(package: Path, folder: Path) -> Path:
    """Where the package's files lie."""
    target = folder / package.name.removesuffix(".deb")
    if not target.exists():
        subprocess.run(["dpkg", "-x", str(package), str(target)], check=True)
    return target


def main() -> None:
    """Make the corpus."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--packages", type=Path, default=LIST, help="a name a line")
    options = parser.parse_args()
    debs, files = options.out / "debs", options.out / "files"
    for folder in (debs, files):
        folder.mkdir(parents=True, exist_ok=True)
    seen: set[int] = set()
    found: list[dict[str, str | int]] = []
    names = [line.strip() for line in options.packages.read_text("utf-8").splitlines() if line[:1] not in ("", "#")]
    with (options.out / "corpus.txt").open("w", encoding="utf-8") as out:
        for name in track(names, description="packages"):
            package = fetched(name, debs)
            if package is None:
                print(f"{name}: not in this archive, left out")
                continue
            words = 0
            for path in sorted(p for p in unpacked(package, files).rglob("*") if p.is_file()):
                for line in paragraphs(path):
                    if (key := hash(line)) not in seen:
                        seen.add(key)
                        out.write(line + "\n")
                        words += line.count(" ") + 1
            digest = hashlib.sha256(package.read_bytes()).hexdigest()
            found.append({"package": package.name, "words": words, "sha256": digest})
    (options.out / "packages.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    print(f"{sum(int(one['words']) for one in found):,} words of {len(found)} packages")


if __name__ == "__main__":
    main()
