"""The answer as a person reads it: with the numbers of its citations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def marked_answer(reply: Mapping[str, Any]) -> str:
    """The answer of a ``Reply`` with ``[1]``, ``[2]`` … behind what each citation quotes; the numbers are theirs.

    For showing only: a document may itself hold such marks. ``reply["citations"]`` is what counts.
    """
    answer, marked, position = str(reply["answer"]), "", 0
    for citation in reply["citations"]:
        at = answer.find(citation["quote"], position)
        if at < 0:
            continue
        end = at + len(citation["quote"])
        marked += f"{answer[position:end]} [{citation['number']}]"
        position = end
    return marked + answer[position:]
