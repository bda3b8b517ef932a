"""Writes tiny-qwen3/ and tiny-mistral/: random models, and what transformers computes with them.

    pip install torch==2.15.0 transformers==5.24.0
    python tests/golden/make_tiny.py

Each folder holds config.json and model.safetensors as transformers saves them, and expected.json: a prompt, its greedy
continuation, and the logits after some of its tokens. Everything is f32, and every step runs the whole sequence again,
without a cache. The continuation ends where the model's context does, which is also where Mistral's sliding window
would begin to hide tokens.
"""

import json
import pathlib

import torch
import transformers

SHAPE = {
    "vocab_size": 96,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    # Not hidden_size / num_attention_heads.
    "head_dim": 32,
    "max_position_embeddings": 40,
    "attn_implementation": "eager",
    "bos_token_id": None,
    "eos_token_id": None,
}
MODELS = {
    "tiny-qwen3": transformers.Qwen3Config(
        **SHAPE,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
        tie_word_embeddings=True,
    ),
    "tiny-mistral": transformers.MistralConfig(
        **SHAPE,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        sliding_window=SHAPE["max_position_embeddings"],
    ),
}
PROMPT_TOKENS = 16
NEW_TOKENS = SHAPE["max_position_embeddings"] - PROMPT_TOKENS
# New tokens after which the logits are written.
LOGITS_AFTER = (0, 1, 12, NEW_TOKENS)
# One whose continuations repeat themselves little.
SEED = 29


@torch.no_grad()
def randomize(model: torch.nn.Module, generator: torch.Generator) -> None:
    """Matrices that keep the size of activations, and norms that are not all ones."""
    for name, parameter in model.named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 1:
            parameter.copy_(1 + 0.4 * values)
        else:
            parameter.copy_(values / parameter.shape[1] ** 0.5)


@torch.no_grad()
def expected(model: torch.nn.Module, generator: torch.Generator) -> dict:
    prompt = torch.randint(SHAPE["vocab_size"], (PROMPT_TOKENS,), generator=generator).tolist()
    tokens, logits = list(prompt), []
    for new in range(NEW_TOKENS + 1):
        last = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1]
        if new in LOGITS_AFTER:
            logits.append({"tokens": len(tokens), "values": [round(value, 6) for value in last.tolist()]})
        if new < NEW_TOKENS:
            best, second = last.topk(2).values.tolist()
            assert best - second > 1e-3, "nearly tied: another seed"
            tokens.append(last.argmax().item())
    return {"prompt": prompt, "greedy": tokens[PROMPT_TOKENS:], "logits": logits}


def main() -> None:
    for name, config in MODELS.items():
        folder = pathlib.Path(__file__).parent / name
        generator = torch.Generator().manual_seed(SEED)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        randomize(model, generator)
        model.save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)
        (folder / "model.safetensors").chmod(0o644)
        engine = f"torch {torch.__version__}, transformers {transformers.__version__}"
        text = json.dumps({"engine": engine, **expected(model, generator)})
        (folder / "expected.json").write_text(text + "\n")


main()
