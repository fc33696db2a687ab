"""Samples of diffusion models: distances from the data, training a small network, rollouts, fine-tuning to a reward.

For score_models, alignprop, rocm, grpo_guard, sage_grpo, gardo, trqam, optimal_gaussian_diffusion and
drifting_field_policy.
"""

import math

import numpy as np

from trref.backend import xp
from trref.experiments.training import train
from trref.nn.losses import squared_error
from trref.problems.mixtures import SCHEDULES

__all__ = [
    "energy_distance",
    "finetune",
    "flow_rollout",
    "mode_shares",
    "train_network",
]


def energy_distance(x, y):
    """Return ``2E|X - Y| - E|X - X'| - E|Y - Y'|``, unbiased, for samples x (N, D) and y (M, D): 0 for equal laws."""

    def mean_distance(a, b):
        return float(xp.sqrt(((a[:, None] - b) ** 2).sum(-1)).sum())

    N, M = len(x), len(y)
    within = mean_distance(x, x) / (N * (N - 1)) + mean_distance(y, y) / (M * (M - 1))
    return 2 * mean_distance(x, y) / (N * M) - within


def mode_shares(x, means):
    """Return the share (K,) of the samples x (N, D) that is nearest to each of the means (K, D)."""
    nearest = ((x[:, None] - means) ** 2).sum(-1).argmin(1)
    return (nearest[:, None] == xp.arange(len(means))).astype(x.dtype).mean(0)


def train_network(
    network,
    theta,
    draw,
    rng,
    *,
    schedule="vp",
    target="noise",
    t_min=1e-3,
    batch=128,
    **options,
):
    """Learn to predict noise, data or velocity by least squares, at uniformly random noise times.

    Parameters
    ----------
    network : trref.problems.denoisers.TimeNetwork
    theta : array (P,)
    draw : callable
        ``draw(rng, n) -> data (n, D)``, such as a mixture's ``sample``.
    rng : numpy.random.Generator
    schedule : {"vp", "ve", "flow"}
    target : {"noise", "data", "velocity"}
        The velocity is noise - data: that of the schedule ``"flow"``.
    t_min : float
        The smallest time.
    batch : int
    **options
        Of `trref.experiments.training.train`: ``steps``, ``lr``, ``watch``, …

    Returns
    -------
    trref.experiments.training.Run
    """

    def gradient(theta, rng):
        data = draw(rng, batch)
        noise = xp.asarray(rng.standard_normal(data.shape), dtype=data.dtype)
        t = xp.asarray(rng.uniform(t_min, 1, batch), dtype=data.dtype)
        alpha, sigma = SCHEDULES[schedule](t)
        wanted = {"noise": noise, "data": data, "velocity": noise - data}[target]
        output, cache = network.forward(
            theta, alpha[:, None] * data + sigma[:, None] * noise, t
        )
        value, d_output = squared_error(output, wanted)
        return value, network.vjp(cache, d_output)[0]

    return train(gradient, theta, rng, **options)


def flow_rollout(velocity, x, *, steps, spread=None, rng=None):
    """Follow a velocity from noise time 1 to 0 in equal steps.

    Parameters
    ----------
    velocity : callable
        ``velocity(x (N, D), t (N,))``, of noise time: data lie where it comes from.
    x : array (N, D)
        The noise to start from.
    steps : int
    spread : callable, optional
        ``spread(u)``: standard deviation of the noise a unit of time, at noise time u. With it the path is that of the
        stochastic equation with the same marginals, and `rng` is needed; not given, the path is deterministic.
    rng : numpy.random.Generator, optional

    Returns
    -------
    array (steps + 1, N, D)
    """
    path, h = [x], 1 / steps
    for k in range(steps):
        u = 1 - k * h
        v = velocity(x, xp.full(len(x), u, dtype=x.dtype))
        if spread is None:
            x = x - h * v
        else:  # the score is -(x + (1 - u) v)/u
            s = spread(u)
            z = xp.asarray(rng.standard_normal(x.shape), dtype=x.dtype)
            x = x - h * (v + s**2 / 2 * (x + (1 - u) * v) / u) + s * math.sqrt(h) * z
        path.append(x)
    return xp.stack(path)


def finetune(objective, theta, *, seed, draws, dims=2, **options):
    """Train a model by gradients through its samples, from fresh noise at each step.

    Parameters
    ----------
    objective : callable
        ``objective(theta, x (N, D), rng) -> (loss, gradient)``; x is the noise that sampling starts from.
    theta : array (P,)
    seed : int
    draws : int
        N.
    dims : int
        D.
    **options
        Of `trref.experiments.training.train`: ``steps``, ``lr``, ``watch``, …

    Returns
    -------
    trref.experiments.training.Run
    """

    def gradient(theta, rng):
        return objective(
            theta,
            xp.asarray(rng.standard_normal((draws, dims)), dtype=theta.dtype),
            rng,
        )

    return train(gradient, theta, np.random.default_rng(seed), **options)
