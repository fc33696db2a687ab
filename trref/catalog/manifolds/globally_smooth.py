"""What is known of `trref.manifolds.globally_smooth`."""

import math

import numpy as np
from trref.backend import xp
from trref.catalog import Deviation, Estimator, Method, Solver
from trref.catalog.manifolds.weighted_laplacian import weights_of
from trref.manifolds.globally_smooth import (
    DualValue,
    Multipliers,
    authors_step,
    dual_step,
    dual_value,
    globally_smooth,
)


def _step(rng, size):
    share = rng.exponential(1, size) + 0.05
    return {
        "share": share / share.sum(),
        "slopes": rng.choice((0.1, 2.0)) * rng.exponential(1, size),
        "mu": xp.asarray(rng.uniform(0, 2)),
        "rho": xp.asarray(rng.uniform(0, 6)),
        "loss": xp.asarray(rng.choice((0.002, 0.5))),
    }


def _step_edge(share, slopes, mu=1.0, rho=1.0, loss=0.1):
    return {
        "share": xp.array(share),
        "slopes": xp.array(slopes),
        "mu": xp.asarray(mu),
        "rho": xp.asarray(rho),
        "loss": xp.asarray(loss),
    }


STEPS = {
    "a point alone": lambda: _step_edge([1.0], [2.0], mu=0.0, loss=0.0),
    "equal slopes": lambda: _step_edge([0.5, 0.25, 0.25], [1.0] * 3, rho=4.9),
    "flat": lambda: _step_edge([0.5, 0.5], [0.0, 0.0], rho=0.0),
    "very steep": lambda: _step_edge([0.5, 0.25, 0.25], [0.0, 3000.0, 2990.0]),
    "one far steeper": lambda: _step_edge([0.25] * 4, [0.0, 40.0, 0.5, 0.1], rho=5.0),
}


def _steps(*names, total=1.0):
    """The arguments that are named, with shares of a sum."""

    def chosen(made):
        return {n: total * made[n] if n == "share" else made[n] for n in names}

    return {
        "example": lambda rng, size: chosen(_step(rng, size)),
        "edges": {
            edge: lambda make=make: chosen(make()) for edge, make in STEPS.items()
        },
    }


def _moved(share, slopes, *, lr=0.5, rule="exponentiated"):
    """By bisection on the level, or in logarithms."""
    if rule == "projected":
        z = [s + lr * g for s, g in zip(share.tolist(), slopes.tolist(), strict=True)]
        low, high = min(z) - 1, max(z)
        for _ in range(200):
            level = (low + high) / 2
            if math.fsum(max(x - level, 0) for x in z) > 1:
                low = level
            else:
                high = level
        return xp.array([max(x - low, 0.0) for x in z])
    logs = [math.log(s) + lr * g for s, g in zip(share, slopes, strict=True)]
    top = max(logs)
    total = math.fsum(math.exp(x - top) for x in logs)
    return xp.array([math.exp(x - top) / total for x in logs])


def _renormalised(share, slopes, *, lr=0.5, rule="exponentiated"):
    moved = share + lr * xp.sqrt(slopes)
    return moved / moved.sum()


def _authors(share, mu, rho, slopes, loss, *, epsilon=0.01, lr=0.5, lr_rho=0.1):
    rho = min(max(float(rho) - lr_rho * (1 - math.fsum(share)), 0.0), 5.0)
    mu = max(float(mu) + lr * (float(loss) - epsilon), 0.0)
    share = [max(s + lr * (g - rho), 0.0) for s, g in zip(share, slopes, strict=True)]
    return Multipliers(xp.array(share), xp.asarray(mu), xp.asarray(rho))


def _problem(rng, size):
    """A cloud in the square, a few of its points labelled with two classes or with numbers."""
    N = max(size, 2)
    X = rng.uniform(-1, 1, (N, 2))
    labelled = xp.zeros(N)
    labelled[: max(2, N // 5)] = 1.0
    target = rng.standard_normal(N)
    if rng.random() < 0.5:
        target = xp.sign(target)
    target[0], target[1] = 1.0, -1.0
    share = rng.exponential(1, N) + 0.2
    return {
        "weights": weights_of(X, 0.3),
        "share": share / share.sum(),
        "target": target,
        "labelled": labelled,
    }


def _problem_edge(weights, target, labelled, share):
    return {
        "weights": xp.array(weights),
        "share": xp.array(share),
        "target": xp.array(target),
        "labelled": xp.array(labelled),
    }


PROBLEMS = {
    "two points": lambda: _problem_edge(
        [[0.0, 2.0], [2.0, 0.0]], [1.0, -1.0], [1.0, 1.0], [0.25, 0.75]
    ),
    "a path": lambda: _problem_edge(
        [[0.0, 1, 0, 0], [1, 0, 4, 0], [0, 4, 0, 0.25], [0, 0, 0.25, 0]],
        [0.0, 7.0, 7.0, 1.0],
        [1.0, 0.0, 0.0, 1.0],
        [0.125, 0.5, 0.25, 0.125],
    ),
}
CONSTANT = {
    "equal labels": lambda: _problem_edge(
        [[0.0, 1, 0], [1, 0, 1], [0, 1, 0]],
        [2.0, 9.0, 2.0],
        [1.0, 0.0, 1.0],
        [0.25, 0.5, 0.25],
    ),
    "one label": lambda: _problem_edge([[0.0]], [3.0], [1.0], [1.0]),
}


def _problems(*names, more=()):
    return {
        "example": lambda rng, size: {n: _problem(rng, size)[n] for n in names},
        "edges": {
            edge: lambda make=make: {n: make()[n] for n in names}
            for edge, make in {**PROBLEMS, **dict(more)}.items()
        },
    }


def _dual(weights, share, target, labelled, mu, epsilon):
    """The minimum by the stationary point's equations in another form: labelled values eliminate the others."""
    w, s, m = np.asarray(weights), np.asarray(share), np.asarray(labelled)
    pairs = (s[:, None] + s) * w
    L = np.diag(pairs.sum(1)) - pairs
    known = m > 0
    inner = np.linalg.pinv(L[np.ix_(~known, ~known)]) if (~known).any() else 0
    between = L[np.ix_(~known, known)]
    schur = L[np.ix_(known, known)]
    if (~known).any():
        schur = schur - between.T @ inner @ between
    y, n = np.asarray(target)[known], m.sum()
    at_labels = np.linalg.solve(mu / n * np.eye(len(y)) + schur, mu / n * y)
    f = np.zeros(len(s))
    f[known] = at_labels
    if (~known).any():
        f[~known] = -inner @ between @ at_labels
    g = (w * (f[:, None] - f) ** 2).sum(1)
    loss = ((at_labels - y) ** 2).sum() / n
    return mu * (loss - epsilon) + s @ g, g, loss - epsilon


def _dual_value(weights, share, target, labelled, *, mu=1.0, epsilon=0.01):
    return DualValue(
        *map(xp.asarray, _dual(weights, share, target, labelled, mu, epsilon))
    )


def _loss(result, target, labelled):
    return float((labelled * (result.f - target) ** 2).sum() / labelled.sum())


def _certificate(
    result, weights, target, labelled, *, epsilon=0.01, rtol=0.05, **hyper
):
    """What the two bounds say, computed again; relative to the larger."""
    g = (weights * (result.f[:, None] - result.f) ** 2).sum(1)
    rho = float(g.max())
    mu, below = float(result.mu), 0.0
    if mu:
        below = _dual(weights, result.share, target, labelled, mu, epsilon)[0]
    scale = max(rho, 1e-300)
    return {
        "loss": max(_loss(result, target, labelled) / epsilon - 1, 0.0),
        "gap over rtol": (rho - below) / scale / rtol if rho else 0.0,
        "rho": abs(float(result.rho) - rho) / scale,
        "count": abs(result.iterations - len(result.gaps)),
        "lower": abs(float(result.lower) - float(below)) / scale,
        "shares": abs(float(result.share.sum()) - 1)
        - min(float(result.share.min()), 0),
    }


def _remains(result, *, rtol=0.05, **inputs):
    """All but the size of the gap."""
    figures = _certificate(result, rtol=rtol, **inputs)
    return {n: (v, TOLERANCES[n]) for n, v in figures.items() if n != "gap over rtol"}


TOLERANCES = {
    "loss": 1e-9,
    "gap over rtol": 1 + 1e-6,
    "rho": 1e-9,
    "count": 0,
    "lower": 1e-7,
    "shares": 1e-9,
}


METHOD = Method(
    key="cervino2023learning",
    provenance={
        "confirmed": ("problem", "dual", "authors"),
        "reconstructed": (
            "slopes",
            "projected",
            "exponentiated",
            "certificate",
            "multiplier",
        ),
    },
    functions=(
        Estimator(
            f=dual_step,
            brute_force=_moved,
            settings={
                "default": {},
                "projected": {"rule": "projected"},
                "probe": {"lr": 0.3, "rule": "projected"},
                "exponentiated, small": {"lr": 0.05},
            },
            deviations=(
                Deviation(
                    "divided, not projected",
                    _renormalised,
                    seen_in="JuanCervino/smoothbench, scripts/toy_example_manifold.py, MANIFOLD_GRADIENT_NO_RHO",
                    computes="shares plus lr times the slopes' roots, divided by their sum",
                ),
            ),
            **_steps("share", "slopes"),
            refused={
                "slopes that are too large": {"slopes": 1e7},
            },
        ),
        Estimator(
            f=authors_step,
            brute_force=_authors,
            settings={
                "default": {},
                "probe": {"epsilon": 0.3, "lr": 0.2, "lr_rho": 2.0},
            },
            **_steps("share", "mu", "rho", "slopes", "loss", total=1.5),
        ),
        Estimator(
            f=dual_value,
            brute_force=_dual_value,
            settings={"default": {}, "probe": {"mu": 3.0, "epsilon": 0.2}},
            sizes=(4, 8, 32),
            **_problems("weights", "share", "target", "labelled"),
            refused={
                "an edge one way": {"weights": lambda weights: xp.triu(weights)},
                "a loop": {"weights": 1.0},
                "no label": {"labelled": 0},
                "points that nothing connects": {"weights": 0},
                "targets that are too large": {"target": 1e7},
                "a share of 0": {"share": 0},
            },
        ),
        Solver(
            f=globally_smooth,
            settings={
                "default": {},
                "projected": {"rule": "projected"},
                "probe": {
                    "epsilon": 0.05,
                    "rule": "projected",
                    "lr": 1.5,
                    "rtol": 0.1,
                    "max_iter": 300,
                },
                "hardly any loss": {"epsilon": 1e-3, "lr": 3.0},
            },
            sizes=(4, 8, 24),
            certificate=_certificate,
            tolerances=TOLERANCES,
            prescribed=False,
            failures={
                "two steps": lambda: (
                    {n: v for n, v in PROBLEMS["a path"]().items() if n != "share"},
                    {"max_iter": 2, "rtol": 1e-3},
                )
            },
            remains=_remains,
            **_problems("weights", "target", "labelled", more=CONSTANT),
            refused={
                "an edge one way": {"weights": lambda weights: xp.triu(weights)},
                "a loop": {"weights": 1.0},
                "no label": {"labelled": 0},
                "points that nothing connects": {"weights": 0},
                "targets that are too large": {"target": 1e7},
            },
        ),
    ),
)
