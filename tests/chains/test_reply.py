from typing import get_type_hints

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage

from fourcorners import grounded_chain
from fourcorners.chains.reply import Collector, Reply, reply_tail
from fourcorners.llms.llama_cpp import LlamaCpp
from tests.support import YEAR, evidence_of


def test_a_reply_fits_its_schema(bundled_llm: LlamaCpp) -> None:
    reply = grounded_chain(bundled_llm).invoke(YEAR)
    assert Reply(**reply).model_dump() == reply
    assert set(get_type_hints(Reply)) >= set(reply)


def test_the_output_schema_of_the_chain_is_the_reply(bundled_llm: LlamaCpp) -> None:
    assert grounded_chain(bundled_llm).get_output_schema() is Reply


def test_the_token_counts_of_a_chat_model_are_passed_on() -> None:
    usage = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
    message = AIMessage("The best year ever is 1986", usage_metadata=usage)
    reply = grounded_chain(GenericFakeChatModel(messages=iter([message]))).invoke(YEAR)
    assert reply["answer"] == "The best year ever is 1986"


def test_an_llm_that_told_nothing_is_best_effort() -> None:
    collector = Collector()
    collector.saw("It is ")
    collector.saw("red.")
    tail = reply_tail(evidence_of("Is it?", ["Yes. It is red.", "It is red."]), collector)
    assert tail["guarantee"] == "best-effort"
    also = [{"index": 1, "start": 0, "end": 10}]
    assert tail["citations"] == [
        {
            "number": 1,
            "document": "1",
            "index": 0,
            "start": 5,
            "end": 15,
            "quote": "It is red.",
            "also": also,
            "contradicts": [],
            "metadata": {},
        }
    ]
    assert "answer" not in tail
