"""What is known of `trref.statistics.mutual_information`."""

import itertools
import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Method
from trref.statistics.mutual_information import (
    bin_scores,
    binned_joint,
    gaussian_mi,
    kde_by_class,
    kde_joint,
    linfoot,
    mutual_information,
)


def _table(rng, size):
    table = rng.random((size, int(rng.integers(2, 6)))) * rng.choice((0.1, 5.0))
    return {"joint": table * (table > 0.03)}


def _by_cells(joint):
    total = math.fsum(joint.ravel().tolist())
    p = [[x / total for x in row] for row in joint.tolist()]
    rows = [math.fsum(row) for row in p]
    columns = [math.fsum(column) for column in zip(*p, strict=True)]
    logs = [
        x * (math.log(x) - math.log(rows[k]) - math.log(columns[m]))
        for k, row in enumerate(p)
        for m, x in enumerate(row)
        if x > 0
    ]
    return xp.asarray(max(math.fsum(logs), 0.0))


def _not_divided(joint):
    """As the compiled routine has it."""
    rows, columns = joint.sum(1)[:, None], joint.sum(0)
    some = joint > 0
    ratio = xp.where(some, joint, 1) / xp.where(some, rows * columns, 1)
    return (joint * xp.log(ratio)).sum()


def _variables(rng, size):
    a = rng.standard_normal(size + 2)
    return {
        "a": 3 * a + 1,
        "b": rng.choice((0.1, 2.0)) * (a**2 + rng.standard_normal(size + 2)),
    }


PAIRS = {
    "two samples": lambda: {"a": xp.array([0.0, 1.0]), "b": xp.array([3.0, -1.0])},
    "few values": lambda: {
        "a": xp.array([0.0, 0.0, 1.0, 1.0, 0.0]),
        "b": xp.array([2.0, -1.0, 2.0, 0.5, -1.0]),
    },
}


def _standard(x):
    mean = math.fsum(x.tolist()) / len(x)
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in x.tolist()) / len(x))
    return [(v - mean) / spread for v in x.tolist()]


def _points(x, reach, grid):
    low, high = min(x) - reach, max(x) + reach
    return [low + (high - low) * k / (grid - 1) for k in range(grid)]


def _kernel_by_kernel(a, b, *, bandwidth=1.0, grid=48):
    a, b = _standard(a), _standard(b)
    reach = bandwidth * math.sqrt(6) / len(a) ** (1 / 6)
    table = xp.zeros((grid, grid))
    places = itertools.product(
        enumerate(_points(a, reach, grid)), enumerate(_points(b, reach, grid))
    )
    for (u, g), (v, h) in places:
        squares = [
            ((g - x) / reach) ** 2 + ((h - y) / reach) ** 2
            for x, y in zip(a, b, strict=True)
        ]
        table[u, v] = math.fsum(1 - s for s in squares if s < 1)
    return table / table.sum()


def _classes(rng, size):
    labels = rng.integers(0, 2, size + 2)
    return {"a": rng.standard_normal(size + 2) + labels, "labels": labels}


def _class_by_class(a, labels, *, classes=2, bandwidth=1.0, grid=48):
    x = _standard(a)
    reach = bandwidth * math.sqrt(5) * (4 / 3 / len(x)) ** 0.2
    points, table = _points(x, reach, grid), xp.zeros((classes, grid))
    for k in range(classes):
        own = [v for v, label in zip(x, labels.tolist(), strict=True) if label == k]
        heights = [
            math.fsum(max(0.0, 1 - ((g - v) / reach) ** 2) for v in own) for g in points
        ]
        for u, height in enumerate(heights):
            table[k, u] = height / math.fsum(heights) * len(own) / len(x) if own else 0
    return table


def _bin(x, low, high, bins):
    return min(math.floor((x - low) / (high - low) * bins), bins - 1)


def _places(x, bins):
    x = x.tolist()
    return [_bin(v, min(x), max(x), bins) for v in x]


def _scores(x, *, most=20):
    scores = []
    for D in range(1, most + 1):
        counts = [_places(x, D).count(j) for j in range(D)]
        fit = math.fsum(c * math.log(c * D) for c in counts if c)
        scores.append(fit - (D - 1) - math.log(D) ** 2.5)
    return xp.array(scores)


def _counted(a, b, *, bins_a=8, bins_b=8):
    table = xp.zeros((bins_a, bins_b))
    for u, v in zip(_places(a, bins_a), _places(b, bins_b), strict=True):
        table[u, v] += 1 / len(a)
    return table


def _constant():
    return {"a": xp.ones(3), "b": xp.array([0.0, 1.0, 2.0])}


METHOD = Method(
    key="yang2025contributions",
    provenance={
        "confirmed": ("table", "bins", "gaussian", "linfoot"),
        "partly": ("kernel",),
        "reconstructed": ("classes",),
    },
    functions=(
        Estimator(
            f=mutual_information,
            example=_table,
            edges={
                "independent": lambda: {"joint": xp.ones((2, 2))},
                "one tells the other": lambda: {"joint": xp.eye(3)},
                "one cell": lambda: {"joint": xp.array([[2.0]])},
                "an empty row": lambda: {"joint": xp.array([[0.0, 0.0], [0.5, 1.5]])},
            },
            refused={"a table of zeros": lambda: ({"joint": xp.zeros((2, 2))}, {})},
            brute_force=_by_cells,
            deviations=(
                Deviation(
                    "a table that is not divided by its sum",
                    _not_divided,
                    seen_in="Kaiyangshi-Ito/fastHDMI src/fastHDMI/cython_fun.pyx",
                    computes="for a table of sum s: s times (the mutual information minus log s)",
                ),
            ),
        ),
        Estimator(
            f=kde_joint,
            example=_variables,
            edges=PAIRS,
            settings={
                "default": {"grid": 12},
                "narrow": {"bandwidth": 0.7, "grid": 24},
                "probe": {"bandwidth": 1.5, "grid": 9},
            },
            sizes=(4, 8),
            refused={
                "a constant": lambda: (_constant(), {}),
                "a constant outcome": lambda: (
                    {"a": _constant()["b"], "b": _constant()["a"]},
                    {},
                ),
                "a coarse grid": lambda: (PAIRS["few values"](), {"grid": 2}),
            },
            brute_force=_kernel_by_kernel,
        ),
        Estimator(
            f=kde_by_class,
            example=_classes,
            edges={
                "an empty class": lambda: {
                    "a": xp.array([0.0, 1.0, 3.0]),
                    "labels": xp.array([1, 1, 1]),
                },
                "one each": lambda: {
                    "a": xp.array([0.0, 1.0]),
                    "labels": xp.array([1, 0]),
                },
            },
            settings={
                "default": {"grid": 12},
                "few points": {"bandwidth": 8.0, "grid": 3},
                "probe": {"classes": 3, "bandwidth": 1.5, "grid": 9},
            },
            sizes=(4, 8),
            refused={
                "a class too many": lambda: (
                    {"a": xp.array([0.0, 1.0]), "labels": xp.array([0, 2])},
                    {},
                ),
                "a constant": lambda: (
                    {"a": xp.ones(2), "labels": xp.array([0, 1])},
                    {},
                ),
            },
            brute_force=_class_by_class,
        ),
        Estimator(
            f=bin_scores,
            example=lambda rng, size: {"x": rng.standard_normal(size + 1)},
            edges={"two values": lambda: {"x": xp.array([0.0, 1.0, 1.0])}},
            settings={"default": {"most": 6}, "probe": {"most": 9}},
            sizes=(4, 8),
            refused={"a constant": lambda: ({"x": xp.zeros(3)}, {})},
            brute_force=_scores,
        ),
        Estimator(
            f=binned_joint,
            example=_variables,
            edges=PAIRS,
            settings={"default": {}, "probe": {"bins_a": 3, "bins_b": 5}},
            sizes=(4, 8),
            refused={
                "a constant": lambda: (_constant(), {}),
                "a constant outcome": lambda: (
                    {"a": _constant()["b"], "b": _constant()["a"]},
                    {},
                ),
            },
            brute_force=_counted,
        ),
        Estimator(
            f=gaussian_mi,
            example=lambda rng, size: {
                "rho": rng.choice((0.01, 0.95), size) * rng.uniform(-1, 1, size)
            },
            edges={"none": lambda: {"rho": xp.zeros(2)}},
            refused={"a perfect one": lambda: ({"rho": xp.array([0.5, -1.0])}, {})},
            brute_force=lambda rho: xp.array(
                [-math.log(math.sqrt(1 - r) * math.sqrt(1 + r)) for r in rho.tolist()]
            ),
        ),
        Estimator(
            f=linfoot,
            example=lambda rng, size: {"information": rng.exponential(1.0, size)},
            edges={"none": lambda: {"information": xp.zeros(2)}},
            brute_force=lambda information: xp.array(
                [math.sqrt(1 - math.exp(-2 * i)) for i in information.tolist()]
            ),
        ),
    ),
)
