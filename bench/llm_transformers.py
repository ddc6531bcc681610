"""Transformers' side of the inference benchmark in bf16: prefill and decode of the protocol of bench_llm.cc."""

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
        self.model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.bfloat16).eval()
        print(json.dumps({"load_seconds": time.perf_counter() - begin}), flush=True)

    def tokens(self, count):
        generator = torch.Generator().manual_seed(1)
        return torch.randint(500, self.model.config.vocab_size - 500, (1, count), generator=generator)

    def prefill(self, count):
        ids = self.tokens(count)
        begin = time.perf_counter()
        self.model(ids, logits_to_keep=1)
        return {"seconds": time.perf_counter() - begin, "tokens": count}

    def decode(self, context, steps):
        out = self.model(self.tokens(context), logits_to_keep=1, use_cache=True)
        begin = time.perf_counter()
        for _ in range(steps):
            out = self.model(out.logits[:, -1:].argmax(-1), past_key_values=out.past_key_values, use_cache=True)
        return {"seconds": time.perf_counter() - begin, "tokens": steps}


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, default=2)
    side = Side(parser.parse_args())
    for line in sys.stdin:
        name, *rest = line.split()
        if name == "quit":
            break
        print(json.dumps(getattr(side, name)(*map(int, rest))), flush=True)
    print(json.dumps({}), flush=True)


if __name__ == "__main__":
    main()
