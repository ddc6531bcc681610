"""Encoders beside sentence-transformers: tiny random ones of every kind, and the real all-MiniLM-L6-v2.

Made with sentence-transformers 6.2.0, transformers 5.24.0, torch 2.13.0, tokenizers 0.23.3, safetensors 0.8.0. Only this script
needs the first, so it is in no requirements.txt: python -m pip install sentence-transformers==6.2.0
    python tests/golden/encoders.py                    writes tests/golden/encoders/NAME/
    python tests/golden/encoders.py --minilm DIR       writes tests/golden/minilm.{json,safetensors}, DIR as `pull` made it

A tiny directory is a whole model. golden.json (minilm.json): texts, versions. golden.safetensors (minilm.safetensors):
    embeddings [texts, dim] f32, by sentence-transformers in one call; for text K ids_K [n] i64 and hidden_K [n, hidden] f32,
    the last hidden states by Transformers, one text at a time without padding (MiniLM: for K = 0..2 only).
All in f32 from the stored weights.
"""

import argparse
import json
import math
import pathlib
import shutil

import sentence_transformers
import torch
import transformers
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE / "encoders"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CORPUS = ["the price of a bond falls when the rate of interest rises", "a share is a part of a company", "Zinsen und Tilgung",
          "naïve café owners pay 3.5% a year", "利率上升时债券价格下跌", "What is the present value of 1,000 due in 7 years?"] * 4
TEXTS = ["the price of a bond", "", "利率上升时债券价格下跌", "A naïve Café owner pays 3.5%!", "bond " * 40, "a [SEP] b [MASK] [PAD] c", "\u0000\u200b \t\n",
         "What is the present value of 1,000 due in 7 years? " * 3, "x" * 150, "rate", "<pad> a <s> b", "the price of a bond"]
REAL_TEXTS = ["That is a happy person", "How is a bond priced when interest rates rise?", "债券价格在利率上升时下跌。", "", " ",
              "The present value of a cash flow is its amount divided by one plus the rate, once for each period. " * 30,
              "word " * 253, "word " * 254, "word " * 255, "利" * 600, "a", "naïve café Ångström ﬁnance", "🙂 👩‍👩‍👧 emoji", "[CLS] [SEP] [PAD] [MASK] [UNK]",
              "\u0000\u0007 control \u200b characters \ufffd", "x" * 101, "pneumonoultramicroscopicsilicovolcanoconiosis" * 3, "UPPER lower MiXeD",
              "int main() { return 0; }", "$1,234.56 at 7.25% for 30 years", "Die Zinsen steigen, die Kurse fallen.", "\n\n\ttabs and\r\nlines\n"]


def bert_config(**more):
    return dict(hidden_size=32, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4, **more)


def word_piece(lower):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    reference = transformers.BertTokenizer(do_lower_case=lower)
    tokenizer.normalizer, tokenizer.pre_tokenizer = reference.backend_tokenizer.normalizer, reference.backend_tokenizer.pre_tokenizer
    tokenizer.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=180, special_tokens=SPECIAL, show_progress=False))
    return tokenizer.get_vocab()


def write_json(path, content):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def modules(directory, names, prefix):
    write_json(directory / "modules.json", [
        {"idx": i, "name": str(i), "path": "" if i == 0 else f"{i}_{name}", "type": f"{prefix.get(name, prefix[''])}.{name}"} for i, name in enumerate(names)])


OLD = {"": "sentence_transformers.models"}
NEW = {"Transformer": "sentence_transformers.base.modules.transformer", "Pooling": "sentence_transformers.sentence_transformer.modules.pooling",
       "": "sentence_transformers.base.modules.normalize"}


def bert(directory):
    """As most published ones: bare names, tokenizer.json, mean, Normalize, cut well before the model's positions end."""
    vocab = word_piece(True)
    transformers.BertTokenizer(vocab=vocab, model_max_length=64).save_pretrained(directory)
    modules(directory, ["Transformer", "Pooling", "Normalize"], OLD)
    write_json(directory / "1_Pooling" / "config.json", {
        "word_embedding_dimension": 32, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False})
    write_json(directory / "sentence_bert_config.json", {"max_seq_length": 24, "do_lower_case": False})
    config = transformers.BertConfig(vocab_size=len(vocab), max_position_embeddings=64, **bert_config())
    return transformers.BertModel(config), torch.float32


def bert_head(directory):
    """Names with "bert." before them, bf16, a vocab.txt alone, the first token's state, a prompt, the tokenizer's own limit."""
    vocab = word_piece(False)
    (directory / "vocab.txt").write_text("".join(token + "\n" for token in sorted(vocab, key=vocab.get)), encoding="utf-8")
    write_json(directory / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": False, "model_max_length": 40})
    modules(directory, ["Transformer", "Pooling"], NEW)
    write_json(directory / "1_Pooling" / "config.json", {"embedding_dimension": 32, "pooling_mode": "cls", "include_prompt": True})
    write_json(directory / "config_sentence_transformers.json", {"prompts": {"query": "What is the price: ", "document": ""}, "default_prompt_name": "query"})
    config = transformers.BertConfig(vocab_size=len(vocab), max_position_embeddings=48, type_vocab_size=1, hidden_act="gelu_new", layer_norm_eps=1e-5, **bert_config())
    return transformers.BertForMaskedLM(config), torch.bfloat16


def roberta(directory):
    """Positions behind the padding token's id, "roberta." before the names, f16, three poolings side by side, lowercased first."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=330, special_tokens=special, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer.save(str(directory / "tokenizer.json"))
    write_json(directory / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 30, "bos_token": "<s>", "eos_token": "</s>",
                                                     "cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>"})
    modules(directory, ["Transformer", "Pooling", "Normalize"], NEW)
    write_json(directory / "1_Pooling" / "config.json", {"embedding_dimension": 32, "pooling_mode": ["cls", "max", "mean"], "include_prompt": True})
    write_json(directory / "sentence_bert_config.json", {"do_lower_case": True})
    config = transformers.RobertaConfig(vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=34, type_vocab_size=1, layer_norm_eps=1e-5, hidden_act="gelu",
                                        pad_token_id=1, bos_token_id=0, eos_token_id=2, **bert_config())
    return transformers.RobertaForMaskedLM(config), torch.float16


TINY = {"bert": bert, "bert_head": bert_head, "roberta": roberta}


@torch.no_grad()
def randomise(model, dtype, seed):
    """Weights of a size that keeps every part of a layer visible in its result."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in sorted(model.named_parameters()):
        noise = torch.randn(p.shape, generator=generator)
        if "LayerNorm" in name:
            p.copy_(0.25 * noise + (1.0 if name.endswith("weight") else 0.0))
        else:
            p.copy_(noise * (0.3 if p.dim() == 1 else 1.4 / math.sqrt(p.shape[1])))
        p.copy_(p.to(dtype).float())


@torch.no_grad()
def golden(directory, texts, states):
    model = SentenceTransformer(str(directory), device="cpu", model_kwargs={"dtype": torch.float32, "attn_implementation": "eager"})
    tensors = {"embeddings": torch.from_numpy(model.encode(texts)).contiguous()}
    prompt = model.prompts.get(model.default_prompt_name or "", "")
    for k, text in enumerate(texts[:states]):
        features = model.preprocess([prompt + text])
        ids = features["input_ids"]
        tensors[f"ids_{k}"] = ids[0].contiguous()
        hidden = model[0].auto_model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
        tensors[f"hidden_{k}"] = hidden.contiguous()
        written_out = pooled(directory, hidden)
        difference = (written_out - tensors["embeddings"][k]).abs().max().item()
        assert difference < 1e-5, f"{directory}: {text[:30]!r} pooled by hand differs by {difference}"
    return tensors


def pooled(directory, hidden):
    """What the directory's files say, written out."""
    config = json.loads((directory / "1_Pooling" / "config.json").read_text())
    modes = config.get("pooling_mode", "mean")
    by = {"cls": hidden[0], "max": hidden.max(0).values, "mean": hidden.mean(0)}
    vector = torch.cat([by[mode] for mode in ([modes] if isinstance(modes, str) else modes)])
    return vector / vector.norm() if "Normalize" in (directory / "modules.json").read_text() else vector


def versions():
    return {"sentence_transformers": sentence_transformers.__version__, "transformers": transformers.__version__, "torch": torch.__version__}


def write_tiny(name, seed):
    directory = ROOT / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    model, dtype = TINY[name](directory)
    randomise(model, dtype, seed)
    model.to(dtype).save_pretrained(directory)
    tensors = golden(directory, TEXTS, len(TEXTS))
    save_file(tensors, directory / "golden.safetensors")
    write_json(directory / "golden.json", {"versions": versions(), "texts": TEXTS})
    print(f"{name}: {sum(f.stat().st_size for f in directory.rglob('*') if f.is_file()) // 1024} KB, tokens {[len(v) for k, v in tensors.items() if k.startswith('ids')]}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--minilm", type=pathlib.Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.minilm:
        save_file(golden(args.minilm, REAL_TEXTS, 3), HERE / "minilm.safetensors")
        write_json(HERE / "minilm.json", {"versions": versions(), "texts": REAL_TEXTS})
        return
    for seed, name in enumerate(TINY):
        write_tiny(name, seed)


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    main()
