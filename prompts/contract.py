"""The contract with the model: a system text and a user text with gaps, loaded from the files beside this one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from string import Formatter

from fourcorners.errors import SettingsError

VARIABLES = frozenset({"question", "context", "refusal", "schema"})
_BORDER = "\n---\n"


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of prompt. Only ``trusted`` text may become control tokens; what users and documents say is not."""

    text: str
    trusted: bool


@dataclass(frozen=True, slots=True)
class Contract:
    """A system text and a user text; the gaps that may stand in them are ``{question}``, ``{context}``,
    ``{refusal}`` and, for structured answers, ``{schema}``.

    Raises SettingsError for other gaps, and where ``{question}`` or ``{context}`` has none.
    """

    system: str
    user: str

    def __post_init__(self) -> None:
        gaps = {name for text in (self.system, self.user) for _, name, _, _ in _parsed(text) if name is not None}
        if unknown := sorted(gaps - VARIABLES):
            raise SettingsError(f"unknown gap {unknown} in the prompt: use {sorted(VARIABLES)}, and {{{{ for a brace")
        if missing := sorted({"question", "context"} - gaps):
            raise SettingsError(f"the prompt has no gap {missing}: write {{{missing[0]}}} where it belongs")

    def fill(self, part: str, values: Mapping[str, str]) -> list[Segment]:
        """Segments of ``system`` or ``user`` (by name); template text is trusted, the values are not."""
        segments = []
        for literal, name, _, _ in _parsed(getattr(self, part)):
            if literal:
                segments.append(Segment(literal, trusted=True))
            if name is not None and values.get(name):
                segments.append(Segment(values[name], trusted=name == "refusal"))
        return segments


@cache
def load_contract(name: str) -> Contract:
    """The contract in the file ``<name>.txt`` of this package. Raises SettingsError naming those there are."""
    path = files(__package__).joinpath(f"{name}.txt")
    if not path.is_file():
        raise SettingsError(f"no prompt named {name!r}: there are {contract_names()}")
    system, border, user = path.read_text("utf-8").partition(_BORDER)
    if not border:
        raise SettingsError(f"the prompt file {name}.txt has no line '---' between the system and the user text")
    return Contract(system, user.removesuffix("\n"))


def contract_names() -> list[str]:
    """The names that ``load_contract`` takes."""
    return sorted(item.name.removesuffix(".txt") for item in files(__package__).iterdir() if item.name.endswith(".txt"))


def _parsed(text: str) -> Iterator[tuple[str, str | None, str | None, str | None]]:
    try:
        yield from Formatter().parse(text)
    except ValueError as error:
        raise SettingsError(f"the prompt can't be read ({error}): write {{{{ and }}}} for braces") from error
