"""Threshold files: what ``fourcorners calibrate`` writes and ``init_llm(…, thresholds=FILE)`` reads.

A threshold belongs to a model, a grounding and a span, and a file has one entry for each such three. The model is known
by its file's fingerprint, not by its name.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fourcorners.errors import SettingsError, ThresholdError, shortened
from fourcorners.grounding.prior import prior_numbers
from fourcorners.llms.profile import READER, Profile, profile_of
from fourcorners.models import reader_thresholds_path
from fourcorners.prompts.contract import load_contract

VERSION = 1
WHOLE_BYTES = 16 * 2**20
BLOCK_BYTES = 64 * 2**10
N_BLOCKS = 256
_NOT_SCORING = ("sentence_threshold", "phrase_threshold", "calibrated")


class Threshold(BaseModel):
    """One entry: refuse where the refusal score exceeds ``threshold``.

    ``bound`` "selective": with probability ``confidence`` at most ``max_risk`` of the answers given are wrong.
    "expected": on average at most ``max_risk`` of the questions asked are answered wrongly. Both for questions like the
    ``rows`` of the calibration, of which ``coverage`` were answered, ``risk`` of those wrongly. ``fingerprint`` is the
    model file's, ``scoring`` that of the weights and the prompt that make scores of its probabilities.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(min_length=1)
    fingerprint: str = Field(min_length=1)
    scoring: str = Field(min_length=1)
    grounding: Literal["verbatim"] = "verbatim"
    span: Literal["sentence", "phrase"]
    threshold: float = Field(allow_inf_nan=False)
    bound: Literal["selective", "expected"]
    max_risk: float = Field(gt=0, lt=1)
    confidence: float | None = Field(default=None, gt=0, lt=1)
    max_spans: int = Field(default=1, ge=1)
    rows: int = Field(ge=1)
    coverage: float = Field(ge=0, le=1)
    risk: float = Field(ge=0, le=1)


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1]
    entries: tuple[Threshold, ...]


def read_thresholds(path: str | os.PathLike[str]) -> tuple[Threshold, ...]:
    """The entries of a file. Raises ThresholdError naming the file, what is wrong with it and the remedy."""
    try:
        data = json.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise ThresholdError(
            f"threshold file {path} can't be read ({error.strerror or error}): name one of fourcorners calibrate"
        ) from error
    except ValueError as error:
        raise ThresholdError(f"{path} is no threshold file ({error}): make one with fourcorners calibrate") from error
    if not isinstance(data, dict) or data.get("version") != VERSION:
        found = (
            f"version {shortened(data['version'])}" if isinstance(data, dict) and "version" in data else "no version"
        )
        raise ThresholdError(f"{path} is no threshold file of version {VERSION} ({found}): make it anew with calibrate")
    try:
        return _File.model_validate(data).entries
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        raise ThresholdError(
            f"{path}: {name}={shortened(first['input'])}: {first['msg']}; make it anew with fourcorners calibrate"
        ) from error


def write_threshold(path: str | os.PathLike[str], entry: Threshold) -> None:
    """Put ``entry`` in the file in the place of its model's for that grounding and span; the others stay.

    The file appears whole or not at all. Raises ThresholdError for one that is there and is no threshold file.
    """
    file = Path(path)
    others = read_thresholds(file) if file.exists() else ()
    kept = [one for one in others if _identity(one) != _identity(entry)]
    whole = _File(version=1, entries=tuple(sorted([*kept, entry], key=lambda one: (one.model, *_identity(one)))))
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        draft.write_text(json.dumps(whole.model_dump(exclude_none=True), indent=2, ensure_ascii=False) + "\n", "utf-8")
        draft.replace(file)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise ThresholdError(f"{file} can't be written: {error.strerror or error}") from error


def own_thresholds(model_path: str | os.PathLike[str], path: str | os.PathLike[str]) -> tuple[Threshold, ...]:
    """The entries that a file has for a model; those of other models are not heeded."""
    fingerprint = fingerprint_of(model_path)
    return tuple(entry for entry in read_thresholds(path) if entry.fingerprint == fingerprint)


def given_thresholds(model_path: str | os.PathLike[str], path: Any) -> tuple[Threshold, ...]:
    """The same for a file that a user named, or None, before the model is loaded.

    Raises ThresholdError where the file has none at all for the model: then it is another model's.
    """
    if path is None:
        return ()
    if not isinstance(path, str | os.PathLike):
        raise SettingsError(f"setting thresholds={shortened(path)} must be the path of a file of fourcorners calibrate")
    entries = read_thresholds(path)
    if not Path(model_path).is_file():
        return ()  # the loader says so
    if not (own := own_thresholds(model_path, path)):
        known = ", ".join(dict.fromkeys(one.model for one in entries)) or "no model"
        raise ThresholdError(
            f"threshold file {path} is for {known}, with nothing for {Path(model_path).name} as it is now: "
            "run fourcorners calibrate with this model, or leave the file out"
        )
    return own


def profile_for(metadata: Mapping[str, str], model_path: str | os.PathLike[str], given: Sequence[Threshold]) -> Profile:
    """As ``profile_of``, with the ``given`` thresholds, and for the bundled reader those that ship with it.

    Raises ThresholdError for a given one that was made when scores were worked out in another way.
    """
    known = profile_of(metadata)
    for entry in given:
        if entry.scoring != scoring_of(known, entry.span):
            raise ThresholdError(
                f"the threshold of {entry.model} for {entry.span} was made when fourcorners worked out scores in "
                "another way: run fourcorners calibrate again"
            )
    shipped = reader_thresholds_path() if known is READER else None
    own = own_thresholds(model_path, shipped) if shipped is not None and shipped.is_file() else ()
    valid = [entry for entry in own if entry.scoring == scoring_of(known, entry.span)]
    return replace(known, calibrated={(one.grounding, one.span): one.threshold for one in (*valid, *given)})


def scoring_of(profile: Profile, span: str) -> str:
    """A fingerprint of what makes scores of a model's probabilities: the profile's weights and limits, the prior's, and
    the prompt that a model without a way of its own is shown."""
    told = [(field.name, getattr(profile, field.name)) for field in fields(profile) if field.name not in _NOT_SCORING]
    parts = [told, load_contract(f"verbatim_{span}"), prior_numbers() if profile.prior_weight else ()]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def fingerprint_of(model_path: str | os.PathLike[str]) -> str:
    """What tells a model file from others: its sha256, of more than 16 MiB that of its size and of 256 blocks of it."""
    with Path(model_path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size <= WHOLE_BYTES:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        digest = hashlib.sha256(str(size).encode())
        for block in range(N_BLOCKS):
            file.seek((size - BLOCK_BYTES) * block // (N_BLOCKS - 1))
            digest.update(file.read(BLOCK_BYTES))
    return f"sha256-blocks:{digest.hexdigest()}"


def _identity(entry: Threshold) -> tuple[str, str, str]:
    return entry.fingerprint, entry.grounding, entry.span


__all__ = [
    "Threshold",
    "fingerprint_of",
    "given_thresholds",
    "own_thresholds",
    "profile_for",
    "read_thresholds",
    "scoring_of",
    "write_threshold",
]
