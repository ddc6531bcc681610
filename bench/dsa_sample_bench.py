"""The layer of nn::DynamicSparseAttention beside the published sample in eager PyTorch: dim 512, 8 heads, sparsity 0.6, one sequence.

    python bench/dsa_sample_bench.py --library build/lib/libdeepseek_ops.so [--length 2048]
The sample: a loop over batch and head, all scores, top-k of each row, the others 0, softmax. Both sides have the same projections; they take
turns, medians. First our result is compared with the mended sample (-infinity for what is left out, scale).
"""

import argparse
import math
import pathlib
import statistics
import time

import torch
from finetune_bench import print_machine

ROOT = pathlib.Path(__file__).resolve().parent.parent


class Layer(torch.nn.Module):
    def __init__(self, attention, dim=512, heads=8):
        super().__init__()
        self.attention, self.heads = attention, heads
        self.qkv, self.proj = torch.nn.Linear(dim, 3 * dim), torch.nn.Linear(dim, dim)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(self.attention(q, k, v).transpose(1, 2).flatten(2))


def sample(q, k, v, sparsity=0.6, mended=False):
    keep = int(q.shape[2] * (1 - sparsity))
    out = torch.empty_like(q)
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            scores = q[b, h] @ k[b, h].T * (q.shape[-1] ** -0.5 if mended else 1)
            top, at = scores.topk(keep, -1)
            left_out = torch.full_like(scores, -math.inf) if mended else torch.zeros_like(scores)
            out[b, h] = left_out.scatter_(-1, at, top).softmax(-1) @ v[b, h]
    return out


def timed(body):
    start = time.perf_counter()
    body()
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", type=pathlib.Path, default=ROOT / "build" / "lib" / "libdeepseek_ops.so")
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    print_machine(torch.get_num_threads())
    torch.ops.load_library(str(args.library))
    torch.manual_seed(0)
    result = []
    for name, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
        ours = Layer(lambda q, k, v: torch.ops.deepseek.dynamic_sparse_attention(q, k, v, 1 - 0.6)).to(dtype)
        theirs = Layer(sample).to(dtype)
        theirs.load_state_dict(ours.state_dict())
        mended = Layer(lambda q, k, v: sample(q, k, v, mended=True)).to(dtype)
        mended.load_state_dict(ours.state_dict())
        x = torch.randn(1, args.length, 512).to(dtype)
        weight = torch.randn(1, args.length, 512).to(dtype)
        with torch.inference_mode():
            error = ((ours(x) - mended(x)).float().abs().max() / mended(x).float().abs().max()).item()
            if not error < (1e-4 if dtype == torch.float32 else 0.05):  # in bf16 the sample's scores tie
                raise SystemExit(f"{name}: our result differs from the mended sample by {error}")
            times = [(timed(lambda: ours(x)), timed(lambda: theirs(x))) for _ in range(args.rounds)][1:]
        steps = [(timed(lambda: (ours(x) * weight).sum().backward()), timed(lambda: (theirs(x) * weight).sum().backward())) for _ in range(3)][1:]
        forward, step = (statistics.median(theirs / ours for ours, theirs in both) for both in (times, steps))
        spread = sorted(theirs / ours for ours, theirs in times)
        print(f"{name}: ours {1e3 * statistics.median(a for a, _ in times):.0f} ms, sample {1e3 * statistics.median(b for _, b in times):.0f} ms, "
              f"{forward:.1f}x ({spread[0]:.1f} to {spread[-1]:.1f}); with gradient {1e3 * statistics.median(a for a, _ in steps):.0f} and "
              f"{1e3 * statistics.median(b for _, b in steps):.0f} ms, {step:.1f}x; error {error:.1e}", flush=True)
        result.append(f"sample_{name}={forward:.1f} sample_{name}_step={step:.1f}")
    print("RESULT dsa_sample " + " ".join(result))


if __name__ == "__main__":
    main()
