"""What is known of `trref.adversarial.level_set_traversal`."""

import math

from trref.adversarial.level_set_traversal import (
    Spread,
    Walk,
    Width,
    distances,
    orthogonal_component,
    path_width,
    segment_confidence,
    traverse,
    triangle_confidence,
)
from trref.backend import xp
from trref.catalog import Deviation, Estimator, Method, Transform
from trref.catalog.record import Interface
from trref.nn import mlp
from trref.problems.rows import LinearScore, QuadraticScore, RowLoss


def _example(rng, size):
    """A network, sources and targets in the box."""
    N, D, R = size, int(rng.integers(2, 5)), int(rng.integers(1, 6))
    sizes = (D, 4, 3)
    theta = rng.choice((0.5, 1.5)) * mlp.init(rng, sizes)
    x, target, end = rng.random((3, N, D))
    return {
        "score_and_grad": RowLoss(theta, rng.integers(0, 3, N), sizes),
        "x": x,
        "target": target,
        "end": target,
        "other_end": end,
        "travel": target - x,
        "noise": rng.standard_normal((R, N, D)),
    }


def _given(score, x, target, other=None):
    x, target = xp.array(x), xp.array(target)
    shape = (2, *x.shape)
    return {
        "score_and_grad": score,
        "x": x,
        "target": target,
        "end": target,
        "other_end": x[::-1].copy() if other is None else xp.array(other),
        "travel": target - x,
        "noise": xp.cos(1 + 3 * xp.arange(float(math.prod(shape)))).reshape(shape),
    }


def _bent():
    sizes = (2, 4, 2)
    theta = 6 * xp.cos(2.0 + xp.arange(float(mlp.size(sizes))))
    loss = RowLoss(theta, xp.array([0, 1, 0]), sizes)
    return _given(
        loss,
        [[0.1, 0.2], [0.8, 0.5], [0.5, 0.9]],
        [[0.9, 0.8], [0.1, 0.5], [0.0, 0.0]],
    )


WALKS = Interface(
    "walks",
    example=_example,
    edges={
        "no gradient": lambda: _given(
            LinearScore(xp.zeros(2), 0.5), [[0.2, 0.9]], [[0.7, 0.1]]
        ),
        "against the box": lambda: _given(
            LinearScore(xp.array([0.2, -0.1])), [[0.0, 1.0]], [[1.0, 1.0]]
        ),
        "already there": lambda: _given(
            LinearScore(xp.array([0.3, 0.4])), [[0.5, 0.5]], [[0.5, 0.5]]
        ),
        "a bent level set": _bent,
        "a step that only the correction allows": lambda: _given(
            QuadraticScore(-4.5 * xp.eye(2), xp.array([0.5, 0.5])),
            [[0.6, 0.5]],
            [[0.6, 1.0]],
        ),
        "one row, one pixel": lambda: _given(
            LinearScore(xp.array([0.5])), [[0.4]], [[0.9]]
        ),
    },
)


def _left(v, g):
    square = math.fsum(b * b for b in g)
    if square <= 1e-30:
        return list(v)
    share = math.fsum(a * b for a, b in zip(v, g, strict=True)) / square
    return [a - share * b for a, b in zip(v, g, strict=True)]


def _row_by_row(
    score_and_grad,
    x,
    target,
    *,
    lr=0.01,
    correction=0.002,
    delta=0.2,
    steps=400,
    low=0.0,
    high=1.0,
    on_violation="stop",
):
    N, D = x.shape
    cut = lambda v, a, b: min(max(v, a), b)  # noqa: E731
    path, confidence = xp.empty((steps + 1, N, D)), xp.empty((steps + 1, N))
    at = lambda points, i: (  # noqa: E731
        math.exp(-float(score_and_grad(points)[0][i])),
        score_and_grad(points)[1][i].tolist(),
    )
    for i in range(N):
        points = xp.array(x)  # the other rows stay where they are
        start, g = at(points, i)
        here, c, going = start, [0.0] * D, True
        path[0, i], confidence[0, i] = x[i], start
        for k in range(steps):
            c = [
                cut(a - correction * b, -correction, correction)
                for a, b in zip(c, g, strict=True)
            ]
            v = _left((target[i] - points[i]).tolist(), g)
            wish = [
                cut(p + lr * a + b, low, high)
                for p, a, b in zip(points[i].tolist(), v, c, strict=True)
            ]
            ahead = xp.array(points)
            ahead[i] = wish
            there, slope = at(ahead, i)
            if going and start - there <= delta:
                points, here, g = ahead, there, slope
            elif on_violation == "stop":
                going = False
            path[k + 1, i], confidence[k + 1, i] = points[i], here
    return Walk(path, confidence)


def _half(
    score_and_grad,
    x,
    target,
    *,
    lr=0.01,
    correction=0.002,
    delta=0.2,
    steps=400,
    low=0.0,
    high=1.0,
    on_violation="stop",
):
    """The gradient in the accumulator is halved; the box is not."""

    def halved(points):
        loss, g = score_and_grad(points)
        return loss, g / 2  # the direction that is taken off is the same

    return traverse(
        halved,
        x,
        target,
        lr=lr,
        correction=correction,
        delta=delta,
        steps=steps,
        low=low,
        high=high,
        on_violation=on_violation,
    )


def _going_on(
    score_and_grad,
    x,
    target,
    *,
    lr=0.01,
    correction=0.002,
    delta=0.2,
    steps=400,
    low=0.0,
    high=1.0,
    on_violation="stop",
):
    how = {"lr": lr, "correction": correction, "delta": delta, "steps": steps}
    return traverse(
        score_and_grad, x, target, **how, low=low, high=high, on_violation="reject"
    )


def _summed(seen, delta):
    seen = xp.array(seen)
    lost = [
        sum(float(s) > float(seen[0, i]) - delta for s in seen[:, i]) / len(seen)
        for i in range(seen.shape[1])
    ]
    return Spread(
        xp.array([math.fsum(column) / len(column) for column in seen.T.tolist()]),
        xp.array([min(column) for column in seen.T.tolist()]),
        xp.array(lost),
    )


def _along(score_and_grad, x, end, *, points=10, delta=0.2):
    shares = xp.linspace(0, 1, points + 1)
    seen = [xp.exp(-score_and_grad((1 - a) * x + a * end)[0]) for a in shares]
    return _summed(seen, delta)


def _over(score_and_grad, x, end, other_end, *, points=10, delta=0.2):
    seen = []
    for i in range(points + 1):
        for j in range(points + 1):
            if i + j <= points:
                rest = 1 - (i + j) / points
                p = rest * x + i / points * end + j / points * other_end
                seen.append(xp.exp(-score_and_grad(p)[0]))
    return _summed(seen, delta)


def _each_distance(x, target):
    pairs = list(zip(x.tolist(), target.tolist(), strict=True))
    off = [[abs(a - b) for a, b in zip(p, q, strict=True)] for p, q in pairs]
    root = [math.hypot(*v) / math.sqrt(len(v)) for v in off]
    return xp.array(root), xp.array([max(v) for v in off])


def _beside(score_and_grad, x, travel, noise, *, radius=0.1):
    seen = []
    for u in noise:
        moved = xp.array(x)
        for i in range(len(x)):
            v = _left(u[i].tolist(), travel[i].tolist())
            length = math.hypot(*v)
            if length:
                moved[i] += [radius * w / length for w in v]
        seen.append(xp.exp(-score_and_grad(moved)[0]))
    seen = xp.stack(seen)
    return Width(xp.quantile(seen, 0.05, axis=0), xp.quantile(seen, 0.95, axis=0))


def _pushed(v, gradient, tangent):
    return orthogonal_component(tangent, gradient)


def _pulled(v, gradient, cotangent):
    return orthogonal_component(cotangent, gradient)


def _steps(rng, size):
    v, g = rng.standard_normal((2, size, int(rng.integers(1, 5))))
    return {"v": v, "gradient": rng.choice((1e-3, 1.0, 30.0)) * g}


WALKING = {
    "default": {"steps": 20, "lr": 0.1},
    "no correction": {"steps": 6, "lr": 0.3, "correction": 0.0},
    "nothing may be lost": {"steps": 5, "lr": 0.2, "delta": -1.0},
    "going on": {
        "steps": 12,
        "lr": 0.2,
        "delta": 0.02,
        "correction": 0.01,
        "on_violation": "reject",
    },
    "ending": {"steps": 12, "lr": 0.2, "delta": 0.02, "correction": 0.01},
    "probe": {
        "steps": 9,
        "lr": 0.15,
        "delta": 0.05,
        "correction": 0.03,
        "low": -0.1,
        "high": 1.2,
        "on_violation": "reject",
    },
}

METHOD = Method(
    key="balasubramanian2023exploring",
    provenance={
        "confirmed": (
            "gradient",
            "projection",
            "step",
            "segment",
            "triangle",
            "distance",
            "width",
        ),
        "partly": ("correction",),
    },
    functions=(
        Transform(
            f=orthogonal_component,
            wrt="v",
            example=_steps,
            edges={
                "no gradient": lambda: {
                    "v": xp.array([[1.0, 2.0]]),
                    "gradient": xp.zeros((1, 2)),
                },
                "across already": lambda: {
                    "v": xp.array([[1.0, 0.0], [0.5, 0.5]]),
                    "gradient": xp.array([[0.0, 3.0], [1.0, -1.0]]),
                },
            },
            jvp=_pushed,
            vjp=_pulled,
            idempotent=True,
        ),
        Estimator(
            f=traverse,
            interface=WALKS,
            sizes=(4, 8),
            settings=WALKING,
            brute_force=_row_by_row,
            deviations=(
                Deviation(
                    "half of the gradient",
                    _half,
                    seen_in="SriramB-98/blindspots-geometry level_set_traversal.py",
                    computes="half of the gradient in the accumulator of the correction",
                ),
                Deviation(
                    "going on",
                    _going_on,
                    seen_in="SriramB-98/blindspots-geometry level_set_traversal.py",
                    computes="a walk that goes on after a step that it rejects",
                ),
            ),
            refused={
                "an empty box": {"low": 1.0, "high": 0.0},
                "a point outside the box": {"x": 2.0},
            },
        ),
        Estimator(
            f=segment_confidence,
            interface=WALKS,
            settings={"default": {}, "probe": {"points": 3, "delta": 0.03}},
            brute_force=_along,
        ),
        Estimator(
            f=triangle_confidence,
            interface=WALKS,
            sizes=(4, 8),
            settings={
                "default": {},
                "one step": {"points": 1},
                "probe": {"points": 3, "delta": 0.03},
            },
            brute_force=_over,
        ),
        Estimator(f=distances, interface=WALKS, brute_force=_each_distance),
        Estimator(
            f=path_width,
            interface=WALKS,
            settings={
                "default": {},
                "on the way": {"radius": 0.0},
                "probe": {"radius": 0.4},
            },
            brute_force=_beside,
        ),
    ),
)
