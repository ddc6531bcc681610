"""Tiny random DeepSeek-V2, V3 and V3.2 models as Transformers defines them, with the numbers they must give.

Made with transformers 5.24.0, torch 2.13.0, safetensors 0.8.0.
    python tests/golden/deepseek.py [NAME...]      writes tests/golden/models/NAME/ as models.py does

golden.safetensors has ids_K and logits_K for K = 0, 1, 2, ... of the lengths in LENGTHS: around the indexer's top-k of 16, around the
engine's pages of 64; greedy and greedy_margin continue ids_1. Published models keep each expert by itself: so do these files.
"""

import shutil
import sys
import tempfile
import pathlib

import models
import torch
import transformers
from safetensors.torch import load_file, save_file

LENGTHS = (1, 7, 15, 16, 17, 31, 63, 64, 65, 130)
TOP_K = 16

COMMON = dict(hidden_size=32, intermediate_size=48, moe_intermediate_size=24, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=4,
              kv_lora_rank=16, qk_nope_head_dim=12, qk_rope_head_dim=8, v_head_dim=10, first_k_dense_replace=1, n_shared_experts=1,
              n_routed_experts=8, num_experts_per_tok=3, vocab_size=models.VOCAB, max_position_embeddings=256,
              pad_token_id=models.PAD, bos_token_id=models.BOS, eos_token_id=models.EOS)
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 32, "beta_slow": 1,
        "mscale": 0.707, "mscale_all_dim": 1.0}
PLAIN = {"rope_type": "default", "rope_theta": 10000.0}

MODELS = {
    # As V2-Lite: no latent of the queries, greedy routing, two shared experts.
    "deepseek_v2_lite": (transformers.DeepseekV2Config, dict(q_lora_rank=None, topk_method="greedy", n_shared_experts=2, norm_topk_prob=False,
                                                             routed_scaling_factor=1.0, rope_parameters=YARN)),
    # As V2: groups by their best expert.
    "deepseek_v2": (transformers.DeepseekV2Config, dict(q_lora_rank=20, topk_method="group_limited_greedy", n_group=4, topk_group=2, norm_topk_prob=False,
                                                        routed_scaling_factor=2.0, rope_parameters=PLAIN)),
    # Sigmoid routing with a bias, groups by their best two, scores grow with YaRN.
    "deepseek_v3": (transformers.DeepseekV3Config, dict(q_lora_rank=20, n_group=4, topk_group=2, norm_topk_prob=True, routed_scaling_factor=2.5,
                                                        rope_parameters=YARN)),
    "deepseek_v32": (transformers.DeepseekV32Config, dict(q_lora_rank=20, n_group=4, topk_group=2, norm_topk_prob=True, routed_scaling_factor=2.5,
                                                          index_n_heads=8, index_head_dim=16, index_topk=TOP_K, rope_parameters=YARN)),
}


def build(name, seed):
    config_class, arguments = MODELS[name]
    model = transformers.AutoModelForCausalLM.from_config(config_class(**{**COMMON, **arguments}), attn_implementation="eager")
    models.randomise(model, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for key, buffer in model.named_buffers():
            if key.endswith("e_score_correction_bias"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.1)
        for key, p in model.named_parameters():
            if ".experts.gate_up_proj" in key or ".experts.down_proj" in key:  # [experts, out, in]
                p.copy_(torch.randn(p.shape, generator=generator) * 1.4 / p.shape[2] ** 0.5)
            if key.endswith("k_norm.bias"):
                p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
    return model.eval()


def by_expert(tensors):
    """Each expert by itself, as the published checkpoints have them."""
    out = {}
    for key, value in tensors.items():
        if key.endswith(".experts.gate_up_proj"):
            for i, both in enumerate(value):
                gate, up = both.chunk(2)
                out[key.replace("gate_up_proj", f"{i}.gate_proj.weight")], out[key.replace("gate_up_proj", f"{i}.up_proj.weight")] = gate, up
        elif key.endswith(".experts.down_proj"):
            out |= {key.replace("down_proj", f"{i}.down_proj.weight"): x for i, x in enumerate(value)}
        else:
            out[key] = value
    return {key: value.clone().contiguous() for key, value in out.items()}


def write(name):
    directory = models.ROOT / name
    shutil.rmtree(directory, ignore_errors=True)
    for seed in range(1, 60):
        model = build(name, seed)
        tensors = {}
        for k, length in enumerate(LENGTHS):
            ids = models.sequence(length, seed * 1000 + k)
            tensors[f"ids_{k}"], tensors[f"logits_{k}"] = ids, models.logits_of(model, ids)
        found = models.greedy(model, tensors["ids_1"], models.GREEDY_TOKENS)
        if found is not None and found[1] >= models.MIN_MARGIN:
            break
    else:
        raise SystemExit(f"{name}: no seed whose greedy text is clear")
    tensors["greedy"] = found[0]
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        shutil.copytree(folder, directory, dirs_exist_ok=True)
    saved = load_file(directory / "model.safetensors")
    saved = by_expert(saved)
    if name == "deepseek_v3":  # a layer for multi-token prediction, which published models have and readers leave alone
        saved |= {key.replace("layers.2.", "layers.3."): value.clone() for key, value in saved.items() if "layers.2." in key}
        saved["model.layers.3.eh_proj.weight"] = torch.ones(32, 64)
    save_file(saved, directory / "model.safetensors", metadata={"format": "pt"})
    save_file({key: value.contiguous() for key, value in tensors.items()}, directory / "golden.safetensors")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(models.ROOT / "llama_gqa" / file, directory / file)
    print(name, "seed", seed, "margin", found[1])


if __name__ == "__main__":
    for wanted in sys.argv[1:] or MODELS:
        write(wanted)
