"""Sparse attention: its speed beside torch and beside this project's own dense kernel, and what it costs on a real model.

    python bench/dsa_bench.py --model DIR [--ours build/bin] [--lengths 2048 4096 ...] [--no_fidelity]
Speed: one layer of 8 heads of 64, causal, over a paged bf16 cache; torch is scaled_dot_product_attention in f32 and bf16, the faster one
counts. Sides take turns, medians. Fidelity: next tokens, divergence and perplexity of --model (deepseek-cli eval --reference), and needles
and key-value pairs at every depth (dsa_retrieval.py), dense on the same prompts.
"""

import argparse
import math
import pathlib
import pydoc_data.topics
import statistics
import tempfile
import time

import command
import dsa_retrieval
import texts
import torch
from finetune_bench import print_machine
from llm_bench import Side

ROOT = pathlib.Path(__file__).resolve().parent.parent
HEADS, DIM = 8, 64
PAGE = 4000  # characters
SPEED = "dsa:top_k=2048"  # DeepSeek-V3.2's number


def seconds(body, least=0.3, most=5):
    """The fastest of some runs."""
    taken, begin = [], time.perf_counter()
    while not taken or (time.perf_counter() - begin < least and len(taken) < most):
        start = time.perf_counter()
        body()
        taken.append(time.perf_counter() - start)
    return min(taken)


@torch.inference_mode()
def torch_seconds(length, decode):
    best = math.inf
    for dtype in (torch.float32, torch.bfloat16):
        k, v = (torch.randn(1, HEADS, length, DIM).to(dtype) for _ in range(2))
        q = torch.randn(1, HEADS, 1 if decode else length, DIM).to(dtype)
        best = min(best, seconds(lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=not decode), most=20 if decode else 3))
    return best


def speed(args):
    side = Side("ours", [str(args.ours / "deepseek-bench-attention"), "--heads", str(HEADS), "--kv_heads", str(HEADS), "--dim", str(DIM), "--threads", str(args.threads)])
    print(f"kernel {side.start['kernel']}; sparse: {SPEED}", flush=True)
    # Sparse attention that reads every key is the dense one.
    difference = side.ask("check 2500 dsa:ratio=1")["difference"]
    if not difference < 0.01:
        raise SystemExit(f"reading all keys differs from dense attention by {difference}")
    table = {}
    for length in args.lengths:
        for work in ("prefill", "decode"):
            rounds = []
            for _ in range(args.rounds if length <= 16384 or work == "decode" else 1):
                tail = " 40" if work == "decode" else ""
                peer = torch_seconds(length, work == "decode")
                dense, sparse = side.ask(f"{work} {length} dense{tail}"), side.ask(f"{work} {length} {SPEED}{tail}")
                rounds.append((peer, dense["seconds"], sparse["seconds"]))
            peer, dense, ours = (statistics.median(r[i] for r in rounds) for i in range(3))
            row = table[work, length] = {"ours": ours, "vs_sdpa": statistics.median(r[0] / r[2] for r in rounds), "vs_dense": statistics.median(r[1] / r[2] for r in rounds),
                                         "dense_vs_sdpa": statistics.median(r[0] / r[1] for r in rounds), "keys_read": sparse["keys_read"]}
            print(f"{work} {length}: torch {1e3 * peer:.2f} ms, own dense {1e3 * dense:.2f} ms ({row['dense_vs_sdpa']:.1f}x torch), sparse {1e3 * ours:.2f} ms with "
                  f"{row['keys_read']:.2f} of the keys: {row['vs_sdpa']:.1f}x torch, {row['vs_dense']:.2f}x own dense", flush=True)
    side.quit()
    return table


def exponent(table):
    """Of time over length for prompts, by least squares on logarithms, where the selection is at work."""
    points = [(math.log(length), math.log(row["ours"])) for (work, length), row in table.items() if work == "prefill" and length >= 8192]
    if len(points) < 2:
        return math.nan
    x, y = (statistics.fmean(p[i] for p in points) for i in range(2))
    return sum((a - x) * (b - y) for a, b in points) / sum((a - x) ** 2 for a, _ in points)


def text_of(args):
    from tokenizers import Tokenizer

    topics = pydoc_data.topics.topics  # Python's reference
    sources = [texts.questions(language="en"), texts.documentation(), "".join(topics[name] for name in sorted(topics))]
    # A page of each in turn, so that a prompt of any length has all of them.
    text = "".join(source[at : at + PAGE] for at in range(0, max(map(len, sources)), PAGE) for source in sources)
    tokenizer = Tokenizer.from_file(str(pathlib.Path(args.model) / "tokenizer.json"))
    return tokenizer, text, tokenizer.encode(text, add_special_tokens=False).ids


def fidelity(args, tokenizer, text, ids):
    results = {}
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(tokenizer.decode(ids[: args.fidelity_tokens]))
        file.flush()
        for attention in args.attention:
            out = results[attention] = command.answer(args.ours, "eval", "--model", args.model, "--reference", args.model, "--attention", attention, "--window", args.fidelity_tokens,
                                                      "--text", file.name)
            out["worse"] = out["perplexity"] / out["reference_perplexity"] - 1
            print(f"{attention}, {out['tokens']} tokens: {out['keys_read']:.3f} of the keys, agreement {out['agreement']:.4f}, KL {out['kl']:.4f}, perplexity {100 * out['worse']:+.2f}%", flush=True)
    return results


def retrieval(args, tokenizer, ids):
    """Points (of 100) that sparse attention loses, by kind."""
    lost = {}
    for kind in ("needle", "pairs"):
        cases = dsa_retrieval.prompts(kind, tokenizer, ids, args.retrieval_tokens, args.samples)
        scores = {}
        for attention in ("dense", args.attention[0]):
            side = Side(attention, [str(args.ours / "deepseek-bench-llm"), "--model", args.model, "--threads", str(args.threads), "--attention", attention,
                                    "--cache_tokens", str(args.retrieval_tokens + 256)])
            scores[attention], read = dsa_retrieval.accuracy(side, tokenizer, cases)
            side.quit()
            print(f"{kind} at {args.retrieval_tokens} tokens, {args.samples} depths, {attention}: {100 * scores[attention]:.0f}% right, {read:.2f} of the keys", flush=True)
        lost[kind] = scores
    return lost


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True, help="a directory of a model with long contexts")
    parser.add_argument("--ours", type=pathlib.Path, default=ROOT / "build" / "bin")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lengths", type=int, nargs="+", default=[2048, 4096, 8192, 16384, 32768, 65536])
    parser.add_argument("--attention", nargs="+", default=["dsa:top_p=0.93", "dsa:ratio=0.43", "dsa:top_p=0.95"])
    parser.add_argument("--fidelity_tokens", type=int, default=8192)
    parser.add_argument("--retrieval_tokens", type=int, default=8192)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--no_fidelity", action="store_true")
    args = parser.parse_args()
    print_machine(args.threads)
    table = speed(args)
    parts = [f"prefill{n // 1024}k_vs_sdpa={table['prefill', n]['vs_sdpa']:.1f} decode{n // 1024}k_vs_sdpa={table['decode', n]['vs_sdpa']:.1f} "
             f"prefill{n // 1024}k_vs_dense={table['prefill', n]['vs_dense']:.2f} decode{n // 1024}k_vs_dense={table['decode', n]['vs_dense']:.1f}" for n in (32768,) if n in args.lengths]
    parts += [f"prefill2k_vs_dense={table['prefill', 2048]['vs_dense']:.2f}" for _ in (0,) if 2048 in args.lengths]
    parts.append(f"exponent={exponent(table):.2f}")
    if not args.no_fidelity:
        tokenizer, text, ids = text_of(args)
        first = fidelity(args, tokenizer, text, ids)[args.attention[0]]
        scores = retrieval(args, tokenizer, ids)
        parts.append(f"compute_saved={1 - first['keys_read']:.2f} agreement={first['agreement']:.4f} perplexity_worse={first['worse']:.4f}")
        parts += [f"{kind}={100 * both[args.attention[0]]:.0f} {kind}_dense={100 * both['dense']:.0f}" for kind, both in scores.items()]
    print("RESULT dsa " + " ".join(parts))


if __name__ == "__main__":
    main()
