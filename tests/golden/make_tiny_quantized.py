"""Writes tiny-quantized/: a random model in mixtures of K-quants, and what llama.cpp computes with it.

    pip install llama-cpp-python gguf
    python tests/golden/make_tiny_quantized.py

Rows have 256 or 512 values, so that llama.cpp quantizes every matrix to a K-quant. expected.json has, for each file, its
SHA-256, that of the values that `gguf` decodes, a prompt, its greedy continuation and the logits after some of its tokens,
by llama.cpp on the values decoded to f32.
"""

import json
import pathlib
import tempfile

import gguf
import llama_cpp
import llama_text
import numpy

VOCABULARY = 96
HIDDEN = 256
INTERMEDIATE = 512
HEADS = 4
KV_HEADS = 2
HEAD_DIM = 64
CONTEXT = 128
FILE_TYPES = {
    "q4_k_m": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M,
    "q5_k_m": llama_cpp.LLAMA_FTYPE_MOSTLY_Q5_K_M,
    "q6_k": llama_cpp.LLAMA_FTYPE_MOSTLY_Q6_K,
}
PROMPT_TOKENS = 16
NEW_TOKENS = 48
# New tokens after which the logits are written.
LOGITS_AFTER = (0, 12, NEW_TOKENS)
# One whose continuations repeat themselves little and have no near ties.
SEED = 2


def write_random(target: str, random: numpy.random.Generator) -> None:
    """Matrices that keep the size of activations, and norms that are not all ones."""
    writer = gguf.GGUFWriter(target, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(INTERMEDIATE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_layer_norm_rms_eps(1e-5)
    # Single characters and one pair of them: prompts are given as ids.
    tokens = [chr(ord("!") + index) for index in range(VOCABULARY - 1)] + ['!"']
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_merges(['! "'])
    matrices = {
        "token_embd": (VOCABULARY, HIDDEN),
        "blk.0.attn_q": (HEADS * HEAD_DIM, HIDDEN),
        "blk.0.attn_k": (KV_HEADS * HEAD_DIM, HIDDEN),
        "blk.0.attn_v": (KV_HEADS * HEAD_DIM, HIDDEN),
        "blk.0.attn_output": (HIDDEN, HEADS * HEAD_DIM),
        "blk.0.ffn_gate": (INTERMEDIATE, HIDDEN),
        "blk.0.ffn_up": (INTERMEDIATE, HIDDEN),
        "blk.0.ffn_down": (HIDDEN, INTERMEDIATE),
    }
    for name, (outputs, inputs) in matrices.items():
        values = random.normal(size=(outputs, inputs)) / inputs**0.5
        writer.add_tensor(f"{name}.weight", values.astype(numpy.float32))
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", (1 + 0.4 * random.normal(size=HIDDEN)).astype(numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def continued(f32: str, prompt: list[int]) -> dict:
    generated, logits = [], []
    for new, values in enumerate(llama_text.logits(llama_text.load(f32), prompt)):
        if new in LOGITS_AFTER:
            logits.append({"tokens": len(prompt) + new, "values": [round(float(value), 6) for value in values]})
        if new == NEW_TOKENS:
            return {"prompt_tokens": prompt, "generated": generated, "logits": logits}
        second, first = numpy.partition(values, -2)[-2:]
        assert first - second > llama_text.NEARLY_TIED, "nearly tied: another seed"
        generated.append(int(values.argmax()))


def main() -> None:
    folder = pathlib.Path(__file__).parent / "tiny-quantized"
    folder.mkdir(exist_ok=True)
    random = numpy.random.default_rng(SEED)
    prompt = random.integers(VOCABULARY, size=PROMPT_TOKENS).tolist()
    files = []
    with tempfile.TemporaryDirectory() as temporary:
        source, f32 = str(pathlib.Path(temporary) / "source.gguf"), str(pathlib.Path(temporary) / "f32.gguf")
        write_random(source, random)
        for name, file_type in FILE_TYPES.items():
            path = folder / f"{name}.gguf"
            llama_text.quantize(source, str(path), file_type)
            for tensor in gguf.GGUFReader(path).tensors:
                assert len(tensor.shape) == 1 or tensor.tensor_type.name.endswith("_K"), tensor.name
            llama_text.write_f32(str(path), f32)
            files.append({**llama_text.described(path), "cases": [continued(f32, prompt)]})
    (folder / "expected.json").write_text(json.dumps({"engine": llama_text.ENGINE, "files": files}) + "\n")


main()
