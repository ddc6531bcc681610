"""Explanation documents for the tests of the page: made up, seeded, but shaped as `deepseek-cli explain --json` writes them.    documents.py FOLDER"""

import json
import math
import pathlib
import random
import sys

ADULT = {
    "work": ["occupation", "workclass", "hours_per_week"],
    "education": ["education", "education_num"],
    "household": ["relationship", "marital_status", "sex"],
    "money": ["capital_gain", "capital_loss"],
    "origin": ["native_country", "race"],
    None: ["age"],
}
TEXTS = {
    "occupation": ["Sales", "Exec-managerial", "Craft-repair", "Adm-clerical", "Prof-specialty"],
    "workclass": ["Private", "Self-emp-inc", "Local-gov"],
    "education": ["HS-grad", "Bachelors", "Masters", "Some-college"],
    "relationship": ["Husband", "Not-in-family", "Own-child", "Wife", "Unmarried"],
    "marital_status": ["Married-civ-spouse", "Never-married", "Divorced"],
    "sex": ["Male", "Female"],
    "native_country": ["United-States", "Mexico", "Philippines"],
    "race": ["White", "Black", "Asian-Pac-Islander"],
}
RANGES = {"age": (17, 80), "hours_per_week": (10, 80), "education_num": (5, 16)}
NHANES = {
    "demographics": ["age", "sex_is_female", "poverty_index"],
    "blood pressure": ["systolic_bp", "diastolic_bp", "pulse_pressure"],
    "blood": {"red cells": ["hemoglobin", "hematocrit", "red_cell_count"], "white_cell_count": None, "iron": ["serum_iron", "tibc", "transferrin_saturation"]},
    "chemistry": ["albumin", "serum_cholesterol", "uric_acid", "alkaline_phosphatase", "sodium", "potassium"],
    "body": ["bmi", "height", "weight"],
}


def tree_of(groups):
    nodes, features = [{"name": "all", "parent": -1}], []

    def leaf(name, parent):
        nodes.append({"name": name, "parent": parent, "feature": len(features)})
        features.append(name)

    def add(name, members, parent):
        if members is None:
            return leaf(name, parent)
        if name is not None:
            nodes.append({"name": name, "parent": parent})
            parent = len(nodes) - 1
        for member in members:
            if isinstance(members, dict):
                add(member, members[member], parent)
            else:
                leaf(member, parent)

    for name, members in groups.items():
        add(name, members, 0)
    return nodes, features


def of_nodes(nodes, leaves):
    """Values of the nodes from those of the features; a group's is the sum of its children's."""
    values = [leaves[node["feature"]] if "feature" in node else 0.0 for node in nodes]
    for i in range(len(nodes) - 1, 0, -1):
        values[nodes[i]["parent"]] += values[i]
    return values


def global_part(nodes, points, rows, half_width, interactions):
    count = len(points)
    columns = list(zip(*(point["values"] for point in points)))
    return {
        "rows": rows,
        "importance": [sum(map(abs, column)) / count for column in columns],
        "half_widths": [half_width for _ in columns],
        "mean": [sum(column) / count for column in columns],
        "interactions": interactions,
        "points": points,
    }


def interaction_list(rng, nodes, count, scale, half_width, signed):
    pairs = [(a, b) for a in range(1, len(nodes)) for b in range(a + 1, len(nodes)) if nodes[b]["parent"] != a]
    values = [rng.gauss(0, scale) * 0.8**i for i, _ in enumerate(pairs[:count])]
    chosen = rng.sample(pairs, min(count, len(pairs)))
    entries = [{"nodes": list(pair), "value": v if signed else abs(v), "half_width": half_width} for pair, v in zip(chosen, values)]
    return sorted(entries, key=lambda entry: -abs(entry["value"]))


def adult():
    rng = random.Random(1)
    nodes, features = tree_of(ADULT)
    effect = {name: {text: rng.gauss(0, 0.5 if name in ("relationship", "occupation", "education") else 0.15) for text in texts} for name, texts in TEXTS.items()}

    def row():
        inputs, leaves = [], []
        for name in features:
            if name in TEXTS:
                x = rng.choice(TEXTS[name])
                leaves.append(effect[name][x] + rng.gauss(0, 0.06))
            elif name in RANGES:
                low, high = RANGES[name]
                x = rng.randint(low, high)
                leaves.append((x - (low + high) / 2) / (high - low) * 1.2 + rng.gauss(0, 0.1))
            else:
                x = 0 if rng.random() < 0.9 else rng.randint(1000, 15000)
                leaves.append((x / 6000 - 0.06) * (1 if name == "capital_gain" else 0.4) + rng.gauss(0, 0.01))
            if rng.random() < 0.01:
                x = None
            inputs.append(x)
        return inputs, leaves

    points = []
    for i in range(500):
        inputs, leaves = row()
        points.append({"sample": 7 * i, "values": of_nodes(nodes, leaves), "inputs": inputs})
    inputs = {"occupation": "Sales", "workclass": "Private", "hours_per_week": 50, "education": "Masters", "education_num": 14, "relationship": "Husband",
              "marital_status": "Married-civ-spouse", "sex": "Male", "capital_gain": 5178, "capital_loss": 0, "native_country": "United-States", "race": None, "age": 39}
    leaves = {"occupation": 0.2131, "workclass": -0.0312, "hours_per_week": 0.1824, "education": 0.3317, "education_num": 0.1206, "relationship": 0.4127, "marital_status": 0.2518,
              "sex": 0.0489, "capital_gain": 0.6142, "capital_loss": -0.0527, "native_country": 0.0112, "race": -0.0061, "age": -0.4766}
    values = of_nodes(nodes, [leaves[name] for name in features])
    base = -1.21
    score = base + values[0]
    index = {node["name"]: i for i, node in enumerate(nodes)}
    pairs = [("capital_gain", "age", 0.1203, 0.012), ("education", "occupation", 0.0871, 0.011), ("relationship", "hours_per_week", -0.0644, 0.014), ("work", "household", 0.0502, 0.02),
             ("relationship", "age", -0.0411, 0.012), ("capital_gain", "education", 0.0302, 0.015), ("sex", "race", 0.0041, 0.013)]
    return {
        "model": {"path": "adult.json", "kind": "XGBoost", "output": ">50K", "units": "log-odds"},
        "data": {"path": "adult.csv", "rows": 32561, "background_rows": 100, "target": "income"},
        "method": {"engine": "estimate from sampled coalitions", "worth": "marginal", "values": "Winter", "interactions": "k-SII", "exact": False, "confidence": 0.95, "coalitions": 2048,
                   "seed": 0, "notes": ["column 'race': 3 values that the model does not know count as missing"]},
        "tree": nodes,
        "base": base,
        "local": {"sample": 12, "score": score, "prediction": 1 / (1 + math.exp(-score)), "inputs": inputs, "actual": ">50K", "values": values,
                  "half_widths": [0.0] + [0.012 + 0.02 * rng.random() for _ in nodes[1:]],
                  "interactions": [{"nodes": sorted((index[a], index[b])), "value": v, "half_width": h} for a, b, v, h in pairs]},
        "global": global_part(nodes, points, 500, 0.008, interaction_list(rng, nodes, 14, 0.1, 0.004, False)),
    }


def nhanes():
    rng = random.Random(2)
    nodes, features = tree_of(NHANES)
    slopes = [1.5 if name == "age" else rng.gauss(0, 0.18) for name in features]

    def row():
        z = [rng.gauss(0, 1) for _ in features]
        z[1] = float(rng.random() < 0.5)
        inputs = [round(50 + 15 * x) if name == "age" else x if name == "sex_is_female" else round(100 + 20 * x, 2) for name, x in zip(features, z)]
        return inputs, [s * x + 0.1 * s * x * x for s, x in zip(slopes, z)]

    points = []
    for i in range(400):
        inputs, leaves = row()
        points.append({"sample": i, "values": of_nodes(nodes, leaves), "inputs": inputs})
    inputs, leaves = row()
    values = of_nodes(nodes, leaves)
    return {
        "model": {"path": "nhanes.txt", "kind": "LightGBM", "output": "hazard", "units": "log"},
        "data": {"path": "nhanes.csv", "rows": 9932, "target": "mortality"},
        "method": {"engine": "trees, path dependent", "worth": "path dependent", "values": "Winter", "interactions": "SII", "exact": True, "confidence": 0.95},
        "tree": nodes,
        "base": -0.31,
        "local": {"sample": 3, "score": -0.31 + values[0], "prediction": math.exp(-0.31 + values[0]), "inputs": dict(zip(features, inputs)), "values": values, "half_widths": [0.0] * len(nodes),
                  "interactions": interaction_list(rng, nodes, 20, 0.2, 0.0, True)},
        "global": global_part(nodes, points, 9932, 0.0, interaction_list(rng, nodes, 20, 0.1, 0.0, False)),
    }


def wide():
    rng = random.Random(3)
    count = 2000
    nodes, features = tree_of({f"gene_{i:04d}": None for i in range(count)})
    scale = [math.exp(-i / 40) + 0.0005 for i in range(count)]
    points = [{"sample": i, "values": of_nodes(nodes, [rng.gauss(0, s) for s in scale]), "inputs": [round(rng.random(), 3) for _ in features]} for i in range(500)]
    leaves = [rng.gauss(0, s) for s in scale]
    values = of_nodes(nodes, leaves)
    return {
        "model": {"path": "expression.onnx", "kind": "ONNX", "output": "response", "units": "score"},
        "data": {"path": "expression.csv", "rows": 812, "background_rows": 100},
        "method": {"engine": "expected gradients", "worth": "marginal", "values": "Shapley", "interactions": "SII", "exact": False, "confidence": 0.9, "coalitions": 20000, "seed": 7},
        "tree": nodes,
        "base": 12.5,
        "local": {"sample": 0, "score": 12.5 + values[0], "inputs": {name: round(rng.random(), 3) for name in features}, "values": values, "half_widths": [0.02] * len(nodes), "interactions": []},
        "global": global_part(nodes, points, 812, 0.003, []),
    }


def hostile():
    rng = random.Random(4)
    names = ["</script><script>alert(1)</script>", "\"quoted\" & 'single' <b>bold</b>", "דירוג אשראי", "العمر بالسنوات", "🙂👩‍👩‍👧‍👦 emoji", "x" * 3000, "<!-- comment", "%DATA%",
             "\u202egnp.exe", "tab\tand\nnewline", "\x1b[31mred\x1b[0m", "{{toString.constructor('alert(1)')()}}", "__proto__", "a very long name with spaces that goes on and on until it cannot fit in any column"]
    nodes, features = tree_of({"<img src=x onerror=alert(1)>": names[:7], "constructor": names[7:]})
    points = [{"sample": i, "values": of_nodes(nodes, [rng.gauss(0, 1) for _ in features]), "inputs": [rng.choice(["<i>", "\u202ertl", "ok" * 200, None, 3.5, -1e-7, 1e300]) for _ in features]} for i in range(60)]
    leaves = [rng.gauss(0, 1) for _ in features]
    values = of_nodes(nodes, leaves)
    return {
        "model": {"path": "</title><script>alert(2)</script>", "kind": "<b>", "output": "<script>alert(3)</script>", "units": "score"},
        "data": {"path": "\"><img src=x>", "rows": 1, "target": "'><svg onload=alert(4)>"},
        "method": {"engine": "<engine>", "worth": "marginal", "values": "Shapley", "interactions": "SII", "exact": False, "confidence": 0.95, "coalitions": 5, "seed": 0, "notes": ["</script>", "n" * 5000]},
        "tree": nodes,
        "base": 0.0,
        "local": {"sample": 0, "score": values[0], "inputs": {name: "<script>alert(5)</script>" for name in features}, "actual": "</p>", "values": values, "half_widths": [0.3] * len(nodes),
                  "interactions": interaction_list(rng, nodes, 12, 0.5, 0.05, True)},
        "global": global_part(nodes, points, 60, 0.1, interaction_list(rng, nodes, 12, 0.5, 0.05, False)),
    }


def words():
    rng = random.Random(5)
    sentences = {"The patient has had a cough for nine days.": ["The", " patient", " has", " had", " a", " cough", " for", " nine", " days", "."],
                 "The scan shows a shadow.": ["The", " scan", " shows", " a", " shadow", ".", "\n"]}
    nodes, features = tree_of(sentences)
    leaves = [rng.gauss(0, 0.2) + (1.4 if name in (" cough", " shadow") else 0) for name in features]
    values = of_nodes(nodes, leaves)
    base = -4.3
    return {
        "model": {"path": "gemma-3-270m", "kind": "language model", "output": " pneumonia", "units": "log-probability"},
        "method": {"engine": "estimate from sampled coalitions", "worth": "baseline", "values": "Winter", "interactions": "Faith-SHAP", "exact": False, "confidence": 0.95, "coalitions": 512, "seed": 0},
        "tree": nodes,
        "base": base,
        "local": {"score": base + values[0], "prediction": math.exp(base + values[0]), "values": values, "half_widths": [0.0] + [0.08] * (len(nodes) - 1),
                  "interactions": [{"nodes": [7, 17], "value": 0.31, "half_width": 0.05}, {"nodes": [1, 12], "value": 0.22, "half_width": 0.06}, {"nodes": [7, 10], "value": -0.05, "half_width": 0.07}]},
    }


def credit():
    nodes, features = tree_of({"还款能力": ["月收入", "负债收入比", "职业"], "信用历史": ["逾期次数", "信用卡使用率", "最早开户年数"], "基本信息": ["年龄", "居住状况"]})
    leaves = [-0.0712, 0.0934, 0.1418, 0.0603, 0.0251, -0.0322, -0.0108, 0.0016]
    values = of_nodes(nodes, leaves)
    base = 0.142
    return {
        "model": {"path": "credit", "kind": "net", "output": "违约", "units": "probability"},
        "data": {"path": "credit.csv", "rows": 5000, "background_rows": 200, "target": "结果"},
        "method": {"engine": "enumeration of all coalitions", "worth": "marginal", "values": "Winter", "interactions": "SII", "exact": True, "confidence": 0.95, "coalitions": 256},
        "tree": nodes,
        "base": base,
        "local": {"sample": 41, "score": base + values[0], "inputs": dict(zip(features, [8200, 0.46, "个体经营", 2, 0.81, 6, 34, "租房"])), "values": values, "half_widths": [0.0] * len(nodes),
                  "interactions": [{"nodes": [4, 6], "value": 0.0214, "half_width": 0.0}, {"nodes": [3, 4], "value": -0.0127, "half_width": 0.0}]},
    }


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for make in (adult, nhanes, wide, hostile, words, credit):
        (folder / f"{make.__name__}.json").write_text(json.dumps(make(), ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main()
