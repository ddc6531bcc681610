"""Ids and text that Hugging Face's tokenizers give for 10,000 strings of hostile Unicode.

Made with tokenizers 0.23.3, transformers 5.24.0.    python tests/golden/tokenizer_golden.py [--gemma TOKENIZER_JSON]
The strings are drawn by SplitMix64 from tokenizers/alphabet.json, here and in tokenizer_golden_test.cc alike.
tokenizers/NAME.bin: for each string two u32: FNV-1a of its ids (as i32, with special tokens) and of decode(ids).
tokenizers/small-*.json: tokenizers of a few KB that this script trains or writes, so that every component is tested offline.
tokenizers/small-vocab/: a vocab.txt without a tokenizer.json, as Transformers reads it.
"""

import argparse
import json
import pathlib
import struct
import unicodedata

import tokenizers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE / "tokenizers"
CACHE = HERE.parent.parent / ".cache" / "tokenizers"
ALPHABET = json.loads((OUT / "alphabet.json").read_text(encoding="utf-8"))
COUNT, MASK = 10_000, (1 << 64) - 1


class Random:
    def __init__(self, seed):
        self.state = seed

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)

    def below(self, n):
        return self.next() % n

    def between(self, low, high):
        return low + self.below(high - low + 1)


def character(random, low, high):
    """A code point that Unicode 14 knows; others, surrogates, and those whose mappings are of Unicode 14, become U+FFFD, so
    that tables of any age agree."""
    code = random.between(low, high)
    excluded = any(first <= code <= last for first, last in ALPHABET["excluded"])
    return "\ufffd" if excluded or 0xD800 <= code < 0xE000 or unicodedata.category(chr(code)) == "Cn" else chr(code)


def part(random):
    kind = random.below(len(ALPHABET["kinds"]))
    rule = ALPHABET["kinds"][kind]
    if "choose" in rule:
        texts = ALPHABET[rule["choose"]]
        return "".join(texts[random.below(len(texts))] for _ in range(random.between(*rule["count"])))
    if "repeat" in rule:
        texts = ALPHABET[rule["repeat"]]
        return texts[random.below(len(texts))] * random.between(*rule["count"])
    ranges = rule["ranges"]
    out = ""
    for _ in range(random.between(*rule["count"])):
        low, high = ranges[random.below(len(ranges))]
        out += character(random, low, high)
    return out


def strings():
    random = Random(ALPHABET["seed"])
    for _ in range(COUNT):
        text = ""
        for _ in range(random.between(1, 6)):
            text += part(random)
            if random.below(2):
                text += " "
        yield text


def fnv(data):
    value = 0x811C9DC5
    for byte in data:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def write(name, tokenizer):
    tokenizer.no_truncation()
    tokenizer.no_padding()
    out = bytearray()
    for text in strings():
        ids = tokenizer.encode(text).ids
        out += struct.pack("<II", fnv(struct.pack(f"<{len(ids)}i", *ids)), fnv(tokenizer.decode(ids).encode()))
    (OUT / f"{name}.bin").write_bytes(out)
    print(f"{name}: {tokenizer.get_vocab_size()} tokens")


def corpus():
    sample = [text for text in strings() if all(ord(c) < 0x180 for c in text)][:1500]
    return sample + ["the cost of capital is the rate of return that investors expect", "Zinsen und Tilgung", "利率上升时债券价格下跌"] * 20


def small():
    """Tokenizers that together use every component."""
    bpe = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bpe.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    bpe.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=700, special_tokens=special, limit_alphabet=120))
    bpe = reduced(bpe, set(special[:3]))
    bpe.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    yield "small-llama", bpe

    level = Tokenizer(models.BPE())
    level.normalizer = normalizers.NFC()
    level.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    level.decoder = decoders.ByteLevel()
    level.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=600, special_tokens=["<s>", "</s>", "<mask>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    level.add_special_tokens([tokenizers.AddedToken("<mask>", lstrip=True, special=True)])
    level.add_tokens([tokenizers.AddedToken("url", single_word=True), tokenizers.AddedToken("ﬁ", normalized=True), tokenizers.AddedToken("[CLS]", rstrip=True, normalized=False)])
    level.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    yield "small-roberta", level

    unigram = Tokenizer(models.Unigram())
    unigram.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(tokenizers.Regex(" {2,}"), " "), normalizers.Strip()])
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    unigram.decoder = decoders.Metaspace()
    unigram.train_from_iterator(corpus(), trainers.UnigramTrainer(vocab_size=700, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>"))
    unigram.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    yield "small-unigram", unigram

    first = Tokenizer(models.BPE(unk_token="<unk>"))
    first.normalizer = normalizers.NFKD()
    first.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Punctuation("contiguous"),
                                                   pre_tokenizers.Metaspace(prepend_scheme="first", split=True)])
    first.decoder = decoders.Metaspace(prepend_scheme="first")
    first.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=500, special_tokens=["<unk>", "<s>"]))
    yield "small-metaspace", first

    word = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=20))
    word.normalizer = normalizers.BertNormalizer(lowercase=True)
    word.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    word.decoder = decoders.WordPiece()
    word.train_from_iterator(corpus(), trainers.WordPieceTrainer(vocab_size=600, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"]))
    word.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    yield "small-bert", word

    level_words = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    level_words.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()])
    level_words.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Digits()])
    level_words.train_from_iterator(corpus(), trainers.WordLevelTrainer(vocab_size=400, special_tokens=["[UNK]"]))
    yield "small-words", level_words

    suffix = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    suffix.normalizer = normalizers.Lowercase()
    suffix.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(r"\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"), "removed", invert=True)
    suffix.decoder = decoders.BPEDecoder("</w>")
    suffix.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=500, special_tokens=["<unk>"], end_of_word_suffix="</w>"))
    yield "small-suffix", suffix


def vocab_alone():
    """small-bert's vocabulary as BERT's first releases have it."""
    import transformers

    directory = OUT / "small-vocab"
    directory.mkdir(exist_ok=True)
    vocab = Tokenizer.from_file(str(OUT / "small-bert.json")).get_vocab()
    tokens = sorted(vocab, key=vocab.get) + ["[MASK]"]
    (directory / "vocab.txt").write_text("".join(token + "\n" for token in tokens), encoding="utf-8")
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "strip_accents": False, "tokenize_chinese_chars": True}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    return transformers.AutoTokenizer.from_pretrained(directory).backend_tokenizer


def reduced(tokenizer, special):
    """The byte tokens were trained as special ones so that they exist; from here on they are ordinary."""
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [t for t in data["added_tokens"] if t["content"] in special]
    return Tokenizer.from_str(json.dumps(data))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--gemma", help="the tokenizer.json that gemma.py --save-hf wrote")
    args = parser.parse_args()
    for name, tokenizer in small():
        tokenizer.save(str(OUT / f"{name}.json"), pretty=False)
        write(name, Tokenizer.from_file(str(OUT / f"{name}.json")))
    write("small-vocab", vocab_alone())
    for path in sorted(CACHE.glob("*/tokenizer.json")):
        write(path.parent.name, Tokenizer.from_file(str(path)))
    if args.gemma:
        write("gemma", Tokenizer.from_file(args.gemma))


if __name__ == "__main__":
    main()
