from hypothesis import given

from fourcorners.grounding.evidence import Sentence
from tests.support import evidence_of, texts


def sentences_of(text: str) -> dict[str, Sentence]:
    return {sentence.text: sentence for sentence in evidence_of("?", [text]).sentences}


def above(text: str, sentence: str) -> set[str]:
    everything = evidence_of("?", [text]).sentences
    return {everything[index].text for index in next(s for s in everything if s.text == sentence).under}


@given(texts)
def test_only_earlier_sentences_of_the_same_document_stand_above(text: str) -> None:
    everything = evidence_of("?", [text, text]).sentences
    for index, sentence in enumerate(everything):
        assert all(up < index and everything[up].document == sentence.document for up in sentence.under)


def test_a_markdown_heading_stands_above_its_section_only() -> None:
    text = "# Fares\n\nAdults pay 12 euros.\n\n# Dogs\n\nThey travel free.\n"
    assert sentences_of(text)["Fares"].kind == "heading"
    assert above(text, "Adults pay 12 euros.") == {"Fares"}
    assert above(text, "They travel free.") == {"Dogs"}


def test_underlined_and_bold_lines_are_headings() -> None:
    found = sentences_of("Fares\n=====\n\nAdults pay.\n\n**Dogs**\n\nThey travel free.\n")
    assert found["Fares"].kind == "heading"
    assert found["**Dogs**"].kind == "heading"


def test_the_header_of_a_table_stands_above_its_rows() -> None:
    text = "| Day | Time |\n|---|---|\n| Monday | 6:40 |\n\nAfterwards there is prose."
    assert sentences_of(text)["| Day | Time |"].kind == "header_row"
    assert above(text, "| Monday | 6:40 |") == {"| Day | Time |"}
    assert above(text, "Afterwards there is prose.") == set()


def test_an_introduction_stands_above_its_list() -> None:
    text = "Bring with you:\n- a towel\n- a hat\n"
    assert above(text, "a hat") == {"Bring with you:"}


def test_a_question_of_an_faq_stands_above_its_answer() -> None:
    text = "Can I bring a dog?\nDogs travel free.\n\nIs there a bar?\nNo.\n"
    assert sentences_of(text)["Can I bring a dog?"].kind == "question"
    assert above(text, "Dogs travel free.") == {"Can I bring a dog?"}
    assert above(text, "No.") == {"Is there a bar?"}


def test_a_few_words_that_stand_alone_are_a_title() -> None:
    found = sentences_of("Ferry to Holm\n\nThe ferry leaves at 6:40.\n\nThe pier was built in 1923\n")
    assert found["Ferry to Holm"].kind == "title"
    assert above("Ferry to Holm\n\nThe ferry leaves at 6:40.\n", "The ferry leaves at 6:40.") == {"Ferry to Holm"}


def test_the_only_sentence_of_a_text_is_no_title() -> None:
    assert sentences_of("Your name is Jean-baptiste")["Your name is Jean-baptiste"].kind == "statement"
