from fourcorners.grounding.evidence import GroundingOptions
from fourcorners.llms.profile import GENERAL, READER, profile_of


def test_the_bundled_reader_is_known_by_its_metadata() -> None:
    assert profile_of({"fourcorners.contract": "pointing"}) is READER
    assert profile_of({"general.name": "fourcorners reader"}) is GENERAL
    assert profile_of({}) is GENERAL


def test_a_threshold_that_is_given_wins_over_the_models_own() -> None:
    assert READER.threshold(GroundingOptions(threshold=0.0)) == 0.0
    assert READER.threshold(GroundingOptions()) == READER.sentence_threshold
    assert READER.threshold(GroundingOptions(span="phrase")) == READER.phrase_threshold
