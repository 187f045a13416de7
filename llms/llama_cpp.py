"""A LangChain LLM on llama.cpp in this process. Grounded prompts are answered under their constraint."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from itertools import takewhile
from pathlib import Path
from typing import Any, ClassVar, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.llms import BaseLLM
from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableConfig
from pydantic import ConfigDict, PrivateAttr, ValidationError

from fourcorners.engine.engine import DEFAULT_PARKED_MIB, Engine, Limits
from fourcorners.engine.generation import prefill
from fourcorners.engine.metrics import Metrics
from fourcorners.engine.runner import Runner
from fourcorners.errors import FourCornersError, SettingsError
from fourcorners.grounding.evidence import GroundingOptions
from fourcorners.llms.completion import Completion
from fourcorners.llms.profile import Profile
from fourcorners.llms.run import Run, free_generation, plan_prompt, plan_run
from fourcorners.llms.settings import LOADING_SETTINGS, GenerationSettings, generation_settings, settings_error
from fourcorners.llms.thresholds import fingerprint_of, given_thresholds, profile_for, scoring_of
from fourcorners.prompts.chat_format import ChatFormat
from fourcorners.prompts.detection import format_of_gguf
from fourcorners.prompts.grounded import GroundedPromptValue, GroundedText, grounded_prompt

MAX_RUNNING = 128
"""llama.cpp has 256 sequence ids."""
MAX_WAITING = 64
"""Of one batch: threads, or tasks."""


class LlamaCpp(BaseLLM):
    """A GGUF model, loaded once and shared: requests of all threads and event loops run side by side.

    Settings are those of ``GenerationSettings``; they can be given here, through ``bind`` or per call. Fixed at
    loading: ``n_context_tokens``, the window of one request; ``n_cache_tokens``, what all that run have together (0:
    four windows, within a GiB); ``n_threads``; ``max_running`` requests at once, ``max_waiting`` in the queue, beyond
    which EngineBusy is raised; ``parked_mib`` of host memory for contexts that may come back; ``thresholds``, a file
    of ``fourcorners calibrate``; ``prompt_format``, the name of the format to use instead of the one that the model
    file tells. Make it with ``init_llm``. ``close()`` frees the model; it is also freed with the object.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    model_path: str
    n_context_tokens: int = 0
    n_cache_tokens: int = 0
    n_threads: int = 0
    max_running: int = 16
    max_waiting: int = 256
    parked_mib: int = DEFAULT_PARKED_MIB
    prompt_format: str | None = None
    settings: GenerationSettings = GenerationSettings()
    cache: Any = False
    """LangChain's LLM cache knows only the prompt's text, not its evidence: it stays off."""
    packs_documents: ClassVar[bool] = True
    """What does not fit in the window is left out here, by the model's own count of tokens."""

    _engine: Engine = PrivateAttr()
    _profile: Profile = PrivateAttr()
    _format: ChatFormat = PrivateAttr()

    @classmethod
    def load(cls, model_path: str | os.PathLike[str], /, **settings: Any) -> LlamaCpp:
        """Load a GGUF. Raises SettingsError for unknown settings, ModelLoadError for a bad file or chat template."""
        own = {name: settings.pop(name) for name in LOADING_SETTINGS if name in settings}
        common = {name: settings.pop(name) for name in _COMMON_SETTINGS if name in settings}
        for name in own:
            if not isinstance(own[name], int) or isinstance(own[name], bool) or own[name] < 0:
                raise SettingsError(f"setting {name}={own[name]!r} must be a whole number, 0 or more")
        given = given_thresholds(model_path, settings.pop("thresholds", None))
        chosen = generation_settings(GenerationSettings(), settings)
        try:
            llm = cls(model_path=str(model_path), settings=chosen, **own, **common)
        except ValidationError as error:
            raise settings_error(error, cls) from error
        llm._engine = llm._new_engine()
        runner = llm._engine.runner
        _ = runner.vocabulary.pieces  # now rather than in the first answer: 0.2 s for 50,000 tokens
        try:
            llm._profile = profile_for(runner.metadata, model_path, given)
        except FourCornersError:
            llm._engine.close()
            raise
        weakref.finalize(llm, Engine.close, llm._engine).atexit = False  # the engine sees to that itself
        return llm

    def _new_engine(self) -> Engine:
        if not 1 <= self.max_running <= MAX_RUNNING:
            raise SettingsError(f"max_running={self.max_running} must be from 1 to {MAX_RUNNING}")
        runner = Runner(
            self.model_path,
            n_context_tokens=self.n_context_tokens,
            n_cache_tokens=self.n_cache_tokens,
            n_threads=self.n_threads,
            max_running=self.max_running,
        )
        try:
            self._format = _format_of(runner, self.prompt_format)
        except FourCornersError:
            runner.close()
            raise
        limits = Limits(max_running=self.max_running, max_waiting=self.max_waiting)
        return Engine(runner, limits, parked_mib=self.parked_mib)

    @property
    def metrics(self) -> Metrics:
        """What the engine has done and is doing."""
        return self._engine.metrics

    @property
    def follows_instructions(self) -> bool:
        """Whether it may be asked for more than to copy from documents; the bundled reader may not."""
        return self._profile.follows_instructions

    def refusal_threshold(self, options: GroundingOptions) -> float:
        """The refusal score above which it refuses under these options."""
        return self._profile.threshold(options)

    def threshold_owner(self, span: str) -> dict[str, str]:
        """What a threshold of this model for ``span`` is known by in a threshold file. Reads the model's file."""
        scoring = scoring_of(self._profile, span)
        return {"model": Path(self.model_path).name, "fingerprint": fingerprint_of(self.model_path), "scoring": scoring}

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
        self._engine.ensure_usable()
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

    async def _astart(self, prompt: str, stop: list[str] | None, changes: dict[str, Any]) -> Run:
        """Planned and submitted off the loop: tokenizing and ranking a long context takes milliseconds."""
        loop = asyncio.get_running_loop()
        started = loop.run_in_executor(None, lambda: self._start(prompt, stop, changes).submit())
        try:
            return await asyncio.shield(started)
        except asyncio.CancelledError:
            started.add_done_callback(_call_off)
            raise

    def complete(self, prompt: str | Sequence[int], /, **settings: Any) -> Completion:
        """Complete a raw prompt: the text as the model is to see it, control tokens included, or its token ids.

        For load tools and callers who make their own prompts; nothing is grounded. Raises SettingsError,
        ContextOverflow, EngineBusy at once.
        """
        self._engine.ensure_usable()
        chosen = generation_settings(self.settings, settings)
        vocabulary = self._engine.runner.vocabulary
        tokens = [*vocabulary.begins(), *vocabulary.raw(prompt)] if isinstance(prompt, str) else list(prompt)
        if not tokens:
            raise SettingsError("the prompt is empty: give at least one token")
        if min(tokens) < 0 or max(tokens) >= vocabulary.n_tokens:
            bad = next(token for token in tokens if not 0 <= token < vocabulary.n_tokens)
            raise SettingsError(f"there is no token {bad}: this vocabulary has those up to {vocabulary.n_tokens - 1}")
        made = free_generation(self._engine, tokens, chosen)
        request = self._engine.submit(
            made.program(),
            client=chosen.client,
            timeout_s=chosen.timeout_s,
            keep_answer=True,
            counts=made.counts,
        )
        return Completion(request, len(tokens))

    def warm(self, documents: Any, **options: Any) -> int:
        """Prefill the beginning that all questions about ``documents`` share, and park it; returns its tokens.

        ``documents`` and ``options`` are the ``context`` and the options of ``grounded_prompt``. The call blocks until
        it is done: about as long as the first question would take. It helps where the documents are shown whole.
        """
        self._engine.ensure_usable()
        prompts = [grounded_prompt(**options).format(question=q, context=documents) for q in _ANY_QUESTIONS]
        first, second = (plan_prompt(p, self._engine, self._profile, self._format, self.settings) for p in prompts)
        shared = tuple(a for a, b in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))
        if shared:
            for _ in self._engine.submit(prefill(shared)):
                pass
        return len(shared)

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
        run = await self._astart(prompt, stop, kwargs)
        async with aclosing(run.achunks()) as chunks:  # type: ignore[type-var]
            async for chunk in chunks:
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
        runs: deque[Run] = deque()
        done: list[Generation] = []
        try:
            for prompt in prompts:
                if len(runs) == self._most_at_once:
                    done.append(_joined(list(runs.popleft().chunks())))
                runs.append(self._start(prompt, stop, kwargs).submit())
            while runs:
                done.append(_joined(list(runs.popleft().chunks())))
            return self._result(done)
        finally:
            for run in runs:
                run.cancel()

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        runs: deque[Run] = deque()
        done: list[Generation] = []
        try:
            for prompt in prompts:
                if len(runs) == self._most_at_once:
                    done.append(_joined([chunk async for chunk in runs.popleft().achunks()]))
                runs.append(await self._astart(prompt, stop, kwargs))
            while runs:
                done.append(_joined([chunk async for chunk in runs.popleft().achunks()]))
            return self._result(done)
        finally:
            for run in runs:
                run.cancel()

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
        """All at once, in common batches of the engine; an input that fails, fails alone (BaseLLM's own version fails
        them all)."""
        wide = _all_at_once(config, self._most_at_once)
        return cast("list[str]", Runnable.batch(self, inputs, wide, return_exceptions=return_exceptions, **kwargs))

    async def abatch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        """As ``batch``."""
        # Only where it has to be: LangChain then leaves coroutines behind, unawaited, when one of them fails.
        wide = _all_at_once(config, self._most_at_once) if len(inputs) > self._most_at_once else config
        return cast(
            "list[str]", await Runnable.abatch(self, inputs, wide, return_exceptions=return_exceptions, **kwargs)
        )

    @property
    def _most_at_once(self) -> int:
        """Requests that one caller has under way: as many as run, but no more than the queue takes."""
        return min(max(self.max_running, MAX_WAITING), self.max_running + self.max_waiting)


_COMMON_SETTINGS = ("callbacks", "tags", "metadata", "verbose", "prompt_format")
_ANY_QUESTIONS = ("?", "What is this about?")


def _format_of(runner: Runner, prompt_format: str | None) -> ChatFormat:
    """How this model wants its prompts."""
    bos, eos = runner.vocabulary.bos_and_eos()
    found = format_of_gguf(runner.metadata, prompt_format=prompt_format, model=runner.path.name, bos=bos, eos=eos)
    return found.begun_once(bos, added=bool(runner.vocabulary.begins()))


def _all_at_once(
    config: RunnableConfig | list[RunnableConfig] | None, most: int
) -> RunnableConfig | list[RunnableConfig] | None:
    """LangChain runs as many at a time as it has worker threads, six on two cores, though they only wait here; and in
    event loops all, however many the queue takes."""
    if isinstance(config, list):
        return [_all_at_once(one, most) for one in config]  # type: ignore[misc]
    if config and config.get("max_concurrency"):
        return config
    return {**(config or {}), "max_concurrency": most}


def _call_off(started: asyncio.Future[Run]) -> None:
    if not started.cancelled() and started.exception() is None:
        started.result().cancel()


def _joined(chunks: list[GenerationChunk]) -> Generation:
    text = "".join(chunk.text for chunk in chunks)
    return Generation(text=text, generation_info=chunks[-1].generation_info if chunks else None)
