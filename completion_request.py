"""What a client may ask of ``POST /v1/completions``: OpenAI's fields, and some that other servers have too."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from fourcorners.errors import shortened


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _null_is_not_given(cls, value: Any) -> Any:
        return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value


class StreamOptions(_Strict):
    """OpenAI's ``stream_options``."""

    include_usage: bool = Field(False, description="a last chunk, without choices, has the token counts")


class NamedSchema(_Strict):
    """OpenAI's ``json_schema`` in a ``response_format``; the text always keeps to it, ``strict`` or not."""

    json_schema: dict[str, Any] = Field(alias="schema")
    name: str = ""
    description: str = ""
    strict: bool = True


class ResponseFormat(_Strict):
    """OpenAI's ``response_format``."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("response_format: json_schema goes with the type 'json_schema', and only with it")
        return self

    def constraint(self) -> dict[str, Any] | None:
        """A JSON schema, or None for free text."""
        if self.json_schema is not None:
            return self.json_schema.json_schema
        return {"type": "object"} if self.type == "json_object" else None


class CompletionRequest(_Strict):
    """The body of ``POST /v1/completions``. A field that is null counts as not given."""

    model: str = Field("", description="any name: one model is served; it comes back in the answer")
    prompt: str | list[int] = Field(description="a text, a list of one text, or a list of token ids")
    max_tokens: int = Field(16, ge=1)
    stream: bool = False
    stream_options: StreamOptions | None = None

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = Field(0, description="0 or -1: all")
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    repeat_penalty: float | None = Field(None, description="another name for repetition_penalty")
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    stop: str | list[str] = Field([], description="a text or a list of texts that end the answer and are no part of it")
    ignore_eos: bool = Field(False, description="go on to max_tokens, whatever the model says")
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = Field(None, description="how many tokens beside the chosen")

    response_format: ResponseFormat | None = None
    grammar: str | None = Field(None, description="a Lark grammar that the text keeps to")
    regex: str | None = Field(None, description="a regular expression that the text matches")
    choice: list[str] | None = Field(None, min_length=1, description="the text is one of these")

    n: int = Field(1, description="only 1, as best_of")
    best_of: int = 1
    echo: bool = Field(False, description="only false")
    logit_bias: dict[str, float] = Field({}, description="only empty")
    user: str = Field("", description="accepted, and of no effect")

    @field_validator("prompt", mode="before")
    @classmethod
    def _one_prompt(cls, value: Any) -> Any:
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
            return value[0]
        if isinstance(value, str) or (isinstance(value, list) and value and all(type(item) is int for item in value)):
            return value
        raise ValueError(f"prompt must be one text or the token ids of one, not {shortened(value)}")

    @field_validator("n", "best_of", "echo", "logit_bias")
    @classmethod
    def _not_done_here(cls, value: Any, info: ValidationInfo) -> Any:
        if value != cls.model_fields[str(info.field_name)].default:
            raise ValueError(f"{info.field_name}={shortened(value)} is not supported: leave {info.field_name} out")
        return value

    @model_validator(mode="after")
    def _agrees(self) -> CompletionRequest:
        if self.repeat_penalty is not None and "repetition_penalty" in self.model_fields_set:
            raise ValueError("repeat_penalty and repetition_penalty are one setting: give one of them")
        if len(given := self.constraint()) > 1:
            raise ValueError(f"{' and '.join(given)} can't be combined: give one of them")
        return self

    def constraint(self) -> dict[str, Any]:
        """What the text must keep to, as settings of the engine; more than one is an error."""
        schema = self.response_format.constraint() if self.response_format else None
        named = {"json_schema": schema, "grammar": self.grammar, "regex": self.regex, "choice": self.choice}
        return {name: value for name, value in named.items() if value is not None}

    def settings(self) -> dict[str, Any]:
        """The settings in the engine's words."""
        chosen: dict[str, Any] = {
            "max_new_tokens": self.max_tokens,
            "temperature": self.temperature,
            "top_k": 0 if self.top_k == -1 else self.top_k,
            "top_p": self.top_p,
            "min_p": self.min_p,
            "repetition_penalty": self.repetition_penalty if self.repeat_penalty is None else self.repeat_penalty,
            "presence_penalty": self.presence_penalty,
            "frequency_penalty": self.frequency_penalty,
            "seed": self.seed,
            "stop": [self.stop] if isinstance(self.stop, str) else self.stop,
            "ignore_eos": self.ignore_eos,
            "n_logprobs": self.logprobs,
        }
        return chosen | self.constraint()


__all__ = ["CompletionRequest"]
