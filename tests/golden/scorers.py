"""Models as users bring them, with the scores that their own libraries give.

    python tests/golden/scorers.py     # writes tests/golden/scorers/*; made with torch 2.13.0, onnx 1.23.2, onnxscript 0.7.2, skl2onnx 1.20.0, scikit-learn 1.9.1,
                                       # xgboost 3.2.0, lightgbm 4.7.0, pandas 3.1.1, numpy 2.4.6
The tables are drawn here. A table's categories stand in another order than the alphabet's, so that a wrong coding shows.
"""

import json
import pathlib

import lightgbm
import numpy
import onnx
import pandas
import skl2onnx
import torch
import xgboost
from sklearn.neural_network import MLPClassifier

FOLDER = pathlib.Path(__file__).resolve().parent / "scorers"
JOBS = ["nurse", "baker", "clerk", "driver"]


class Net(torch.nn.Module):
    """One net of the layers that tables get; `rows` fixed in a reshape where it is given."""

    def __init__(self, outputs, rows=None):
        super().__init__()
        self.first = torch.nn.Linear(4, 8)
        self.norm = torch.nn.BatchNorm1d(8)
        self.second = torch.nn.Linear(8, 8)
        self.last = torch.nn.Linear(8, outputs)
        self.rows = rows

    def forward(self, x):
        x = self.norm(torch.relu(self.first(x)))
        x = x + torch.tanh(self.second(x))
        x = self.last(x)
        if self.rows:
            x = x.reshape(self.rows, -1)
        return torch.softmax(x, 1) if x.shape[1] > 1 else x


def forget_origins(path):
    """The exporter writes the places of this machine's files beside each node."""
    model = onnx.load(path)
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for thing in (model, model.graph, *model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del thing.metadata_props[:]
    path.write_bytes(model.SerializeToString())


def made(seed, outputs, rows=None):
    torch.manual_seed(seed)
    net = Net(outputs, rows)
    with torch.no_grad():
        net.norm.running_mean.uniform_(0, 1)
        net.norm.running_var.uniform_(0.5, 2)
        net.norm.weight.uniform_(0.5, 2)
    return net.eval()


def write(name, **values):
    (FOLDER / f"{name}.json").write_text(json.dumps(values).replace("NaN", "null") + "\n")


def nets(random):
    x = torch.tensor(random.normal(size=(7, 4)).round(3), dtype=torch.float32)
    for name, outputs, rows, dynamo in (("classes", 3, None, True), ("value", 1, None, False), ("one_row", 3, 1, False)):
        net = made(outputs, outputs, rows)
        some = x[:1] if rows else x
        options = {"dynamo": True, "external_data": False} if dynamo else {"dynamo": False}
        if dynamo:
            options["dynamic_shapes"] = ({0: torch.export.Dim("rows")},)
        elif not rows:
            options["dynamic_axes"] = {"x": {0: "rows"}, "scores": {0: "rows"}}
        torch.onnx.export(net, (some,), FOLDER / f"{name}.onnx", input_names=["x"], output_names=["probabilities" if outputs > 1 else "scores"], **options)
        forget_origins(FOLDER / f"{name}.onnx")
        with torch.no_grad():
            write(f"{name}.onnx", rows=x.tolist(), scores=torch.cat([net(x[i : i + 1]) for i in range(len(x))]).double().flatten().tolist())
        if not rows:
            torch.jit.trace(net, x).save(FOLDER / f"{name}.pt")


def scikit(random):
    x = random.normal(size=(60, 4)).round(3).astype(numpy.float32)
    y = (x[:, 0] * x[:, 1] > 0).astype(int)
    model = MLPClassifier((6,), max_iter=200, random_state=1).fit(x, y)
    file = skl2onnx.to_onnx(model, x[:1], options={"zipmap": True})
    (FOLDER / "scikit_mlp.onnx").write_bytes(file.SerializeToString())
    write("scikit_mlp.onnx", rows=x[:7].tolist(), scores=model.predict_proba(x[:7]).flatten().tolist())
    tree = onnx.helper.make_node("TreeEnsembleRegressor", ["x"], ["scores"], domain="ai.onnx.ml")
    value = lambda name, width: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, width])
    graph = onnx.helper.make_graph([tree], "trees", [value("x", 4)], [value("scores", 1)])
    (FOLDER / "trees.onnx").write_bytes(onnx.helper.make_model(graph).SerializeToString())


def trees(random):
    table = pandas.DataFrame({"hours per week": random.integers(1, 60, 300), "job": random.choice(JOBS, 300), "wage": random.normal(size=300).round(3), "grade": random.choice([3, 1, 2], 300)})
    y = table["job"].map({"nurse": 1.0, "baker": -2.0, "clerk": 0.5, "driver": 3.0}) + 0.05 * table["hours per week"] + (table["grade"] == 2)
    table["job"] = pandas.Categorical(table["job"], JOBS)
    table["grade"] = pandas.Categorical(table["grade"], [3, 1, 2])
    few = table[:12].copy()
    few.loc[3, "job"] = None
    texts = [[None if pandas.isna(v) else v if isinstance(v, str) else float(v) for v in row] for row in few.itertuples(index=False)]
    parameters = {"num_leaves": 7, "min_data_per_group": 5, "cat_smooth": 1, "verbose": -1, "learning_rate": 0.3}
    light = lightgbm.train(parameters, lightgbm.Dataset(table, y), 6)
    light.save_model(FOLDER / "lightgbm_pandas.model.txt")
    write("lightgbm_pandas", columns=list(table), rows=texts, scores=light.predict(few, raw_score=True).tolist())
    plain = table.rename(columns={"hours per week": "hours"})
    matrix = xgboost.DMatrix(plain, y, enable_categorical=True)
    model = xgboost.train({"max_depth": 3, "max_cat_to_onehot": 1, "eta": 0.4}, matrix, 5)
    for file in ("xgboost_pandas.model.json", "xgboost_pandas.model.ubj"):
        model.save_model(FOLDER / file)
    some = xgboost.DMatrix(few.rename(columns={"hours per week": "hours"}), enable_categorical=True)
    write("xgboost_pandas", columns=list(plain), rows=texts, scores=model.predict(some, output_margin=True).astype(float).tolist())
    # The same without names and texts: the coding is in the table's maker's head.
    codes = numpy.column_stack([plain["hours"], plain["job"].cat.codes, plain["wage"], plain["grade"].cat.codes]).astype(float)
    bare = xgboost.train({"max_depth": 3, "objective": "binary:logistic"}, xgboost.DMatrix(codes, y > 2), 3)
    bare.save_model(FOLDER / "xgboost_codes.model.json")
    write("xgboost_codes", rows=codes[:12].tolist(), scores=bare.predict(xgboost.DMatrix(codes[:12]), output_margin=True).astype(float).tolist())


def main():
    FOLDER.mkdir(exist_ok=True)
    random = numpy.random.default_rng(8)
    nets(random)
    scikit(random)
    trees(random)


if __name__ == "__main__":
    main()
