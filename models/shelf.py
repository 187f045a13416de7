"""Which model files are on this machine: the bundled reader, and what is in the hub's cache. Nothing is loaded."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fourcorners.errors import ModelFetchError, ModelLoadError
from fourcorners.models import checksums, reader_path
from fourcorners.models.gguf_header import GgufHeader, read_header
from fourcorners.models.hub import OWN_FOLDER, Hub, content_name
from fourcorners.models.hub_file import DEFAULT_REVISION, HubFile


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model on this machine: ``header`` is None where ``problem`` says why it can't be used.

    ``checksum`` is the hub's, of the first part; ``checked`` whether all parts were compared with theirs.
    """

    spec: str
    path: Path
    n_bytes: int
    header: GgufHeader | None
    problem: str = ""
    checksum: str = ""
    checked: bool = False


def model_files(hub: Hub | None = None) -> Iterator[ModelFile]:
    """All of them, the bundled one first, then by name. Reads the header of each."""
    hub = hub or Hub()
    yield file_at("bundled", reader_path())
    for file, paths in sorted(_in_cache(hub), key=lambda found: found[0].spec):
        yield _from_cache(hub, file, paths)


def file_at(spec: str, path: Path) -> ModelFile:
    """The model in one file at ``path``; a file that can't be used is told of, not raised."""
    n_bytes = path.stat().st_size if path.is_file() else 0
    try:
        return ModelFile(spec, path, n_bytes, read_header(path))
    except ModelLoadError as error:
        return ModelFile(spec, path, n_bytes, None, str(error))


def cached_file(hub: Hub, file: HubFile) -> ModelFile:
    """The copy of ``file`` in the hub's cache. Raises ModelFetchError where there is none."""
    first = hub.cached(file)
    if first is None:
        raise ModelFetchError(
            f"{file.parts[0].name!r} of {file.repo} is not on this machine: fourcorners models pull {file.spec}"
        )
    return _from_cache(hub, file.parts[0], _parts_beside(file, first))


def remove(hub: Hub, file: HubFile) -> int:
    """Delete all parts of ``file`` from the hub's cache, and what came of interrupted downloads of its repository.

    The bytes that became free: a content that another revision also has stays. Raises ModelFetchError where nothing
    of it is here.
    """
    folder = hub.repo_folder(file.repo)
    first = hub.cached(file)
    freed = 0
    for part in folder.glob(f"{OWN_FOLDER}/*.part"):
        freed += part.stat().st_size
        part.unlink()
    if first is None and not freed:
        raise ModelFetchError(f"nothing of {file.spec} is on this machine: fourcorners models list shows what is")
    for path in _parts_beside(file, first) if first else []:
        if path.is_symlink() or path.exists():
            freed += _remove_link(hub, file.repo, path)
    if not any(path.is_symlink() or path.is_file() for path in folder.glob("snapshots/**/*")):
        shutil.rmtree(folder, ignore_errors=True)
    return freed


def _remove_link(hub: Hub, repo: str, path: Path) -> int:
    """Delete one name, and its content where that was the last."""
    name, content = content_name(path), path.resolve()
    path.unlink()
    others = (other.resolve() for other in hub.repo_folder(repo).glob("snapshots/**/*") if other.is_symlink())
    if not name or content in others or not content.exists():
        return 0
    n_bytes = content.stat().st_size
    content.unlink()
    hub.record(repo, name).unlink(missing_ok=True)
    return n_bytes


def _in_cache(hub: Hub) -> Iterator[tuple[HubFile, list[Path]]]:
    """Each GGUF in the cache with its parts; a content that two revisions share only once, under the better name."""
    from huggingface_hub import scan_cache_dir

    if not hub.folder.is_dir():
        return
    for repo in scan_cache_dir(hub.folder).repos:
        if repo.repo_type != "model":
            continue
        seen: set[tuple[str, Path]] = set()
        for revision in sorted(repo.revisions, key=lambda one: (DEFAULT_REVISION not in one.refs, not one.refs)):
            label = _label(revision)
            for found in revision.files:
                name = found.file_path.relative_to(revision.snapshot_path).as_posix()
                if not name.lower().endswith(".gguf"):
                    continue
                file = HubFile(repo.repo_id, name, label)
                first = file.parts[0]
                is_here = (revision.snapshot_path / first.name).exists()
                lead = first.name if is_here else name  # of a model whose first part is missing, any
                if lead == name and (name, found.blob_path) not in seen:
                    seen.add((name, found.blob_path))
                    yield file, _parts_beside(file, found.file_path)


def _label(revision: Any) -> str:
    if DEFAULT_REVISION in revision.refs:
        return DEFAULT_REVISION
    return str(min(revision.refs, default=revision.commit_hash))


def _parts_beside(file: HubFile, path: Path) -> list[Path]:
    return [path.with_name(Path(part.name).name) for part in file.parts]


def _from_cache(hub: Hub, file: HubFile, paths: list[Path]) -> ModelFile:
    missing = [path.name for path in paths if not path.exists()]
    n_bytes = sum(path.stat().st_size for path in paths if path.exists())
    if missing:
        problem = f"{', '.join(missing)} missing: fourcorners models pull {file.spec}"
        return ModelFile(file.spec, paths[0], n_bytes, None, problem)
    etags = [content_name(path) for path in paths]
    checked = all(
        checksums.is_remembered(path, hub.record(file.repo, etag), etag)
        for path, etag in zip(paths, etags, strict=True)
    )
    try:
        for path in paths[1:]:
            read_header(path)
        return ModelFile(file.spec, paths[0], n_bytes, read_header(paths[0]), checksum=etags[0], checked=checked)
    except ModelLoadError as error:
        return ModelFile(file.spec, paths[0], n_bytes, None, str(error), etags[0], checked)


__all__ = ["ModelFile", "cached_file", "file_at", "model_files", "remove"]
