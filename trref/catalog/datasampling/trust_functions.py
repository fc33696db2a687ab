"""What is known of `trref.datasampling.trust_functions`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Method, Objective
from trref.catalog.record import Interface
from trref.datasampling.trust_functions import (
    Gradient,
    balanced_loss,
    calibration_error,
    calibration_shift,
    correctness,
    recovery,
    select,
    trust_logits,
    trust_objective,
)
from trref.nn.losses import binary_cross_entropy


def _network(rng, N, L, D, H, scale=1.0):
    draw = rng.standard_normal
    return {
        "hidden": scale * draw((N, D)),
        "targets": (rng.random(N) < 0.7).astype(float),
        "gains": 1 + 0.3 * draw((L, D)),
        "A": scale * draw((L, D, H)) / math.sqrt(D),
        "B": draw((L, D, H)) / math.sqrt(D),
        "C": draw((L, H, D)) / math.sqrt(H),
        "last_gain": 1 + 0.3 * draw(D),
        "w": draw(D),
        "c": xp.asarray(draw()),
    }


def _example(rng, size):
    L, D, H = (int(rng.integers(low, 4)) for low in (1, 2, 1))
    return _network(rng, size, L, D, H, rng.choice((0.3, 1.0, 2.0)))


def _edge(L, **changed):
    rng = xp.random.default_rng(L)
    return {**_network(rng, 3, L, 3, 2), **changed}


NETWORK = Interface(
    "swiglu",
    example=_example,
    edges={
        "blocks that do nothing": lambda: _edge(2, C=xp.zeros((2, 2, 3))),
        "all are right": lambda: _edge(1, targets=xp.ones(3)),
        "no hidden state": lambda: _edge(1, hidden=xp.zeros((3, 3))),
        "one label": lambda: _network(xp.random.default_rng(7), 1, 1, 2, 1),
    },
)


def _row_by_row(hidden, gains, A, B, C, last_gain, w, c, *, eps=1e-6):
    """The network with lists."""

    def rms(u, gain):
        r = math.sqrt(math.fsum(v * v for v in u) / len(u) + eps)
        return [g * v / r for g, v in zip(gain, u, strict=True)]

    times = lambda v, W: [  # noqa: E731
        math.fsum(a * b for a, b in zip(v, column, strict=True)) for column in W.T
    ]
    logits = []
    for u in hidden.tolist():
        for gain, Al, Bl, Cl in zip(gains, A, B, C, strict=True):
            n = rms(u, gain)
            gate = [
                a / (1 + math.exp(-a)) * b
                for a, b in zip(times(n, Al), times(n, Bl), strict=True)
            ]
            u = [a + b for a, b in zip(u, times(gate, Cl), strict=True)]
        logits.append(times(rms(u, last_gain), w[:, None])[0] + float(c))
    return xp.array(logits)


def _logits(rng, size):
    return {
        "logits": rng.choice((0.3, 1.0, 5.0)) * rng.standard_normal(size),
        "targets": (rng.random(size) < 0.8).astype(float),
    }


def _unweighted(logits, targets):
    return binary_cross_entropy(logits, targets)


def _unweighted_network(hidden, targets, gains, A, B, C, last_gain, w, c, *, eps=1e-6):
    """Right and wrong labels each for themselves, where weights are equal; then the plain mean of both."""
    parts = {
        "gains": gains,
        "A": A,
        "B": B,
        "C": C,
        "last_gain": last_gain,
        "w": w,
        "c": c,
    }
    total, value = None, 0.0
    for kind in (0.0, 1.0):
        rows = targets == kind
        if rows.any():
            share = rows.mean()
            part, gradient = trust_objective(
                hidden[rows], targets[rows], **parts, eps=eps
            )
            value = value + share * part
            scaled = [share * g for g in gradient]
            total = (
                scaled
                if total is None
                else [a + b for a, b in zip(total, scaled, strict=True)]
            )
    return value, Gradient(*total)


def _trusts(rng, size):
    return {
        "trust": rng.choice((0.5, 3.0)) * (rng.permutation(size) - size / 3),
        "group": rng.integers(0, 3, size),
    }


def _best_of_each(trust, group=None, *, share=0.5):
    """In order of trust, as long as the class has room."""
    classes = [0] * len(trust) if group is None else group.tolist()
    room = {c: max(round(share * classes.count(c)), 1) for c in classes}
    kept = [0.0] * len(trust)
    for i in sorted(range(len(trust)), key=lambda i: (-float(trust[i]), i)):
        if room[classes[i]]:
            room[classes[i]] -= 1
            kept[i] = 1.0
    return xp.array(kept)


def _probabilities(rng, size):
    trust = rng.random(size)
    return {
        "trust": trust,
        "targets": (rng.random(size) < trust**2).astype(float),
    }


def _bin_by_bin(trust, targets, *, bins=10):
    error = 0.0
    for b in range(bins):
        inside = [
            i
            for i, v in enumerate(trust.tolist())
            if b <= v * bins < b + 1 or (v == 1 and b == bins - 1)
        ]
        if inside:
            right = math.fsum(float(targets[i]) for i in inside) / len(inside)
            believed = math.fsum(float(trust[i]) for i in inside) / len(inside)
            error += len(inside) / len(trust) * abs(right - believed)
    pairs = zip(trust.tolist(), targets.tolist(), strict=True)
    return error, math.fsum((p - t) ** 2 for p, t in pairs) / len(trust)


def _students(rng, size):
    base = rng.uniform(0.1, 0.5, size)
    return {
        "accuracy": rng.random(size),
        "base": base,
        "ceiling": base + rng.uniform(0.1, 0.5, size),
    }


METHOD = Method(
    key="uzunoglu2026trust",
    provenance={
        "confirmed": ("target", "select", "recovery", "calibration"),
        "partly": ("loss", "block", "norm", "head"),
        "reconstructed": ("shift", "loss-gradient", "block-gradient"),
    },
    functions=(
        Estimator(
            f=correctness,
            example=lambda rng, size: {
                "answers": rng.integers(0, 3, size),
                "labels": rng.integers(0, 3, size),
            },
            edges={
                "one label": lambda: {
                    "answers": xp.array([2]),
                    "labels": xp.array([2]),
                }
            },
            settings={"default": {}, "probe": {"dtype": "float32"}},
            brute_force=lambda answers, labels, *, dtype="float64": xp.array(
                [float(a == b) for a, b in zip(answers, labels, strict=True)], dtype
            ),
        ),
        Estimator(
            f=trust_logits,
            interface=NETWORK,
            settings={"default": {}, "probe": {"eps": 0.2}},
            brute_force=_row_by_row,
        ),
        Objective(
            f=balanced_loss,
            wrt="logits",
            example=_logits,
            edges={
                "all are wrong": lambda: {
                    "logits": xp.array([0.5, -1.0]),
                    "targets": xp.zeros(2),
                },
                "one label": lambda: {
                    "logits": xp.array([0.2]),
                    "targets": xp.ones(1),
                },
                "far off": lambda: {
                    "logits": xp.array([60.0, -60.0, 1.0]),
                    "targets": xp.array([0.0, 1.0, 1.0]),
                },
            },
            deviations=(
                Deviation(
                    "no weights",
                    _unweighted,
                    seen_in="binary cross-entropy of common libraries, as it is by default",
                    computes="the plain mean, calibrated to the rate of the data",
                ),
            ),
        ),
        Objective(
            f=trust_objective,
            seeds=(0,),
            wrt=("gains", "A", "B", "C", "last_gain", "w", "c"),
            interface=NETWORK,
            settings={"default": {}, "probe": {"eps": 0.2}},
            deviations=(
                Deviation(
                    "no weights",
                    _unweighted_network,
                    seen_in="binary cross-entropy of common libraries, as it is by default",
                    computes="the plain mean, calibrated to the rate of the data",
                ),
            ),
        ),
        Estimator(
            f=calibration_shift,
            example=lambda rng, size: {"logits": rng.standard_normal(size)},
            edges={"one label": lambda: {"logits": xp.array([0.0])}},
            settings={"default": {"prior": 0.5}, "probe": {"prior": 0.8}},
            brute_force=lambda logits, *, prior: xp.array(
                [v + math.log(prior) - math.log1p(-prior) for v in logits.tolist()]
            ),
        ),
        Estimator(
            f=select,
            example=_trusts,
            edges={
                "equal trust": lambda: {
                    "trust": xp.zeros(5),
                    "group": xp.array([0, 0, 1, 1, 1]),
                },
                "no groups": lambda: {
                    "trust": xp.array([0.3, 0.1, 0.2]),
                    "group": None,
                },
                "one label": lambda: {
                    "trust": xp.array([0.0]),
                    "group": xp.array([9]),
                },
            },
            settings={
                "default": {},
                "hardly any": {"share": 0.0},
                "probe": {"share": 0.3},
            },
            brute_force=_best_of_each,
        ),
        Estimator(
            f=calibration_error,
            example=_probabilities,
            edges={
                "certain": lambda: {
                    "trust": xp.array([1.0, 0.0]),
                    "targets": xp.array([1.0, 1.0]),
                },
                "certain and nearly so": lambda: {
                    "trust": xp.array([1.0, 0.95]),
                    "targets": xp.array([0.0, 1.0]),
                },
                "one label": lambda: {
                    "trust": xp.array([0.45]),
                    "targets": xp.array([0.0]),
                },
            },
            settings={"default": {}, "one bin": {"bins": 1}, "probe": {"bins": 4}},
            brute_force=_bin_by_bin,
        ),
        Estimator(
            f=recovery,
            example=_students,
            edges={
                "at either end": lambda: {
                    "accuracy": xp.array([0.25, 0.75]),
                    "base": xp.array([0.25, 0.25]),
                    "ceiling": xp.array([0.75, 0.75]),
                },
                "one run, worse than the base": lambda: {
                    "accuracy": xp.array([0.25]),
                    "base": xp.array([0.5]),
                    "ceiling": xp.array([0.75]),
                },
            },
            refused={
                "no way to go": lambda: (
                    {
                        "accuracy": xp.array([0.5]),
                        "base": xp.array([0.5]),
                        "ceiling": xp.array([0.5]),
                    },
                    {},
                )
            },
            brute_force=lambda accuracy, base, ceiling: xp.array(
                [
                    100 * (a - b) / (c - b)
                    for a, b, c in zip(
                        accuracy.tolist(), base.tolist(), ceiling.tolist(), strict=True
                    )
                ]
            ),
        ),
    ),
)
