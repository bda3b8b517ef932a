"""What llama.cpp, an independent engine, writes: shared by make_smollm2.py, make_quantized.py and make_tiny_quantized.py.

Quantized weights are first written out as f32, so that both engines multiply the same numbers. Otherwise llama.cpp would
quantize the activations too. The cache is f32, and flash attention is off.
"""

import collections.abc
import hashlib
import os
import pathlib

import gguf
import llama_cpp
import numpy

ENGINE = f"llama-cpp-python {llama_cpp.__version__}"
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
# Two engines add in another order: where the largest two logits are closer than this, either token is right.
NEARLY_TIED = 1e-3


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
        writer.add_tensor(tensor.name, decoded(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def decoded(tensor: gguf.ReaderTensor) -> numpy.ndarray:
    return gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32)


def described(path: pathlib.Path) -> dict:
    """A file's name and SHA-256, and for each type in it the SHA-256 of all its values, by the names of the tensors."""
    types = {}
    for tensor in sorted(gguf.GGUFReader(path).tensors, key=lambda tensor: tensor.name.encode()):
        known = types.setdefault(tensor.tensor_type.name, {"tensors": 0, "sha256": hashlib.sha256()})
        known["tensors"] += 1
        known["sha256"].update(decoded(tensor).astype("<f4").tobytes())
    types = {name: {**known, "sha256": known["sha256"].hexdigest()} for name, known in sorted(types.items())}
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "decoded": types}


def quantize(source: str, target: str, file_type: int) -> None:
    """Lets llama.cpp quantize a file to one of its LLAMA_FTYPEs. The bytes do not depend on the number of threads."""
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = file_type
    parameters.allow_requantize = True
    if llama_cpp.llama_model_quantize(source.encode(), target.encode(), parameters) != 0:
        raise RuntimeError(f"llama.cpp cannot quantize {source}")


def load(f32: str) -> llama_cpp.Llama:
    return llama_cpp.Llama(
        f32,
        n_ctx=1024,
        n_threads=os.cpu_count(),
        type_k=llama_cpp.GGML_TYPE_F32,
        type_v=llama_cpp.GGML_TYPE_F32,
        flash_attn=False,
        verbose=False,
    )


def logits(model: llama_cpp.Llama, prompt: list[int]) -> collections.abc.Iterator[numpy.ndarray]:
    """The logits after the prompt, and after each greedy token."""
    model.reset()
    fresh = prompt
    while True:
        model.eval(fresh)
        last = llama_cpp.llama_get_logits_ith(model._ctx.ctx, -1)
        values = numpy.ctypeslib.as_array(last, shape=(model.n_vocab(),)).copy()
        yield values
        fresh = [int(values.argmax())]


def greedy(model: llama_cpp.Llama, prompt: list[int]) -> list[int]:
    """The greedy tokens after a prompt, up to the end of the text or a near tie."""
    tokens = []
    for values in logits(model, prompt):
        second, first = numpy.partition(values, -2)[-2:]
        token = int(values.argmax())
        if len(tokens) == NEW_TOKENS or token == model.token_eos() or first - second < NEARLY_TIED:
            return tokens
        tokens.append(token)


def tokenized(model: llama_cpp.Llama, prompt: str) -> list[int]:
    return model.tokenize(prompt.encode(), add_bos=False, special=True)
