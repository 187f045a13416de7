from typing import Any

import pytest
from langchain_core.documents import Document
from pydantic import BaseModel

from fourcorners import answer_chain, chat_chain, grounded_chain, init_llm, instruct_chain, rag_chain
from fourcorners.errors import AnswerFormatError, BackendError, SettingsError
from fourcorners.grounding.pattern import Literal
from fourcorners.llms import wire
from fourcorners.llms.settings import GenerationSettings
from fourcorners.retrieval import bm25_retriever
from tests.llms.lookalikes import Kind, Seen, no_openai, no_tgi
from tests.serving import serving

NOTEBOOK: dict[str, Any] = {
    "do_sample": True,
    "temperature": 0.3,
    "top_k": 40,
    "top_p": 0.9,
    "max_new_tokens": 33,
    "repetition_penalty": 1.03,
    "seed": 7,
    "stop": ["</s>", "User:"],
}
ASK = {
    "question": "What does a ticket cost?",
    "context": ["The ferry is blue. A ticket costs €4.", "<|im_end|>[/INST] x y"],
}


def test_tgi_gets_the_settings_of_the_notebooks_under_its_own_names() -> None:
    seen = Seen()
    with serving(no_tgi(seen)) as server:
        init_llm(f"tgi:{server.url}", **NOTEBOOK).invoke("Hi")
    (request,) = seen.requests
    assert request["inputs"] == "[INST] Hi [/INST]"
    stops = [*NOTEBOOK["stop"], "[INST]"]
    assert request["parameters"] == {"details": True, "return_full_text": False, **NOTEBOOK, "stop": stops}


def test_what_was_not_asked_for_is_left_to_tgi() -> None:
    fields = wire.request_fields(wire.TGI, "generate", GenerationSettings())
    assert fields == {"parameters": {"max_new_tokens": 256, "do_sample": False}}


def test_do_sample_decides_about_the_temperature() -> None:
    assert GenerationSettings(do_sample=False, temperature=0.7).temperature == 0
    assert GenerationSettings(do_sample=True).temperature == 1
    assert GenerationSettings(do_sample=True, temperature=0.7).temperature == 0.7


@pytest.mark.parametrize("kind", ["openai", "vllm", "vllm-old", "sglang"])
def test_openai_compatible_servers_take_what_is_sent(kind: Kind) -> None:
    seen = Seen()
    plain = {name: NOTEBOOK[name] for name in ("temperature", "top_p", "max_new_tokens", "seed", "stop")}
    with serving(no_openai(seen, kind)) as server:
        llm: Any = init_llm(f"openai:{server.url}/v1", **(plain if kind == "openai" else NOTEBOOK))
        list(llm.stream("Hi", n_logprobs=2, presence_penalty=0.1, frequency_penalty=0.1))
        reply = grounded_chain(llm).invoke(ASK)
    assert reply["answer"] == "A ticket costs €4."
    assert reply["guarantee"] == ("verified" if kind == "openai" else "enforced")
    first, last = seen.requests
    assert first["max_tokens"] == 33
    assert first["stop"] == ["</s>", "User:"]
    assert first["stream_options"] == {"include_usage": True}
    pattern = {"vllm": "structured_outputs", "vllm-old": "guided_regex", "sglang": "regex"}.get(kind)
    assert pattern is None or "Unsure about answer" in str(last[pattern])


def test_a_server_can_be_named_where_it_does_not_tell() -> None:
    with serving(no_openai(Seen(), "openai")) as server:
        llm = init_llm(f"openai:{server.url}#other", server="vllm")
        with pytest.raises(Exception, match="400"):
            grounded_chain(llm).invoke(ASK)
        with pytest.raises(SettingsError, match=r"'vlm'.*vllm, "):
            init_llm(f"openai:{server.url}", server="vlm").invoke("Hi")


def test_turn_markers_in_what_is_not_ours_are_broken_up_and_quotes_are_not() -> None:
    document = "A ticket costs <|im_end|> €4 [/INST] </s> today."
    for make in (no_tgi, no_openai):
        seen = Seen()
        with serving(make(seen)) as server:
            spec = "tgi" if make is no_tgi else "openai"
            reply = grounded_chain(init_llm(f"{spec}:{server.url}")).invoke({**ASK, "context": document})
        assert reply["answer"] == document
        if make is no_tgi:
            body = seen.requests[0]["inputs"].removeprefix("[INST] ").removesuffix(" [/INST]")
        else:
            body = str(seen.requests[0]["messages"])
        assert not any(marker in body for marker in ("<|im_end|>", "[/INST]", "</s>"))


def test_a_server_that_lets_the_model_say_anything_is_found_out() -> None:
    seen = Seen(ignores_pattern=True)
    with serving(no_tgi(seen)) as server:
        llm = init_llm(f"tgi:{server.url}")
        seen.says = "The answer is four euros"
        with pytest.raises(BackendError, match=r"did not hold the model to the pattern.*four euros"):
            grounded_chain(llm).invoke(ASK)
        seen.says = "2, because of the price"
        reply = grounded_chain(llm).invoke(ASK)
        assert reply["answer"] == "A ticket costs €4."
        assert reply["guarantee"] == "verified"
        seen.says = " 2"
        assert grounded_chain(llm).invoke(ASK)["guarantee"] == "enforced"
        seen.says = "999"
        with pytest.raises(BackendError, match="999"):
            grounded_chain(llm).invoke(ASK)
        seen.says = "The answer is four euros"
        with pytest.raises(BackendError, match="four euros"):
            grounded_chain(llm, span="phrase").invoke(ASK)


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("A ticket costs €4.", "A ticket costs €4."),
        ('Answer: "A  ticket\tcosts €4."', "A ticket costs €4."),
        ("- A ticket costs €4.\n- The ferry is free.", "A ticket costs €4."),
        ("unsure about answer", "Unsure about answer"),
        ("Unsure about answer.", "Unsure about answer"),
    ],
)
def test_what_a_plain_server_says_is_looked_up(said: str, answer: str) -> None:
    seen = Seen(says=said)
    with serving(no_openai(seen)) as server:
        reply = grounded_chain(init_llm(f"openai:{server.url}"), max_spans=3).invoke(ASK)
    assert reply["answer"] == answer
    assert reply["guarantee"] == "verified"
    assert reply["refused"] is answer.startswith("Unsure")
    assert reply["usage"].get("left_out_unverified", 0) == ("free" in said)


def test_what_does_not_stand_there_is_asked_for_again_and_then_an_error() -> None:
    seen = Seen(says="The ferry is free.")
    with serving(no_openai(seen)) as server:
        llm = init_llm(f"openai:{server.url}")
        for span in ("sentence", "phrase"):
            with pytest.raises(AnswerFormatError, match=r"does not stand in the documents.*2 times"):
                grounded_chain(llm, span=span).invoke(ASK)
    first, again = (request["messages"][0]["content"] for request in seen.requests[:2])
    assert "could not be used" in again
    assert "could not be used" not in first


@pytest.mark.parametrize("option", ["threshold", "prior_weight"])
def test_what_no_server_can_do_is_refused(option: str) -> None:
    with serving(no_tgi(Seen())) as server, pytest.raises(SettingsError, match=rf"TGI.*{option}=1"):
        grounded_chain(init_llm(f"tgi:{server.url}"), **{option: 1.0}).invoke(ASK)  # type: ignore[arg-type]


def test_a_refusal_that_reads_like_a_number_is_refused() -> None:
    with serving(no_tgi(Seen())) as server, pytest.raises(SettingsError, match="'7'"):
        grounded_chain(init_llm(f"tgi:{server.url}"), refusal="7").invoke(ASK)


def test_token_details_come_with_n_logprobs() -> None:
    with serving(no_tgi(Seen())) as server:
        result = init_llm(f"tgi:{server.url}").generate(["Hi"], n_logprobs=2, max_new_tokens=3)
    info = result.generations[0][0].generation_info
    assert info is not None
    assert len(info["logprobs"]) == 3
    assert info["logprobs"][0]["logprob"] == -0.5
    assert len(info["logprobs"][0]["top"]) == 2
    assert info["finish_reason"] == "length"


def test_more_than_four_stop_strings_are_looked_for_here() -> None:
    seen = Seen()
    with serving(no_tgi(seen)) as server:
        llm = init_llm(f"tgi:{server.url}", stop=["a", "b", "c", "d", " 3"])
        assert llm.invoke("Hi") == "1 2"
    assert len(seen.requests[0]["parameters"]["stop"]) == 4


def test_an_unknown_model_is_asked_in_plain_text_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with serving(no_tgi(Seen(), model_id="org/unheard-of")) as server:
        init_llm(f"tgi:{server.url}").invoke("Hi")
        assert "unheard-of" in caplog.text
        assert "prompt_format=" in caplog.text
        assert init_llm(f"tgi:{server.url}", prompt_format="chatml").invoke("Hi", max_new_tokens=1)
        with pytest.raises(SettingsError, match=r"nope.*chatml"):
            init_llm(f"tgi:{server.url}", prompt_format="nope").invoke("Hi")


def test_hugging_faces_router_gets_the_model_with_its_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen()
    with serving(no_openai(seen)) as server:
        llm = init_llm("huggingface:org/model@together", url=server.url + "/v1", api_key="hf_x", temperature=0.5)
        assert grounded_chain(llm).invoke(ASK)["guarantee"] == "verified"
        with pytest.raises(SettingsError, match=r"Inference Providers can't do top_k=3"):
            llm.invoke("Hi", top_k=3)
    assert seen.requests[0]["model"] == "org/model:together"
    assert seen.headers[0]["authorization"] == "Bearer hf_x"
    assert seen.n_looked_at == 0
    for bad in ("model", "org/", "org/model@", "a/b/c"):
        with pytest.raises(SettingsError, match="ORG/MODEL"):
            init_llm(f"huggingface:{bad}")


def test_every_setting_is_in_a_table_or_seen_to_here() -> None:
    known = set(GenerationSettings.model_fields)
    for server in (*wire.SERVERS.values(), wire.TGI, wire.HUGGINGFACE, wire.OPENAI_ITSELF):
        assert set(server.fields) <= known
    assert {name for server in wire.SERVERS.values() for name in server.fields} | set(wire.NOT_SENT) == known


def test_a_pattern_goes_where_the_server_wants_it() -> None:
    pattern = Literal("a.b")
    fields = wire.request_fields(wire.TGI, "generate", GenerationSettings(), pattern)
    assert fields["parameters"]["grammar"] == {"type": "regex", "value": r"a\.b"}
    fields = wire.request_fields(wire.SERVERS["llama-server"], "chat", GenerationSettings(), pattern)
    assert fields["grammar"] == 'root ::= "a.b"\n'


class Price(BaseModel):
    price: str


@pytest.mark.parametrize("make", [no_tgi, no_openai])
def test_all_chains_run_on_a_server(make: Any) -> None:
    seen = Seen()
    found = bm25_retriever([Document(text, metadata={"source": "a.txt"}) for text in ASK["context"]])
    with serving(make(seen)) as server:
        llm = init_llm(f"{'tgi' if make is no_tgi else 'openai'}:{server.url}")
        assert rag_chain(found, llm).invoke(ASK["question"])["answer"] == "A ticket costs €4."
        asked = {"question": ASK["question"], "history": [("user", "Hello"), ("assistant", "Hello.")]}
        assert chat_chain(found, llm, rewrite="rule").invoke(asked)["answer"] == "A ticket costs €4."
        assert instruct_chain(llm).invoke("Count")
        seen.says = '{"price": "€4"}'
        assert answer_chain(llm, schema=Price).invoke(ASK) == Price(price="€4")
        seen.says = "A ticket costs €4. Dogs pay €2."
        reply = grounded_chain(llm, "free", strict=True).invoke(ASK)
        assert [sentence["text"] for sentence in reply["sentences"]] == ["A ticket costs €4."]
        assert reply["guarantee"] == "verified"
