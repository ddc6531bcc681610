"""Fine-tuning speed and memory beside PEFT: LoRA r = 16 on every linear layer of a real model, step by step in turn.

    python bench/finetune_bench.py --model HF_DIR --tokenizer TOKENIZER_JSON [--ours-model DIR_OR_GGUF] [--steps N]
Workloads: full (4 x 128 tokens, loss on all) and qa (8 questions with answers from data/finance_qa.json, loss on answers).
Both sides start from one adapter that PEFT initialised. PEFT runs in the fastest of f32, autocast-bf16 and bf16, found by
two warm steps each. Loss curves are compared before any ratio is reported.
Ours: build/bin/deepseek-bench-step, with finetune_peft.py's protocol.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PEFT_TYPES = ("f32", "autocast-bf16", "bf16")
LOSS_BAR = 0.02


class Side:
    """One program that trains a step at a time."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        while True:
            line = self.process.stdout.readline()
            if line.strip() == "READY":
                return
            if not line:
                raise SystemExit(f"{command[0]} ended before it was ready (status {self.process.wait()})")

    def _ask(self, request):
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit(f"{self.process.args[0]} gave no answer to {request} (status {self.process.wait()})")

    def step(self):
        return self._ask("step")

    def quit(self):
        totals = self._ask("quit")
        self.process.stdin.close()
        self.process.wait()
        return totals


def full_batches(tokenizer, count):
    """Sequences of 128 tokens from the repository's own text."""
    files = sorted([*ROOT.glob("docs/**/*.md"), *ROOT.glob("src/**/*.h"), *ROOT.glob("*.md")])
    ids, needed = [], count * 4 * 128
    for file in files:
        ids += tokenizer.encode(file.read_text(encoding="utf-8"), add_special_tokens=False).ids
        if len(ids) >= needed:
            break
    if len(ids) < needed:
        raise SystemExit(f"the repository's text has only {len(ids)} tokens, {needed} are needed; use fewer --steps")
    rows = [ids[i : i + 128] for i in range(0, needed, 128)]
    return [{"sequences": [{"tokens": r, "loss_from": 1} for r in rows[i : i + 4]]} for i in range(0, len(rows), 4)]


def qa_batches(tokenizer, count, path):
    """Eight examples each; the question is context, the answer with its end token has the loss."""
    records = json.loads(path.read_text(encoding="utf-8"))
    records = records if isinstance(records, list) else next(v for v in records.values() if isinstance(v, list))
    end = next((i for i in map(tokenizer.token_to_id, ("<eos>", "</s>", "<|endoftext|>")) if i is not None), None)
    sequences = []
    for record in records:
        question = next(record[k] for k in ("question", "instruction", "prompt") if k in record)
        answer = next(record[k] for k in ("answer", "output", "response", "completion") if k in record)
        prompt = tokenizer.encode(f"Question: {question}\nAnswer:").ids
        reply = tokenizer.encode(f" {answer}", add_special_tokens=False).ids + ([end] if end is not None else [])
        sequences.append({"tokens": prompt + reply, "loss_from": len(prompt)})
    return [{"sequences": [sequences[(8 * b + i) % len(sequences)] for i in range(8)]} for b in range(count)]


def peft_command(args, batches, dtype):
    return [sys.executable, str(ROOT / "bench" / "finetune_peft.py"), "--model", str(args.model), "--batches", batches,
            "--adapter", args.adapter, "--dtype", dtype, "--threads", str(args.threads), "--lr", str(args.lr)]


def our_command(args, batches):
    return [str(args.ours), "--model", str(args.ours_model or args.model), "--batches", batches, "--adapter",
            args.adapter, "--threads", str(args.threads), "--dtype", args.dtype]


def fastest_peft(args, batches):
    rates = {}
    for dtype in PEFT_TYPES:
        side = Side(peft_command(args, batches, dtype))
        side.step()  # cold
        results = [side.step() for _ in range(2)]
        peak = side.quit()["peak_rss_bytes"]
        rates[dtype] = sum(r["tokens"] for r in results) / sum(r["seconds"] for r in results)
        print(f"  PEFT {dtype}: {rates[dtype]:.1f} tokens/s, peak {peak / 2**20:.0f} MiB", flush=True)
    return max(rates, key=rates.get)


def compare(args, name, batches):
    """Alternates both sides and returns (ratios of seconds, largest loss difference, memory ratio)."""
    print(f"{name}:", flush=True)
    dtype = fastest_peft(args, batches)
    peft, ours = Side(peft_command(args, batches, dtype)), Side(our_command(args, batches))
    ratios, difference = [], 0.0
    for i in range(args.steps + 1):
        order = (peft, ours) if i % 2 == 0 else (ours, peft)
        results = {side: side.step() for side in order}
        p, o = results[peft], results[ours]
        if p["tokens"] != o["tokens"]:
            raise SystemExit(f"step {i}: PEFT trained on {p['tokens']} tokens, ours on {o['tokens']}")
        difference = max(difference, abs(p["loss"] - o["loss"]) / abs(p["loss"]))
        print(f"  step {i}: loss {p['loss']:.4f} and {o['loss']:.4f}, {p['tokens'] / p['seconds']:.1f} (PEFT {dtype}) and "
              f"{o['tokens'] / o['seconds']:.1f} (ours {args.dtype}) tokens/s{'' if i else ', not counted'}", flush=True)
        if i:  # the first step warms up
            ratios.append(p["seconds"] / o["seconds"])
    peaks = peft.quit()["peak_rss_bytes"], ours.quit()["peak_rss_bytes"]
    print(f"  peak memory: PEFT {peaks[0] / 2**20:.0f} MiB, ours {peaks[1] / 2**20:.0f} MiB")
    print(f"  largest relative difference of losses {difference:.4f} (bar {LOSS_BAR})", flush=True)
    return ratios, difference, peaks[0] / peaks[1]


def print_machine(threads):
    import torch

    torch.set_num_threads(threads)
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unknown")
    print(f"CPU: {cpu}, {os.cpu_count()} cores, {threads} threads")
    for name, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = torch.randn(2048, 2048).to(dtype), torch.randn(2048, 2048).to(dtype)
        seconds = best_seconds(lambda a=a, b=b: a @ b)
        print(f"limit: {2 * 2048**3 / seconds / 1e9:.0f} Gop/s in a torch {name} product of 2048 x 2048")
    source, target = torch.ones(64 << 20), torch.empty(64 << 20)
    print(f"limit: {2 * source.nbytes / best_seconds(lambda: target.copy_(source)) / 1e9:.1f} GB/s copying memory", flush=True)


def best_seconds(function):
    times = []
    while len(times) < 5 and sum(times) < 5:  # a processor without bf16 takes minutes for five
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return min(times)


def initial_adapter(args, directory):
    """PEFT's own initialisation, saved once so that both sides start equal."""
    batches = pathlib.Path(directory) / "none.json"
    batches.write_text('{"batches": []}')
    target = str(pathlib.Path(directory) / "adapter")
    subprocess.run([sys.executable, str(ROOT / "bench" / "finetune_peft.py"), "--model", str(args.model), "--batches",
                    str(batches), "--save", target], input="quit\n", text=True, check=True, stdout=subprocess.DEVNULL)
    return target


def spread(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def main():
    parser = argparse.ArgumentParser(description="Fine-tuning beside PEFT")
    parser.add_argument("--model", type=pathlib.Path, required=True, help="Hugging Face directory for PEFT")
    parser.add_argument("--tokenizer", help="tokenizer.json; default: the one in --model")
    parser.add_argument("--ours-model", help="model for our side; default: --model")
    parser.add_argument("--ours", default=ROOT / "build" / "bin" / "deepseek-bench-step", type=pathlib.Path)
    parser.add_argument("--dtype", default="bf16", help="type of our side")
    parser.add_argument("--qa", type=pathlib.Path, default=ROOT / "data" / "finance_qa.json")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--lr", type=float, default=1e-4)
    args = parser.parse_args()
    for path, remedy in ((args.ours, "build it first"), (args.qa, "pass --qa"), (args.model, "pass --model")):
        if not path.exists():
            sys.exit(f"{path} does not exist; {remedy}")
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(args.tokenizer or str(args.model / "tokenizer.json"))
    print_machine(args.threads)
    workloads = {"full": full_batches(tokenizer, args.steps + 1), "qa": qa_batches(tokenizer, args.steps + 1, args.qa)}
    with tempfile.TemporaryDirectory() as directory:
        args.adapter = initial_adapter(args, directory)
        measured = {}
        for name, batches in workloads.items():
            path = pathlib.Path(directory) / f"{name}.json"
            path.write_text(json.dumps({"batches": batches}))
            measured[name] = compare(args, name, str(path))
    difference = max(m[1] for m in measured.values())
    full, qa = measured["full"], measured["qa"]
    print(f"speedup (median, lowest-highest): full {spread(full[0])}, qa {spread(qa[0])}")
    if difference > LOSS_BAR:
        print(f"RESULT finetune losses_differ={difference:.4f}")
        sys.exit("the two sides do not train the same way, so their times mean nothing")
    print(f"RESULT finetune speedup_full={statistics.median(full[0]):.2f} speedup_qa={statistics.median(qa[0]):.2f} "
          f"memory_ratio={full[2]:.2f} speedup_full_min={min(full[0]):.2f} speedup_full_max={max(full[0]):.2f} "
          f"speedup_qa_min={min(qa[0]):.2f} speedup_qa_max={max(qa[0]):.2f} memory_ratio_qa={qa[2]:.2f} "
          f"loss_difference={difference:.4f}")


if __name__ == "__main__":
    main()
