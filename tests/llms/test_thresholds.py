"""Threshold files: what is written, what is read, and whose it is."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from fourcorners import grounded_chain, init_llm
from fourcorners.errors import SettingsError, ThresholdError
from fourcorners.grounding import prior
from fourcorners.grounding.evidence import GroundingOptions
from fourcorners.llms import profile, thresholds
from fourcorners.llms.llama_cpp import LlamaCpp
from fourcorners.llms.thresholds import (
    Threshold,
    fingerprint_of,
    own_thresholds,
    read_thresholds,
    scoring_of,
    write_threshold,
)
from fourcorners.models import reader_path, reader_thresholds_path
from fourcorners.settings import load_settings
from tests.support import YEAR


def entry(**changes: Any) -> Threshold:
    given = {
        "model": "reader.gguf",
        "fingerprint": fingerprint_of(reader_path()),
        "scoring": scoring_of(profile.READER, changes.get("span", "sentence")),
        "span": "sentence",
        "threshold": 1.25,
        "bound": "selective",
        "max_risk": 0.1,
        "confidence": 0.95,
        "rows": 300,
        "coverage": 0.5,
        "risk": 0.04,
    }
    return Threshold(**{**given, **changes})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "thresholds.json"
    write_threshold(path, entry())
    return path


def threshold_of(llm: Any, **options: Any) -> float:
    reply = grounded_chain(llm, **options).invoke(YEAR)
    assert reply["refused"] == (reply["score"] > reply["threshold"])
    return float(reply["threshold"])


def test_a_model_refuses_by_the_threshold_that_a_file_has_for_it(file: Path) -> None:
    llm = init_llm("bundled", thresholds=file)
    assert isinstance(llm, LlamaCpp)
    assert threshold_of(llm) == llm.refusal_threshold(GroundingOptions()) == 1.25
    assert threshold_of(llm, span="phrase") == threshold_of(init_llm("bundled"), span="phrase")
    assert threshold_of(llm, threshold=0.125) == 0.125
    assert threshold_of(init_llm(f"llama_cpp:{reader_path()}", thresholds=str(file))) == 1.25
    llm.close()


def test_structured_answers_keep_to_the_models_own(file: Path) -> None:
    class Best(BaseModel):
        year: int | None

    llms = [init_llm("bundled"), init_llm("bundled", thresholds=file)]
    first, second = (grounded_chain(llm, schema=Best).invoke(YEAR) for llm in llms)
    assert first["threshold"] == second["threshold"]


def test_the_reader_takes_what_ships_with_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thresholds, "reader_thresholds_path", lambda: file)
    assert threshold_of(init_llm("bundled")) == 1.25
    write_threshold(file.with_name("own.json"), entry(threshold=2.5))
    assert threshold_of(init_llm("bundled", thresholds=file.with_name("own.json"))) == 2.5


def test_what_ships_for_another_reader_is_not_heeded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_threshold(tmp_path / "old.json", entry(fingerprint="sha256:0"))
    monkeypatch.setattr(thresholds, "reader_thresholds_path", lambda: tmp_path / "old.json")
    assert threshold_of(init_llm("bundled")) == profile.READER.sentence_threshold


def test_what_ships_with_the_reader_is_the_readers() -> None:
    if reader_thresholds_path().exists():
        for one in read_thresholds(reader_thresholds_path()):
            assert one.fingerprint == fingerprint_of(reader_path()), "calibrate the new reader"
            assert one.scoring == scoring_of(profile.READER, one.span), "calibrate with the new weights"


def test_the_settings_name_a_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOURCORNERS_THRESHOLDS", str(file))
    assert load_settings().loading == {"thresholds": file}
    assert load_settings(thresholds=Path("other.json")).loading == {"thresholds": Path("other.json")}


# Whose it is


def test_a_file_for_another_model_is_an_error(tmp_path: Path) -> None:
    write_threshold(tmp_path / "other.json", entry(model="big.gguf", fingerprint="sha256:0"))
    with pytest.raises(
        ThresholdError, match=r"other\.json is for big\.gguf, with nothing for reader\.gguf .*calibrate"
    ):
        init_llm("bundled", thresholds=tmp_path / "other.json")


def test_a_threshold_is_out_of_date_when_scores_are_worked_out_in_another_way(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(profile.READER, model_weight=0.75)
    monkeypatch.setattr(profile, "READER", other)
    monkeypatch.setattr(thresholds, "READER", other)
    with pytest.raises(ThresholdError, match="run fourcorners calibrate again"):
        init_llm("bundled", thresholds=file)
    monkeypatch.setattr(thresholds, "reader_thresholds_path", lambda: file)
    assert threshold_of(init_llm("bundled")) == other.sentence_threshold


def test_the_scoring_is_that_of_weights_and_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {scoring_of(profile.READER, "sentence"), scoring_of(profile.READER, "phrase")}
    general = scoring_of(profile.GENERAL, "sentence")
    monkeypatch.setattr(prior, "BEST_SCORE_WEIGHT", 0.5)
    seen |= {scoring_of(profile.READER, "sentence"), scoring_of(profile.GENERAL, "phrase"), general}
    assert len(seen) == 5
    assert scoring_of(profile.GENERAL, "sentence") == general, "it has no prior"


def test_a_model_that_has_changed_is_another(tmp_path: Path, file: Path) -> None:
    model = tmp_path / "reader.gguf"
    shutil.copy(reader_path(), model)
    assert own_thresholds(model, file) == (entry(),)
    with model.open("ab") as more:
        more.write(b"\0")
    assert own_thresholds(model, file) == ()


def test_a_fingerprint_is_the_sha256_of_a_small_file(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"abc")
    assert fingerprint_of(tmp_path / "small") == f"sha256:{hashlib.sha256(b'abc').hexdigest()}"


def test_of_a_large_file_blocks_from_end_to_end_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thresholds, "WHOLE_BYTES", 1000)
    monkeypatch.setattr(thresholds, "BLOCK_BYTES", 16)
    monkeypatch.setattr(thresholds, "N_BLOCKS", 8)
    data, seen = bytearray(4096), set()
    for place in (None, 0, 15, 4080, 4095):
        if place is not None:
            data[place] += 1
        (tmp_path / "large").write_bytes(data)
        seen.add(fingerprint_of(tmp_path / "large"))
    (tmp_path / "large").write_bytes(bytes(data) + b"\0")
    seen.add(fingerprint_of(tmp_path / "large"))
    assert len(seen) == 6
    assert all(one.startswith("sha256-blocks:") for one in seen)


# The file


def test_an_entry_takes_the_place_of_its_like_and_leaves_the_others(file: Path) -> None:
    for other in (entry(span="phrase"), entry(fingerprint="sha256:0"), entry(threshold=3.0)):
        write_threshold(file, other)
    assert {(one.fingerprint[:8], one.span, one.threshold) for one in read_thresholds(file)} == {
        (entry().fingerprint[:8], "sentence", 3.0),
        (entry().fingerprint[:8], "phrase", 1.25),
        ("sha256:0", "sentence", 1.25),
    }
    assert [path.name for path in file.parent.iterdir()] == ["thresholds.json"]


def test_the_file_is_json_for_people(file: Path) -> None:
    data = json.loads(file.read_text("utf-8"))
    assert data["version"] == 1
    assert data["entries"][0]["max_risk"] == 0.1
    assert file.read_text("utf-8").count("\n") > 10


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is no threshold file .*calibrate"),
        ("[]", "is no threshold file of version 1"),
        ('{"entries": []}', "no version"),
        ('{"version": 2, "entries": []}', "version 2"),
        ('{"version": 1}', "entries"),
        ('{"version": 1, "entries": [{"model": "x"}]}', r"entries\.0\."),
        ('{"version": 1, "entries": [], "more": 1}', "more"),
        ('{"version": 1, "entries": []}', r"is for no model, with nothing for reader\.gguf"),
    ],
)
def test_a_wrong_file_is_named_with_its_fault(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(text)
    with pytest.raises(ThresholdError, match=rf"wrong\.json.*{told}"):
        init_llm("bundled", thresholds=path)
    if "no model" not in told:
        with pytest.raises(ThresholdError, match=r"wrong\.json"):
            write_threshold(path, entry())
        assert path.read_text() == text


def test_a_file_that_is_missing_or_no_path(tmp_path: Path) -> None:
    with pytest.raises(ThresholdError, match=r"none\.json can't be read \(No such file"):
        init_llm("bundled", thresholds=tmp_path / "none.json")
    with pytest.raises(SettingsError, match="thresholds=3 must be the path"):
        init_llm("bundled", thresholds=3)
    with pytest.raises(ThresholdError, match="can't be written"):
        write_threshold(tmp_path / "none" / "a.json", entry())
