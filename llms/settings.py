"""Generation settings, spelled as in Hugging Face, and the checks on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fourcorners.engine.generation import Wish
from fourcorners.engine.mask import Kind, MaskSpec
from fourcorners.engine.sampling import Sampling
from fourcorners.errors import SettingsError, shortened

LOADING_SETTINGS = ("n_context_tokens", "n_cache_tokens", "n_threads", "max_running", "max_waiting", "parked_mib")
"""Settings that take effect when a model is loaded; all others may also be given per call."""
MASKS: tuple[Kind, ...] = get_args(Kind)


class GenerationSettings(BaseModel):
    """How tokens are chosen; unknown names are errors. Temperature 0 takes the most probable token.

    The repetition penalty divides, the presence and frequency penalties subtract; all look at the answer alone, never
    at the prompt, which answers are to be quoted from. At most one of ``grammar`` (Lark, as llguidance reads it),
    ``json_schema``, ``regex`` and ``choice`` says what a free answer may be. ``timeout_s`` counts from the submission;
    ``client`` is whom to be fair to.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_new_tokens: int = Field(default=256, ge=1, le=1_000_000)
    temperature: float = Field(default=0.0, ge=0.0, le=10.0)
    top_k: int = Field(default=0, ge=0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    min_p: float = Field(default=0.0, ge=0.0, lt=1.0)
    repetition_penalty: float = Field(default=1.0, gt=0.0, le=10.0)
    presence_penalty: float = Field(default=0.0, ge=-10.0, le=10.0)
    frequency_penalty: float = Field(default=0.0, ge=-10.0, le=10.0)
    seed: int | None = Field(default=None, ge=0)
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    n_logprobs: int | None = Field(default=None, ge=0, le=100)
    grammar: str | None = None
    json_schema: Mapping[str, Any] | str | None = None
    regex: str | None = None
    choice: tuple[str, ...] | None = None
    timeout_s: float | None = Field(default=None, gt=0.0)
    client: str = ""

    @model_validator(mode="after")
    def _one_mask(self) -> GenerationSettings:
        given = [name for name in MASKS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"give one of {', '.join(given)}, not all of them")
        return self

    def wish(self, max_new_tokens: int, stop: tuple[str, ...]) -> Wish:
        """These settings as the engine wants them."""
        sampling = Sampling(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            seed=self.seed,
        )
        return Wish(max_new_tokens, sampling, stop, self.n_logprobs, self.ignore_eos)

    def mask_spec(self) -> MaskSpec | None:
        """What the answer may be, where that is restricted."""
        return next((MaskSpec(kind, value) for kind in MASKS if (value := getattr(self, kind)) is not None), None)


def generation_settings(base: GenerationSettings, changes: dict[str, Any]) -> GenerationSettings:
    """``base`` with ``changes``. Raises SettingsError naming the setting, its value and what is known."""
    try:
        return GenerationSettings(**{**base.model_dump(), **changes})
    except ValidationError as error:
        raise settings_error(error, GenerationSettings) from error


def settings_error(error: ValidationError, model: type[BaseModel]) -> SettingsError:
    """The first problem of a pydantic error as one sentence."""
    first = error.errors(include_url=False)[0]
    if not first["loc"]:  # about several of them
        return SettingsError(first["msg"].removeprefix("Value error, "))
    name = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        known = [*dict.fromkeys([*GenerationSettings.model_fields, *LOADING_SETTINGS, "thresholds"])]
        return SettingsError(f"unknown setting {name!r}: use {', '.join(known)}")
    return SettingsError(f"setting {name}={shortened(first['input'])}: {first['msg']}")
