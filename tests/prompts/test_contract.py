import pytest

from fourcorners.errors import SettingsError
from fourcorners.prompts.contract import Contract, Segment, contract_names, load_contract

VALUES = {"question": "Who {x}?", "context": "{context} }{ text", "refusal": "No idea"}


@pytest.mark.parametrize("name", contract_names())
def test_every_contract_file_loads_and_asks_the_question(name: str) -> None:
    contract = load_contract(name)
    segments = contract.fill("system", VALUES) + contract.fill("user", VALUES)
    assert Segment("Who {x}?", trusted=False) in segments
    assert Segment("{context} }{ text", trusted=False) in segments


def test_there_are_contracts_for_both_spans() -> None:
    assert {"plain", "verbatim_sentence", "verbatim_phrase"} <= set(contract_names())


def test_an_unknown_contract_names_those_there_are() -> None:
    with pytest.raises(SettingsError, match=r"'nope'.*verbatim_sentence"):
        load_contract("nope")


def test_only_the_template_and_the_refusal_are_trusted() -> None:
    segments = Contract("Say {refusal}.", "{context}\n{question}").fill("system", VALUES)
    assert segments == [Segment("Say ", True), Segment("No idea", True), Segment(".", True)]
    user = Contract("", "{context}\n{question}").fill("user", VALUES)
    assert [segment.trusted for segment in user] == [False, True, False]


def test_an_empty_value_leaves_no_segment() -> None:
    assert Contract("", "{context}{question}").fill("user", VALUES | {"context": ""}) == [Segment("Who {x}?", False)]


def test_a_doubled_brace_is_a_brace() -> None:
    assert Contract("{{x}}", "{context}{question}").fill("system", VALUES)[0].text.startswith("{")


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ("{question}", "context"),
        ("{context}", "question"),
        ("nothing", "context.*question"),
        ("{context}{question}{spam}", "spam"),
        ("{context}{question}{}", "unknown gap"),
        ("{context}{question}{0}", "unknown gap"),
        ("{context}{question}{", "brace"),
        ("{context}{question}}", "brace"),
    ],
)
def test_a_bad_template_is_refused_with_what_is_wrong(user: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Contract("", user)
