"""Inference beside llama.cpp on the same GGUF, same threads, in turn.

    python bench/llm_bench.py --model FILE.gguf [--rounds N] [--threads N]
Ours: build/bin/deepseek-bench-llm. Peer: llama-cpp-python (llm_peer.py), with and without flash attention; the faster of the two
counts for each figure. Transformers in bf16 runs once for comparison. Text for the losses: the answers of data/finance_qa.json and this repository's documentation.
"""

import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import texts
from finetune_bench import print_machine, spread

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORK = {"prefill512": "prefill 512", "prefill2048": "prefill 2048", "decode16": "decode 16 64", "decode2048": "decode 2048 32", "batch16": "batch 16 16 16"}
LOSS_BAR = 0.002  # of the perplexity


class Side:
    """One program that answers a line with a JSON object."""

    def __init__(self, name, command, quiet=False):
        self.name = name
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL if quiet else None, text=True)
        self.start = self._answer()

    def _answer(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit(f"{self.name} ended (status {self.process.wait()})")

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self._answer()

    def quit(self):
        totals = self.ask("quit")
        self.process.wait()
        return totals


def our_command(args):
    return [str(args.ours), "--model", args.model, "--threads", str(args.threads)]


def sides(args):
    peer = [sys.executable, str(ROOT / "bench" / "llm_peer.py"), "--model", args.model, "--threads", str(args.threads)]
    return [Side("ours", our_command(args)), Side("llama.cpp", peer), Side("llama.cpp, flash attention", [*peer, "--flash_attention"])]


def text_tokens(args, file):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(args.tokenizer))
    ids = tokenizer.encode(texts.questions(120) + texts.documentation()).ids[: args.loss_tokens]
    pathlib.Path(file).write_text(" ".join(map(str, ids)))


def losses(args, ours, peer):
    with tempfile.NamedTemporaryFile(suffix=".ids") as file:
        text_tokens(args, file.name)
        mine, theirs = (side.ask(f"losses {file.name} 2048") for side in (ours, peer))
    if mine["tokens"] != theirs["tokens"]:
        raise SystemExit(f"{mine['tokens']} tokens here, {theirs['tokens']} there")
    worse = math.exp(mine["loss"] - theirs["loss"]) - 1
    print(f"mean loss of {mine['tokens']} tokens: ours {mine['loss']:.5f}, llama.cpp {theirs['loss']:.5f}: perplexity {100 * worse:+.3f}%", flush=True)
    return worse


def measured_limits(args):
    """In a process of its own, whose memory does not count; before and after the rounds, since machines are shared."""
    side = Side("ours", our_command(args))
    limits = side.ask("limits")
    side.quit()
    return limits


def body_parameters(args):
    """Of the linear layers: what a token of a prompt meets."""
    c = json.loads((args.tokenizer.parent / "config.json").read_text(encoding="utf-8"))
    heads, kv, dim = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
    return c["num_hidden_layers"] * c["hidden_size"] * (2 * heads * dim + 2 * kv * dim + 3 * c["intermediate_size"])


def rates_of(sides, round_, line):
    """Tokens/s of each; every other round in the other order."""
    rates = {}
    for side in sides if round_ % 2 == 0 else sides[::-1]:
        answer = side.ask(line)
        rates[side] = answer["tokens"] / answer["seconds"]
    return rates


def second_start(args):
    """Seconds from a command to its first token, once the packed weights are kept."""
    command = [str(args.ours.parent / "deepseek-cli"), "generate", "--model", args.model, "--prompt", "A bond is", "--max_new_tokens", "1", "--quiet"]
    taken = []
    for _ in range(7):
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken[1:])


def int8_cache(args, rounds=3):
    """Keys and values in int8 beside bf16 and beside llama.cpp's q8_0, 2,048 positions."""
    peer = [sys.executable, str(ROOT / "bench" / "llm_peer.py"), "--model", args.model, "--threads", str(args.threads)]
    all_sides = [Side("int8", [*our_command(args), "--kv_cache", "int8"]), Side("bf16", our_command(args)),
                 Side("llama.cpp, q8_0", [*peer, "--flash_attention", "--kv_cache", "q8_0"])]
    rounds_of = [rates_of(all_sides, round_, WORK["decode2048"]) for round_ in range(rounds + 1)][1:]  # the first warms up
    for side in all_sides:
        side.quit()
    mine, wide, theirs = ([rates[side] for rates in rounds_of] for side in all_sides)
    print(f"cache in int8, decode2048: {spread([a / b for a, b in zip(mine, wide)])} of bf16's speed; "
          f"{spread([a / b for a, b in zip(mine, theirs)])} of llama.cpp's with q8_0", flush=True)


def beside_transformers(args, ours):
    """Three figures, once: it is the slower peer."""
    side = Side("Transformers", [sys.executable, str(ROOT / "bench" / "llm_transformers.py"), "--model", str(args.tokenizer.parent), "--threads", str(args.threads)], quiet=True)
    for line in ("prefill 512", "prefill 2048", "decode 16 16"):
        rates = []
        for one in (side, ours):
            one.ask(line)
            answer = one.ask(line)
            rates.append(answer["tokens"] / answer["seconds"])
        print(f"Transformers bf16: {line}: {rates[0]:.0f} tokens/s, ours {rates[1]:.0f}, {rates[1] / rates[0]:.1f}x", flush=True)
    side.quit()


def main():
    parser = argparse.ArgumentParser(description="Inference beside llama.cpp")
    parser.add_argument("--model", required=True, help="a .gguf")
    parser.add_argument("--tokenizer", type=pathlib.Path, required=True, help="tokenizer.json in the same model's Hugging Face directory")
    parser.add_argument("--ours", default=ROOT / "build" / "bin" / "deepseek-bench-llm", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--loss_tokens", type=int, default=20000)
    parser.add_argument("--no_formats", action="store_true", help="without the chosen format (llm_formats.py), which takes minutes")
    args = parser.parse_args()
    print_machine(args.threads)
    limits = measured_limits(args)
    all_sides = sides(args)
    ours, peers = all_sides[0], all_sides[1:]
    worse = losses(args, ours, peers[0])
    ratios = {name: [] for name in WORK}
    for round_ in range(args.rounds + 1):
        for name, line in WORK.items():
            rates = rates_of(all_sides, round_, line)
            best = max(peers, key=rates.get)
            print(f"  round {round_}: {name} {rates[ours]:.0f} tokens/s, {best.name} {rates[best]:.0f}{'' if round_ else ', not counted'}", flush=True)
            if round_:  # the first warms up
                ratios[name].append((rates[ours] / rates[best], rates[ours]))
    weights = ours.start["weight_bytes"]
    bandwidth = statistics.median(rate for _, rate in ratios["decode16"]) * weights / 1e9
    peaks = [side.quit()["peak_rss_bytes"] for side in all_sides]
    limits = {name: max(value, limits[name]) for name, value in measured_limits(args).items()}
    ours = Side("ours", our_command(args))
    parameters = body_parameters(args)
    products = statistics.median(rate for _, rate in ratios["prefill512"]) * 2 * parameters / 1e9
    print(f"limit: {limits['read_gb_per_s']:.1f} GB/s reading memory, {limits['int8_gop_per_s']:.0f} Gop/s of int8 products from the cache")
    print(f"decode reads weights at {bandwidth:.1f} GB/s, {100 * bandwidth / limits['read_gb_per_s']:.0f}% of the limit; a prompt's products run at "
          f"{products:.0f} Gop/s, {100 * products / limits['int8_gop_per_s']:.0f}% with everything else that a pass does")
    beside_transformers(args, ours)
    ours.quit()
    int8_cache(args)
    print(f"second start, to the first token: {second_start(args):.2f} s")
    chosen = {}
    if not args.no_formats:
        import llm_formats

        chosen = llm_formats.measure(args.model, args.tokenizer.parent, args.ours.parent, args.rounds, args.threads)
    for name, values in ratios.items():
        print(f"{name}: {spread([ratio for ratio, _ in values])}")
    print(f"peak memory: ours {peaks[0] >> 20} MiB, llama.cpp {min(peaks[1:]) >> 20} MiB")
    medians = " ".join(f"{name}={statistics.median(r for r, _ in values):.2f}" for name, values in ratios.items())
    more = "".join(f" {name}={value}" for name, value in chosen.items())
    print(f"RESULT llm {medians} memory={peaks[0] / min(peaks[1:]):.2f}{more} bandwidth_share={bandwidth / limits['read_gb_per_s']:.2f} "
          f"perplexity_worse={worse:.4f}")
    if worse > LOSS_BAR:
        sys.exit("the perplexity is worse than llama.cpp's by more than 0.2%")
    if chosen:
        llm_formats.check(chosen)


if __name__ == "__main__":
    main()
