"""A LangChain LLM on llama.cpp in this process. Grounded prompts are answered under their constraint."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.llms import BaseLLM
from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableConfig
from pydantic import ConfigDict, PrivateAttr, ValidationError

from fourcorners.engine.engine import Engine
from fourcorners.engine.runner import Runner
from fourcorners.errors import SettingsError
from fourcorners.llms.profile import Profile, profile_of
from fourcorners.llms.run import Run, plan_run
from fourcorners.llms.settings import LOADING_SETTINGS, GenerationSettings, generation_settings, settings_error
from fourcorners.prompts.chat_format import ChatFormat, chat_format_of
from fourcorners.prompts.grounded import GroundedPromptValue, GroundedText


class LlamaCpp(BaseLLM):
    """A GGUF model, loaded once. Safe under threads and event loops: requests are served one after the other.

    Settings are those of ``GenerationSettings``; they can be given here, through ``bind`` or per call. Make it with
    ``init_llm``. ``close()`` frees the model; it is also freed with the object.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    model_path: str
    n_context_tokens: int = 0
    n_threads: int = 0
    settings: GenerationSettings = GenerationSettings()
    cache: Any = False
    """LangChain's LLM cache knows only the prompt's text, not its evidence: it stays off."""

    _engine: Engine = PrivateAttr()
    _profile: Profile = PrivateAttr()
    _format: ChatFormat = PrivateAttr()

    @classmethod
    def load(cls, model_path: str | os.PathLike[str], /, **settings: Any) -> LlamaCpp:
        """Load a GGUF. Raises SettingsError for unknown settings, ModelLoadError for a bad file."""
        own = {name: settings.pop(name) for name in LOADING_SETTINGS if name in settings}
        common = {name: settings.pop(name) for name in ("callbacks", "tags", "metadata", "verbose") if name in settings}
        for name in own:
            if not isinstance(own[name], int) or isinstance(own[name], bool) or own[name] < 0:
                raise SettingsError(f"setting {name}={own[name]!r} must be a whole number, 0 or more")
        chosen = generation_settings(GenerationSettings(), settings)
        runner = Runner(model_path, **own)
        try:
            llm = cls(model_path=str(model_path), settings=chosen, **own, **common)
        except ValidationError as error:
            runner.close()
            raise settings_error(error, cls) from error
        llm._engine = Engine(runner)
        llm._profile = profile_of(runner.metadata)
        llm._format = chat_format_of(runner.metadata)
        weakref.finalize(llm, Engine.close, llm._engine)
        return llm

    def close(self) -> None:
        """Free the model. Requests under way fail with EngineClosed; further ones too."""
        self._engine.close()

    @property
    def _llm_type(self) -> str:
        return "fourcorners-llama-cpp"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_path": Path(self.model_path).name, **self.settings.model_dump()}

    def _start(self, prompt: str, stop: list[str] | None, changes: dict[str, Any]) -> Run:
        if isinstance(stop, str):
            raise SettingsError(f"stop must be a list of texts, not the text {stop!r}: write stop=[{stop!r}]")
        if stop is not None:
            changes = {**changes, "stop": stop}
        settings = generation_settings(self.settings, changes)
        return plan_run(prompt, self._engine, self._profile, self._format, settings)

    def _convert_input(self, model_input: LanguageModelInput) -> PromptValue:
        # LangChain would wrap the text in a value that keeps a plain str, and the evidence would be lost.
        if isinstance(model_input, GroundedText):
            return GroundedPromptValue.of(model_input)
        return super()._convert_input(model_input)

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        for chunk in self._start(prompt, stop, kwargs).chunks():
            if run_manager:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        run = await asyncio.to_thread(self._start, prompt, stop, kwargs)
        async for chunk in run.achunks():
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        runs = [self._start(prompt, stop, kwargs) for prompt in prompts]
        return self._result([_joined(list(run.chunks())) for run in runs])

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        runs = [await asyncio.to_thread(self._start, prompt, stop, kwargs) for prompt in prompts]
        return self._result([_joined([chunk async for chunk in run.achunks()]) for run in runs])

    def _result(self, generations: list[Generation]) -> LLMResult:
        usages = [(generation.generation_info or {}).get("usage", {}) for generation in generations]
        total = {name: sum(usage[name] for usage in usages) for name in (usages[0] if usages else {})}
        output = {"token_usage": total, "model_name": Path(self.model_path).name}
        return LLMResult(generations=[[generation] for generation in generations], llm_output=output)

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        """As every Runnable's: an input that fails, fails alone (BaseLLM's own version fails them all)."""
        return cast("list[str]", Runnable.batch(self, inputs, config, return_exceptions=return_exceptions, **kwargs))

    async def abatch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        """As ``batch``."""
        return cast(
            "list[str]", await Runnable.abatch(self, inputs, config, return_exceptions=return_exceptions, **kwargs)
        )


def _joined(chunks: list[GenerationChunk]) -> Generation:
    text = "".join(chunk.text for chunk in chunks)
    return Generation(text=text, generation_info=chunks[-1].generation_info if chunks else None)
