"""The one training loop: any gradient, any update rule, and hooks instead of flags.

`train` takes steps; `fit` is the same on minibatches of a loss, and counts gradients, so that methods are compared
at equal cost. A method comes in as ``gradient``, an optimiser as ``rule``, anything to be recorded as ``watch``::

    fit(loss, theta, rng, batch=50, steps=800, lr=1e-3)
    fit(loss, theta, rng, batch=50, budget=800, lr=0.1, rule=sgd,
        gradient=lambda loss, theta, rng: sam.perturbed_gradient(loss, theta, rho=0.1))

For sharpness (tram, gam, ignite, sdat), optimizers (muon, diffgrad, oasis), data (data_diet, influence_scores) and
nearly every experiment on the digits.
"""

import itertools
import math
from typing import Any, NamedTuple

import numpy as np

from trref.backend import to_host, xp
from trref.nn import flat
from trref.optimizers import adam

__all__ = ["Counted", "Fit", "Rule", "Run", "batches", "fit", "plain", "train"]


class Rule(NamedTuple):
    """An update rule, where a module has more than one: ``Rule(adamp.init, adamp.sgdp_update)``."""

    init: Any
    update: Any


class Run(NamedTuple):
    """Parameters; the loss before each step, (steps,) or (steps, S); and what `watch` returned, once every `every`."""

    theta: Any
    losses: Any
    watched: list


class Fit(NamedTuple):
    """A `Run`, and how many gradients had been computed whenever `watch` was called."""

    theta: Any
    losses: Any
    watched: list
    gradients: list[float]


def train(
    gradient,
    theta,
    rng,
    *,
    lr,
    steps=None,
    rule=adam,
    hyper=None,
    schedule=None,
    shapes=None,
    every=0,
    watch=None,
    stop=None,
):
    """Take steps of an update rule.

    Parameters
    ----------
    gradient : callable
        ``gradient(theta, rng) -> (loss, gradient)``: whatever is to be followed.
    theta : array (P,), or (S, P) for several seeds at once
    rng : numpy.random.Generator
    lr : float
    steps : int, optional
        Until `stop` says so if not given.
    rule : module or Rule
        With ``init(params)`` and ``update(params, grads, state, *, lr, …)``.
    hyper : mapping, optional
        Further hyper-parameters of the rule.
    schedule : callable, optional
        ``schedule(step)``, by which `lr` is multiplied; steps count from 0.
    shapes : sequence of tuple of int, optional
        What the rule sees: theta as one vector if not given, else arrays of these shapes (muon, psgd_kronecker).
    every : int
        Steps between calls of `watch`.
    watch : callable, optional
        ``watch(theta)``.
    stop : callable, optional
        ``stop()`` is asked before each step.

    Returns
    -------
    Run
    """
    if steps is None and stop is None:
        raise ValueError("one of steps and stop must be given")
    split = (lambda x: [x]) if shapes is None else (lambda x: flat.split(x, shapes))
    params, losses, watched = split(theta), [], []
    state = rule.init(params)
    for step in itertools.count() if steps is None else range(steps):
        if stop is not None and stop():
            break
        loss, slope = gradient(theta, rng)
        rate = lr if schedule is None else lr * schedule(step)
        params, state = rule.update(
            params, split(slope), state, lr=rate, **(hyper or {})
        )
        theta = params[0] if shapes is None else flat.join(params)
        losses.append(loss)
        if every and (step + 1) % every == 0:
            watched.append(watch(theta))
    return Run(
        theta,
        np.array([to_host(x) if hasattr(x, "dtype") else x for x in losses]),
        watched,
    )


def fit(
    loss, theta, rng, *, batch, gradient=None, budget=math.inf, watch=None, **options
):
    """Train on minibatches, each sample once an epoch.

    Parameters
    ----------
    loss : callable
        With ``on(rows)`` and a length, such as `trref.problems.networks.ClassifierLoss`.
    theta : array (P,), or (S, P) for several seeds on the same batches
    rng : numpy.random.Generator
        Draws the order of the samples, and whatever `gradient` draws.
    batch : int
    gradient : callable, optional
        ``gradient(loss on the batch, theta, rng) -> (loss, gradient)``; the plain gradient if not given.
    budget : float
        Training stops when this many gradients of a batch have been computed.
    watch : callable, optional
        As for `train`.
    **options
        Of `train`: ``lr``, ``steps``, ``rule``, ``hyper``, ``schedule``, ``shapes``, ``every``.

    Returns
    -------
    Fit
    """
    counted, rows, counts, gradient = (
        Counted(loss, batch),
        batches(rng, len(loss), batch),
        [],
        gradient or plain,
    )

    def on_batch(theta, rng):
        return gradient(counted.on(xp.asarray(next(rows))), theta, rng)

    def watching(theta):
        counts.append(counted.gradients)
        return watch(theta)

    stop = (lambda: counted.gradients >= budget) if budget < math.inf else None
    return Fit(
        *train(on_batch, theta, rng, watch=watching, stop=stop, **options), counts
    )


def plain(loss, theta, rng):
    """The gradient itself."""
    return loss(theta)


def batches(rng, points, batch):
    """Yield row numbers without end: in each epoch all of them once, in random order; the last batch may be smaller."""
    while True:
        order = rng.permutation(points)
        yield from (order[start : start + batch] for start in range(0, points, batch))


class Counted:
    """A loss that counts what is asked of it, in gradients of a batch: a Hessian product as two of them.

    Losses on some of its rows, or at other inputs, count into the same account, by their share of a batch.

    Parameters
    ----------
    loss : callable with a length
    batch : int
    """

    def __init__(self, loss, batch, account=None):
        self._loss, self._batch, self._account = (
            loss,
            batch,
            account if account is not None else [0.0],
        )

    @property
    def gradients(self):
        """Gradients of a batch so far."""
        return self._account[0]

    def _pay(self, gradients):
        self._account[0] += gradients * len(self._loss) / self._batch

    def __call__(self, theta):
        self._pay(1)
        return self._loss(theta)

    def hessian_product(self, theta, v):
        """Multiply the Hessian by a vector, for the price of two gradients."""
        self._pay(2)
        return self._loss.hessian_product(theta, v)

    def each(self, theta):
        """Return each sample's loss and gradient, for the price of one gradient."""
        self._pay(1)
        return self._loss.each(theta)

    def on(self, rows):
        """Return the loss on some rows."""
        return Counted(self._loss.on(rows), self._batch, self._account)

    def at(self, X):
        """Return the loss at other inputs."""
        return Counted(self._loss.at(X), self._batch, self._account)

    def __len__(self):
        return len(self._loss)

    def __getattr__(self, name):
        return getattr(self._loss, name)
