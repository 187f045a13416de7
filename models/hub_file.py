"""``hf:ORG/REPO/FILE.gguf[@REVISION]``: the name of a model file on the Hugging Face hub, and of all its parts."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from fourcorners.errors import SettingsError, shortened

SCHEME = "hf:"
DEFAULT_REVISION = "main"
MAX_PARTS = 1_000
_FORM = re.compile(r"(?P<repo>[^/@\s]+/[^/@\s]+)/(?P<name>[^@]+\.gguf)(?:@(?P<revision>\S+))?", re.IGNORECASE)
_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})(?P<suffix>\.gguf)", re.IGNORECASE)
"""The names that llama.cpp's ``llama-gguf-split`` gives, and its loader looks for."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file in a repository of models. ``revision`` is a branch, a tag or a commit."""

    repo: str
    name: str
    revision: str = DEFAULT_REVISION

    @property
    def spec(self) -> str:
        """As it is written for ``init_llm``."""
        revision = f"@{self.revision}" if self.revision != DEFAULT_REVISION else ""
        return f"llama_cpp:{SCHEME}{self.repo}/{self.name}{revision}"

    @property
    def parts(self) -> list[HubFile]:
        """All files of the model, the one that llama.cpp is given first: just this one where it is not in parts."""
        found = _PART.fullmatch(self.name)
        if not found:
            return [self]
        total = int(found["total"])
        if not 1 <= int(found["number"]) <= total <= MAX_PARTS:
            raise SettingsError(f"{self.name!r} can't be one of a model's parts: check the two numbers in its name")
        names = (f"{found['stem']}-{n:05}-of-{found['total']}{found['suffix']}" for n in range(1, total + 1))
        return [replace(self, name=name) for name in names]


def hub_file(spec: str) -> HubFile:
    """The file that ``spec`` names. Raises SettingsError for anything but hf:ORG/REPO/FILE.gguf[@REVISION]."""
    found = _FORM.fullmatch(spec.removeprefix(SCHEME))
    if not found or ".." in PurePosixPath(found["name"]).parts:
        raise SettingsError(
            f"a model on the hub is named 'hf:ORG/REPO/FILE.gguf', where wanted with '@REVISION', not {shortened(spec)}"
        )
    return HubFile(found["repo"], found["name"], found["revision"] or DEFAULT_REVISION)


__all__ = ["SCHEME", "HubFile", "hub_file"]
