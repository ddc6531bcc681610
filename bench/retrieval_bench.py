"""Indexers on a model whose whole work is to look things up over a long context: how often it finds the value when each layer reads few keys.

    python bench/retrieval_bench.py [--ours build/bin] [--model DIR] [--length 4096] [--top_k 32 64 128]
The model is trained first (retrieval_model.py), then its indexers (fine-tune --dsa warmup, then sparse). Beside them the choice of tiles of 16
keys at the same budget, indexers that no one trained, and the dense model; the keys that are asked for lie anywhere in the text.
"""

import argparse
import json
import pathlib
import tempfile

import command
import retrieval_model
import torch
from finetune_bench import print_machine

ROOT = pathlib.Path(__file__).resolve().parent.parent


def write_texts(file, count, length, draw):
    file.write_text("".join(json.dumps({"text": retrieval_model.words_of(retrieval_model.sample(length, 64, draw)[0].tolist())}) + "\n" for _ in range(count)))


def write_questions(file, count, length, draw):
    lines = []
    for _ in range(count):
        words = retrieval_model.words_of(retrieval_model.sample(length, 1, draw)[0].tolist()).split(" ")
        lines.append(json.dumps({"prompt": " ".join(words[1:-1]), "completion": words[-1]}) + "\n")
    file.write_text("".join(lines))


def train(args, data, stage, steps, rate, output, *more):
    return command.answer(args.ours, "fine-tune", "--model", args.model, "--dataset", data, "--dsa", stage, "--dsa_top_k", args.top_k[0], "--context", args.length, "--batch_size", 1, "--steps", steps,
               "--learning_rate", rate, "--validation", "0.05", "--eval_every", steps, "--output", output, *more)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ours", type=pathlib.Path, default=ROOT / "build" / "bin")
    parser.add_argument("--model", type=pathlib.Path)
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--top_k", type=int, nargs="+", default=[64])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--questions", type=int, default=100)
    args = parser.parse_args()
    print_machine(2)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        if args.model is None:
            args.model = folder / "model"
            retrieval_model.make(args.model, args.length)
        draw = torch.Generator().manual_seed(7)
        texts, asked, questions = folder / "texts.jsonl", folder / "asked.jsonl", folder / "questions.jsonl"
        write_texts(texts, args.steps, args.length, draw)
        write_questions(asked, args.steps, args.length, draw)
        write_questions(questions, args.questions, args.length, draw)
        untrained, warm, sparse = folder / "untrained", folder / "warm", folder / "sparse"
        train(args, texts, "warmup", 1, "1e-12", untrained)
        out = train(args, texts, "warmup", args.steps, "2e-3", warm)
        print(f"warm-up, {args.steps} steps of {args.length} tokens in {out['seconds'] / 60:.1f} min: of the attention on the best {args.top_k[0]} keys {100 * out['best_recall']:.1f}%, "
              f"untrained {100 * out['base_recall']:.1f}%", flush=True)
        out = train(args, asked, "sparse", args.steps, "1e-4", sparse, "--init_adapter", warm)
        print(f"sparse, {args.steps} steps in {out['seconds'] / 60:.1f} min: held-out loss {out['base_loss']:.3f}, then {out['best_loss']:.3f}", flush=True)
        found = {}
        for kind, adapter in (("dense", []), ("tiles", []), ("untrained indexers", ["--adapter", untrained]), ("indexers", ["--adapter", warm]), ("sparse stage", ["--adapter", sparse])):
            for attention in ["dense"] if kind == "dense" else [f"dsa:top_k={k}" for k in args.top_k]:
                out = command.answer(args.ours, "eval", "--model", args.model, *adapter, "--dataset", questions, "--attention", attention, "--max_new_tokens", 1)
                found[kind, attention] = out["exact_match"]
                print(f"{kind}, {attention}: {100 * out['exact_match']:.1f}% of {args.questions} values found, loss {out['loss']:.3f}", flush=True)
        least = f"dsa:top_k={args.top_k[0]}"
        print(f"RESULT retrieval dense={found['dense', 'dense']:.3f} indexers={found['indexers', least]:.3f} sparse={found['sparse stage', least]:.3f} "
              f"untrained={found['untrained indexers', least]:.3f} tiles={found['tiles', least]:.3f} keys={args.top_k[0] / args.length:.4f}")


if __name__ == "__main__":
    main()
