"""Logits of an adapter that this project wrote, computed by PEFT. Made with peft 0.21.2, transformers 5.24.0.

    python tests/golden/peft_check.py ADAPTER_DIR MODEL_DIR IDS [--out FILE.safetensors] [--merged] [--dtype bf16]
IDS: comma-separated token ids, or a file with a JSON list. Prints {"shape", "loss", "top"} as JSON; FILE gets
logits [n, vocab] f32 and losses [n - 1] f32. Ends with status 1 where PEFT ignores any tensor of the adapter.
"""

import argparse
import json
import pathlib
import sys

import peft
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file


def read_ids(text):
    path = pathlib.Path(text)
    if path.is_file():
        return json.loads(path.read_text())
    return [int(part) for part in text.split(",")]


def unused_tensors(model, directory):
    """Names in the file that are not in the model, which PEFT would pass over in silence."""
    known = set(peft.get_peft_model_state_dict(model))
    with safe_open(pathlib.Path(directory) / "adapter_model.safetensors", "pt") as file:
        return sorted(set(file.keys()) ^ known)


def main():
    parser = argparse.ArgumentParser(description="Logits of a PEFT adapter")
    parser.add_argument("adapter")
    parser.add_argument("model")
    parser.add_argument("ids")
    parser.add_argument("--out")
    parser.add_argument("--merged", action="store_true")
    parser.add_argument("--dtype", choices=("f32", "bf16"), default="f32")
    args = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    dtype = torch.bfloat16 if args.dtype == "bf16" else torch.float32
    base = transformers.AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype, attn_implementation="eager")
    model = peft.PeftModel.from_pretrained(base, args.adapter).eval()
    unused = unused_tensors(model, args.adapter)
    if unused:
        sys.exit(f"{args.adapter} and PEFT's model disagree about these tensors: {', '.join(unused[:8])}")
    if args.merged:
        model = model.merge_and_unload()
    ids = torch.tensor(read_ids(args.ids))
    with torch.no_grad():
        logits = model(input_ids=ids[None], use_cache=False).logits[0].float()
    losses = torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="none")
    if args.out:
        save_file({"logits": logits.contiguous(), "losses": losses}, args.out)
    top = torch.topk(logits[-1], 5)
    print(json.dumps({"shape": list(logits.shape), "loss": losses.mean().item() if len(losses) else None,
                      "top": list(zip(top.indices.tolist(), top.values.tolist()))}))


if __name__ == "__main__":
    main()
