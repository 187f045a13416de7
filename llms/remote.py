"""A LangChain LLM on a server. What the servers have in common; each kind has a file of its own beside this one."""

from __future__ import annotations

import asyncio
import threading
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from contextvars import copy_context
from typing import Any, ClassVar, Self, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.llms import BaseLLM
from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableConfig
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr, ValidationError

from fourcorners.errors import EngineError, SettingsError
from fourcorners.llms.asking import Ask
from fourcorners.llms.batches import joined, limited
from fourcorners.llms.credentials import Address, address_of
from fourcorners.llms.facts import Facts
from fourcorners.llms.remote_plan import Abilities, plan
from fourcorners.llms.remote_run import Backend, Reader, RemoteRun
from fourcorners.llms.retrying import Deadline
from fourcorners.llms.settings import GenerationSettings, generation_settings, settings_error
from fourcorners.llms.transport import Call, Transport
from fourcorners.prompts.chat_format import PLAIN, SPEAKERS
from fourcorners.prompts.grounded import GroundedPromptValue, GroundedText
from fourcorners.prompts.instruct import InstructText

_COMMON = ("callbacks", "tags", "metadata", "name", "verbose")


class RemoteLLM(BaseLLM):
    """A model on a server. Make one with ``init_llm``.

    Settings are those of ``GenerationSettings``, given here, through ``bind`` or per call; one that the server can't do
    is a SettingsError. Of the connection: ``api_key``; ``connect_timeout_s`` and ``read_timeout_s`` (each silence of
    the server, the wait for the first token too); ``max_retries`` of what failed before the first byte of an answer
    and may pass (backoff with jitter, ``Retry-After`` obeyed up to a minute); ``max_concurrency`` requests of one
    batch at a time. ``n_context_tokens`` is the model's window where the server does not tell it: with it documents
    are packed to fit, without it a prompt that is too long is the server's ContextOverflow.

    The server is asked what it is when the first prompt comes, once. Safe from threads and event loops. To leave a
    stream, or to cancel its task, closes the connection.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    url: str
    model: str = ""
    api_key: SecretStr | None = Field(default=None, repr=False, exclude=True)
    n_context_tokens: int = Field(default=0, ge=0)
    connect_timeout_s: float = Field(default=10.0, gt=0)
    read_timeout_s: float = Field(default=120.0, gt=0)
    max_retries: int = Field(default=3, ge=0, le=20)
    max_concurrency: int = Field(default=16, ge=1)
    prompt_format: str = ""
    settings: GenerationSettings = GenerationSettings()
    cache: Any = False
    """LangChain's LLM cache knows only the prompt's text, not its evidence: it stays off."""
    packs_documents: ClassVar[bool] = True
    """What does not fit in the window is left out here, by an estimate of tokens on the safe side."""

    follows_instructions: ClassVar[bool] = True
    """It may be asked for more than to copy from documents, and is kept from speaking for others here."""

    _address: Address = PrivateAttr()
    _transport: Transport = PrivateAttr()
    _facts: Facts | None = PrivateAttr(default=None)
    _failed: tuple[float, EngineError] | None = PrivateAttr(default=None)
    _looking: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    @classmethod
    def connect(cls, url: str, **settings: Any) -> Self:
        """For the server at ``url``; nothing is sent yet. Raises SettingsError."""
        known = cls.own_settings()
        own = {name: settings.pop(name) for name in list(settings) if name in (*known, *_COMMON)}
        chosen = generation_settings(GenerationSettings(), settings, also=known)
        address = address_of(url, own.get("api_key"))
        try:
            llm = cls(url=address.url, settings=chosen, **own)
        except ValidationError as error:
            raise settings_error(error, cls) from None  # its input may be a secret
        llm._address = address
        llm._transport = Transport(
            address,
            connect_timeout_s=llm.connect_timeout_s,
            read_timeout_s=llm.read_timeout_s,
            max_retries=llm.max_retries,
        )
        return llm

    @classmethod
    def own_settings(cls) -> list[str]:
        """The names of the settings of the connection."""
        return [name for name in cls.model_fields if name not in (*BaseLLM.model_fields, "settings", "url")]

    @abstractmethod
    def _look(self) -> Facts:
        """Ask the server what it is. Raises EngineError where it does not say."""

    @abstractmethod
    def _body(self, ask: Ask, facts: Facts, settings: GenerationSettings, streamed: bool) -> tuple[str, dict[str, Any]]:
        """Path and body of a request."""

    @abstractmethod
    def _reader(self, facts: Facts) -> Reader:
        """What understands the events of one answer."""

    def close(self) -> None:
        """Close the connections that threads have used."""
        self._transport.close()

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"url": self.url, "model": self.model, **self.settings.model_dump()}

    @property
    def facts(self) -> Facts:
        """What the server is, asked at the first use; blocks meanwhile. Raises EngineError, BackendDenied."""
        came = time.monotonic()
        with self._looking:
            if self._failed is not None and self._failed[0] > came:
                raise self._failed[1]  # while this one waited: to try once more for each that waits would take for ever
            if self._facts is None:
                try:
                    self._facts = self._look()
                except EngineError as error:
                    self._failed = time.monotonic(), error
                    raise
            return self._facts

    def _get(self, path: str) -> Any:
        """The JSON at ``path`` of the server."""
        return self._transport.get(path, Deadline(self.settings.timeout_s))

    def _start(self, prompt: str, stop: list[str] | None, changes: dict[str, Any], *, streamed: bool) -> RemoteRun:
        if isinstance(stop, str):
            raise SettingsError(f"stop must be a list of texts, not the text {stop!r}: write stop=[{stop!r}]")
        if stop is not None:
            changes = {**changes, "stop": stop}
        settings = generation_settings(self.settings, changes)
        facts = self.facts
        chat_format = facts.chat_format
        speakers = SPEAKERS if chat_format is PLAIN and isinstance(prompt, GroundedText | InstructText) else ()
        abilities = Abilities(
            facts.server.name,
            facts.server.pattern is not None,
            self.n_context_tokens or facts.window_tokens,
            (*chat_format.stop, *speakers) if chat_format else (),
            chat_format.answer_prefix if chat_format else "",
        )
        policy, info = plan(prompt, abilities, settings)
        backend = _Requests(self, facts, settings, Deadline(settings.timeout_s))
        keep_logprobs = settings.n_logprobs is not None
        return RemoteRun(policy, backend, info, streamed=streamed, keep_logprobs=keep_logprobs)

    async def _astart(
        self, prompt: str, stop: list[str] | None, changes: dict[str, Any], *, streamed: bool
    ) -> RemoteRun:
        """Off the loop: to rank a long context takes milliseconds, and at first the server is asked what it is."""
        return await asyncio.to_thread(self._start, prompt, stop, changes, streamed=streamed)

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
        with closing(self._start(prompt, stop, kwargs, streamed=True).chunks()) as chunks:  # type: ignore[type-var]
            for chunk in chunks:
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
        run = await self._astart(prompt, stop, kwargs, streamed=True)
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
        def one(prompt: str) -> Generation:
            return joined(list(self._start(prompt, stop, kwargs, streamed=False).chunks()))

        if len(prompts) == 1:
            return self._result([one(prompts[0])])
        with ThreadPoolExecutor(min(len(prompts), self.max_concurrency)) as pool:
            done = [pool.submit(copy_context().run, one, prompt) for prompt in prompts]
            return self._result([future.result() for future in done])

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        room = asyncio.Semaphore(self.max_concurrency)

        async def one(prompt: str) -> Generation:
            async with room:
                run = await self._astart(prompt, stop, kwargs, streamed=False)
                return joined([chunk async for chunk in run.achunks()])

        tasks = [asyncio.create_task(one(prompt)) for prompt in prompts]
        try:
            return self._result([await task for task in tasks])
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _result(self, generations: list[Generation]) -> LLMResult:
        usages = [(generation.generation_info or {}).get("usage", {}) for generation in generations]
        names = dict.fromkeys(name for usage in usages for name in usage)
        total = {name: sum(usage.get(name, 0) for usage in usages) for name in names}
        output = {"token_usage": total, "model_name": self._facts.model if self._facts else self.model}
        return LLMResult(generations=[[generation] for generation in generations], llm_output=output)

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        """Side by side, ``max_concurrency`` at a time; an input that fails, fails alone (BaseLLM's own version fails
        them all)."""
        some = limited(config, self.max_concurrency)
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
        some = limited(config, self.max_concurrency)
        return cast(
            "list[str]", await Runnable.abatch(self, inputs, some, return_exceptions=return_exceptions, **kwargs)
        )


class _Requests(Backend):
    """The requests of one answer."""

    def __init__(self, llm: RemoteLLM, facts: Facts, settings: GenerationSettings, deadline: Deadline) -> None:
        self._llm, self._facts, self._settings, self._deadline = llm, facts, settings, deadline
        self.transport = llm._transport

    def call(self, ask: Ask, streamed: bool) -> Call:
        """The request."""
        changes: dict[str, Any] = {"max_new_tokens": ask.max_new_tokens, "stop": ask.stop}
        if ask.pattern is not None:
            changes["ignore_eos"] = False  # there is nothing to go on with
        settings = self._settings.model_copy(update=changes)
        return Call(*self._llm._body(ask, self._facts, settings, streamed), self._deadline)

    def reader(self) -> Reader:
        """For one answer."""
        return self._llm._reader(self._facts)
