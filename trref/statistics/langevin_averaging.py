r"""Averages of Langevin dynamics: noise that forgets where it is, and a mean that remembers where it was pushed.

A direction is hidden in a loss L on the unit sphere in d dimensions, and from a random start its gradient hardly shows
it. Brownian motion on the sphere with a weak drift :math:`b = -\nabla L`,

.. math::
    :label: langevin-averaging-sde

    d\theta = \Big( -\frac{d - 1}2\, \theta + \epsilon P_\theta\, b(\theta) \Big) dt + P_\theta\, dW, \qquad P_\theta =
    I - \theta \theta^\top

never gets there either. In steps of length :math:`\Delta`, with normal noise :math:`\xi`,

.. math::
    :label: langevin-averaging-step

    v = P_\theta \big( \epsilon\, \Delta\, b(\theta) + \sqrt\Delta\, \xi \big), \qquad \theta \leftarrow
    \frac{\theta + v}{\|\theta + v\|},

where the division is the pull :math:`-\frac{d-1}2 \theta`. But the *averages* over the path

.. math::
    :label: langevin-averaging-means

    \hat\theta = \frac1n \sum_k \theta_k, \qquad \hat M = \frac1n \sum_k \theta_k \theta_k^\top

have expectations that are linear in the drift, with its mean over the uniform law of z on the sphere,

.. math::
    :label: langevin-averaging-first

    E\, \hat\theta \approx \frac{2 \epsilon}{d - 1}\, E_z[P_z b(z)]

.. math::
    :label: langevin-averaging-second

    E\, \hat M \approx \frac I d + \frac\epsilon d\, E_z\big[ z\, (P_z b)^\top + P_z b\, z^\top \big]

and their noise falls with time. The direction is

.. math::
    :label: langevin-averaging-direction

    \frac{\hat\theta}{\|\hat\theta\|} \quad\text{or}\quad \text{the top eigenvector of } \hat M,

the first where the loss is odd in the direction, the second where it is even (and the mean is 0). A step of finite
length forgets by :math:`\rho = E\, (1 + \Delta\, \chi^2_{d-1})^{-1/2}` in the place of :math:`e^{-(d-1)\Delta/2}`,
and multiplies :eq:`langevin-averaging-first` by about :math:`\rho\, \Delta\, (d - 1) / (2 - 2 \rho)`. Without a drift,
from a uniform start, :math:`E\, \|\hat\theta\|^2` over the time T is :math:`\frac2{aT} \big( 1 - \frac{1 -
e^{-aT}}{aT} \big)` with :math:`a = \frac{d-1}2`.

What is found is what smoothing the loss over the whole sphere would give. For a symmetric tensor T of third order,
:math:`L = -\langle T, \theta^{\otimes 3} \rangle`, that is its partial trace,

.. math::
    :label: langevin-averaging-tensor

    E_z[P_z b] = \frac3d \Big( 1 - \frac3{d + 2} \Big)\, \tau, \qquad \tau_i = \sum_j T_{ijj},

for one index, :math:`L = -\frac1n \sum_i y_i\, h(\theta^\top x_i)`, with the normalised Hermite polynomials of degree 3
and 4

.. math::
    :label: langevin-averaging-third

    E_z[b] = \frac1n \sum_i y_i\, \frac3{\sqrt6} \Big( \frac{\|x_i\|^2}d - 1 \Big)\, x_i

.. math::
    :label: langevin-averaging-fourth

    E_z[z\, b^\top] = \frac1n \sum_i \frac{y_i}{\sqrt{24}} \Big( \frac{12\, \|x_i\|^2}{d (d + 2)} - \frac{12}d \Big)\,
    x_i x_i^\top

(there before the projection). The sign of an eigenvector means nothing; its entry that is largest in size is positive
here.

==================  ==================
:math:`\epsilon`    ``drift_weight``
:math:`\Delta`      ``step_size``
:math:`n`           ``steps``
==================  ==================

**Where implementations differ.** At steps of 0.2/d the chain forgets at nine tenths of the rate, and its mean is 3 to 7
per cent too long; a drift that is not projected has another mean, by a factor :math:`1 - \frac3{d+2}` for tensors. The
drift's weight has no scale of its own: it multiplies a gradient whose size is a convention.

**Provenance.** Partly: dynamics, averages, their expansion and the parity rule by a detailed public note on the paper;
the constants of the first order, the closed forms and the step of finite length are derived and sampled here.

Wei, Damian and Lee, *Improved high-dimensional estimation with Langevin dynamics and stochastic weight averaging*,
2026, arXiv:2603.06028.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from trref import validate
from trref.backend import linalg, xp
from trref.optimization.terms import length_and_direction
from trref.signature import (
    D,
    N,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Real,
    Rng,
    checked,
)


class Averages(NamedTuple):
    """Over a path: the mean, and the mean of the products of its entries."""

    mean: Real[D]
    second: Real[D, D]


def _some_place(theta, **_):
    """A point that is 0."""
    return [(lambda: (theta != 0).any(), "theta must not be 0")]


@checked(also=_some_place)
def sphere_step(
    theta: Real[D],
    drift: Real[D],
    noise: Real[D],
    *,
    step_size: PositiveFloat = 0.005,
    drift_weight: NonNegativeFloat = 1.0,
) -> Real[D]:
    """One step on the sphere.

    Parameters
    ----------
    theta
        A point on the sphere; of another length, its direction counts.
    drift
        Minus the gradient of the loss there.
    noise
        Standard normal.
    step_size
        Its length in time; at most about 0.2/D.
    drift_weight
        What multiplies the drift.
    """
    theta = length_and_direction(theta)[1]
    push = drift_weight * step_size * drift + math.sqrt(step_size) * noise
    # eq. langevin-averaging-sde, langevin-averaging-step
    moved = theta + push - (theta @ push) * theta
    return moved / linalg.norm(moved)


def _on_the_sphere(start, **_):
    """A start that is 0."""
    return [(lambda: (start != 0).any(), "start must not be 0")]


@checked(also=_on_the_sphere)
def run(
    rng: Rng,
    loss_and_grad: Callable,
    start: Real[D],
    *,
    step_size: PositiveFloat = 0.005,
    drift_weight: NonNegativeFloat = 1.0,
    steps: PositiveInt = 10_000,
) -> Real[N, D]:
    """Points of Langevin dynamics on the sphere, after each step.

    Parameters
    ----------
    loss_and_grad
        Such as `trref.problems.sphere_models.TensorPCA`.
    start
        The first point, or its direction.
    step_size
        Of each step, in time.
    drift_weight
        What multiplies minus the gradient.
    """
    theta = length_and_direction(start)[1]
    how, path = {"step_size": step_size, "drift_weight": drift_weight}, []
    for _ in range(steps):
        drift = -validate.loss_and_grad(loss_and_grad, theta, finite=True)[1]
        noise = xp.asarray(rng.standard_normal(len(theta)), dtype=theta.dtype)
        theta = sphere_step.unchecked(theta, drift, noise, **how)
        path.append(theta)
    return xp.stack(path)


@checked
def averages(path: Real[N, D]) -> Averages:
    """Means over a path.

    Parameters
    ----------
    path
        Its points, one a row.
    """
    # eq. langevin-averaging-means
    return Averages(path.mean(0), path.T @ path / len(path))


def _some_direction(mean, **_):
    """A mean that is 0."""
    return [(lambda: (mean != 0).any(), "mean must not be 0")]


@checked(also=_some_direction)
def average_direction(mean: Real[D]) -> Real[D]:
    """Direction that an odd loss hides.

    Parameters
    ----------
    mean
        Of the path.
    """
    return length_and_direction(mean)[1]  # eq. langevin-averaging-direction


@checked
def top_direction(second: Real[D, D]) -> Real[D]:
    """Direction that an even loss hides, up to its sign.

    Parameters
    ----------
    second
        Means of products of the path's entries.
    """
    # eq. langevin-averaging-direction
    vector = linalg.eigh((second + second.T) / 2)[1][:, -1]
    return vector * xp.sign(vector[abs(vector).argmax()])


def _a_sphere(projected_drift, **_):
    """Fewer than two dimensions."""
    if len(projected_drift) < 2:
        raise ValueError("projected_drift must have at least 2 entries, not 1")
    return []


@checked(also=_a_sphere)
def weak_drift_mean(
    projected_drift: Real[D], *, drift_weight: NonNegativeFloat = 1.0
) -> Real[D]:
    """Expected mean of the path, to first order in the drift.

    Parameters
    ----------
    projected_drift
        Mean over the sphere of the drift, without its part along the point.
    drift_weight
        What multiplies it.
    """
    # eq. langevin-averaging-first
    return 2 * drift_weight / (len(projected_drift) - 1) * projected_drift


@checked
def weak_drift_second(
    outer: Real[D, D], *, drift_weight: NonNegativeFloat = 1.0
) -> Real[D, D]:
    """Expected means of products of the path's entries, to first order in the drift.

    Parameters
    ----------
    outer
        Mean over the sphere of the products of the point's entries, the rows, and the projected drift's.
    drift_weight
        What multiplies it.
    """
    d = len(outer)
    identity = xp.eye(d, dtype=outer.dtype)
    # eq. langevin-averaging-second
    return identity / d + drift_weight / d * (outer + outer.T)


@checked
def tensor_drift(tensor: Real[D, D, D]) -> Real[D]:
    """Mean over the sphere of the projected drift of a symmetric tensor.

    Parameters
    ----------
    tensor
        Symmetric in its three axes.
    """
    d = len(tensor)
    trace = xp.trace(tensor, axis1=1, axis2=2)
    return 3 / d * (1 - 3 / (d + 2)) * trace  # eq. langevin-averaging-tensor


@checked
def third_degree_drift(X: Real[N, D], y: Real[N]) -> Real[D]:
    """Mean over the sphere of the drift of one index, degree 3.

    Parameters
    ----------
    X
        Samples, one a row.
    y
        Their outputs.
    """
    lengths = (X * X).sum(1) / X.shape[1]
    # eq. langevin-averaging-third
    return 3 / math.sqrt(6) * (y * (lengths - 1)) @ X / len(X)


@checked
def fourth_degree_drift(X: Real[N, D], y: Real[N]) -> Real[D, D]:
    """Mean over the sphere of the products of the point's entries and the drift's, one index, degree 4.

    Parameters
    ----------
    X
        Samples, one a row.
    y
        Their outputs.
    """
    d = X.shape[1]
    weight = 12 / math.sqrt(24) * y * ((X * X).sum(1) / (d * (d + 2)) - 1 / d)
    return (X.T * weight) @ X / len(X)  # eq. langevin-averaging-fourth
