"""The header of real files, and of files that lie."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import gguf
import pytest
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType
from hypothesis import given
from hypothesis import strategies as st

from fourcorners.errors import ModelLoadError
from fourcorners.models import reader_path
from fourcorners.models.ggml_types import FILE_TYPES, TENSOR_TYPES
from fourcorners.models.gguf_header import read_header

READER = reader_path().read_bytes()


def pair(name: str, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", kind) + value


def a_file(*pairs: bytes, n_pairs: int | None = None, n_tensors: int = 0, version: int = 3, tail: bytes = b"") -> bytes:
    n_pairs = len(pairs) if n_pairs is None else n_pairs
    return b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_pairs) + b"".join(pairs) + tail


def tensor(n_weights: int, kind: int = 0, n_dimensions: int = 1, offset: int = 0) -> bytes:
    return struct.pack("<Q1sI", 1, b"t", n_dimensions) + struct.pack("<QIQ", n_weights, kind, offset)


def test_the_tables_are_those_of_the_gguf_package() -> None:
    assert {kind.value: (kind.name, *GGML_QUANT_SIZES[kind]) for kind in GGMLQuantizationType} == TENSOR_TYPES
    named = {kind.value: kind.name.split("_", 1)[1] for kind in LlamaFileType if kind is not LlamaFileType.GUESSED}
    assert named == FILE_TYPES


def test_the_bundled_reader_is_read_as_the_gguf_package_reads_it() -> None:
    header, reader = read_header(reader_path()), gguf.GGUFReader(reader_path())
    assert header.n_tensors == len(reader.tensors)
    assert header.n_parameters == sum(int(tensor.n_elements) for tensor in reader.tensors)
    assert sum(header.tensor_bytes.values()) == sum(int(tensor.n_bytes) for tensor in reader.tensors)
    for name, value in header.metadata.items():
        assert reader.fields[name].contents() == value
    for name, length in header.lengths.items():
        assert len(reader.fields[name].data) == length
    assert header.architecture == "llama"
    assert header.n_context_tokens == reader.fields["llama.context_length"].contents()
    assert header.n_vocabulary == len(reader.fields["tokenizer.ggml.tokens"].data)


@pytest.mark.extras
def test_vocabularies_of_all_families_are_read(vocabulary_folder: Path) -> None:
    for path in vocabulary_folder.glob("*.gguf"):
        header = read_header(path)
        assert header.architecture
        assert header.n_vocabulary > 1_000
        assert (header.n_tensors, header.quantisation) == (0, "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a GGUF"),
        (b"PK\x03\x04" * 9, "is not a GGUF"),
        (b"GGUF", "ends in the middle of its header"),
        (a_file(version=1), "GGUF version 1, but only"),
        (a_file(version=0x03000000), "big-endian"),
        (a_file(n_pairs=2**60), "1152921504606846976 key-value pairs, which can't be"),
        (a_file(n_tensors=2**40), "1099511627776 tensors, which can't be"),
        (a_file(n_pairs=3), "ends in the middle"),
        (a_file(pair("a", 8, struct.pack("<Q", 2**62))), "4611686018427387904 bytes, which can't be"),
        (a_file(pair("a", 8, struct.pack("<Q", 2**20))), "ends in the middle"),
        (a_file(pair("a", 9, struct.pack("<IQ", 8, 2**63))), "9223372036854775808 elements"),
        (a_file(pair("a", 9, struct.pack("<IQ", 12, 2**24))), "ends in the middle"),
        (a_file(pair("a", 9, struct.pack("<IQ", 9, 2))), "an array of type 9"),
        (a_file(pair("a", 77, b"")), "type 77"),
        (a_file(pair("a", 7, b"\1"), pair("a", 7, b"\1")), "the key 'a' twice"),
        (a_file(pair("general.alignment", 4, struct.pack("<I", 33))), "general.alignment=33"),
        (a_file(pair("general.alignment", 4, struct.pack("<I", 0))), "general.alignment=0"),
        (a_file(n_tensors=1, tail=tensor(8)), "ends after 57 of at least 96 bytes"),
        (a_file(n_tensors=1, tail=tensor(2**63)), "ends after"),
        (a_file(n_tensors=1, tail=tensor(1, offset=2**63)), "ends after"),
        (a_file(n_tensors=1, tail=tensor(1, kind=99)), r"unknown type \(99\)"),
        (a_file(n_tensors=1, tail=tensor(1, n_dimensions=2**31)), "2147483648 dimensions"),
    ],
)
def test_a_file_that_can_not_be_is_refused_with_the_reason(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelLoadError, match=message) as error:
        read_header(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("part", [0.0001, 0.01, 0.5, 0.99])
def test_a_truncated_model_is_told_at_once(tmp_path: Path, part: float) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(READER[: int(len(READER) * part)])
    with pytest.raises(ModelLoadError, match=r"ends (after|in the middle)"):
        read_header(path)


def test_a_path_that_can_not_be_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.gguf"):
        with pytest.raises(ModelLoadError, match="can't be read"):
            read_header(path)


@given(at=st.integers(4, 2_000), value=st.binary(min_size=1, max_size=8))
def test_any_bytes_in_the_header_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, at: int, value: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.gguf"
    path.write_bytes(READER[:at] + value + READER[at + len(value) :])
    with contextlib.suppress(ModelLoadError):
        read_header(path)
