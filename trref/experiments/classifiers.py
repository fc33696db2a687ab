"""Training a small classifier on the digits, with clean or noisy labels."""

from typing import Any, NamedTuple

import numpy as np

from trref.backend import to_host, xp
from trref.nn import mlp
from trref.optimizers import adam
from trref.problems.digits import digits
from trref.problems.networks import ClassifierLoss, curvature
from trref.sharpness import asam, sam

__all__ = ["DigitsTask", "Training", "digits_task", "train"]


class DigitsTask(NamedTuple):
    """Training loss (with its labels, noisy or not), test images and labels."""

    loss: ClassifierLoss
    X_test: Any
    y_test: Any


class Training(NamedTuple):
    """Parameters, then per epoch: training loss and test accuracy; last the top Hessian eigenvalue at the end."""

    theta: Any
    losses: list[float]
    accuracies: list[float]
    curvature: float


def digits_task(*, points=400, noise=0.0, sizes=(64, 100, 10), activation="relu", seed=0):
    """Return the digits with a share `noise` of the training labels replaced by uniformly random ones."""
    data = digits(train=1000)
    rng = np.random.default_rng([seed, 1])
    labels = np.where(rng.random(points) < noise, rng.integers(0, 10, points), to_host(data.y_train[:points]))
    loss = ClassifierLoss(data.X_train[:points], xp.asarray(labels), sizes, activation)
    return DigitsTask(loss, data.X_test, data.y_test)


def train(task, *, seed, rho=0.0, at_random=False, adaptive=False, epochs=60, batch=50, lr=1e-3, progress=None):
    """Train with Adam on plain (``rho = 0``) or sharpness-aware gradients.

    Parameters
    ----------
    task : DigitsTask
    seed : int
        Start and order of the batches.
    rho : float
        Radius of SAM; 0 for plain gradients.
    at_random : bool
        The control: gradients at a random point of the sphere of radius `rho` instead of the worst one.
    adaptive : bool
        ASAM, which measures the ball relative to the weights.
    epochs, batch : int
    lr : float
    progress : callable, optional
        Called after each epoch.

    Returns
    -------
    Training
    """
    rng = np.random.default_rng(seed)
    theta = mlp.init(rng, task.loss.sizes, scale=2**0.5)
    state, points = adam.init([theta]), len(task.loss.labels)
    perturbed_gradient = (asam if adaptive else sam).perturbed_gradient
    losses, accuracies = [], []
    for _ in range(epochs):
        order = rng.permutation(points)
        for start in range(0, points, batch):
            on_batch = task.loss.on(xp.asarray(order[start : start + batch]))
            if at_random:
                direction = xp.asarray(rng.standard_normal(theta.size), dtype=theta.dtype)
                _, gradient = on_batch(theta + rho * direction / xp.sqrt((direction**2).sum()))
            else:
                _, gradient = perturbed_gradient(on_batch, theta, rho=rho) if rho else on_batch(theta)
            (theta,), state = adam.update([theta], [gradient], state, lr=lr)
        losses.append(float(task.loss(theta)[0]))
        accuracies.append(float((task.loss.predict(theta, task.X_test) == task.y_test).mean()))
        if progress:
            progress()
    return Training(theta, losses, accuracies, curvature(task.loss, theta))
