"""A llama in 100 lines: RMSNorm, rotary positions (interleaved pairs), SwiGLU, no biases, tied embeddings.

Parameter names are those of GGUF, so that export is a plain copy.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MATCHING_HEADS = 3
"""So many heads of the first layer learn beforehand which words of question and text pair up (words.py)."""


@dataclass(frozen=True)
class Shape:
    """Sizes of the model. Row widths are multiples of 32, which Q8_0 needs."""

    vocabulary: int = 24_576
    """The first half for text, the second for questions."""
    width: int = 160
    layers: int = 4
    heads: int = 5
    feed_forward: int = 448
    context: int = 1024
    rope_base: float = 1_000_000.0
    """A large base leaves most of a short head free of position, for matching words by meaning."""
    norm_epsilon: float = 1e-5

    @property
    def head_width(self) -> int:
        """Numbers a head."""
        return self.width // self.heads

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn neighbouring pairs (0, 1), (2, 3) … by their angle, llama.cpp's "normal" convention."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).to(x.dtype)


class Block(nn.Module):  # type: ignore[misc]
    """One layer."""

    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = shape.heads, dropout
        self.attn_norm = nn.RMSNorm(shape.width, eps=shape.norm_epsilon)
        self.attn_q = nn.Linear(shape.width, shape.width, bias=False)
        self.attn_k = nn.Linear(shape.width, shape.width, bias=False)
        self.attn_v = nn.Linear(shape.width, shape.width, bias=False)
        self.attn_output = nn.Linear(shape.width, shape.width, bias=False)
        self.ffn_norm = nn.RMSNorm(shape.width, eps=shape.norm_epsilon)
        self.ffn_gate = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.ffn_up = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.ffn_down = nn.Linear(shape.feed_forward, shape.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """The new residual stream."""
        normed = self.attn_norm(x)
        q, k, v = (
            layer(normed).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.attn_q, self.attn_k, self.attn_v)
        )
        mixed = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, is_causal=True)
        x = x + F.dropout(self.attn_output(mixed.transpose(1, 2).flatten(2)), self.dropout, self.training)
        normed = self.ffn_norm(x)
        hidden = self.ffn_down(F.silu(self.ffn_gate(normed)) * self.ffn_up(normed))
        return x + F.dropout(hidden, self.dropout, self.training)


class Reader(nn.Module):  # type: ignore[misc]
    """The model; ``forward`` gives hidden states, ``scores`` turns chosen ones into scores of chosen tokens."""

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Shape, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape, self.dropout = shape, dropout
        self.token_embd = nn.Embedding(shape.vocabulary, shape.width)
        self.blk = nn.ModuleList(Block(shape, dropout) for _ in range(shape.layers))
        self.output_norm = nn.RMSNorm(shape.width, eps=shape.norm_epsilon)
        frequencies = shape.rope_base ** (-torch.arange(0, shape.head_width, 2) / shape.head_width)
        angles = torch.arange(shape.context)[:, None] * frequencies
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                # Layers that write to the residual stream start smaller, the deeper the stack the more.
                writes = name.endswith(("attn_output.weight", "ffn_down.weight"))
                nn.init.normal_(parameter, std=0.03 / (2 * self.shape.layers) ** 0.5 if writes else 0.03)

    def forward(self, ids: Tensor) -> Tensor:
        """Normed hidden states."""
        cos, sin = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        x = F.dropout(self.token_embd(ids), self.dropout, self.training)
        for block in self.blk:
            x = block(x, cos, sin)
        return self.output_norm(x)

    def first_heads(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys of the first layer's matching heads."""
        reach, first = MATCHING_HEADS * self.shape.head_width, self.blk[0]
        normed = first.attn_norm(self.token_embd(ids))
        cos, sin = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        q, k = (
            rotate(F.linear(normed, layer.weight[:reach]).unflatten(-1, (MATCHING_HEADS, -1)).transpose(1, 2), cos, sin)
            for layer in (first.attn_q, first.attn_k)
        )
        return q, k

    def scores(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """Logits of ``tokens`` alone, in float32."""
        return F.linear(hidden, self.token_embd.weight[tokens]).float()
