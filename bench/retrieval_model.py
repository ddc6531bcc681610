"""A small Llama that is trained here to look up values over a long context, and texts of its task.

    python bench/retrieval_model.py --output DIR [--length 4096]
A text is words of noise with pairs of a key and its value strewn in, each key once; at the end `? key` asks for the value. 3 layers of 4 heads of 32.
The training goes from short texts to long ones, each length until nearly all answers are right.
"""

import argparse
import json
import pathlib
import time

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

KEYS, VALUES, NOISE = 1024, 128, 128
BOS, EOS, ASK = 0, 1, 2
FIRST_KEY = 3
FIRST_VALUE = FIRST_KEY + KEYS
FIRST_NOISE = FIRST_VALUE + VALUES
WORDS = ["<bos>", "<eos>", "?", *(f"k{i}" for i in range(KEYS)), *(f"v{i}" for i in range(VALUES)), *(f"n{i}" for i in range(NOISE))]


def sample(length, questions, draw):
    """Ids [length], and where the answers stand [questions]."""
    body = length - 1 - 3 * questions
    pairs = min(KEYS, body // 8)
    keys = FIRST_KEY + torch.randperm(KEYS, generator=draw)[:pairs]
    values = FIRST_VALUE + torch.randint(VALUES, (pairs,), generator=draw)
    text = FIRST_NOISE + torch.randint(NOISE, (body,), generator=draw)
    at = 2 * torch.randperm(body // 2, generator=draw)[:pairs] + torch.randint(2, (1,), generator=draw) * (body % 2)
    text[at], text[at + 1] = keys, values
    asked = torch.randperm(pairs, generator=draw)[:questions]
    asking = torch.stack([torch.full((questions,), ASK), keys[asked], values[asked]], 1).flatten()
    return torch.cat([torch.tensor([BOS]), text, asking]), torch.arange(length - 3 * questions + 2, length, 3)


def words_of(ids):
    return " ".join(WORDS[i] for i in ids)


def new_model(length):
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=len(WORDS), hidden_size=128, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=4, head_dim=32,
            max_position_embeddings=length, rope_theta=100000.0, tie_word_embeddings=True, bos_token_id=BOS, eos_token_id=EOS, attn_implementation="sdpa"))


def train(model, length, batch, steps, rate, draw, enough=0.99):
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01, betas=(0.9, 0.98))
    questions, right, begin = min(64, length // 16), 0.0, time.perf_counter()
    for step in range(1, steps + 1):
        drawn = [sample(length, questions, draw) for _ in range(batch)]
        ids, at = torch.stack([d[0] for d in drawn]), drawn[0][1]
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, step / 50)
        hidden = model.model(ids).last_hidden_state[:, at - 1]
        logits, wanted = model.lm_head(hidden), ids[:, at]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        right = 0.95 * right + 0.05 * (logits.argmax(-1) == wanted).float().mean().item()
        if step % 200 == 0:
            print(f"  {length} tokens, step {step}: loss {loss.item():.3f}, {100 * right:.1f}% right, {time.perf_counter() - begin:.0f} s", flush=True)
        if step >= 60 and right > enough:
            break
    print(f"  {length} tokens: {100 * right:.1f}% right after {step} steps, {time.perf_counter() - begin:.0f} s", flush=True)
    return right


def save(model, folder):
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["<bos>", "<eos>"])
    tokenizer.save(str(pathlib.Path(folder) / "tokenizer.json"))
    (pathlib.Path(folder) / "tokenizer_config.json").write_text(json.dumps({
        "bos_token": "<bos>", "eos_token": "<eos>", "chat_template": "{{ bos_token }} {% for m in messages %}{{ m['content'] }} {% endfor %}"}))


def make(folder, length=4096, seed=0):
    torch.manual_seed(seed)
    draw = torch.Generator().manual_seed(seed + 1)
    model = new_model(2 * length)
    for size, batch, steps, rate in ((64, 64, 6000, 1e-3), (256, 32, 2000, 1e-3), (1024, 8, 1000, 5e-4), (length, 2, 400, 3e-4)):
        right = train(model, min(size, length), batch, steps, rate, draw)
    save(model, folder)
    return right


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", required=True)
    parser.add_argument("--length", type=int, default=4096)
    options = parser.parse_args()
    make(options.output, options.length)
