"""What is known of `trref.federated.diff2`."""

import math

from trref.backend import xp
from trref.catalog import Estimator, Limit, Method, Transform
from trref.federated.diff2 import (
    Multipliers,
    Path,
    clip,
    clip_vjp,
    code_multipliers,
    descent,
    epsilon_of,
    estimator_error,
    noise_multipliers,
    private_difference,
    private_mean,
    rho_of,
)
from trref.problems.samples import LinearSamples, LogisticSamples, QuadraticSamples


def _lengths(rng, size):
    """Short ones and long ones, none of a length near the bounds of the settings."""
    P = int(rng.integers(1, 6))
    rows = rng.standard_normal((size, P))
    lengths = rng.choice((0.1, 0.3, 2.0, 30.0), (size, 1))
    return {"v": lengths * rows / xp.linalg.norm(rows, axis=1, keepdims=True)}


def _rows(*rows):
    return lambda: {"v": xp.array(rows)}


def _clipped(v, *, bound):
    rows = []
    for x in v.tolist():
        length = math.hypot(*x)
        rows.append([bound * a / length if length > bound else a for a in x])
    return xp.array(rows)


def _messages(rng, size):
    v, P = _lengths(rng, size)["v"], 0
    P = v.shape[1]
    return {
        "gradients": v,
        "gradients_before": v - 0.5 * rng.standard_normal(v.shape),
        "move": rng.choice((0.05, 1.0)) * rng.standard_normal(P),
        "noise": rng.standard_normal(P),
    }


def _one(gradients, before, move):
    arrays = map(xp.array, (gradients, before, move, [1.0, -2.0]))
    names = ("gradients", "gradients_before", "move", "noise")
    return dict(zip(names, arrays, strict=True))


MESSAGES = {
    "one sample": lambda: _one([[3.0, 4.0]], [[3.0, 3.0]], [0.5, 0.0]),
    "no step": lambda: _one(
        [[1.0, 0.0], [0.0, 0.1]], [[1.0, 0.0], [0.0, 0.1]], [0.0] * 2
    ),
    "all are 0": lambda: _one([[0.0, 0.0]] * 2, [[0.0, 0.0]] * 2, [1.0, 1.0]),
}


def _some(names):
    def of(arguments):
        return {n: arguments[n] for n in names}

    return {
        "example": lambda rng, size: of(_messages(rng, size)),
        "edges": {k: lambda make=make: of(make()) for k, make in MESSAGES.items()},
    }


def _mean(gradients, noise, *, bound, multiplier):
    rows = _clipped(gradients, bound=bound)
    return sum(rows) / len(rows) + multiplier * 2 * bound / len(rows) * noise


def _change(gradients, gradients_before, move, noise, *, smoothness, multiplier):
    bound = smoothness * math.hypot(*move)
    rows = _clipped(gradients - gradients_before, bound=bound)
    return sum(rows) / len(rows) + multiplier * 2 * bound / len(rows) * noise


def _task(rng, size):
    N, P, T = size, int(rng.integers(1, 4)), int(rng.integers(1, 8))
    X = rng.standard_normal((N, P))
    samples = (
        LogisticSamples(X, rng.choice([-1.0, 1.0], N)),
        LinearSamples(X, rng.standard_normal(N), 0.1),
        QuadraticSamples(1 + X**2, X),
    )[int(rng.integers(0, 3))]
    return {
        "samples": samples,
        "theta": rng.standard_normal(P),
        "noise": rng.standard_normal((T, P)),
    }


def _small(T):
    a, b = xp.array([[1.0, 2.0], [3.0, 0.5]]), xp.array([[0.0, 1.0], [1.0, -2.0]])
    noise = xp.sin(xp.arange(2.0 * T)).reshape(T, 2)
    return {
        "samples": QuadraticSamples(a, b),
        "theta": xp.array([1.0, -1.0]),
        "noise": noise,
    }


def _by_rounds(
    samples,
    theta,
    noise,
    *,
    lr,
    restart,
    bound,
    smoothness,
    multiplier,
    difference_multiplier,
):
    points, estimates = [theta], []
    for r in range(len(noise)):
        now = [samples.on(slice(i, i + 1))(points[r])[1] for i in range(len(samples))]
        if r % restart:
            old = [
                samples.on(slice(i, i + 1))(points[r - 1])[1]
                for i in range(len(samples))
            ]
            v = estimates[r - 1] + _change(
                xp.stack(now),
                xp.stack(old),
                points[r] - points[r - 1],
                noise[r],
                smoothness=smoothness,
                multiplier=difference_multiplier,
            )
        else:
            v = _mean(xp.stack(now), noise[r], bound=bound, multiplier=multiplier)
        estimates.append(v)
        points.append(points[r] - lr * v)
    return Path(xp.stack(points), xp.stack(estimates))


def _errors(
    moves,
    *,
    dims,
    count,
    restart,
    bound,
    smoothness,
    multiplier,
    difference_multiplier,
):
    result = []
    for r in range(len(moves)):
        variance = (2 * bound * multiplier / count) ** 2
        for j in range(r - r % restart + 1, r + 1):
            variance += (2 * smoothness * moves[j] * difference_multiplier / count) ** 2
        result.append(dims * variance)
    return xp.array(result)


def _best_order(rho, *, delta):
    """The minimum over orders, on nested grids about the last best one."""
    result, log = [], math.log(1 / delta)
    for r in rho.tolist():
        low, high = -12.0, 30.0
        for _ in range(60):
            grid = [low + (high - low) * k / 8 for k in range(9)]
            cost = [r * (1 + math.exp(t)) + log * math.exp(-t) for t in grid]
            k = cost.index(min(cost))
            low, high = grid[max(k - 1, 0)], grid[min(k + 1, 8)]
        result.append(min(cost))
    return xp.array(result)


def _by_bisection(epsilon, *, delta):
    result, log = [], math.log(1 / delta)
    for e in epsilon.tolist():
        low, high = 0.0, e
        for _ in range(200):
            middle = (low + high) / 2
            inside = middle + 2 * math.sqrt(middle * log) < e
            low, high = (middle, high) if inside else (low, middle)
        result.append(low)
    return xp.array(result)


def _split(rho, *, restarts, differences, share=0.5):
    pairs = [
        [(k / (2 * r * f)) ** 0.5 for r in rho.tolist()]
        for k, f in ((restarts, share), (differences, 1 - share))
    ]
    return Multipliers(*map(xp.array, pairs))


def _spent(epsilon, *, delta, restarts, rounds, u=1.25):
    """From the standard deviations of the code, over what one of n samples can change."""
    N, C, pairs = 7.0, 3.0, []
    for scale, k in ((4 * u, restarts), (4 * u / (u - 1), rounds)):
        row = []
        for e in epsilon.tolist():
            alpha = 1 + math.ceil(2 * math.log(1 / delta) / e)
            std = C * math.sqrt(scale * alpha * k / (N * N * e))
            row.append(std / (2 * C / N))
        pairs.append(row)
    return Multipliers(*map(xp.array, pairs))


def _numbers(name):
    return {
        "example": lambda rng, size: {name: xp.exp(rng.uniform(-5, 2, size))},
        "edges": {"one": lambda: {name: xp.array([0.3])}},
    }


def _none_clipped(inputs):
    """nothing is clipped, and clients with equal counts"""
    rows = inputs["gradients"]
    return inputs, {"thetas": rows, "counts": xp.ones_like(rows[:, 0])}


RUN = {"lr": 0.2, "restart": 3, "bound": 0.7, "smoothness": 0.8}
NOISE = {"multiplier": 0.6, "difference_multiplier": 0.3}
PATH = {"dims": 5, "count": 40, "restart": 3, "bound": 0.7, "smoothness": 0.8}

METHOD = Method(
    key="murata2023diff2",
    provenance={
        "confirmed": ("clip", "mean", "difference", "estimate", "code"),
        "partly": ("budget", "epsilon", "rho"),
        "reconstructed": ("error",),
    },
    functions=(
        Transform(
            f=clip,
            example=_lengths,
            edges={
                "one": _rows([3.0, 4.0]),
                "all are short": _rows([0.1, 0.0], [0.0, 0.0]),
                "tiny and long": _rows([1e-30, 0.0], [1e9, 1e9]),
            },
            settings={"default": {"bound": 1.0}, "probe": {"bound": 0.2}},
            wrt="v",
            vjp=clip_vjp,
            idempotent=True,
        ),
        Estimator(
            f=private_mean,
            **_some(("gradients", "noise")),
            settings={
                "default": {"bound": 1.0, "multiplier": 0.5},
                "without noise": {"bound": 1.0, "multiplier": 0.0},
                "probe": {"bound": 0.2, "multiplier": 3.0},
            },
            brute_force=_mean,
            limits=(
                Limit(
                    to="fedavg.average",
                    hyper={"bound": 1e6, "multiplier": 0.0},
                    where=_none_clipped,
                ),
            ),
        ),
        Estimator(
            f=private_difference,
            **_some(("gradients", "gradients_before", "move", "noise")),
            settings={
                "default": {"smoothness": 1.0, "multiplier": 0.5},
                "nothing is clipped": {"smoothness": 1e5, "multiplier": 0.0},
                "probe": {"smoothness": 0.3, "multiplier": 3.0},
            },
            brute_force=_change,
        ),
        Estimator(
            f=descent,
            example=_task,
            edges={
                "one round": lambda: _small(1),
                "seven rounds": lambda: _small(7),
            },
            settings={
                "default": {**RUN, **NOISE},
                "a mean in each round": {**RUN, **NOISE, "restart": 1},
                "no noise": {**RUN, "multiplier": 0.0, "difference_multiplier": 0.0},
                "probe": {
                    "lr": 0.3,
                    "restart": 2,
                    "bound": 2.5,
                    "smoothness": 0.4,
                    "multiplier": 0.2,
                    "difference_multiplier": 1.5,
                },
            },
            brute_force=_by_rounds,
        ),
        Estimator(
            f=estimator_error,
            example=lambda rng, size: {"moves": rng.exponential(1.0, size)},
            edges={"one round": lambda: {"moves": xp.array([2.0])}},
            settings={
                "default": {**PATH, **NOISE},
                "a mean in each round": {**PATH, **NOISE, "restart": 1},
                "probe": {
                    "dims": 3,
                    "count": 20,
                    "restart": 2,
                    "bound": 2.5,
                    "smoothness": 0.4,
                    "multiplier": 0.2,
                    "difference_multiplier": 1.5,
                },
            },
            brute_force=_errors,
        ),
        Estimator(
            f=epsilon_of,
            **_numbers("rho"),
            settings={"default": {"delta": 1e-5}, "probe": {"delta": 0.01}},
            brute_force=_best_order,
        ),
        Estimator(
            f=rho_of,
            **_numbers("epsilon"),
            settings={"default": {"delta": 1e-5}, "probe": {"delta": 0.01}},
            brute_force=_by_bisection,
        ),
        Estimator(
            f=noise_multipliers,
            **_numbers("rho"),
            settings={
                "default": {"restarts": 4, "differences": 96},
                "probe": {"restarts": 3, "differences": 20, "share": 0.8},
            },
            brute_force=_split,
        ),
        Estimator(
            f=code_multipliers,
            **_numbers("epsilon"),
            settings={
                "default": {"delta": 1e-5, "restarts": 4, "rounds": 100},
                "probe": {"delta": 0.01, "restarts": 3, "rounds": 20, "u": 2.5},
            },
            brute_force=_spent,
        ),
    ),
)
