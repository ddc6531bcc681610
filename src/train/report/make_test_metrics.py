#!/usr/bin/env python3
"""Writes test_metrics.jsonl beside itself: an invented run of 240 steps, hostile texts and a line cut in the middle."""

import json
import math
import pathlib
import random

r = random.Random(7)
lines = [{"type": "start", "time": "2026-01-02T03:04:05Z",
          "command": "deepseek-cli fine-tune gemma-3-270m --data data/finance_qa.json --curriculum 3", "model": "gemma-3-270m",
          "dataset": "data/finance_qa.json", "dataset_format": "question/answer pairs", "cpu": "8-core test CPU", "threads": 2,
          "dtype": "bf16", "parameters_total": 268098176, "parameters_trained": 3796992, "steps_total": 240,
          "options": {"lora_rank": 16, "learning_rate": 2e-4, "curriculum": "linear", "note": "</script><b>&\"'"}},
         {"type": "evaluation", "step": 0, "loss": 2.4, "perplexity": 11.02, "best": False}]
best = (0, 9)
for step in range(1, 241):
    if step in (1, 81, 161):
        stage = step // 80 + 1
        lines.append({"type": "stage", "step": step, "stage": stage, "stages": 3, "admitted": 219 * stage, "examples": 657,
                      "difficulty_from": 1, "difficulty_to": [2, 3, 5][stage - 1]})
    loss = 0.75 + 1.7 * math.exp(-step / 45) + 0.12 * (step > 80) + 0.1 * (step > 160) + r.gauss(0, 0.13)
    rate = 2e-4 * min(step / 20, 0.5 + 0.5 * math.cos(math.pi * step / 240))
    lines.append({"type": "step", "step": step, "epoch": step / 80, "stage": (step - 1) // 80 + 1,
                  "loss": None if step == 50 else round(loss, 4), "learning_rate": rate, "gradient_norm": round(r.lognormvariate(0, 0.4), 3),
                  "tokens": 512, "tokens_per_second": round(r.gauss(420, 18), 1), "seconds": 1.2})
    if step % 30 == 0:
        held_out = round(0.98 + 1.4 * math.exp(-step / 50) + r.gauss(0, 0.01), 4)
        lines.append({"type": "evaluation", "step": step, "loss": held_out, "perplexity": round(math.exp(held_out), 3), "best": held_out < best[1]})
        best = min((step, held_out), best, key=lambda pair: pair[1])
lines += [{"type": "sample", "question": "What is a bond? </script><script>alert(1)</script>", "expected": "A bond is a tradable debt security.",
           "before": "<img src=x onerror=alert(2)> Bond. Bond. Bond.", "after": "A bond is a debt security whose issuer pays interest."},
          {"type": "sample", "question": "什么是复利？", "expected": "复利是按本金和已产生的利息一起计算的利息。", "before": "复利", "after": "复利是按本金和利息计算的利息。"},
          {"type": "sample", "question": "How much simple interest does $1,000 earn in 3 years at 5% per year?",
           "expected": "Formula: simple interest = principal × rate × years. Calculation: 1,000 × 0.05 × 3 = 150.00. Answer: 150.00",
           "before": "The simple interest is the interest that is earned on the principal amount.",
           "after": "Formula: simple interest = principal × rate × years. Calculation: 1,000 × 0.05 × 3 = 150.00. Answer: 150.00"},
          {"type": "something new", "x": [1]},
          {"type": "end", "step": 240, "reason": "finished", "best_step": best[0], "best_loss": best[1], "base_loss": 2.4, "seconds": 301.5}]
text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + '\n{"type":"step","step":24'
pathlib.Path(__file__).with_name("test_metrics.jsonl").write_text(text, encoding="utf-8")
