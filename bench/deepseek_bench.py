"""DeepSeek-V3 and V3.2 in the shape of a small model (0.4 B parameters, random weights in bf16) beside Transformers: prompt and decode.

    python bench/deepseek_bench.py [--ours build/bin] [--lengths 512 4096]
Sides take turns, medians; both run bf16 with 2 threads and keep latents in their caches (Transformers expands them to keys and values at each step).
First the losses of both on the same text are compared in f32.
"""

import argparse
import json
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time

import torch
import transformers
from finetune_bench import print_machine

ROOT = pathlib.Path(__file__).resolve().parent.parent
NEW = 48
SHAPE = dict(vocab_size=32000, hidden_size=1024, intermediate_size=2816, moe_intermediate_size=512, num_hidden_layers=8, num_attention_heads=16,
             num_key_value_heads=16, q_lora_rank=384, kv_lora_rank=256, qk_nope_head_dim=64, qk_rope_head_dim=32, v_head_dim=64, n_routed_experts=32,
             n_shared_experts=1, num_experts_per_tok=4, n_group=4, topk_group=2, first_k_dense_replace=1, max_position_embeddings=16384,
             rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, bos_token_id=257, eos_token_id=258, pad_token_id=256)
MODELS = {"deepseek_v3": (transformers.DeepseekV3Config, {}),
          "deepseek_v32": (transformers.DeepseekV32Config, dict(index_n_heads=8, index_head_dim=64, index_topk=512))}


def build(name, folder):
    config_class, more = MODELS[name]
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config_class(**SHAPE, **more)).bfloat16().save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(ROOT / "tests" / "golden" / "models" / "llama_gqa" / file, folder / file)


def loaded(folder, dtype):
    # Not model.float(): what was rounded to bf16 once are the rotary frequencies too.
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa").eval()


def ours(args, *command):
    return json.loads(subprocess.run([args.ours / "deepseek-cli", *map(str, command), "--threads", str(args.threads), "--json", "--quiet"], capture_output=True,
                                     text=True, check=True).stdout)


@torch.inference_mode()
def theirs(model, ids):
    start = time.perf_counter()
    out = model(input_ids=ids[None], use_cache=True, logits_to_keep=1)
    prefill = time.perf_counter() - start
    cache = out.get("past_key_values") or out.get("cache")
    key = "cache" if "cache" in out else "past_key_values"
    token = out.logits[:, -1].argmax(-1)
    start = time.perf_counter()
    for _ in range(NEW - 1):
        out = model(input_ids=token[None], use_cache=True, **{key: cache})
        token = out.logits[:, -1].argmax(-1)
    return prefill, time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ours", type=pathlib.Path, default=ROOT / "build" / "bin")
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 4096])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print_machine(args.threads)
    transformers.utils.logging.set_verbosity_error()
    book = "".join(f"Bond {i} pays {i * i % 97} a year and costs {i * 7 % 101}. " for i in range(500))
    result = []
    for name in MODELS:
        with tempfile.TemporaryDirectory() as place:
            folder = pathlib.Path(place)
            build(name, folder)
            tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
            text = folder / "text.txt"
            text.write_text(book[:700])
            ids = torch.tensor(tokenizer.encode(book[:700]))
            loss = ours(args, "eval", "--model", folder, "--dtype", "f32", "--text", text, "--window", len(ids), "--stride", len(ids))["loss"]
            with torch.inference_mode():
                logits = loaded(folder, torch.float32)(input_ids=ids[None]).logits[0]
                expected = torch.nn.functional.cross_entropy(logits[:-1], ids[1:]).item()
            if not abs(loss - expected) < 1e-4 * expected:
                raise SystemExit(f"{name}: our loss is {loss}, Transformers' {expected}")
            model = loaded(folder, torch.bfloat16)
            for length in args.lengths:
                text.write_text(book[:length - 1])
                ids = torch.tensor(tokenizer.encode(book[:length - 1]))
                rounds = []
                for _ in range(args.rounds):
                    out = ours(args, "generate", "--model", folder, "--dtype", "bf16", "--prompt_file", text, "--max_new_tokens", NEW, "--greedy", "--draft", "off", "--chat_template", "off")
                    mine = out["prompt_tokens"] / out["prefill_seconds"], (out["new_tokens"] - 1) / max(out["decode_seconds"], 1e-9)
                    if out["new_tokens"] < NEW // 2:
                        raise SystemExit(f"{name}: only {out['new_tokens']} tokens before the end")
                    prefill, decode = theirs(model, ids)
                    rounds.append((*mine, len(ids) / prefill, (NEW - 1) / decode))
                medians = [statistics.median(column) for column in zip(*rounds)]
                ratios = [statistics.median(r[i] / r[i + 2] for r in rounds) for i in (0, 1)]
                print(f"{name} at {length}: prompt {medians[0]:.0f} tokens/s, Transformers {medians[2]:.0f}: {ratios[0]:.2f}x; decode {medians[1]:.1f}, "
                      f"Transformers {medians[3]:.1f}: {ratios[1]:.2f}x", flush=True)
                result.append(f"{name[9:]}_prefill{length}={ratios[0]:.2f} {name[9:]}_decode{length}={ratios[1]:.2f}")
    print("RESULT deepseek " + " ".join(result))


if __name__ == "__main__":
    main()
