"""Curriculum beside random order: held-out loss after the same budget, three seeds each.

    python bench/curriculum_bench.py [--model gemma-3-270m] [--steps N] [--seeds 1,2,3]
Arms: a plain shuffle (no curriculum), five stages from easy to hard by the dataset's field, by length and by the base
model's loss, the same pace in random order, and reverse. Prints mean and spread of the best validation loss and of the
loss on the test split that `eval` measures with the best adapter.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
CLI = pathlib.Path(os.environ.get("DEEPSEEK_CLI", ROOT / "build" / "bin" / "deepseek-cli"))
ARMS = {
    "shuffle": ["--curriculum_steps", "1"],
    "random_pace": ["--curriculum_steps", "5", "--curriculum_order", "random"],
    "forward_field": ["--curriculum_steps", "5", "--difficulty", "field"],
    "forward_length": ["--curriculum_steps", "5", "--difficulty", "length"],
    "forward_loss": ["--curriculum_steps", "5", "--difficulty", "loss"],
    "reverse_field": ["--curriculum_steps", "5", "--difficulty", "field", "--curriculum_order", "reverse"],
}


def run(args, arm, seed, directory):
    output = pathlib.Path(directory) / f"{arm}-{seed}"
    subprocess.run([CLI, "fine-tune", "--model", args.model, "--dataset", args.dataset, "--output", output, "--steps", str(args.steps),
                    "--seed", str(seed), "--quiet", "--samples", "0", *ARMS[arm]], check=True, stdout=subprocess.DEVNULL)
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    end = next(line for line in lines if line["type"] == "end")
    result = subprocess.run([CLI, "eval", "--model", args.model, "--adapter", output, "--dataset", args.dataset, "--split", "test",
                             "--no_generate", "--json"], check=True, stdout=subprocess.PIPE, text=True)
    return end["best_loss"], end["base_loss"], json.loads(result.stdout)["loss"]


def summary(values):
    return f"{statistics.mean(values):.4f} +- {statistics.stdev(values) if len(values) > 1 else 0:.4f}"


def main():
    parser = argparse.ArgumentParser(description="Curriculum beside random order")
    parser.add_argument("--model", default="gemma-3-270m")
    parser.add_argument("--dataset", default=str(ROOT / "data" / "finance_qa.json"))
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--arms", default=",".join(ARMS))
    args = parser.parse_args()
    seeds = [int(seed) for seed in args.seeds.split(",")]
    test = {}
    with tempfile.TemporaryDirectory() as directory:
        for arm in args.arms.split(","):
            results = [run(args, arm, seed, directory) for seed in seeds]
            test[arm] = [r[2] for r in results]
            print(f"{arm}: validation {summary([r[0] for r in results])} (base {results[0][1]:.4f}), test {summary(test[arm])}", flush=True)
    reference = statistics.mean(test["shuffle"]) if "shuffle" in test else None
    print("RESULT curriculum " + " ".join(
        f"{arm}={statistics.mean(values):.4f}" + (f" {arm}_vs_shuffle={statistics.mean(values) / reference:.4f}" if reference and arm != "shuffle" else "")
        for arm, values in test.items()) + f" steps={args.steps} seeds={len(seeds)}")


if __name__ == "__main__":
    main()
