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


def ubjson(value):
    if isinstance(value, dict):
        return b"{" + b"".join(b"U" + bytes([len(k)]) + k.encode() + ubjson(v) for k, v in value.items()) + b"}"
    if isinstance(value, list):
        return b"[" + b"".join(map(ubjson, value)) + b"]"
    if isinstance(value, str):
        return b"SU" + bytes([len(value)]) + value.encode()
    return b"D" + struct.pack(">d", value) if isinstance(value, float) else b"l" + struct.pack(">i", value)


def xgboost():
    """Two trees, one of them by categories."""
    tree = {"left_children": [1, -1, -1], "right_children": [2, -1, -1], "split_indices": [0, 0, 0], "split_conditions": [0.5, 1.0, -2.0], "default_left": [1, 0, 0],
            "sum_hessian": [5.0, 3.0, 2.0], "tree_param": {"size_leaf_vector": "1"}}
    sets = {"categories_nodes": [0], "categories_segments": [0], "categories_sizes": [2], "categories": [1, 3]}
    model = {"trees": [tree, {**tree, **sets, "split_indices": [1, 0, 0]}], "tree_info": [0, 0]}
    parameters = {"num_feature": "2", "num_class": "0", "base_score": "5E-1"}
    return {"learner": {"learner_model_param": parameters, "feature_names": ["a", "b"], "gradient_booster": {"name": "gbtree", "model": model}, "objective": {"name": "binary:logistic"}}}


LIGHTGBM = """tree
num_tree_per_iteration=1
max_feature_idx=1
objective=binary sigmoid:1
feature_names=a b

Tree=0
num_leaves=3
num_cat=1
split_feature=0 1
threshold=0.5 0
decision_type=2 1
left_child=1 -1
right_child=-2 -3
leaf_value=0.1 -0.2 0.3
leaf_count=2 3 4
internal_count=9 6
cat_boundaries=0 1
cat_threshold=5

end of trees
"""


def explain(folder):
    tables = {"numbers": "a,b\n1,2.5\n,-3e2\n", "texts": 'a;b\r\n"x;""y""";0,5\r\n?;1,5\r\n', "tabs": "\ufeffa\tb\n1\tinf\nx\tNaN\n", "again": "a,b\n1,x\n2,\nz,1e400\n"}
    for name, text in tables.items():
        put(folder, "table", name, text.encode())
    put(folder, "trees", "xgboost.json", json.dumps(xgboost()).encode())
    put(folder, "trees", "xgboost.ubj", ubjson(xgboost()))
    put(folder, "trees", "lightgbm", LIGHTGBM.encode())
    for path in (GOLDEN / "scorers").glob("*.onnx"):
        put(folder, "onnx", path.name, path.read_bytes())


def main():
    folder = sys.argv[1]
    explain(folder)
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
