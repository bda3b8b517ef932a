"""Measures kvlab-small.gguf and writes the figures into README.md, both beside this script.

    python crates/kv-model/small/report.py FOLDER

FOLDER is that of train.py: the bigram model counts its tokens.
"""

import csv
import math
import pathlib
import re
import sys

import gguf
import numpy
import torch

import data
from export import NAMES, neighbors
from network import Llama, Shape

# A head that gives this much to position 0 on average counts as a sink head, as in Gu et al., 2024 (arXiv 2410.10781).
SINK = 0.3
WINDOW = 2048
# Attention is measured for the queries from this position on.
FIRST_QUERY = 1024
THREADS = 2


def main() -> None:
    torch.set_num_threads(THREADS)
    work = pathlib.Path(sys.argv[1])
    shape = Shape()
    stream, texts = data.tokens(work, shape.vocabulary)
    model = stored(shape)
    figures = "\n\n".join([trained(model), perplexity(model, stream, texts), depths(model, texts), sinks(model, texts)])
    card = data.HERE / "README.md"
    marked = r"(<!-- figures: written by report\.py -->\n).*(<!-- end of figures -->)"
    text, count = re.subn(marked, lambda marks: f"{marks[1]}\n{figures}\n\n{marks[2]}", card.read_text(), flags=re.DOTALL)
    assert count == 1
    card.write_text(text)
    print(figures)


def stored(shape: Shape) -> Llama:
    """The network with the weights that the file holds, rounded as they are."""
    tensors = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(data.HERE / "kvlab-small.gguf").tensors}
    weights = {"embed_tokens.weight": tensors["token_embd.weight"], "norm.weight": tensors["output_norm.weight"]}
    for layer in range(shape.layers):
        for ours, theirs in NAMES.items():
            matrix = tensors[f"blk.{layer}.{theirs}.weight"]
            heads = {"attn_q": shape.heads, "attn_k": shape.kv_heads}.get(theirs)
            weights[f"layers.{layer}.{ours}.weight"] = halves(matrix, heads) if heads else matrix
    model = Llama(shape)
    model.load_state_dict({name: torch.tensor(matrix) for name, matrix in weights.items()})
    return model.eval()


def halves(weights: numpy.ndarray, heads: int) -> numpy.ndarray:
    """Undoes `neighbors`."""
    rows = weights.reshape(heads, -1, 2, weights.shape[1]).swapaxes(1, 2).reshape(weights.shape)
    assert numpy.array_equal(neighbors(rows, heads), weights)
    return rows


def trained(model: Llama) -> str:
    with (data.HERE / "loss.csv").open() as file:
        lines = list(csv.DictReader(file))
    last = lines[-1]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    size = (data.HERE / "kvlab-small.gguf").stat().st_size
    told = (
        f"{parameters:,} parameters; the file has {size:,} bytes. Trained for {last['step']} steps, "
        f"{int(last['tokens']):,} tokens in all, in {float(last['seconds']) / 3600:.2f} hours by the clock."
    )
    rows = [f"| {line['step']} | {line['loss']} | {line['held_out_loss']} |" for line in lines if line["held_out_loss"]]
    return "\n".join([told, "", "| step | loss | loss on held-out text |", "|---|---|---|", *rows])


def perplexity(model: Llama, stream: numpy.ndarray, texts: list[numpy.ndarray]) -> str:
    """In windows of 2048 tokens; the first token of a window is not predicted, by either model."""
    windows = cut(texts, WINDOW)
    ours = math.exp(numpy.mean([losses(model, window).mean() for window in windows]))
    theirs, unigram = (math.exp(loss) for loss in bigram_losses(stream, windows))
    tokens, size = sum(map(len, texts)), (data.HERE / "held-out.txt").stat().st_size
    bits = math.log2(ours) * tokens / size
    return "\n".join(
        [
            f"On the held-out text, {len(windows)} windows of {WINDOW} tokens, the same tokens for all three:",
            "",
            "| model | perplexity per token |",
            "|---|---|",
            f"| kvlab small | {ours:.2f} |",
            f"| bigram | {theirs:.2f} |",
            f"| unigram | {unigram:.2f} |",
            "",
            f"That is {bits:.2f} bits per byte. The bigram model is counted on the text that the network was trained on and "
            "smoothed with the unigram model; the strength of the smoothing is the best of seven *for the held-out text*, which "
            "favors it.",
        ]
    )


def cut(texts: list[numpy.ndarray], length: int) -> list[numpy.ndarray]:
    return [text[start : start + length] for text in texts for start in range(0, len(text) - length + 1, length)]


@torch.inference_mode()
def losses(model: Llama, window: numpy.ndarray) -> numpy.ndarray:
    """Of each token of a window but the first, in nats."""
    ids = torch.from_numpy(window.astype(numpy.int64))
    chances = torch.log_softmax(model(ids[None])[0, :-1].double(), dim=-1)
    return -chances.gather(1, ids[1:, None])[:, 0].numpy()


def bigram_losses(stream: numpy.ndarray, windows: list[numpy.ndarray]) -> tuple[float, float]:
    """Mean loss of a bigram and of a unigram model, in nats."""
    vocabulary = Shape().vocabulary
    unigram = (numpy.bincount(stream, minlength=vocabulary) + 1.0) / (len(stream) + vocabulary)
    pairs = numpy.zeros((vocabulary, vocabulary))
    numpy.add.at(pairs, (stream[:-1], stream[1:]), 1)
    before, after = (numpy.concatenate([window[at] for window in windows]) for at in (slice(None, -1), slice(1, None)))
    smoothed = []
    for strength in [1, 3, 10, 30, 100, 300, 1000]:
        chances = (pairs + strength * unigram) / (pairs.sum(axis=1, keepdims=True) + strength)
        smoothed.append(-numpy.log(chances[before, after]).mean())
    return min(smoothed), -numpy.log(unigram[after]).mean()


def depths(model: Llama, texts: list[numpy.ndarray]) -> str:
    """Perplexity by position, in windows as long as the context."""
    windows = cut(texts, model.shape.context)
    each = numpy.mean([losses(model, window) for window in windows], axis=0)
    edges = [0, 64, 256, 512, 1024, 2048, 4095]
    rows = [f"| {start + 1} to {end} | {math.exp(each[start:end].mean()):.2f} |" for start, end in zip(edges, edges[1:])]
    told = f"By position, in {len(windows)} windows of {model.shape.context} tokens:"
    return "\n".join([told, "", "| positions | perplexity |", "|---|---|", *rows])


@torch.inference_mode()
def sinks(model: Llama, texts: list[numpy.ndarray]) -> str:
    windows = cut(texts, WINDOW)[::4]
    # [layers, heads], the mean over queries and windows.
    first, four = numpy.zeros((2, model.shape.layers, model.shape.heads))
    for window in windows:
        weights = model.attention_weights(torch.from_numpy(window[None].astype(numpy.int64)))
        kept = [layer[0, :, FIRST_QUERY:] for layer in weights]
        first += [layer[:, :, 0].mean(dim=1).numpy() / len(windows) for layer in kept]
        four += [layer[:, :, :4].sum(dim=2).mean(dim=1).numpy() / len(windows) for layer in kept]
    even = numpy.mean([1 / (query + 1) for query in range(FIRST_QUERY, WINDOW)])
    count = int((first > SINK).sum())
    verdict = (
        f"**The model has attention sinks**: {count} of {first.size} heads give position 0 more than {SINK} of their attention."
        if count
        else f"**The model has no attention sinks**: no head gives position 0 more than {SINK} of its attention; "
        f"the most that one gives it is {first.max():.3f}."
    )
    rows = [
        f"| {layer} | {first[layer].mean():.4f} | {first[layer].max():.4f} | {four[layer].mean():.4f} | {four[layer].max():.4f} |"
        for layer in range(model.shape.layers)
    ]
    return "\n".join(
        [
            verdict,
            "",
            f"Share of the attention, for the queries at positions {FIRST_QUERY} to {WINDOW - 1} of {len(windows)} windows of "
            f"held-out text. If attention were spread evenly, position 0 would get {even:.4f} and the first four {4 * even:.4f}.",
            "",
            "| layer | position 0, mean over heads | most in a head | positions 0 to 3, mean over heads | most in a head |",
            "|---|---|---|---|---|",
            *rows,
        ]
    )


if __name__ == "__main__":
    main()
