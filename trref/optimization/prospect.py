r"""Prospect: stochastic gradients for a worst-case mean, without bias and without variance in the end.

The objective of `trref.optimization.spectral_risk` is :math:`\sum_i q_i\, \ell_i(\theta)` with the worst weights
:math:`q(\ell(\theta))`, which depend on all losses. A minibatch has the worst weights of its own losses: a biased
gradient. Prospect remembers instead. For each sample it keeps the loss :math:`\hat\ell_i` and the gradient :math:`g_i`
seen last, and the weight :math:`\rho_i` that it had then; the weights q are those of the losses remembered. A step
looks at one sample i, drawn uniformly:

.. math::
    :label: prospect-direction

    v = n q_i \nabla \ell_i(\theta) - n \rho_i g_i + \bar g, \qquad \bar g = \sum_j \rho_j g_j .

On average over i that is :math:`\sum_i q_i \nabla \ell_i(\theta)`: right but for the losses being those of before. The
parameters move first,

.. math::
    :label: prospect-step

    \theta \leftarrow \theta - \eta\, v,

then the memory:

.. math::
    :label: prospect-tables

    g_i \leftarrow \nabla \ell_i(\theta_{\text{old}}), \quad \rho_i \leftarrow q_i, \quad
    \hat\ell_i \leftarrow \ell_i(\theta_{\text{old}}), \quad q \leftarrow \arg\max_{q \in P(\sigma)}
    q^\top \hat\ell - \nu\, \Omega(q) .

At the solution all that is remembered is true, and v is 0 whatever i: with one step size, convergence is linear.
The l2 penalty :math:`\tfrac\mu2 \|\theta\|^2` is part of each sample's gradient, or is dealt with by a proximal step:

.. math::
    :label: prospect-prox

    \theta \leftarrow \frac{\theta - \eta\, v}{1 + \eta \mu} .

The control is descent on batches, each with a spectrum of its own length:

.. math::
    :label: prospect-minibatch

    \theta \leftarrow \theta - \eta \Big( \sum_{i \in B} q_i(\ell_B(\theta))\, \nabla \ell_i(\theta) + \mu \theta \Big),

where a batch of all samples is gradient descent on the objective. A uniform spectrum makes Prospect SAGA.

====================  ==============
:math:`\eta`          `lr`
:math:`\nu`           `shift_cost`
:math:`\mu`           `l2`
====================  ==============

**Where implementations differ.** The authors' class multiplies the price by n for either penalty, their objective for
the chi-square one only: with the Kullback-Leibler penalty it descends on an objective with n times the price. It
adds up :math:`\bar g` step by step, which drifts by rounding; here it is summed anew.

**Provenance.** Confirmed in the authors' code (ronakdm/prospect, whose penalty is 1 / n), the rate in the
abstract.

Mehta, Roulet, Pillutla and Harchaoui, *Distributionally Robust Optimization with Bias and Variance Reduction*, 2024,
arXiv:2310.13863.
"""

from typing import Literal

from trref import validate
from trref.backend import xp
from trref.optimization.spectral_risk import max_oracle, robust_objective
from trref.problems.protocols import SeparableLoss
from trref.signature import (
    T1,
    B,
    Index,
    N,
    NonNegativeFloat,
    P,
    PositiveFloat,
    Real,
    Simplex,
    T,
    checked,
)


def _there_are(samples, spectrum, order, **_):
    """A spectrum of another length than the samples, or a sample that there is not."""
    if len(spectrum) != len(samples):
        message = f"spectrum must have a weight for each of {len(samples)} samples"
        raise ValueError(f"{message}, not {len(spectrum)}")
    return [validate.labels(order, len(samples), "order")]


@checked(also=_there_are)
def prospect(
    samples: SeparableLoss,
    theta: Real[P],
    spectrum: Simplex[N],
    order: Index[T],
    *,
    lr: PositiveFloat,
    shift_cost: PositiveFloat = 1.0,
    penalty: Literal["chi2", "kl"] = "chi2",
    l2: NonNegativeFloat = 0.0,
    regulariser: Literal["gradient", "prox"] = "gradient",
) -> Real[T1, P]:
    """All points of Prospect, the start first.

    Parameters
    ----------
    samples
        Such as those of `trref.problems.samples`.
    spectrum
        Weights in ascending order, the last one of the largest loss.
    order
        The sample of each step, drawn uniformly.
    shift_cost
        The price of weights that are a divergence of 1 away from equal ones.
    penalty
        The divergence: chi-square or Kullback-Leibler.
    l2
        Weight of half the squared norm of the parameters.
    regulariser
        How that norm is dealt with.
    """
    how = {"shift_cost": shift_cost, "penalty": penalty}
    inside = l2 if regulariser == "gradient" else 0.0
    n, numbers = len(samples), xp.arange(len(samples))
    losses, gradients = validate.each(samples, theta, n)
    gradients = gradients + inside * theta
    q = max_oracle.unchecked(losses, spectrum, **how)
    rho, points = q, [theta]
    for i in order.tolist():
        theta = points[-1]
        loss, gradient = validate.loss_and_grad(
            samples.on(slice(i, i + 1)), theta, "samples", finite=True
        )
        gradient = gradient + inside * theta

        # eq. prospect-direction
        v = n * q[i] * gradient - n * rho[i] * gradients[i] + rho @ gradients

        # eq. prospect-step
        theta = theta - lr * v

        if regulariser == "prox":
            theta = theta / (1 + lr * l2)  # eq. prospect-prox
        points.append(theta)

        # eq. prospect-tables
        here = numbers == i
        gradients = xp.where(here[:, None], gradient, gradients)
        rho = xp.where(here, q, rho)
        losses = xp.where(here, loss, losses)
        q = max_oracle.unchecked(losses, spectrum, **how)
    return xp.stack(points)


def _in_batches(samples, batches, **_):
    """A sample that there is not."""
    return [validate.labels(batches, len(samples), "batches")]


@checked(also=_in_batches)
def minibatch_descent(
    samples: SeparableLoss,
    theta: Real[P],
    spectrum: Simplex[B],
    batches: Index[T, B],
    *,
    lr: PositiveFloat,
    shift_cost: PositiveFloat = 1.0,
    penalty: Literal["chi2", "kl"] = "chi2",
    l2: NonNegativeFloat = 0.0,
) -> Real[T1, P]:
    """All points of descent on the smooth risk of batches.

    Parameters
    ----------
    spectrum
        Weights of the samples of a batch.
    batches
        The samples of each step.
    """
    how = {"shift_cost": shift_cost, "penalty": penalty, "l2": l2}
    points = [theta]
    for batch in batches:
        gradient = robust_objective.unchecked(
            samples.on(batch), points[-1], spectrum, **how
        )[1]
        points.append(points[-1] - lr * gradient)  # eq. prospect-minibatch
    return xp.stack(points)
