"""Wall time of Shapley values of any model, ours beside shap's KernelExplainer at the same error.

    python bench/hfa_time.py [--ours build/bin] [--rows 5]
Six models of real data (hfa_models.py), scored by XGBoost and torch for shap, by this project's readers of the same files for us; background of 100 rows, as shap recommends, 2 threads.
KernelExplainer runs with its own number of calls (2 a feature and 2,048) and without its l1 shortcut; ours with the fewest calls of a ladder whose error is no greater.
"""

import argparse
import pathlib
import statistics
import tempfile
import time
import warnings

import numpy
from finetune_bench import print_machine
from hfa_models import Ours, cases

ROOT = pathlib.Path(__file__).resolve().parent.parent
LADDER = [round(32 * 2 ** (k / 2)) for k in range(13)]


def kernel(case, rows, background):
    import shap

    numpy.random.seed(0)
    begin = time.perf_counter()
    explainer = shap.KernelExplainer(case.score, background)
    values = explainer.shap_values(rows, l1_reg=0, silent=True)
    return values, time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ours", type=pathlib.Path, default=ROOT / "build" / "bin")
    parser.add_argument("--rows", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    print_machine(2)
    ratios = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        ours = Ours(args.ours / "deepseek-bench-explain", folder)
        for case in cases(folder):
            rows, background = case.x[: args.rows], case.x[-100:]
            truth, _ = ours.values(case, rows, background, "trees" if case.net is None else "exact")
            error = lambda values: float(numpy.mean(numpy.linalg.norm(values - truth, axis=1) / numpy.linalg.norm(truth, axis=1)))
            theirs, _ = kernel(case, rows, background)
            bar = max(error(theirs), 1e-6)  # torch and XGBoost add in f32
            budget = next((b for b in LADDER if error(ours.values(case, rows, background, budget=b)[0]) <= bar), LADDER[-1])
            rounds = []
            for _ in range(args.rounds):
                slow, fast = kernel(case, rows, background)[1], ours.values(case, rows, background, budget=budget)[1]
                rounds.append(slow / fast)
            ratios.append(statistics.median(rounds))
            print(f"{case.name}, {case.features} features: KernelExplainer {1e3 * slow / len(rows):.0f} ms a row at an error of {error(theirs):.2g}; ours with {budget} calls {1e3 * fast / len(rows):.1f} ms, "
                  f"{error(ours.values(case, rows, background, budget=budget)[0]):.2g}: {ratios[-1]:.1f}x ({min(rounds):.1f} to {max(rounds):.1f})", flush=True)
        ours.quit()
    print(f"RESULT hfa_time time_vs_shap={statistics.geometric_mean(ratios):.1f} least={min(ratios):.1f}")


if __name__ == "__main__":
    main()
