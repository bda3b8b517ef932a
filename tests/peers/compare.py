"""Measures llama.cpp and kvlab alternately on one model, and compares the cost of a long cache.

See README.md in this folder. Needs llama-cpp-python, and otherwise only the standard library.
"""

import argparse
import csv
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import llama_cpp

ROOT = Path(__file__).resolve().parents[2]
# Cache formats: ggml's type number, and kvlab's label in bench-configs/peers.toml.
FORMATS = {"f16": (1, "contiguous f16"), "q8_0": (8, "quantized q8_0")}
LENGTHS = [16, 512, 4096, 7936]
# A shorter prompt says little of the prefill's rate, and a long one takes minutes.
PREFILLED = range(100, 5000)
# Those of a run's metrics.csv.
COLUMNS = ["label", "workload", "seq_len", "batch", "metric", "unit", "value", "interval_low", "interval_high", "n"]
# 97.5 % quantiles of Student's t distribution, by degrees of freedom.
STUDENT_T = {2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def measure_llama(model: str, ggml_type: int, threads: int, steps: int, lengths: list[int]) -> dict[int, tuple[float, float]]:
    """The time to the first token and the median time of a decode step, in ms, at each length."""
    llama = llama_cpp.Llama(
        model_path=model,
        n_ctx=8192,
        n_batch=512,
        n_threads=threads,
        n_threads_batch=threads,
        flash_attn=True,
        type_k=ggml_type,
        type_v=ggml_type,
        verbose=False,
    )
    tokens = random.Random(1).choices(range(llama.n_vocab()), k=max(lengths))
    llama.eval(tokens[: min(lengths)])  # Warms the CPU caches and loads the weights into memory.
    measured = {}
    for length in lengths:
        llama.reset()
        started = time.perf_counter()
        llama.eval(tokens[:length])
        first = 1e3 * (time.perf_counter() - started)
        decode = []
        for step in range(steps):
            started = time.perf_counter()
            llama.eval([tokens[step % len(tokens)]])
            decode.append(1e3 * (time.perf_counter() - started))
        measured[length] = (first, statistics.median(decode))
    llama.close()
    return measured


def measure_kvlab(label: str, arguments: argparse.Namespace, folder: Path) -> dict[int, tuple[float, float]]:
    """The same for kvlab, measured by its runner. A round is a launch."""
    command = ["cargo", "run", "--quiet", "-p", "runner", "--", "bench-configs/peers.toml", "--only", label]
    command += ["--kernel-path", arguments.kernel_path] if arguments.kernel_path else []
    settings = {"decode_steps": arguments.steps, "lengths": arguments.lengths, "launches": 1}
    command += [part for key, value in settings.items() for part in ("--set", f"sweep.{key}={value}")]
    command += ["--out", str(folder), "--threads", str(arguments.threads)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"the runner failed:\n{result.stderr}")
    with open(folder / "results.csv", newline="") as file:
        return {int(row["seq_len"]): (float(row["ttft_ms"]), float(row["tpot_ms_p50"])) for row in csv.DictReader(file)}


def measure_round(arguments: argparse.Namespace, done: int) -> dict[tuple[str, str], dict[int, tuple[float, float]]]:
    """Measures each engine once in each format, alternately."""
    measured = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.formats:
            ggml_type, label = FORMATS[name]
            print(f"round {done + 1} of {arguments.rounds}: llama.cpp, then kvlab, in {name}", file=sys.stderr)
            measured["llama.cpp", name] = measure_llama(arguments.model, ggml_type, arguments.threads, arguments.steps, arguments.lengths)
            measured["kvlab", name] = measure_kvlab(label, arguments, Path(folder))
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="the GGUF that `runner fetch smollm2-135m` printed")
    parser.add_argument("--out", default="peers.csv", help="the CSV to write [default: %(default)s]")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads for each engine [default: %(default)s]")
    parser.add_argument("--steps", type=int, default=32, help="decode steps at each length [default: %(default)s]")
    parser.add_argument("--lengths", nargs="+", type=int, default=LENGTHS, help="tokens of the prompts [default: %(default)s]")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS), help="cache formats [default: both]")
    parser.add_argument("--kernel-path", help="kvlab's kernel path, see `runner --help` [default: the best]")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; each measures both engines [default: %(default)s]")
    arguments = parser.parse_args()

    rounds = []
    try:
        for _ in range(arguments.rounds):
            rounds.append(measure_round(arguments, len(rounds)))
    except KeyboardInterrupt:
        print(f"interrupted: {len(rounds)} complete rounds are kept", file=sys.stderr)
        if not rounds:
            sys.exit(130)
    runs = {key: [round[key] for round in rounds] for key in rounds[0]}

    with open(arguments.out, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for (engine, name), measured in runs.items():
            # kvlab's own lines are already in the report.
            for length in arguments.lengths if engine == "llama.cpp" else ():
                for place, metric in enumerate(["ttft_ms", "tpot_ms_p50"]):
                    value, low, high = located([run[length][place] for run in measured])
                    numbers = [f"{value:.4f}", low and f"{low:.4f}", high and f"{high:.4f}"]
                    table.writerow([f"llama.cpp {llama_cpp.__version__} {name}", "decode", length, 1, metric, "ms", *numbers, len(measured)])

    print(f"\nmedians of {len(rounds)} rounds, {arguments.threads} threads; minimum and maximum in brackets")
    print(f"llama.cpp: {llama_cpp.llama_print_system_info().decode().strip(' |')}; kvlab: {arguments.kernel_path or 'the best path'}")
    for name in arguments.formats:
        theirs, ours = runs["llama.cpp", name], runs["kvlab", name]
        for length in arguments.lengths:
            tpot = [[run[length][1] for run in engine] for engine in (theirs, ours)]
            ratios = [mine / other for other, mine in zip(*tpot)]
            print(f"{name:5} TPOT at {length:4}: llama.cpp {spread(tpot[0])} ms, kvlab {spread(tpot[1])} ms, ratio {spread(ratios, 3)}")
        for length in (length for length in arguments.lengths if length in PREFILLED):
            rates = [[1e3 * length / run[length][0] for run in engine] for engine in (theirs, ours)]
            ratios = [mine / other for other, mine in zip(*rates)]
            print(
                f"{name:5} prefill of {length}: llama.cpp {spread(rates[0])} tokens/s, kvlab {spread(rates[1])} tokens/s, "
                f"ratio {spread(ratios, 2)}"
            )
        shallow, deep = min(arguments.lengths), max(arguments.lengths)
        growth = [[run[deep][1] - run[shallow][1] for run in engine] for engine in (theirs, ours)]
        ratios = [mine / other for other, mine in zip(*growth)]
        print(
            f"{name:5} TPOT grows from {shallow} to {deep} by: llama.cpp {spread(growth[0])} ms, kvlab {spread(growth[1])} ms, "
            f"ratio {spread(ratios, 3)}"
        )


def located(values: list[float]) -> tuple[float, float | None, float | None]:
    """The geometric mean, and where it lies with 95 % by Student's t, or the median of fewer than three rounds."""
    degrees = len(values) - 1
    if degrees < 2:
        return statistics.median(values), None, None
    logarithms = [math.log(value) for value in values]
    half = STUDENT_T.get(degrees, STUDENT_T[9]) * statistics.stdev(logarithms) / math.sqrt(len(values))
    mean = statistics.fmean(logarithms)
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def spread(values: list[float], digits: int = 1) -> str:
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


if __name__ == "__main__":
    main()
