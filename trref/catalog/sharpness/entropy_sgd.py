"""What is known of `trref.sharpness.entropy_sgd`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Method, Objective
from trref.nn import mlp
from trref.problems.convex import Quadratic, logistic, spd_matrix
from trref.problems.networks import random_classifier
from trref.problems.wells import GaussianWells
from trref.sharpness.entropy_sgd import (
    langevin_average,
    negative_local_entropy,
    negative_local_entropy_quadratic,
)


def _wells(rng, size):
    K = int(rng.integers(1, 4))
    depths, precisions = rng.uniform(0.3, 2.0, K), rng.uniform(0.5, 4.0, K)
    centres = rng.uniform(-3, 3, (K, 1))
    return {
        "landscape": GaussianWells(depths, centres, precisions, offset=1.0),
        "x": 3 * rng.standard_normal(size),
    }


def _one_well(*x, depth=1.0, precision=2.0):
    well = GaussianWells(xp.array([depth]), xp.zeros((1, 1)), xp.array([precision]))
    return {"landscape": well, "x": xp.array(x)}


def _quadratic(rng, size):
    scale = rng.choice((0.1, 1.0, 10.0))
    return {
        "x": rng.standard_normal(size),
        "hessian": spd_matrix(rng, scale * rng.uniform(-0.02, 1.0, size)),
        "linear": scale * rng.standard_normal(size),
    }


def _chain(rng, size):
    steps = int(rng.integers(1, 6))
    if rng.random() < 0.5:
        loss, theta = (
            logistic(rng, points=size + 2, dims=size),
            rng.standard_normal(size),
        )
    else:
        loss = random_classifier(rng, points=size, hidden=max(2, size // 8))
        theta = mlp.init(rng, loss.sizes)
    noise = rng.standard_normal((steps, len(theta)))
    return {"loss_and_grad": loss, "theta": theta, "noise": noise}


def _at_the_minimum():
    loss = Quadratic(xp.eye(2), xp.zeros(2))
    return {"loss_and_grad": loss, "theta": xp.zeros(2), "noise": xp.zeros((3, 2))}


def _weights_of_the_points(
    loss_and_grad,
    theta,
    noise,
    *,
    stiffness=0.03,
    inner_lr=0.1,
    noise_scale=1e-4,
    alpha=0.75,
):
    """The average is a sum over all points with weights, that of the start among them."""
    points, L = [theta], len(noise)
    for k in range(L):
        towards = stiffness * theta + noise_scale / math.sqrt(inner_lr) * noise[k]
        step = towards - loss_and_grad(points[-1])[1]
        points.append((1 - inner_lr * stiffness) * points[-1] + inner_lr * step)
    weights = [
        (1 - alpha) ** L,
        *(alpha * (1 - alpha) ** (L - 1 - k) for k in range(L)),
    ]
    return sum(w * point for w, point in zip(weights, points, strict=True))


def _weight_on_the_old_mean(
    loss_and_grad,
    theta,
    noise,
    *,
    stiffness=0.03,
    inner_lr=0.1,
    noise_scale=1e-4,
    alpha=0.75,
):
    how = {"stiffness": stiffness, "inner_lr": inner_lr, "noise_scale": noise_scale}
    return langevin_average(loss_and_grad, theta, noise, alpha=1 - alpha, **how)


def _more_noise(
    loss_and_grad,
    theta,
    noise,
    *,
    stiffness=0.03,
    inner_lr=0.1,
    noise_scale=1e-4,
    alpha=0.75,
):
    how = {"stiffness": stiffness, "inner_lr": inner_lr, "alpha": alpha}
    scale = math.sqrt(2) * noise_scale
    return langevin_average(loss_and_grad, theta, noise, noise_scale=scale, **how)


METHOD = Method(
    key="chaudhari2016entropy",
    provenance={
        "confirmed": ("langevin",),
        "partly": ("local-entropy", "gradient"),
        "reconstructed": ("quadratic",),
    },
    functions=(
        Objective(
            f=negative_local_entropy,
            example=_wells,
            edges={
                "in the middle of a well": lambda: _one_well(0.0, 0.5),
                # values whose exponentials overflow
                "a very deep well": lambda: _one_well(
                    0.5, -1.0, depth=200.0, precision=0.2
                ),
                "one far from any well": lambda: _one_well(30.0, 0.5),
            },
            wrt="x",
            settings={
                "default": {},
                "probe": {
                    "stiffness": 0.3,
                    "inverse_temperature": 5.0,
                    "reach": 8.0,
                    "nodes": 301,
                },
            },
        ),
        Objective(
            f=negative_local_entropy_quadratic,
            example=_quadratic,
            edges={
                "flat": lambda: {
                    "x": xp.array([1.0, -2.0]),
                    "hessian": xp.zeros((2, 2)),
                    "linear": xp.zeros(2),
                },
            },
            wrt="x",
            settings={
                "default": {},
                "probe": {"stiffness": 0.3, "inverse_temperature": 5.0},
            },
            refused={
                "a steeper saddle than the stiffness": lambda: (
                    {
                        "x": xp.ones(2),
                        "hessian": xp.diag(xp.array([1.0, -2.0])),
                        "linear": xp.zeros(2),
                    },
                    {},
                ),
                "not symmetric": lambda: (
                    {
                        "x": xp.ones(2),
                        "hessian": xp.array([[1.0, 0.5], [0.0, 1.0]]),
                        "linear": xp.zeros(2),
                    },
                    {},
                ),
            },
        ),
        Estimator(
            f=langevin_average,
            example=_chain,
            edges={"at the minimum": _at_the_minimum},
            settings={
                "default": {},
                "probe": {
                    "stiffness": 0.4,
                    "inner_lr": 0.07,
                    "noise_scale": 0.2,
                    "alpha": 0.3,
                },
            },
            brute_force=_weights_of_the_points,
            deviations=(
                Deviation(
                    "the weight on the old mean",
                    _weight_on_the_old_mean,
                    seen_in="ucla-vision/entropy-sgd python/optim.py (3e41ca9), beta1",
                    computes="alpha of the old mean and 1 - alpha of the new point",
                ),
                Deviation(
                    "noise times the root of two",
                    _more_noise,
                    seen_in="ucla-vision/entropy-sgd python/optim.py (3e41ca9)",
                    computes="noise scaled by the root of 2 inner_lr",
                ),
            ),
        ),
    ),
)
