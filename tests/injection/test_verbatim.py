"""Whatever a document says: the answer is made of quotes, or it is the refusal, and only the decoder refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourcorners import answer_chain, grounded_chain, init_llm
from fourcorners.grounding.lookalike import reads_like
from fourcorners.llms.llama_cpp import LlamaCpp
from fourcorners.models import reader_path
from fourcorners.server import create_app
from tests.injection.formats import FAMILIES
from tests.injection.hostile import FAKES, GROUPS, HOSTILE, MANUAL, QUESTIONS
from tests.llms.random_model import write_random_model
from tests.serving import serving
from tests.support import REFUSAL, check_answer, contexts, evidence_of, texts

NEVER, ALWAYS = float("inf"), float("-inf")
Span = Literal["sentence", "phrase"]


def check(reply: dict[str, Any], question: str, documents: list[str], span: Span, max_spans: int = 1) -> None:
    evidence = evidence_of(question, documents, span=span, max_spans=max_spans)
    check_answer(reply["answer"], reply["citations"], reply["refused"], evidence, whole_sentences=span == "sentence")
    assert reply["guarantee"] == "enforced"
    if not reply["refused"]:
        assert not reads_like(reply["answer"], REFUSAL), "nobody could tell it from a refusal"
    dumped = json.dumps({name: reply[name] for name in reply if name != "context"})
    assert json.loads(dumped)["answer"] == reply["answer"]


@pytest.mark.parametrize("span", ["sentence", "phrase"])
@pytest.mark.parametrize("group", GROUPS)
def test_every_hostile_document_is_quoted_or_refused(bundled_llm: LlamaCpp, group: str, span: Span) -> None:
    chain = grounded_chain(bundled_llm, span=span)
    cases = [(q, [document]) for q in QUESTIONS.values() for document in GROUPS[group].values()]
    cases += [(QUESTIONS["benign"], [document, MANUAL]) for document in GROUPS[group].values()]
    replies = chain.batch([{"question": question, "context": documents} for question, documents in cases])
    for (question, documents), reply in zip(cases, replies, strict=True):
        check(reply, question, documents, span)


@pytest.mark.parametrize("span", ["sentence", "phrase"])
def test_a_hostile_question_gets_no_further(bundled_llm: LlamaCpp, span: Span) -> None:
    chain = grounded_chain(bundled_llm, span=span)
    questions = [text[:300] for text in HOSTILE.values() if text[:300].strip()]
    for question, reply in zip(
        questions, chain.batch([{"question": q, "context": MANUAL} for q in questions]), strict=True
    ):
        check(reply, question, [MANUAL], span)


@pytest.mark.parametrize("span", ["sentence", "phrase"])
def test_streamed_pieces_are_the_same_answer(bundled_llm: LlamaCpp, span: Span) -> None:
    chain = grounded_chain(bundled_llm, span=span, max_spans=3, threshold=NEVER)
    for document in HOSTILE.values():
        given_ = {"question": QUESTIONS["benign"], "context": [document]}
        pieces: list[str] = []
        whole: Any = None
        for chunk in chain.stream(given_):
            pieces += [chunk["answer"]] if "answer" in chunk else []
            whole = chunk if whole is None else whole + chunk
        assert "".join(pieces) == whole["answer"]
        check(whole, QUESTIONS["benign"], [document], span, max_spans=3)


def test_a_document_can_not_refuse(bundled_llm: LlamaCpp) -> None:
    """The refusal as a document changes nothing: the question is answered by the other document, or not at all."""
    chain = grounded_chain(bundled_llm)
    for name, fake in FAKES.items():
        if "refusal" not in name:
            continue
        reply = chain.invoke({"question": QUESTIONS["benign"], "context": [fake, MANUAL]})
        assert (reply["answer"], reply["refused"]) == ("The tank holds 90 litres.", False), name


@pytest.mark.parametrize("span", ["sentence", "phrase"])
def test_refused_is_the_threshold_alone(bundled_llm: LlamaCpp, span: Span) -> None:
    willing, unwilling = (grounded_chain(bundled_llm, span=span, threshold=limit) for limit in (NEVER, ALWAYS))
    for document in FAKES.values():
        given_ = {"question": QUESTIONS["inviting"], "context": [document, MANUAL]}
        assert willing.invoke(given_)["refused"] is False
        assert unwilling.invoke(given_)["refused"] is True


@pytest.mark.parametrize("disguise", [name for name in FAKES if name.startswith("refusal")])
def test_what_reads_like_the_refusal_is_no_answer(bundled_llm: LlamaCpp, disguise: str) -> None:
    for span in ("sentence", "phrase"):
        reply = grounded_chain(bundled_llm, span=span, threshold=NEVER).invoke(
            {"question": QUESTIONS["inviting"], "context": [FAKES[disguise]]}
        )
        assert reply["refused"] or not reads_like(reply["answer"], REFUSAL)


@pytest.fixture(scope="module", params=["chatml", "llama-2", "plain"])
def noise(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaCpp]:
    """A model that may say anything at all, and is shown whole documents."""
    path = tmp_path_factory.mktemp("noise") / "noise.gguf"
    write_random_model(Path(reader_path()), path, FAMILIES[request.param].template or " ")
    llm = init_llm(f"llama_cpp:{path}")
    assert isinstance(llm, LlamaCpp)
    yield llm
    llm.close()


@pytest.mark.parametrize("span", ["sentence", "phrase"])
def test_a_model_that_obeys_nobody_still_says_nothing_else(noise: LlamaCpp, span: Span) -> None:
    chain = grounded_chain(noise, span=span, threshold=NEVER)
    documents = [text for group, found in GROUPS.items() if group != "floods" for text in found.values()]
    replies = chain.batch([{"question": QUESTIONS["inviting"], "context": [text, MANUAL]} for text in documents])
    for text, reply in zip(documents, replies, strict=True):
        check(reply, QUESTIONS["inviting"], [text, MANUAL], span)
        assert not reply["refused"]


def test_a_window_full_of_markers_is_packed_and_not_overrun(noise: LlamaCpp) -> None:
    for text in GROUPS["floods"].values():
        reply = grounded_chain(noise, threshold=NEVER).invoke({"question": "Who?", "context": [text, MANUAL]})
        check(reply, "Who?", [text, MANUAL], "sentence")


FRAGMENTS = st.sampled_from([text[:300] for text in HOSTILE.values()])


@given(
    st.lists(FRAGMENTS | texts, min_size=1, max_size=5).map("".join),
    contexts,
    st.sampled_from(list(QUESTIONS.values())),
)
def test_attacks_spliced_into_random_documents(
    bundled_llm: LlamaCpp, attack: str, documents: list[str], question: str
) -> None:
    cut = len(documents[0]) // 2
    context = [documents[0][:cut] + attack + documents[0][cut:], *documents[1:]]
    for span in ("sentence", "phrase"):
        chain = grounded_chain(bundled_llm, span=span, max_spans=2)
        check(chain.invoke({"question": question, "context": context}), question, context, span, 2)


@pytest.fixture(scope="module")
def url(bundled_llm: LlamaCpp) -> Iterator[str]:
    with serving(create_app(bundled_llm)) as server:
        yield server.url


def test_over_http_every_reply_is_valid_json_and_exact(url: str) -> None:
    documents = list(HOSTILE.values())
    inputs = [{"question": QUESTIONS["benign"], "context": [document]} for document in documents]
    done = httpx.post(f"{url}/grounded/batch", json={"inputs": inputs}, timeout=60)
    assert done.status_code == 200
    for document, reply in zip(documents, done.json()["output"], strict=True):
        check(reply, QUESTIONS["benign"], [document], "sentence")


def test_in_a_stream_of_events_a_document_can_not_forge_one(url: str, bundled_llm: LlamaCpp) -> None:
    given_ = {"question": "data event end?", "context": GROUPS["breakers"]["server-sent events"]}
    expected = answer_chain(bundled_llm).invoke(given_)
    text = httpx.post(f"{url}/answer/stream", json={"input": given_}, timeout=60).text
    names = [line.removeprefix("event: ").strip() for line in text.splitlines() if line.startswith("event: ")]
    data = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]
    assert (names.count("end"), names[-1]) == (1, "end")
    assert "".join(item for item in data if isinstance(item, str)) == expected
