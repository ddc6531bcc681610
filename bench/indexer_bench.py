"""Indexers trained for Gemma 3 270M: the attention they find before and after training, and what the model loses by reading only what they name,
beside the training-free choice of tiles at the same share of keys.

    python bench/indexer_bench.py --model DIR [--steps 64] [--adapter DIR]
It trains on Python's own reference topics and library and, where the benchmark data lies, on sums and finance reports; the text that is measured
is this repository's documentation, which it has not seen.
"""

import argparse
import json
import os
import pathlib
import pydoc_data.topics
import random
import tempfile

import command
import texts
from finetune_bench import print_machine

ROOT = pathlib.Path(__file__).resolve().parent.parent
DATA = pathlib.Path(os.environ.get("DEEPSEEK_DATA", ROOT.parent / "shared" / "data"))


def training_rows(seed):
    """About 1.6 million characters of prose, code, questions and tables."""
    topics = list(pydoc_data.topics.topics.values())
    library = [p.read_text(encoding="utf-8", errors="ignore")[:12000] for p in sorted(pathlib.Path(pydoc_data.topics.__file__).parents[1].glob("*.py"))]
    kinds = [topics, library]
    if (DATA / "gsm8k_train.jsonl").exists():
        records = [json.loads(line) for line in (DATA / "gsm8k_train.jsonl").read_text(encoding="utf-8").splitlines()]
        kinds.append([f"Question: {r['question']}\nAnswer: {r['answer']}\n" for r in records])
    if (DATA / "tatqa_dev.json").exists():
        kinds.append([report_of(r) for r in json.loads((DATA / "tatqa_dev.json").read_text(encoding="utf-8"))])
    if len(kinds) == 2:
        print(f"no benchmark data in {DATA}: training on Python's own texts alone")
    draw, rows = random.Random(seed), []
    for kind in kinds:
        draw.shuffle(kind)
        size = 0
        for row in kind:
            if size > 450_000:
                break
            rows.append(row)
            size += len(row)
    draw.shuffle(rows)
    return rows


def report_of(record):
    table = record["table"]["table"] if isinstance(record["table"], dict) else record["table"]
    lines = [" | ".join(map(str, row)) for row in table] + [p["text"] for p in record["paragraphs"]]
    return "\n".join(lines + [f"Question: {q['question']}\nAnswer: {q['answer']}" for q in record["questions"]]) + "\n"


def measured_text():
    return (texts.questions(language="en") + texts.documentation())[:34_000]


def train(args, rows, folder):
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows), encoding="utf-8")
    adapter = folder / "indexers"
    out = command.answer(args.ours, "fine-tune", "--model", args.model, "--dataset", data, "--dsa", "warmup", "--context", args.window, "--batch_size", 1, "--steps", args.steps,
              "--learning_rate", "2e-3", "--validation", "0.02", "--eval_every", args.steps, "--output", adapter)
    print(f"{args.steps} steps of {args.window} tokens in {out['seconds'] / 60:.0f} min: of the attention on the best 512 keys of held-out rows they find {100 * out['best_recall']:.1f}%, "
          f"untrained {100 * out['base_recall']:.1f}%", flush=True)
    return adapter, out


def recall_on(args, adapter, text, folder):
    """Recall on a text that training has not seen: the evaluation before a step that changes nothing."""
    data = folder / "measured.jsonl"
    data.write_text(json.dumps({"text": text, "split": "validation"}) + "\n" + json.dumps({"text": text}) + "\n", encoding="utf-8")
    return command.answer(args.ours, "fine-tune", "--model", args.model, "--dataset", data, "--dsa", "warmup", "--init_adapter", adapter, "--context", args.window, "--batch_size", 1, "--steps", 1,
               "--learning_rate", "1e-12", "--output", folder / "measured", "--overwrite")["base_recall"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--ours", type=pathlib.Path, default=ROOT / "build" / "bin")
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--window", type=int, default=8192)
    parser.add_argument("--adapter", type=pathlib.Path, help="indexers that were trained before")
    parser.add_argument("--top_k", type=int, nargs="+", default=[512, 1024, 2048])
    args = parser.parse_args()
    print_machine(2)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        trained = None
        if args.adapter is None:
            args.adapter, trained = train(args, training_rows(1), folder)
        text = measured_text()
        unseen = recall_on(args, args.adapter, text, folder)
        print(f"on documentation, which they have not seen: {100 * unseen:.1f}%", flush=True)
        file = folder / "text.txt"
        file.write_text(text, encoding="utf-8")
        table = {}
        for kind, adapter in (("indexers", ["--adapter", args.adapter]), ("tiles", [])):
            for attention in ["dense", *(f"dsa:top_k={k}" for k in args.top_k)]:
                out = command.answer(args.ours, "eval", "--model", args.model, *adapter, "--reference", args.model, "--attention", attention, "--window", args.window, "--text", file)
                table[kind, attention] = out
                print(f"{kind}, {attention}, {out['tokens']} tokens: {out.get('keys_read', 1):.3f} of the keys, agreement {out['agreement']:.4f}, KL {out['kl']:.4f}, "
                      f"perplexity {100 * (out['perplexity'] / out['reference_perplexity'] - 1):+.2f}%", flush=True)
        middle = f"dsa:top_k={args.top_k[len(args.top_k) // 2]}"
        before = "" if trained is None else f"recall={trained['best_recall']:.3f} untrained={trained['base_recall']:.3f} "
        print(f"RESULT indexer {before}unseen={unseen:.3f} agreement={table['indexers', middle]['agreement']:.3f} agreement_of_tiles={table['tiles', middle]['agreement']:.3f}")


if __name__ == "__main__":
    main()
