"""A model whose weights lie on no grid, from a quantised GGUF: what formats cost can only be measured against such a one.

    python bench/off_grid.py --gguf FILE.gguf --like DIR --output DIR [--seed N]
Each weight is drawn evenly from the values that would have been rounded to the one in the file, so that the file is to the new model what
a quantised file is to the model it was made from. DIR of --like: the same model as a Hugging Face directory (configuration, tokenizer).
"""

import argparse
import pathlib
import shutil
import sys

import gguf
import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden"))
from gemma import hf_name  # noqa: E402

BLOCK = {"Q8_0": 32, "Q5_0": 32, "Q4_0": 32, "Q4_K": 32, "Q5_K": 32, "Q6_K": 16}


def steps(values, kind):
    """The distance of levels in each block: the smallest between two values that occur, or a 127th of the largest for 8 bits."""
    blocks = values.reshape(-1, BLOCK[kind])
    if kind == "Q8_0":
        return np.abs(blocks).max(axis=1, keepdims=True) / 127
    gaps = np.diff(np.sort(blocks, axis=1), axis=1)
    floor = 1e-4 * np.abs(blocks).max(axis=1, keepdims=True) + 1e-12
    return np.where(gaps > floor, gaps, np.inf).min(axis=1, keepdims=True, initial=np.inf)


def main():
    parser = argparse.ArgumentParser(description="A model whose weights lie on no grid")
    parser.add_argument("--gguf", required=True)
    parser.add_argument("--like", required=True, type=pathlib.Path)
    parser.add_argument("--output", required=True, type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    random = np.random.default_rng(args.seed)
    tensors = {}
    with safe_open(args.like / "model.safetensors", "pt") as file:
        for name in file.keys():
            tensors[name] = file.get_tensor(name)
    for tensor in gguf.GGUFReader(args.gguf).tensors:
        kind = tensor.tensor_type.name
        if kind not in BLOCK:
            continue
        values = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        step = steps(values, kind)
        noise = random.random(values.size, dtype=np.float32).reshape(-1, BLOCK[kind]) - 0.5
        moved = (values.reshape(noise.shape) + noise * np.where(np.isfinite(step), step, 0)).reshape(values.shape)
        tensors[hf_name(tensor.name)] = torch.from_numpy(moved).to(torch.bfloat16)
    args.output.mkdir(parents=True, exist_ok=True)
    for file in args.like.iterdir():
        if file.suffix == ".json":
            shutil.copy(file, args.output)
    save_file({name: t.contiguous() for name, t in tensors.items()}, args.output / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main()
