"""PEFT's side of the fine-tuning benchmark: LoRA on every linear layer, AdamW, one optimiser step per request.

Made with peft 0.21.2, transformers 5.24.0, torch 2.13.0.
    python bench/finetune_peft.py --model DIR --batches FILE [--adapter DIR] [--dtype f32|autocast-bf16|bf16] [--threads N]

Prints READY when loaded, then reads lines from standard input: "step" trains on the next batch (the file is repeated) and
prints {"step", "loss", "tokens", "seconds"}; "quit" or the end of input prints {"total_steps", "total_tokens",
"total_seconds", "peak_rss_bytes"} and ends. tokens counts what is not padding. FILE is
{"batches": [{"sequences": [{"tokens": [...], "loss_from": k}, ...]}, ...]}: the loss is the mean over tokens[k:] of all
sequences of a batch (of what precedes them; the first token has no prediction).
"""

import argparse
import contextlib
import json
import os
import sys
import time

import peft
import torch
import transformers

RANK, ALPHA = 16, 32


def peak_rss():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def pad(batch, pad_id):
    """Padded to the longest on the right; the label -100 marks what has no loss."""
    sequences = batch["sequences"]
    longest = max(len(s["tokens"]) for s in sequences)
    ids = torch.full((len(sequences), longest), pad_id)
    labels = torch.full_like(ids, -100)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        tokens, start = torch.tensor(sequence["tokens"]), sequence["loss_from"]
        ids[row, : len(tokens)] = tokens
        labels[row, start : len(tokens)] = tokens[start:]
        mask[row, : len(tokens)] = 1
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def load(args):
    dtype = torch.bfloat16 if args.dtype == "bf16" else torch.float32
    model = transformers.AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype)
    model.config.use_cache = False
    if args.adapter:
        return peft.PeftModel.from_pretrained(model, args.adapter, is_trainable=True)
    torch.manual_seed(0)
    return peft.get_peft_model(model, peft.LoraConfig(
        r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"))


def train_step(model, optimizer, batch, autocast):
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16) if autocast else contextlib.nullcontext():
        loss = model(**batch).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
    optimizer.step()
    return loss.item()


def serve(model, batches, args):
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=args.lr, weight_decay=0.0)
    pad_id = model.config.pad_token_id or 0
    totals = {"total_steps": 0, "total_tokens": 0, "total_seconds": 0.0}
    print("READY", flush=True)
    for line in sys.stdin:
        if line.strip() == "quit":
            break
        if line.strip() != "step":
            raise SystemExit(f"unknown request {line.strip()!r}; send step or quit")
        batch = pad(batches[totals["total_steps"] % len(batches)], pad_id)
        tokens = int(batch["attention_mask"].sum())
        begin = time.perf_counter()
        loss = train_step(model, optimizer, batch, args.dtype == "autocast-bf16")
        seconds = time.perf_counter() - begin
        print(json.dumps({"step": totals["total_steps"], "loss": loss, "tokens": tokens, "seconds": seconds}), flush=True)
        totals["total_steps"] += 1
        totals["total_tokens"] += tokens
        totals["total_seconds"] += seconds
    print(json.dumps({**totals, "peak_rss_bytes": peak_rss()}), flush=True)
    if args.save:
        model.save_pretrained(args.save)


def main():
    parser = argparse.ArgumentParser(description="PEFT side of the fine-tuning benchmark")
    parser.add_argument("--model", required=True, help="Hugging Face directory")
    parser.add_argument("--batches", required=True)
    parser.add_argument("--adapter", help="PEFT directory to start from")
    parser.add_argument("--dtype", choices=("f32", "autocast-bf16", "bf16"), default="f32")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--save", help="where to write the trained adapter")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with open(args.batches) as file:
        batches = json.load(file)["batches"]
    model = load(args)
    model.train()
    serve(model, batches, args)


if __name__ == "__main__":
    main()
