"""What is known about a model beforehand: its contract, how much it can read, and how its scores are weighed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from fourcorners.errors import ThresholdError
from fourcorners.grounding.evidence import GroundingOptions
from fourcorners.grounding.prior import prior_numbers
from fourcorners.llms.thresholds import Threshold, own_thresholds
from fourcorners.models import reader_thresholds_path
from fourcorners.prompts.contract import load_contract


@dataclass(frozen=True, slots=True)
class Profile:
    """Weights and limits of one model.

    ``contract`` is the prefix of its prompt files; ``context_tokens`` 0 leaves the window's own limit;
    ``max_sentences`` None shows whole documents. ``model_weight`` counts beside a prior that has something to say;
    alone the model counts in full. Thresholds belong to (model, grounding, span): ``calibrated`` are those of a
    threshold file, before the others.
    """

    contract: str
    context_tokens: int
    max_sentences: int | None
    prior_weight: float
    model_weight: float
    sentence_threshold: float
    phrase_threshold: float
    follows_instructions: bool = True
    calibrated: Mapping[tuple[str, str], float] = field(default_factory=dict)

    def threshold(self, options: GroundingOptions) -> float:
        """The refusal threshold for these options, unless the caller gave one."""
        if options.threshold is not None:
            return options.threshold
        own = self.sentence_threshold if options.span == "sentence" else self.phrase_threshold
        return self.calibrated.get((options.grounding, options.span), own)


GENERAL = Profile(
    contract="verbatim",
    context_tokens=0,
    max_sentences=None,
    prior_weight=0.0,
    model_weight=1.0,
    sentence_threshold=0.0,
    phrase_threshold=0.0,
)
READER = Profile(
    contract="reader",
    context_tokens=448,
    max_sentences=4,
    prior_weight=1.0,
    model_weight=0.1,
    sentence_threshold=0.55,
    phrase_threshold=0.55,
    follows_instructions=False,
)


def profile_of(metadata: Mapping[str, str]) -> Profile:
    """The profile for a GGUF with this ``metadata``: the bundled reader says ``fourcorners.contract = reader``."""
    return READER if metadata.get("fourcorners.contract") == "reader" else GENERAL


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
    told = [(field.name, getattr(profile, field.name)) for field in fields(profile) if field.name not in _THRESHOLDS]
    parts = [told, load_contract(f"verbatim_{span}"), prior_numbers() if profile.prior_weight else ()]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


_THRESHOLDS = ("sentence_threshold", "phrase_threshold", "calibrated")
