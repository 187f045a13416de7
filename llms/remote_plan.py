"""From a prompt to what a server is asked: which way of answering, which documents are shown, which contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fourcorners.errors import ContextOverflow, SettingsError
from fourcorners.grounding.evidence import Evidence, Sentence
from fourcorners.grounding.numbered import pack_numbered
from fourcorners.grounding.packing import Packed, estimated_tokens, pack, packing_info
from fourcorners.grounding.prior import lexical_prior
from fourcorners.llms.asking import Ask
from fourcorners.llms.remote_policies import Policy, Quoting, answer_by_number, answer_by_quote, answer_in_text, refuse
from fourcorners.llms.settings import MASKS, GenerationSettings
from fourcorners.llms.stopping import stopped_at
from fourcorners.prompts.contract import Contract, Segment, load_contract
from fourcorners.prompts.grounded import GroundedText, default_contract_name, segments_of
from fourcorners.prompts.guarding import as_message
from fourcorners.prompts.instruct import InstructText

MIN_CONTEXT_TOKENS = 16
TURN_TOKENS = 32
"""For the turn markers around system and user text."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the plan must know of a server: whether it holds a model to a pattern, and its window (None: unknown)."""

    name: str
    holds_pattern: bool
    window_tokens: int | None
    stop: tuple[str, ...] = ()
    lead: str = ""


def plan(prompt: str, abilities: Abilities, settings: GenerationSettings) -> tuple[Policy, dict[str, Any]]:
    """The policy for ``prompt`` and what is known of the reply beforehand. Raises SettingsError, ContextOverflow.

    Grounded where the prompt carries evidence, as with a model in this process; else the model's own words, and the
    guarantee "none".
    """
    if isinstance(prompt, GroundedText):
        if prompt.evidence.options.grounding == "verbatim" and prompt.evidence.form is None:
            return _verbatim(prompt, abilities, settings)
        return _in_own_words(prompt, abilities, settings)
    info = {"guarantee": "none", "refused": False, "citations": []}
    system, user = prompt.segments() if isinstance(prompt, InstructText) else ([], [Segment(str(prompt), False)])
    ask = Ask(system, user, settings.max_new_tokens, _stops(abilities, settings))
    return answer_in_text(ask, ask.stop, abilities.lead), info


def _in_own_words(
    text: GroundedText, abilities: Abilities, settings: GenerationSettings
) -> tuple[Policy, dict[str, Any]]:
    evidence = text.evidence
    contract = text.contract or load_contract(default_contract_name(evidence.options, evidence.form))
    packed = _packed(contract, evidence, abilities, settings)
    ask = Ask(*_turns(contract, evidence, packed.blocks), settings.max_new_tokens, _stops(abilities, settings))
    # The chain for structured answers checks the JSON and says what holds; without it nobody does.
    known = {} if evidence.form is not None else {"guarantee": "none", "refused": False, "citations": []}
    policy = answer_in_text(ask, ask.stop, abilities.lead)
    return policy, known | packing_info(packed, evidence)


def _verbatim(text: GroundedText, abilities: Abilities, settings: GenerationSettings) -> tuple[Policy, dict[str, Any]]:
    evidence, options = text.evidence, text.evidence.options
    for name in MASKS:
        if getattr(settings, name) is not None:
            raise SettingsError(f"a verbatim answer can't be held to a {name} too: take grounding='none' for that")
    for option in ("threshold", "prior_weight"):
        if getattr(options, option) is not None:
            raise SettingsError(
                f"{abilities.name} does not tell how probable a refusal is, so {option}={getattr(options, option)} "
                f"can't be kept: leave it out, or take a model in this process"
            )
    if not evidence.sentences:
        return refuse(evidence), {}
    prior = lexical_prior(evidence.question, evidence.sentences)
    quoting = Quoting(evidence, prior, settings.max_new_tokens)
    if abilities.holds_pattern:
        policy, packed = _by_number(text, quoting, abilities, settings)
    else:
        policy, packed = _by_quote(text, quoting, abilities, settings)
    return stopped_at(policy, settings.stop), packing_info(packed, evidence)


def _by_number(
    text: GroundedText, quoting: Quoting, abilities: Abilities, settings: GenerationSettings
) -> tuple[Policy, Packed]:
    evidence, options = quoting.evidence, quoting.evidence.options
    contract = load_contract("numbers_one" if options.max_spans == 1 else "numbers_many")
    if text.contract is not None:  # the caller's wording, then what the answer must look like
        system = "\n\n".join(part for part in (text.contract.system, contract.system) if part)
        contract = Contract(system, text.contract.user)
    budget = _budget(contract, evidence, abilities, 64)
    packed, page = pack_numbered(evidence, quoting.prior, estimated_tokens, budget)
    if not page.sentences:
        return refuse(evidence), packed
    ask = Ask(*_turns(contract, evidence, page.blocks), settings.max_new_tokens, abilities.stop)
    ask_phrase: Callable[[Sentence], Ask] | None = None
    if options.span == "phrase":
        phrase = load_contract("numbers_phrase")

        def ask_phrase(sentence: Sentence) -> Ask:
            return Ask(*_turns(phrase, evidence, [sentence.text]), settings.max_new_tokens, abilities.stop)

    return answer_by_number(ask, ask_phrase, page, quoting), packed


def _by_quote(
    text: GroundedText, quoting: Quoting, abilities: Abilities, settings: GenerationSettings
) -> tuple[Policy, Packed]:
    evidence = quoting.evidence
    first = text.contract or load_contract(default_contract_name(evidence.options))
    again = load_contract("verbatim_again")
    packed = _packed(max(first, again, key=lambda one: len(one.system)), evidence, abilities, settings)
    turns = [_turns(contract, evidence, packed.blocks) for contract in (first, again)]
    # The caller's own stop strings are looked for in what is released, not in what the model says before.
    asks = [Ask(*turn, settings.max_new_tokens, abilities.stop) for turn in turns]
    return answer_by_quote(asks, quoting), packed


def _packed(contract: Contract, evidence: Evidence, abilities: Abilities, settings: GenerationSettings) -> Packed:
    budget = _budget(contract, evidence, abilities, settings.max_new_tokens)
    if budget is None:
        texts = [body for document in evidence.documents if (body := document.text.strip("\r\n")).strip()]
        return Packed(tuple(range(len(evidence.sentences))), tuple(texts))
    return pack(evidence, None, estimated_tokens, budget)


def _budget(contract: Contract, evidence: Evidence, abilities: Abilities, new_tokens: int) -> int | None:
    """Tokens for the documents, by an estimate on the safe side; None where neither window nor wish limits them."""
    window, wished = abilities.window_tokens, evidence.options.context_tokens
    if window is None:
        return wished
    bare = TURN_TOKENS + sum(estimated_tokens(as_message(turn)) for turn in _turns(contract, evidence, []))
    budget = window - bare - min(new_tokens, window // 4)
    if budget < MIN_CONTEXT_TOKENS:
        raise ContextOverflow(
            f"the question and the prompt take about {bare} of the window's {window} tokens and leave no room for the "
            f"context: shorten the question ({len(evidence.question)} characters)"
        )
    return min(budget, wished or budget)


def _turns(contract: Contract, evidence: Evidence, blocks: Sequence[str]) -> tuple[list[Segment], list[Segment]]:
    return segments_of("system", contract, evidence, blocks), segments_of("user", contract, evidence, blocks)


def _stops(abilities: Abilities, settings: GenerationSettings) -> tuple[str, ...]:
    return (*settings.stop, *(stop for stop in abilities.stop if stop not in settings.stop))
