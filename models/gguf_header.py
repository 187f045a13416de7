"""What a GGUF says of itself, read without loading it and without trusting a single length in it.

The layout is that of ggml's ``docs/gguf.md``, versions 2 and 3, little-endian: magic, counts, key-value pairs, one
entry for each tensor, then the tensors' data.
"""

from __future__ import annotations

import math
import os
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fourcorners.errors import ModelLoadError
from fourcorners.models.ggml_types import FILE_TYPES, TENSOR_TYPES, TensorType

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_ENTRIES = 65_536
"""Of key-value pairs and of tensors; the largest models have some thousands."""
MAX_HEADER_BYTES = 2**28
MAX_STRING_BYTES = 16 * 2**20
MAX_ELEMENTS = 2**24
"""Of an array; the largest vocabularies have some hundred thousand tokens."""
MAX_DIMENSIONS = 4
DEFAULT_ALIGNMENT = 32
READ_BYTES = 2**18

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9

Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """The metadata and the sum of the tensors. Of arrays only the lengths are kept, in ``lengths``."""

    version: int
    metadata: Mapping[str, Value]
    lengths: Mapping[str, int]
    n_tensors: int
    n_parameters: int
    tensor_bytes: Mapping[str, int]
    """By the name of the tensor type."""
    file_bytes: int

    @property
    def architecture(self) -> str:
        """As llama.cpp names it: ``llama``, ``qwen2`` …; empty where the file does not say."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def quantisation(self) -> str:
        """What most of the weights are: by the file's own word, else by bytes; empty without tensors."""
        said = self.metadata.get("general.file_type")
        if self.n_tensors and isinstance(said, int) and said in FILE_TYPES:
            return FILE_TYPES[said]
        return max(self.tensor_bytes, key=lambda name: self.tensor_bytes[name], default="")

    @property
    def n_context_tokens(self) -> int:
        """The window that the model was trained for; 0 where the file does not say."""
        said = self.metadata.get(f"{self.architecture}.context_length")
        return said if isinstance(said, int) else 0

    @property
    def n_vocabulary(self) -> int:
        """Tokens of the vocabulary."""
        return self.lengths.get("tokenizer.ggml.tokens", 0)

    @property
    def n_parts(self) -> int:
        """Of how many files the model is made."""
        said = self.metadata.get("split.count")
        return max(said, 1) if isinstance(said, int) else 1

    @property
    def text_metadata(self) -> dict[str, str]:
        """The metadata as llama.cpp gives it: all values as text."""
        return {
            name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in self.metadata.items()
        }


def read_header(path: str | os.PathLike[str]) -> GgufHeader:
    """Read the header of a GGUF: milliseconds, some tenths of a second for a large vocabulary; little memory.

    Raises ModelLoadError for a file that is missing, is no GGUF, ends too early (in its tensors too), or whose counts
    can't be true.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _Reader(file, path).read()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ModelLoadError(f"model file '{path}' can't be read ({reason}): check the path") from error


class _Reader:
    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self._size = os.fstat(file.fileno()).st_size
        self._data, self._at = bytearray(), 0
        self._lengths: dict[str, int] = {}

    def read(self) -> GgufHeader:
        if self._size < len(MAGIC) or self._bytes(len(MAGIC)) != MAGIC:
            raise self._bad("is not a GGUF: it does not begin with 'GGUF'")
        version = self._number("<I")
        if version not in VERSIONS:
            kind = "big-endian" if version & 0xFFFF == 0 else f"GGUF version {version}"
            raise self._bad(f"is {kind}, but only versions 2 and 3, little-endian, are read: convert the model again")
        n_tensors = self._count("tensors")
        metadata = self._metadata(self._count("key-value pairs"))
        tensors = [self._tensor() for _ in range(n_tensors)]
        self._check_data(self._at, metadata, tensors)
        sizes: Counter[str] = Counter()
        for tensor_type, n_weights, _ in tensors:
            sizes[tensor_type.name] += _bytes_of(tensor_type, n_weights)
        n_parameters = sum(n_weights for _, n_weights, _ in tensors)
        return GgufHeader(version, metadata, self._lengths, n_tensors, n_parameters, dict(sizes), self._size)

    def _metadata(self, n_pairs: int) -> dict[str, Value]:
        found: dict[str, Value] = {}
        for _ in range(n_pairs):
            name = self._string()
            if name in found or name in self._lengths:
                raise self._bad(f"has the key {name[:80]!r} twice")
            kind = self._number("<I")
            if kind == _ARRAY:
                self._lengths[name] = self._skip_array(name)
            else:
                found[name] = self._string() if kind == _STRING else self._scalar(kind, name)
        return found

    def _skip_array(self, name: str) -> int:
        kind, n_elements = self._number("<I"), self._number("<Q")
        if n_elements > MAX_ELEMENTS:
            raise self._bad(f"says that {name[:80]!r} has {n_elements} elements, which can't be")
        if kind == _STRING:
            for _ in range(n_elements):
                self._skip(self._number("<Q"))
        elif kind in _SCALARS:
            self._skip(n_elements * struct.calcsize(_SCALARS[kind]))
        else:
            raise self._bad(f"has {name[:80]!r} of an unknown kind (an array of type {kind})")
        return n_elements

    def _tensor(self) -> tuple[TensorType, int, int]:
        """Its type, number of weights, and where it begins in the data."""
        name = self._string()
        n_dimensions = self._number("<I")
        if n_dimensions > MAX_DIMENSIONS:
            raise self._bad(f"says that tensor {name[:80]!r} has {n_dimensions} dimensions, which can't be")
        n_weights = math.prod(self._number("<Q") for _ in range(n_dimensions))
        kind, offset = self._number("<I"), self._number("<Q")
        if kind not in TENSOR_TYPES:
            raise self._bad(f"has tensor {name[:80]!r} of an unknown type ({kind}): it may be newer than this program")
        return TENSOR_TYPES[kind], n_weights, offset

    def _check_data(self, end: int, metadata: Mapping[str, Value], tensors: list[tuple[TensorType, int, int]]) -> None:
        alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise self._bad(f"says general.alignment={alignment!r}, which is no power of two")
        start = -(-end // alignment) * alignment
        needed = start + max((offset + _bytes_of(kind, n) for kind, n, offset in tensors), default=0)
        if tensors and needed > self._size:
            raise self._bad(f"ends after {self._size} of at least {needed} bytes: get it again")

    def _scalar(self, kind: int, name: str) -> Value:
        if kind not in _SCALARS:
            raise self._bad(f"has {name[:80]!r} of an unknown kind (type {kind})")
        value: Value = struct.unpack(_SCALARS[kind], self._bytes(struct.calcsize(_SCALARS[kind])))[0]
        return value

    def _count(self, what: str) -> int:
        number = self._number("<Q")
        if number > MAX_ENTRIES:
            raise self._bad(f"says that it has {number} {what}, which can't be")
        return number

    def _number(self, form: str) -> int:
        n_bytes = struct.calcsize(form)
        self._need(n_bytes)
        self._at += n_bytes
        return int(struct.unpack_from(form, self._data, self._at - n_bytes)[0])

    def _string(self) -> str:
        n_bytes = self._number("<Q")
        if n_bytes > MAX_STRING_BYTES:
            raise self._bad(f"says that a text in its header has {n_bytes} bytes, which can't be")
        return self._bytes(n_bytes).decode("utf-8", "replace")

    def _bytes(self, n_bytes: int) -> bytes:
        self._skip(n_bytes)
        return bytes(self._data[self._at - n_bytes : self._at])

    def _skip(self, n_bytes: int) -> None:
        self._need(n_bytes)
        self._at += n_bytes

    def _need(self, n_bytes: int) -> None:
        """Have so many bytes more in memory. One at a time, a vocabulary's 300,000 lengths would take seconds."""
        missing = self._at + n_bytes - len(self._data)
        if missing <= 0:
            return
        if self._at + n_bytes > MAX_HEADER_BYTES:
            raise self._bad(f"has a header of more than {MAX_HEADER_BYTES // 2**20} MiB, which can't be")
        if self._at + n_bytes > self._size:
            raise self._bad(f"ends in the middle of its header, after {self._size} bytes: get it again")
        self._data += self._file.read(max(missing, READ_BYTES))
        if self._at + n_bytes > len(self._data):
            raise self._bad("became shorter while it was read: get it again")

    def _bad(self, what: str) -> ModelLoadError:
        return ModelLoadError(f"model file '{self._path}' {what}")


def _bytes_of(kind: TensorType, n_weights: int) -> int:
    return -(-n_weights // kind.block_size) * kind.block_bytes
