"""Small sound inputs that the fuzzers begin with.    python3 fuzz/make_corpus.py FOLDER"""

import json
import pathlib
import struct
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"


def put(folder, kind, name, content):
    path = pathlib.Path(folder) / kind / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def string(text):
    return struct.pack("<Q", len(text)) + text.encode()


def gguf(version, tensor_type, data, elements):
    """A file with metadata of several types, a small vocabulary and one tensor."""
    tokens = ["<unk>", "<s>", "</s>", "a", "b", "ab", "▁"]
    entries = [("general.architecture", 8, string("llama")), ("general.alignment", 4, struct.pack("<I", 32)), ("x.f", 6, struct.pack("<f", 1.5)), ("x.b", 7, b"\x01"),
               ("tokenizer.ggml.model", 8, string("llama")), ("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, len(tokens)) + b"".join(map(string, tokens))),
               ("tokenizer.ggml.scores", 9, struct.pack("<IQ", 6, len(tokens)) + struct.pack(f"<{len(tokens)}f", *range(len(tokens)))),
               ("tokenizer.ggml.token_type", 9, struct.pack("<IQ", 5, len(tokens)) + struct.pack(f"<{len(tokens)}i", 2, 3, 3, 1, 1, 1, 1))]
    out = b"GGUF" + struct.pack("<IQQ", version, 1, len(entries))
    for key, kind, value in entries:
        out += string(key) + struct.pack("<I", kind) + value
    out += string("t") + struct.pack("<IQIQ", 1, elements, tensor_type, 0)
    return out + b"\0" * (-len(out) % 32) + data


def safetensors():
    header = json.dumps({"__metadata__": {"format": "pt"}, "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}, "b": {"dtype": "BF16", "shape": [3], "data_offsets": [16, 22]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(22)


def main():
    folder = sys.argv[1]
    for name, kind, data, elements in (("f32", 0, bytes(64), 16), ("q4_0", 2, bytes(18), 32), ("q8_0", 8, bytes(34), 32), ("q4_k", 12, bytes(144), 256), ("q6_k", 14, bytes(210), 256), ("q2_k", 10, bytes(84), 256)):
        put(folder, "gguf", name, gguf(3, kind, data, elements))
    put(folder, "gguf", "v2", gguf(2, 0, bytes(64), 16))
    put(folder, "safetensors", "two", safetensors())
    for path in (GOLDEN / "tokenizers").glob("small-*.json"):
        put(folder, "tokenizer", path.name, path.read_bytes() + "\n----\nab 12 利率 <s>".encode())
    parts = {"llama": '{"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"],"byte_fallback":true},"normalizer":{"type":"Prepend","prepend":"a"}}',
             "unigram": '{"model":{"type":"Unigram","unk_id":0,"vocab":[["u",0],["a",-1]]},"pre_tokenizer":{"type":"Metaspace"},"normalizer":{"type":"Precompiled","precompiled_charsmap":""}}',
             "bert": '{"model":{"type":"WordPiece","vocab":{"[UNK]":0,"a":1,"##b":2}},"normalizer":{"type":"BertNormalizer"},"pre_tokenizer":{"type":"BertPreTokenizer"}}',
             "split": '{"model":{"type":"WordLevel","vocab":{"a":0},"unk_token":"a"},"pre_tokenizer":{"type":"Split","pattern":{"Regex":"\\\\p{L}+"},"behavior":"Isolated"}}'}
    for name, text in parts.items():
        put(folder, "tokenizer", name, text.encode() + b"\n----\nab ab")
    rows = {"qa": '[{"question":"q","answer":"a","difficulty":1,"split":"test"}]', "alpaca": '{"instruction":"i","input":"","output":"o","history":[["a","b"]]}\n{"instruction":"i","output":"o"}',
            "sharegpt": '[{"conversations":[{"from":"human","value":"q"},{"from":"gpt","value":"a"}]}]', "openai": '[{"messages":[{"role":"user","content":[{"type":"text","text":"q"}]},{"role":"assistant","content":"a"}]}]',
            "text": '{"text":"t"}\n', "wrapped": '{"data":[{"text":"t"}]}'}
    for name, text in rows.items():
        put(folder, "dataset", name, text.encode())
    model = {"family": "gemma3", "num_layers": 6, "hidden_size": 64, "num_heads": 4, "num_kv_heads": 1, "head_dim": 32, "vocab_size": 512}
    for name, layers in {"same": {"5": "dsa:top_p=0.9"}, "heads": {"5": ["dense", "dsa:ratio=0.4", "dsa:top_k=512", "dsa"]}, "none": {}}.items():
        put(folder, "plan", name, json.dumps({"version": 1, "model": model, "sparsity": {"layers": layers}}).encode())
    golden = json.loads((GOLDEN / "chat_templates" / "golden.json").read_text())
    for number, source in enumerate(sorted({case["source"] for case in golden["cases"] if "source" in case})):
        put(folder, "chat_template", str(number), source.encode())


if __name__ == "__main__":
    main()
