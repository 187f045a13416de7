"""Turns llama.cpp's saved cells from one layout of the values into the other.

A context without flash attention keeps the values of a layer as columns (all cells of one dimension side by side), one
with it as rows (all dimensions of one cell). llama.cpp refuses to load the one into the other. The format is that of
``llama_state_seq_get_data`` in llama.cpp as of 2026 (``llama_kv_cache::state_write``); it is not promised to stay, so
whoever converts has to check by experiment that it works (``runner.py`` does when a model is loaded).
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

_HEAD = struct.Struct("<IiII")  # magic number, slot, streams, cells
_CELL_BYTES = 12  # position, number of slots (one), the slot
_LAYERS = struct.Struct("<II")  # values as columns?, layers
_KEYS = struct.Struct("<iQ")  # type, bytes a row
_ROWS = struct.Struct("<iQ")
_COLUMNS = struct.Struct("<iII")  # type, bytes an element, dimensions
_KIND_OF_BYTES = {2: np.uint16, 4: np.uint32}
_BYTES_OF_TYPE = {0: 4, 1: 2, 30: 2}  # F32, F16, BF16; a quantised row has no columns


class UnknownLayout(Exception):
    """These are not saved cells as this module knows them. Internal to the engine."""


def converted(data: Bytes, *, to_columns: bool) -> Bytes:
    """``data`` with its values as columns, or as rows; itself where they are already. About 5 ms for 1,000 tokens of a
    135M model. Raises UnknownLayout."""
    try:
        return _Converter(data).run(to_columns)
    except (struct.error, ValueError, KeyError, IndexError) as error:
        raise UnknownLayout(str(error)) from error


class _Converter:
    """Walks through both at once: the two layouts are equally long, and differ in the values alone."""

    def __init__(self, data: Bytes) -> None:
        self._data, self._out, self._at = data, np.empty_like(data), 0

    def run(self, to_columns: bool) -> Bytes:
        _, _, n_streams, n_cells = self._copy(_HEAD)
        if n_streams != 1 or n_cells == 0:
            raise ValueError(f"{n_streams} streams of {n_cells} cells")
        self._copy_bytes(n_cells * _CELL_BYTES)
        are_columns, n_layers = self._peek(_LAYERS)
        if are_columns == to_columns:
            return self._data
        self._put(_LAYERS, to_columns, n_layers)
        for _ in range(n_layers):
            self._copy_bytes(self._copy(_KEYS)[1] * n_cells)
        for _ in range(n_layers):
            if to_columns:
                self._to_columns(n_cells)
            else:
                self._to_rows(n_cells)
        if self._at != len(self._data):
            raise ValueError(f"{len(self._data) - self._at} bytes are left over")
        return self._out

    def _to_rows(self, n_cells: int) -> None:
        kind, n_bytes, n_dimensions = self._peek(_COLUMNS)
        self._put(_ROWS, kind, n_bytes * n_dimensions)
        self._turn(n_bytes, n_dimensions, n_cells)

    def _to_columns(self, n_cells: int) -> None:
        kind, row_bytes = self._peek(_ROWS)
        n_bytes = _BYTES_OF_TYPE[kind]
        self._put(_COLUMNS, kind, n_bytes, row_bytes // n_bytes)
        self._turn(n_bytes, n_cells, row_bytes // n_bytes)

    def _turn(self, n_bytes: int, n_rows: int, n_columns: int) -> None:
        """Transpose the values of one layer."""
        end = self._at + n_bytes * n_rows * n_columns
        kind = _KIND_OF_BYTES[n_bytes]
        source = self._data[self._at : end].view(kind).reshape(n_rows, n_columns)
        self._out[self._at : end].view(kind).reshape(n_columns, n_rows)[...] = source.T
        self._at = end

    def _peek(self, form: struct.Struct) -> tuple[int, ...]:
        return form.unpack(self._data[self._at : self._at + form.size].tobytes())

    def _put(self, form: struct.Struct, *values: int) -> None:
        self._out[self._at : self._at + form.size] = np.frombuffer(form.pack(*values), np.uint8)
        self._at += form.size

    def _copy(self, form: struct.Struct) -> tuple[int, ...]:
        found = self._peek(form)
        self._copy_bytes(form.size)
        return found

    def _copy_bytes(self, n: int) -> None:
        if self._at + n > len(self._data):
            raise ValueError("the data is cut off")
        self._out[self._at : self._at + n] = self._data[self._at : self._at + n]
        self._at += n
