"""One request to the engine: from a prompt to LangChain chunks, with what happened in the last chunk's info."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import numpy as np
from langchain_core.outputs import GenerationChunk

from fourcorners.engine import generation
from fourcorners.engine.draft import Drafter, SuffixAutomaton
from fourcorners.engine.engine import Engine
from fourcorners.engine.generation import Finish, Generation
from fourcorners.engine.mask import Mask
from fourcorners.engine.metrics import Counts
from fourcorners.engine.program import Forward, Program
from fourcorners.engine.request import Request
from fourcorners.engine.vocabulary import Vocabulary
from fourcorners.errors import ContextOverflow, SettingsError
from fourcorners.grounding.decoding import Evaluate, Outcome, Policy, Rules
from fourcorners.grounding.evidence import Evidence
from fourcorners.grounding.filled import nothing_filled
from fourcorners.grounding.form_policy import answer_in_fields
from fourcorners.grounding.packing import Packed, pack, packing_info
from fourcorners.grounding.phrase_policy import answer_in_phrases
from fourcorners.grounding.prior import PriorScores, lexical_prior
from fourcorners.grounding.sentence_policy import answer_in_sentences
from fourcorners.llms.pointing import pointing_policy, shown_page
from fourcorners.llms.profile import Profile
from fourcorners.llms.settings import GenerationSettings
from fourcorners.llms.stopping import stopped_at
from fourcorners.prompts.chat_format import PLAIN, SPEAKERS, ChatFormat
from fourcorners.prompts.contract import Contract, Segment, load_contract
from fourcorners.prompts.grounded import GroundedText, default_contract_name, segments_of
from fourcorners.prompts.instruct import InstructText

MIN_CONTEXT_TOKENS = 16
QUESTION_STEP = 64
"""Tokens by which the room for a question grows where the same documents are to be shown whatever it is."""


class Run:
    """The events of one request as chunks. ``info`` is what the last chunk tells beside usage and timing.

    ``program`` is made when the run is submitted; None answers with ``refusal`` and calls no model. Iterated once.
    """

    def __init__(
        self,
        engine: Engine,
        program: Callable[[], Program] | None,
        *,
        info: dict[str, Any],
        n_prompt_tokens: int,
        settings: GenerationSettings,
        counts: Counts | None = None,
        keep_answer: bool = False,
        answer_prefix: str = "",
        refusal: str = "",
    ) -> None:
        self._engine, self._program, self._info, self._settings = engine, program, info, settings
        self._n_prompt_tokens = n_prompt_tokens
        self._counts, self._keep_answer = counts or Counts(), keep_answer
        self._n_new_tokens = 0
        self._lead, self._refusal = answer_prefix, refusal
        self._started = time.monotonic()
        self._first: float | None = None
        self._logprobs: list[dict[str, Any]] = []
        self._request: Request | None = None

    def submit(self) -> Run:
        """Queue it now rather than when its first chunk is asked for. Raises EngineBusy, EngineClosed, EngineError."""
        if self._program is not None and self._request is None:
            self._request = self._engine.submit(
                self._program(),
                client=self._settings.client,
                timeout_s=self._settings.timeout_s,
                keep_answer=self._keep_answer,
                counts=self._counts,
            )
        return self

    def cancel(self) -> None:
        """Call it off, if it was submitted."""
        if self._request is not None:
            self._request.cancel()

    def chunks(self) -> Iterator[GenerationChunk]:
        """Text chunks, then one empty chunk that carries the info."""
        request = self.submit()._request
        if request is None:
            yield GenerationChunk(text=self._refusal)
        else:
            for event in request:
                if text := self._take(event):
                    yield GenerationChunk(text=text)
        yield self._last_chunk()

    async def achunks(self) -> AsyncIterator[GenerationChunk]:
        """As ``chunks``."""
        request = self.submit()._request
        if request is None:
            yield GenerationChunk(text=self._refusal)
        else:
            async with aclosing(aiter(request)) as events:  # type: ignore[type-var]
                async for event in events:
                    if text := self._take(event):
                        yield GenerationChunk(text=text)
        yield self._last_chunk()

    def _take(self, event: Any) -> str:
        """Account for one event; returns the text to show."""
        if isinstance(event, Outcome):
            self._info |= outcome_info(event)
            return ""
        if isinstance(event, Finish):
            self._info["finish_reason"] = event.reason
            return ""
        text = str(event.text)
        self._n_new_tokens += event.n_tokens
        if isinstance(event, generation.Piece):
            self._logprobs.extend(one._asdict() for one in event.logprobs)
        if text and self._first is None:
            self._first = time.monotonic()
            # Formats that write a space before the answer: it belongs to the format, not to the answer.
            text = text.removeprefix(self._lead)
        return text

    def _last_chunk(self) -> GenerationChunk:
        ended = time.monotonic()
        usage = {
            "prompt_tokens": self._n_prompt_tokens,
            "completion_tokens": self._n_new_tokens,
            "total_tokens": self._n_prompt_tokens + self._n_new_tokens,
            "cached_tokens": self._counts.cached,
        }
        taken = max(ended - self._started, 1e-9)
        timing = {
            "time_to_first_token_s": round((self._first or ended) - self._started, 6),
            "tokens_per_s": round(self._n_new_tokens / taken, 3),
        }
        info = {**self._info, "usage": usage, "timing": timing}
        if self._settings.n_logprobs is not None:
            info["logprobs"] = self._logprobs
        return GenerationChunk(text="", generation_info=info)


def outcome_info(outcome: Outcome) -> dict[str, Any]:
    """The part of the generation info that a grounded run ends with; an infinite score has no number in JSON."""
    return {
        "refused": outcome.refused,
        "score": round(outcome.score, 6) if np.isfinite(outcome.score) else None,
        "threshold": outcome.threshold,
        "citations": [citation.as_dict() for citation in outcome.citations],
        "finish_reason": outcome.finish_reason,
        **outcome.details,
    }


def plan_run(
    prompt: str, engine: Engine, profile: Profile, chat_format: ChatFormat, settings: GenerationSettings
) -> Run:
    """What ``prompt`` asks for: grounded where it carries evidence, else free generation with guarantee "none"."""
    vocabulary = engine.runner.vocabulary
    info: dict[str, Any] = {"guarantee": "none", "refused": False, "citations": []}
    if isinstance(prompt, GroundedText) and prompt.evidence.options.grounding == "verbatim":
        return _grounded_run(prompt, engine, profile, chat_format, settings)
    stop = chat_format.stop
    if isinstance(prompt, GroundedText):
        packed, tokens = _plain_prompt(prompt, engine, chat_format, settings)
        info |= packing_info(packed, prompt.evidence)
    elif isinstance(prompt, InstructText):
        tokens = prompt_tokens(chat_format.wrap(*map(chat_format.guarded, prompt.segments())), vocabulary)
    else:
        # A plain string is the whole prompt; it is the caller's, not a template's, so its markers stay text.
        tokens = prompt_tokens(chat_format.wrap([], [Segment(prompt, trusted=False)]), vocabulary)
    if chat_format is PLAIN and isinstance(prompt, GroundedText | InstructText):
        stop = (*stop, *SPEAKERS)
    made = free_generation(engine, tokens, settings, stop)
    return Run(
        engine,
        made.program,
        info=info,
        n_prompt_tokens=len(tokens),
        settings=settings,
        counts=made.counts,
        keep_answer=True,
        answer_prefix=chat_format.answer_prefix,
    )


def free_generation(
    engine: Engine, tokens: Sequence[int], settings: GenerationSettings, stop: Sequence[str] = ()
) -> Generation:
    """Generation behind ``tokens``, under the mask that the settings ask for. Raises ContextOverflow, SettingsError."""
    window, vocabulary = engine.runner.n_context_tokens, engine.runner.vocabulary
    if len(tokens) >= window:
        raise ContextOverflow(f"the prompt has {len(tokens)} tokens, but the window holds {window}: shorten it")
    spec = settings.mask_spec()
    return Generation(
        engine,
        tokens,
        settings.wish(settings.max_new_tokens, (*settings.stop, *stop)),
        mask=Mask(vocabulary.constraint_tokenizer, spec) if spec is not None else None,
        drafter=Drafter(SuffixAutomaton(tokens), worth=engine.draft) if engine.can_draft else None,
    )


def plan_prompt(
    text: str, engine: Engine, profile: Profile, chat_format: ChatFormat, settings: GenerationSettings
) -> list[int]:
    """The tokens of the prompt that a grounded ``text`` leads to. Raises as ``plan_run``."""
    assert isinstance(text, GroundedText)
    evidence = text.evidence
    if evidence.options.grounding != "verbatim":
        return _plain_prompt(text, engine, chat_format, settings)[1]
    if not evidence.sentences:
        return []
    prior = lexical_prior(_asked(evidence), evidence.sentences)
    if profile.points and evidence.form is None:
        _, page = shown_page(evidence, prior, engine.runner.vocabulary, profile, engine.runner.n_context_tokens)
        return list(page.tokens)
    return _packed_prompt(_contract(text), evidence, prior, engine, profile, chat_format, settings)[1]


def prompt_tokens(segments: Sequence[Segment], vocabulary: Vocabulary) -> list[int]:
    """Token ids of a whole prompt; only trusted segments can yield control tokens."""
    tokens = vocabulary.begins()
    for segment in segments:
        tokens.extend(vocabulary.control(segment.text) if segment.trusted else vocabulary.plain(segment.text))
    return tokens


def _grounded_run(
    text: GroundedText, engine: Engine, profile: Profile, chat_format: ChatFormat, settings: GenerationSettings
) -> Run:
    evidence, options = text.evidence, text.evidence.options
    if (spec := settings.mask_spec()) is not None:
        raise SettingsError(f"a verbatim answer can't be held to a {spec.kind} too: take grounding='none' for that")
    info: dict[str, Any] = {"guarantee": "enforced"}
    threshold = (profile if evidence.form is None else replace(profile, calibrated={})).threshold(options)
    if not evidence.sentences:
        details = nothing_filled(evidence.form) if evidence.form is not None else {}
        refused = Outcome(True, np.inf, threshold, (), "stop", details)
        done = info | outcome_info(refused)
        return Run(engine, None, info=done, n_prompt_tokens=0, settings=settings, refusal=options.refusal)
    if evidence.form is not None and settings.stop:
        raise SettingsError(f"stop={list(settings.stop)} would cut the JSON of a structured answer: leave it out")
    prior = lexical_prior(_asked(evidence), evidence.sentences)
    rules = Rules(
        prior_weight=profile.prior_weight if options.prior_weight is None else options.prior_weight,
        model_weight=profile.model_weight if prior.informed else 1.0,
        check_weight=profile.check_weight,
        threshold=threshold,
        max_new_tokens=settings.max_new_tokens,
        window_tokens=engine.runner.n_context_tokens,
        temperature=settings.temperature,
        seed=settings.seed,
        answer_prefix=chat_format.answer_prefix,
    )
    vocabulary = engine.runner.vocabulary
    _ = vocabulary.pieces  # made here, once a model, and not on the engine's thread
    if profile.points and evidence.form is None:
        packed, page = shown_page(evidence, prior, vocabulary, profile, engine.runner.n_context_tokens)
        tokens = list(page.tokens)
        policy = pointing_policy(page, packed, evidence, prior, vocabulary, rules)
    else:
        # A model that only points has nothing to say of what a form's field should hold.
        rules = replace(rules, model_weight=0.0) if profile.points else rules
        packed, tokens = _packed_prompt(_contract(text), evidence, prior, engine, profile, chat_format, settings)
        policy = _policy(evidence)(tokens, evidence, packed.shown, prior, vocabulary, rules)
    info |= packing_info(packed, evidence)
    return Run(
        engine,
        lambda: _as_program(stopped_at(policy, settings.stop)),
        info=info,
        n_prompt_tokens=len(tokens),
        settings=settings,
    )


def _policy(evidence: Evidence) -> Callable[..., Policy]:
    if evidence.form is not None:
        return answer_in_fields
    return answer_in_sentences if evidence.options.span == "sentence" else answer_in_phrases


def _contract(text: GroundedText) -> Contract:
    return text.contract or load_contract(default_contract_name(text.evidence.options, text.evidence.form))


def _asked(evidence: Evidence) -> str:
    """What to look for in the documents."""
    return evidence.question if evidence.form is None else f"{evidence.question} {evidence.form.words}"


def _packed_prompt(
    contract: Contract,
    evidence: Evidence,
    prior: PriorScores,
    engine: Engine,
    profile: Profile,
    chat_format: ChatFormat,
    settings: GenerationSettings,
) -> tuple[Packed, list[int]]:
    """As much of the documents as the window and the model's reading span leave room for."""
    budget = _context_budget(contract, evidence, engine, chat_format, settings)
    vocabulary, budget = engine.runner.vocabulary, min(budget, profile.context_tokens or budget)
    packed = pack(evidence, prior, _counter(vocabulary, chat_format), budget)
    return packed, prompt_tokens(_segments(contract, evidence, packed.blocks, chat_format), vocabulary)


def _plain_prompt(
    text: GroundedText, engine: Engine, chat_format: ChatFormat, settings: GenerationSettings
) -> tuple[Packed, list[int]]:
    """The prompt of an answer in the model's own words: as much of the documents as the window has room for."""
    evidence = text.evidence
    contract = text.contract or load_contract(default_contract_name(evidence.options))
    budget = _context_budget(contract, evidence, engine, chat_format, settings)
    packed = pack(evidence, None, _counter(engine.runner.vocabulary, chat_format), budget)
    return packed, prompt_tokens(_segments(contract, evidence, packed.blocks, chat_format), engine.runner.vocabulary)


def _counter(vocabulary: Vocabulary, chat_format: ChatFormat) -> Callable[[str], int]:
    return lambda text: len(vocabulary.plain(chat_format.as_data(text)))


def _context_budget(
    contract: Contract, evidence: Evidence, engine: Engine, chat_format: ChatFormat, settings: GenerationSettings
) -> int:
    """Tokens for the documents: what the rest of the prompt and the answer leave of the window."""
    window, options = engine.runner.n_context_tokens, evidence.options
    bare = len(prompt_tokens(_segments(contract, evidence, [], chat_format), engine.runner.vocabulary))
    budget = window - bare - min(settings.max_new_tokens, window // 4)
    if budget < MIN_CONTEXT_TOKENS:
        raise ContextOverflow(
            f"the question and the prompt take {bare} of the window's {window} tokens and leave no room for the "
            f"context: shorten the question ({len(evidence.question)} characters)"
        )
    if options.packing == "rank":
        # Questions of about the same length get the same documents, and share all of their prefill.
        budget = max(MIN_CONTEXT_TOKENS, budget - (budget - window) % QUESTION_STEP)
    return min(budget, options.context_tokens or budget)


def _segments(contract: Contract, evidence: Evidence, blocks: Sequence[str], chat_format: ChatFormat) -> list[Segment]:
    parts = (segments_of(part, contract, evidence, blocks) for part in ("system", "user"))
    return chat_format.wrap(*map(chat_format.guarded, parts))


def _as_program(policy: Policy) -> Program:
    """Translate the policy's model requests for the engine; neither knows the other."""
    reply: Any = None
    try:
        while True:
            try:
                step = policy.send(reply)
            except StopIteration:
                return
            if isinstance(step, Evaluate):
                reply = (yield Forward(*step)).copy()  # policies look at earlier logits again
            else:
                reply = yield step
    finally:
        policy.close()
