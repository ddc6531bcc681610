"""Adapters in both directions: trained here and read by PEFT, trained by PEFT and read here. Logits must be equal.

    python bench/peft_bench.py --model HF_DIR [--steps N]
For LoRA, rsLoRA and DoRA. Ends with RESULT peft and status 1 where a difference is above the bar.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy
import peft
import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = pathlib.Path(os.environ.get("DEEPSEEK_BIN", ROOT / "build" / "bin"))
BAR = 1e-4
KINDS = {"lora": [], "rslora": ["--use_rslora"], "dora": ["--use_dora", "--target_modules", "q_proj,v_proj,down_proj"]}
PROMPTS = ["What is compound interest?", "利率上升时债券价格会怎样？", "A company earns 120 and spends 80. What is its profit margin?"]


def base_model(path):
    return transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager")


def peft_logits(model, prompts):
    with torch.no_grad():
        return [model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float().numpy() for ids in prompts]


def our_logits(args, adapter, prompts, directory, *flags):
    out = pathlib.Path(directory) / "logits.bin"
    subprocess.run([BIN / "deepseek-bench-logits", "--model", args.model, "--adapter", adapter, "--out", out, *flags],
                   input="".join(json.dumps(ids) + "\n" for ids in prompts), text=True, check=True)
    flat = numpy.fromfile(out, numpy.float32)
    vocabulary = flat.size // sum(map(len, prompts))
    parts, at = [], 0
    for ids in prompts:
        parts.append(flat[at : at + len(ids) * vocabulary].reshape(len(ids), vocabulary))
        at += len(ids) * vocabulary
    return parts


def difference(ours, theirs):
    return max(float(abs(a - b).max() / abs(b).max()) for a, b in zip(ours, theirs))


def unknown_tensors(model, adapter):
    from safetensors import safe_open

    with safe_open(pathlib.Path(adapter) / "adapter_model.safetensors", "pt") as file:
        return set(file.keys()) ^ set(peft.get_peft_model_state_dict(model))


def ours_to_peft(args, kind, flags, prompts, directory):
    adapter = pathlib.Path(directory) / f"ours-{kind}"
    subprocess.run([BIN / "deepseek-cli", "fine-tune", "--model", args.model, "--dataset", ROOT / "data" / "finance_qa.json", "--output", adapter,
                    "--steps", str(args.steps), "--batch_size", "2", "--dtype", "f32", "--quiet", "--samples", "0", *flags], check=True)
    model = peft.PeftModel.from_pretrained(base_model(args.model), adapter).eval()
    unknown = unknown_tensors(model, adapter)
    if unknown:
        sys.exit(f"PEFT and the adapter disagree about {sorted(unknown)[:4]}")
    theirs = peft_logits(model, prompts)
    plain = difference(peft_logits(base_model(args.model), prompts), theirs)
    merged = difference(our_logits(args, adapter, prompts, directory, "--merged"), theirs)
    return difference(our_logits(args, adapter, prompts, directory), theirs), merged, plain


def peft_to_ours(args, kind, prompts, directory):
    torch.manual_seed(0)
    settings = {"lora": {}, "rslora": {"use_rslora": True}, "dora": {"use_dora": True}}[kind]
    target = ["q_proj", "v_proj", "down_proj"] if kind == "dora" else "all-linear"
    model = peft.get_peft_model(base_model(args.model), peft.LoraConfig(r=8, lora_alpha=16, target_modules=target, task_type="CAUSAL_LM", **settings))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    for ids in prompts * 2:
        tokens = torch.tensor([ids])
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    adapter = pathlib.Path(directory) / f"peft-{kind}"
    model.save_pretrained(adapter)
    return difference(our_logits(args, adapter, prompts, directory), peft_logits(model.eval(), prompts))


def main():
    parser = argparse.ArgumentParser(description="Adapters beside PEFT")
    parser.add_argument("--model", required=True, help="Hugging Face directory")
    parser.add_argument("--steps", type=int, default=4)
    args = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
    prompts = [tokenizer(text).input_ids for text in PROMPTS]
    worst = {"ours_to_peft": 0.0, "peft_to_ours": 0.0, "merged": 0.0}
    with tempfile.TemporaryDirectory() as directory:
        for kind, flags in KINDS.items():
            ours, merged, plain = ours_to_peft(args, kind, flags, prompts, directory)
            theirs = peft_to_ours(args, kind, prompts, directory)
            print(f"{kind}: trained here, read by PEFT {ours:.1e}; merged {merged:.1e}; trained by PEFT, read here {theirs:.1e} "
                  f"(the adapter itself moves logits by {plain:.1e})", flush=True)
            for key, value in (("ours_to_peft", ours), ("peft_to_ours", theirs), ("merged", merged)):
                worst[key] = max(worst[key], value)
    print("RESULT peft " + " ".join(f"{key}={value:.1e}" for key, value in worst.items()))
    if max(worst.values()) > BAR:
        sys.exit(f"a difference is above {BAR}")


if __name__ == "__main__":
    main()
