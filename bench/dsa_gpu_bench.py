"""Sparse attention on a GPU beside PyTorch's scaled_dot_product_attention, bf16.

    tools/build_ops python3 libdeepseek_ops.so && python bench/dsa_gpu_bench.py --library libdeepseek_ops.so
"""

import argparse
import statistics

import torch

SHAPES = {"grouped 32/8 x 128": (32, 8, 128, 128), "gemma 4/1 x 256": (4, 1, 256, 256), "latent 128/1 x 576": (128, 1, 576, 512)}


def milliseconds(work, rounds):
    for _ in range(2):
        work()
    times = []
    for _ in range(rounds):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        work()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times)


def lists_of(queries, keys, count):
    """Random causal lists: no locality that a cache could use."""
    seen = torch.arange(keys - queries + 1, keys + 1, device="cuda").unsqueeze(1)
    lists = (torch.rand(queries, count, device="cuda") * seen).int().sort(-1).values
    return lists.unsqueeze(0)


def dense(q, k, v, causal):

    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=k.shape[1] != q.shape[1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", required=True)
    parser.add_argument("--top_k", type=int, default=2048)
    parser.add_argument("--lengths", type=int, nargs="+", default=[8192, 32768, 65536])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.ops.load_library(args.library)
    ops = torch.ops.deepseek
    print(torch.cuda.get_device_name(), "torch", torch.__version__)
    torch.manual_seed(0)
    for name, (heads, kv_heads, dim, value_dim) in SHAPES.items():
        for length in args.lengths:
            for queries in (length, 1):
                count = min(args.top_k, length // 2)
                block = min(queries, 2048)  # queries at a time: of a long prefill the last ones, which cost most
                q = torch.randn(1, heads, block, dim, device="cuda", dtype=torch.bfloat16)
                k = torch.randn(1, kv_heads, length, dim, device="cuda", dtype=torch.bfloat16)
                v = k[..., :value_dim] if name.startswith("latent") else torch.randn_like(k)
                lists = lists_of(block, length, count)
                ours = milliseconds(lambda: ops.sparse_attention(q, k, v, lists), args.rounds)
                try:
                    # The last `block` queries see nearly all keys: without a mask the peer has no more to do, and its fastest kernel.
                    theirs = milliseconds(lambda: dense(q, k, v, False), args.rounds)
                except torch.OutOfMemoryError:
                    theirs = float("nan")
                index_q = torch.randn(1, block, 64, 128, device="cuda", dtype=torch.bfloat16)
                index_k = torch.randn(1, length, 128, device="cuda", dtype=torch.bfloat16)
                weights = torch.rand(1, block, 64, device="cuda")
                select = milliseconds(lambda: ops.select_keys(index_q, index_k, weights, count), 2) if queries == 1 or length <= 32768 else float("nan")
                read = block * count * (dim + (0 if name.startswith("latent") else value_dim)) * 2 * kv_heads / ours / 1e9
                print(f"{name}, {length} keys, {'prefill of the last ' + str(block) if queries > 1 else 'decode'}, top {count}: dense {theirs:.3f} ms, sparse {ours:.3f} ms, "
                      f"{theirs / ours:.2f}x, {read:.2f} TB/s gathered; choosing the keys {select:.3f} ms", flush=True)


if __name__ == "__main__":
    main()
