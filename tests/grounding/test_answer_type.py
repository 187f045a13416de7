import pytest

from fourcorners.grounding.answer_type import answer_type, holds


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("How many bikes fit on board?", "number"),
        ("How long does the crossing take?", "extent"),
        ("How high is the lighthouse?", "extent"),
        ("How heavy is the lamp?", "weight"),
        ("How often does it run?", "frequency"),
        ("What is the phone number of the office?", "phone"),
        ("How much is a ticket?", "money"),
        ("When does the ferry leave?", "time"),
        ("What year was it built?", "time"),
        ("Who built it?", "name"),
        ("Where is the pier?", "place"),
        ("Why is it late?", "reason"),
        ("What is the ferry called?", None),
        ("Comment tu t'appelle ?", None),
        ("", None),
    ],
)
def test_the_question_word_tells_the_kind(question: str, kind: str | None) -> None:
    assert answer_type(question) == kind


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("number", "It carries 40 bikes.", 1.0),
        ("number", "It carries forty bikes.", 1.0),
        ("number", "It carries bikes.", -1.0),
        ("money", "A ticket costs $12.", 1.0),
        ("money", "A ticket costs a lot.", -1.0),
        ("money", "Entry is free.", 1.0),
        ("time", "It leaves at 6:40.", 1.0),
        ("time", "It leaves on Monday.", 1.0),
        ("time", "It leaves.", -1.0),
        ("name", "It was built by Ruth Adeyemi.", 1.0),
        ("name", "It was built by nobody.", -1.0),
        ("place", "It is behind the church.", 1.0),
        ("reason", "It is late because of fog.", 1.0),
        ("extent", "It takes 35 minutes.", 1.0),
        ("extent", "It is 40 m high.", 1.0),
        ("extent", "It is slow.", -1.0),
        ("weight", "It weighs 92 grams.", 1.0),
        ("weight", "It is 92 cm long.", -1.0),
        ("frequency", "It runs every hour.", 1.0),
        ("phone", "Call 020 7946 0123.", 1.0),
        ("phone", "Call the office.", -1.0),
        (None, "Anything.", 0.0),
    ],
)
def test_a_sentence_holds_the_kind_or_not(kind: str | None, text: str, value: float) -> None:
    assert holds(kind, text, ()) == value


def test_what_the_question_says_itself_is_no_answer() -> None:
    assert holds("name", "The pier of Ruth Adeyemi is old.", {"ruth", "adeyemi"}) == -1.0
    assert holds("number", "The 6:40 ferry is late.", {"6:40"}) == -1.0
