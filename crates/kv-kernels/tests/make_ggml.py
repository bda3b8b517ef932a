"""Writes ggml.json: rows encoded and decoded by third-party code, which the formats are tested against.

    pip install gguf ml_dtypes
    python crates/kv-kernels/tests/make_ggml.py > crates/kv-kernels/tests/ggml.json

`gguf` is llama.cpp's own package, here 0.19. `ml_dtypes`, from JAX, encodes FP8. Floats are written as their 32 bits.
"""

import json

import gguf
import ml_dtypes
import numpy

ROW = 64
random = numpy.random.default_rng(1)
rows = {
    "normal": random.normal(size=ROW),
    "large": 300 * random.normal(size=ROW),
    "small": 1e-3 * random.normal(size=ROW),
    "one outlier": numpy.concatenate([random.normal(size=ROW - 1), [-40.0]]),
    "all positive": random.uniform(1, 2, size=ROW),
    "all negative": -random.uniform(1, 2, size=ROW),
    "zeros": numpy.zeros(ROW),
    "a constant": numpy.full(ROW, 0.7),
    "ramp": numpy.linspace(-1, 1, ROW),
}
TYPES = {name: getattr(gguf.GGMLQuantizationType, name.upper()) for name in ("q8_0", "q4_0", "q4_1", "f16", "bf16")}


def bits(values: numpy.ndarray) -> list[int]:
    return values.astype(numpy.float32).view(numpy.uint32).tolist()


cases = []
for row, values in rows.items():
    values = values.astype(numpy.float32)
    for name, kind in TYPES.items():
        encoded = gguf.quants.quantize(values, kind)
        decoded = gguf.quants.dequantize(encoded, kind)
        cases.append({"format": name, "row": row, "values": bits(values), "encoded": encoded.tobytes().hex(), "decoded": bits(decoded)})
    encoded = numpy.clip(values, -448, 448).astype(ml_dtypes.float8_e4m3fn)
    cases.append(
        {"format": "fp8_e4m3", "row": row, "values": bits(values), "encoded": encoded.tobytes().hex(), "decoded": bits(encoded)}
    )
# Bytes that kvlab's encoders did not write.
for name in ("q8_0", "q4_0", "q4_1"):
    block, size = gguf.GGML_QUANT_SIZES[TYPES[name]]
    groups = random.integers(0, 256, size=(ROW // block, size), dtype=numpy.uint8)
    groups[:, 0:4] = random.normal(size=(ROW // block, 2)).astype(numpy.float16).view(numpy.uint8)
    decoded = gguf.quants.dequantize(groups.reshape(-1), TYPES[name])
    cases.append({"format": name, "row": "random bytes", "values": None, "encoded": groups.tobytes().hex(), "decoded": bits(decoded)})

# Formats that only weights have: kvlab decodes them and does not encode them.
# Bytes of a block at which its half-precision scales are.
SCALES = {"q5_0": [0], "q5_1": [0, 2], "q4_K": [0, 2], "q5_K": [0, 2], "q6_K": [208], "iq4_nl": [0]}


def add_weights(name: str, row: str, encoded: numpy.ndarray) -> None:
    decoded = gguf.quants.dequantize(encoded, getattr(gguf.GGMLQuantizationType, name.upper()))
    cases.append({"format": name, "row": row, "values": None, "encoded": encoded.tobytes().hex(), "decoded": bits(decoded)})


for name in ("q5_0", "q5_1"):
    for row in ("normal", "one outlier", "all negative", "zeros"):
        kind = getattr(gguf.GGMLQuantizationType, name.upper())
        add_weights(name, row, gguf.quants.quantize(rows[row].astype(numpy.float32), kind))
# A block each with ordinary scales, with subnormal ones and with large ones, of either sign.
for name, places in SCALES.items():
    _, size = gguf.GGML_QUANT_SIZES[getattr(gguf.GGMLQuantizationType, name.upper())]
    blocks = random.integers(0, 256, size=(3, size), dtype=numpy.uint8)
    for at in places:
        scales = random.normal(size=3) * numpy.array([1, 2e-6, 2e4])
        blocks[:, at : at + 2] = scales.astype(numpy.float16)[:, None].view(numpy.uint8)
    add_weights(name, "random bytes", blocks.reshape(-1))
print(json.dumps(cases, indent=None).replace("}, ", "},\n"))
