"""Models of the hub, fetched by the real huggingface_hub from a hub on this machine."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest

from fourcorners.errors import ModelFetchError, ModelLoadError, SettingsError
from fourcorners.models.hub import Hub
from fourcorners.models.hub_file import HubFile, hub_file
from tests.models.hub_server import COMMIT, TOKEN, LocalHub, serving, sha256

CONTENT = os.urandom(3_000_000)
FILE = hub_file("hf:org/repo/model.Q4_0.gguf")


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """And small chunks: of the last one before a break, 10 MiB in earnest, nothing is kept."""
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
    monkeypatch.delenv("HF_TOKEN", raising=False)


@pytest.fixture
def local() -> Iterator[LocalHub]:
    with serving(LocalHub({"model.Q4_0.gguf": CONTENT, "model.Q8_0.gguf": b"GGUF", "README.md": b"#"})) as local:
        yield local


@pytest.fixture
def hub(local: LocalHub, tmp_path: Path) -> Hub:
    return Hub(local.url, tmp_path / "cache")


def partial(hub: Hub) -> list[int]:
    return [path.stat().st_size for path in hub.repo_folder("org/repo").glob(".fourcorners/*.part")]


# Names


@pytest.mark.parametrize(
    ("spec", "file"),
    [
        ("hf:a/b/c.gguf", HubFile("a/b", "c.gguf")),
        ("hf:a/b/c.gguf@v1.0", HubFile("a/b", "c.gguf", "v1.0")),
        ("hf:a/b/d/c.GGUF@refs/pr/1", HubFile("a/b", "d/c.GGUF", "refs/pr/1")),
    ],
)
def test_a_spec_names_repository_file_and_revision(spec: str, file: HubFile) -> None:
    assert hub_file(spec) == file
    assert file.spec == f"llama_cpp:{spec}"


@pytest.mark.parametrize(
    "spec", ["hf:", "hf:a/b", "hf:a/b/c.bin", "hf:a/c.gguf", "hf:a/b/c.gguf@", "hf:a/b/../c.gguf", "hf:a b/c/d.gguf"]
)
def test_any_other_spec_is_refused_with_the_form(spec: str) -> None:
    with pytest.raises(SettingsError, match=r"hf:ORG/REPO/FILE.gguf"):
        hub_file(spec)


def test_a_model_in_parts_names_them_all_and_the_first_leads() -> None:
    names = [part.name for part in HubFile("a/b", "x/m-00002-of-00003.gguf", "v1").parts]
    assert names == [f"x/m-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    with pytest.raises(SettingsError, match="two numbers"):
        _ = HubFile("a/b", "m-00004-of-00003.gguf").parts


# Getting


def test_a_file_is_downloaded_checked_and_found_by_huggingface_hub(hub: Hub, local: LocalHub) -> None:
    told: list[str] = []
    path = hub.fetch(FILE, tell=told.append)
    assert path.read_bytes() == CONTENT
    assert told == ["model.Q4_0.gguf: 3.0 MB"]
    record = json.loads(hub.record("org/repo", sha256(CONTENT)).read_text())
    assert (record["checksum"], record["bytes"]) == (sha256(CONTENT), len(CONTENT))
    assert huggingface_hub.try_to_load_from_cache("org/repo", FILE.name, hub.folder) == str(path)
    assert partial(hub) == []
    n_downloads = len(local.ranges)
    assert hub.fetch(FILE) == path
    assert hub.fetch(HubFile("org/repo", FILE.name, COMMIT)) == path
    assert len(local.ranges) == n_downloads == 1


def test_nothing_but_the_file_is_asked_for_and_nothing_is_told_of_this_machine(hub: Hub, local: LocalHub) -> None:
    hub.fetch(FILE)
    assert {path for _, path, _ in local.requests} <= {
        f"/org/repo/resolve/{revision}/{FILE.name}" for revision in ("main", COMMIT)
    } | {f"/cdn/{FILE.name}"}
    assert not any("torch" in headers["user-agent"] for _, _, headers in local.requests)


def test_a_broken_connection_is_taken_up_again(hub: Hub, local: LocalHub) -> None:
    local.break_after = [1_000_000, 0, 500_000]
    assert hub.fetch(FILE).read_bytes() == CONTENT
    assert local.ranges[0] == ""
    assert all(asked.startswith("bytes=") for asked in local.ranges[1:])
    assert len(local.ranges) == 4


def test_what_came_before_a_fault_is_kept_for_the_next_run(hub: Hub, local: LocalHub) -> None:
    local.break_after = [1_000_000] + [0] * 99
    with pytest.raises(ModelFetchError, match=r"did not come whole .*goes on where it broke off"):
        hub.fetch(FILE)
    assert partial(hub) == [1_000_000]
    local.break_after = []
    local.requests.clear()
    told: list[str] = []
    assert hub.fetch(FILE, tell=told.append).read_bytes() == CONTENT
    assert local.ranges == ["bytes=1000000-"]
    assert told == ["model.Q4_0.gguf: 3.0 MB, 1.0 of them are here"]


def test_a_server_without_ranges_starts_anew(hub: Hub, local: LocalHub) -> None:
    local.break_after, local.knows_ranges = [1_000_000], False
    assert hub.fetch(FILE).read_bytes() == CONTENT


def test_a_wrong_checksum_throws_away_what_came(hub: Hub, local: LocalHub) -> None:
    local.corrupt = True
    with pytest.raises(ModelFetchError, match=f"checksum {sha256(CONTENT)[:12]}"):
        hub.fetch(FILE)
    assert partial(hub) == []
    assert hub.cached(FILE) is None
    local.corrupt = False
    assert hub.fetch(FILE).read_bytes() == CONTENT


def test_all_parts_come_and_the_path_is_the_first(tmp_path: Path) -> None:
    files = {f"d/m-0000{n}-of-00003.gguf": bytes([n]) * 1000 for n in (1, 2, 3)}
    with serving(LocalHub(files)) as local:
        path = Hub(local.url, tmp_path).fetch(hub_file("hf:org/repo/d/m-00002-of-00003.gguf"))
    assert path.name == "m-00001-of-00003.gguf"
    assert [one.read_bytes()[0] for one in sorted(path.parent.iterdir())] == [1, 2, 3]


# Damage after the download


def test_a_file_that_was_touched_is_read_again_and_a_damaged_one_refused(hub: Hub, local: LocalHub) -> None:
    path = hub.fetch(FILE)
    os.utime(path)
    assert hub.fetch(FILE) == path
    path.resolve().write_bytes(b"GGUF" + CONTENT[4:])
    with pytest.raises(ModelLoadError, match=r"is damaged.*fourcorners models pull llama_cpp:hf:org/repo"):
        hub.fetch(FILE)
    told: list[str] = []
    assert hub.fetch(FILE, check=True, tell=told.append).read_bytes() == CONTENT
    assert "damaged: getting it again" in told[0]


# Without a hub


def test_the_copy_is_used_where_the_hub_does_not_answer(hub: Hub, local: LocalHub) -> None:
    path = hub.fetch(FILE)
    local.status = 503
    assert hub.fetch(FILE) == path
    assert Hub("http://127.0.0.1:9", hub.folder).fetch(FILE) == path  # nothing listens there
    with pytest.raises(ModelFetchError, match=r"not on this machine, and the hub can't be reached"):
        Hub("http://127.0.0.1:9", hub.folder).fetch(hub_file("hf:org/repo/other.gguf"))


def test_nobody_is_asked_offline(hub: Hub, local: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    path = hub.fetch(FILE)
    local.requests.clear()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert hub.fetch(FILE) == path
    with pytest.raises(ModelFetchError, match="HF_HUB_OFFLINE is set"):
        hub.fetch(hub_file("hf:org/repo/other.gguf"))
    assert local.requests == []


# What the hub refuses


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("hf:org/none/m.gguf", "no repository 'org/none', or it is private: then set HF_TOKEN"),
        ("hf:org/repo/m.gguf@v9", "org/repo has no revision 'v9'"),
        ("hf:org/repo/model.Q4_K.gguf", "has no file 'model.Q4_K.gguf'; it has 'model.Q4_0.gguf', 'model.Q8_0.gguf'$"),
        ("hf:-org/repo/m.gguf", "can't be the name of a repository"),
    ],
)
def test_a_name_that_is_not_there(hub: Hub, spec: str, message: str) -> None:
    with pytest.raises(ModelFetchError, match=message):
        hub.fetch(hub_file(spec))


def test_a_gated_repository_needs_a_token_that_has_access(
    hub: Hub, local: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.gated = True
    with pytest.raises(ModelFetchError, match=f"gated: accept its terms at {local.url}/org/repo, then set HF_TOKEN"):
        hub.fetch(FILE)
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(ModelFetchError, match="the account of HF_TOKEN has no access"):
        hub.fetch(FILE)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert hub.fetch(FILE).read_bytes() == CONTENT
    to_others = [headers for _, path, headers in local.requests if path.startswith("/cdn/")]
    assert to_others
    assert not any("authorization" in headers for headers in to_others)


def test_a_full_disk_is_told_before_and_during(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    full = shutil.disk_usage("/")._replace(free=1_000)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: full)
        with pytest.raises(ModelFetchError, match=r"disk is too full for 'model.Q4_0.gguf': 3 MB"):
            hub.fetch(FILE)

    def no_space(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", no_space)
    with pytest.raises(ModelFetchError, match="the disk is full"):
        hub.fetch(FILE)
