"""What is known of a server once it was asked."""

from __future__ import annotations

from dataclasses import dataclass

from fourcorners.llms.wire import Api, Server
from fourcorners.prompts.chat_format import ChatFormat


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found out about a server: of which kind it is, its model, its window (None: it does not tell).

    ``chat_format`` is for kinds of requests in which the prompt is one text; None where the server makes it.
    """

    server: Server
    api: Api
    model: str
    window_tokens: int | None = None
    chat_format: ChatFormat | None = None
