"""What is known of `trref.sharpness.tram`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Limit, Method, Objective
from trref.catalog.sharpness.interfaces import PERTURBED_GRADIENT
from trref.nn import mlp
from trref.problems.networks import ClassifierLoss, random_classifier
from trref.sharpness.tram import (
    anchored_distance,
    anchored_gradient,
    anchored_perturbation,
    box_sharpness,
    fisher_gradient,
    fisher_perturbation,
    linear_cka,
    noised_distance,
    noised_gradient,
    noised_perturbation,
    trust_region_loss,
)


def _classifier(rng, size):
    dims = 2 + size % 3
    loss = random_classifier(rng, points=size, dims=dims, hidden=2 + size % 5)
    theta = rng.choice((0.5, 2.0)) * mlp.init(rng, loss.sizes)
    return {
        "loss": loss,
        "theta": theta,
        "anchor": theta + 0.3 * rng.standard_normal(theta.size),
        "noise": rng.choice((0.1, 0.5)) * rng.standard_normal((size, dims)),
    }


def _small(points, *, scale=1.0, moved=0.3, noise=0.2):
    """Three features, two classes in turn, and parameters that are waves."""
    X = xp.sin(xp.arange(3.0 * points)).reshape(points, 3)
    loss = ClassifierLoss(X, xp.arange(points) % 2, (3, 2, 2))
    theta = scale * xp.cos(xp.arange(14.0))
    anchor = theta + moved * xp.sin(xp.arange(14.0))
    return {"loss": loss, "theta": theta, "anchor": anchor, "noise": noise * X[::-1]}


def _dead():
    """A feature that is always 0, so that some entries of the gradient are."""
    given = _small(3)
    loss = given["loss"]
    X = loss.X * xp.array([0.0, 1.0, 1.0])
    return {**given, "loss": ClassifierLoss(X, loss.labels, loss.sizes)}


def _linear():
    """A linear classifier whose gradient is nearly one large entry and two of half its size."""
    loss = ClassifierLoss(xp.array([[50.0]]), xp.array([0]), (1, 3))
    theta = xp.array([-0.02, 0.001, 0.0, 0.0, 0.0, 0.0])
    noise = xp.array([[20.0]])
    return {"loss": loss, "theta": theta, "anchor": -theta, "noise": noise}


CLASSIFIER = Interface(
    "classifier",
    example=_classifier,
    edges={
        "one sample": lambda: _small(1),
        "the anchor is here": lambda: _small(5, moved=0.0),
        "no noise": lambda: _small(4, noise=0.0),
        "nothing to ascend": lambda: _small(4, scale=0.0),
        "a linear classifier": _linear,
        "a dead feature": _dead,
        "far from the anchor": lambda: _small(6, moved=8.0, noise=9.0),
    },
)
"""``f(loss, theta (P), anchor (P), noise (N, D), …)`` of a classifier's loss that shows its logits."""


def _softmax(rows):
    each = []
    for row in rows.tolist():
        top = max(row)
        powers = [math.exp(z - top) for z in row]
        each.append([power / sum(powers) for power in powers])
    return each


def _divergence(logits, other):
    pairs = zip(_softmax(logits), _softmax(other), strict=True)
    rows = [
        math.fsum(p * math.log(p / q) for p, q in zip(*pair, strict=True) if p > 0)
        for pair in pairs
    ]
    return xp.asarray(math.fsum(rows) / len(rows))


def _anchored_by_loops(loss, theta, anchor):
    return _divergence(loss.logits(anchor), loss.logits(theta))


def _noised_by_loops(loss, theta, noise):
    return _divergence(loss.at(loss.X + noise).logits(theta), loss.logits(theta))


def _ones_for_the_gradient(
    loss, theta, anchor, *, radius=None, cap=None, perturbation=None
):
    if perturbation is None:
        d = anchored_distance(loss, theta, anchor) if radius is None else radius
        d = d if cap is None else xp.minimum(d, cap)
        Tg = theta * loss(theta)[1]
        perturbation = d * theta**2 / (xp.sqrt((Tg * Tg).sum()) + 1e-12)
    return loss(theta + perturbation)


def _mean_over_classes(
    loss, theta, anchor, *, radius=None, cap=None, perturbation=None
):
    if perturbation is None:
        scale = 1
        if radius is None:
            logits = loss.logits(theta)
            radius = float(anchored_distance(loss, theta, anchor))
            scale = logits.shape[0] * logits.shape[1]
        perturbation = anchored_perturbation(
            loss, theta, anchor, radius=radius / scale, cap=cap
        )
    return loss(theta + perturbation)


TRAM_ONES = Deviation(
    "ones for the gradient",
    _ones_for_the_gradient,
    seen_in="tomsherborne/tram_optimizer tram.py, adaptive",
    computes="an ascent along the squared weights: the gradient is not multiplied in",
)
TRAM_MEAN_OVER_CLASSES = Deviation(
    "mean over classes",
    _mean_over_classes,
    seen_in="tomsherborne/tram_optimizer kl.py",
    computes="a divergence that is too small by the number of classes times that of samples",
)


def _as_asam(inputs):
    return inputs, {"loss_and_grad": inputs["loss"], "theta": inputs["theta"]}


def _its_loss(inputs):
    """The radius is given"""
    return _as_asam(inputs)


def _without_ascent(inputs):
    """The anchor is where we are"""
    inputs = {**inputs, "anchor": inputs["theta"]}
    return _as_asam(inputs)


def _quiet(inputs):
    """There is no noise"""
    inputs = {**inputs, "noise": xp.zeros_like(inputs["noise"])}
    return _as_asam(inputs)


def _plainly(inputs):
    """The Fisher matrix does not count"""
    return _as_asam(inputs)


def _unweighted(inputs):
    """The distance has no weight"""
    return _as_asam(inputs)


def _by_corners(loss_and_grad, theta, *, box=1e-3, steps=5):
    """Entry by entry in numbers of the standard library."""
    here, g = loss_and_grad(theta)
    reach = [box * (abs(t) + 1) for t in theta.tolist()]
    moved, highest = [0.0] * len(reach), float(here)
    for _ in range(steps):
        signs = [(s > 0) - (s < 0) for s in g.tolist()]
        ahead = [m + r * s for m, r, s in zip(moved, reach, signs, strict=True)]
        moved = [max(-r, min(r, a)) for a, r in zip(ahead, reach, strict=True)]
        value, g = loss_and_grad(theta + xp.asarray(moved))
        highest = max(highest, float(value))
    return xp.asarray(100 * (highest - float(here)) / (1 + float(here)))


def _features(rng, size):
    x = rng.choice((0.1, 10.0)) * rng.standard_normal((size, 2 + size % 3))
    mixed = x @ rng.standard_normal((x.shape[1], 2 + size // 4 % 2))
    return {"x": x, "y": mixed + rng.standard_normal(mixed.shape)}


def _by_kernels(x, y):
    """The same by the kernels of the samples, centred on both sides."""
    N = len(x)
    centre = xp.eye(N) - xp.ones((N, N)) / N
    K, L = (centre @ a @ a.T @ centre for a in (x, y))
    size = float(xp.sqrt((K * K).sum())) * float(xp.sqrt((L * L).sum()))
    return xp.asarray((K * L).sum() / size if size else 0.0)


RADII = {
    "default": {},
    "capped": {"cap": 0.02},
    "fixed": {"radius": 0.1},
}
PROBE = {"probe": {"radius": 0.3, "cap": 0.07}}

METHOD = Method(
    key="sherborne2023tram",
    provenance={
        "confirmed": (
            "divergence",
            "anchored",
            "noised",
            "perturbation",
            "gradient",
            "penalty",
            "sharpness",
            "cka",
        ),
        "partly": ("fisher", "fisher-perturbation"),
    },
    functions=(
        Estimator(
            f=anchored_distance, interface=CLASSIFIER, brute_force=_anchored_by_loops
        ),
        Estimator(
            f=noised_distance, interface=CLASSIFIER, brute_force=_noised_by_loops
        ),
        Objective(
            f=anchored_gradient,
            interface=CLASSIFIER,
            wrt="theta",
            stopped={"perturbation": anchored_perturbation},
            settings=RADII | PROBE,
            limits=(
                Limit(
                    "asam.perturbed_gradient",
                    {"radius": 0.3},
                    {"rho": 0.3, "offset": 0.0},
                    where=_its_loss,
                ),
                Limit(
                    "sam.perturbed_gradient", {}, {"rho": 0.0}, where=_without_ascent
                ),
            ),
            deviations=(TRAM_ONES, TRAM_MEAN_OVER_CLASSES),
        ),
        Objective(
            f=noised_gradient,
            interface=CLASSIFIER,
            wrt="theta",
            stopped={"perturbation": noised_perturbation},
            # of one radius the two are one function, as the limits say
            settings=RADII | PROBE | {"fixed": {"radius": 0.2}},
            limits=(
                Limit(
                    "asam.perturbed_gradient",
                    {"radius": 0.3},
                    {"rho": 0.3, "offset": 0.0},
                    where=_its_loss,
                ),
                Limit("sam.perturbed_gradient", {}, {"rho": 0.0}, where=_quiet),
            ),
        ),
        Objective(
            f=fisher_gradient,
            interface=CLASSIFIER,
            wrt="theta",
            stopped={"perturbation": fisher_perturbation},
            settings={
                "default": {},
                "nearly SAM": {"eta": 1e-4},
                "as printed": {"form": "printed", "eta": 2.0},
                "probe": {"gamma": 0.3, "eta": 3.0, "form": "printed"},
            },
            limits=(
                Limit(
                    "sam.perturbed_gradient",
                    {"gamma": 0.2, "eta": 0.0},
                    {"rho": 0.2},
                    where=_plainly,
                ),
            ),
        ),
        Objective(
            f=trust_region_loss,
            interface=CLASSIFIER,
            wrt="theta",
            settings={"default": {}, "probe": {"penalty_weight": 0.7}},
            limits=(
                Limit(
                    "sam.perturbed_gradient",
                    {"penalty_weight": 0.0},
                    {"rho": 0.0},
                    where=_unweighted,
                ),
            ),
        ),
        Estimator(
            f=box_sharpness,
            interface=PERTURBED_GRADIENT,
            settings={
                "default": {},
                "a large box": {"box": 0.5},
                "probe": {"box": 0.3, "steps": 3},
            },
            brute_force=_by_corners,
        ),
        Estimator(
            f=linear_cka,
            example=_features,
            edges={
                "one sample": lambda: {"x": xp.ones((1, 2)), "y": xp.ones((1, 3))},
                "the same": lambda: {
                    "x": xp.array([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0]]),
                    "y": xp.array([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0]]),
                },
            },
            brute_force=_by_kernels,
        ),
    ),
)
