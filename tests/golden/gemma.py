"""The real Gemma 3 270M from its GGUF file, computed by Transformers: golden numbers, and a directory for benchmarks.

Made with transformers 5.24.0, torch 2.13.0, gguf 0.19.0, sentencepiece 0.2.3, tokenizers 0.23.3.
    python tests/golden/gemma.py GGUF                        writes tests/golden/gemma.safetensors and gemma.json
    python tests/golden/gemma.py GGUF --save-hf DIR          writes DIR/f32 and DIR/bf16, Hugging Face directories
    python tests/golden/gemma.py GGUF --tokenize TEXT        prints ids, by sentencepiece

gemma.json: prompts, versions, the file's SHA-256. gemma.safetensors, for prompt K = 0..3:
    ids_K [n] i64; losses_K [n - 1] f32; positions_K [p] i64;
    logits_K [p, 4096] f32 at vocabulary entries sample_ids [4096]; top_ids_K, top_logits_K [p, 32]; logsumexp_K [p];
    for K = 0..2 also greedy_K [64] i64 and greedy_margin_K [64] f32, the distance between the best two logits
    (a step whose margin is below rounding error may go either way, and so may all after it).
All in f32 from the dequantised weights, attn_implementation="eager".
"""

import argparse
import hashlib
import json
import pathlib

import gguf
import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2

HERE = pathlib.Path(__file__).resolve().parent
SLIDING_PATTERN = 6  # not in the file: llama.cpp and Transformers both fix it for Gemma 3
LOCAL_THETA = 10000.0
SAMPLES, TOP, GREEDY_TOKENS = 4096, 32, 64

BLOCK_NAMES = {
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def hf_name(name):
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    block, index, kind, suffix = name.split(".")
    assert block == "blk" and suffix == "weight", name
    return f"model.layers.{index}.{BLOCK_NAMES[kind]}.weight"


def config_of(reader):
    def value(key):
        return reader.fields[f"gemma3.{key}"].contents()

    def token(key):
        return reader.fields[f"tokenizer.ggml.{key}_token_id"].contents()

    head_dim = value("attention.key_length")
    rope = {"sliding_attention": {"rope_type": "default", "rope_theta": LOCAL_THETA},
            "full_attention": {"rope_type": "default", "rope_theta": float(value("rope.freq_base"))}}
    layers = value("block_count")
    return transformers.Gemma3TextConfig(
        vocab_size=len(reader.fields["tokenizer.ggml.tokens"].data),
        hidden_size=value("embedding_length"), intermediate_size=value("feed_forward_length"),
        num_hidden_layers=layers, num_attention_heads=value("attention.head_count"),
        num_key_value_heads=value("attention.head_count_kv"), head_dim=head_dim, query_pre_attn_scalar=head_dim,
        max_position_embeddings=value("context_length"), sliding_window=value("attention.sliding_window"),
        rms_norm_eps=1e-6, rope_parameters=rope, tie_word_embeddings=True,
        layer_types=["sliding_attention" if (i + 1) % SLIDING_PATTERN else "full_attention" for i in range(layers)],
        bos_token_id=token("bos"), eos_token_id=token("eos"), pad_token_id=token("padding"))


def load_model(path, attention="eager"):
    reader = gguf.GGUFReader(path)
    config = config_of(reader)
    state = {}
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        name = hf_name(tensor.name)
        if "norm" in name:
            values = values - np.float32(1.0)  # GGUF holds the factor itself, Transformers what is added to one
        state[name] = torch.from_numpy(np.ascontiguousarray(values))
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=torch.float32)
    model.load_state_dict(state, strict=True)
    model.tie_weights()
    return model.eval()


def load_tokenizer(path):
    """The file's vocabulary as a sentencepiece model: ids come from sentencepiece itself."""
    fields = gguf.GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    scores = fields["tokenizer.ggml.scores"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    proto = sentencepiece_model_pb2.ModelProto()
    for token, score, kind in zip(tokens, scores, types):
        # Runs of spaces are user-defined pieces: literal in GGUF, escaped in sentencepiece.
        proto.pieces.add(piece=token.replace(" ", "▁") if kind == 4 else token, score=score, type=kind)
    unknown = fields["tokenizer.ggml.unknown_token_id"].contents()
    proto.pieces[unknown].type = sentencepiece_model_pb2.ModelProto.SentencePiece.UNKNOWN
    proto.trainer_spec.model_type = sentencepiece_model_pb2.TrainerSpec.BPE
    proto.trainer_spec.vocab_size = len(tokens)
    proto.trainer_spec.byte_fallback = True
    proto.trainer_spec.unk_id = unknown
    proto.trainer_spec.unk_piece = tokens[unknown]
    for ours, theirs in (("bos", "bos"), ("eos", "eos"), ("pad", "padding")):
        token = fields[f"tokenizer.ggml.{theirs}_token_id"].contents()
        setattr(proto.trainer_spec, f"{ours}_id", token)
        setattr(proto.trainer_spec, f"{ours}_piece", tokens[token])
    proto.normalizer_spec.name = "identity"
    proto.normalizer_spec.add_dummy_prefix = False
    proto.normalizer_spec.remove_extra_whitespaces = False
    return SentencePieceProcessor(model_proto=proto.SerializeToString())


def encode(tokenizer, text):
    return [tokenizer.bos_id(), *tokenizer.encode(text)]


def long_text():
    """A report of more than 700 tokens, so that the sliding layers (window 512) forget its beginning."""
    lines = ["Quarterly review of the loan portfolio\n\n"]
    regions = ["Northern Europe", "Southern Europe", "East Asia", "South America", "North America", "Africa"]
    sectors = ["shipping", "retail", "renewable energy", "agriculture", "software", "construction"]
    for i in range(18):
        region, sector = regions[i % 6], sectors[(5 * i + i // 6) % 6]
        lines.append(
            f"{i + 1}. In {region}, loans to {sector} companies grew by {3 + (7 * i) % 11}.{i % 10} percent to "
            f"{120 + 37 * i} million dollars. The share of payments late by more than 90 days was "
            f"{1 + i % 4}.{(3 * i) % 10} percent, and the provision for losses covers {60 + (13 * i) % 35} percent "
            f"of it.\n")
    lines.append("\nIn summary, the region with the fastest growth was")
    return "".join(lines)


PROMPTS = [
    "The central bank raised interest rates by 25 basis points on Wednesday, because inflation",
    "人工智能正在改变金融行业。银行使用机器学习模型来分析",
    "def fibonacci(n):\n    \"\"\"Return the n-th Fibonacci number.\"\"\"\n    if n < 2:\n        return n\n    return fibonacci(",
    long_text(),
]


@torch.no_grad()
def greedy(model, ids):
    tokens, margins, cache = [], [], None
    step = torch.tensor([ids])
    for _ in range(GREEDY_TOKENS):
        out = model(input_ids=step, cache=cache, use_cache=True)
        cache = out.past_key_values
        best = torch.topk(out.logits[0, -1], 2)
        tokens.append(best.indices[0].item())
        margins.append((best.values[0] - best.values[1]).item())
        step = best.indices[:1][None]
    return torch.tensor(tokens), torch.tensor(margins)


@torch.no_grad()
def golden_prompt(model, ids, k, sample_ids):
    ids = torch.tensor(ids)
    logits = model(input_ids=ids[None], use_cache=False).logits[0]
    positions = torch.tensor([len(ids) // 3, len(ids) - 2, len(ids) - 1])
    rows = logits[positions]
    top = torch.topk(rows, TOP)
    return {
        f"ids_{k}": ids,
        f"losses_{k}": torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="none"),
        f"positions_{k}": positions,
        f"logits_{k}": rows[:, sample_ids].contiguous(),
        f"top_ids_{k}": top.indices.contiguous(),
        f"top_logits_{k}": top.values.contiguous(),
        f"logsumexp_{k}": torch.logsumexp(rows, -1),
    }


def write_golden(path):
    model, tokenizer = load_model(path), load_tokenizer(path)
    vocab = model.config.vocab_size
    tensors = {"sample_ids": torch.arange(SAMPLES) * vocab // SAMPLES + (vocab // SAMPLES) // 2}
    for k, prompt in enumerate(PROMPTS):
        ids = encode(tokenizer, prompt)
        tensors |= golden_prompt(model, ids, k, tensors["sample_ids"])
        print(f"prompt {k}: {len(ids)} tokens, mean loss {tensors[f'losses_{k}'].mean():.3f}")
        if k < 3:
            tokens, margins = greedy(model, ids)
            tensors |= {f"greedy_{k}": tokens, f"greedy_margin_{k}": margins}
            print(f"  smallest margin {margins.min():.4f}; continues: {tokenizer.decode(tokens.tolist())!r}")
    save_file(tensors, HERE / "gemma.safetensors")
    about = {"model": pathlib.Path(path).name, "sha256": hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest(),
             "transformers": transformers.__version__, "torch": torch.__version__, "gguf": "0.19.0",
             "prompts": PROMPTS,
             "greedy_text": [tokenizer.decode(tensors[f"greedy_{k}"].tolist()) for k in range(3)]}
    (HERE / "gemma.json").write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n")


def bpe_merges(tokens, scores, types):
    """Every way to join two pieces into a third, best piece first: the order in which sentencepiece joins."""
    index = {token: i for i, token in enumerate(tokens)}
    merges = []
    for i, token in enumerate(tokens):
        if types[i] != 1:
            continue
        pairs = [(index[token[:c]], index[token[c:]]) for c in range(1, len(token))
                 if token[:c] in index and token[c:] in index]
        merges += [(-scores[i], i, pair) for pair in sorted(pairs)]
    merges.sort()
    return [(tokens[left], tokens[right]) for _, _, (left, right) in merges]


def write_tokenizer(path, directory):
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    fields = gguf.GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    merges = bpe_merges(tokens, fields["tokenizer.ggml.scores"].contents(), types)
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges, unk_token="<unk>",
                                     fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t, k in zip(tokens, types) if k == 3])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t, k in zip(tokens, types) if k == 4])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", tokens.index("<bos>"))])
    reference = load_tokenizer(path)
    for prompt in PROMPTS:
        assert tokenizer.encode(prompt).ids == encode(reference, prompt), f"tokenizers disagree on {prompt[:40]!r}"
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<bos>", "eos_token": "<eos>",
                "pad_token": "<pad>", "unk_token": "<unk>", "clean_up_tokenization_spaces": False}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def save_hf(path, directory):
    model = load_model(path)
    for name, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
        target = pathlib.Path(directory) / name
        model.to(dtype).save_pretrained(target)
        write_tokenizer(path, target)
        print(f"wrote {target}")


def main():
    parser = argparse.ArgumentParser(description="Golden numbers of Gemma 3 270M")
    parser.add_argument("gguf")
    parser.add_argument("--save-hf", metavar="DIR")
    parser.add_argument("--tokenize", metavar="TEXT")
    args = parser.parse_args()
    if args.tokenize is not None:
        print(encode(load_tokenizer(args.gguf), args.tokenize))
    elif args.save_hf:
        save_hf(args.gguf, args.save_hf)
    else:
        write_golden(args.gguf)


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    main()
