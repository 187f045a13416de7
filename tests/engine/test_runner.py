import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from fourcorners.engine.program import Forward
from fourcorners.engine.runner import BATCH_TOKENS, Runner, load_vocabulary
from fourcorners.errors import ContextOverflow, EngineError, ModelLoadError, SettingsError
from fourcorners.models import reader_path

SIZE = reader_path().stat().st_size
PROMPT = tuple(range(20, 80))


@pytest.mark.parametrize("size", [0, 3, 4, 23, 24, 100, 5_000, 100_000, SIZE // 2, SIZE - 1])
def test_a_truncated_model_is_refused_with_its_path(tmp_path: Path, size: int) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(reader_path().read_bytes()[:size])
    with pytest.raises(ModelLoadError, match=re.escape(str(path))):
        Runner(path)


@pytest.mark.parametrize("content", [b"PK\x03\x04" + b"x" * 100, b"GGML" + b"\0" * 100, b"GGUF" + b"\xff" * 100])
def test_what_is_no_gguf_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelLoadError, match=re.escape(str(path))):
        Runner(path)


def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.gguf", tmp_path):
        with pytest.raises(ModelLoadError, match="no model file"):
            Runner(path)


@pytest.mark.parametrize("name", ["with space.gguf", "ünïcödé 文.gguf"])
def test_any_path_will_do(tmp_path: Path, name: str) -> None:
    shutil.copy(reader_path(), tmp_path / name)
    Runner(tmp_path / name).close()


@pytest.mark.parametrize("window", [1, 15, 2_000_000])
def test_a_window_out_of_range_is_refused(window: int) -> None:
    with pytest.raises(SettingsError, match=str(window)):
        Runner(reader_path(), n_context_tokens=window)


def test_too_long_a_prompt_is_refused_before_it_reaches_llama_cpp(runner: Runner) -> None:
    room = runner.n_context_tokens
    with pytest.raises(ContextOverflow, match=f"{room + 1} tokens.*{room}"):
        runner.forward(Forward(0, (20,) * (room + 1)))
    assert runner.n_decoded_tokens == 0
    logits, _ = runner.forward(Forward(0, (20,) * room))
    assert logits.shape == (1, runner.vocabulary.n_tokens)


def test_a_prompt_that_was_seen_is_not_decoded_again(runner: Runner) -> None:
    first, n_reused = runner.forward(Forward(0, PROMPT))
    assert n_reused == 0
    assert runner.n_decoded_tokens == len(PROMPT)
    again, n_reused = runner.forward(Forward(0, PROMPT))
    assert n_reused == len(PROMPT) - 1
    assert runner.n_decoded_tokens == len(PROMPT) + 1
    assert np.abs(first - again).max() < 0.1


def test_reuse_goes_by_token_ids_up_to_the_first_difference(runner: Runner) -> None:
    runner.forward(Forward(0, PROMPT))
    other = (*PROMPT[:30], 999, *PROMPT[31:])
    _, n_reused = runner.forward(Forward(0, other))
    assert n_reused == 30


def test_logits_do_not_depend_on_what_the_cache_held(runner: Runner) -> None:
    cold, _ = runner.forward(Forward(0, PROMPT))
    runner.forward(Forward(0, tuple(range(500, 560))))
    runner.forward(Forward(0, (*PROMPT[:40], 7, 8, 9)))
    runner.forward(Forward(40, PROMPT[40:50]))
    warm, n_reused = runner.forward(Forward(50, PROMPT[50:]))
    assert n_reused == 0
    assert np.abs(cold - warm).max() < 0.1
    assert cold.argmax() == warm.argmax()


def test_logits_of_the_last_tokens_come_in_order(runner: Runner) -> None:
    long = tuple(20 + i % 300 for i in range(BATCH_TOKENS + 10))
    many, _ = runner.forward(Forward(0, long, n_logits=20))
    assert many.shape == (20, runner.vocabulary.n_tokens)
    for back in (0, 9, 10, 19):
        one, _ = runner.forward(Forward(0, long[: len(long) - back]))
        assert np.abs(one[0] - many[19 - back]).max() < 0.1


def test_no_logits_fill_the_cache(runner: Runner) -> None:
    logits, _ = runner.forward(Forward(0, PROMPT, n_logits=0))
    assert logits.shape == (0, runner.vocabulary.n_tokens)
    _, n_reused = runner.forward(Forward(0, (*PROMPT, 9)))
    assert n_reused == len(PROMPT)


@pytest.mark.parametrize("step", [Forward(1, (5,)), Forward(-1, (5,)), Forward(0, (), 1), Forward(0, (5,), 2)])
def test_a_step_that_does_not_follow_is_an_error(runner: Runner, step: Forward) -> None:
    with pytest.raises(EngineError):
        runner.forward(step)


@pytest.mark.parametrize("token", [-1, 10**6])
def test_a_token_that_does_not_exist_is_an_error_and_the_runner_goes_on(runner: Runner, token: int) -> None:
    with pytest.raises(EngineError):
        runner.forward(Forward(0, (5, token)))
    logits, _ = runner.forward(Forward(0, PROMPT))
    assert np.isfinite(logits).all()


def test_a_cancelled_prefill_stops_between_batches(runner: Runner) -> None:
    answers = iter([False, True])
    logits, _ = runner.forward(Forward(0, (20,) * (BATCH_TOKENS + 100)), lambda: next(answers))
    assert len(logits) == 0
    assert runner.n_decoded_tokens == BATCH_TOKENS
    _, n_reused = runner.forward(Forward(0, (20,) * (BATCH_TOKENS + 100)))
    assert n_reused == BATCH_TOKENS


def test_closing_twice_is_harmless() -> None:
    runner = Runner(reader_path())
    runner.close()
    runner.close()


def test_the_vocabulary_loads_without_the_weights() -> None:
    vocabulary, metadata = load_vocabulary(reader_path())
    assert metadata["general.architecture"] == "llama"
    assert vocabulary.text(vocabulary.plain("The ferry")) == "The ferry"
