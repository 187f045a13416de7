"""Write a checkpoint as GGUF: ``python -m training.export --run DIR --out models/reader.gguf``. Takes a second."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer

from training.model import Shape
from training.rows import ROW_TOKENS
from training.tokenizer import CONTROL, PAD, PRE_TOKENIZER, TURN_END

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TYPES = {
    "f16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
}


def add_metadata(writer: gguf.GGUFWriter, shape: Shape, file_type: gguf.LlamaFileType) -> None:
    """Names, licence and sizes."""
    writer.add_name("fourcorners reader")
    writer.add_author("the fourcorners authors")
    writer.add_license("cc-by-sa-4.0")
    writer.add_description("Points at the sentence of a supplied text that answers a question, or refuses.")
    writer.add_languages(["en"])
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_string("fourcorners.contract", "pointing")
    writer.add_uint32("fourcorners.context_tokens", ROW_TOKENS)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)


def add_vocabulary(writer: gguf.GGUFWriter, tokenizer: Tokenizer, size: int) -> None:
    """Tokens, merges and control tokens; no BOS, end of turn is end of text."""
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    known = tokenizer.get_vocab_size()
    # Those of questions have no text of their own: they are reached by adding half the size of the vocabulary.
    tokens = [tokenizer.id_to_token(number) or f"<|question_{number - known}|>" for number in range(size)]
    kinds = [
        gguf.TokenType.CONTROL if t in CONTROL else gguf.TokenType.NORMAL if n < known else gguf.TokenType.UNUSED
        for n, t in enumerate(tokens)
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE_TOKENIZER)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    end, pad = CONTROL.index(TURN_END), CONTROL.index(PAD)
    writer.add_eos_token_id(end)
    writer.add_eot_token_id(end)
    writer.add_pad_token_id(pad)
    writer.add_unk_token_id(pad)
    # llama.cpp takes id 11 for BOS where a gpt2 vocabulary names none: ours must be a control token too.
    writer.add_bos_token_id(pad)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def add_tensors(writer: gguf.GGUFWriter, weights: dict[str, torch.Tensor], kind: gguf.GGMLQuantizationType) -> None:
    """Matrices in ``kind``, norms in F32. The output matrix is the embedding, so it is written once."""
    for name, weight in weights.items():
        array = weight.float().numpy()
        if array.ndim == 1:
            writer.add_tensor(name, array.astype(np.float32))
        elif kind == gguf.GGMLQuantizationType.F16:
            writer.add_tensor(name, array.astype(np.float16))
        else:
            writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)


def export(run: Path, out: Path, kind: str) -> int:
    """Write ``out`` (beside, then renamed) and return its size in bytes."""
    state = torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)
    shape = Shape(**state["shape"])
    tensor_type, file_type = TYPES[kind]
    temporary = out.with_name(out.name + ".tmp")
    writer = gguf.GGUFWriter(temporary, "llama")
    add_metadata(writer, shape, file_type)
    add_vocabulary(writer, Tokenizer.from_file(str(run / "tokenizer.json")), shape.vocabulary)
    add_tensors(writer, state["model"], tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    temporary.replace(out)
    return out.stat().st_size


def main() -> None:
    """Export as asked on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder with checkpoint.pt and tokenizer.json")
    parser.add_argument("--out", type=Path, required=True, help="the GGUF to write")
    parser.add_argument("--type", choices=sorted(TYPES), default="f16")
    options = parser.parse_args()
    print(f"{options.out}: {export(options.run, options.out, options.type):,} bytes")


if __name__ == "__main__":
    main()
