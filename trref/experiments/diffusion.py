"""Samples of diffusion models: distances from the data, training a small network, rollouts, fine-tuning to a reward.

For score_models, alignprop, rocm, grpo_guard, sage_grpo, gardo, trqam, optimal_gaussian_diffusion and
drifting_field_policy.
"""

import math

import numpy as np

from trref.backend import xp
from trref.diffusion.flow_grpo import flow_advantage, step_log_prob
from trref.experiments.training import Run, train
from trref.nn.losses import squared_error
from trref.optimizers import adam
from trref.problems.denoisers import WithParameters
from trref.problems.mixtures import SCHEDULES

__all__ = [
    "energy_distance",
    "finetune",
    "flow_rollout",
    "mode_shares",
    "steps_of",
    "train_flow_policy",
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


def steps_of(path):
    """Return the steps of paths (K + 1, N, D) in equal times, a row each: x, next_x, u, next_u and its path."""
    K, (N, D) = len(path) - 1, path.shape[1:]
    u = xp.repeat(xp.linspace(1.0, 0.0, K + 1, dtype=path.dtype)[:, None], N, 1)
    return {
        "x": path[:-1].reshape(K * N, D),
        "next_x": path[1:].reshape(K * N, D),
        "u": u[:-1].ravel(),
        "next_u": u[1:].ravel(),
        "path": xp.tile(xp.arange(N), K),
    }


def train_flow_policy(
    network,
    theta,
    score,
    loss,
    rng,
    *,
    iterations,
    paths=64,
    steps=10,
    noise_level=0.7,
    spread=None,
    epochs=2,
    refresh=0,
    lr=1e-3,
    watch=None,
):
    """Let a flow explore with noise, score the samples, and take steps of Adam on a loss of all steps of all paths.

    Parameters
    ----------
    network : trref.problems.denoisers.TimeNetwork
        Its output is the velocity of noise time.
    theta : array (P,)
        Of the flow to start from, which is also the reference.
    score : callable
        ``score(samples (N, D)) -> rewards (N,)``, or a dict of arrays (N,) with ``advantage`` among them.
    loss : callable
        ``loss(velocity, batch) -> (loss, gradient)``: the batch holds x, next_x, u, next_u, advantage, old_velocity,
        old_log_prob, ref_velocity, and what else `score` gave, of each step.
    rng : numpy.random.Generator
    iterations : int
        Rounds of sampling.
    paths, steps : int
        N and K of each round.
    noise_level : float
    spread : callable, optional
        The noise of the paths, as for `flow_rollout`; Flow-GRPO's of that level if not given.
    epochs : int
        Steps of Adam a round.
    refresh : int
        After so many rounds the policy becomes the reference; never for 0.
    lr : float
    watch : callable, optional
        ``watch(theta, batch)`` after each round.

    Returns
    -------
    trref.experiments.training.Run
    """
    reference, params, state = theta, [theta], adam.init([theta])
    losses, watched = [], []

    def of_flow_grpo(u):
        return noise_level * math.sqrt(u / (1 - min(u, 1 - 1 / steps)))

    def explore(theta):
        x = xp.asarray(rng.standard_normal((paths, network.dims)), dtype=theta.dtype)
        path = flow_rollout(
            WithParameters(network, theta),
            x,
            steps=steps,
            spread=spread or of_flow_grpo,
            rng=rng,
        )
        found = score(path[-1])
        if not isinstance(found, dict):
            found = {"advantage": flow_advantage(found, xp.zeros(paths, dtype=int))}
        rows = steps_of(path)
        number = rows.pop("path")
        seen = rows["x"], rows["u"]
        old = network.forward(theta, *seen)[0]
        times = {"u": rows["u"], "next_u": rows["next_u"]}
        return {
            **rows,
            **{name: value[number] for name, value in found.items()},
            "old_velocity": old,
            "ref_velocity": network.forward(reference, *seen)[0],
            "old_log_prob": step_log_prob(
                rows["x"], rows["next_x"], old, noise_level=noise_level, **times
            ),
        }

    for number in range(iterations):
        if refresh and number and number % refresh == 0:
            reference = params[0]
        batch = explore(params[0])
        for _ in range(epochs):
            velocity, cache = network.forward(params[0], batch["x"], batch["u"])
            value, slope = loss(velocity, batch)
            losses.append(float(value))
            d_theta = network.vjp(cache, slope)[0]
            params, state = adam.update(params, [d_theta], state, lr=lr)
        if watch is not None:
            watched.append(watch(params[0], batch))
    return Run(params[0], np.array(losses), watched)
