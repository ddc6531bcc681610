"""Dependence of mixed columns by SciPy.

    python tests/golden/dependence.py     # writes tests/golden/dependence.json; made with numpy 2.4.6, scipy 1.17.1
The rows are drawn here: numbers with ties, missing values and outliers, few and many categories, an identifier, a constant.
"""

import itertools
import json
import pathlib

import numpy
from scipy import stats
from scipy.stats.contingency import crosstab

ROWS = 240


def columns(random):
    a = random.normal(size=ROWS)
    b = numpy.exp(2 * a + random.normal(size=ROWS))  # heavy tails, rises with a
    few = numpy.digitize(a + 0.5 * random.normal(size=ROWS), [-0.5, 0.5])
    other = numpy.where(random.random(ROWS) < 0.7, few, random.integers(0, 4, ROWS))
    gaps, holes = a.copy(), other.astype(float)
    gaps[random.random(ROWS) < 0.2] = numpy.nan
    holes[random.random(ROWS) < 0.3] = numpy.nan
    return [(a, 0), (b, 0), (numpy.round(-a * 2), 0), (gaps, 0), (random.normal(size=ROWS), 0), (few, 1), (other, 1), (holes, 1), (random.integers(0, 60, ROWS), 1),
            (numpy.arange(ROWS), 1), (numpy.full(ROWS, 3), 0), (numpy.where(random.random(ROWS) < 0.5, numpy.nan, numpy.round(gaps)), 0)]


def correlation_ratio(category, number):
    groups = [number[category == c] for c in numpy.unique(category)]
    n, k = len(number), len(groups)
    if k < 2 or k >= n or numpy.ptp(number) == 0:
        return 0
    f = stats.f_oneway(*groups).statistic
    eta = f * (k - 1) / (f * (k - 1) + n - k)
    return numpy.sqrt(max(0, 1 - (1 - eta) * (n - 1) / (n - k)))


def cramers_v(x, y):
    table = crosstab(x, y).count
    n, (k, l) = len(x), table.shape
    if min(k, l) < 2 or max(k, l) >= n:
        return 0
    phi = stats.chi2_contingency(table, correction=False).statistic / n
    return numpy.sqrt(max(0, phi - (k - 1) * (l - 1) / (n - 1)) / (min(k - (k - 1) ** 2 / (n - 1), l - (l - 1) ** 2 / (n - 1)) - 1))


def dependence(x, y):
    both = ~numpy.isnan(x[0].astype(float)) & ~numpy.isnan(y[0].astype(float))
    (a, a_category), (b, b_category) = (x[0][both], x[1]), (y[0][both], y[1])
    if a_category and b_category:
        return cramers_v(a, b)
    if a_category != b_category:
        return correlation_ratio(a, b) if a_category else correlation_ratio(b, a)
    return 0 if numpy.ptp(a) == 0 or numpy.ptp(b) == 0 else abs(stats.spearmanr(a, b).statistic)


def main():
    made = columns(numpy.random.default_rng(11))
    made = [(numpy.asarray(values, dtype=float).round(6), category) for values, category in made]
    distance = numpy.zeros((len(made), len(made)))
    for i, j in itertools.combinations(range(len(made)), 2):
        distance[i, j] = distance[j, i] = 1 - dependence(made[i], made[j])
    rows = numpy.stack([values for values, _ in made], axis=1)
    out = {"is_category": [category for _, category in made], "rows": rows.tolist(), "distance": distance.tolist()}
    path = pathlib.Path(__file__).resolve().parent / "dependence.json"
    path.write_text(json.dumps(out).replace("NaN", "null") + "\n")


if __name__ == "__main__":
    main()
