"""Who may see which secret: a token goes to the host that it was given for, and nowhere else."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit, urlunsplit

from pydantic import SecretStr

from fourcorners.errors import SettingsError, shortened

_HUGGING_FACE = ("huggingface.co", "hf.co", "huggingface.cloud")
"""Hugging Face's own hosts, with all below them: the hub, the router of the Inference Providers, the Inference
Endpoints. Spaces (hf.space) run other people's code and are not among them."""
OPENAI_HOST = "api.openai.com"


@dataclass(frozen=True, slots=True)
class Address:
    """A server's URL without a secret in it, and the header that proves who asks. Its ``repr`` tells no secret."""

    url: str
    authorization: SecretStr | None = None

    @property
    def host(self) -> str:
        """The host name."""
        return urlsplit(self.url).hostname or ""

    def without_secrets(self, text: str) -> str:
        """``text`` with the secret blotted out, should a server repeat it."""
        if self.authorization is None:
            return text
        whole = self.authorization.get_secret_value()
        for secret in (whole, whole.partition(" ")[2]):
            text = text.replace(secret, "…")
        return text


def address_of(url: str, api_key: SecretStr | str | None = None) -> Address:
    """The server at ``url``, with Bearer authorization by ``api_key`` or Basic by ``user:password@`` in the URL.

    Without either, ``HF_TOKEN`` (or the token of ``hf auth login``) for Hugging Face's own hosts and ``OPENAI_API_KEY``
    for OpenAI's, over https alone. Raises SettingsError, which does not repeat what may be a secret.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise SettingsError("the server's URL can't be read: write http://HOST:PORT") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(f"{shortened(_bare(url))} is no URL of a server: write http://HOST:PORT or https://HOST")
    if parts.query or parts.fragment:
        raise SettingsError(f"the server's URL {shortened(_bare(url))} has a query or fragment: leave it out")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    clean = urlunsplit((parts.scheme, f"{host}:{port}" if port else host, parts.path.rstrip("/"), "", ""))
    key = api_key.get_secret_value() if isinstance(api_key, SecretStr) else api_key
    if key is not None and not isinstance(key, str):
        raise SettingsError(f"the api_key must be a text, not {type(key).__name__}")
    if parts.username is not None:
        if key:
            raise SettingsError("the URL has a user name and there is an api_key too: give one of them")
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        return Address(clean, SecretStr("Basic " + base64.b64encode(pair.encode()).decode()))
    key = key or _key_from_outside(parts.scheme, parts.hostname)
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        raise SettingsError("the api_key has spaces, line breaks or letters that no header can have: look it up again")
    return Address(clean, SecretStr(f"Bearer {key}") if key else None)


def is_hugging_face(host: str) -> bool:
    """Whether ``host`` is one of Hugging Face's own."""
    return any(host == own or host.endswith("." + own) for own in _HUGGING_FACE)


def _key_from_outside(scheme: str, host: str) -> str | None:
    if scheme != "https":
        return None
    if host == OPENAI_HOST:
        return os.environ.get("OPENAI_API_KEY")
    return _hugging_face_token() if is_hugging_face(host) else None


def _hugging_face_token() -> str | None:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when huggingface_hub is imported
    from huggingface_hub import get_token

    return get_token()


def _bare(url: str) -> str:
    """``url`` without what may be a password."""
    scheme, border, rest = url.partition("://")
    return scheme + border + rest.rpartition("@")[2] if border else url.rpartition("@")[2]
