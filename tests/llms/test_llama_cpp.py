import asyncio
import gc
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.globals import set_llm_cache
from langchain_core.output_parsers import StrOutputParser

from fourcorners import grounded_prompt, init_llm
from fourcorners.errors import ContextOverflow, SettingsError
from fourcorners.llms.llama_cpp import LlamaCpp
from tests.support import YEAR

pytestmark = pytest.mark.timeout(60)
SURE: dict[str, Any] = {"max_new_tokens": 7}
"""So far no other token comes near, and the noise of other batches can't make a difference."""
WILD: dict[str, Any] = {"temperature": 1.5, "seed": 5, "max_new_tokens": 24}


def warm_up(llm: LlamaCpp) -> None:
    """Logits from a cold and a warm cache differ by a little noise; drawn texts may then differ a lot."""
    llm.invoke("Tell me about ferries.", max_new_tokens=1)


def info_of(llm: Any, prompt: str, **settings: Any) -> tuple[str, dict[str, Any]]:
    generation = llm.generate([prompt], **settings).generations[0][0]
    return generation.text, generation.generation_info


def test_a_plain_prompt_has_no_guarantee(bundled_llm: LlamaCpp) -> None:
    _, info = info_of(bundled_llm, "Tell me about ferries.", max_new_tokens=4)
    assert info["guarantee"] == "none"
    assert info["refused"] is False
    assert info["citations"] == []


def test_a_grounded_prompt_is_enforced(bundled_llm: LlamaCpp) -> None:
    text, info = info_of(bundled_llm, grounded_prompt().format(**YEAR))
    assert text == "The best year ever is 1986"
    assert info["guarantee"] == "enforced"
    assert info["finish_reason"] == "stop"


def test_a_grounded_prompt_given_as_text_is_enforced_too(bundled_llm: LlamaCpp) -> None:
    text = grounded_prompt(refusal="No such thing").format(question="What do pandas eat?", context="It rains.")
    assert bundled_llm.invoke(text) in {"No such thing", "It rains."}
    assert "".join(bundled_llm.stream(text)) in {"No such thing", "It rains."}


def test_streaming_gives_what_invoke_gives(bundled_llm: LlamaCpp) -> None:
    warm_up(bundled_llm)
    whole = bundled_llm.invoke("Tell me about ferries.", **WILD)
    assert whole
    pieces = list(bundled_llm.stream("Tell me about ferries.", **WILD))
    assert len(pieces) > 2
    assert "".join(pieces) == whole


@pytest.mark.asyncio
async def test_every_async_way_gives_what_invoke_gives(bundled_llm: LlamaCpp) -> None:
    warm_up(bundled_llm)
    whole = bundled_llm.invoke("Tell me about ferries.", **WILD)
    assert await bundled_llm.ainvoke("Tell me about ferries.", **WILD) == whole
    assert "".join([piece async for piece in bundled_llm.astream("Tell me about ferries.", **WILD)]) == whole
    certain = bundled_llm.invoke("Tell me about ferries.", **SURE)
    assert await bundled_llm.abatch(["Tell me about ferries."] * 2, **SURE) == [certain] * 2
    assert bundled_llm.batch(["Tell me about ferries."] * 2, **SURE) == [certain] * 2


def test_a_seed_repeats_and_another_differs(bundled_llm: LlamaCpp) -> None:
    warm_up(bundled_llm)
    texts = [bundled_llm.invoke("Tell me about ferries.", **(WILD | {"seed": seed})) for seed in (1, 1, 2, 3)]
    assert texts[0] == texts[1]
    assert len(set(texts)) > 1


def test_tokens_are_counted(bundled_llm: LlamaCpp) -> None:
    vocabulary = bundled_llm._engine.runner.vocabulary
    _, info = info_of(bundled_llm, "Ferries " * 10, temperature=1.5, seed=5, max_new_tokens=7)
    usage = info["usage"]
    assert 1 <= usage["completion_tokens"] <= 7
    assert usage["prompt_tokens"] > len(vocabulary.plain("Ferries " * 10))
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert info["finish_reason"] == ("length" if usage["completion_tokens"] == 7 else "stop")
    assert info["timing"]["time_to_first_token_s"] > 0
    assert info["timing"]["tokens_per_s"] > 0
    grounded = info_of(bundled_llm, grounded_prompt().format(**YEAR))[1]["usage"]
    assert grounded["completion_tokens"] == len(vocabulary.plain("The best year ever is 1986"))


def test_the_result_sums_the_tokens_of_all_prompts(bundled_llm: LlamaCpp) -> None:
    result = bundled_llm.generate(["a", "b c d"], max_new_tokens=2)
    assert result.llm_output is not None
    infos = [generations[0].generation_info or {} for generations in result.generations]
    each = [info["usage"]["prompt_tokens"] for info in infos]
    assert result.llm_output["token_usage"]["prompt_tokens"] == sum(each)


def test_stop_strings_hold_across_tokens_in_every_way(bundled_llm: LlamaCpp) -> None:
    warm_up(bundled_llm)
    prompt = "Tell me about ferries."
    whole = bundled_llm.invoke(prompt, **WILD)
    for start in range(1, len(whole) - 4, 3):
        stop = whole[start : start + 4]
        wanted = whole[: whole.find(stop)]
        assert bundled_llm.invoke(prompt, stop=[stop], **WILD) == wanted
        assert "".join(bundled_llm.stream(prompt, stop=[stop], **WILD)) == wanted
        assert bundled_llm.bind(stop=[stop]).invoke(prompt, **WILD) == wanted


def test_stop_in_verbatim_keeps_citations_exact(bundled_llm: LlamaCpp) -> None:
    text, info = info_of(bundled_llm, grounded_prompt().format(**YEAR), stop=["year ev"])
    assert text == "The best "
    (citation,) = info["citations"]
    assert YEAR["context"][citation["start"] : citation["end"]] == citation["quote"] == text


@pytest.mark.parametrize("stop", ["ever", [1], [None]])
def test_a_stop_that_is_no_list_of_texts_is_refused(bundled_llm: LlamaCpp, stop: Any) -> None:
    with pytest.raises(SettingsError, match="stop"):
        bundled_llm.invoke("Ferries", stop=stop)


@pytest.mark.parametrize(
    ("settings", "message"), [({"tempratur": 1}, "'tempratur'"), ({"temperature": -1}, "temperature=-1")]
)
def test_a_bad_setting_of_one_call_is_refused(bundled_llm: LlamaCpp, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        bundled_llm.invoke("Ferries", **settings)
    with pytest.raises(SettingsError, match=message):
        bundled_llm.bind(**settings).invoke("Ferries")


def test_settings_of_the_llm_are_defaults_of_every_call() -> None:
    llm = init_llm("bundled", max_new_tokens=3, temperature=1.5, seed=2, stop=("never",))
    assert info_of(llm, "Ferries")[1]["usage"]["completion_tokens"] <= 3
    assert info_of(llm, "Ferries", max_new_tokens=1)[1]["usage"]["completion_tokens"] <= 1
    llm.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("prompt", ["word " * 5000, "x" * 300_000])
def test_too_long_a_prompt_says_so(bundled_llm: LlamaCpp, prompt: str) -> None:
    with pytest.raises(ContextOverflow, match="4096"):
        bundled_llm.invoke(prompt)
    with pytest.raises(ContextOverflow, match="question"):
        bundled_llm.invoke(grounded_prompt().invoke({"question": prompt[:90_000], "context": "It is red."}))


def test_one_bad_prompt_of_a_batch_fails_alone(bundled_llm: LlamaCpp) -> None:
    good, bad = grounded_prompt().invoke(YEAR), "word " * 5000
    results = bundled_llm.batch([good, bad, good], return_exceptions=True)
    assert results[0] == results[2] == "The best year ever is 1986"
    assert isinstance(results[1], ContextOverflow)


def test_many_threads_at_once_each_get_their_own_answer(bundled_llm: LlamaCpp) -> None:
    chain = grounded_prompt() | bundled_llm | StrOutputParser()

    def ask(year: int) -> tuple[str, str]:
        given = {**YEAR, "context": f"The best year ever is {year}"}
        return chain.invoke(given), "".join(chain.stream(given))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(1950, 1974)))
    assert answers == [(f"The best year ever is {year}",) * 2 for year in range(1950, 1974)]


@pytest.mark.asyncio
async def test_gathered_streams_each_get_their_own_answer(bundled_llm: LlamaCpp) -> None:
    chain = grounded_prompt() | bundled_llm | StrOutputParser()

    async def ask(year: int) -> str:
        return "".join([piece async for piece in chain.astream({**YEAR, "context": f"The best year ever is {year}"})])

    answers = await asyncio.gather(*(ask(year) for year in range(1950, 1966)))
    assert answers == [f"The best year ever is {year}" for year in range(1950, 1966)]


def test_an_abandoned_stream_blocks_nobody(bundled_llm: LlamaCpp) -> None:
    streams: list[Iterator[str]] = [bundled_llm.stream("Ferries", temperature=1.5, seed=n) for n in range(3)]
    for stream in streams:
        next(stream)
    assert bundled_llm.invoke(grounded_prompt().invoke(YEAR)) == "The best year ever is 1986"
    del streams
    gc.collect()


@pytest.mark.asyncio
async def test_an_abandoned_async_stream_blocks_nobody(bundled_llm: LlamaCpp) -> None:
    stream = bundled_llm.astream("Ferries", temperature=1.5, seed=1)
    await anext(stream)
    answer = await asyncio.wait_for(bundled_llm.ainvoke(grounded_prompt().invoke(YEAR)), 30)
    assert answer == "The best year ever is 1986"
    await stream.aclose()  # type: ignore[attr-defined]


@pytest.mark.asyncio
async def test_the_event_loop_goes_on_while_the_model_works(bundled_llm: LlamaCpp) -> None:
    longest, task = 0.0, asyncio.create_task(bundled_llm.ainvoke("Ferries " * 300, temperature=1.5, max_new_tokens=50))
    while not task.done():
        started = time.monotonic()
        await asyncio.sleep(0)
        longest = max(longest, time.monotonic() - started)
    assert longest < 1


def test_the_global_cache_never_mixes_evidence(bundled_llm: LlamaCpp) -> None:
    one = {**YEAR, "context": ["It rains.\n\nThe best year ever is 1986"]}
    two = {**YEAR, "context": [Document("It rains.", id="a"), Document("The best year ever is 1986", id="b")]}
    assert grounded_prompt().format(**one) == grounded_prompt().format(**two)
    set_llm_cache(InMemoryCache())
    try:
        cited = []
        for given in (one, two, one):
            _, info = info_of(bundled_llm, grounded_prompt().format(**given))
            cited.append((info["citations"][0]["document"], info["citations"][0]["start"]))
        assert cited == [("1", 11), ("b", 0), ("1", 11)]
    finally:
        set_llm_cache(None)


def test_callbacks_see_each_token_and_the_end(bundled_llm: LlamaCpp) -> None:
    class Listener(BaseCallbackHandler):
        def __init__(self) -> None:
            self.text, self.ends = "", 0

        def on_llm_new_token(self, token: Any, **_: Any) -> None:
            self.text += token

        def on_llm_end(self, *_: Any, **__: Any) -> None:
            self.ends += 1

    listener = Listener()
    text = "".join(bundled_llm.stream("Ferries", config={"callbacks": [listener]}, **WILD))
    assert listener.text == text
    assert listener.ends == 1


def test_its_repr_and_parameters_show_no_path_of_the_machine(bundled_llm: LlamaCpp) -> None:
    assert bundled_llm._identifying_params["model_path"] == "reader.gguf"
    assert bundled_llm._llm_type == "fourcorners-llama-cpp"
