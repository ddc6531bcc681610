"""PEFT adapters on the tiny models, with the logits they must give, and the losses of a short training by PEFT.

Made with peft 0.21.2, transformers 5.24.0, torch 2.13.0.    python tests/golden/peft_adapters.py
tests/golden/adapters/MODEL-KIND/    adapter_config.json, adapter_model.safetensors as PEFT writes them, and
    golden.safetensors    ids [12] i64, logits [12, vocab], merged_logits [12, vocab] f32 (after merge_and_unload)
tests/golden/adapters/train-MODEL/   the adapter before training, and
    training.safetensors  ids [8, 3, 20] i64, loss_from [8, 3] i64 (loss on ids[s, b, loss_from:]; the mean over all such
                          tokens of the step), losses [8] f32, grad_norms [8] f32 (before clipping to 1.0), and final.NAME
                          for each tensor NAME of the adapter after 8 AdamW steps (lr 1e-3, betas 0.9 and 0.999, eps 1e-8,
                          weight decay 0, no dropout, f32)
"""

import json
import pathlib
import shutil

import peft
import torch
import transformers
from safetensors.torch import save_file

from models import BOS, ROOT, logits_of, sequence

HERE = pathlib.Path(__file__).resolve().parent
ADAPTERS = HERE / "adapters"
STEPS, BATCH, LENGTH = 8, 3, 20
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]

KINDS = {
    "lora": dict(r=4, lora_alpha=8, target_modules="all-linear"),
    "rslora": dict(r=8, lora_alpha=4, use_rslora=True, target_modules=["q_proj", "v_proj"]),
    "dora": dict(r=4, lora_alpha=8, use_dora=True, target_modules=ATTENTION + ["down_proj"]),
    # Keys as users write them: one layer's module, a suffix, and an expression.
    "patterns": dict(r=4, lora_alpha=8, target_modules="all-linear",
                     rank_pattern={"layers.1.self_attn.q_proj": 2, "down_proj": 6},
                     alpha_pattern={r".*\.mlp\.(gate|up)_proj": 3, "o_proj": 16}),
    "layers": dict(r=3, lora_alpha=5, target_modules=["q_proj", "up_proj"], layers_to_transform=[1]),
}
MODELS = {"llama_gqa": list(KINDS), "qwen3": ["lora", "dora", "rslora"], "gemma3": list(KINDS)}


def base_model(name):
    return transformers.AutoModelForCausalLM.from_pretrained(ROOT / name, dtype=torch.float32, attn_implementation="eager")


def adapted(name, arguments, seed):
    """PEFT's model with A and B (and DoRA's magnitudes) away from their neutral initial values."""
    model = peft.get_peft_model(base_model(name), peft.LoraConfig(
        lora_dropout=0.0, task_type="CAUSAL_LM", **arguments))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, p in sorted(model.named_parameters()):
            if "lora_A" in key or "lora_B" in key:
                p.copy_(torch.randn(p.shape, generator=generator) * (0.5 / p.shape[1] ** 0.5))
            elif "lora_magnitude" in key:
                p.mul_(1.0 + 0.2 * torch.rand(p.shape, generator=generator))
    return model


def save_adapter(model, directory, name):
    shutil.rmtree(directory, ignore_errors=True)
    model.save_pretrained(directory)
    (directory / "README.md").unlink(missing_ok=True)
    path = directory / "adapter_config.json"
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = name  # not this machine's path
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()
    path.write_text(json.dumps(config, indent=2) + "\n")


def write_adapter(name, kind, seed):
    directory = ADAPTERS / f"{name}-{kind}"
    model = adapted(name, KINDS[kind], seed).eval()
    save_adapter(model, directory, name)
    model = peft.PeftModel.from_pretrained(base_model(name), directory).eval()  # what is on the disk counts
    ids = sequence(12, 300 + seed)
    logits = logits_of(model, ids)
    plain = logits_of(base_model(name), ids)
    merged = logits_of(model.merge_and_unload(), ids)
    save_file({"ids": ids, "logits": logits.contiguous(), "merged_logits": merged.contiguous()},
              directory / "golden.safetensors", metadata={"peft": peft.__version__})
    print(f"{directory.name}: adapter moves logits by {(logits - plain).abs().max():.3f}, "
          f"merging by {(logits - merged).abs().max():.1e}")


def training_data(seed):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 256, (2, BATCH, LENGTH), generator=generator)
    ids[:, :, 0] = BOS
    loss_from = torch.randint(1, LENGTH - 4, (2, BATCH), generator=generator)
    order = [step % 2 for step in range(STEPS)]  # two batches in turn, so that the loss falls
    return ids[order].contiguous(), loss_from[order].contiguous()


def write_training(name, seed):
    directory = ADAPTERS / f"train-{name}"
    torch.manual_seed(seed)
    model = peft.get_peft_model(base_model(name), peft.LoraConfig(
        r=4, lora_alpha=8, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"))
    save_adapter(model, directory, name)
    ids, loss_from = training_data(seed)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    losses, norms = [], []
    model.train()
    for step in range(STEPS):
        positions = torch.arange(LENGTH)[None]
        labels = torch.where(positions >= loss_from[step][:, None], ids[step], -100)
        optimizer.zero_grad()
        loss = model(input_ids=ids[step], labels=labels, use_cache=False).loss
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(parameters, 1.0).item())
        optimizer.step()
        losses.append(loss.item())
    final = {f"final.{k}": v.clone().contiguous() for k, v in peft.get_peft_model_state_dict(model).items()}
    save_file({"ids": ids, "loss_from": loss_from, "losses": torch.tensor(losses), "grad_norms": torch.tensor(norms),
               **final}, directory / "training.safetensors", metadata={"peft": peft.__version__})
    print(f"{directory.name}: losses {[round(x, 4) for x in losses]}, gradient norms {[round(x, 2) for x in norms]}")


if __name__ == "__main__":
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    for model_name, kinds in MODELS.items():
        for index, kind_name in enumerate(kinds):
            write_adapter(model_name, kind_name, index)
    for index, model_name in enumerate(("llama_gqa", "gemma3")):
        write_training(model_name, 10 + index)
