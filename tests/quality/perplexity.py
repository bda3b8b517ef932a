"""Prints the perplexity of a GGUF model by transformers, an independent engine, as JSON.

    pip install torch transformers accelerate gguf
    python tests/quality/perplexity.py MODEL.gguf WINDOWS.json
    python tests/quality/perplexity.py MODEL.gguf --text TEXT.txt --tokens 2048

WINDOWS.json is a list of windows, each a list of token ids, or what this script printed earlier. With --text, the only
window is the first tokens of a text, by the model's own tokenizer. No special token is added in either case: what stands
first in a window is its first token, and it is not predicted.

The file's matrices are decoded to f32, and all arithmetic is f32 on the CPU. The logarithm of the softmax is taken in
f64. The weights in use are compared with what llama.cpp's own package `gguf` decodes, one matrix for each encoding.
"""

import argparse
import hashlib
import json
import math
import pathlib

import gguf
import numpy
import torch
import transformers

# Rows of logits that are held in f64 at a time.
ROWS = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("windows", type=pathlib.Path, nargs="?")
    parser.add_argument("--text", type=pathlib.Path)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    if (arguments.windows is None) == (arguments.text is None):
        parser.error("either a file of windows or --text is needed")
    torch.set_num_threads(arguments.threads)
    if arguments.text is None:
        windows = read_windows(arguments.windows)
    else:
        windows = [first_tokens(arguments.model, arguments.text, arguments.tokens)]
    model = load(arguments.model)
    compared = compare_with_gguf(model, arguments.model)
    losses = [negative_log_likelihoods(model, window) for window in windows]
    record = {
        "engine": f"transformers {transformers.__version__}, torch {torch.__version__}, f32",
        "model": {"file": arguments.model.name, "sha256": hashlib.sha256(arguments.model.read_bytes()).hexdigest()},
        "equal_to_gguf": compared,
        "windows": [{"ids": ids, "mean_nll": float(loss.mean())} for ids, loss in zip(windows, losses)],
        "perplexity": math.exp(float(numpy.concatenate(losses).mean())),
    }
    text = json.dumps(record)
    # A line for each window.
    print(text.replace('{"ids"', '\n{"ids"').replace('"perplexity"', '\n"perplexity"'))


def read_windows(path: pathlib.Path) -> list[list[int]]:
    stored = json.loads(path.read_text())
    if isinstance(stored, dict):
        return [window["ids"] for window in stored["windows"]]
    return stored


def first_tokens(model: pathlib.Path, text: pathlib.Path, count: int) -> list[int]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(model.parent, gguf_file=model.name)
    ids = tokenizer(text.read_text(encoding="utf-8"), add_special_tokens=False, verbose=False)["input_ids"]
    if len(ids) < count:
        raise SystemExit(f"{text} has {len(ids)} tokens, fewer than {count}")
    return ids[:count]


def load(path: pathlib.Path) -> transformers.PreTrainedModel:
    model = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager"
    )
    return model.eval()


def compare_with_gguf(model: transformers.PreTrainedModel, path: pathlib.Path) -> dict[str, str]:
    """The name of the matrix that was compared, by encoding.

    Queries and keys are left out: llama.cpp stores their rows in another order.
    """
    weights = dict(model.named_parameters())
    compared = {}
    for tensor in gguf.GGUFReader(path).tensors:
        encoding, name = tensor.tensor_type.name, in_transformers(tensor.name)
        if encoding in compared or name is None:
            continue
        decoded = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        if not numpy.array_equal(weights[name].detach().numpy(), decoded):
            raise SystemExit(f"{tensor.name} ({encoding}) is not what the package `gguf` decodes")
        compared[encoding] = tensor.name
    return compared


def in_transformers(name: str) -> str | None:
    """The name of a matrix or norm of the Llama family, or none for those that are not compared."""
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    parts = {
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
        "attn_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
    }
    pieces = name.split(".")
    if pieces[0] != "blk" or pieces[2] not in parts:
        return None
    return f"model.layers.{pieces[1]}.{parts[pieces[2]]}.weight"


@torch.inference_mode()
def negative_log_likelihoods(model: transformers.PreTrainedModel, window: list[int]) -> numpy.ndarray:
    """Of each token of a window but the first, given those before it, in nats."""
    ids = torch.tensor([window])
    logits = model(ids).logits[0, :-1]
    following = ids[0, 1:]
    parts = []
    for start in range(0, len(following), ROWS):
        chances = torch.log_softmax(logits[start : start + ROWS].double(), dim=-1)
        parts.append(-chances.gather(1, following[start : start + ROWS, None])[:, 0])
    return torch.cat(parts).numpy()


if __name__ == "__main__":
    main()
