"""What a decoding policy is to the engine: a generator that asks for logits and emits events.

A policy yields ``Forward`` to have tokens evaluated and is sent the logits, a float32 array of shape
``(n_logits, n_vocab)``; it yields anything else to hand it to whoever asked; it returns when it is done. It holds no
lock and touches no model, so that it can be stopped between any two steps and tested with made-up logits. The array is
a view that the next model call overwrites: what is needed for longer has to be copied, and it must not be written to.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]


class Forward(NamedTuple):
    """Evaluate ``tokens`` at ``position`` of the sequence; what stood from there on is dropped.

    The last ``n_logits`` of them are answered with logits; with 0 the cache is filled and the answer is empty.
    """

    position: int
    tokens: tuple[int, ...]
    n_logits: int = 1


Program = Generator[Any, Any, None]
