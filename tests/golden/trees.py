"""Tree ensembles of XGBoost and LightGBM with the values that the shap package gives them.

    python tests/golden/trees.py     # writes tests/golden/trees/*; made with xgboost 3.2.0, lightgbm 4.7.0, shap 0.51.0
The rows are drawn here: numbers, missing values, and categories for LightGBM.
"""

import json
import pathlib

import lightgbm
import numpy
import shap
import xgboost

FOLDER = pathlib.Path(__file__).resolve().parent / "trees"


def rows(random, count):
    x = random.normal(size=(count, 8)).round(3)
    x[random.random(x.shape) < 0.1] = numpy.nan
    x[random.random(x.shape) < 0.1] = 0
    x[:, 7] = random.integers(0, 40, count)
    return x


def target(x):
    y = numpy.nan_to_num(x)
    return y[:, 0] * y[:, 1] + numpy.sin(3 * y[:, 2]) + (y[:, 7] % 3) - numpy.abs(y[:, 3])


def write(name, x, background, model, interactions=True):
    explainer = shap.TreeExplainer(model)
    values = numpy.asarray(explainer.shap_values(x, check_additivity=False))
    expected = {"rows": x.tolist(), "base": numpy.atleast_1d(explainer.expected_value).tolist()}
    expected["values"] = values.tolist()
    if interactions:
        expected["interactions"] = numpy.asarray(explainer.shap_interaction_values(x)).tolist()
    if background is not None:
        other = shap.TreeExplainer(model, background, feature_perturbation="interventional")
        expected["background"] = background.tolist()
        raw = model.predict(background, raw_score=True) if isinstance(model, lightgbm.Booster) else model.predict(xgboost.DMatrix(background), output_margin=True)
        expected["interventional_base"] = numpy.atleast_1d(raw.mean(0)).tolist()  # shap 0.51 gives every class of XGBoost 3 the first one's base score
        expected["interventional"] = numpy.asarray(other.shap_values(x, check_additivity=False)).tolist()
    text = json.dumps(expected).replace("NaN", "null")
    (FOLDER / f"{name}.json").write_text(text + "\n")


def main():
    FOLDER.mkdir(exist_ok=True)
    random = numpy.random.default_rng(5)
    x, few, background = rows(random, 2000), rows(random, 6), rows(random, 10)
    y = target(x)
    deep = {"max_depth": 12, "eta": 0.3, "base_score": 0.3}
    for name, parameters, labels, rounds in (("xgboost_regression", {"max_depth": 5}, y, 12), ("xgboost_deep", deep, y, 2),
                                             ("xgboost_binary", {"objective": "binary:logistic", "max_depth": 4}, y > 0.7, 10),
                                             ("xgboost_classes", {"objective": "multi:softprob", "num_class": 3, "max_depth": 3}, numpy.digitize(y, [0, 1.5]), 4)):
        model = xgboost.train(parameters, xgboost.DMatrix(x, labels), rounds)
        model.save_model(FOLDER / f"{name}.model.{'ubj' if name == 'xgboost_binary' else 'json'}")
        write(name, few, background, model, interactions=name != "xgboost_classes")
    for name, parameters, labels, rounds, categories in (("lightgbm_regression", {"objective": "regression", "num_leaves": 15}, y, 10, []),
                                                         ("lightgbm_categories", {"objective": "binary", "num_leaves": 12, "min_data_per_group": 5}, y > 0.7, 8, [7]),
                                                         ("lightgbm_deep", {"objective": "regression", "num_leaves": 120, "min_data_in_leaf": 2}, y, 1, []),
                                                         ("lightgbm_zero", {"objective": "regression", "num_leaves": 10, "zero_as_missing": True}, y, 6, [])):
        model = lightgbm.train({**parameters, "verbose": -1}, lightgbm.Dataset(x, labels, categorical_feature=categories or "auto"), rounds)
        model.save_model(FOLDER / f"{name}.model.txt")
        write(name, few, None if categories else background, model, interactions=not categories)


if __name__ == "__main__":
    main()
