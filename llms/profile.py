"""What is known about a model beforehand: its contract, how much it can read, and how its scores are weighed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fourcorners.grounding.evidence import GroundingOptions


@dataclass(frozen=True, slots=True)
class Profile:
    """Weights and limits of one model.

    With ``points`` it scores sentences that it is shown in ``context_tokens`` instead of writing; else it is shown
    what its window has room for. ``model_weight`` counts beside a prior that has something to say; alone the model
    counts in full. Thresholds belong to (model, grounding, span).
    """

    points: bool
    context_tokens: int
    prior_weight: float
    model_weight: float
    check_weight: float
    sentence_threshold: float
    phrase_threshold: float
    form_threshold: float
    calibrated: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """Thresholds of a threshold file, by grounding and span, before the two above."""

    @property
    def follows_instructions(self) -> bool:
        """Whether it may be asked for more than to point."""
        return not self.points

    def threshold(self, options: GroundingOptions, *, structured: bool = False) -> float:
        """The refusal threshold for these options, unless the caller gave one; ``structured``: for a form's fields."""
        if options.threshold is not None:
            return options.threshold
        if structured:
            return self.form_threshold
        own = self.sentence_threshold if options.span == "sentence" else self.phrase_threshold
        return self.calibrated.get((options.grounding, options.span), own)


GENERAL = Profile(
    points=False,
    context_tokens=0,
    prior_weight=0.0,
    model_weight=1.0,
    check_weight=0.0,
    sentence_threshold=0.0,
    phrase_threshold=0.0,
    form_threshold=0.0,
)
READER = Profile(
    points=True,
    context_tokens=400,
    prior_weight=1.0,
    model_weight=0.35,
    check_weight=0.35,
    sentence_threshold=1.0,
    phrase_threshold=1.0,
    form_threshold=0.55,
)


def profile_of(metadata: Mapping[str, str]) -> Profile:
    """The profile for a GGUF with this ``metadata``: the bundled reader says ``fourcorners.contract = pointing``."""
    return READER if metadata.get("fourcorners.contract") == "pointing" else GENERAL
