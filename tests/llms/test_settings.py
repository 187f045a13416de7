from typing import Any

import pytest

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
    ],
)
def test_a_bad_setting_is_named_with_its_value(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        generation_settings(GenerationSettings(), changes)
