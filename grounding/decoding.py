"""What decoding policies share: the request to the model, the events they emit, and the vocabulary they need.

A policy is a generator: it yields ``Evaluate`` and is sent logits, yields ``Piece`` for text that is final, and ends
with one ``Outcome``. It never touches a model.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from llguidance import LLTokenizer
from numpy.typing import NDArray

from fourcorners.grounding.evidence import Citation

Scores = NDArray[np.float64]
SEPARATOR = "\n"
"""What stands between the spans of an answer."""


class Evaluate(NamedTuple):
    """Evaluate ``tokens`` at ``position`` and answer with the logits of the last ``n_logits`` of them."""

    position: int
    tokens: tuple[int, ...]
    n_logits: int = 1


class Piece(NamedTuple):
    """A piece of the answer that will not be taken back; ``n_tokens`` is what it counts for in the usage."""

    text: str
    n_tokens: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a completed run.

    ``score`` is the log-probability of the refusal branch minus that of the best answer, ``refused`` says that the
    refusal branch was taken because it exceeded ``threshold``. ``details`` are what a policy has to say beyond that.
    """

    refused: bool
    score: float
    threshold: float
    citations: tuple[Citation, ...]
    finish_reason: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rules:
    """How a verbatim decode weighs and limits its choices.

    ``window_tokens`` is what prompt and answer must fit in; ``answer_prefix`` a space where the chat format needs one.
    ``check_weight`` is for models that confirm what they point at.
    """

    prior_weight: float
    model_weight: float
    threshold: float
    max_new_tokens: int
    window_tokens: int
    temperature: float = 0.0
    seed: int | None = None
    answer_prefix: str = ""
    check_weight: float = 0.0


class Tokens(Protocol):
    """The part of a vocabulary that decoding needs."""

    @property
    def pieces(self) -> Sequence[bytes]:
        """The bytes of every token."""

    @property
    def eos(self) -> int:
        """The token that ends an answer."""

    @property
    def end_tokens(self) -> frozenset[int]:
        """All tokens that end a generation."""

    @property
    def constraint_tokenizer(self) -> LLTokenizer:
        """The vocabulary as llguidance wants it."""

    def plain(self, text: str) -> list[int]:
        """Tokens of untrusted text, never a control token."""


Policy = Generator[Any, Any, None]


def log_softmax(values: Scores) -> Scores:
    """Log-probabilities; minus infinity stays what it is."""
    shifted = values - values.max()
    result: Scores = shifted - np.log(np.exp(shifted).sum())
    return result


def log_mass(values: Scores) -> float:
    """Log of the sum of exponentials."""
    top = float(values.max(initial=-np.inf))
    return top if top == -np.inf else top + float(np.log(np.exp(values - top).sum()))
