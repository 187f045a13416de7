"""Small models with random weights around a real family's vocabulary: only what they say is noise."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import gguf
import numpy as np

WIDTH, HEADS, INNER, CONTEXT = 32, 2, 64, 4096
CONVOLUTION, STATE, RANK = 4, 8, 4
Kind = Literal["llama", "mamba", "lfm2"]


def write_random_model(vocabulary: Path, target: Path, chat_template: str, kind: Kind = "llama") -> None:
    """Write a GGUF with the tokenizer of ``vocabulary`` (a vocabulary-only GGUF will do) and random weights.

    A "mamba" is recurrent; an "lfm2" is a hybrid, its first layer a convolution, the second attention.
    """
    reader = gguf.GGUFReader(vocabulary)
    writer = gguf.GGUFWriter(target, kind)
    for name, entry in reader.fields.items():
        if name.startswith("tokenizer.") and name != "tokenizer.chat_template":
            content_type = entry.types[0]
            sub = entry.types[-1] if content_type == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, entry.contents(), content_type, sub_type=sub)
    writer.add_chat_template(chat_template)
    n_tokens = len(reader.fields["tokenizer.ggml.tokens"].data)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(n_tokens)
    weights = _Weights(writer)
    weights.add("token_embd.weight", n_tokens, WIDTH)
    weights.ones("token_embd_norm.weight" if kind == "lfm2" else "output_norm.weight", WIDTH)
    {"llama": _llama, "mamba": _mamba, "lfm2": _lfm2}[kind](writer, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class _Weights:
    def __init__(self, writer: gguf.GGUFWriter) -> None:
        self._writer, self._chance = writer, np.random.default_rng(0)

    def add(self, name: str, *shape: int) -> None:
        self._writer.add_tensor(name, (self._chance.standard_normal(shape) / WIDTH**0.5).astype(np.float32))

    def ones(self, name: str, *shape: int, scale: float = 1.0) -> None:
        self._writer.add_tensor(name, np.full(shape, scale, np.float32))


def _llama(writer: gguf.GGUFWriter, weights: _Weights) -> None:
    writer.add_block_count(1)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    weights.ones("blk.0.attn_norm.weight", WIDTH)
    _attention(weights, 0)
    _feed_forward(weights, 0)


def _mamba(writer: gguf.GGUFWriter, weights: _Weights) -> None:
    writer.add_block_count(2)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_ssm_conv_kernel(CONVOLUTION)
    writer.add_ssm_inner_size(2 * WIDTH)
    writer.add_ssm_state_size(STATE)
    writer.add_ssm_time_step_rank(RANK)
    for layer in range(2):
        block = f"blk.{layer}"
        weights.ones(f"{block}.attn_norm.weight", WIDTH)
        weights.add(f"{block}.ssm_in.weight", 4 * WIDTH, WIDTH)
        weights.add(f"{block}.ssm_conv1d.weight", 2 * WIDTH, CONVOLUTION)
        weights.add(f"{block}.ssm_conv1d.bias", 2 * WIDTH)
        weights.add(f"{block}.ssm_x.weight", RANK + 2 * STATE, 2 * WIDTH)
        weights.add(f"{block}.ssm_dt.weight", 2 * WIDTH, RANK)
        weights.add(f"{block}.ssm_dt.bias", 2 * WIDTH)
        weights.ones(f"{block}.ssm_a", 2 * WIDTH, STATE, scale=-0.1)  # remembers for dozens of tokens
        weights.ones(f"{block}.ssm_d", 2 * WIDTH)
        weights.add(f"{block}.ssm_out.weight", WIDTH, 2 * WIDTH)


def _lfm2(writer: gguf.GGUFWriter, weights: _Weights) -> None:
    writer.add_block_count(2)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv([0, HEADS])
    writer.add_shortconv_l_cache(CONVOLUTION)
    for layer in range(2):
        weights.ones(f"blk.{layer}.attn_norm.weight", WIDTH)
        _feed_forward(weights, layer)
    weights.add("blk.0.shortconv.conv.weight", WIDTH, CONVOLUTION)
    weights.add("blk.0.shortconv.in_proj.weight", 3 * WIDTH, WIDTH)
    weights.add("blk.0.shortconv.out_proj.weight", WIDTH, WIDTH)
    _attention(weights, 1)
    weights.ones("blk.1.attn_q_norm.weight", WIDTH // HEADS)
    weights.ones("blk.1.attn_k_norm.weight", WIDTH // HEADS)


def _attention(weights: _Weights, layer: int) -> None:
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        weights.add(f"blk.{layer}.{name}.weight", WIDTH, WIDTH)


def _feed_forward(weights: _Weights, layer: int) -> None:
    weights.ones(f"blk.{layer}.ffn_norm.weight", WIDTH)
    for name in ("ffn_gate", "ffn_up"):
        weights.add(f"blk.{layer}.{name}.weight", INNER, WIDTH)
    weights.add(f"blk.{layer}.ffn_down.weight", WIDTH, INNER)
