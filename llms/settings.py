"""Generation settings, spelled as in Hugging Face, and the checks on them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fourcorners.errors import SettingsError, shortened

LOADING_SETTINGS = ("n_context_tokens", "n_threads")
"""Settings that take effect when a model is loaded; all others may also be given per call."""


class GenerationSettings(BaseModel):
    """How tokens are chosen; unknown names are errors. Temperature 0 takes the most probable token."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_new_tokens: int = Field(default=256, ge=1, le=1_000_000)
    temperature: float = Field(default=0.0, ge=0.0, le=10.0)
    top_k: int = Field(default=0, ge=0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    min_p: float = Field(default=0.0, ge=0.0, lt=1.0)
    repetition_penalty: float = Field(default=1.0, gt=0.0, le=10.0)
    seed: int | None = None
    stop: tuple[str, ...] = ()


def generation_settings(base: GenerationSettings, changes: dict[str, Any]) -> GenerationSettings:
    """``base`` with ``changes``. Raises SettingsError naming the setting, its value and what is known."""
    try:
        return GenerationSettings(**{**base.model_dump(), **changes})
    except ValidationError as error:
        raise settings_error(error, GenerationSettings) from error


def settings_error(error: ValidationError, model: type[BaseModel]) -> SettingsError:
    """The first problem of a pydantic error as one sentence."""
    first = error.errors(include_url=False)[0]
    name = ".".join(map(str, first["loc"])) or "settings"
    if first["type"] == "extra_forbidden":
        known = [*dict.fromkeys([*GenerationSettings.model_fields, *LOADING_SETTINGS])]
        return SettingsError(f"unknown setting {name!r}: use {', '.join(known)}")
    return SettingsError(f"setting {name}={shortened(first['input'])}: {first['msg']}")
