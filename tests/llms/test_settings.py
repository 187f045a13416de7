from dataclasses import fields
from typing import Any

import pytest

from fourcorners.engine.generation import Wish
from fourcorners.engine.mask import MaskSpec
from fourcorners.engine.sampling import Sampling
from fourcorners.errors import SettingsError
from fourcorners.llms.settings import GenerationSettings, generation_settings


def test_changes_win_over_the_base_and_leave_it_alone() -> None:
    base = GenerationSettings(temperature=0.5, seed=3)
    assert generation_settings(base, {"seed": 4}) == GenerationSettings(temperature=0.5, seed=4)
    assert base.seed == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tempratur": 1}, "unknown setting 'tempratur'.*temperature"),
        ({"temperature": "hot"}, "temperature='hot'"),
        ({"temperature": -1}, "temperature=-1"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"top_p": 0}, "top_p=0"),
        ({"top_k": -1}, "top_k=-1"),
        ({"top_k": 1.5}, "top_k=1.5"),
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"repetition_penalty": 0}, "repetition_penalty=0"),
        ({"seed": "x"}, "seed='x'"),
        ({"stop": "word"}, "stop='word'"),
        ({"stop": [1]}, "stop.0=1"),
        ({"presence_penalty": 11}, "presence_penalty=11"),
        ({"frequency_penalty": "much"}, "frequency_penalty='much'"),
        ({"n_logprobs": -1}, "n_logprobs=-1"),
        ({"n_logprobs": 101}, "n_logprobs=101"),
        ({"ignore_eos": "perhaps"}, "ignore_eos='perhaps'"),
        ({"timeout_s": 0}, "timeout_s=0"),
        ({"client": 3}, "client=3"),
        ({"json_schema": 3}, "json_schema"),
        ({"choice": "yes"}, "choice='yes'"),
        ({"regex": "a", "choice": ["a"]}, "^give one of regex, choice, not all of them"),
        ({"grammar": "start: A", "json_schema": {}}, "^give one of grammar, json_schema"),
    ],
)
def test_a_bad_setting_is_named_with_its_value(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        generation_settings(GenerationSettings(), changes)


def test_all_of_them_reach_the_engine() -> None:
    changes: dict[str, Any] = {
        "temperature": 0.7,
        "top_k": 9,
        "top_p": 0.8,
        "min_p": 0.1,
        "repetition_penalty": 1.2,
        "presence_penalty": 0.3,
        "frequency_penalty": 0.4,
        "seed": 5,
    }
    assert set(changes) == {field.name for field in fields(Sampling)}
    settings = generation_settings(GenerationSettings(), {**changes, "ignore_eos": True, "n_logprobs": 2})
    wish = settings.wish(17, ("a", "b"))
    assert wish == Wish(17, Sampling(**changes), ("a", "b"), 2, ignore_eos=True)


@pytest.mark.parametrize(
    ("kind", "value"),
    [("grammar", "start: /a/"), ("json_schema", {"type": "null"}), ("regex", "a+"), ("choice", ("a", "b"))],
)
def test_a_mask_is_what_was_asked_for(kind: Any, value: Any) -> None:
    assert GenerationSettings().mask_spec() is None
    assert generation_settings(GenerationSettings(), {kind: value}).mask_spec() == MaskSpec(kind, value)
