"""Writes kvlab-small.gguf and held-out.txt, beside this script, from the checkpoint in a folder of train.py.

    python crates/kv-model/small/export.py FOLDER

Matrices are stored as Q8_0, norms as f32. The bytes depend on the checkpoint alone.
"""

import json
import pathlib
import sys

import gguf
import numpy
import torch

import data
from network import Llama, Shape

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def main() -> None:
    work = pathlib.Path(sys.argv[1])
    shape = Shape()
    (data.HERE / "held-out.txt").write_text("\n\n".join(data.documents(work)[1]), encoding="utf-8")
    model = Llama(shape)
    checkpoint = torch.load(work / "checkpoint.pt", map_location="cpu", weights_only=True)
    model.load_state_dict(checkpoint["model"])
    writer = gguf.GGUFWriter(data.HERE / "kvlab-small.gguf", "llama")
    describe(writer, shape, checkpoint["step"])
    describe_tokenizer(writer, work, shape)
    for name, weights in model.state_dict().items():
        add(writer, shape, name, weights.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def describe(writer: gguf.GGUFWriter, shape: Shape, step: int) -> None:
    writer.add_name("kvlab small")
    writer.add_description(f"A small model to measure KV caches with, after {step} steps of training. Not for any other use.")
    writer.add_license("MIT OR Apache-2.0")
    writer.add_languages(["en"])
    writer.add_vocab_size(shape.vocabulary)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.intermediate)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def describe_tokenizer(writer: gguf.GGUFWriter, work: pathlib.Path, shape: Shape) -> None:
    stored = json.loads(data.tokenizer(work, shape.vocabulary).to_str())["model"]
    tokens = sorted(stored["vocab"], key=stored["vocab"].get)
    end = stored["vocab"][data.END_OF_TEXT]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if id == end else gguf.TokenType.NORMAL for id in range(len(tokens))])
    writer.add_token_merges([" ".join(merge) for merge in stored["merges"]])
    writer.add_bos_token_id(end)
    writer.add_eos_token_id(end)
    writer.add_add_bos_token(False)


def add(writer: gguf.GGUFWriter, shape: Shape, name: str, weights: numpy.ndarray) -> None:
    match name.split("."):
        case ["embed_tokens", _]:
            stored = "token_embd.weight"
        case ["norm", _]:
            stored = "output_norm.weight"
        case ["layers", layer, *parts, _]:
            stored = f"blk.{layer}.{NAMES['.'.join(parts)]}.weight"
    if "q_proj" in name:
        weights = neighbors(weights, shape.heads)
    if "k_proj" in name:
        weights = neighbors(weights, shape.kv_heads)
    if weights.ndim == 1:
        writer.add_tensor(stored, weights)
    else:
        encoding = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(stored, gguf.quants.quantize(weights, encoding), raw_dtype=encoding)


def neighbors(weights: numpy.ndarray, heads: int) -> numpy.ndarray:
    """The rows of queries or keys as llama.cpp wants them: the two axes of a plane one after the other."""
    split = weights.reshape(heads, 2, -1, weights.shape[1])
    return numpy.ascontiguousarray(split.swapaxes(1, 2)).reshape(weights.shape)


if __name__ == "__main__":
    main()
