"""What is on this machine, and how it goes away again; and that a fetched model answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gguf
import huggingface_hub.constants
import pytest

from fourcorners import init_llm
from fourcorners.errors import ModelFetchError
from fourcorners.llms.llama_cpp import LlamaCpp
from fourcorners.models import reader_path
from fourcorners.models.hub import Hub
from fourcorners.models.hub_file import hub_file
from fourcorners.models.shelf import cached_file, model_files, remove
from tests.models.hub_server import COMMIT, LocalHub, serving

READER = reader_path().read_bytes()
FILE = hub_file("hf:org/repo/reader.gguf")


@pytest.fixture
def local() -> Iterator[LocalHub]:
    with serving(LocalHub({"reader.gguf": READER, "cut.gguf": READER[:9_000]})) as local:
        yield local


@pytest.fixture
def hub(local: LocalHub, tmp_path: Path) -> Hub:
    return Hub(local.url, tmp_path / "cache")


def split_reader(folder: Path) -> list[Path]:
    """The bundled reader in three parts, as llama.cpp's own tools name and mark them."""
    reader = gguf.GGUFReader(reader_path())
    writer = gguf.GGUFWriter(folder / "parts.gguf", "llama", split_max_tensors=-(-len(reader.tensors) // 3))
    for name, entry in reader.fields.items():
        if not name.startswith(("GGUF.", "general.architecture")):
            sub = entry.types[-1] if entry.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, entry.contents(), entry.types[0], sub_type=sub)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(folder.glob("parts-*.gguf"))


def test_an_empty_cache_has_the_bundled_reader(hub: Hub) -> None:
    (model,) = model_files(hub)
    assert (model.spec, model.path, model.n_bytes, model.problem) == ("bundled", reader_path(), len(READER), "")
    assert model.header is not None


def test_what_was_fetched_is_listed_and_a_damaged_one_says_so(hub: Hub) -> None:
    hub.fetch(FILE)
    hub.fetch(hub_file("hf:org/repo/cut.gguf"))
    _, cut, whole = model_files(hub)
    assert (whole.spec, whole.n_bytes, whole.checked) == (FILE.spec, len(READER), True)
    assert cut.header is None
    assert "cut.gguf' ends" in cut.problem
    assert cached_file(hub, FILE) == whole
    with pytest.raises(ModelFetchError, match=r"fourcorners models pull llama_cpp:hf:org/repo/none.gguf"):
        cached_file(hub, hub_file("hf:org/repo/none.gguf"))


def test_a_commit_is_named_where_no_branch_leads_to_it(hub: Hub) -> None:
    pinned = hub_file(f"hf:org/repo/reader.gguf@{COMMIT}")
    hub.fetch(pinned)
    assert [model.spec for model in model_files(hub)] == ["bundled", pinned.spec]


def test_removing_frees_the_space_and_leaves_the_rest(hub: Hub) -> None:
    hub.fetch(FILE)
    cut = hub_file("hf:org/repo/cut.gguf")
    hub.fetch(cut)
    assert remove(hub, FILE) == len(READER)
    assert [model.spec for model in model_files(hub)] == ["bundled", cut.spec]
    assert remove(hub, cut) == 9_000
    assert not hub.repo_folder("org/repo").exists()
    with pytest.raises(ModelFetchError, match=r"nothing of llama_cpp:hf:org/repo/cut.gguf"):
        remove(hub, cut)


def test_removing_takes_what_came_of_an_interrupted_download(
    hub: Hub, local: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1_000)
    local.break_after = [5_000] + [0] * 99
    with pytest.raises(ModelFetchError):
        hub.fetch(FILE)
    assert remove(hub, FILE) == 5_000


def test_a_model_of_the_hub_answers_and_so_does_one_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = split_reader(tmp_path)
    assert len(parts) == 3
    with serving(LocalHub({"reader.gguf": READER} | {path.name: path.read_bytes() for path in parts})) as local:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", local.url)
        template = local.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        texts = []
        for name in ("reader.gguf", parts[1].name):
            llm = init_llm(f"llama_cpp:hf:org/repo/{name}", n_context_tokens=512, max_new_tokens=8)
            assert isinstance(llm, LlamaCpp)
            texts.append(llm.invoke("The boiler holds"))
            llm.close()
        assert texts[0] == texts[1]
        whole = {model.spec: model for model in model_files()}[f"llama_cpp:hf:org/repo/{parts[0].name}"]
    assert whole.header is not None
    assert (whole.header.n_parts, whole.checked) == (3, True)
    assert whole.n_bytes == sum(path.stat().st_size for path in parts)
    parts_here = sorted(whole.path.parent.glob("parts-*"))
    parts_here[2].unlink()
    missing = {model.spec: model for model in model_files()}[whole.spec]
    assert f"{parts[2].name} missing: fourcorners models pull" in missing.problem
