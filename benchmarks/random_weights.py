"""Models of SmolLM2's shapes with random weights: speed does not depend on what the weights say.

    python -m benchmarks.random_weights FOLDER [SHAPE ...]      # writes 135m-q4_0.gguf and so on

The tokenizer is that of StarCoder (49,152 tokens, as many as SmolLM2's), from llama-cpp-python's source archive.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from gguf.quants import quantize

ROOT = Path(__file__).resolve().parent.parent
VOCABULARIES = ROOT / ".cache" / "vocabularies"
WINDOW = 8_192
KINDS = {
    "q4_0": (gguf.GGMLQuantizationType.Q4_0, gguf.LlamaFileType.MOSTLY_Q4_0),
    "q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
}


@dataclass(frozen=True, slots=True)
class Shape:
    """The dimensions of a llama; the embedding is also the output matrix, as SmolLM2 has it."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    inner: int


SHAPES = {"135m": Shape(576, 30, 9, 3, 1536), "360m": Shape(960, 32, 15, 5, 2560)}
"""From the config.json of HuggingFaceTB/SmolLM2-135M and -360M."""


def random_model(folder: Path, shape: str, kind: str) -> Path:
    """The path of ``folder/shape-kind.gguf``, which is written first where it is missing (seconds)."""
    path = folder / f"{shape}-{kind}.gguf"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        _write(unfinished, SHAPES[shape], kind)
        unfinished.replace(path)
    return path


def _write(path: Path, shape: Shape, kind: str) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    n_tokens = _add_tokenizer(writer)
    writer.add_context_length(WINDOW)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.inner)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_rope_freq_base(100_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(n_tokens)
    writer.add_file_type(KINDS[kind][1])
    chance = np.random.default_rng(0)

    def add(name: str, rows: int, columns: int) -> None:
        weights = (chance.standard_normal((rows, columns), np.float32) / columns**0.5).astype(np.float32)
        writer.add_tensor(name, quantize(weights, KINDS[kind][0]), raw_dtype=KINDS[kind][0])

    kv_width = shape.width // shape.heads * shape.kv_heads
    add("token_embd.weight", n_tokens, shape.width)
    writer.add_tensor("output_norm.weight", np.ones(shape.width, np.float32))
    for layer in range(shape.layers):
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{norm}.weight", np.ones(shape.width, np.float32))
        for name, rows in (("q", shape.width), ("k", kv_width), ("v", kv_width), ("output", shape.width)):
            add(f"blk.{layer}.attn_{name}.weight", rows, shape.width)
        for name in ("ffn_gate", "ffn_up"):
            add(f"blk.{layer}.{name}.weight", shape.inner, shape.width)
        add(f"blk.{layer}.ffn_down.weight", shape.width, shape.inner)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: gguf.GGUFWriter) -> int:
    subprocess.run([sys.executable, ROOT / "scripts" / "fetch_vocabularies.py", VOCABULARIES], check=True)
    fields = gguf.GGUFReader(VOCABULARIES / "starcoder.gguf").fields
    for name, entry in fields.items():
        if name.startswith("tokenizer.") and name != "tokenizer.chat_template":
            kind = entry.types[0]
            sub = entry.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, entry.contents(), kind, sub_type=sub)
    return len(fields["tokenizer.ggml.tokens"].data)


if __name__ == "__main__":
    for shape in sys.argv[2:] or SHAPES:
        for kind in KINDS:
            print(random_model(Path(sys.argv[1]), shape, kind))
