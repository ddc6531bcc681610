"""Values of tree ensembles beside the shap package on real data: XGBoost and LightGBM models of adult income, NHANES survival and COMPAS.

    python bench/hfa_trees.py [--ours build/bin] [--rows 2000]
Needs shap, xgboost-cpu and lightgbm. shap runs its C extension (for XGBoost it would ask xgboost itself, which is timed too); sides take turns.
"""

import argparse
import os
import pathlib
import statistics
import tempfile
import time

import numpy
from llm_bench import Side

ROOT = pathlib.Path(__file__).resolve().parent.parent
DATA = pathlib.Path(os.environ.get("DEEPSEEK_DATA", ROOT.parent / "shared" / "data"))


def adult():
    names = "age workclass fnlwgt education education_num marital_status occupation relationship race sex capital_gain capital_loss hours_per_week native_country income".split()
    rows = [line.split(", ") for line in (DATA / "adult.csv").read_text().splitlines() if line.strip()]
    columns = [coded([r[j] for r in rows]) for j in range(14)]
    return names[:14], numpy.array(columns).T, numpy.array([r[14].startswith(">") for r in rows], float)


def coded(values):
    """Numbers as they are, words by their rank; ? and nothing are missing."""
    try:
        return [float(v) if v not in ("", "?") else numpy.nan for v in values]
    except ValueError:
        rank = {w: i for i, w in enumerate(sorted(set(values) - {"", "?"}))}
        return [rank.get(v, numpy.nan) for v in values]


def table(name):
    import csv

    with open(DATA / name, newline="") as file:
        rows = list(csv.reader(file))
    return rows[0], rows[1:]


def nhanes():
    names, rows = table("nhanes_x.csv")
    y = [float(r[1]) for r in table("nhanes_y.csv")[1]]
    return names[1:], numpy.array([coded([r[j] for r in rows]) for j in range(1, len(names))]).T, numpy.abs(numpy.array(y))


def compas():
    names, rows = table("compas.csv")
    keep = [names.index(n) for n in "sex age race juv_fel_count juv_misd_count juv_other_count priors_count c_charge_degree".split()]
    return [names[j] for j in keep], numpy.array([coded([r[j] for r in rows]) for j in keep]).T, numpy.array([float(r[-1]) for r in rows])


def is_binary(y):
    return set(y) == {0.0, 1.0}


def boosted(x, y, rounds):
    import xgboost

    return xgboost.train({"objective": "binary:logistic" if is_binary(y) else "reg:squarederror", "max_depth": 6, "eta": 0.1}, xgboost.DMatrix(x, y), rounds)


def models(folder):
    import lightgbm

    for data in (adult, nhanes, compas):
        names, x, y = data()
        booster = boosted(x, y, 300)
        booster.save_model(folder / f"{data.__name__}.json")
        yield f"{data.__name__}, XGBoost, 300 trees of depth 6", folder / f"{data.__name__}.json", booster, x
        leaves = lightgbm.train({"objective": "binary" if is_binary(y) else "regression", "num_leaves": 63, "verbose": -1, "num_threads": 2}, lightgbm.Dataset(x, y), 300)
        leaves.save_model(folder / f"{data.__name__}.txt")
        yield f"{data.__name__}, LightGBM, 300 trees of 63 leaves", folder / f"{data.__name__}.txt", leaves, x


def timed(body):
    begin = time.perf_counter()
    result = body()
    return time.perf_counter() - begin, result


def apart(found, expected):
    return numpy.abs(found - numpy.asarray(expected).ravel()).max() / max(1, numpy.abs(found).max())


def c_extension(model):
    """The explainer with its trees read, which alone is timed."""
    import shap

    explainer = shap.TreeExplainer(model)
    explainer.model.original_model, explainer.model.model_type = None, "internal"  # else shap asks XGBoost or LightGBM for their own values
    return explainer


def main():
    import shap
    import xgboost

    parser = argparse.ArgumentParser()
    parser.add_argument("--ours", type=pathlib.Path, default=ROOT / "build" / "bin")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    side = Side("ours", [str(args.ours / "deepseek-bench-explain"), "--threads", "2"])
    ratios, pairs, others = [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)

        def ours(command, path, x, *more):
            (folder / "rows").write_bytes(numpy.ascontiguousarray(x, float).tobytes())
            answer = side.ask(f"{command} {path} {folder / 'rows'} {' '.join(map(str, more))} {folder / 'out'}")
            return answer["seconds"], numpy.frombuffer((folder / "out").read_bytes())

        for label, path, model, x in models(folder):
            x = x[: args.rows]
            explainer = c_extension(model)
            rounds = []
            for _ in range(args.rounds):
                theirs, expected = timed(lambda: explainer.shap_values(x, check_additivity=False))
                mine, values = ours("tree", path, x)
                rounds.append(theirs / mine)
            difference = apart(values, expected)
            native, _ = timed((lambda: model.predict(xgboost.DMatrix(x), pred_contribs=True)) if isinstance(model, xgboost.Booster) else (lambda: model.predict(x, pred_contrib=True)))
            few = x[:50]
            theirs_pairs, expected = timed(lambda: explainer.shap_interaction_values(few))
            mine_pairs, found = ours("interactions", path, few)
            pair_difference = apart(found, expected)
            background = x[-100:]
            (folder / "background").write_bytes(numpy.ascontiguousarray(background, float).tobytes())
            other = shap.TreeExplainer(model, background, feature_perturbation="interventional")
            theirs_other, expected = timed(lambda: other.shap_values(few, check_additivity=False))
            mine_other, found = ours("interventional", path, few, folder / "background")
            other_difference = apart(found, expected)
            ratios.append(statistics.median(rounds))
            pairs.append(theirs_pairs / mine_pairs)
            others.append(theirs_other / mine_other)
            print(f"{label}: {len(x)} rows in {1e3 * mine:.1f} ms, shap {1e3 * theirs:.0f} ms ({ratios[-1]:.1f}x; {min(rounds):.1f} to {max(rounds):.1f}), the booster's own {1e3 * native:.0f} ms "
                  f"({native / mine:.1f}x), difference {difference:.1e}; interactions {pairs[-1]:.0f}x, {pair_difference:.1e}; over a background {others[-1]:.1f}x, {other_difference:.1e}", flush=True)
            if max(difference, pair_difference, other_difference) > 1e-6:
                raise SystemExit("the values differ")
    side.quit()
    print(f"RESULT hfa_trees tree_vs_shap={min(ratios):.1f} interactions_vs_shap={min(pairs):.1f} interventional_vs_shap={min(others):.1f}")


if __name__ == "__main__":
    main()
