"""Requantizes SmolLM2-135M-Instruct with llama.cpp and writes quantized.json, which says what the files hold and generate.

    pip install llama-cpp-python gguf
    cargo run -p runner -- fetch smollm2-135m      # prints the path of the GGUF
    python tests/golden/make_quantized.py PATH_OF_THE_GGUF [FOLDER]

The files, 550 MB, are put in FOLDER, or in `quantized` beside the GGUF, where tests/golden_quantized.rs looks for them.
quantized.json has each file's SHA-256, the SHA-256 of the values that llama.cpp's own Python package `gguf` decodes, and
the greedy text of llama.cpp. Rows of this model have 576 values, no multiple of 256: where K-quants do not fit, llama.cpp
chooses other types. A text ends where the two largest logits are nearly tied.

On one machine llama.cpp writes the same bytes every time, on any number of threads. A llama.cpp that is compiled for
other instructions may round differently; quantized.json is then another one, of the files that were made.
"""

import json
import pathlib
import sys
import tempfile

import llama_cpp
import llama_text

FILE_TYPES = {
    "Q4_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M,
    "Q5_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q5_K_M,
    "Q6_K": llama_cpp.LLAMA_FTYPE_MOSTLY_Q6_K,
    "Q5_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q5_0,
    "IQ4_NL": llama_cpp.LLAMA_FTYPE_MOSTLY_IQ4_NL,
}


def generated(path: pathlib.Path) -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        f32 = str(pathlib.Path(folder) / "f32.gguf")
        llama_text.write_f32(str(path), f32)
        model = llama_text.load(f32)
        prompts = [llama_text.tokenized(model, prompt) for prompt in llama_text.PROMPTS]
        return [{"prompt_tokens": prompt, "generated": llama_text.greedy(model, prompt)} for prompt in prompts]


def main() -> None:
    source = pathlib.Path(sys.argv[1])
    folder = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else source.parent / "quantized"
    folder.mkdir(exist_ok=True)
    files = []
    for name, file_type in FILE_TYPES.items():
        path = folder / f"SmolLM2-135M-Instruct.{name}.gguf"
        llama_text.quantize(str(source), str(path), file_type)
        files.append({**llama_text.described(path), "cases": generated(path)})
    text = json.dumps({"engine": llama_text.ENGINE, "files": files})
    # A line for each text.
    text = text.replace('{"file"', '\n{"file"').replace('{"prompt_tokens"', '\n{"prompt_tokens"')
    (pathlib.Path(__file__).parent / "quantized.json").write_text(text + "\n")


main()
