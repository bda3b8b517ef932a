"""Writes smollm2.json: greedy continuations of SmolLM2-135M-Instruct by llama.cpp, an independent engine.

    pip install llama-cpp-python gguf
    cargo run -p runner -- fetch smollm2-135m      # prints the path of the GGUF
    python tests/golden/make_smollm2.py PATH_OF_THE_GGUF > tests/golden/smollm2.json

The quantized weights are first written out as f32, so that both engines multiply the same numbers. Otherwise llama.cpp
would quantize the activations too. The cache is f32, and flash attention is off.
"""

import json
import os
import sys
import tempfile

import gguf
import llama_cpp
import numpy

PROMPTS = [
    "The capital of France is",
    "Once upon a time",
    "<|im_start|>user\nWhat is a key-value cache?<|im_end|>\n<|im_start|>assistant\n",
    "缓存记住了",
    "def fibonacci(n):\n    ",
    "Call me Ishmael. Some years ago—never mind how long precisely—having little or no money in my purse, and "
    "nothing particular to interest me on shore, I thought I would sail about a little and see the watery part "
    "of the world. It is a way I have of driving off the spleen and regulating the circulation. Whenever I find "
    "myself growing grim about the mouth; whenever it is a damp, drizzly November in my soul;",
    "In 1969, 3 people flew 384,400 km to the Moon; 2 of them",
]
NEW_TOKENS = 48


def write_f32(source: str, target: str) -> None:
    """Copies a GGUF with every tensor as f32."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.get_field("general.architecture").contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type", "general.quantization_version"):
            continue
        value_type = field.types[0]
        element_type = field.types[-1] if value_type == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), value_type, sub_type=element_type)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32)
        writer.add_tensor(tensor.name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        f32 = os.path.join(folder, "f32.gguf")
        write_f32(sys.argv[1], f32)
        model = llama_cpp.Llama(
            f32,
            n_ctx=1024,
            type_k=llama_cpp.GGML_TYPE_F32,
            type_v=llama_cpp.GGML_TYPE_F32,
            flash_attn=False,
            verbose=False,
        )
        cases = []
        for prompt in PROMPTS:
            tokens = model.tokenize(prompt.encode(), add_bos=False, special=True)
            model.reset()
            generated = []
            for token in model.generate(tokens, temp=0.0, top_k=1, repeat_penalty=1.0):
                if token == model.token_eos() or len(generated) == NEW_TOKENS:
                    break
                generated.append(token)
            cases.append({"prompt": prompt, "prompt_tokens": tokens, "generated": generated})
    json.dump({"engine": f"llama-cpp-python {llama_cpp.__version__}", "cases": cases}, sys.stdout, ensure_ascii=False, indent=1)


main()
