"""A raw completion: the caller's prompt as it is, without chat format or grounding, as fast as it comes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from typing import Any

from fourcorners.engine.generation import Finish, Piece
from fourcorners.engine.request import Request


class Completion:
    """Bunches of the Pieces that are ready, once, for a thread or an event loop; leaving the iteration cancels.

    ``finish_reason`` and ``usage`` are complete when it has ended.
    """

    def __init__(self, request: Request, n_prompt_tokens: int) -> None:
        self._request, self._n_prompt_tokens = request, n_prompt_tokens
        self._n_new_tokens = 0
        self.finish_reason = ""

    @property
    def usage(self) -> dict[str, int]:
        """Tokens of the prompt, of these from the prefix tree, and of the answer."""
        return {
            "prompt_tokens": self._n_prompt_tokens,
            "completion_tokens": self._n_new_tokens,
            "cached_tokens": self._request.counts.cached,
        }

    def cancel(self) -> None:
        """Stop it. Safe from any thread."""
        self._request.cancel()

    def __iter__(self) -> Iterator[list[Piece]]:
        with closing(self._request.bunches()) as bunches:
            for bunch in bunches:
                yield self._pieces(bunch)

    async def __aiter__(self) -> AsyncIterator[list[Piece]]:
        async with aclosing(self._request.abunches()) as bunches:
            async for bunch in bunches:
                yield self._pieces(bunch)

    def _pieces(self, bunch: list[Any]) -> list[Piece]:
        pieces = []
        for event in bunch:
            if isinstance(event, Finish):
                self.finish_reason = event.reason
            else:
                self._n_new_tokens += event.n_tokens
                pieces.append(event)
        return pieces
