"""What the server can be told, and where it is read from.

An argument wins over an environment variable, that over a line in ``.env``, that over the default. The variables are
the fields in capitals with the prefix ``FOURCORNERS_``: ``FOURCORNERS_PORT=9000``. A name with the prefix that is no
field is an error, because a misspelt setting that is skipped looks like one that works.
"""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from fourcorners.errors import SettingsError, shortened

PREFIX = "FOURCORNERS_"


class _StrictEnvironment(EnvSettingsSource):
    """pydantic-settings skips unknown variables of the environment; this hands them on, to be refused."""

    def __call__(self) -> dict[str, Any]:
        values = super().__call__()
        prefix = PREFIX.lower()
        names = {name.removeprefix(prefix): name for name in self.env_vars if name.startswith(prefix)}
        names.pop("debug", None)  # the command line's own switch for tracebacks
        fields = self.settings_cls.model_fields
        return values | {short: self.env_vars[name] for short, name in names.items() if short not in fields}


class ServerSettings(BaseSettings):
    """The settings of ``fourcorners serve``. Make one with :func:`load_settings`, which has the clearer errors."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", dotenv_filtering="match_prefix", env_ignore_empty=True, extra="forbid"
    )

    host: str = Field("127.0.0.1", description="address to listen on; the default is reachable from this machine only")
    port: int = Field(8000, ge=0, le=65535, description="0 picks a free port, and the log says which")
    llm: str = Field("bundled", description="model spec, as in init_llm: bundled, llama_cpp:PATH")
    paths: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), description="text files and folders that /rag answers from; in the environment separated as in PATH"
    )
    index: Path | None = Field(None, description="an index, or its folder, that /rag answers from instead of paths")
    passages: int = Field(4, ge=1, le=100, description="how many passages /rag reads for one question")
    span: Literal["sentence", "phrase"] = Field("sentence", description="what an answer is made of")
    max_spans: int = Field(1, ge=1, le=20, description="how many spans an answer may have")
    thresholds: Path | None = Field(None, description="a file of fourcorners calibrate: when a model refuses")
    raw: bool = Field(False, description="serve /v1/completions too, as OpenAI has it: raw prompts, no grounding")
    max_running: int | None = Field(None, ge=1, le=128, description="requests that an in-process model runs at once")
    max_waiting: int | None = Field(None, ge=0, description="so many more may wait; the next is answered with 503")
    parked_mib: int | None = Field(None, ge=0, description="host memory for contexts that may come back; 1024 as it is")
    max_body_bytes: int = Field(8 * 2**20, ge=1024, description="a longer request is answered with 413")

    @property
    def loading(self) -> dict[str, Any]:
        """What was set of how a model is loaded, for ``init_llm``."""
        names = ("max_running", "max_waiting", "parked_mib", "thresholds")
        wanted = {name: getattr(self, name) for name in names}
        return {name: value for name, value in wanted.items() if value is not None}

    @field_validator("paths", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part for part in value.split(os.pathsep) if part) if isinstance(value, str) else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, environment, ``.env``: the first that has a setting wins."""
        return init_settings, _StrictEnvironment(settings_cls), dotenv_settings


def load_settings(**arguments: Any) -> ServerSettings:
    """The settings, with an argument that is ``None`` counted as not given.

    Raises :class:`SettingsError`, which names each unknown setting or wrong value and its remedy.
    """
    try:
        return ServerSettings(**{name: value for name, value in arguments.items() if value is not None})
    except ValidationError as error:
        raise SettingsError("; ".join(_explained(item) for item in error.errors())) from None


def _explained(item: Any) -> str:
    name = str(item["loc"][0])
    if item["type"] != "extra_forbidden":
        return f"setting {name} ({PREFIX}{name.upper()}) can't be {shortened(item['input'])}: {item['msg']}"
    known = sorted(ServerSettings.model_fields)
    near = get_close_matches(name.lower(), known, n=1)
    remedy = f"did you mean {near[0]!r}?" if near else f"known settings: {', '.join(known)}"
    return f"unknown setting {name!r} (as a variable: {PREFIX}{name.upper()}); {remedy}"


__all__ = ["ServerSettings", "load_settings"]
