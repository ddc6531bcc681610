"""Shapley values from few model calls beside KernelSHAP and shapiq, on six models of real data whose exact values are known from all coalitions.

    python bench/hfa_estimate.py [--ours build/bin] [--budgets 100 200 400 800]
Adult income, COMPAS and NHANES survival, boosted trees and a neural net each; a coalition's worth is the mean score over a background, a call is one
coalition. Errors are relative to the norm of the exact values, means over samples and seeds. KernelSHAP runs without its l1 shortcut.
"""

import argparse
import math
import pathlib
import statistics
import tempfile
import warnings

import numpy
from hfa_trees import adult, boosted, compas, is_binary, nhanes
from llm_bench import Side

ROOT = pathlib.Path(__file__).resolve().parent.parent


def score_functions(x, y):
    import sklearn.impute
    import sklearn.neural_network
    import sklearn.pipeline
    import sklearn.preprocessing

    binary, booster = is_binary(y), boosted(x, y, 150)
    kind = sklearn.neural_network.MLPClassifier if binary else sklearn.neural_network.MLPRegressor
    net = sklearn.pipeline.make_pipeline(sklearn.impute.SimpleImputer(), sklearn.preprocessing.StandardScaler(), kind(hidden_layer_sizes=(64, 32), max_iter=30, random_state=0))
    net.fit(x[:8000], y[:8000])
    yield "trees", lambda rows: booster.inplace_predict(rows, predict_type="margin")
    yield "net", (lambda rows: net.predict_proba(rows)[:, 1]) if binary else net.predict


def table_of(score, row, background):
    """The worth of all coalitions [2^n]; bit i of the index: feature i has the row's value."""
    n = len(row)
    masks = (numpy.arange(2**n)[:, None] >> numpy.arange(n) & 1).astype(bool)
    worth = numpy.empty(2**n)
    for first in range(0, 2**n, 4096):
        some = masks[first : first + 4096]
        worth[first : first + 4096] = numpy.asarray(score(numpy.where(some[:, None, :], row, background[None]).reshape(-1, n))).reshape(len(some), -1).mean(1)
    return worth


def games(samples):
    for data in (adult, compas, nhanes):
        _, x, y = data()
        order = numpy.random.default_rng(0).permutation(len(x))
        x, y = x[order], y[order]
        background = x[-(50 if x.shape[1] < 18 else 16) :]
        for kind, score in score_functions(x, y):
            yield f"{data.__name__} {kind}", [table_of(score, row, background) for row in x[:samples]]


def exact(table):
    n = int(math.log2(len(table)))
    index = numpy.arange(2**n)
    size = sum(index >> i & 1 for i in range(n))
    weight = numpy.array([1 / (n * math.comb(n - 1, s)) for s in range(n)])
    without = [index[(index >> i & 1) == 0] for i in range(n)]
    return numpy.array([(weight[size[s]] * (table[s | 1 << i] - table[s])).sum() for i, s in enumerate(without)])


def kernel_shap(table, n, budget, seed):
    import shap

    numpy.random.seed(seed)
    power = 1 << numpy.arange(n)
    explainer = shap.KernelExplainer(lambda rows: table[rows.astype(int) @ power], numpy.zeros((1, n)))
    return explainer.shap_values(numpy.ones((1, n)), nsamples=budget - 2, l1_reg=0, silent=True)[0]  # it asks for nobody and all besides


def shapiq_values(name, table, n, budget, seed):
    from shapiq import approximator

    power = 1 << numpy.arange(n)
    kind = getattr(approximator, name)
    method = kind(n=n, random_state=seed) if name in ("KernelSHAP", "UnbiasedKernelSHAP", "PermutationSamplingSV", "SVARM") else kind(n=n, random_state=seed, index="SV", max_order=1)
    found = method.approximate(budget, lambda rows: table[numpy.atleast_2d(rows).astype(int) @ power] - table[0])
    return numpy.array([found[(i,)] for i in range(n)])


def main():
    import importlib.metadata

    parser = argparse.ArgumentParser()
    parser.add_argument("--ours", type=pathlib.Path, default=ROOT / "build" / "bin")
    parser.add_argument("--budgets", type=int, nargs="+", default=[100, 200, 400, 800])
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("shap", "shapiq")))
    side = Side("ours", [str(args.ours / "deepseek-bench-explain")])
    others = ["KernelSHAP", "UnbiasedKernelSHAP", "PermutationSamplingSV", "SVARM", "ProxySPEX"]
    to_kernel, to_shapiq, inside = [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)

        def ours(table, n, budget, seed):
            table.astype(float).tofile(folder / "table")
            side.ask(f"estimate {folder / 'table'} {budget} {seed} {folder / 'out'}")
            out = numpy.fromfile(folder / "out")
            return out[:n], out[n:]

        for label, tables in games(args.samples):
            n = int(math.log2(len(tables[0])))
            for budget in args.budgets:
                if budget > 2**n / 2:
                    continue
                errors = {side_name: [] for side_name in ["ours", "KernelExplainer", *others]}
                held = []
                for table in tables:
                    truth = exact(table)
                    relative = lambda values: numpy.linalg.norm(values - truth) / numpy.linalg.norm(truth)
                    for seed in range(args.seeds):
                        values, width = ours(table, n, budget, seed)
                        errors["ours"].append(relative(values))
                        held.append((numpy.abs(values - truth) <= width).mean())
                        errors["KernelExplainer"].append(relative(kernel_shap(table, n, budget, seed)))
                        for other in others:
                            errors[other].append(relative(shapiq_values(other, table, n, budget, seed)))
                mean = {side_name: statistics.fmean(e) for side_name, e in errors.items()}
                best = min(others, key=mean.get)
                to_kernel.append(mean["ours"] / mean["KernelExplainer"])
                to_shapiq.append(mean["ours"] / mean[best])
                inside.extend(held)
                print(f"{label}, {n} features, {budget} calls: error {mean['ours']:.4f}, KernelSHAP {mean['KernelExplainer']:.4f} ({to_kernel[-1]:.2f} of it), shapiq's best {mean[best]:.4f} "
                      f"({best}, {to_shapiq[-1]:.2f}); intervals hold {100 * statistics.fmean(held):.0f}%", flush=True)
    side.quit()
    print(f"RESULT hfa_estimate error_vs_kernelshap={statistics.geometric_mean(to_kernel):.3f} error_vs_shapiq={statistics.geometric_mean(to_shapiq):.3f} "
          f"worst_vs_kernelshap={max(to_kernel):.2f} worst_vs_shapiq={max(to_shapiq):.2f} coverage={statistics.fmean(inside):.3f}")


if __name__ == "__main__":
    main()
