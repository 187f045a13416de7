"""What goes wrong with the hub, said in our own errors: in this one place."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from fourcorners.errors import FourCornersError, ModelFetchError
from fourcorners.models.hub_file import HubFile

SHOWN_NAMES = 12
OFFLINE = "HF_HUB_OFFLINE"


@contextmanager
def translated(file: HubFile, endpoint: str | None) -> Iterator[None]:
    """Raise what huggingface_hub and its transport raise as ModelFetchError, the cause kept."""
    import httpx
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        yield
    except FourCornersError:
        raise
    except HfHubHTTPError as error:
        raise ModelFetchError(_refused(error, file, endpoint)) from error
    except HFValidationError as error:
        raise ModelFetchError(f"{file.repo!r} can't be the name of a repository: {error}") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise ModelFetchError(not_here(file)) from error
    except (httpx.TransportError, OSError) as error:
        raise ModelFetchError(_interrupted(error, file)) from error


def not_here(file: HubFile) -> str:
    """For a hub that is not asked, or does not answer, and no copy of ``file``."""
    from huggingface_hub import constants

    asked = f"the hub is not asked ({OFFLINE} is set)" if constants.HF_HUB_OFFLINE else "the hub can't be reached"
    return (
        f"{file.name!r} of {file.repo} is not on this machine, and {asked}: fetch it where there is a network "
        f"(fourcorners models pull {file.spec})"
    )


def _refused(error: Any, file: HubFile, endpoint: str | None) -> str:
    """What the hub answered, as a sentence."""
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import (
        GatedRepoError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    page = f"{endpoint or constants.ENDPOINT}/{file.repo}"
    if isinstance(error, GatedRepoError):
        if get_token():
            return f"{file.repo} is gated, and the account of HF_TOKEN has no access to it: ask for it at {page}"
        return f"{file.repo} is gated: accept its terms at {page}, then set HF_TOKEN to a token of that account"
    if isinstance(error, RevisionNotFoundError):
        return f"{file.repo} has no revision {file.revision!r}: see {page}"
    if isinstance(error, RemoteEntryNotFoundError):
        return f"{file.repo} has no file {file.name!r}; {_names(file, endpoint)}"
    if isinstance(error, RepositoryNotFoundError):
        token = "the account of HF_TOKEN may not see it" if get_token() else "it is private: then set HF_TOKEN"
        return f"there is no repository {file.repo!r}, or {token}. Check the name at {page}"
    status = error.response.status_code
    return f"the hub answered {status} for {file.name!r} of {file.repo}: try again later"


def _names(file: HubFile, endpoint: str | None) -> str:
    """What there is instead, the likeliest first."""
    from huggingface_hub import HfApi

    try:
        found = HfApi(endpoint=endpoint).list_repo_files(file.repo, revision=file.revision)
    except Exception:  # only an addition to an error that is on its way
        return "see its page for the names that are there"
    models = [name for name in found if name.lower().endswith(".gguf")]
    if not models:
        return "it has no GGUF at all: look for a repository with GGUF in its name"
    near = get_close_matches(file.name, models, n=SHOWN_NAMES, cutoff=0.3)
    names = [*near, *(name for name in models if name not in near)]
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return f"it has {', '.join(map(repr, names[:SHOWN_NAMES]))}{more}"


def _interrupted(error: Exception, file: HubFile) -> str:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"the disk is full: {file.name!r} could not be written. Make room and run it again, it goes on from there"
        )
    if isinstance(error, OSError) and error.errno is not None:
        return f"{file.name!r} could not be kept ({error.strerror}: {error.filename}): set HF_HOME to another folder"
    reason = str(error) or type(error).__name__
    return f"{file.name!r} of {file.repo} did not come whole ({reason}): run it again, it goes on where it broke off"
