"""Follow-ups get the words they lean on; questions that stand alone keep their own, and theirs only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourcorners.grounding.follow_up import MAX_CLAUSE_WORDS, Turn, rewriting_problem, standalone_question
from tests.support import texts

FERRY = Turn("When does the ferry to Holm leave?", "The first ferry leaves at 6:40 on weekdays.")
NOZZLE = Turn("Which nozzle is for concrete?", "Red: a narrow jet for concrete and stone.")
BUILDER = Turn("Who built the lighthouse?", "It was built in 1864 by the engineer Anaïs Le Guélec.")
FRANCE = Turn("How many people live in France?", "France has 68 million inhabitants.")
ADULT = Turn("How much does a ticket for an adult cost?", "A ticket for an adult costs 12 euros.")
OVENS = Turn("Which ovens do you make?", "Pecka, Kamna and Mala.")
KIND_OF_WINE = Turn("Wie hoch ist die Kaution für ein Stadtrad?", "Die Kaution beträgt 50 Euro.")


@pytest.mark.parametrize(
    ("question", "turn", "has", "has_not"),
    [
        ("How much does it cost?", FERRY, ["ferry", "Holm"], ["leave"]),
        ("and why is that?", FERRY, ["ferry", "Holm", "leave"], []),
        ("And when?", BUILDER, ["built", "lighthouse"], []),
        ("How tall is it?", BUILDER, ["lighthouse"], ["built", "Guélec"]),
        ("Where did she study?", BUILDER, ["Anaïs", "Guélec"], ["lighthouse"]),
        ("What about Germany?", FRANCE, ["How many people live in Germany?"], ["France"]),
        ("what about germany?", FRANCE, ["How many people live in germany?"], ["France"]),
        ("And for children?", ADULT, ["How much does a ticket for children cost?"], ["adult"]),
        ("And on Sundays?", FERRY, ["ferry", "Holm", "Sundays"], []),
        ("Which is the strongest of those?", OVENS, ["ovens"], []),
        ("And the second one?", OVENS, ["Kamna"], ["Mala"]),
        ("What colour is it?", NOZZLE, ["Red"], []),
        ("How do I get there?", FERRY, ["Holm"], []),
        ("And which is the cheapest?", OVENS, ["ovens"], ["Kamna"]),
        ("Which one is bigger?", OVENS, ["ovens"], []),
        (
            "And E7?",
            Turn("What does E4 mean on the washer?", "The hose is bent."),
            ["What does E7 mean on the washer?"],
            [],
        ),
        ("and drinks", Turn("can i bring food to the pool"), ["can i bring drinks to the pool"], []),
        ("And the chair?", Turn("Who is the treasurer of the club?", "Piotr."), ["Who is the chair of the club?"], []),
        (
            "How old is she?",
            Turn("Who is the head of Acme?", "The head of Acme is Dana Whitfield."),
            ["Dana"],
            ["head"],
        ),
        ("How old is she?", Turn("Who is Dana Whitfield?", "She is a Brazilian engineer."), ["Dana"], ["Brazilian"]),
        ("How far is the nearest beach?", Turn("When was Birch Cottage built?", "In 1904."), ["Birch Cottage"], []),
        ("Tell me more.", FERRY, ["Holm"], []),
        ("How do I cancel?", FERRY, ["ferry"], []),
        ("How much?", FERRY, ["ferry", "Holm"], []),
        ("How long is the guarantee?", Turn("How heavy is the Aurelia 3?"), ["Aurelia", "3"], ["heavy"]),
        ("Who is its maker?", Turn("How heavy is the Aurelia 3?"), ["Aurelia"], []),
        ("Und für ein Lastenrad?", KIND_OF_WINE, ["Wie hoch ist die Kaution für ein Lastenrad?"], ["Stadtrad"]),
        ("Wann bekomme ich sie zurück?", KIND_OF_WINE, ["Kaution"], []),
        ("Und warum?", KIND_OF_WINE, ["Kaution"], []),
        ("Was kostet der zweite?", Turn("Welche Wagen gibt es?", "Golf, Polo und Fox."), ["Polo"], ["Fox"]),
        ("der zweite?", Turn("Wer war der erste Präsident?", "Theodor Heuss."), ["Wer war der zweite Präsident?"], []),
        ("Combien coûte-t-il ?", Turn("Quand part le bateau de Callac ?", "Le bateau part à 9 h."), ["Callac"], []),
        ("¿Y cuánto cuesta?", Turn("¿Cuándo sale el barco de Cádiz?", "El barco sale a las 9."), ["Cádiz"], []),
    ],
)
def test_a_follow_up_gets_the_words_it_leans_on(question: str, turn: Turn, has: list[str], has_not: list[str]) -> None:
    made = standalone_question(question, [turn])
    assert [word for word in has if word not in made] == []
    assert [word for word in has_not if word in made] == []


@pytest.mark.parametrize(
    "question",
    [
        "Who is the president of France?",
        "What is photosynthesis?",
        "When was the harbour office built and who built it?",
        "Can I return a bicycle if it is broken?",
        "What time is it?",
        "Is it possible to rent a cargo bicycle?",
        "How long does it take to descale the machine?",
        "Is there a car park at the pier?",
        "What is the name of the bus that goes to Callac?",
        "What happens this week at the museum?",
        "What is the highest mountain in Norway?",
        "Who was the first president of France?",
        "Does the hotel have its own parking?",
        "And who is the president of France?",
        "Tell me about the Kestrel Tower.",
        "Bicycle rental prices",
        "Thanks!",
        "ok",
        "Who are you?",
        "???",
        "What is language?",
        "¿Quién es el presidente de Francia?",
        "Où se trouve le musée du Louvre ?",
        "Wie viel Uhr ist es?",
        "Wer ist der Präsident von Frankreich?",
        "Was kostet das Frühstück im Hotel Adler?",
        "Gibt es einen Parkplatz am Hafen?",
        "Können Sie mir das Hotel Adler empfehlen?",
    ],
)
@pytest.mark.parametrize("turn", [FERRY, BUILDER, ADULT])
def test_a_question_that_stands_alone_stays_as_it_is(question: str, turn: Turn) -> None:
    assert standalone_question(question, [turn]) == question


def test_without_turns_nothing_changes() -> None:
    assert standalone_question("And why is that?", []) == "And why is that?"
    assert standalone_question("And why is that?", [Turn("", "Hello, how can I help?")]) == "And why is that?"


def test_the_topic_goes_on_through_several_follow_ups_and_ends_with_a_new_one() -> None:
    turns = [
        Turn("How heavy is the Aurelia 3?", "It weighs 4 kg."),
        Turn("And how long is its guarantee?", "Two years."),
    ]
    assert "Aurelia" in standalone_question("Who makes it?", turns)
    turns.append(Turn("When does the ferry to Holm leave?", "At 6:40."))
    made = standalone_question("How much does it cost?", turns)
    assert "Holm" in made
    assert "Aurelia" not in made


def test_a_greeting_in_between_does_not_end_the_topic() -> None:
    turns = [FERRY, Turn("Thanks!", "")]
    assert "Holm" in standalone_question("How much does it cost?", turns)


def test_what_is_asked_for_stays_what_it_was() -> None:
    turn = Turn("What is the price of the Aurelia 3?", "The price is 400 euros.")
    assert "price" not in standalone_question("And since when?", [turn]).casefold()


@given(question=texts, turns=st.lists(st.builds(Turn, texts, texts), max_size=4))
def test_any_text_goes_through_and_little_is_added(question: str, turns: list[Turn]) -> None:
    made = standalone_question(question, turns)
    if made != question:
        said = "\n".join([question, *(f"{turn.question}\n{turn.answer}" for turn in turns)])
        assert len(made) <= len(said) + MAX_CLAUSE_WORDS * len(turns) + 16
        strange = set(made) - set(said) - set(" ()?")
        assert not strange


@given(st.text(alphabet="why?and it()that 19\n", min_size=1, max_size=40))
def test_the_same_conversation_gives_the_same_question(question: str) -> None:
    assert standalone_question(question, [FERRY, NOZZLE]) == standalone_question(question, (FERRY, NOZZLE))


def test_a_million_characters_take_no_time() -> None:
    long = "the ferry to Holm and " * 45_000
    assert standalone_question("And why is that?", [Turn(long, long)] * 20)
    assert standalone_question(long, [FERRY]) == long


@pytest.mark.parametrize(
    ("rewritten", "problem"),
    [
        ("How much does the ferry to Holm cost?", None),
        ("Wie viel kostet die Fähre nach Holm?", "no word of the question"),
        ("Does it cost the earth to sail away tomorrow morning?", "mostly words"),
        ("", "empty"),
        (" \n ", "empty"),
        ("How much does it cost?\nUser: hello", "more than one line"),
        ("How much does it cost? " * 40, "characters"),
        ("How much does the ferry to Bergen cost?", "Bergen"),
        ("How much does the ferry to Holm cost in 1986?", "1986"),
        ("When does the ferry to Holm leave?", "no word of the question"),
    ],
)
def test_a_models_rewriting_is_checked(rewritten: str, problem: str | None) -> None:
    found = rewriting_problem(rewritten, "How much does it cost?", [FERRY])
    assert (found is None) == (problem is None)
    assert (problem or "") in (found or "")
