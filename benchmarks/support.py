"""How well the check of free answers tells supported sentences from altered ones.

    python -m benchmarks.support [--half dev|test] [--misses]

``data/altered.jsonl`` holds sentences with their contexts: honest ones (copied, shortened, reordered, merged,
paraphrased, values in another notation) and altered ones (a number, a date, a name … changed). The rules were written
while the misses of half ``dev`` were read; of half
``test`` only the figures were. ``--misses`` therefore refuses ``test``.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fourcorners.grounding.evidence import Evidence, documents_from
from fourcorners.grounding.support import Checker, Verdict

DATA = Path(__file__).with_name("data") / "altered.jsonl"


@dataclass(frozen=True, slots=True)
class Case:
    """A sentence, what it is, and the verdict on it."""

    half: str
    kind: str
    supported: bool
    sentence: str
    verdict: Verdict

    @property
    def right(self) -> bool:
        """Whether the verdict is right."""
        return self.supported == self.verdict.supported


def cases(half: str | None = None) -> Iterator[Case]:
    """All sentences of a half (None: both), checked."""
    for line in DATA.read_text("utf-8").splitlines():
        row = json.loads(line)
        if half in (None, row["half"]):
            evidence = Evidence(row.get("question", ""), documents_from(row["context"]))
            verdict = Checker(evidence).check(row["sentence"])
            yield Case(row["half"], row["kind"], row["supported"], row["sentence"], verdict)


def figures(checked: Iterable[Case]) -> dict[str, Any]:
    """Precision, recall and F1 of "supported", and for each kind how many verdicts are right, of how many."""
    kinds: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    passed = right_passed = supported = 0
    for case in checked:
        kinds[case.kind][0] += case.right
        kinds[case.kind][1] += 1
        passed += case.verdict.supported
        supported += case.supported
        right_passed += case.supported and case.verdict.supported
    precision, recall = right_passed / max(1, passed), right_passed / max(1, supported)
    f1 = 2 * precision * recall / max(1e-9, precision + recall)
    return {"precision": precision, "recall": recall, "f1": f1, "kinds": dict(kinds)}


def main() -> None:
    """Print the figures of each half."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--half", choices=["dev", "test"])
    parser.add_argument("--misses", action="store_true", help="show the wrong verdicts of half dev")
    arguments = parser.parse_args()
    if arguments.misses and arguments.half != "dev":
        parser.error("--misses is for --half dev: the other half is kept unread")
    for half in [arguments.half] if arguments.half else ["dev", "test"]:
        checked = list(cases(half))
        found = figures(checked)
        print(f"{half}: {len(checked)} sentences", *(f"{n} {found[n]:.3f}" for n in ("precision", "recall", "f1")))
        for supported, title in ((True, "supported, and found so"), (False, "altered, and found so")):
            kinds = {case.kind for case in checked if case.supported == supported}
            print(f"  {title}")
            for kind in sorted(kinds):
                right, n = found["kinds"][kind]
                print(f"    {kind:16} {right:3}/{n}")
        if arguments.misses:
            for case in checked:
                if not case.right:
                    print(f"  {case.kind}: {case.sentence!r} -> {case.verdict.reason}")


if __name__ == "__main__":
    main()
