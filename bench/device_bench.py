"""A model on a GPU beside Transformers on the same one: equal logits and greedy tokens in f32, tokens/s in bf16, in turn.

    python bench/device_bench.py [--model DIR | --shape NAME] [--device cuda] [--rounds N]
Without --model: random weights in the shape of a published model, since what is compared is the same on both sides.
"""

import argparse
import json
import pathlib
import statistics
import sys
import tempfile

import numpy as np
import torch
import transformers
from llm_bench import Side, rates_of

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHAPES = {
    "gemma-3-270m": transformers.Gemma3TextConfig(
        vocab_size=262144, hidden_size=640, intermediate_size=2048, num_hidden_layers=18, num_attention_heads=4, num_key_value_heads=1, head_dim=256,
        sliding_window=512, query_pre_attn_scalar=256, max_position_embeddings=32768),
    "qwen3-0.6b": transformers.Qwen3Config(
        vocab_size=151936, hidden_size=1024, intermediate_size=3072, num_hidden_layers=28, num_attention_heads=16, num_key_value_heads=8, head_dim=128,
        tie_word_embeddings=True, max_position_embeddings=32768),
    "deepseek-7b": transformers.LlamaConfig(
        vocab_size=102400, hidden_size=4096, intermediate_size=11008, num_hidden_layers=30, num_attention_heads=32, num_key_value_heads=32,
        max_position_embeddings=8192),
}
WORK = {"prefill2048": "prefill 2048", "decode16": "decode 16 64", "decode2048": "decode 2048 64"}


def random_model(shape, directory, device):
    torch.manual_seed(0)
    config = SHAPES[shape]
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config)
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(directory)
    tokenizer = ROOT / "tests" / "golden" / "models" / "qwen3"
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (tokenizer / name).exists():
            (pathlib.Path(directory) / name).write_bytes((tokenizer / name).read_bytes())
    return str(directory)


def sides(args, model, ours_dtype, peer_dtype):
    peer = [sys.executable, str(ROOT / "bench" / "llm_transformers.py"), "--model", model, "--device", args.device, "--dtype", peer_dtype]
    return Side("ours", [str(args.ours), "--model", model, "--device", args.device, "--dtype", ours_dtype]), Side("Transformers", peer, quiet=True)


def check(args, model):
    """In f32: logits of 300 tokens, the second part through the cache, and 48 greedy tokens."""
    both = sides(args, model, "f32", "float32")
    with tempfile.TemporaryDirectory() as folder:
        files = [pathlib.Path(folder) / str(i) for i in range(2)]
        for side, file in zip(both, files):
            side.ask(f"logits 300 {file}")
        mine, theirs = (np.fromfile(file, dtype=np.float32) for file in files)
    difference = float(np.abs(mine - theirs).max() / np.abs(theirs).max())
    ids = [side.ask("greedy 100 48")["ids"] for side in both]
    equal = next((i for i, (a, b) in enumerate(zip(*ids)) if a != b), len(ids[0]))
    print(f"f32: logits differ by {difference:.1e} of the largest; {equal} of 48 greedy tokens equal", flush=True)
    for side in both:
        side.quit()
    if difference > 1e-3:
        raise SystemExit("the logits are not those of Transformers")
    return difference, equal


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model")
    parser.add_argument("--shape", choices=SHAPES, default="gemma-3-270m")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ours", type=pathlib.Path, default=ROOT / "build" / "bin" / "deepseek-bench-device")
    args = parser.parse_args()
    name = args.model or args.shape + ", random weights"
    device = torch.cuda.get_device_name() if args.device == "cuda" else args.device
    print(f"{name} on {device}, torch {torch.__version__}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        model = args.model or random_model(args.shape, folder, args.device)
        difference, equal = check(args, model)
        both = sides(args, model, "bf16", "bfloat16")
        ratios = {}
        for key, line in WORK.items():
            rates_of(both, 0, line)  # the first of its kind prepares the device
            rounds = [rates_of(both, i, line) for i in range(args.rounds)]
            ours, theirs = (statistics.median(r[side] for r in rounds) for side in both)
            ratios[key] = statistics.median(r[both[0]] / r[both[1]] for r in rounds)
            print(f"{key}: ours {ours:.0f} tokens/s, Transformers {theirs:.0f}: {ratios[key]:.2f}x", flush=True)
        for side in both:
            side.quit()
    print("RESULT device " + " ".join(f"{k}={v:.2f}" for k, v in ratios.items()) + f" logits_difference={difference:.1e} greedy_equal={equal}")


if __name__ == "__main__":
    main()
