"""Writes smollm2.json: greedy continuations of SmolLM2-135M-Instruct by llama.cpp.

    pip install llama-cpp-python gguf
    cargo run -p runner -- fetch smollm2-135m      # prints the path of the GGUF
    python tests/golden/make_smollm2.py PATH_OF_THE_GGUF > tests/golden/smollm2.json
"""

import json
import os
import sys
import tempfile

import llama_text


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        f32 = os.path.join(folder, "f32.gguf")
        llama_text.write_f32(sys.argv[1], f32)
        model = llama_text.load(f32)
        cases = []
        for prompt in llama_text.PROMPTS:
            tokens = llama_text.tokenized(model, prompt)
            cases.append({"prompt": prompt, "prompt_tokens": tokens, "generated": llama_text.greedy(model, tokens)})
    json.dump({"engine": llama_text.ENGINE, "cases": cases}, sys.stdout, ensure_ascii=False, indent=1)


main()
