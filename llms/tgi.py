"""Text Generation Inference (TGI), by its own API.

Written against the schema that TGI 3.3 publishes (docs/openapi.json and router/src/ in its repository); not yet run
against the real server. Not over LangChain's or huggingface_hub's clients: those send ``HF_TOKEN`` to any host, let
special tokens and parts of stop strings through, and try nothing again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fourcorners.errors import BackendError, ModelLoadError, shortened
from fourcorners.llms.asking import Ask, Delta
from fourcorners.llms.facts import Facts
from fourcorners.llms.remote import RemoteLLM
from fourcorners.llms.remote_run import Reader
from fourcorners.llms.settings import GenerationSettings
from fourcorners.llms.wire import TGI, request_fields
from fourcorners.prompts.detection import format_of_model_id


class TgiLLM(RemoteLLM):
    """A model behind TGI. ``init_llm("tgi:http://HOST:PORT")`` makes one; Basic authorization is ``user:password@``.

    ``/info`` tells the model and its limits; ``prompt_format`` is picked by the model's name unless it is given.
    Verbatim answers are ``enforced`` through TGI's ``grammar``. ``n_logprobs`` brings each token's log-probability, and
    those of so many others in its place.
    """

    @property
    def _llm_type(self) -> str:
        return "fourcorners-tgi"

    def _look(self) -> Facts:
        try:
            info = self._get("/info")
        except ModelLoadError as error:
            raise BackendError(
                f"{self.url} has no /info, so it is no TGI ({error}): for an OpenAI-compatible server write "
                f"'openai:URL#MODEL'"
            ) from None
        if not isinstance(info, Mapping) or not isinstance(info.get("model_id"), str):
            raise BackendError(f"{self.url}/info answered {shortened(info)}, which is not what TGI says")
        window = info.get("max_total_tokens")
        return Facts(
            TGI,
            "generate",
            info["model_id"],
            window if isinstance(window, int) and window > 0 else None,
            format_of_model_id(info["model_id"], prompt_format=self.prompt_format or None),
        )

    def _body(self, ask: Ask, facts: Facts, settings: GenerationSettings, streamed: bool) -> tuple[str, dict[str, Any]]:
        # Streamed or not: only the stream's last event tells how long the prompt was.
        assert facts.chat_format is not None
        fields = request_fields(TGI, "generate", settings, ask.pattern)
        parameters = {"details": True, "return_full_text": False, **fields["parameters"]}
        inputs = facts.chat_format.prompt_text(ask.system, ask.user)
        return "/generate_stream", {"inputs": inputs, "parameters": parameters}

    def _reader(self, facts: Facts) -> Reader:
        return _TgiReader()


class _TgiReader:
    """TGI's StreamResponse: a token an event, and ``details`` in the last. Special tokens are no text."""

    def read(self, payload: dict[str, Any]) -> Delta:
        """What an event says."""
        token, details = payload.get("token"), payload.get("details")
        if not isinstance(token, Mapping):
            raise BackendError(f"an event without a token came: {shortened(payload)}; is the server a TGI?")
        text = "" if token.get("special") else str(token.get("text", ""))
        told = {"text": token.get("text", ""), "logprob": token.get("logprob"), "top": _top(payload)}
        if not isinstance(details, Mapping):
            return Delta(text, logprobs=(told,))
        usage = {
            "prompt_tokens": int(details.get("input_length") or 0),
            "completion_tokens": int(details.get("generated_tokens") or 0),
        }
        return Delta(text, str(details.get("finish_reason") or "stop"), usage, (told,))


def _top(payload: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(one.get("text", ""), one.get("logprob")) for one in payload.get("top_tokens") or []]
