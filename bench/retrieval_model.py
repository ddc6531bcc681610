"""A small Llama that is trained here to look up values over a long context, and texts of its task.

    python bench/retrieval_model.py --output DIR [--length 4096]
A text is words of noise with pairs of a key and its value strewn in, each key once; at the end `? key` asks for the value. 2 layers of 4 heads of 32.
The training goes from texts that repeat themselves to the questions, and from short ones to long ones, each until nearly all answers are right.
"""

import argparse
import json
import pathlib
import time

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

KEYS, VALUES, NOISE = 256, 64, 64
BOS, EOS, ASK = 0, 1, 2
FIRST_KEY = 3
FIRST_VALUE = FIRST_KEY + KEYS
FIRST_NOISE = FIRST_VALUE + VALUES
WORDS = ["<bos>", "<eos>", "?", *(f"k{i}" for i in range(KEYS)), *(f"v{i}" for i in range(VALUES)), *(f"n{i}" for i in range(NOISE))]


def sample(length, questions, draw):
    """Ids [length], and where the answers stand [questions]."""
    body = length - 1 - 3 * questions
    pairs = min(KEYS, body // 4 if length < 128 else body // 8)
    keys = FIRST_KEY + torch.randperm(KEYS, generator=draw)[:pairs]
    values = FIRST_VALUE + torch.randint(VALUES, (pairs,), generator=draw)
    text = FIRST_NOISE + torch.randint(NOISE, (body,), generator=draw)
    at = 2 * torch.randperm(body // 2, generator=draw)[:pairs] + torch.randint(2, (1,), generator=draw) * (body % 2)
    text[at], text[at + 1] = keys, values
    asked = torch.randint(pairs, (questions,), generator=draw)
    asking = torch.stack([torch.full((questions,), ASK), keys[asked], values[asked]], 1).flatten()
    return torch.cat([torch.tensor([BOS]), text, asking]), torch.arange(length - 3 * questions + 2, length, 3)


def repeat(length, _, draw):
    """A text that ends with a part of itself, which began anywhere: the shortest way to looking up what followed."""
    part, begin = length // 3, torch.randint(length // 3 + 1, (1,), generator=draw).item()
    text = torch.randint(FIRST_KEY, len(WORDS), (length - part,), generator=draw)
    return torch.cat([text, text[begin : begin + part]]), torch.arange(length - part + 1, length)


def words_of(ids):
    return " ".join(WORDS[i] for i in ids)


def new_model(length):
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=len(WORDS), hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4, head_dim=32,
            max_position_embeddings=length, rope_theta=100000.0, tie_word_embeddings=True, initializer_range=0.09, bos_token_id=BOS, eos_token_id=EOS, attn_implementation="sdpa"))


def train(model, text, length, batch, steps, rate, draw, enough=0.99):
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01, betas=(0.9, 0.98))
    questions, right, begin = min(64, length // 6), 0.0, time.perf_counter()
    for step in range(1, steps + 1):
        drawn = [text(length, questions, draw) for _ in range(batch)]
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
            print(f"  {text.__name__}, {length} tokens, step {step}: loss {loss.item():.3f}, {100 * right:.1f}% right, {time.perf_counter() - begin:.0f} s", flush=True)
        if step >= 60 and right > enough:
            break
    print(f"  {text.__name__}, {length} tokens: {100 * right:.1f}% right after {step} steps, {time.perf_counter() - begin:.0f} s", flush=True)
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
    stages = ((repeat, 64, 64, 4000, 3e-3), (sample, 64, 64, 1000, 2e-3), (sample, 256, 16, 1000, 1e-3), (sample, 1024, 4, 1000, 1e-3), (sample, length, 1, 400, 5e-4))
    for text, size, batch, steps, rate in stages:
        right = train(model, text, min(size, length), batch, steps, rate, draw)
    save(model, folder)
    return right


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", required=True)
    parser.add_argument("--length", type=int, default=4096)
    options = parser.parse_args()
    make(options.output, options.length)
