"""From logits to text: what is chosen, what is shown of it, and what is not waited for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourcorners.engine.cost import StepCost
from fourcorners.engine.draft import Drafter, SuffixAutomaton
from fourcorners.engine.engine import Engine
from fourcorners.engine.generation import Finish, Generation, Piece, Wish
from fourcorners.engine.mask import Mask, MaskSpec
from fourcorners.engine.program import Forward
from fourcorners.engine.sampling import Sampler, Sampling
from fourcorners.engine.vocabulary import Vocabulary
from fourcorners.errors import SettingsError
from tests.engine.engines import (
    MadeUpVocabulary,
    Record,
    finish_of,
    generated,
    made_up,
    running,
    script,
    submitted,
    text_of,
    tokens_of,
    watch,
)
from tests.support import until_first_stop

pytestmark = pytest.mark.timeout(60)
LETTERS = MadeUpVocabulary([bytes([code]) for code in range(97, 123)])
PROMPT = (1, 2, 3)

Model = Callable[[Sequence[int]], Any]


def random_model(n_tokens: int, spread: float = 2.0) -> Model:
    def logits(tokens: Sequence[int]) -> Any:
        return (spread * np.random.default_rng([7, *tokens]).standard_normal(n_tokens)).astype(np.float32)

    return logits


def plain_engine(vocabulary: Any, window: int = 4096) -> Engine:
    """What a generation asks of its engine."""
    runner = SimpleNamespace(vocabulary=vocabulary, n_context_tokens=window)
    return cast("Engine", SimpleNamespace(runner=runner, step_seconds=1e9, executor=None))


class Driven:
    """A generation that was run to its end on a made-up model, without an engine."""

    def __init__(
        self,
        vocabulary: Any,
        model: Model,
        wish: Wish,
        prompt: Sequence[int] = PROMPT,
        *,
        window: int = 4096,
        **parts: Any,
    ) -> None:
        self.generation = Generation(plain_engine(vocabulary, window), prompt, wish, **parts)
        self.counts, self.record, self.events, self.steps = self.generation.counts, Record(), [], []
        program, known = self.record.of(self.generation.program()), list[int]()
        reply: Any = None
        while True:
            try:
                step = program.send(reply)
            except StopIteration:
                break
            reply = None
            if isinstance(step, Forward):
                assert 0 <= step.position <= len(known)
                assert step.position + len(step.tokens) <= window
                known[step.position :] = step.tokens
                ends = range(len(known) - step.n_logits + 1, len(known) + 1)
                reply = np.stack([model(known[:end]) for end in ends])
                reply.flags.writeable = False
                self.steps.append(step)
            else:
                self.events.append(step)
        self.tokens, self.text, self.reason = tokens_of(self.events), text_of(self.events), finish_of(self.events)

    @property
    def rows(self) -> list[Any]:
        """The logits behind the prompt and behind each token of the answer."""
        return [self.record.rows[n] for n in sorted(self.record.rows)]


def wish(max_new_tokens: int = 20, **changes: Any) -> Wish:
    return Wish(max_new_tokens, **{"n_logprobs": 0, **changes})


# How tokens are chosen


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 2},
        {"temperature": 0.2},
        {"temperature": 0.0},
        {"top_k": 2},
        {"top_p": 0.3},
        {"min_p": 0.4},
        {"repetition_penalty": 3.0},
        {"presence_penalty": 3.0},
        {"frequency_penalty": 3.0},
        {"top_k": 9, "top_p": 0.9, "min_p": 0.05, "repetition_penalty": 1.3, "presence_penalty": 0.2},
    ],
)
def test_every_setting_reaches_the_choice(changes: dict[str, Any]) -> None:
    usual = {"temperature": 1.0, "seed": 1}
    sampling = Sampling(**{**usual, **changes})
    model = random_model(LETTERS.n_tokens)
    made = Driven(LETTERS, model, wish(60, sampling=sampling, ignore_eos=True))
    sampler, wanted = Sampler(sampling), []
    for row in made.rows:
        without = row.copy()
        token = sampler.choose(row)
        if token == 0:
            without[0] = -np.inf
            token = sampler.choose(without)
        wanted.append(token)
        sampler.accept(token)
    assert made.tokens == wanted
    assert made.tokens != Driven(LETTERS, model, wish(60, sampling=Sampling(**usual), ignore_eos=True)).tokens  # type: ignore[arg-type]


def test_the_end_token_ends_it_and_is_not_shown() -> None:
    made = Driven(LETTERS, script([5, 6, 7], 3, LETTERS.n_tokens), wish())
    assert (made.text, made.reason, made.tokens) == ("efg", "stop", [5, 6, 7])
    assert made.counts.decoded == 3


@pytest.mark.parametrize("drafted", [False, True])
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=1.0, seed=1)])
def test_ignoring_the_end_gives_all_tokens_and_never_an_end(sampling: Sampling, drafted: bool) -> None:
    def keen_to_end(tokens: Sequence[int]) -> Any:
        row = random_model(LETTERS.n_tokens)(tokens[-1:])
        row[0] = 12
        return row

    drafter = eager(PROMPT) if drafted else None
    made = Driven(LETTERS, keen_to_end, wish(80, sampling=sampling, ignore_eos=True), drafter=drafter)
    assert len(made.tokens) == 80
    assert 0 not in made.tokens
    assert made.reason == "length"
    assert len(set(made.tokens)) > 3
    assert Driven(LETTERS, keen_to_end, wish(80, sampling=sampling)).tokens == []


def test_an_answer_has_at_most_max_new_tokens_and_fits_in_the_window() -> None:
    model = script([5] * 99, 3, LETTERS.n_tokens)
    for n in (1, 2, 30):
        made = Driven(LETTERS, model, wish(n))
        assert (len(made.tokens), made.reason) == (n, "length")
        assert len(made.steps) == n, "the last token is not evaluated"
    made = Driven(LETTERS, model, wish(50), window=12)
    assert (len(made.tokens), made.reason) == (9, "length")
    made = Driven(LETTERS, model, wish(50), window=12, drafter=eager([5] * 4), prompt=[5] * 4)
    assert (len(made.tokens), made.reason) == (8, "length")


# What is shown of it

few_characters = st.text("abé🎉\u0301", max_size=12)


@given(st.data())
def test_nothing_of_a_stop_string_gets_out_however_the_bytes_come(data: st.DataObject) -> None:
    """Tokens end within characters, and stop strings within tokens."""
    text = data.draw(few_characters)
    stops = tuple(data.draw(st.lists(few_characters, max_size=3)))
    encoded = text.encode()
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(encoded) - 1)))))
    chunks = [encoded[a:b] for a, b in pairwise([0, *[c for c in cuts if c < len(encoded)], len(encoded)]) if a < b]
    vocabulary = MadeUpVocabulary(sorted(set(chunks)))
    answer = [vocabulary.pieces.index(chunk) for chunk in chunks]
    made = Driven(vocabulary, script(answer, 3, vocabulary.n_tokens), wish(stop=stops))
    wanted = until_first_stop(text, stops)
    shown = ""
    for event in made.events[:-1]:
        shown += event.text
        assert wanted.startswith(shown)
    assert shown == wanted
    assert made.reason == "stop"
    n_needed = next((n for n in range(len(chunks) + 1) if is_stopped(b"".join(chunks[:n]), stops)), len(chunks))
    assert sum(event.n_tokens for event in made.events[:-1]) == n_needed, "nothing is generated behind a stop string"
    assert len(made.steps) <= n_needed + 1


def is_stopped(data: bytes, stops: Sequence[str]) -> bool:
    text = data.decode("utf-8", "ignore")
    return any(stop and stop in text for stop in stops)


def test_what_might_have_become_a_stop_string_is_shown_at_the_end() -> None:
    model = script([1, 2, 3], 3, LETTERS.n_tokens)
    assert Driven(LETTERS, model, wish(stop=("bcd",))).text == "abc"
    made = Driven(LETTERS, model, wish(3, stop=("bcd",)))
    assert (made.text, made.reason) == ("abc", "length")


def test_bytes_that_are_no_character_are_replaced_once_it_is_sure() -> None:
    vocabulary = MadeUpVocabulary([b"a", "🎉".encode()[:2], "🎉".encode()[2:], b"\xff"])
    texts = []
    for answer in ([1, 2, 3, 1], [1, 2, 1], [1, 2], [4, 1]):
        made = Driven(vocabulary, script(answer, 3, 5), wish())
        texts.append(made.text)
        assert all("�" not in event.text for event in made.events[:1] if answer[0] == 1)
    assert texts == ["a🎉a", "a�a", "a�", "�a"]


# Log-probabilities


def log_softmax(row: Any) -> Any:
    exact = row.astype(np.float64)
    return exact - exact.max() - np.log(np.exp(exact - exact.max()).sum())


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=2.0, top_k=3, presence_penalty=2.0, seed=4)])
@pytest.mark.parametrize("drafted", [False, True])
def test_logprobs_are_the_models_own(sampling: Sampling, drafted: bool) -> None:
    def by_last(tokens: Sequence[int]) -> Any:
        return random_model(LETTERS.n_tokens)(tokens[-1:])

    drafter = eager(PROMPT) if drafted else None
    made = Driven(LETTERS, by_last, wish(40, sampling=sampling, n_logprobs=4, ignore_eos=True), drafter=drafter)
    said = [one for event in made.events if isinstance(event, Piece) for one in event.logprobs]
    assert len(said) == 40
    assert made.counts.accepted == 40 - len(made.steps)
    assert "".join(one.text for one in said) == made.text
    for n, one in enumerate(said):
        exact = log_softmax(made.record.rows[len(PROMPT) + n])
        assert one.logprob == pytest.approx(exact[one.token], abs=1e-5)
        best = np.argsort(-exact, kind="stable")[:4]
        assert [text for text, _ in one.top] == [LETTERS.text([token]) for token in best]
        assert [logprob for _, logprob in one.top] == pytest.approx(exact[best], abs=1e-5)
        assert sum(np.exp(logprob) for _, logprob in one.top) <= 1 + 1e-6


def test_logprobs_come_only_where_they_are_asked_for() -> None:
    model = script([5, 6], 3, LETTERS.n_tokens)
    none = Driven(LETTERS, model, wish(n_logprobs=None))
    assert all(event.logprobs == () for event in none.events[:-1])
    chosen = Driven(LETTERS, model, wish(n_logprobs=0))
    assert [one.top for event in chosen.events[:-1] for one in event.logprobs] == [(), ()]


def test_logprobs_under_a_mask_are_those_without_it_and_forced_tokens_are_certain(vocabulary: Vocabulary) -> None:
    spec = MaskSpec("regex", "(yes|no|perhaps), the ferry leaves at (six|seven|eleven)")
    model = random_model(vocabulary.n_tokens)
    made = Driven(vocabulary, model, wish(n_logprobs=2), prompt=[20], mask=mask_of(vocabulary, spec))
    said = [one for event in made.events if isinstance(event, Piece) for one in event.logprobs]
    assert "".join(one.text for one in said) == made.text
    forced = [one for one in said if one.logprob == 0.0]
    assert len(forced) == made.counts.forced > 3
    assert all(one.top == ((one.text, 0.0),) for one in forced)
    chosen = [(n, one) for n, one in enumerate(said) if one.logprob != 0.0]
    assert len(chosen) == made.counts.decoded
    for n, one in chosen:
        exact = log_softmax(made.record.rows[1 + n])
        assert one.logprob == pytest.approx(exact[one.token], abs=1e-4)
        assert sum(np.exp(logprob) for _, logprob in one.top) <= 1 + 1e-6
        assert one.top[0][1] == pytest.approx(exact.max(), abs=1e-4)


# Masks

FERRY = "The ferry leaves at 6:40 from the north pier."
SCHEMA = {
    "type": "object",
    "properties": {
        "place": {"enum": ["north pier", "south pier"]},
        "minutes": {"type": "integer", "minimum": 0, "maximum": 999},
        "open": {"type": "boolean"},
    },
    "required": ["place", "minutes", "open"],
    "additionalProperties": False,
}


def is_timetable(text: str) -> bool:
    found = json.loads(text)
    return (
        found["place"] in ("north pier", "south pier")
        and 0 <= found["minutes"] <= 999
        and isinstance(found["open"], bool)
        and len(found) == 3
    )


SPECS: list[tuple[MaskSpec, Callable[[str], Any]]] = [
    (MaskSpec("regex", "[a-f]{3,9} [0-9]{2}"), re.compile("[a-f]{3,9} [0-9]{2}").fullmatch),
    (MaskSpec("choice", ["yes", "yesterday", "no", FERRY]), ["yes", "yesterday", "no", FERRY].__contains__),
    (MaskSpec("json_schema", SCHEMA), is_timetable),
    (MaskSpec("grammar", 'start: "(" /[xyz]+/ ")" /[0-9]{1,4}/'), re.compile(r"\([xyz]+\)[0-9]{1,4}").fullmatch),
]


def mask_of(vocabulary: Vocabulary, spec: MaskSpec) -> Mask:
    return Mask(vocabulary.constraint_tokenizer, spec)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with running() as made:
        yield made


@pytest.mark.parametrize(
    "sampling", [Sampling(), Sampling(temperature=1.2, seed=3), Sampling(temperature=1.0, top_p=0.9)]
)
def test_masked_and_free_requests_run_in_one_batch(engine: Engine, sampling: Sampling) -> None:
    vocabulary, batches = engine.runner.vocabulary, watch(engine.runner.main)
    prompt = vocabulary.plain("When does it leave? ")
    generations, checks = [], []
    for _ in range(2):
        for spec, check in SPECS:
            asked = wish(60, sampling=sampling)
            generations.append(Generation(engine, prompt, asked, mask=mask_of(vocabulary, spec)))
            checks.append(check)
            generations.append(Generation(engine, prompt, replace(asked, ignore_eos=True)))
            checks.append(lambda text: text)
    requests = [submitted(engine, generation) for generation in generations]
    for request, generation, check in zip(requests, generations, checks, strict=True):
        events = list(request)
        if generation._mask is None:
            assert len(tokens_of(events)) == 60
        elif finish_of(events) == "stop":
            assert check(text_of(events)), text_of(events)
            assert generation.counts.decoded + generation.counts.forced == len(tokens_of(events))
        else:  # x without end is allowed
            assert "(" in text_of(events)
    assert max(len(batch) for batch in batches) == 16


def test_what_is_forced_is_not_sampled_and_goes_through_in_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    n_choices = 0
    choose = Sampler.choose

    def counted(*arguments: Any) -> int:
        nonlocal n_choices
        n_choices += 1
        return choose(*arguments)

    monkeypatch.setattr(Sampler, "choose", counted)
    with running() as engine:
        vocabulary, batches = engine.runner.vocabulary, watch(engine.runner.main)
        spec = MaskSpec("regex", "(yes|no), it leaves from the north pier at six o'clock on (Monday|Tuesday)")
        generation = Generation(engine, (20,), wish(60), mask=mask_of(vocabulary, spec))
        events = list(submitted(engine, generation))
    text, counts = text_of(events), generation.counts
    assert re.fullmatch(str(spec.value), text)
    assert counts.forced > 5 * counts.decoded
    assert n_choices == counts.decoded < 6
    assert len(batches) == n_choices
    assert max(len(span.tokens) for batch in batches for span in batch) > 12
    assert len(tokens_of(events)) == counts.decoded + counts.forced


@pytest.mark.parametrize("most", range(1, 12))
def test_forced_tokens_count_as_any(vocabulary: Vocabulary, most: int) -> None:
    mask = mask_of(vocabulary, MaskSpec("choice", [FERRY, "no"]))
    wanted = len(vocabulary.plain(FERRY))

    def likes_ferries(tokens: Sequence[int]) -> Any:
        return script(vocabulary.plain(FERRY), 1, vocabulary.n_tokens)(tokens)

    made = Driven(vocabulary, likes_ferries, wish(most), prompt=[20], mask=mask)
    assert len(made.tokens) == min(most, wanted)
    assert made.reason == ("stop" if most >= wanted else "length")
    assert FERRY.startswith(made.text)


@pytest.mark.parametrize("stop", ["leaves", "6:4", ".", "The", "ves a"])
def test_stop_strings_hold_in_forced_text_too(vocabulary: Vocabulary, stop: str) -> None:
    mask = mask_of(vocabulary, MaskSpec("choice", [FERRY, "no"]))
    likes_ferries = script(vocabulary.plain(FERRY), 1, vocabulary.n_tokens)
    made = Driven(vocabulary, likes_ferries, wish(stop=(stop,)), prompt=[20], mask=mask)
    assert made.text == FERRY[: FERRY.index(stop)]
    assert made.reason == "stop"
    n_shown = len(vocabulary.text(made.tokens))
    assert FERRY.index(stop) + len(stop) <= n_shown
    assert n_shown - len(vocabulary.text(made.tokens[-1:])) < FERRY.index(stop) + len(stop), "and nothing behind it"


def test_a_mask_that_takes_long_is_computed_while_the_batch_is(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, check = SPECS[0]
    usual = generated(engine, (20,), wish(), mask=mask_of(engine.runner.vocabulary, spec))
    prepared: list[Executor] = []
    prepare = Mask.prepare

    def noted(mask: Mask, executor: Executor) -> None:
        prepared.append(executor)
        prepare(mask, executor)

    monkeypatch.setattr(Mask, "worth_preparing", lambda *_: True)
    monkeypatch.setattr(Mask, "prepare", noted)
    events = generated(engine, (20,), wish(), mask=mask_of(engine.runner.vocabulary, spec))
    assert check(text_of(events))
    assert text_of(events) == text_of(usual)
    assert len(prepared) > 4


def test_a_grammar_with_a_dead_end_fails_its_request_alone(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = mask_of(engine.runner.vocabulary, SPECS[0][0])
    consume = mask.consume

    def dead_end(token: int) -> None:
        consume(token)
        raise SettingsError("a dead end")

    monkeypatch.setattr(mask, "consume", dead_end)
    other = submitted(engine, Generation(engine, (20,), wish(50, ignore_eos=True)))
    with pytest.raises(SettingsError, match="a dead end"):
        generated(engine, (20,), wish(), mask=mask)
    assert len(tokens_of(list(other))) == 50


# Drafts


def eager(prompt: Sequence[int]) -> Drafter:
    return Drafter(SuffixAutomaton(prompt), worth=lambda n, acceptance: n)


COPIED = tuple(np.random.default_rng(1).permutation(np.arange(1, 120)).tolist())
MANY = MadeUpVocabulary([f"{n} ".encode() for n in range(1, 200)])


def copying(tokens: Sequence[int]) -> Any:
    """A model that goes on as the text went on where the last token stood first."""
    row = np.zeros(MANY.n_tokens, np.float32)
    at = list(tokens).index(tokens[-1]) + 1 if tokens else 0
    row[tokens[at] if at < len(tokens) else 0] = 9
    return row


def test_drafts_of_an_answer_that_copies_save_steps_and_change_nothing() -> None:
    prompt = (*COPIED, 150, COPIED[0])
    texts, n_steps, counts = [], [], []
    for drafter in (None, eager(prompt)):
        with made_up(MANY, copying) as engine:
            generation = Generation(engine, prompt, wish(90), drafter=drafter)
            texts.append(tokens_of(list(submitted(engine, generation))))
            n_steps.append(engine.metrics.n_steps)
            counts.append(generation.counts)
            tokens = engine.metrics.tokens
            assert (tokens.drafted, tokens.accepted) == (counts[-1].drafted, counts[-1].accepted)
    assert texts[0] == texts[1] == list(COPIED[1:91])
    assert counts[0].drafted == counts[0].accepted == 0
    assert counts[1].accepted > 70
    assert n_steps[1] < n_steps[0] / 4


def test_drafts_in_company_go_along_with_the_others() -> None:
    prompts = [(*COPIED, 150 + i, COPIED[i]) for i in range(8)]
    with made_up(MANY, copying) as engine:
        generations = [
            Generation(engine, p, wish(60), drafter=eager(p) if i % 2 else None) for i, p in enumerate(prompts)
        ]
        requests = [submitted(engine, generation) for generation in generations]
        for i, request in enumerate(requests):
            assert tokens_of(list(request)) == list(COPIED[i + 1 : i + 61])
        assert all((generation.counts.accepted > 40) == bool(i % 2) for i, generation in enumerate(generations))


def test_nothing_is_drafted_where_it_does_not_pay() -> None:
    dear = StepCost({1: 0.001, 2: 0.01, 512: 1.0})
    cheap = StepCost({1: 0.001, 64: 0.0011, 512: 0.1})
    prompt = (*COPIED, 150, COPIED[0])
    drafted = []
    for cost in (dear, cheap):
        with made_up(MANY, copying, cost=cost) as engine:
            assert engine.can_draft == (cost is cheap)
            drafter = Drafter(SuffixAutomaton(prompt), worth=engine.draft)
            generation = Generation(engine, prompt, wish(90), drafter=drafter)
            assert tokens_of(list(submitted(engine, generation))) == list(COPIED[1:91])
            drafted.append(generation.counts.drafted)
    assert drafted[0] == 0
    assert drafted[1] > 70


def test_drafts_keep_to_the_mask(vocabulary: Vocabulary) -> None:
    """The model would copy on, but digits are not allowed."""
    text = "the ferry leaves the north pier at 6:40 on Monday"
    prompt = [*vocabulary.plain(text), *vocabulary.plain("\nthe ferry")]

    def copies(tokens: Sequence[int]) -> Any:
        row = np.zeros(vocabulary.n_tokens, np.float32)
        drafts = SuffixAutomaton(tokens[: len(prompt)])
        for token in tokens[len(prompt) - 2 :]:
            drafts.feed(token)
        for token in drafts.propose(1):
            row[token] = 9
        return row

    mask = mask_of(vocabulary, MaskSpec("regex", "[a-z ]{1,60}"))
    made = Driven(vocabulary, copies, wish(20), prompt=prompt, mask=mask, drafter=eager(prompt))
    assert made.text.startswith(" leaves the north pier at ")
    assert re.fullmatch("[a-z ]{1,60}", made.text)
    assert made.counts.accepted >= 4
    assert made.counts.accepted == len(made.tokens) + 1 - len(made.steps), "the end is chosen too"
    assert all(re.fullmatch("[a-z ]+", vocabulary.text(list(step.tokens))) for step in made.steps[1:])


@pytest.mark.parametrize("most", [1, 2, 5, 8])
def test_drafts_are_cut_at_the_last_token_and_at_a_stop_string(most: int) -> None:
    prompt = (*COPIED, 150, COPIED[0])
    made = Driven(MANY, copying, wish(most), prompt=prompt, drafter=eager(prompt))
    assert made.tokens == list(COPIED[1 : most + 1])
    assert made.reason == "length"
    assert max(step.position + len(step.tokens) for step in made.steps) < len(prompt) + most
    stop = MANY.text([COPIED[most]])
    made = Driven(MANY, copying, wish(50, stop=(stop,)), prompt=prompt, drafter=eager(prompt))
    assert made.text == MANY.text(COPIED[1:most])
    assert made.tokens == list(COPIED[1 : most + 1])
    assert isinstance(made.events[-1], Finish)
    assert made.reason == "stop"
