"""What is known about a model beforehand: its contract, how much it can read, and how its scores are weighed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fourcorners.grounding.evidence import GroundingOptions


@dataclass(frozen=True, slots=True)
class Profile:
    """Weights and limits of one model.

    ``contract`` is the prefix of its prompt files; ``context_tokens`` 0 leaves the window's own limit;
    ``max_sentences`` None shows whole documents. ``model_weight`` counts beside a prior that has something to say;
    alone the model counts in full. Thresholds belong to (model, grounding, span).
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
    """Thresholds of a threshold file, by grounding and span, before the two above."""

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
