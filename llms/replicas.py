"""Several LLMs that answer alike, as one: each request goes to the one with the fewest under way."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, closing
from typing import Any, ClassVar, Self, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.llms import BaseLLM
from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableConfig
from pydantic import ConfigDict, PrivateAttr

from fourcorners.errors import BackendDenied, EngineBusy, EngineError, FourCornersError, ModelLoadError, SettingsError
from fourcorners.llms.batches import joined, limited
from fourcorners.prompts.grounded import GroundedPromptValue, GroundedText

FIRST_REST_S, LONGEST_REST_S = 1.0, 60.0
"""How long a replica that failed is left alone; doubled each time it fails again."""
FAILOVER = (EngineError, BackendDenied, ModelLoadError)
"""What another replica may not have; input that can't be used can't be used anywhere."""
MOST_AT_ONCE = 64


class Replica:
    """One of the LLMs and how it does. Its numbers are only touched under the pool's lock."""

    def __init__(self, spec: str, llm: BaseLLM) -> None:
        self.spec, self.llm = spec, llm
        self.n_outstanding = self.n_failures = 0
        self.rests_until = 0.0

    def rest(self, seconds: float | None, now: float) -> None:
        """It failed: leave it alone for a while, as long as it said, where it said."""
        self.n_failures += 1
        usual: float = min(FIRST_REST_S * 2 ** min(self.n_failures - 1, 10), LONGEST_REST_S)
        self.rests_until = now + max(usual, min(seconds or 0.0, LONGEST_REST_S))


class Pool:
    """Chooses among replicas. Safe from threads and event loops: nothing waits while the lock is held."""

    def __init__(self, replicas: Sequence[Replica], clock: Callable[[], float] = time.monotonic) -> None:
        self.replicas, self._clock, self._lock = list(replicas), clock, threading.Lock()
        self._turn = 0

    def take(self, tried: Sequence[Replica]) -> Replica | None:
        """The best that was not tried, counted as busy from now on: fewest under way, in turn among equals.

        One that failed rests, and is then tried with one request at a time until it has done one. Where all rest, the
        one whose rest ends first is taken all the same: to refuse without a try would help nobody.
        """
        with self._lock:
            left = [replica for replica in self.replicas if replica not in tried]
            if not left:
                return None
            now = self._clock()
            able = [one for one in left if one.rests_until <= now and not (one.n_failures and one.n_outstanding)]
            if able:
                fewest = min(one.n_outstanding for one in able)
                equals = [one for one in able if one.n_outstanding == fewest]
                self._turn += 1
                chosen = equals[self._turn % len(equals)]
            else:
                chosen = min(left, key=lambda one: (one.rests_until, one.n_outstanding))
            chosen.n_outstanding += 1
            return chosen

    def done(self, replica: Replica, error: BaseException | None, *, answered: bool) -> None:
        """Give it back: it rests after a failure, and counts as healthy once it ``answered``.

        A request that was called off, or that nobody could use, says nothing about it.
        """
        with self._lock:
            replica.n_outstanding -= 1
            if isinstance(error, FAILOVER):
                wait = error.retry_after_s if isinstance(error, EngineBusy) else None
                replica.rest(wait, self._clock())
            elif answered:
                replica.n_failures, replica.rests_until = 0, 0.0


class ReplicatedLLM(BaseLLM):
    """Several LLMs that answer alike; ``init_llm(["tgi:A", "tgi:B", "bundled"])`` makes one.

    A request goes to the replica with the fewest under way. Where that fails before it has said anything, it rests for
    a second, then two, four … up to a minute (or as long as it said), and the next one is asked; only when all have
    failed is the last error raised. Once text has come out, an error is an error: another model would not go on from
    there. Errors that are the input's own are raised at once. Replicas that are servers are not tried again by
    themselves unless ``max_retries`` is given. ``usage`` and ``guarantee`` are those of the replica that answered;
    ``replica`` in the info names it.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    cache: Any = False
    packs_documents: ClassVar[bool] = True
    _pool: Pool = PrivateAttr()

    @classmethod
    def of(cls, specs: Sequence[str], llms: Sequence[BaseLLM]) -> Self:
        """One of ``llms`` made from ``specs``. Raises SettingsError for fewer than one."""
        if not llms:
            raise SettingsError("the list of models is empty: name at least one")
        made = cls()
        made._pool = Pool([Replica(spec, llm) for spec, llm in zip(specs, llms, strict=True)])
        return made

    @property
    def follows_instructions(self) -> bool:
        """Whether all of them may be asked for more than to copy from documents."""
        return all(getattr(one.llm, "follows_instructions", True) for one in self._pool.replicas)

    def close(self) -> None:
        """Close them all."""
        for replica in self._pool.replicas:
            cast("Any", replica.llm).close()

    @property
    def _llm_type(self) -> str:
        return "fourcorners-replicas"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"replicas": [dict(one.llm._identifying_params) for one in self._pool.replicas]}

    def _convert_input(self, model_input: LanguageModelInput) -> PromptValue:
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
        attempts = _Attempts(self._pool)
        while attempts.goes_on:
            with attempts.one() as replica, closing(replica.llm._stream(prompt, stop, **kwargs)) as chunks:  # type: ignore[type-var]
                for chunk in chunks:
                    attempts.saw(chunk)
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
        attempts = _Attempts(self._pool)
        while attempts.goes_on:
            with attempts.one() as replica:
                async with aclosing(replica.llm._astream(prompt, stop, **kwargs)) as chunks:  # type: ignore[type-var]
                    async for chunk in chunks:
                        attempts.saw(chunk)
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
        return _result([joined(list(self._stream(prompt, stop, **kwargs))) for prompt in prompts])

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        done = []
        for prompt in prompts:
            async with aclosing(self._astream(prompt, stop, **kwargs)) as chunks:  # type: ignore[type-var]
                done.append(joined([chunk async for chunk in chunks]))
        return _result(done)

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        """Side by side, spread over the replicas; an input that fails, fails alone."""
        some = limited(config, MOST_AT_ONCE)
        return cast("list[str]", Runnable.batch(self, inputs, some, return_exceptions=return_exceptions, **kwargs))

    async def abatch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        """As ``batch``."""
        some = limited(config, MOST_AT_ONCE)
        return cast(
            "list[str]", await Runnable.abatch(self, inputs, some, return_exceptions=return_exceptions, **kwargs)
        )


class _Attempts:
    """The tries of one request, one replica after the other."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._tried: list[Replica] = []
        self._current = pool.take(())
        self._has_text = False
        self.goes_on = True

    def one(self) -> _Attempts:
        """As a context manager: the replica to ask. Swallows an error that the next one may not have."""
        return self

    def saw(self, chunk: GenerationChunk) -> None:
        """Note what came; the last chunk is told who answered."""
        self._has_text = self._has_text or bool(chunk.text)
        if chunk.generation_info is not None and self._current is not None:
            chunk.generation_info.setdefault("replica", self._current.spec)

    def __enter__(self) -> Replica:
        assert self._current is not None
        return self._current

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        assert self._current is not None
        self._pool.done(self._current, error, answered=error is None or self._has_text)
        self.goes_on = False
        if not isinstance(error, FAILOVER) or self._has_text:
            return False
        self._tried.append(self._current)
        self._current = self._pool.take(self._tried)
        if self._current is None:
            if len(self._tried) > 1 and isinstance(error, FourCornersError):
                error.add_note(f"asked in vain: {', '.join(replica.spec for replica in self._tried)}")
            return False
        self.goes_on = True
        return True


def _result(generations: list[Generation]) -> LLMResult:
    usages = [(generation.generation_info or {}).get("usage", {}) for generation in generations]
    names = dict.fromkeys(name for usage in usages for name in usage)
    total = {name: sum(usage.get(name, 0) for usage in usages) for name in names}
    return LLMResult(generations=[[one] for one in generations], llm_output={"token_usage": total})
