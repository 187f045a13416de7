"""A lane on llama.cpp. Not thread-safe: one thread owns it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from itertools import chain, repeat
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from fourcorners.engine.lane import BATCH_TOKENS, MAX_PADDING, Aborted, DecodeFault, OutOfCells, Saved, Span
from fourcorners.engine.program import Logits

_TRUTH_OF_TEXT = ctypes.cast(
    ctypes.CDLL(None if os.name == "posix" else "msvcrt").strlen, llama_cpp.ggml_abort_callback
)
"""What llama.cpp asks between two operations, whether to break off: the length of a text, empty or not. A callback in
Python would take the interpreter's lock a thousand times a step."""


class LlamaLane:
    """A Lane on llama.cpp. It has one more slot of its own, for copies on the way and for padding."""

    def __init__(self, model: Any, *, n_cells: int, n_slots: int, n_threads: int, n_vocab: int) -> None:
        self.n_slots, self._n_vocab = n_slots, n_vocab
        self._scratch = n_slots
        self._context = _new_context(model, n_cells, n_slots + 1, n_threads)
        if not self._context:
            raise MemoryError(f"no room for {n_cells} cells")
        self.n_cells = int(llama_cpp.llama_n_ctx(self._context))
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._arrays = _BatchArrays(n_slots + 1)
        self._abort = ctypes.create_string_buffer(2)
        llama_cpp.llama_set_abort_callback(self._context, _TRUTH_OF_TEXT, ctypes.addressof(self._abort))

    def decode(self, spans: Sequence[Span], n_padding: int = 0) -> list[Logits]:
        """As the protocol says."""
        n_rows = self._arrays.fill(spans, n_padding, self._scratch)
        code = llama_cpp.llama_decode(self._context, self._arrays.batch)
        self._abort[0] = b"\0"
        if code == 1:
            raise OutOfCells
        if code == 2:
            raise Aborted
        if code != 0:
            raise DecodeFault(f"llama.cpp failed to decode {self._arrays.batch.n_tokens} tokens (code {code})")
        if n_padding:
            self.remove(self._scratch, 0, -1)
        return self._rows(spans, n_rows)

    def abort(self) -> None:
        """As the protocol says."""
        self._abort[0] = b"1"

    def _rows(self, spans: Sequence[Span], n_rows: int) -> list[Logits]:
        if not n_rows:
            return [np.zeros((0, self._n_vocab), np.float32)] * len(spans)
        # llama.cpp keeps the rows that were asked for side by side, in the order of the batch.
        pointer = llama_cpp.llama_get_logits(self._context)
        address = ctypes.addressof(pointer.contents)
        buffer: Any = (ctypes.c_float * (n_rows * self._n_vocab)).from_address(address)
        rows = np.frombuffer(buffer, dtype=np.float32).reshape(n_rows, self._n_vocab)
        found, start = [], 0
        for span in spans:
            found.append(rows[start : start + span.n_logits])
            start += span.n_logits
        return found

    def copy(self, source: int, target: int, start: int, end: int) -> None:
        """As the protocol says."""
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, start, end)

    def remove(self, slot: int, start: int, end: int) -> None:
        """As the protocol says."""
        if not llama_cpp.llama_memory_seq_rm(self._memory, slot, start, end):
            raise DecodeFault(f"llama.cpp could not take {start} to {end} out of slot {slot}")

    def save(self, slot: int, start: int, end: int) -> Saved:
        """As the protocol says."""
        self.copy(slot, self._scratch, start, end)
        size = int(llama_cpp.llama_state_seq_get_size(self._context, self._scratch))
        data = np.empty(size, np.uint8)
        written = llama_cpp.llama_state_seq_get_data(self._context, _bytes_of(data), size, self._scratch)
        self.remove(self._scratch, 0, -1)
        if written != size:
            raise DecodeFault(f"llama.cpp saved {written} of {size} bytes")
        return Saved(data, size)

    def load(self, slot: int, saved: Saved) -> bool:
        """As the protocol says."""
        read = llama_cpp.llama_state_seq_set_data(self._context, _bytes_of(saved.data), saved.n_bytes, slot)
        if not read:
            self.remove(slot, 0, -1)
        return bool(read)

    def set_threads(self, n: int) -> None:
        """As the protocol says."""
        llama_cpp.llama_set_n_threads(self._context, n, n)

    def clear(self) -> None:
        """As the protocol says."""
        llama_cpp.llama_memory_clear(self._memory, True)

    def close(self) -> None:
        """As the protocol says."""
        if self._context is not None:
            llama_cpp.llama_free(self._context)
            self._context = self._memory = None


def _new_context(model: Any, n_cells: int, n_slots: int, n_threads: int) -> Any:
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = n_cells
    params.n_batch = BATCH_TOKENS + MAX_PADDING
    params.n_ubatch = params.n_batch  # one piece of work, all of it or, if it is broken off, nothing
    params.n_threads = params.n_threads_batch = n_threads
    params.n_seq_max = n_slots
    params.kv_unified = True  # slots share cells; separate streams would copy every shared document
    params.swa_full = True  # else sliding-window models forget cells that a later cut needs
    params.no_perf = True
    return llama_cpp.llama_init_from_model(model, params)


class _BatchArrays:
    """llama.cpp's batch over numpy arrays, so that it is filled without a Python loop over tokens."""

    def __init__(self, n_slots: int) -> None:
        room = BATCH_TOKENS + MAX_PADDING
        self._tokens = np.zeros(room, np.int32)
        self._positions = np.zeros(room, np.int32)
        self._n_slots_of = np.ones(room, np.int32)
        self._slot_pointers = np.zeros(room, np.uint64)
        self._wanted = np.zeros(room, np.int8)
        self._slots = np.arange(n_slots, dtype=np.int32)
        self._pointer_of_slot = self._slots.ctypes.data + 4 * self._slots.astype(np.uint64)
        self.batch = llama_cpp.llama_batch()
        self.batch.token = _pointer(self._tokens, ctypes.c_int32)
        self.batch.pos = _pointer(self._positions, ctypes.c_int32)
        self.batch.n_seq_id = _pointer(self._n_slots_of, ctypes.c_int32)
        self.batch.seq_id = _pointer(self._slot_pointers, ctypes.POINTER(ctypes.c_int32))
        self.batch.logits = _pointer(self._wanted, ctypes.c_int8)

    def fill(self, spans: Sequence[Span], n_padding: int, scratch: int) -> int:
        """Put the spans in; returns how many rows of logits are asked for."""
        lengths = [len(span.tokens) for span in spans]
        n = sum(lengths)
        self._tokens[:n] = list(chain.from_iterable(span.tokens for span in spans))
        self._positions[:n] = list(
            chain.from_iterable(range(s.position, s.position + k) for s, k in zip(spans, lengths, strict=True))
        )
        slots = list(chain.from_iterable(repeat(s.slot, k) for s, k in zip(spans, lengths, strict=True)))
        self._slot_pointers[:n] = self._pointer_of_slot[slots]
        self._wanted[: n + n_padding] = 0
        at = n_rows = 0
        for span, length in zip(spans, lengths, strict=True):
            at += length
            self._wanted[at - span.n_logits : at] = 1
            n_rows += span.n_logits
        if n_padding:
            self._tokens[n : n + n_padding] = 0
            self._positions[n : n + n_padding] = range(n_padding)
            self._slot_pointers[n : n + n_padding] = self._pointer_of_slot[scratch]
        self.batch.n_tokens = n + n_padding
        return n_rows


def _pointer(array: NDArray[Any], kind: Any) -> Any:
    return ctypes.cast(array.ctypes.data, ctypes.POINTER(kind))


def _bytes_of(array: NDArray[np.uint8]) -> Any:
    return ctypes.cast(array.ctypes.data, ctypes.POINTER(ctypes.c_uint8))
