"""What is known of `trref.optimization.optimistic_omd`."""

import itertools
import math

import numpy as np

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Method
from trref.optimization.optimistic_omd import (
    Play,
    Spread,
    exp_concave_descent,
    leader_descent,
    linear_regret,
    mirror_descent,
    multiplicative_descent,
    regret_bound,
    sea_quantities,
)
from trref.problems.online import LinearLosses, QuadraticLosses


def _example(rng, size):
    """Losses of as many rounds, slow or fast, and a start within the ball."""
    n, T = int(rng.integers(2, 5)), size
    noise, drift = rng.choice((0.1, 1.0)), rng.choice((0.0, 0.5))
    C = rng.standard_normal(n) + drift * rng.standard_normal((T, n)).cumsum(0)
    C = C + noise * rng.standard_normal((T, n))
    losses = (LinearLosses(C), QuadraticLosses(C, 0.7))[int(rng.integers(0, 2))]
    x0 = rng.standard_normal(n)
    points, kept, gradients, guesses = rng.standard_normal((4, T, n))
    return {
        "gradient": losses,
        "x0": 0.5 * rng.random() * x0 / np.linalg.norm(x0),
        "rounds": rng.integers(0, T, T),
        "gradients": gradients,
        "guesses": guesses,
        "points": points,
        "kept": kept,
        "comparators": guesses if rng.random() < 0.5 else None,
        "lengths": xp.sort(rng.random(T) + 0.1)[::-1].copy(),
    }


def _edge(C, x0, losses=LinearLosses):
    C, x0 = xp.array(C), xp.array(x0)
    T = len(C)
    return {
        "gradient": losses(C),
        "x0": x0,
        "rounds": xp.arange(T),
        "gradients": C,
        "guesses": 0 * C,
        "points": 0 * C + x0,
        "kept": 0 * C,
        "comparators": None,
        "lengths": 1 / (1.0 + xp.arange(T)),
    }


ROUNDS = Interface(
    "online",
    example=_example,
    edges={
        "one round": lambda: _edge([[1.0, -2.0]], [0.0, 0.0]),
        "one number": lambda: _edge([[0.5], [-1.0], [2.0]], [0.2]),
        "no gradients": lambda: _edge([[0.0, 0.0]] * 3, [0.1, 0.0]),
        "the same loss": lambda: _edge([[0.6, 0.8]] * 4, [0.0, 0.0]),
        "goals outside": lambda: _edge(
            [[3.0, 0.0], [0.0, 3.0], [3.0, 0.0]], [0.3, -0.3], QuadraticLosses
        ),
    },
)


def _project(y, diameter):
    length = math.sqrt(sum(float(v) ** 2 for v in y))
    return y if length <= diameter / 2 else y * (diameter / 2 / length)


def _played(rows):
    return Play(
        *(np.stack([np.asarray(v) for v in part]) for part in zip(*rows, strict=True))
    )


def _by_rounds(
    gradient,
    x0,
    rounds,
    *,
    diameter=2.0,
    bound=1.0,
    rule="convex",
    guess="last",
    convexity=1.0,
    delta=1.0,
):
    seen, kept, rows = [], x0, []
    for k, t in enumerate(rounds.tolist()):
        if rule == "convex":
            past = [0 * x0, *seen]
            total = sum(((b - a) ** 2).sum() for a, b in itertools.pairwise(past))
            eta = diameter / math.sqrt(delta + 4 * bound**2 + total)
        else:
            eta = {
                "strong": 2 / (convexity * (k + 1)),
                "root": diameter / (bound * math.sqrt(k + 1)),
                "horizon": diameter / (bound * math.sqrt(len(rounds))),
            }[rule]
        hint = {
            "last": seen[-1] if seen else 0 * x0,
            "none": 0 * x0,
            "true": gradient(kept, t),
        }[guess]
        x = _project(kept - eta * hint, diameter)
        seen.append(gradient(x, t))
        rows.append((x, kept, seen[-1], eta))
        kept = _project(kept - eta * seen[-1], diameter)
    return _played(rows)


def _by_leader(
    gradient, x0, rounds, *, diameter=2.0, first=4.0, convexity=0.0, restated=False
):
    seen, points, lengths, rows = [], [], [], []
    for k, t in enumerate(rounds.tolist()):
        last = seen[-1] if seen else 0 * x0
        if convexity:
            eta = 1 / (convexity * max(k, 1))
            goals = [x - g / convexity for x, g in zip(points, seen, strict=True)]
            kept = sum(goals) / k if k else x0
            x = kept - last / (convexity * k) if k else x0
        else:
            wrong = [
                ((g - h) ** 2).sum()
                for g, h in zip(seen, [0 * x0, *seen][: len(seen)], strict=True)
            ]
            terms = [e * w for e, w in zip(lengths, wrong, strict=True)]
            if restated:
                terms = [
                    min(term / 2, diameter * math.sqrt(w))
                    for term, w in zip(terms, wrong, strict=True)
                ]
            eta = diameter**2 / (first + sum(terms))
            kept = -eta / 2 * sum(seen, 0 * x0)
            x = kept - eta / 2 * last
        x, kept = _project(x, diameter), _project(kept, diameter)
        seen.append(gradient(x, t))
        points.append(x)
        lengths.append(eta)
        rows.append((x, kept, seen[-1], eta))
    return _played(rows)


def _restated(gradient, x0, rounds, *, diameter=2.0, first=4.0, convexity=0.0):
    how = {"diameter": diameter, "first": first, "convexity": convexity}
    return _by_leader(gradient, x0, rounds, restated=True, **how)


RESTATED = Deviation(
    "the step length as a later paper restates it",
    _restated,
    seen_in="Wang, Barik, Zhao and Tan, Parameter-free Algorithms for the Stochastically Extended Adversarial Model, "
    "2025, where the model's paper is restated",
    computes="a sum of min(η/2 ‖g - M‖², D ‖g - M‖) in the place of that of η ‖g - M‖²: longer steps",
)


def _in_norm(gradient, x0, rounds, *, diameter=2.0, bound=1.0, concavity=1.0):
    beta, n = 0.5 * min(1 / (4 * bound * diameter), concavity), len(x0)

    def nearest(H, y):
        """By bisection of the multiplier of the ball."""
        at = lambda m: np.linalg.solve(H + m * np.eye(n), H @ y)  # noqa: E731
        if np.linalg.norm(y) <= diameter / 2:
            return y
        low, high = 0.0, 2 * np.linalg.norm(H @ y) / diameter
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (
                (middle, high)
                if np.linalg.norm(at(middle)) > diameter / 2
                else (low, middle)
            )
        return at(high)

    seen, kept, rows = [], x0, []
    for t in rounds.tolist():
        H = (1 + beta / 2 * bound**2) * np.eye(n) + beta / 2 * sum(
            (np.outer(g, g) for g in seen), np.zeros((n, n))
        )
        x = nearest(H, kept - np.linalg.solve(H, seen[-1] if seen else 0 * x0))
        seen.append(gradient(x, t))
        rows.append((x, kept, seen[-1], 1.0))
        kept = nearest(H, kept - np.linalg.solve(H, seen[-1]))
    return _played(rows)


def _products(losses, weights, *, lr=0.1):
    """With weights multiplied and normalised in each round."""
    rows, kept, last = [], weights, 0 * weights
    for loss in losses:
        p = kept * np.exp(-lr * (last - last.min()))
        rows.append(p / p.sum())
        kept = kept * np.exp(-lr * (loss - loss.min()))
        kept, last = kept / kept.sum(), loss
    return np.stack(rows)


def _choices(rng, size):
    K = int(rng.integers(2, 5))
    return {
        "losses": rng.choice((0.3, 2.0)) * rng.standard_normal((size, K)),
        "weights": rng.dirichlet(2 * np.ones(K)),
    }


def _compared(gradients, points, comparators=None, *, diameter=2.0):
    total = gradients.sum(0)
    norm = math.sqrt(float(total @ total))
    best = -diameter / 2 * total / norm if norm else total
    others = (
        np.broadcast_to(best, gradients.shape) if comparators is None else comparators
    )
    return sum(
        float(g @ (x - u)) for g, x, u in zip(gradients, points, others, strict=True)
    )


def _bounded(gradients, guesses, points, kept, lengths, *, diameter=2.0):
    value = diameter**2 / (2 * float(lengths[-1]))
    for t in range(len(gradients)):
        wrong, moved = gradients[t] - guesses[t], points[t] - kept[t]
        value += float(lengths[t]) * float(wrong @ wrong) / 2
        value -= float(moved @ moved) / (2 * float(lengths[t]))
    return value


def _spread_example(rng, size):
    T, K, M, n = (
        size,
        int(rng.integers(1, 4)),
        int(rng.integers(1, 4)),
        int(rng.integers(1, 4)),
    )
    return {"gradients": rng.standard_normal((T, K, M, n))}


def _spread(gradients):
    T, K, M, _ = gradients.shape
    noise, drift = [], [0.0]
    means = [
        [sum(gradients[t, k, m] for k in range(K)) / K for m in range(M)]
        for t in range(T)
    ]
    for t in range(T):
        noise.append(
            max(
                sum(((gradients[t, k, m] - means[t][m]) ** 2).sum() for k in range(K))
                / K
                for m in range(M)
            )
        )
        if t:
            drift.append(
                max(((means[t][m] - means[t - 1][m]) ** 2).sum() for m in range(M))
            )
    return Spread(sum(noise), sum(drift), max(noise), max(drift))


BALL = {"diameter": 1.6, "bound": 2.5}

START_OUTSIDE_BALL = {
    "a start outside the ball": {"x0": 10.0},
}


METHOD = Method(
    key="chen2023optimistic",
    provenance={
        "confirmed": (
            "quantities",
            "steps",
            "convex",
            "leader",
            "strong-leader",
            "regret",
        ),
        "partly": ("bound", "entropy", "exponential"),
        "reconstructed": ("strong",),
    },
    functions=(
        Estimator(
            f=mirror_descent,
            interface=ROUNDS,
            settings={
                "default": {},
                "no guess": {"guess": "none"},
                "the next gradient": {"guess": "true"},
                "strongly convex": {"rule": "strong", "convexity": 0.7},
                "falling with the root": {
                    "rule": "root",
                    "guess": "none",
                    "bound": 3.0,
                },
                "horizon": {"rule": "horizon", "guess": "none", "bound": 3.0},
                "probe": {
                    "rule": "strong",
                    "guess": "none",
                    "convexity": 0.4,
                    "delta": 0.3,
                    **BALL,
                },
                "probe of the convex step": {"delta": 0.3, **BALL},
            },
            brute_force=_by_rounds,
            refused=START_OUTSIDE_BALL,
        ),
        Estimator(
            f=leader_descent,
            interface=ROUNDS,
            settings={
                "default": {},
                "strongly convex": {"convexity": 0.7},
                "probe": {"diameter": 1.6, "first": 2.3, "convexity": 0.4},
                "probe of the convex rule": {"diameter": 1.6, "first": 2.3},
            },
            deviations=(RESTATED,),
            brute_force=_by_leader,
        ),
        Estimator(
            f=exp_concave_descent,
            interface=ROUNDS,
            sizes=(4, 8, 32),
            settings={
                "default": {},
                "not very concave": {"concavity": 0.01},
                "large gradients": {"bound": 3.0},
                "probe": {"concavity": 0.03, **BALL},
            },
            brute_force=_in_norm,
            refused=START_OUTSIDE_BALL,
        ),
        Estimator(
            f=multiplicative_descent,
            example=_choices,
            edges={
                "one choice": lambda: {
                    "losses": xp.array([[3.0], [-1.0]]),
                    "weights": xp.array([1.0]),
                },
                "equal losses": lambda: {
                    "losses": xp.ones((3, 2)),
                    "weights": xp.array([0.25, 0.75]),
                },
                "large losses": lambda: {
                    "losses": xp.array([[300.0, 0.0], [0.0, 300.0], [0.0, 1.0]]),
                    "weights": xp.array([0.5, 0.5]),
                },
            },
            settings={"default": {}, "probe": {"lr": 0.7}},
            refused={
                "a choice without weight": lambda: (
                    {"losses": xp.ones((1, 2)), "weights": xp.array([0.0, 1.0])},
                    {},
                )
            },
            brute_force=_products,
        ),
        Estimator(
            f=linear_regret,
            interface=ROUNDS,
            settings={"default": {}, "probe": {"diameter": 1.6}},
            brute_force=_compared,
        ),
        Estimator(
            f=regret_bound,
            interface=ROUNDS,
            settings={"default": {}, "probe": {"diameter": 1.6}},
            brute_force=_bounded,
        ),
        Estimator(
            f=sea_quantities,
            example=_spread_example,
            edges={
                "one of each": lambda: {"gradients": xp.array([[[[2.0]]]])},
                "noise alone": lambda: {
                    "gradients": xp.array([[[[1.0, 0.0]], [[-1.0, 0.0]]]] * 3)
                },
                "drift alone": lambda: {"gradients": xp.array([[[[1.0]]], [[[3.0]]]])},
            },
            brute_force=_spread,
        ),
    ),
)
