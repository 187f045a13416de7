"""A model in llama.cpp, loaded and checked, with its two lanes. Not thread-safe: one thread owns a runner."""

from __future__ import annotations

import ctypes
import os
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llama_cpp

from fourcorners.engine.cost import StepCost, cached, machine_key, measure
from fourcorners.engine.lane import BATCH_TOKENS, MAX_PADDING, Span
from fourcorners.engine.llama_lane import LlamaLane
from fourcorners.engine.vocabulary import Vocabulary
from fourcorners.errors import ModelLoadError, SettingsError

DEFAULT_CONTEXT_TOKENS = 4_096
SMALL_MODEL_BYTES = 64 * 2**20
"""Below this size threads cost more to wait for one another than they save; with other load, 40 times more."""
DEFAULT_CACHE_BYTES = 2**30
APART_SLOTS = 2
"""Prompts that are prefilled by turns, so that a short one need not wait for the end of a long one."""
APART_EXTRA = 1_024
"""Cells of the apart lane beyond one window."""
MIN_CELLS = BATCH_TOKENS + MAX_PADDING
"""llama.cpp takes no larger batch than a context has cells, and ends the process over one that is."""

_backend_lock = threading.Lock()
_backend_ready = False
_log_lines: list[str] = []


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _keep_log(level: int, text: bytes, _: ctypes.c_void_p) -> None:
    """Keep llama.cpp's last words for error messages, and the terminal clean."""
    if level >= 3:
        _log_lines.append(text.decode("utf-8", "replace").strip())
        del _log_lines[:-20]


def _start_backend() -> None:
    global _backend_ready
    with _backend_lock:
        if not _backend_ready:
            llama_cpp.llama_log_set(_keep_log, ctypes.c_void_p(0))
            llama_cpp.llama_backend_init()
            _backend_ready = True


class Runner:
    """A loaded model with its two lanes.

    ``n_context_tokens`` is the window of one request: 0 takes the model's own, at most DEFAULT_CONTEXT_TOKENS.
    ``n_cache_tokens`` is what all running requests have together: 0 takes four windows, fewer where that would be
    more than a GiB. ``n_threads`` 0 takes the cores that the process may use, or one for a small model.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        n_context_tokens: int = 0,
        n_cache_tokens: int = 0,
        n_threads: int = 0,
        max_running: int = 16,
    ) -> None:
        self.path = Path(path)
        _check_file(self.path)
        _start_backend()
        self._model = _load(self.path, vocab_only=False)
        self.metadata = _metadata(self._model)
        self.vocabulary = Vocabulary(llama_cpp.llama_model_get_vocab(self._model))
        trained = int(llama_cpp.llama_model_n_ctx_train(self._model))
        self.n_context_tokens = n_context_tokens or min(trained, DEFAULT_CONTEXT_TOKENS)
        self.n_threads = n_threads or self._best_threads()
        self.can_share = not (
            llama_cpp.llama_model_is_recurrent(self._model) or llama_cpp.llama_model_is_hybrid(self._model)
        )
        self._lanes: list[LlamaLane] = []
        try:
            self._check_window()
            self.main = self._lane(self._n_cells(n_cache_tokens), max_running + 1)
            self.apart = self._lane(self.n_context_tokens + APART_EXTRA, APART_SLOTS + 1) if self.can_share else None
        except BaseException:
            self.close()
            raise

    def step_cost(self, budget_seconds: float = 0.8) -> StepCost:
        """What a step costs by the number of tokens, measured now (within the budget) or on an earlier day."""
        return cached(machine_key(self.path, self.n_threads), lambda: measure(self._timed_step, budget_seconds))

    def close(self) -> None:
        """Free the model and its memory. A second call does nothing."""
        if self._model is not None:
            self.vocabulary.close()
            for lane in self._lanes:
                lane.close()
            llama_cpp.llama_model_free(self._model)
            self._model = None

    def _timed_step(self, n_tokens: int) -> float:
        """Seconds of a batch of ``n_tokens``: each in a slot of its own as in decoding, more as one prompt."""
        lane, spans = self.main, [Span(slot, 0, (0,), 1) for slot in range(min(n_tokens, self.main.n_slots))]
        if n_tokens > len(spans):
            lane, spans = self.apart or self.main, [Span(0, 0, [0] * n_tokens, 1)]
        started = time.perf_counter()
        lane.decode(spans)
        taken = time.perf_counter() - started
        lane.clear()
        return taken

    def _lane(self, n_cells: int, n_slots: int) -> LlamaLane:
        try:
            lane = LlamaLane(
                self._model,
                n_cells=max(n_cells, MIN_CELLS),
                n_slots=n_slots,
                n_threads=self.n_threads,
                n_vocab=self.vocabulary.n_tokens,
            )
        except MemoryError:
            raise ModelLoadError(f"{self.path} could not be given a cache of {n_cells} tokens{_last_log()}") from None
        self._lanes.append(lane)
        return lane

    def _check_window(self) -> None:
        if not 16 <= self.n_context_tokens <= 1_048_576:
            raise SettingsError(f"n_context_tokens must be between 16 and 1048576, not {self.n_context_tokens}")

    def _n_cells(self, wanted: int) -> int:
        if wanted and wanted < self.n_context_tokens:
            raise SettingsError(
                f"n_cache_tokens={wanted} is less than the window of one request, {self.n_context_tokens} tokens"
            )
        affordable = DEFAULT_CACHE_BYTES // max(1, self._bytes_per_cell())
        return wanted or max(self.n_context_tokens, min(4 * self.n_context_tokens, affordable))

    def _bytes_per_cell(self) -> int:
        layers = int(llama_cpp.llama_model_n_layer(self._model))
        heads = max(1, int(llama_cpp.llama_model_n_head(self._model)))
        width = int(llama_cpp.llama_model_n_embd(self._model)) // heads
        return 2 * 2 * layers * width * int(llama_cpp.llama_model_n_head_kv(self._model))

    def _best_threads(self) -> int:
        if int(llama_cpp.llama_model_size(self._model)) < SMALL_MODEL_BYTES:
            return 1
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_file(path: Path) -> None:
    """Refuse what is no GGUF before native code sees it."""
    if not path.is_file():
        raise ModelLoadError(f"no model file at {str(path)!r}: give the path of a .gguf file")
    with path.open("rb") as file:
        head = file.read(24)
    if len(head) < 24 or head[:4] != b"GGUF":
        raise ModelLoadError(
            f"{str(path)!r} is not a GGUF file (it starts with {head[:4]!r}): convert the model to GGUF"
        )
    version, n_tensors, n_keys = struct.unpack("<IQQ", head[4:])
    if not 2 <= version <= 3 or n_tensors > 1_000_000 or n_keys > 1_000_000:
        raise ModelLoadError(f"{str(path)!r} has a damaged GGUF header (version {version}): fetch it again")


def _load(path: Path, *, vocab_only: bool) -> Any:
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = vocab_only
    params.n_gpu_layers = 0
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    if not model:
        raise ModelLoadError(f"{str(path)!r} could not be loaded{_last_log()}: it may be truncated; fetch it again")
    return model


def load_vocabulary(path: str | os.PathLike[str]) -> tuple[Vocabulary, dict[str, str]]:
    """The vocabulary and metadata of a GGUF without its weights (vocabulary-only files too); never freed."""
    _check_file(Path(path))
    _start_backend()
    model = _load(Path(path), vocab_only=True)
    return Vocabulary(llama_cpp.llama_model_get_vocab(model)), _metadata(model)


def _metadata(model: Any) -> dict[str, str]:
    """All scalar metadata of the GGUF as text, the chat template among it."""
    found = {}
    for index in range(llama_cpp.llama_model_meta_count(model)):
        key = _read(llama_cpp.llama_model_meta_key_by_index, model, index)
        found[key] = _read(llama_cpp.llama_model_meta_val_str_by_index, model, index)
    return found


def _read(getter: Callable[..., int], model: Any, index: int) -> str:
    room = 256
    while True:
        buffer = ctypes.create_string_buffer(room)
        length = getter(model, index, buffer, room)
        if length < room:
            return buffer.raw[: max(length, 0)].decode("utf-8", "replace")
        room = length + 1


def _last_log() -> str:
    return f" ({_log_lines[-1]})" if _log_lines else ""
