"""The one place that touches llama.cpp's model and context. Not thread-safe: one thread owns a runner."""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from fourcorners.engine.program import Forward, Logits
from fourcorners.engine.vocabulary import Vocabulary
from fourcorners.errors import ContextOverflow, EngineError, ModelLoadError, SettingsError

DEFAULT_CONTEXT_TOKENS = 4_096
SMALL_MODEL_BYTES = 64 * 2**20
"""Below this size threads cost more to wait for one another than they save; with other load, 40 times more."""
BATCH_TOKENS = 512
"""Tokens of one llama.cpp call. A cancelled request stops between two of them."""

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
    """A model with one sequence of cached tokens.

    ``n_context_tokens`` is the window: 0 takes the model's own, at most DEFAULT_CONTEXT_TOKENS. ``n_threads`` 0 takes
    the cores that the process may use, or one for a small model.
    """

    def __init__(self, path: str | os.PathLike[str], *, n_context_tokens: int = 0, n_threads: int = 0) -> None:
        self.path = Path(path)
        _check_file(self.path)
        _start_backend()
        self._model = _load(self.path, vocab_only=False)
        self.metadata = _metadata(self._model)
        self.vocabulary = Vocabulary(llama_cpp.llama_model_get_vocab(self._model))
        trained = int(llama_cpp.llama_model_n_ctx_train(self._model))
        self.n_context_tokens = n_context_tokens or min(trained, DEFAULT_CONTEXT_TOKENS)
        if not 16 <= self.n_context_tokens <= 1_048_576:
            raise SettingsError(f"n_context_tokens must be between 16 and 1048576, not {self.n_context_tokens}")
        self._context = self._new_context(n_threads or self._best_threads())
        self._batch = llama_cpp.llama_batch_init(BATCH_TOKENS, 0, 1)
        self._cached: list[int] = []
        self.n_decoded_tokens = 0

    def forward(self, step: Forward, cancelled: Callable[[], bool] = lambda: False) -> tuple[Logits, int]:
        """Run ``step``; returns the logits and how many of its tokens were already in the cache.

        Raises ContextOverflow where it does not fit, EngineError where llama.cpp fails. When ``cancelled`` turns true
        it stops before the next batch and answers with no logits.
        """
        end = step.position + len(step.tokens)
        if end > self.n_context_tokens:
            raise ContextOverflow(f"the prompt needs {end} tokens, but the window holds {self.n_context_tokens}")
        if not 0 <= step.position <= len(self._cached) or step.n_logits > len(step.tokens):
            raise EngineError(f"step at {step.position} with {len(step.tokens)} tokens does not follow the cache")
        n_reused = self._reuse(step)
        rows: list[Logits] = []
        todo = step.tokens[n_reused:]
        first_with_logits = len(todo) - step.n_logits
        for start in range(0, len(todo), BATCH_TOKENS):
            if cancelled():
                return np.zeros((0, self.vocabulary.n_tokens), np.float32), n_reused
            chunk = todo[start : start + BATCH_TOKENS]
            rows.extend(self._decode(chunk, first_with_logits - start))
        logits = np.stack(rows) if rows else np.zeros((0, self.vocabulary.n_tokens), np.float32)
        return logits, n_reused

    def close(self) -> None:
        """Free the model and its memory. A second call does nothing."""
        if self._context is not None:
            self.vocabulary.close()
            llama_cpp.llama_batch_free(self._batch)
            llama_cpp.llama_free(self._context)
            llama_cpp.llama_model_free(self._model)
            self._context = self._model = None

    def _reuse(self, step: Forward) -> int:
        """Keep the cached tokens that ``step`` repeats (compared by id), drop the rest; logits need a fresh decode."""
        most = len(step.tokens) - step.n_logits
        behind = self._cached[step.position : step.position + most]
        n_reused = next((i for i, (a, b) in enumerate(zip(behind, step.tokens, strict=False)) if a != b), len(behind))
        keep = step.position + n_reused
        if keep < len(self._cached):
            memory = llama_cpp.llama_get_memory(self._context)
            if not llama_cpp.llama_memory_seq_rm(memory, 0, keep, -1):
                llama_cpp.llama_memory_clear(memory, True)
                keep = 0
            del self._cached[keep:]
        if keep < step.position:
            raise EngineError("this model's memory can't be cut back; it can't be used for grounded decoding")
        return keep - step.position

    def _decode(self, tokens: Sequence[int], first_with_logits: int) -> list[Logits]:
        batch, base = self._batch, len(self._cached)
        batch.n_tokens = len(tokens)
        for index, token in enumerate(tokens):
            batch.token[index] = token
            batch.pos[index] = base + index
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = 0
            batch.logits[index] = index >= first_with_logits
        code = llama_cpp.llama_decode(self._context, batch)
        if code != 0:
            self._cached.clear()
            llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
            raise EngineError(f"llama.cpp failed to decode {len(tokens)} tokens (code {code}); try the request again")
        self._cached.extend(tokens)
        self.n_decoded_tokens += len(tokens)
        return [self._logits_of(index) for index in range(max(0, first_with_logits), len(tokens))]

    def _logits_of(self, index: int) -> Logits:
        pointer = llama_cpp.llama_get_logits_ith(self._context, index)
        return np.ctypeslib.as_array(pointer, shape=(self.vocabulary.n_tokens,)).copy()

    def _best_threads(self) -> int:
        if int(llama_cpp.llama_model_size(self._model)) < SMALL_MODEL_BYTES:
            return 1
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def _new_context(self, n_threads: int) -> Any:
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = self.n_context_tokens
        params.n_batch = params.n_ubatch = BATCH_TOKENS
        params.n_threads = params.n_threads_batch = n_threads
        params.n_seq_max = 1
        params.no_perf = True
        context = llama_cpp.llama_init_from_model(self._model, params)
        if not context:
            raise ModelLoadError(
                f"{self.path} could not be given a window of {self.n_context_tokens} tokens{_last_log()}"
            )
        return context


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
