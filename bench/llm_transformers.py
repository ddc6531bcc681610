"""Transformers' side of the inference benchmarks: the protocol of bench_device.cc, prefill and decode as in bench_llm.cc."""

import argparse
import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM


class Side:
    def __init__(self, args):
        torch.set_num_threads(args.threads)
        begin = time.perf_counter()
        self.model = AutoModelForCausalLM.from_pretrained(args.model, dtype=getattr(torch, args.dtype)).to(args.device).eval()
        print(json.dumps({"load_seconds": time.perf_counter() - begin}), flush=True)

    def tokens(self, count):
        return ((torch.arange(count) * 7919 + 13) % self.model.config.vocab_size).unsqueeze(0).to(self.model.device)

    def prefill(self, count):
        count = int(count)
        ids = self.tokens(count)
        begin = time.perf_counter()
        self.model(ids, logits_to_keep=1).logits.float().cpu()
        return {"seconds": time.perf_counter() - begin, "tokens": count}

    def decode(self, context, steps):
        steps = int(steps)
        out = self.model(self.tokens(int(context)), logits_to_keep=1, use_cache=True)
        last, ids = out.logits[:, -1:].argmax(-1), []
        begin = time.perf_counter()
        for _ in range(steps):
            ids.append(last.item())
            out = self.model(last, past_key_values=out.past_key_values, use_cache=True)
            last = out.logits[:, -1:].argmax(-1)
        last.item()
        return {"seconds": time.perf_counter() - begin, "tokens": steps, "ids": ids}

    greedy = decode

    def logits(self, count, file):
        self.model(self.tokens(int(count))).logits.float().cpu().numpy().tofile(file)
        return {"tokens": int(count)}


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="bfloat16")
    side = Side(parser.parse_args())
    for line in sys.stdin:
        name, *rest = line.split()
        if name == "quit":
            break
        print(json.dumps(getattr(side, name)(*rest)), flush=True)
    print(json.dumps({}), flush=True)


if __name__ == "__main__":
    main()
