import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.documents import Document
from langchain_core.globals import set_llm_cache
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import RunnableLambda, RunnablePassthrough

from fourcorners import answer_chain, grounded_chain, grounded_prompt
from fourcorners.errors import InputError, SettingsError
from fourcorners.grounding.page import N_MARKS
from fourcorners.llms.llama_cpp import LlamaCpp
from tests.engine.engines import until
from tests.support import REFUSAL, YEAR

pytestmark = pytest.mark.timeout(100)
FACT = "The best year ever is 1986"
NAME = {"question": "Comment tu t'appelle ?", "context": "Your name is Jean-baptiste"}
HEAD = {"question", "context", "answer"}
KEYS = HEAD | {"citations", "sentences", "refused", "score", "threshold", "guarantee", "left_out", "usage"}
HALVES: tuple[dict[str, float], ...] = {"threshold": -1e9}, {"threshold": 1e9}, {}


def added(chunks: list[Any]) -> Any:
    total = chunks[0]
    for chunk in chunks[1:]:
        total = total + chunk
    return total


def test_the_notebooks_two_examples_are_answered(bundled_llm: LlamaCpp) -> None:
    chain = answer_chain(bundled_llm)
    assert chain.invoke(YEAR) == FACT
    assert chain.invoke(NAME) == NAME["context"]


def test_answer_chain_is_a_prompt_an_llm_and_a_parser(bundled_llm: LlamaCpp) -> None:
    prompt, llm, parser = answer_chain(bundled_llm).steps  # type: ignore[attr-defined]
    assert isinstance(prompt, PromptTemplate)
    assert llm is bundled_llm
    assert isinstance(parser, StrOutputParser)


def test_a_chain_typed_by_a_user_answers_alike(bundled_llm: LlamaCpp) -> None:
    chain = grounded_prompt() | bundled_llm | StrOutputParser()
    assert chain.invoke(YEAR) == FACT
    longer = {"question": RunnablePassthrough(), "context": RunnableLambda(lambda _: [FACT])} | chain
    assert longer.invoke(YEAR["question"]) == FACT


def test_every_sync_way_gives_the_same_answer(bundled_llm: LlamaCpp) -> None:
    chain = answer_chain(bundled_llm)
    assert chain.batch([YEAR, YEAR]) == [FACT, FACT]
    pieces = list(chain.stream(YEAR))
    assert len(pieces) > 2
    assert "".join(pieces) == FACT
    assert chain.with_retry().invoke(YEAR) == FACT
    assert chain.with_config(tags=["x"]).invoke(YEAR) == FACT


@pytest.mark.asyncio
async def test_every_async_way_gives_the_same_answer(bundled_llm: LlamaCpp) -> None:
    chain = answer_chain(bundled_llm)
    assert await chain.ainvoke(YEAR) == FACT
    assert await chain.abatch([YEAR, YEAR]) == [FACT, FACT]
    assert "".join([piece async for piece in chain.astream(YEAR)]) == FACT


@pytest.mark.asyncio
async def test_events_carry_the_tokens_and_the_citations(bundled_llm: LlamaCpp) -> None:
    events = [event async for event in answer_chain(bundled_llm).astream_events(YEAR, version="v2")]
    tokens = [event["data"]["chunk"].text for event in events if event["event"] == "on_llm_stream"]
    assert "".join(tokens) == FACT
    (end,) = [event for event in events if event["event"] == "on_llm_end"]
    info = end["data"]["output"]["generations"][0][0]["generation_info"]
    assert info["guarantee"] == "enforced"
    assert info["citations"][0]["quote"] == FACT


def test_a_broken_llm_falls_back_to_the_next(bundled_llm: LlamaCpp) -> None:
    def broken(_: Any) -> str:
        raise ConnectionError("not today")

    chain = answer_chain(RunnableLambda(broken)).with_fallbacks([answer_chain(bundled_llm)])
    assert chain.invoke(YEAR) == FACT
    assert answer_chain(RunnableLambda(broken).with_fallbacks([bundled_llm])).invoke(YEAR) == FACT


@pytest.mark.parametrize("make", [answer_chain, grounded_chain])
def test_one_failing_item_of_a_batch_fails_alone(bundled_llm: LlamaCpp, make: Any) -> None:
    bad: list[Any] = [{**YEAR, "question": 3}, {**YEAR, "context": None}, {"question": "Who?"}, "Who?", None]
    results = make(bundled_llm).batch([YEAR, *bad, YEAR], return_exceptions=True)
    answers = [result["answer"] if isinstance(result, dict) else result for result in results]
    assert answers[0] == answers[-1] == FACT
    assert all(isinstance(result, InputError) for result in results[1:-1])


@pytest.mark.asyncio
@pytest.mark.parametrize("make", [answer_chain, grounded_chain])
async def test_one_failing_item_of_an_async_batch_fails_alone(bundled_llm: LlamaCpp, make: Any) -> None:
    results = await make(bundled_llm).abatch([YEAR, {**YEAR, "question": ""}, YEAR], return_exceptions=True)
    answers = [result["answer"] if isinstance(result, dict) else result for result in results]
    assert answers[0] == answers[2] == FACT
    assert isinstance(results[1], InputError)


def test_the_whole_reply_has_these_keys_and_an_exact_citation(bundled_llm: LlamaCpp) -> None:
    reply = grounded_chain(bundled_llm).invoke(YEAR)
    assert set(reply) == KEYS
    assert reply["answer"] == FACT
    assert reply["guarantee"] == "enforced"
    assert reply["refused"] is False
    assert isinstance(reply["score"], float)
    assert reply["score"] <= reply["threshold"]
    assert {"prompt_tokens", "completion_tokens", "time_to_first_token_s", "tokens_per_s"} <= set(reply["usage"])
    (citation,) = reply["citations"]
    place = {"document": "1", "index": 0, "start": 0, "end": 26}
    assert citation == {"number": 1, **place, "quote": FACT, "also": [], "contradicts": [], "metadata": {}}


def test_streamed_chunks_add_up_to_the_reply_with_the_question_first(bundled_llm: LlamaCpp) -> None:
    chunks = list(grounded_chain(bundled_llm).stream(YEAR))
    assert chunks[0] == YEAR
    assert all(set(chunk) == {"answer"} for chunk in chunks[1:-1])
    assert len(chunks) > 4
    total, whole = added(chunks), grounded_chain(bundled_llm).invoke(YEAR)
    assert {key: total[key] for key in KEYS - {"usage", "score"}} == {
        key: whole[key] for key in KEYS - {"usage", "score"}
    }


@pytest.mark.asyncio
async def test_the_reply_comes_by_every_async_way(bundled_llm: LlamaCpp) -> None:
    chain = grounded_chain(bundled_llm)
    replies = [
        await chain.ainvoke(YEAR),
        *await chain.abatch([YEAR]),
        added([chunk async for chunk in chain.astream(YEAR)]),
    ]
    assert all(reply["answer"] == FACT and set(reply) == KEYS for reply in replies)
    assert [event async for event in chain.astream_events(YEAR, version="v2")]
    assert (await chain.with_retry().ainvoke(YEAR))["answer"] == FACT
    assert (await chain.with_fallbacks([chain]).ainvoke(YEAR))["answer"] == FACT


@pytest.mark.parametrize("context", ["", "  \n", [], [""], ["", " \r\n "], [Document("")], ["---", "..."]])
@pytest.mark.parametrize("span", ["sentence", "phrase"])
def test_without_context_it_refuses_and_no_model_is_called(bundled_llm: LlamaCpp, context: Any, span: Any) -> None:
    before = bundled_llm.metrics.n_steps
    reply = grounded_chain(bundled_llm, span=span, refusal="No idea").invoke({**YEAR, "context": context})
    assert reply["answer"] == "No idea"
    assert reply["refused"] is True
    assert reply["score"] is None
    assert reply["citations"] == []
    assert reply["guarantee"] == "enforced"
    assert "".join(answer_chain(bundled_llm, span=span).stream({**YEAR, "context": context})) == REFUSAL
    assert bundled_llm.metrics.n_steps == before


def test_equal_words_elsewhere_are_listed(bundled_llm: LlamaCpp) -> None:
    context = [Document("It rains.", id="a"), Document(f"{FACT}. It rains.", id="b"), Document(f"{FACT}.", id="c")]
    reply = grounded_chain(bundled_llm, threshold=1e9).invoke({**YEAR, "context": context})
    (citation,) = reply["citations"]
    assert (citation["document"], citation["start"], citation["end"]) == ("b", 0, 27)
    assert citation["also"] == [{"index": 2, "start": 0, "end": 27}]


def test_all_places_of_equal_words_are_listed_shown_or_not(bundled_llm: LlamaCpp) -> None:
    for span in ("sentence", "phrase"):
        chain = grounded_chain(bundled_llm, span=span, threshold=1e9)
        (citation,) = chain.invoke({**YEAR, "context": [FACT] * 12})["citations"]
        assert citation["index"] == 0
        assert [place["index"] for place in citation["also"]] == list(range(1, 12))


def test_the_threshold_decides_and_refused_is_the_branch(bundled_llm: LlamaCpp) -> None:
    score = grounded_chain(bundled_llm).invoke(YEAR)["score"]
    assert grounded_chain(bundled_llm, threshold=score - 0.5).invoke(YEAR)["refused"]
    assert not grounded_chain(bundled_llm, threshold=score + 0.5).invoke(YEAR)["refused"]
    trap = {"question": "What is the sign?", "context": f"The sign says: {REFUSAL} of the day."}
    reply = grounded_chain(bundled_llm, threshold=1e9).invoke(trap)
    assert reply["refused"] is False
    assert reply["answer"] == trap["context"]


def test_more_context_than_fits_is_packed_and_said(bundled_llm: LlamaCpp) -> None:
    context = [f"House number {n} in the street was built by somebody else." for n in range(300)] + [FACT]
    reply = grounded_chain(bundled_llm, threshold=1e9).invoke({**YEAR, "context": context})
    assert reply["answer"] == FACT
    assert reply["citations"][0]["index"] == 300
    assert reply["usage"]["left_out_sentences"] > 0
    assert reply["usage"]["left_out_documents"] == 301 - N_MARKS
    assert len(reply["left_out"]) == 100


def test_a_second_question_on_the_same_documents_reuses_their_prefill(bundled_llm: LlamaCpp) -> None:
    chain = grounded_chain(bundled_llm)
    chain.invoke(YEAR)
    assert chain.invoke(YEAR)["usage"]["cached_tokens"] > 20


@pytest.mark.parametrize("llm", [FakeListLLM(responses=[FACT]), FakeListChatModel(responses=[FACT])])
def test_any_other_llm_answers_with_best_effort(llm: Any) -> None:
    assert answer_chain(llm).invoke(YEAR) == FACT
    for reply in (grounded_chain(llm).invoke(YEAR), added(list(grounded_chain(llm).stream(YEAR)))):
        assert set(reply) == KEYS
        assert reply["answer"] == FACT
        assert reply["guarantee"] == "best-effort"
        assert reply["refused"] is False
        assert reply["score"] is None
        (citation,) = reply["citations"]
        assert (citation["index"], citation["start"], citation["end"], citation["quote"]) == (0, 0, 26, FACT)


@pytest.mark.parametrize(
    ("said", "quotes", "refused"),
    [
        (f" {FACT}\n", [FACT], False),
        ("It is 1987", [], False),
        (f"Well.\n{FACT}\n{FACT}", [FACT], False),
        (REFUSAL, [], True),
        (f"{REFUSAL}.\n", [], True),
        ("", [], False),
    ],
)
def test_only_lines_that_stand_in_the_context_are_cited(said: str, quotes: list[str], refused: bool) -> None:
    llms: list[Any] = [FakeListLLM(responses=[said])]
    if said:  # LangChain's own scripted chat model can't say nothing
        llms.append(FakeListChatModel(responses=[said]))
    for llm in llms:
        reply = grounded_chain(llm).invoke({**YEAR, "context": ["It rains.", FACT]})
        assert reply["answer"] == said
        assert [citation["quote"] for citation in reply["citations"]] == quotes
        assert all(citation["index"] == 1 for citation in reply["citations"])
        assert reply["refused"] is refused


def test_grounding_none_promises_nothing(bundled_llm: LlamaCpp) -> None:
    for llm in (bundled_llm.bind(max_new_tokens=4), FakeListLLM(responses=[FACT])):
        assert grounded_chain(llm, grounding="none").invoke(YEAR)["guarantee"] == "none"


def test_a_failure_is_never_dressed_as_a_refusal() -> None:
    def broken(_: Any) -> str:
        raise ConnectionError("not today")

    for chain in (answer_chain(RunnableLambda(broken)), grounded_chain(RunnableLambda(broken))):
        with pytest.raises(ConnectionError):
            chain.invoke(YEAR)
        with pytest.raises(ConnectionError):
            list(chain.stream(YEAR))


def test_the_global_cache_never_mixes_evidence(bundled_llm: LlamaCpp) -> None:
    one = {**YEAR, "context": [f"It rains.\n\n{FACT}"]}
    two = {**YEAR, "context": [Document("It rains.", id="a"), Document(FACT, id="b")]}
    set_llm_cache(InMemoryCache())
    try:
        for llm in (bundled_llm, FakeListLLM(responses=[FACT])):
            cited = [grounded_chain(llm).invoke(given)["citations"] for given in (one, two, one)]
            assert [(c[0]["document"], c[0]["start"]) for c in cited] == [("1", 11), ("b", 0), ("1", 11)]
    finally:
        set_llm_cache(None)


@pytest.mark.parametrize("make", [answer_chain, grounded_chain])
@pytest.mark.parametrize(
    "settings", [{"span": "word"}, {"max_spans": 0}, {"grounding": "x"}, {"template": "{question}"}]
)
def test_bad_settings_fail_when_the_chain_is_made(bundled_llm: LlamaCpp, make: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        make(bundled_llm, **settings)


def test_threads_and_both_spans_at_once_stay_apart(bundled_llm: LlamaCpp) -> None:
    sentence, phrase = grounded_chain(bundled_llm), grounded_chain(bundled_llm, span="phrase", threshold=1e9)

    def ask(number: int) -> bool:
        given = {**YEAR, "context": f"The best year ever is {number}"}
        quote = phrase.invoke(given)["citations"][0]["quote"]
        return sentence.invoke(given)["answer"] == given["context"] and quote in given["context"]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(1900, 1924)))


@pytest.mark.asyncio
async def test_streams_that_are_broken_off_block_nobody(bundled_llm: LlamaCpp) -> None:
    chain = grounded_chain(bundled_llm)
    streams = [chain.astream(YEAR) for _ in range(3)]
    for stream in streams:
        await anext(stream)
        await anext(stream)
    assert (await asyncio.wait_for(chain.ainvoke(YEAR), 30))["answer"] == FACT
    for stream in streams:
        await stream.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize("grounding", ["none", "free"])
def test_to_close_a_stream_stops_the_model(bundled_llm: LlamaCpp, grounding: Any) -> None:
    metrics = bundled_llm.metrics
    before = metrics.n_cancelled
    endless = bundled_llm.bind(max_new_tokens=3_000, ignore_eos=True)
    stream: Any = grounded_chain(endless, grounding).stream(NAME)
    while "answer" not in next(stream):
        pass
    stream.close()
    assert until(lambda: metrics.n_running == 0)
    assert metrics.n_cancelled == before + 1
