"""Models of real data that attribution is measured on: boosted trees and a small net each of adult income, NHANES survival and COMPAS, for this project and its peers alike."""

import numpy
from hfa_trees import adult, boosted, compas, is_binary, nhanes


class Case:
    """name, x [rows, features] in a seeded order, score(rows) -> [rows] as the peers call it, path of the file that we read; net: the torch module or None."""

    def __init__(self, name, x, score, path, net=None, booster=None):
        self.name, self.x, self.score, self.path, self.net, self.booster = name, x, score, path, net, booster

    @property
    def features(self):
        return self.x.shape[1]


def trained_net(x, y):
    """Missing values at the mean, standardised; two hidden layers; log-odds or the standardised target. Takes and gives torch tensors."""
    import torch

    torch.manual_seed(0)
    mean, deviation = numpy.nanmean(x, 0), numpy.nanstd(x, 0) + 1e-9

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
            self.register_buffer("deviation", torch.tensor(deviation, dtype=torch.float32))
            width = x.shape[1]
            self.layers = torch.nn.Sequential(torch.nn.Linear(width, 64), torch.nn.SiLU(), torch.nn.Linear(64, 32), torch.nn.SiLU(), torch.nn.Linear(32, 1))

        def forward(self, rows):
            rows = torch.where(torch.isnan(rows), self.mean, rows)
            return self.layers((rows - self.mean) / self.deviation)

    net, inputs = Net(), torch.tensor(x, dtype=torch.float32)
    goal = torch.tensor(y if is_binary(y) else (y - y.mean()) / y.std(), dtype=torch.float32)[:, None]
    loss = torch.nn.functional.binary_cross_entropy_with_logits if is_binary(y) else torch.nn.functional.mse_loss
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3)
    for _ in range(12):
        for rows in torch.randperm(len(x)).split(256):
            optimizer.zero_grad()
            loss(net(inputs[rows]), goal[rows]).backward()
            optimizer.step()
    return net.eval()


def cases(folder, rounds=150):
    import torch

    for data in (adult, nhanes, compas):
        _, x, y = data()
        order = numpy.random.default_rng(0).permutation(len(x))
        x, y = x[order], y[order]
        booster = boosted(x, y, rounds)
        path = folder / f"{data.__name__}.json"
        booster.save_model(path)
        yield Case(f"{data.__name__} trees", x, lambda rows: booster.inplace_predict(rows, predict_type="margin"), path, booster=booster)
        net = trained_net(x, y)
        path = folder / f"{data.__name__}.pt"
        torch.jit.script(net).save(str(path))

        def score(rows):
            with torch.no_grad():
                return net(torch.tensor(rows, dtype=torch.float32)).numpy()[:, 0]

        filled = numpy.where(numpy.isnan(x), numpy.nanmean(x, 0), x)  # what is missing has no gradient, and no noise
        yield Case(f"{data.__name__} net", filled, score, path, net=net)


class Ours:
    """deepseek-bench-explain and the files between us."""

    def __init__(self, program, folder, threads=2):
        from llm_bench import Side

        self.folder, self.side = folder, Side("ours", [str(program), "--threads", str(threads)])

    def values(self, case, rows, background, engine="estimate", budget=0, seed=0):
        """Values [rows, features] and seconds."""
        for name, numbers in (("rows", rows), ("background", background)):
            numpy.ascontiguousarray(numbers, float).tofile(self.folder / name)
        answer = self.side.ask(f"attribute {case.path} {case.features} {self.folder / 'rows'} {self.folder / 'background'} {engine} {budget} {seed} {self.folder / 'out'}")
        return numpy.fromfile(self.folder / "out").reshape(len(rows), case.features), answer["seconds"]

    def quit(self):
        self.side.quit()
