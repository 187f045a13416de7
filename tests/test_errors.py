import pytest
from langchain_core.exceptions import ContextOverflowError, ModelError

from fourcorners import errors
from fourcorners.errors import FourCornersError, shortened

CLASSES = [getattr(errors, name) for name in errors.__all__ if name != "ModelError"]


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_has_one_root_and_stands_in_the_drawing(error: type[Exception]) -> None:
    assert issubclass(error, FourCornersError)
    assert errors.__doc__ is not None
    assert error.__name__ in errors.__doc__


def test_every_error_class_is_exported() -> None:
    ours = [name for name, value in vars(errors).items() if getattr(value, "__module__", "") == errors.__name__]
    assert {name for name in ours if isinstance(getattr(errors, name), type)} == {error.__name__ for error in CLASSES}


def test_langchain_callers_catch_them_by_their_own_classes() -> None:
    assert issubclass(errors.EngineError, ModelError)
    assert issubclass(errors.ContextOverflow, ContextOverflowError)
    assert issubclass(errors.InputError, ValueError)


def test_a_fault_is_no_input_error() -> None:
    assert not issubclass(errors.EngineError, errors.InputError)
    assert not issubclass(errors.ModelLoadError, errors.InputError)


@pytest.mark.parametrize(
    ("value", "text"), [("short", "'short'"), (None, "None"), ("x" * 200, "'" + "x" * 78 + "…"), ([1] * 99, None)]
)
def test_values_in_messages_are_cut(value: object, text: str | None) -> None:
    assert len(shortened(value)) <= 80
    assert text is None or shortened(value) == text


def test_a_huge_value_is_cut_in_no_time() -> None:
    assert len(shortened("x" * 100_000_000)) == 80
