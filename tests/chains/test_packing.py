"""More text than fits, through the chains: policies, what a reply says of it, shared prefixes, a million characters."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.language_models.fake import FakeListLLM

from fourcorners import answer_chain, grounded_chain, init_llm
from fourcorners.errors import ContextOverflow
from fourcorners.llms.counting import token_counter
from fourcorners.llms.llama_cpp import LlamaCpp
from fourcorners.models import reader_path
from tests.llms.random_model import write_random_model
from tests.support import YEAR, Recorder, evidence_of

pytestmark = pytest.mark.timeout(100)
FACT = "The best year ever is 1986"
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
HOUSES = [
    f"House number {n} was built of brick. Door {n} is green. For {n} years nobody lived there." for n in range(400)
]
LATE = [*HOUSES, f"{FACT}."]


@pytest.fixture(scope="module")
def general(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaCpp]:
    """A model with random weights that is shown whole documents; its window holds 4,096 tokens."""
    path = tmp_path_factory.mktemp("model") / "random.gguf"
    write_random_model(reader_path(), path, CHATML)
    made = init_llm(f"llama_cpp:{path}", max_new_tokens=8)
    assert isinstance(made, LlamaCpp)
    yield made
    made.close()


def ask(llm: Any, context: Any, question: str = YEAR["question"], **options: Any) -> dict[str, Any]:
    return grounded_chain(llm, **options).invoke({"question": question, "context": context})


# Policies


@pytest.mark.parametrize("grounding", ["verbatim", "none"])
@pytest.mark.parametrize("packing", ["window", "rank"])
def test_more_than_fits_is_packed_and_said(general: LlamaCpp, grounding: Any, packing: Any) -> None:
    reply = ask(general, LATE, grounding=grounding, packing=packing, threshold=1e9)
    usage, left_out = reply["usage"], reply["left_out"]
    assert 3_000 < usage["prompt_tokens"] <= 4_096 - 8
    assert usage["left_out_documents"] > 200
    assert usage["left_out_sentences"] > 600
    assert len(left_out) == 100
    assert all(LATE[one["index"]] and one["document"] == str(one["index"] + 1) for one in left_out)
    if packing == "rank":
        assert [one["sentences"] for one in left_out] == [3] * 100
        assert left_out[0]["index"] == 401 - usage["left_out_documents"]


@pytest.mark.parametrize("grounding", ["verbatim", "none"])
@pytest.mark.parametrize("packing", ["window", "rank", "error"])
def test_what_fits_is_shown_whole_whatever_the_policy(general: LlamaCpp, grounding: Any, packing: Any) -> None:
    reply = ask(general, [*HOUSES[:5], FACT], grounding=grounding, packing=packing, threshold=1e9)
    assert reply["left_out"] == []
    assert "left_out_sentences" not in reply["usage"]


@pytest.mark.parametrize("grounding", ["verbatim", "none"])
def test_the_policy_error_raises_with_both_numbers(general: LlamaCpp, grounding: Any) -> None:
    count = general._engine.runner.vocabulary.plain
    needed = sum(len(count(text)) + 2 for text in LATE)
    with pytest.raises(ContextOverflow, match=rf"have {needed} tokens, but there is room for \d+") as caught:
        ask(general, LATE, grounding=grounding, packing="error")
    assert caught.type.__mro__.index(ValueError)
    assert 3_000 < int(str(caught.value).split("room for ")[1].split(":")[0]) < 4_096


def test_by_rank_a_late_document_is_not_answered_from(bundled_llm: LlamaCpp, general: LlamaCpp) -> None:
    for llm in (bundled_llm, general):
        far = ask(llm, LATE, packing="rank", threshold=1e9, prior_weight=10)
        near = ask(llm, LATE[::-1], packing="rank", threshold=1e9, prior_weight=10)
        assert far["citations"][0]["index"] < 400
        assert near["answer"] == f"{FACT}."
    assert ask(bundled_llm, LATE, threshold=1e9)["answer"] == f"{FACT}."


def test_the_bundled_reader_keeps_to_the_window_when_asked_to(bundled_llm: LlamaCpp) -> None:
    with pytest.raises(ContextOverflow, match=r"have \d+ tokens, but there is room for 3\d\d\d"):
        ask(bundled_llm, LATE, packing="error")
    assert ask(bundled_llm, LATE[-20:], packing="error")["answer"] == f"{FACT}."


def test_a_first_document_that_is_too_long_is_cut_at_a_sentence(general: LlamaCpp) -> None:
    reply = ask(general, [" ".join(HOUSES), FACT], packing="rank", threshold=1e9)
    assert [one["index"] for one in reply["left_out"]] == [0, 1]
    assert 0 < reply["left_out"][0]["sentences"] < 1_200
    assert reply["citations"][0]["index"] == 0


@pytest.mark.parametrize("packing", ["window", "rank"])
def test_a_budget_of_tokens_is_kept(general: LlamaCpp, packing: Any) -> None:
    bare = ask(general, [""], grounding="none")["usage"]["prompt_tokens"]
    for budget in (40, 400):
        reply = ask(general, LATE, grounding="none", packing=packing, context_tokens=budget)
        assert bare + budget // 2 < reply["usage"]["prompt_tokens"] <= bare + budget + 2
        assert reply["left_out"]


# LLMs whose tokenizer is not here


@pytest.mark.parametrize("packing", ["window", "rank"])
def test_another_llm_is_shown_what_is_within_the_budget(packing: Any) -> None:
    llm = Recorder(reply=FACT)
    reply = ask(llm, LATE, packing=packing, context_tokens=500)
    (prompt,) = llm.seen
    assert len(prompt) < 500 * 4
    assert reply["usage"]["left_out_documents"] > 300
    assert reply["left_out"][0].keys() == {"index", "document", "sentences", "characters"}
    assert (FACT in prompt) is (packing == "window")
    assert reply["citations"][0]["index"] == 400, "what is cited is looked for in all documents"
    with pytest.raises(ContextOverflow, match="room for 500"):
        ask(llm, LATE, packing="error", context_tokens=500)


def test_without_a_budget_another_llm_is_shown_all() -> None:
    for packing in ("window", "rank", "error"):
        llm = Recorder()
        assert answer_chain(llm, packing=packing).invoke({**YEAR, "context": LATE}) == "noted"
        assert all(text in llm.seen[0] for text in LATE)


def test_the_count_is_the_llms_own_where_that_is_at_hand(bundled_llm: LlamaCpp) -> None:
    assert token_counter(bundled_llm) is None
    assert token_counter(bundled_llm.bind(stop=["x"]).with_retry()) is None
    assert token_counter(bundled_llm.with_fallbacks([Recorder()])) is None
    counted = token_counter(FakeListLLM(responses=[""], custom_get_token_ids=lambda text: [1] * len(text)))
    assert counted is not None
    assert counted("four") == 4
    estimated = token_counter(Recorder().bind(stop=["x"]))
    assert estimated is not None
    assert len(bundled_llm._engine.runner.vocabulary.plain(HOUSES[0])) <= 2 * estimated(HOUSES[0])


# Shared prefixes


@pytest.mark.parametrize("grounding", ["verbatim", "none"])
def test_by_rank_every_question_finds_the_same_documents_read(general: LlamaCpp, grounding: Any) -> None:
    asked = ["Which house is it, and where?", "When was house number 7 built?", "Who lived there in the end?"]
    usages = [ask(general, HOUSES, question, grounding=grounding, packing="rank")["usage"] for question in asked]
    assert len({usage["left_out_documents"] for usage in usages}) == 1
    for usage in usages[1:]:
        assert usage["cached_tokens"] > 0.95 * usage["prompt_tokens"]


def test_by_rank_warm_documents_are_read_before_the_first_question(general: LlamaCpp) -> None:
    houses = HOUSES[::-1]
    n_warm = general.warm(houses, packing="rank")
    assert n_warm > 3_000
    assert ask(general, houses, "Which one?", packing="rank")["usage"]["cached_tokens"] >= n_warm


# A million characters

MILLION = 1_000_000
HEAPS = {
    "one document": " ".join(HOUSES * 29) + f" {FACT}.",
    "a thousand documents": [*([" ".join(HOUSES[:11])] * 999), f"{FACT}."],
    "a line without spaces": ["x" * MILLION, f"{FACT}."],
    "line breaks": "\n" * MILLION + f"{FACT}.",
    "blanks and line breaks": "\n \t" * (MILLION // 3) + f"{FACT}.",
    "signs": ["-*- " * (MILLION // 4), f"{FACT}."],
    "Chinese": ["今天天气很好。我们去公园散步。" * (MILLION // 15), f"{FACT}."],
    "Chinese without an end": ["今天天气很好我们去公园散步" * (MILLION // 13), f"{FACT}."],
    "emoji": ["👩‍👩‍👧‍👦" * (MILLION // 7), f"{FACT}."],
    "a table": "| year | best |\n|---|---|\n" + "| 1901 | no |\n" * (MILLION // 15) + f"\n{FACT}.",
    "numbers": ["1 2 3 4 5 6 7 8 9 " * (MILLION // 18), f"{FACT}."],
    "brackets": ["[({" * (MILLION // 3), f"{FACT}."],
}


@pytest.mark.parametrize("span", ["sentence", "phrase"])
@pytest.mark.parametrize("heap", HEAPS)
def test_a_million_characters_are_answered_in_time(bundled_llm: LlamaCpp, heap: str, span: Any) -> None:
    context: Any = HEAPS[heap]
    texts = context if isinstance(context, list) else [context]
    assert sum(map(len, texts)) >= 0.9 * MILLION
    started = time.monotonic()
    reply = ask(bundled_llm, context, span=span, threshold=1e9)
    assert time.monotonic() - started < 20  # seconds; about three on the machine it was written on
    (citation,) = reply["citations"]
    assert reply["answer"] == citation["quote"]
    for place in (citation, *citation["also"]):
        assert texts[place["index"]][place["start"] : place["end"]] == citation["quote"]
    assert "1986" in reply["answer"] or span == "phrase"
    n_texts = len({sentence.text for sentence in evidence_of(YEAR["question"], texts).sentences})
    assert reply["usage"].get("left_out_sentences", 0) >= n_texts - 4


@pytest.mark.parametrize("packing", ["window", "rank"])
@pytest.mark.parametrize("grounding", ["verbatim", "none"])
@pytest.mark.parametrize("heap", HEAPS)
def test_a_million_characters_go_into_any_window(general: LlamaCpp, heap: str, grounding: Any, packing: Any) -> None:
    started = time.monotonic()
    reply = ask(general, HEAPS[heap], grounding=grounding, packing=packing, threshold=1e9)
    assert time.monotonic() - started < 30
    assert reply["usage"]["prompt_tokens"] <= 4_096
