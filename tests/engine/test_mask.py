import contextlib
import itertools
import json
import random
import re
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourcorners.engine.mask import MAX_CHARS, Mask, MaskSpec
from fourcorners.engine.vocabulary import Vocabulary
from fourcorners.errors import EngineError, SettingsError
from tests.support import NASTY, any_char, texts

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[A-Z][a-z]{1,8}$"},
        "age": {"type": "integer", "minimum": 3, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 3},
        "ok": {"type": ["boolean", "null"]},
    },
    "required": ["name", "age", "tags", "ok"],
    "additionalProperties": False,
}
TICKET = r"[A-Z]{2,3}-[0-9]{3,5}( (open|closed))?"
CHOICES = ["yes", "yesterday", "no", "Unsure about answer", 'a "b" \\ c\n', "e\u0301\x7f\x00", "👩‍👩‍👧‍👦"]
ARITHMETIC = 'start: term (("+" | "-") term){0,3}\nterm: NUMBER | "(" NUMBER "*" NUMBER ")"\nNUMBER: /[0-9]{1,3}/'
GBNF = 'root ::= item ("," item)? ("," item)?\nitem ::= "ab" | [0-9] "c"'


def is_person(text: str) -> bool:
    person = json.loads(text)
    return (
        list(person) == ["name", "age", "tags", "ok"]
        and re.fullmatch("[A-Z][a-z]{1,8}", person["name"]) is not None
        and 3 <= person["age"] <= 120
        and len(person["tags"]) <= 3
        and {"red", "green", "blue"}.issuperset(person["tags"])
        and person["ok"] in (True, False, None)
        and json.dumps(person) == text
    )


SPECS: dict[str, tuple[MaskSpec, Callable[[str], Any]]] = {
    "json_schema": (MaskSpec("json_schema", PERSON), is_person),
    "regex": (MaskSpec("regex", TICKET), re.compile(TICKET).fullmatch),
    "choice": (MaskSpec("choice", CHOICES), CHOICES.__contains__),
    "lark": (MaskSpec("grammar", ARITHMETIC), re.compile(r"(\d+|\(\d+\*\d+\))([+-](\d+|\(\d+\*\d+\))){0,3}").fullmatch),
    "gbnf": (MaskSpec("grammar", GBNF), re.compile(r"(ab|\dc)(,(ab|\dc)){0,2}").fullmatch),
}
any_spec = st.sampled_from([spec for spec, _ in SPECS.values()])
randoms = st.randoms(use_true_random=False)


def walk(mask: Mask, vocabulary: Vocabulary, choose: Any, most: int = 200) -> list[int]:
    """Tokens chosen at random until the end."""
    path: list[int] = []
    while not path or path[-1] != vocabulary.eos:
        assert len(path) < most, "the answers of these tests are short"
        path.append(int(choose.choice(mask.allowed())))
        mask.consume(path[-1])
    return path


@pytest.mark.parametrize("name", SPECS)
@given(choose=randoms)
def test_only_text_that_matches_is_ever_emitted(vocabulary: Vocabulary, name: str, choose: Any) -> None:
    spec, matches = SPECS[name]
    mask = Mask(vocabulary.constraint_tokenizer, spec)
    *path, _ = walk(mask, vocabulary, choose)
    assert matches(b"".join(vocabulary.pieces[token] for token in path).decode())
    assert mask.finished
    assert not len(mask.allowed())
    assert mask.forced() == []


@given(any_spec, randoms)
def test_masks_are_ascending_and_say_what_is_allowed(vocabulary: Vocabulary, spec: MaskSpec, choose: Any) -> None:
    mask = Mask(vocabulary.constraint_tokenizer, spec)
    for token in walk(Mask(vocabulary.constraint_tokenizer, spec), vocabulary, choose):
        allowed = mask.allowed().tolist()
        assert allowed == sorted(set(allowed))
        assert mask.finished == (allowed == [vocabulary.eos])
        is_forced = len(allowed) == 1 and not mask.finished
        for some in choose.sample(range(vocabulary.n_tokens), 20):
            assert (mask.accepts([some]) == 1) == (some in allowed) or is_forced
        assert all(mask.accepts([some]) == 1 for some in choose.sample(allowed, min(5, len(allowed))))
        mask.consume(token)


@given(any_spec, randoms)
def test_forced_tokens_are_the_only_way_on(vocabulary: Vocabulary, spec: MaskSpec, choose: Any) -> None:
    mask = Mask(vocabulary.constraint_tokenizer, spec)
    while not mask.finished:
        for token in mask.forced():
            assert mask.allowed().tolist() == [token]
            mask.consume(token)
        mask.consume(int(choose.choice(mask.allowed())))


def test_what_is_forced_is_known_at_once(vocabulary: Vocabulary) -> None:
    mask = Mask(vocabulary.constraint_tokenizer, MaskSpec("json_schema", PERSON))
    assert vocabulary.text(mask.forced()).startswith('{"name": ')
    only = Mask(vocabulary.constraint_tokenizer, MaskSpec("choice", ["The ferry leaves at 6:40."]))
    assert vocabulary.text(only.forced()) == "The ferry leaves at 6:40."
    for token in only.forced():
        only.consume(token)
    assert only.finished
    assert only.allowed().tolist() == [vocabulary.eos]


@given(any_spec, randoms)
def test_after_a_rollback_everything_is_as_it_was(vocabulary: Vocabulary, spec: MaskSpec, choose: Any) -> None:
    path = walk(Mask(vocabulary.constraint_tokenizer, spec), vocabulary, choose)
    mask = Mask(vocabulary.constraint_tokenizer, spec)
    seen = []
    for token in path:
        seen.append((mask.allowed().tolist(), mask.forced(), mask.finished))
        mask.consume(token)
    at = len(path)
    for _ in range(8):
        goal = choose.randint(0, len(path))
        if goal < at:
            mask.rollback(at - goal)
        for token in path[at:goal]:
            mask.consume(token)
        at = goal
        if at < len(path):
            assert (mask.allowed().tolist(), mask.forced(), mask.finished) == seen[at]
    assert mask.accepts(path[at:]) == len(path) - at


@given(any_spec, randoms)
def test_drafts_are_accepted_as_far_as_they_are_allowed(vocabulary: Vocabulary, spec: MaskSpec, choose: Any) -> None:
    path = walk(Mask(vocabulary.constraint_tokenizer, spec), vocabulary, choose)
    mask = Mask(vocabulary.constraint_tokenizer, spec)
    for token in path[: choose.randint(0, len(path))]:
        mask.consume(token)
    wrong = choose.randint(-3, vocabulary.n_tokens + 3)
    draft = [choose.choice([token, token, token, wrong]) for token in path]
    one_by_one = Mask(vocabulary.constraint_tokenizer, spec)
    n = next((n for n, token in enumerate(draft) if not allows(one_by_one, token)), len(draft))
    fresh = Mask(vocabulary.constraint_tokenizer, spec)
    assert fresh.accepts(draft) == n
    before = mask.allowed().tolist()
    mask.accepts(draft)
    assert mask.allowed().tolist() == before
    mask.rollback(0)
    assert mask.allowed().tolist() == before


def allows(mask: Mask, token: int) -> bool:
    if token not in mask.allowed():
        return False
    mask.consume(token)
    return True


class Later(Executor):
    """Runs nothing until it is told to."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Future[Any], Any]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.waiting.append((Future(), lambda: fn(*args, **kwargs)))
        return self.waiting[-1][0]


@given(any_spec, randoms)
def test_a_prepared_mask_is_the_same(vocabulary: Vocabulary, spec: MaskSpec, choose: Any) -> None:
    path = walk(Mask(vocabulary.constraint_tokenizer, spec), vocabulary, choose)
    plain, prepared = (Mask(vocabulary.constraint_tokenizer, spec) for _ in range(2))
    with ThreadPoolExecutor(2) as pool:
        for token in path:
            prepared.prepare(pool)
            if choose.random() < 0.5:
                prepared.prepare(pool)
                assert prepared.allowed().tolist() == plain.allowed().tolist()
            if choose.random() < 0.3:
                assert prepared.forced() == plain.forced()
            assert prepared.finished == plain.finished
            plain.consume(token)
            prepared.consume(token)


def test_what_has_not_begun_is_not_waited_for(vocabulary: Vocabulary) -> None:
    later = Later()
    mask = Mask(vocabulary.constraint_tokenizer, MaskSpec("regex", "ab*"))
    mask.prepare(later)
    assert not later.waiting, "the first mask is known from the start"
    mask.consume(int(mask.allowed()[0]))
    mask.prepare(later)
    mask.prepare(later)
    assert len(later.waiting) == 1
    assert vocabulary.eos in mask.allowed()
    assert later.waiting[0][0].cancelled()


def test_what_has_begun_is_waited_for_before_anything_else(vocabulary: Vocabulary) -> None:
    mask = Mask(vocabulary.constraint_tokenizer, MaskSpec("regex", "a*"))
    mask.consume(int(mask.allowed()[-1]))
    later = Later()
    mask.prepare(later)
    ((future, work),) = later.waiting
    assert future.set_running_or_notify_cancel()
    order: list[str] = []
    began = threading.Event()

    def consume() -> None:
        began.set()
        mask.consume(vocabulary.eos)
        order.append("consumed")

    thread = threading.Thread(target=consume)
    thread.start()
    began.wait()
    order.append("computed")
    future.set_result(work())
    thread.join()
    assert order == ["computed", "consumed"]
    assert mask.finished


def test_it_is_worth_preparing_what_takes_long(vocabulary: Vocabulary) -> None:
    mask = Mask(vocabulary.constraint_tokenizer, MaskSpec("regex", "a*"))
    assert 0 < mask.mask_seconds < 1
    mask.mask_seconds = 0.001
    assert mask.worth_preparing(0.049)
    assert not mask.worth_preparing(0.051)


def test_misuse_is_an_error_and_changes_nothing(vocabulary: Vocabulary) -> None:
    mask = Mask(vocabulary.constraint_tokenizer, MaskSpec("choice", ["yes", "no"]))
    before = mask.allowed().tolist()
    other = next(token for token in range(vocabulary.n_tokens) if token not in before)
    for token in (other, -1, vocabulary.n_tokens, 2**31, vocabulary.eos):
        with pytest.raises(EngineError, match=f"token {token} is not allowed at position 0"):
            mask.consume(token)
    for n in (1, -1):
        with pytest.raises(EngineError, match="can't be taken back"):
            mask.rollback(n)
    assert mask.allowed().tolist() == before
    with pytest.raises(ValueError, match="read-only"):
        mask.allowed()[0] = 1


BAD = [
    (MaskSpec("regex", "(a"), "the regex '(a' can't be used: unclosed group"),
    (MaskSpec("regex", "[a-"), "unclosed character class"),
    (MaskSpec("regex", "a{2,1}"), "invalid repetition count range"),
    (MaskSpec("regex", "(?=a)b"), "look-around"),
    (MaskSpec("regex", r"\bword"), "lookarounds not supported"),
    (MaskSpec("regex", r"(a)\1"), "backreferences are not supported"),
    (MaskSpec("regex", r"[^\s\S]"), "no text that it allows"),
    (MaskSpec("regex", ""), "must be a text that is not empty"),
    (MaskSpec("regex", ["a"]), "must be a text that is not empty"),
    (MaskSpec("regex", "\ud800"), "not valid Unicode"),
    (MaskSpec("regex", "a" * (MAX_CHARS + 1)), "at most 20000"),
    (MaskSpec("json_schema", {"type": "person"}), "the JSON schema {'type': 'person'} can't be used: Invalid type"),
    (MaskSpec("json_schema", {"not": {}}), "Unimplemented keys"),
    (MaskSpec("json_schema", {"type": "integer", "minimum": 5, "maximum": 3}), "minimum .5. is greater than maximum"),
    (MaskSpec("json_schema", {"type": "string", "pattern": "("}), "unclosed group"),
    (MaskSpec("json_schema", {"$ref": "#/nowhere"}), "does not exist"),
    (MaskSpec("json_schema", {"$ref": "#"}), "no text that it allows"),
    (MaskSpec("json_schema", {"enum": []}), "Unsatisfiable schema"),
    (MaskSpec("json_schema", {"const": float("nan")}), "it is not JSON"),
    (MaskSpec("json_schema", {"const": {1, 2}}), "it is not JSON"),
    (MaskSpec("json_schema", '{"type": '), "it is not JSON"),
    (MaskSpec("json_schema", "[1]"), "must be a JSON object"),
    (MaskSpec("json_schema", '{}}, {"lark_grammar": "start: /x/"}'), "it is not JSON"),
    (MaskSpec("json_schema", "[" * 100_000), "it is not JSON"),
    (MaskSpec("json_schema", ["a"]), "must be a JSON object"),
    (MaskSpec("grammar", "start: missing"), "unknown name"),
    (MaskSpec("grammar", "start"), "Expected ::= at line 1"),
    (MaskSpec("grammar", 'start: "a'), "lexer error"),
    (MaskSpec("grammar", 'start: ("a"'), "Expected token"),
    (MaskSpec("grammar", "start: start"), "no text that it allows"),
    (MaskSpec("grammar", 'root ::= "a" | ('), "line 1"),
    (MaskSpec("grammar", " "), "No 'root' rule found"),
    (MaskSpec("grammar", "\n" * MAX_CHARS), "No 'root' rule found"),
    (MaskSpec("grammar", {"a": 1}), "must be a text"),
    (MaskSpec("choice", []), "must be a list of one text or more"),
    (MaskSpec("choice", "yes"), "must be a list of one text or more"),
    (MaskSpec("choice", {"yes": 1}), "must be a list of one text or more"),
    (MaskSpec("choice", ["yes", ""]), "'' is not a text, or empty"),
    (MaskSpec("choice", json.loads('["yes", 3]')), "3 is not a text, or empty"),
    (MaskSpec("choice", ["\udfff"]), "not valid Unicode"),
    (MaskSpec("choice", ["x" * 1000] * 201), "at most 200000"),
    (MaskSpec(json.loads('"poem"'), "x"), "can't be held to 'poem': choose one of grammar, json_schema, regex, choice"),
]


@pytest.mark.parametrize(("spec", "message"), BAD, ids=range(len(BAD)))
def test_what_cannot_be_used_is_named(vocabulary: Vocabulary, spec: MaskSpec, message: str) -> None:
    with pytest.raises(SettingsError, match=message.replace("(", r"\(")) as caught:
        spec.validate(vocabulary.constraint_tokenizer)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_dead_end_on_the_way_is_the_grammars_fault(vocabulary: Vocabulary) -> None:
    mask = Mask(vocabulary.constraint_tokenizer, MaskSpec("grammar", 'start: "a" (END | "b")\nEND: /x/ & /y/'))
    mask.consume(vocabulary.plain("a")[0])
    assert vocabulary.text([int(token) for token in mask.allowed()]) == "b"
    stuck = Mask(vocabulary.constraint_tokenizer, MaskSpec("grammar", 'start: ("a" | "b") END\nEND: /x/ & /y/'))
    with pytest.raises(SettingsError, match="no text that it allows, at least from where the answer stands"):
        walk(stuck, vocabulary, random.Random(0))


def names() -> Any:
    return map("".join, itertools.product("ABCDEFGHIJKLMNOPQRSTUVWXYZ", repeat=3))


def test_long_chains_do_not_overflow_the_stack(vocabulary: Vocabulary) -> None:
    """Each of these ends the process when it is compiled on an ordinary stack."""
    chain = list(itertools.islice(names(), 2_400))
    terminals = (
        f"start: {chain[0]}\n" + "\n".join(f"{a}:{b}" for a, b in itertools.pairwise(chain)) + f'\n{chain[-1]}:"a"'
    )
    rules = terminals.lower()
    definitions: dict[str, Any] = {a: {"items": {"$ref": f"#/$defs/{b}"}} for a, b in itertools.pairwise(chain[:420])}
    schema = {"$ref": f"#/$defs/{chain[0]}", "$defs": {**definitions, chain[419]: {}}}
    for spec in (MaskSpec("grammar", terminals), MaskSpec("grammar", rules), MaskSpec("json_schema", schema)):
        mask = Mask(vocabulary.constraint_tokenizer, spec)
        mask.consume(int(mask.allowed()[0]))


@given(st.sampled_from(["grammar", "regex", "json_schema"]), st.text(any_char, max_size=30) | texts)
def test_any_text_is_either_usable_or_a_settings_error(vocabulary: Vocabulary, kind: Any, text: str) -> None:
    with contextlib.suppress(SettingsError):
        MaskSpec(kind, text).validate(vocabulary.constraint_tokenizer)


@given(st.lists(texts.filter(bool) | st.sampled_from(NASTY), min_size=1, max_size=5))
def test_any_choice_can_be_made_word_for_word(vocabulary: Vocabulary, choices: list[str]) -> None:
    for choice in choices:
        mask = Mask(vocabulary.constraint_tokenizer, MaskSpec("choice", choices))
        tokens = vocabulary.plain(choice)
        assert mask.accepts([*tokens, vocabulary.eos]) == len(tokens) + 1


@given(texts.filter(bool))
def test_a_quoted_regex_is_its_text(vocabulary: Vocabulary, text: str) -> None:
    mask = Mask(vocabulary.constraint_tokenizer, MaskSpec("regex", re.escape(text)))
    assert mask.accepts([*vocabulary.plain(text), vocabulary.eos]) == len(vocabulary.plain(text)) + 1


def test_json_spacing_can_be_chosen(vocabulary: Vocabulary) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "x-guidance": {}}
    for guidance, text in [
        ({}, '{"a": 1'),
        ({"key_separator": ":"}, '{"a":1'),
        ({"whitespace_flexible": True}, '{\n"a"'),
    ]:
        mask = Mask(
            vocabulary.constraint_tokenizer, MaskSpec("json_schema", json.dumps(schema | {"x-guidance": guidance}))
        )
        tokens = vocabulary.plain(text)
        assert mask.accepts(tokens) == len(tokens), text
