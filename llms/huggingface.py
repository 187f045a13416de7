"""Hugging Face's Inference Providers: chat completions through their router, which is OpenAI-compatible.

Written against huggingface_hub 1.x (inference/_providers/_common.py: the router's address) and the docs of the
Inference Providers ("Chat Completion"; ``MODEL:PROVIDER`` picks one); not yet run against the real service.
"""

from __future__ import annotations

from typing import Any

from fourcorners.errors import BackendDenied, SettingsError
from fourcorners.llms.facts import Facts
from fourcorners.llms.openai_like import OpenAiLLM
from fourcorners.llms.wire import HUGGINGFACE

ROUTER_URL = "https://router.huggingface.co/v1"


class HuggingFaceLLM(OpenAiLLM):
    """A hosted model; ``init_llm("huggingface:ORG/MODEL")`` makes one, ``@PROVIDER`` behind it picks the provider.

    The token is ``api_key``, or ``HF_TOKEN``, or that of ``hf auth login``. No provider promises to hold a model to a
    pattern, so verbatim answers are ``verified``.
    """

    @property
    def _llm_type(self) -> str:
        return "fourcorners-huggingface"

    def _look(self) -> Facts:
        if self.server or self.api == "completions":
            raise SettingsError("the Inference Providers have chat completions alone: leave out server and api")
        if self._address.authorization is None:
            raise BackendDenied("Hugging Face's Inference Providers want a token: set HF_TOKEN, or give api_key=…")
        return Facts(HUGGINGFACE, "chat", self.model)


def connect(model: str, settings: dict[str, Any]) -> HuggingFaceLLM:
    """For ``ORG/MODEL`` or ``ORG/MODEL@PROVIDER``. Raises SettingsError."""
    name, _, provider = model.partition("@")
    if name.count("/") != 1 or not all(name.split("/")) or ("@" in model and not provider):
        raise SettingsError(f"{model!r} is no model of the hub: write 'huggingface:ORG/MODEL', or …MODEL@PROVIDER")
    url = settings.pop("url", ROUTER_URL)
    return HuggingFaceLLM.connect(url, model=f"{name}:{provider}" if provider else name, **settings)
