"""Model files from the Hugging Face hub, kept where huggingface_hub keeps them, so that other programs find them too.

huggingface_hub 1.x throws away what has come when a download fails; here it is kept beside the repository (in
``.fourcorners``), and the next run goes on from there, also that of another process. It comes over plain HTTP, since
the hub's other way (Xet) can't be taken up again.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fourcorners.errors import ModelFetchError, ModelLoadError
from fourcorners.models import checksums
from fourcorners.models.hub_errors import not_here, translated
from fourcorners.models.hub_file import HubFile

OWN_FOLDER = ".fourcorners"
ATTEMPTS = 5
MAX_WAIT_S = 8.0
_COMMIT = re.compile("[0-9a-f]{40}")

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Hub:
    """Where files come from and where they are kept; as huggingface_hub has it (HF_ENDPOINT, HF_HOME) unless given.

    Safe to use from several threads and processes: one downloads, the others wait for it.
    """

    endpoint: str | None = None
    cache_dir: Path | None = None

    def fetch(self, file: HubFile, *, check: bool = False, tell: Tell = lambda _: None) -> Path:
        """The path of ``file`` on this machine, all its parts beside it; downloads what is not here.

        The first part's path is given, whichever was named. One request a part where all is here; none where
        HF_HUB_OFFLINE is set or the revision is a commit. Each file is compared with the hub's checksum once;
        ``check`` does it again and downloads what does not match. ``tell`` hears what is downloaded. Raises
        ModelFetchError, and ModelLoadError where the copy on this machine was damaged.
        """
        _be_quiet()
        with translated(file, self.endpoint):
            paths = [self._fetch_part(part, check, tell) for part in file.parts]
        return paths[0]

    def cached(self, file: HubFile) -> Path | None:
        """The path of the copy on this machine, unchecked, or None. Asks nobody."""
        _be_quiet()
        with translated(file, self.endpoint):
            return self._local(file.parts[0])

    @property
    def folder(self) -> Path:
        """Where all repositories are kept."""
        from huggingface_hub import constants

        return self.cache_dir or Path(constants.HF_HUB_CACHE)

    def repo_folder(self, repo: str) -> Path:
        """Where the files of one repository are kept."""
        from huggingface_hub.file_download import repo_folder_name

        return self.folder / repo_folder_name(repo_id=repo, repo_type="model")

    def record(self, repo: str, etag: str) -> Path:
        """Where it is kept that a file of this content was checked."""
        return self.repo_folder(repo) / OWN_FOLDER / f"{etag}.json"

    def _fetch_part(self, file: HubFile, check: bool, tell: Tell) -> Path:
        path = self._local(file) if _is_commit(file.revision) else None
        if path is None:
            path = self._online(file, tell)
        etag = content_name(path)
        if not is_sound(path, etag, self.record(file.repo, etag), again=check):
            if not check:
                raise ModelLoadError(
                    f"model file '{path}' is damaged: it is not what the hub has under this name. Get it again: "
                    f"fourcorners models pull {file.spec}"
                )
            tell(f"{file.name} is damaged: getting it again")
            path.resolve().unlink()
            path.unlink(missing_ok=True)
            path = self._online(file, tell)
        return path

    def _online(self, file: HubFile, tell: Tell) -> Path:
        """Ask the hub what the file is now; without an answer take the copy that is here."""
        import httpx
        from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

        url = hf_hub_url(file.repo, file.name, revision=file.revision, endpoint=self.endpoint)
        try:
            if constants.HF_HUB_OFFLINE:
                raise OfflineModeIsEnabled
            found = get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT, endpoint=self.endpoint)
        except (httpx.TransportError, OfflineModeIsEnabled) as error:
            if (local := self._local(file)) is None:
                raise ModelFetchError(not_here(file)) from error
            return local
        except HfHubHTTPError as error:
            local = self._local(file) if error.response.status_code >= 500 else None
            if local is None:
                raise
            return local
        etag, size = found.etag or "", found.size or 0
        if checksums.is_checksum(etag) and found.commit_hash and 0 < size <= constants.MAX_HTTP_DOWNLOAD_SIZE:
            self._download(file, found.commit_hash, etag, size, tell)
        return self._linked(file)

    def _linked(self, file: HubFile) -> Path:
        """The file under its own name; huggingface_hub downloads only what ``_download`` left out."""
        from huggingface_hub import hf_hub_download

        return Path(
            hf_hub_download(file.repo, file.name, revision=file.revision, cache_dir=self.folder, endpoint=self.endpoint)
        )

    def _local(self, file: HubFile) -> Path | None:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(file.repo, file.name, self.folder, file.revision)
        return Path(found) if isinstance(found, str) else None

    def _download(self, file: HubFile, commit: str, etag: str, size: int, tell: Tell) -> None:
        """Put the content where huggingface_hub looks for it, once it is whole and what it should be."""
        from filelock import FileLock
        from huggingface_hub import hf_hub_url

        blob = self.repo_folder(file.repo) / "blobs" / etag
        part = self.repo_folder(file.repo) / OWN_FOLDER / f"{etag}.part"
        part.parent.mkdir(parents=True, exist_ok=True)
        blob.parent.mkdir(exist_ok=True)
        with FileLock(part.with_suffix(".lock")):
            if blob.exists():
                return
            n_here = _size_of(part)
            if n_here > size:
                part.unlink()
                n_here = 0
            self._check_room(file, part.parent, size - n_here)
            tell(f"{file.name}: {size / 1e6:,.1f} MB" + (f", {n_here / 1e6:,.1f} of them are here" if n_here else ""))
            url = hf_hub_url(file.repo, file.name, revision=commit, endpoint=self.endpoint)
            _get(url, part, size, Path(file.name).name)
            if not checksums.matches(part, etag):
                part.unlink()
                raise ModelFetchError(
                    f"what came of {file.name!r} is not what the hub says it is (checksum {etag[:12]}…), and was "
                    "thrown away: try again; if it stays so, something between here and the hub changes it"
                )
            part.replace(blob)
            checksums.remember(blob, self.record(file.repo, etag), etag)

    def _check_room(self, file: HubFile, folder: Path, n_bytes: int) -> None:
        free = shutil.disk_usage(folder).free
        if free < n_bytes:
            raise ModelFetchError(
                f"the disk is too full for {file.name!r}: {n_bytes / 1e6:,.0f} MB are missing, and '{folder}' has room "
                f"for {free / 1e6:,.0f} MB. Make room, or set HF_HOME to another folder"
            )


def content_name(path: Path) -> str:
    """The hub's name for the content of a cached file; empty where the cache has no links (Windows)."""
    return path.readlink().name if path.is_symlink() else ""


def is_sound(path: Path, etag: str, record: Path, *, again: bool = False) -> bool:
    """Whether a cached file is what the hub says. Reads it whole the first time, and when it was touched since."""
    if not checksums.is_checksum(etag):
        return True  # nothing to compare it with
    if not again and checksums.is_remembered(path, record, etag):
        return True
    if not checksums.matches(path, etag):
        return False
    checksums.remember(path, record, etag)
    return True


def _get(url: str, part: Path, size: int, shown_name: str) -> None:
    """Append to ``part`` until it is whole. Starts anew only after attempts that brought nothing."""
    import httpx
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]
    from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

    attempts: Any = Retrying(
        retry=retry_if_exception_type(httpx.TransportError),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_exponential_jitter(initial=0.2, max=MAX_WAIT_S),
        reraise=True,
    )
    for attempt in attempts:
        with attempt, part.open("ab") as file:
            http_get(
                url,
                file,
                resume_size=file.tell(),
                headers=build_hf_headers() | {"Accept-Encoding": "identity"},
                expected_size=size,
                displayed_filename=shown_name,
            )


def _is_commit(revision: str) -> bool:
    return bool(_COMMIT.fullmatch(revision))


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _be_quiet() -> None:
    """No telemetry, however huggingface_hub was imported before."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import constants

    constants.HF_HUB_DISABLE_TELEMETRY = True


__all__ = ["Hub", "content_name", "is_sound"]
