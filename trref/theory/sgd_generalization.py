r"""SGD and generalisation: a step helps the training loss more than the test loss by the variance of the gradients.

A loss is a mean over samples z, each with its own gradient :math:`g_z` and Hessian :math:`H_z`; over the whole
population their means are :math:`\bar g` and :math:`\bar H`, and the covariance of the gradients is C. Of n samples,

.. math::
    :label: sgd-generalization-moments

    \bar g \approx \frac1n \sum_i g_i, \qquad \mathrm{tr}\, C \approx \frac1{n-1} \sum_i \|g_i - \bar g\|^2

without bias. A training set of N samples gives a gradient :math:`g_A` that is not independent of the training loss,

.. math::
    :label: sgd-generalization-second-moment

    E\, \|g_A\|^2 = \|\bar g\|^2 + \frac{\mathrm{tr}\, C}N,

so one step :math:`-\eta\, g_A`, or :math:`-\eta\, g_S` of a part S of the training set, lowers the training loss by
that much per :math:`\eta`, and the test loss by :math:`\|\bar g\|^2` only. To first order the gap grows by

.. math::
    :label: sgd-generalization-gap

    E\, \Delta (L_{test} - L_{train}) = \frac{\eta}{N}\, \mathrm{tr}\, C .

The variance changes along the path. Its gradient is

.. math::
    :label: sgd-generalization-trace-gradient

    \nabla\, \mathrm{tr}\, C = 2\, E\big[ (H_z - \bar H)(g_z - \bar g) \big] = 2\, E\big[ H_z (g_z - \bar g) \big]

Gradient descent meets the same fluctuations in each of its T steps; one epoch of SGD, T disjoint batches of N/T samples
at the same :math:`\eta`, meets fresh ones. Expanding both paths to second order, the terms with
:math:`\sum_t g_t = T g_A` are equal and the others leave

.. math::
    :label: sgd-generalization-path

    E[\theta_{SGD} - \theta_{GD}] = -\eta^2\, \frac{T (T-1)}{4 N}\, \nabla\, \mathrm{tr}\, C + O(\eta^3)

.. math::
    :label: sgd-generalization-test-loss

    E[L_{test}(\theta_{SGD})] - E[L_{test}(\theta_{GD})] = -\eta^2\, \frac{T (T-1)}{4 N}\, \bar g^\top \nabla\,
    \mathrm{tr}\, C + O(\eta^3)

SGD is displaced towards smaller variance, and does better on the test set where the variance falls along the descent.
All of it holds for a start that does not depend on the training set: along a run, only for the first step after fresh
data. One sample alone has the variance 0.

====================  =================================
:math:`N`             `train_size`
:math:`T`             `steps`
====================  =================================

**Where implementations differ.** Samples drawn from the training set with replacement are no epoch: in the mean the
path is that of gradient descent, :math:`\sum_t g_t \ne T g_A`, and SGD does worse on the test set, by
:math:`\frac{\eta^2}2 \mathrm{tr}(\bar H\, \mathrm{Cov}(\sum_t g_t))`. At equal epochs
instead of equal numbers of steps the two paths are of different lengths, and nothing here applies.

**Provenance.** The first result is confirmed in words by the abstract; the constants of the second are derived here,
and held by an enumeration of all training sets. The paper has no experiments.

Roberts, *SGD Implicitly Regularizes Generalization Error*, 2021, arXiv:2104.04874.
"""

from typing import NamedTuple

from trref import validate
from trref.problems.protocols import CurvedSamples
from trref.signature import (
    N,
    P,
    PositiveFloat,
    PositiveInt,
    Real,
    Scalar,
    checked,
)


class GradientMoments(NamedTuple):
    """Mean of the gradients, and the trace of their covariance."""

    mean: Real[P]
    trace: Scalar


class PathDifference(NamedTuple):
    """How much more SGD ends at than gradient descent, in the parameters and in the test loss."""

    theta: Real[P]
    test_loss: Scalar


@checked
def gradient_moments(gradients: Real[N, P]) -> GradientMoments:
    """Mean and spread of the gradients of samples.

    Parameters
    ----------
    gradients
        Of each sample, one a row.
    """
    mean = gradients.mean(0)
    moved = gradients - mean
    # eq. sgd-generalization-moments
    return GradientMoments(mean, (moved * moved).sum() / max(len(gradients) - 1, 1))


@checked
def squared_gradient(gradients: Real[N, P], *, train_size: PositiveInt = 32) -> Scalar:
    """Expected squared norm of the gradient of a training set."""
    mean, trace = gradient_moments.unchecked(gradients)
    return mean @ mean + trace / train_size  # eq. sgd-generalization-second-moment


@checked
def gap_growth(
    gradients: Real[N, P], *, lr: PositiveFloat = 0.1, train_size: PositiveInt = 32
) -> Scalar:
    """Expected growth of test loss minus training loss by one step, to first order in the step."""
    # eq. sgd-generalization-gap
    return lr / train_size * gradient_moments.unchecked(gradients).trace


@checked
def trace_gradient(samples: CurvedSamples, theta: Real[P]) -> Real[P]:
    """Gradient of the trace of the gradients' covariance, the samples taken for the whole population.

    Parameters
    ----------
    samples
        A loss that knows each sample's gradient and Hessian, such as `trref.problems.samples.SoftmaxSamples`.
    """
    _, g = validate.each(samples, theta)
    # eq. sgd-generalization-trace-gradient
    products = samples.each_product(theta, g - g.mean(0))
    return 2 * validate.returned("samples.each_product", products, g.shape).mean(0)


@checked
def sgd_minus_gd(
    samples: CurvedSamples,
    theta: Real[P],
    *,
    lr: PositiveFloat = 0.1,
    train_size: PositiveInt = 32,
    steps: PositiveInt = 4,
) -> PathDifference:
    """Expected difference of an epoch of SGD and as many steps of gradient descent, to second order in the step.

    Parameters
    ----------
    steps
        Of either; the batches of SGD have ``train_size / steps`` samples, none twice.
    """
    slope = trace_gradient.unchecked(samples, theta)
    # eq. sgd-generalization-path
    moved = -(lr**2) * steps * (steps - 1) / (4 * train_size) * slope
    _, gradient = validate.loss_and_grad(samples, theta, "samples", finite=True)
    return PathDifference(moved, gradient @ moved)  # eq. sgd-generalization-test-loss
