"""Training a small classifier on the digits, with clean or noisy labels."""

from typing import Any, NamedTuple

import numpy as np

from trref.backend import to_host, xp
from trref.experiments.training import fit
from trref.nn import mlp
from trref.optimizers import adam
from trref.problems.digits import digits
from trref.problems.networks import ClassifierLoss, curvature
from trref.problems.splits import noisy_labels

__all__ = ["DigitsTask", "Training", "at_random", "digits_task", "train"]


class DigitsTask(NamedTuple):
    """Training loss (with its labels, noisy or not), test images and labels."""

    loss: ClassifierLoss
    X_test: Any
    y_test: Any


class Training(NamedTuple):
    """Parameters, then per epoch: training loss, test accuracy and gradients of a batch so far; last the top Hessian
    eigenvalue at the end."""

    theta: Any
    losses: list[float]
    accuracies: list[float]
    gradients: list[float]
    curvature: float


def digits_task(
    *, points=400, noise=0.0, sizes=(64, 100, 10), activation="relu", seed=0
):
    """Return the digits with a share `noise` of the training labels replaced by uniformly random ones."""
    data = digits(train=1000)
    labels = noisy_labels(
        np.random.default_rng([seed, 1]), to_host(data.y_train[:points]), noise, 10
    ).labels
    loss = ClassifierLoss(data.X_train[:points], xp.asarray(labels), sizes, activation)
    return DigitsTask(loss, data.X_test, data.y_test)


def train(
    task,
    *,
    seed,
    gradient=None,
    rule=adam,
    lr=1e-3,
    hyper=None,
    epochs=60,
    batch=50,
    progress=None,
    **options,
):
    """Train on minibatches of the digits.

    Parameters
    ----------
    task : DigitsTask
    seed : int
        Start and order of the batches.
    gradient, rule, lr, hyper, **options
        As in `trref.experiments.training.fit`: Adam on plain gradients if nothing is said.
    epochs, batch : int
    progress : callable, optional
        Called after each epoch.

    Returns
    -------
    Training
    """
    rng, loss = np.random.default_rng(seed), task.loss
    theta, epoch = mlp.init(rng, loss.sizes, scale=2**0.5), -(-len(loss) // batch)

    def watch(theta):
        if progress:
            progress()
        return float(loss(theta)[0]), float(
            (loss.predict(theta, task.X_test) == task.y_test).mean()
        )

    how = {
        "gradient": gradient,
        "rule": rule,
        "lr": lr,
        "hyper": hyper,
        "batch": batch,
        **options,
    }
    run = fit(loss, theta, rng, steps=epochs * epoch, every=epoch, watch=watch, **how)
    losses, accuracies = zip(*run.watched, strict=True)
    return Training(
        run.theta,
        list(losses),
        list(accuracies),
        run.gradients,
        curvature(loss, run.theta),
    )


def at_random(rho):
    """Return, for `train`, the gradient at a random point of the sphere of radius `rho`: the control of SAM's kin."""

    def gradient(loss, theta, rng):
        direction = xp.asarray(rng.standard_normal(theta.size), dtype=theta.dtype)
        return loss(theta + rho * direction / xp.sqrt((direction**2).sum()))

    return gradient
