"""What is known of `trref.optimization.target_surrogates`."""

import itertools
import math

import numpy as np

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Method, Objective
from trref.nn import mlp
from trref.optimization.target_surrogates import (
    adagrad_eta,
    armijo_eta,
    decaying_eta,
    inner_minimize,
    linear_minimiser,
    mirror_surrogate,
    sso,
    surrogate,
)
from trref.problems.networks import ClassifierLoss
from trref.problems.target_losses import BinaryTargets, SoftmaxTargets, SquaredTargets


def _task(X, K, loss, theta, sizes, gradient, targets):
    T = 3
    network = ClassifierLoss(X, xp.zeros(len(X), int), sizes)
    B = min(len(X), 3)
    return {
        "network": network,
        "target_loss": loss,
        "theta": theta,
        "targets": targets,
        "old_logits": targets,
        "gradient": gradient,
        "etas": xp.array([0.5, 0.8, 0.3])[:T] * len(X),
        "batches": xp.stack([(xp.arange(B) * (t + 2) + t) % len(X) for t in range(T)]),
    }


def _example(rng, size):
    """A small network or a linear model, with outputs that are a step away from the targets."""
    D, K = int(rng.integers(2, 4)), int(rng.integers(2, 4))
    sizes = ((D, K), (D, 3, K))[int(rng.integers(0, 2))]
    X = rng.standard_normal((size, D))
    theta = 0.7 * rng.standard_normal(
        sum((a + 1) * b for a, b in itertools.pairwise(sizes))
    )
    loss = (
        SquaredTargets(rng.standard_normal((size, K))),
        SoftmaxTargets(rng.integers(0, K, size)),
        BinaryTargets(rng.integers(0, 2, (size, K)) * 1.0),
    )[int(rng.integers(0, 3))]
    scale = rng.choice((0.3, 2.0))
    targets = rng.standard_normal((size, K))
    task = _task(
        X, K, loss, theta, sizes, scale * rng.standard_normal((size, K)), targets
    )
    T, B = int(rng.integers(2, 5)), int(rng.integers(2, 4))
    etas = size * rng.choice((0.3, 0.6), T)
    batches = rng.integers(0, size, (T, B))
    return {**task, "etas": etas, "batches": batches if rng.random() < 0.6 else None}


def _edge(X, y, theta, gradient=None, targets=None):
    X, y = xp.array(X), xp.array(y)
    K = y.shape[1]
    zeros = xp.zeros((len(X), K))
    return _task(
        X,
        K,
        SquaredTargets(y),
        xp.array(theta),
        (X.shape[1], K),
        zeros if gradient is None else xp.array(gradient),
        zeros if targets is None else xp.array(targets),
    )


ROUNDS = Interface(
    "rounds",
    example=_example,
    edges={
        "one row, one output": lambda: _edge(
            [[2.0]], [[1.0]], [0.5, -1.0], [[0.3]], [[0.2]]
        ),
        "no gradient, at the targets": lambda: _edge(
            [[1.0, 0.0], [0.0, 1.0]], [[0.0], [0.0]], [0.0, 0.0, 0.0]
        ),
        "more parameters than rows": lambda: _edge(
            [[1.0, 2.0, 0.5]], [[1.0, -1.0]], [0.1] * 8, [[1.0, 0.0]], [[0.5, 0.5]]
        ),
        "a full step that falls too little": lambda: _edge(
            [[0.99995]], [[-1.0]], [0.0, 0.0], [[1.0]], [[0.0]]
        ),
        "equal rows": lambda: _edge(
            [[1.0, -1.0]] * 4,
            [[1.0], [0.0], [2.0], [3.0]],
            [0.3, 0.2, 0.0],
            [[0.5], [-0.5], [0.25], [1.0]],
            [[0.0], [0.5], [0.25], [-0.5]],
        ),
    },
)


def _their_eta(network, theta, targets, gradient, *, eta=1.0):
    change = network.logits(theta) - targets
    value = (gradient * change / eta + change * change).sum() / change.size
    slope = (gradient / eta + 2 * change) / change.size
    return value, network.logits_vjp(theta, slope)


THEIR_ETA = Deviation(
    "eta as the weight of the square, and the mean over all entries",
    _their_eta,
    seen_in="WilderLavington/Target-Based-Surrogates-For-Stochastic-Optimization optimizers/sgd_fmdopt.py, surrogate",
    computes="2 / (N K) times the surrogate with 1 / 2η in the place of η, over 2 η",
)


def _steps_of(network, theta, targets, gradient, eta, steps, lr, method, memory):
    """Steps with a dense inverse Hessian, and values and slopes written out."""

    def value(theta):
        change = network.logits(theta) - targets
        return float((gradient * change + change**2 / (2 * eta)).sum())

    def slope(theta):
        z, cache = mlp.forward(theta, network.X, network.sizes, network.activation)
        return mlp.gradient(cache, gradient + (z - targets) / eta)

    past = []
    for _ in range(steps):
        g = slope(theta)
        if math.sqrt(sum(float(x) ** 2 for x in g)) <= 1e-6:
            break
        H, a = np.eye(len(g)), lr
        if method == "lbfgs":
            H, a = _inverse(past[-memory:], len(g)), 1.0
        move = -H @ g
        if method != "gradient":
            halvings = 0
            while halvings < 49 and value(theta + a * move) > value(
                theta
            ) + 1e-4 * a * float(g @ move):
                a, halvings = a / 2, halvings + 1
            if value(theta + a * move) > value(theta) + 1e-4 * a * float(g @ move):
                a = a / 2
        if method == "armijo":
            lr = 2 * a
        past.append((a * move, slope(theta + a * move) - g))
        theta = theta + a * move
    return theta


def _inverse(pairs, P):
    """The update of Broyden, Fletcher, Goldfarb and Shanno of a multiple of the identity, in matrices."""
    pairs = [(s, y) for s, y in pairs if float(s @ y) > 0]
    H = np.eye(P)
    if pairs:
        s, y = pairs[-1]
        H = H * float(s @ y) / float(y @ y)
    for s, y in pairs:
        V = np.eye(P) - np.outer(s, y) / float(s @ y)
        H = V @ H @ V.T + np.outer(s, s) / float(s @ y)
    return H


def _inner(
    network,
    theta,
    targets,
    gradient,
    *,
    eta=1.0,
    steps=10,
    lr=1.0,
    method="armijo",
    memory=10,
):
    return _steps_of(network, theta, targets, gradient, eta, steps, lr, method, memory)


def _rounds(
    network,
    target_loss,
    theta,
    etas,
    batches=None,
    *,
    steps=10,
    lr=1.0,
    method="armijo",
    memory=10,
):
    points = [theta]
    for t in range(len(etas)):
        rows = np.arange(len(network)) if batches is None else batches[t]
        model, loss = network.on(rows), target_loss.on(rows)
        z = model.logits(points[-1])
        points.append(
            _steps_of(
                model,
                points[-1],
                z,
                loss(z)[1],
                float(etas[t]),
                steps,
                lr,
                method,
                memory,
            )
        )
    return np.stack(points)


# ---- linear outputs, and step lengths


def _linear_example(rng, size):
    D, K = int(rng.integers(2, 5)), int(rng.integers(1, 4))
    return {
        "X": rng.standard_normal((size, D)),
        "theta": rng.standard_normal((D, K)),
        "gradient": rng.choice((0.1, 3.0)) * rng.standard_normal((size, K)),
    }


def _linear(X, theta, gradient):
    return lambda: {
        "X": xp.array(X),
        "theta": xp.array(theta),
        "gradient": xp.array(gradient),
    }


LINEAR_EDGES = {
    "one number": _linear([[2.0]], [[1.0]], [[3.0]]),
    "more columns than rows": _linear([[1.0, 2.0, 0.0]], [[1.0]] * 3, [[5.0]]),
    "a column of zeros": _linear(
        [[1.0, 0.0], [2.0, 0.0]], [[1.0], [7.0]], [[1.0], [1.0]]
    ),
    "no gradient": _linear([[1.0], [2.0]], [[0.5]], [[0.0], [0.0]]),
}


def _by_lstsq(X, theta, gradient, *, eta=1.0):
    return theta - eta * np.linalg.lstsq(X, gradient, rcond=1e-12)[0]


def _falling(rounds, *, eta=1.0, horizon=100, kind="root"):
    if kind == "root":
        return xp.array([eta / math.sqrt(t) for t in rounds.tolist()])
    return xp.array(
        [eta * math.exp(-t / horizon * math.log(horizon)) for t in rounds.tolist()]
    )


def _by_sums(squares, *, eta=1.0):
    result, total = [], 0.0
    for square in squares.tolist():
        total += square
        result.append(eta / math.sqrt(total) if total else 0.0)
    return xp.array(result)


def _searched(
    target_loss, targets, *, eta=1.0, expand=1.8, shrink=0.9, share=0.5, max_iter=100
):
    """The first of the lengths that are looked at which passes, or the one after the last."""
    value, g = target_loss(targets)
    lengths = [eta * expand * shrink**k for k in range(max_iter + 1)]
    for length in lengths[:-1]:
        promised = share * length * float((g * g).sum())
        if float(target_loss(targets - length * g)[0]) <= float(value) - promised:
            return length
    return lengths[-1]


def _twice_as_far(
    target_loss, targets, *, eta=1.0, expand=1.8, shrink=0.9, share=0.5, max_iter=100
):
    how = {"expand": expand, "shrink": shrink, "share": share, "max_iter": max_iter}
    return armijo_eta(target_loss, targets, eta=2 * eta, **how) / 2


TWICE_AS_FAR = Deviation(
    "the search looks twice as far as the surrogate goes",
    _twice_as_far,
    seen_in="WilderLavington/Target-Based-Surrogates-For-Stochastic-Optimization optimizers/sls_fmdopt.py, "
    "compute_functional_stepsize",
    computes="half of the length that passes: the test is made at z - g/η_c, and the surrogate's η is 1 / 2η_c",
)

INNER = {
    "default": {},
    "one step": {"steps": 1, "lr": 0.05, "method": "gradient"},
    "steps of one length": {"lr": 0.01, "steps": 4, "method": "gradient"},
    "lbfgs": {"method": "lbfgs", "steps": 6},
    "lbfgs, one step": {"method": "lbfgs", "steps": 1},
    "lbfgs, short memory": {"method": "lbfgs", "steps": 5, "memory": 2},
}
PROBE = {"steps": 5, "lr": 0.3, "method": "lbfgs", "memory": 3}

METHOD = Method(
    key="lavington2023target",
    provenance={
        "confirmed": (
            "surrogate",
            "gradient",
            "linear",
            "rounds",
            "mirror",
            "decay",
            "adagrad",
            "armijo",
        ),
        "reconstructed": ("inner",),
    },
    functions=(
        Objective(
            f=surrogate,
            interface=ROUNDS,
            wrt="theta",
            sizes=(4, 8, 32),
            settings={"default": {}, "short": {"eta": 0.05}, "probe": {"eta": 2.5}},
            deviations=(THEIR_ETA,),
        ),
        Objective(
            f=mirror_surrogate,
            interface=ROUNDS,
            wrt="theta",
            sizes=(4, 8, 32),
            settings={"default": {}, "short": {"eta": 0.05}, "probe": {"eta": 2.5}},
        ),
        Estimator(
            f=linear_minimiser,
            example=_linear_example,
            edges=LINEAR_EDGES,
            settings={"default": {}, "probe": {"eta": 0.4}},
            brute_force=_by_lstsq,
        ),
        Estimator(
            f=inner_minimize,
            interface=ROUNDS,
            settings={**INNER, "probe": {"eta": 1.5, **PROBE}},
            brute_force=_inner,
        ),
        Estimator(
            f=sso,
            interface=ROUNDS,
            settings={**INNER, "probe": PROBE},
            brute_force=_rounds,
            refused={
                "rows that there are not": {"batches": 99},
            },
        ),
        Estimator(
            f=decaying_eta,
            example=lambda rng, size: {"rounds": xp.arange(size) + 1.0},
            edges={"one": lambda: {"rounds": xp.array([1.0])}},
            settings={
                "default": {},
                "exponential": {"kind": "exponential"},
                "probe": {"eta": 0.3, "horizon": 40, "kind": "exponential"},
            },
            brute_force=_falling,
        ),
        Estimator(
            f=adagrad_eta,
            example=lambda rng, size: {"squares": rng.exponential(3.0, size)},
            edges={
                "no gradient at first": lambda: {"squares": xp.array([0.0, 0.0, 4.0])},
                "none at all": lambda: {"squares": xp.zeros(2)},
                "one": lambda: {"squares": xp.array([0.25])},
            },
            settings={"default": {}, "probe": {"eta": 0.3}},
            brute_force=_by_sums,
        ),
        Estimator(
            f=armijo_eta,
            interface=ROUNDS,
            settings={
                "default": {},
                "from far": {"eta": 3e3},
                "few looks": {"eta": 3e3, "max_iter": 3},
                "probe": {
                    "eta": 70.0,
                    "expand": 1.3,
                    "shrink": 0.7,
                    "share": 0.3,
                    "max_iter": 30,
                },
            },
            deviations=(TWICE_AS_FAR,),
            brute_force=_searched,
        ),
    ),
)
