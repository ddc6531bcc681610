"""Faithfulness of attributions beside SHAP and Captum on the same models and rows.

    python bench/hfa_faithful.py [--ours build/bin] [--rows 60]
Six models of real data (hfa_models.py); what is removed takes the values of 50 background rows, over which scores are averaged. In shares of the mean distance of the
score from the base:
  deletion   area under the score while features go, those that carry it most first: less is better
  insertion  the same while they come: more is better
  PGI, PGU   mean change of the score when the k features of greatest, or least, |value| get those of a background row, k = 1 to half: more, or less, is better
"""

import argparse
import pathlib
import statistics
import tempfile
import warnings

import numpy
from hfa_models import Ours, cases

ROOT = pathlib.Path(__file__).resolve().parent.parent
BETTER = {"deletion": min, "insertion": max, "PGI": max, "PGU": min}


def mixed_scores(case, row, background, masks):
    """Mean score over the background where masks [coalitions, features] say which features the row keeps."""
    mixed = numpy.where(masks[:, None, :], row, background[None]).reshape(-1, case.features)
    return numpy.asarray(case.score(mixed)).reshape(len(masks), -1)


def measures(case, rows, background, values):
    n, found, distance = case.features, {name: [] for name in BETTER}, []
    for row, value in zip(rows, values):
        ends = mixed_scores(case, row, background, numpy.array([numpy.zeros(n, bool), numpy.ones(n, bool)])).mean(1)
        sign = numpy.sign(ends[1] - ends[0])
        order = numpy.argsort(-sign * value, kind="stable")
        rank = numpy.argsort(order)
        come = rank[None] < numpy.arange(n + 1)[:, None]
        for name, masks in (("insertion", come), ("deletion", ~come)):
            curve = sign * (mixed_scores(case, row, background, masks).mean(1) - ends[0])
            found[name].append(numpy.trapezoid(curve) / n)
        strength = numpy.argsort(numpy.argsort(-numpy.abs(value), kind="stable"))
        half = max(1, n // 2)
        for name, place in (("PGI", strength), ("PGU", n - 1 - strength)):
            kept = place[None] >= numpy.arange(1, half + 1)[:, None]
            found[name].append(numpy.abs(mixed_scores(case, row, background, kept) - ends[1]).mean())
        distance.append(abs(ends[1] - ends[0]))
    return {name: statistics.fmean(list(map(float, v))) / statistics.fmean(list(map(float, distance))) for name, v in found.items()}


def shap_sides(case, rows, background):
    import shap

    numpy.random.seed(0)
    yield "shap Kernel", shap.KernelExplainer(case.score, background).shap_values(rows, l1_reg=0, silent=True)
    if case.booster is not None:
        yield "shap Tree", shap.TreeExplainer(case.booster, background, feature_perturbation="interventional").shap_values(rows, check_additivity=False)
    else:
        import torch

        explainer = shap.GradientExplainer(case.net, torch.tensor(background, dtype=torch.float32))
        yield "shap Gradient", numpy.asarray(explainer.shap_values(torch.tensor(rows, dtype=torch.float32), nsamples=2000)).reshape(len(rows), -1)


def captum_sides(case, rows, background):
    import torch
    from captum import attr

    def forward(inputs):
        if case.net is not None:
            return case.net(inputs)[:, 0]
        return torch.tensor(numpy.asarray(case.score(inputs.numpy())), dtype=torch.float32)

    torch.manual_seed(0)
    inputs, base = torch.tensor(rows, dtype=torch.float32), torch.tensor(numpy.nanmean(background, 0), dtype=torch.float32)[None]
    yield "captum Ablation", attr.FeatureAblation(forward).attribute(inputs, baselines=base).detach().numpy()
    yield "captum ShapleySampling", attr.ShapleyValueSampling(forward).attribute(inputs, baselines=base, n_samples=100).detach().numpy()
    if case.net is not None:
        yield "captum IntegratedGradients", attr.IntegratedGradients(forward).attribute(inputs, baselines=base, n_steps=100).detach().numpy()


def main():
    import importlib.metadata

    parser = argparse.ArgumentParser()
    parser.add_argument("--ours", type=pathlib.Path, default=ROOT / "build" / "bin")
    parser.add_argument("--rows", type=int, default=60)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("shap", "captum")))
    ratios = {name: [] for name in BETTER}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        ours = Ours(args.ours / "deepseek-bench-explain", folder)
        for case in cases(folder):
            rows, background = case.x[: args.rows], case.x[-50:]
            sides = {"ours estimate": ours.values(case, rows, background, budget=min(1024, 2**case.features))[0]}
            if case.booster is not None:
                sides["ours trees"] = ours.values(case, rows, background, "trees")[0]
            else:
                sides["ours gradients"] = ours.values(case, rows, background, "gradients")[0]
            for group in (shap_sides, captum_sides):
                sides.update(group(case, rows, background))
            table = {side: measures(case, rows, background, values) for side, values in sides.items()}
            for side, row in table.items():
                print(f"{case.name:14} {side:28}" + "".join(f" {measure} {row[measure]:.4f}" for measure in BETTER), flush=True)
            for measure, better in BETTER.items():
                mine = table["ours estimate"][measure]
                peer = better(row[measure] for side, row in table.items() if not side.startswith("ours"))
                ratios[measure].append(mine / peer)
        ours.quit()
    print("RESULT hfa_faithful " + " ".join(f"{measure.lower()}_vs_best_peer={statistics.geometric_mean(r):.3f}" for measure, r in ratios.items() if min(r) > 0))


if __name__ == "__main__":
    main()
