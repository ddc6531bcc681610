"""FNV-1a of what gguf-py decodes from pseudo-random blocks of each quantised type; the table in dequantize_test.cc.

Made with gguf 0.19.0.    python tests/golden/dequantize.py
"""
import struct

import gguf
import numpy as np
from gguf.quants import dequantize

MASK = (1 << 64) - 1
BLOCKS = 64
# Where each block's f16 scales stand: they are made finite, the rest may be any bits.
SCALES = {"Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,), "Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}


def random_bytes(seed, count):
    state, out = seed, bytearray()
    while len(out) < count:
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        out += struct.pack("<Q", z ^ (z >> 31))
    return out[:count]


def fnv(data):
    value = 0x811C9DC5
    for byte in data:
        value = ((value ^ byte) * 0x01000193) & MASK & 0xFFFFFFFF
    return value


for name, scales in SCALES.items():
    kind = gguf.GGMLQuantizationType[name]
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    data = random_bytes(kind.value, BLOCKS * size)
    for block in range(BLOCKS):
        for at in scales:
            data[block * size + at + 1] &= 0xBF  # the exponent's first bit: below 2
    values = dequantize(np.frombuffer(bytes(data), dtype=np.uint8).reshape(1, -1), kind).astype("<f4").ravel()
    assert values.size == BLOCKS * elements and np.isfinite(values).all()
    values = values + np.float32(0)  # -0 becomes 0: which of the two comes out is no part of the format
    print(f'{{DType::k{name}, {kind.value}, {fnv(values.tobytes()):#010x}}},')
