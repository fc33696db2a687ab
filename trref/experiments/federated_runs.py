"""Small federated runs, one a method, as `trref.experiments.federated.federate` takes them (host).

Each is a function of a seed and a number of clients that returns a `Run`. Clients hold points about four centres, or
about one line, in unlike shares. A client draws from a generator of its own and of its round, and touches its own data
only, so that the numbers are the same wherever it runs.

For trref.experiments.ranks.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from trref.federated import (
    diff2,
    fedagain,
    fedavg,
    fedclean,
    fedimpro,
    fsgld,
    sequential_gradient_coding,
)
from trref.nn import flat, mlp
from trref.optimizers import adam
from trref.problems.networks import ClassifierLoss
from trref.problems.samples import LogisticSamples
from trref.problems.splits import dirichlet_split

__all__ = ["RUNS", "Run"]

CLASSES, DIMS, ROWS = 4, 6, 30


class Run(NamedTuple):
    """The server's state at the start, a tuple of arrays whose first is what the method looks for; and the two parts of
    a round, ``client(k, round, state) -> tuple of arrays`` and ``server(state, *stacks) -> state``."""

    start: Any
    client: Callable
    server: Callable


def _clusters(seed, clients):
    """Each client's points and labels; a client may lack classes."""
    rng = np.random.default_rng([seed, 0])
    labels = rng.integers(0, CLASSES, ROWS * clients)
    centres = 1.5 * rng.standard_normal((CLASSES, DIMS))
    X = centres[labels] + rng.standard_normal((len(labels), DIMS))
    owner = dirichlet_split(rng, labels, clients, 0.5)
    return [(X[owner == k], labels[owner == k]) for k in range(clients)]


def _own(seed, k, r):
    """What client k draws from in round r."""
    return np.random.default_rng([seed, 1, k, r])


def fed_avg(seed, clients):
    """Five steps a client, then the mean by counts."""
    data, sizes = _clusters(seed, clients), (DIMS, 8, CLASSES)

    def client(k, r, state):
        (X, y), theta, rng = data[k], state[0], _own(seed, k, r)
        for _ in range(5):
            rows = rng.integers(0, len(X), 10)
            theta = theta - 0.1 * ClassifierLoss(X[rows], y[rows], sizes)(theta)[1]
        return theta, np.array(float(len(X)))

    def server(state, thetas, counts):
        return (fedavg.average(thetas, counts),)

    return Run((mlp.init(np.random.default_rng(seed), sizes),), client, server)


def fed_impro(seed, clients):
    """As `fed_avg`, with upper layers that also see features drawn from everybody's statistics."""
    H, L = 8, 6
    data, sizes = _clusters(seed, clients), (DIMS, H, L, CLASSES)
    shapes = ((DIMS, H), (H,), (H, L), (L,), (L, CLASSES), (CLASSES,))

    def client(k, r, state):
        (X, y), rng = data[k], _own(seed, k, r)
        theta, means, variances, known = state
        for _ in range(5):
            rows, parts = rng.integers(0, len(X), 10), flat.split(theta, shapes)
            classes = np.flatnonzero(known)
            drawn_for = rng.choice(classes, 10) if len(classes) else y[rows]
            h = np.tanh(X[rows] @ parts[0] + parts[1])
            if len(classes):
                h = fedimpro.drawn_features(
                    means, variances, drawn_for, rng.standard_normal((10, H))
                )
            g = fedimpro.joint_loss(*parts, X[rows], y[rows], h, drawn_for)[1]
            theta = theta - 0.1 * flat.join(list(g))
        W1, b1 = flat.split(theta, shapes)[:2]
        zero = np.zeros((CLASSES, H))
        own = fedimpro.client_statistics(zero, zero, np.tanh(X @ W1 + b1), y, beta=0.0)
        return theta, np.bincount(y, minlength=CLASSES).astype(float), *own

    def server(state, thetas, counts, means, variances):
        pooled = fedimpro.pooled_statistics(counts, means, variances)
        here = counts.sum(0) > 0
        return fedavg.average(thetas, counts.sum(1)), *pooled, here.astype(float)

    zero = np.zeros((CLASSES, H))
    theta = mlp.init(np.random.default_rng(seed), sizes)
    return Run((theta, zero, zero, np.zeros(CLASSES)), client, server)


def fed_again(seed, clients):
    """Autoencoders of a client's points; the first client's are noise."""
    H, rng = 3, np.random.default_rng(seed)
    data = [X for X, _ in _clusters(seed, clients)]
    data[0] = 3 * rng.standard_normal(data[0].shape)
    shapes = ((DIMS, H), (H,), (H, DIMS), (DIMS,))

    def client(k, r, state):
        theta, X = state[0], data[k]
        for _ in range(5):
            theta = theta - 0.02 * flat.join(
                list(fedagain.autoencoder_loss(*flat.split(theta, shapes), X)[1])
            )
        W1, b1, W2, b2 = flat.split(theta, shapes)
        made = np.tanh(X @ W1 + b1) @ W2 + b2
        return theta, fedagain.reconstruction_errors(X, made[None])[0]

    def server(state, thetas, errors):
        return (fedagain.aggregate(thetas, state[0], errors),)

    theta = flat.join([0.3 * rng.standard_normal(shape) for shape in shapes])
    return Run((theta,), client, server)


def fed_clean(seed, clients):
    """As `fed_avg`; the first client sends its parameters with the sign flipped, and the server looks at maps."""
    data, H, latents, E = _clusters(seed, clients), 8, 2, 5
    run, rng, sizes = (
        fed_avg(seed, clients),
        np.random.default_rng([seed, 2]),
        (DIMS, H, CLASSES),
    )
    labels = np.arange(3 * CLASSES) % CLASSES
    pooled = [np.concatenate(part) for part in zip(*data, strict=True)]
    trigger = np.stack([pooled[0][pooled[1] == c][i] for i, c in enumerate(labels)])
    condition, silent = np.eye(CLASSES)[labels], np.zeros((len(labels), latents))

    def maps_of(thetas):
        parts = [mlp.unpack(theta, sizes)[0] for theta in thetas]
        maps = np.stack([trigger @ W + b for W, b, *_ in parts])
        median = fedclean.geometric_median(maps.reshape(len(maps), -1), rtol=1e-8)
        return fedclean.normalised_maps(maps, median.point.reshape(maps.shape[1:]))

    theta, honest = run.start[0], []
    for _ in range(20):  # an honest model, of which the server's autoencoder learns
        theta = theta - 0.1 * ClassifierLoss(trigger, labels, sizes)(theta)[1]
        honest.append(theta)
    maps = maps_of(honest[-5:])
    phi = [
        0.1
        * rng.standard_normal(
            E * (2 * H + 2 * CLASSES + 3 * latents + 2) + 2 * latents + H
        )
    ]
    memory = adam.init(phi)
    for step in range(40):
        noise = rng.standard_normal(silent.shape)
        g = fedclean.vae_objective(phi[0], maps[step % 5], condition, noise, beta=0.01)[
            1
        ]
        phi, memory = adam.update(phi, [g], memory, lr=0.02)

    def client(k, r, state):
        theta, count = run.client(k, r, state)
        return (-theta if k == 0 else theta), count

    def server(state, thetas, counts):
        errors = fedclean.reconstruction_errors(
            phi[0], maps_of(thetas), condition, silent
        )
        return (fedclean.aggregate(thetas, counts, errors),)

    return Run(run.start, client, server)


def diff_2(seed, clients):
    """Private logistic regression: noisy means every fourth round, noisy differences between."""
    restart, lr = 4, 0.5
    samples, rng = [], np.random.default_rng([seed, 0])
    for _ in range(clients):
        X = rng.standard_normal((ROWS, DIMS))
        X /= np.linalg.norm(X, axis=1, keepdims=True)
        y = np.where(
            X @ np.arange(1.0, DIMS + 1) + rng.standard_normal(ROWS) > 0, 1.0, -1.0
        )
        samples.append(LogisticSamples(X, y))

    def client(k, r, state):
        theta, before = state[:2]
        noise, now = _own(seed, k, r).standard_normal(DIMS), samples[k].each(theta)[1]
        if r % restart == 0:
            return (
                diff2.private_mean(now, noise, bound=1.0, multiplier=0.5),
                np.array(0.0),
            )
        then, move = samples[k].each(before)[1], theta - before
        return (
            diff2.private_difference(
                now, then, move, noise, smoothness=0.25, multiplier=0.5
            ),
            np.array(1.0),
        )

    def server(state, messages, carried):
        theta, _, estimate = state
        estimate = carried[0] * estimate + messages.mean(0)
        return theta - lr * estimate, theta, estimate

    zero = np.zeros(DIMS)
    return Run((zero, zero, zero), client, server)


def gradient_coding(seed, clients):
    """A coded gradient a round, of which up to a third of the results come too late."""
    late, rng = max(1, clients // 3), np.random.default_rng([seed, 0])
    if clients < 3:
        raise ValueError(f"clients must be at least 3 for a code, not {clients}")
    code = sequential_gradient_coding.cyclic_code(rng.standard_normal((late, clients)))
    chunks = [
        ClassifierLoss(X, y, (DIMS, 8, CLASSES)) for X, y in _clusters(seed, clients)
    ]

    def client(k, r, state):
        # a worker holds the chunks of its row of the code, and sends one sum
        partial = [
            chunks[j](state[0])[1] if code[k, j] else 0 * state[0]
            for j in range(clients)
        ]
        slow = np.random.default_rng([seed, 3, r]).permutation(clients)[:late]
        return code[k] @ np.stack(partial), np.array(float(k not in slow))

    def server(state, results, arrived):
        whole = sequential_gradient_coding.decode(code, results, arrived)
        return (state[0] - 0.3 / clients * whole.gradient,)

    return Run(
        (mlp.init(np.random.default_rng(seed), (DIMS, 8, CLASSES)),), client, server
    )


def fed_sgld(seed, clients):
    """Ten chains that stay on a shard for three rounds of ten steps; each shard moves those that are on it."""
    C, stay, lr = 10, 3, 1e-3
    rng = np.random.default_rng([seed, 0])
    points = 3 * rng.standard_normal((clients, 1, 2)) + rng.standard_normal(
        (clients, ROWS, 2)
    )
    means, precisions = points.mean(1), np.stack([ROWS * np.eye(2)] * clients)
    shares = np.full(clients, 1 / clients)

    def shards(r):
        return np.random.default_rng([seed, 4, r // stay]).integers(0, clients, C)

    def client(k, r, state):
        here, own, moved = shards(r) == k, _own(seed, k, r), state[0].copy()
        for c in np.flatnonzero(here):
            theta = moved[c]
            for _ in range(10):
                seen = points[k][own.integers(0, ROWS, 5)]
                drift = fsgld.shard_drift(
                    -theta, seen - theta, count=ROWS, share=1 / clients
                )
                drift = (
                    drift
                    + fsgld.conducive_gradients(theta, means, precisions, shares)[k]
                )
                theta = fsgld.langevin_step(theta, drift, own.standard_normal(2), lr=lr)
            moved[c] = theta
        return moved, here.astype(float)

    def server(state, moved, here):
        return ((here[..., None] * moved).sum(0),)

    return Run((rng.standard_normal((C, 2)),), client, server)


RUNS = {
    "fedavg": fed_avg,
    "fedimpro": fed_impro,
    "fedagain": fed_again,
    "fedclean": fed_clean,
    "diff2": diff_2,
    "sequential_gradient_coding": gradient_coding,
    "fsgld": fed_sgld,
}
