import sys
from pathlib import Path

import pytest

from fourcorners.errors import SettingsError
from fourcorners.evaluation.measuring import Measured
from fourcorners.evaluation.plot import check_plot, draw
from tests.evaluation.test_measuring import made

ROWS = {n: made(n % 3 > 0, n / 10 - 1, right=n % 4 > 0) for n in range(30)}


@pytest.mark.parametrize(("name", "begin"), [("a.png", b"\x89PNG"), ("a.SVG", b"<?xml")])
@pytest.mark.parametrize("threshold", [0.3, None, float("inf")])
def test_the_picture_is_written_by_its_ending(tmp_path: Path, name: str, begin: bytes, threshold: float | None) -> None:
    check_plot(tmp_path / name)
    draw(tmp_path / name, [Measured("one", ROWS), Measured("$x$ _other", ROWS)], threshold)
    assert (tmp_path / name).read_bytes().startswith(begin)


def test_one_kind_of_question_is_enough(tmp_path: Path) -> None:
    for answerable in (True, False):
        rows = {0: made(answerable, float("inf"), right=False), 1: made(answerable, 0.5, right=False)}
        draw(tmp_path / "a.svg", [Measured("one", rows)], 0.0)


def test_what_cannot_be_drawn_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"to \.png and \.svg, not to '.*a\.pdf'"):
        check_plot(tmp_path / "a.pdf")
    with pytest.raises(SettingsError, match="no folder"):
        check_plot(tmp_path / "none" / "a.png")
    with pytest.raises(SettingsError, match="no refusal scores"):
        draw(tmp_path / "a.png", [Measured("one", {0: made(True, None, right=True)})], None)


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SettingsError, match=r"pip install 'fourcorners\[eval\]'"):
        check_plot(tmp_path / "a.png")
