r"""Federated stochastic gradient Langevin dynamics (FSGLD): long stays on a shard that do not lead astray.

The data lie in S shards that are unlike each other, :math:`N_s` samples in each. A chain that is to draw from the
posterior of all of them visits shard s with probability :math:`f_s` and moves by a batch B of m of its samples,

.. math::
    :label: fsgld-step

    \theta \leftarrow \theta + \frac h2\, v + \sqrt h\, \xi, \qquad \xi \sim N(0, I),

.. math::
    :label: fsgld-drift

    v_s = \nabla \log p(\theta) + \frac{N_s}{f_s m} \sum_{i \in B} \nabla \log p(x_i \mid \theta),

which on average over batches and shards is the gradient of the log posterior (DSGLD). But to move from shard to shard
is expensive, and if the chain stays on one for long it draws from another distribution, of that shard alone and far
too sure of itself:

.. math::
    :label: fsgld-local-target

    p(\theta)\, p(D_s \mid \theta)^{1/f_s}

So every shard fits a Gaussian :math:`q_s = N(\mu_s, \Lambda_s^{-1})` to its likelihood, once. Their product is another,

.. math::
    :label: fsgld-surrogate

    \Lambda = \sum_s \Lambda_s, \qquad \mu = \Lambda^{-1} \sum_s \Lambda_s \mu_s,

and the *conducive gradient*

.. math::
    :label: fsgld-conducive

    c_s(\theta) = \nabla \log q(\theta) - \frac1{f_s} \nabla \log q_s(\theta)
    = -\Lambda (\theta - \mu) + \frac1{f_s} \Lambda_s (\theta - \mu_s)

is added to :math:`v_s`. On average over shards it is 0 everywhere, :math:`\sum_s f_s c_s(\theta) = 0`, so nothing else
changes; but an endless stay on one shard now draws from

.. math::
    :label: fsgld-conducive-target

    p(\theta)\, q(\theta)\, \Big( \frac{p(D_s \mid \theta)}{q_s(\theta)} \Big)^{1/f_s},

which is the posterior if :math:`q_s` is the likelihood up to a factor. For this to be a distribution at all,
:math:`q_s` must not be too sure: with Gaussian likelihoods of precision :math:`A_s` the sum of the prior's precision,
:math:`\Lambda` and :math:`(A_s - \Lambda_s) / f_s` must be positive definite.

A Gaussian may be fitted to draws from the shard's own posterior, with mean m and covariance C, if the prior is taken
out again; else it would be counted S times:

.. math::
    :label: fsgld-fit

    \Lambda_s = C^{-1} - \Lambda_0, \qquad \mu_s = \Lambda_s^{-1} C^{-1} m,

for a prior with mean 0 and precision :math:`\Lambda_0`.

The step itself has an error: with the drift :math:`-A(\theta - \mu)`, A symmetric, the chain's stationary covariance is

.. math::
    :label: fsgld-stationary

    \Big( A - \frac h4 A^2 \Big)^{-1}

in the place of :math:`A^{-1}`, and for :math:`h \lambda_{\max}(A) \ge 4` there is none. With one shard the conducive
gradient is 0; with equal shards, too, if their probabilities are equal.

=====================  ===================================
:math:`h`              `lr`
:math:`f_s`            `shares`, or `share` for one shard
=====================  ===================================

**Where implementations differ.** The authors' notebook draws its random numbers from the number of the step, so that
shards and batches are tied to the noise. A shard's own posterior in the place of its likelihood counts the prior S
times.

**Provenance.** Steps, drifts and surrogates are confirmed in the authors' notebook for equal probabilities; the general
form is from memory and agrees with it; targets of long stays and the stationary covariance are derived and checked
here.

El Mekkaoui, Mesquita, Blomstedt and Kaski, *Federated Stochastic Gradient Langevin Dynamics*, 2020, arXiv:2004.11231.
"""

import math
from typing import NamedTuple

from trref import validate
from trref.backend import xp
from trref.signature import (
    M,
    N,
    P,
    PositiveFloat,
    PositiveInt,
    Real,
    S,
    Simplex,
    checked,
)


class Gaussian(NamedTuple):
    """A distribution by its mean and precision."""

    mean: Real[P]
    precision: Real[P, P]


class Gaussians(NamedTuple):
    """One of them a shard."""

    means: Real[S, P]
    precisions: Real[S, P, P]


@checked
def langevin_step(
    theta: Real[P], drift: Real[P], noise: Real[P], *, lr: PositiveFloat
) -> Real[P]:
    """One step of a chain.

    Parameters
    ----------
    drift
        An estimate of the gradient of the log posterior.
    noise
        Standard normal.
    """
    return theta + lr / 2 * drift + math.sqrt(lr) * noise  # eq. fsgld-step


@checked
def shard_drift(
    prior_gradient: Real[P],
    gradients: Real[M, P],
    *,
    count: PositiveInt,
    share: PositiveFloat,
) -> Real[P]:
    """The estimate by a batch of one shard.

    Parameters
    ----------
    prior_gradient
        Of the log prior.
    gradients
        Of the log likelihood of each sample of the batch.
    count
        Samples of the shard.
    share
        Probability with which the shard is visited.
    """
    return prior_gradient + count / share * gradients.mean(0)  # eq. fsgld-drift


def _visited(shares, **_):
    """A shard that is never visited."""
    return [(lambda: shares.min() > 0, "shares must be positive")]


def _visited_and_a_distribution(means, precisions, shares, **_):
    """A shard that is never visited, or precisions as for `global_surrogate`."""
    return [*_visited(shares), *_a_distribution(means, precisions)]


def _moderate(x):
    """The numbers without those that are refused in any case, and might overflow before."""
    return xp.where(abs(x) <= validate.LARGEST[x.dtype.itemsize], x, 0)


def _a_distribution(means, precisions, **_):
    """Precisions that are not symmetric, or do not sum to a positive definite one."""
    known = _moderate(precisions)
    turned = xp.swapaxes(known, 1, 2)
    return [
        (
            lambda: abs(known - turned).max() <= 1e-6 * abs(known).max(),
            "precisions must be symmetric",
        ),
        (
            lambda: xp.linalg.eigvalsh((known + turned).sum(0)).min() > 0,
            "precisions must sum to a positive definite matrix",
        ),
    ]


@checked(also=_a_distribution)
def global_surrogate(means: Real[S, P], precisions: Real[S, P, P]) -> Gaussian:
    """The product of the shards' surrogates.

    Parameters
    ----------
    means, precisions
        Of the Gaussian that each shard fitted to its likelihood.
    """
    # eq. fsgld-surrogate
    total = precisions.sum(0)
    return Gaussian(xp.linalg.solve(total, _times(precisions, means).sum(0)), total)


def _times(matrices, vectors):
    return (matrices @ vectors[..., None])[..., 0]


@checked(also=_visited_and_a_distribution)
def conducive_gradients(
    theta: Real[P], means: Real[S, P], precisions: Real[S, P, P], shares: Simplex[S]
) -> Real[S, P]:
    """What each shard adds to its drift.

    Parameters
    ----------
    shares
        Probability with which each shard is visited; none is 0.
    """
    mean, total = global_surrogate.unchecked(means, precisions)
    local = _times(precisions, theta - means)
    return local / shares[:, None] - total @ (theta - mean)  # eq. fsgld-conducive


def _draws_that_differ(draws, **_):
    """Draws that span less than their space."""
    if len(draws) <= draws.shape[1]:
        raise ValueError(
            f"draws must be more than their dimension {draws.shape[1]}, not {len(draws)}"
        )
    spread = _covariance(_moderate(draws))
    return [
        (
            lambda: xp.linalg.eigvalsh(spread)[0] > 1e-12 * xp.trace(spread),
            "draws must differ in every direction",
        )
    ]


def _covariance(draws):
    centred = draws - draws.mean(0)
    return centred.T @ centred / (len(draws) - 1)


def _a_surrogate(draws, prior_precision, **_):
    """Draws that span less than their space, or say in some direction what the prior says."""
    rules = _draws_that_differ(draws)
    beside = _covariance(_moderate(draws)) @ _moderate(prior_precision)
    left = xp.eye(len(beside), dtype=beside.dtype) - beside  # of one, what is not prior

    def regular():
        least = xp.linalg.svd(left, compute_uv=False).min()
        return least > 1e-12 * (1 + abs(beside).max())

    return [*rules, (regular, "prior_precision must differ from that of the draws")]


@checked(also=_a_surrogate)
def fit_surrogate(draws: Real[N, P], prior_precision: Real[P, P]) -> Gaussian:
    """A Gaussian for a shard's likelihood, from draws of its own posterior.

    Parameters
    ----------
    draws
        One a row; more than their dimension.
    prior_precision
        Of a prior with mean 0.
    """
    # eq. fsgld-fit
    inverse = xp.linalg.inv(_covariance(draws))
    precision = inverse - prior_precision
    return Gaussian(xp.linalg.solve(precision, inverse @ draws.mean(0)), precision)


def _definite_targets(base, excess, shares):
    """Whether each shard's target is a distribution; a share of 0 has a rule of its own."""
    precisions = base + excess / xp.where(shares > 0, shares, 1)[:, None, None]
    turned = xp.swapaxes(precisions, -1, -2)
    return xp.linalg.eigvalsh((precisions + turned) / 2).min() > 0


def _proper(likelihood_precisions, prior_precision, shares, **_):
    """A shard that is never visited, or whose target is no distribution."""
    known, prior = _moderate(likelihood_precisions), _moderate(prior_precision)
    return [
        *_visited(shares),
        (
            lambda: _definite_targets(prior, known, shares),
            "likelihood_precisions must give positive definite targets",
        ),
    ]


@checked(also=_proper)
def local_targets(
    likelihood_means: Real[S, P],
    likelihood_precisions: Real[S, P, P],
    prior_precision: Real[P, P],
    shares: Simplex[S],
) -> Gaussians:
    """What endless stays draw from without conducive gradients, for Gaussian likelihoods.

    Parameters
    ----------
    likelihood_means, likelihood_precisions
        Of each shard's likelihood, as a function of theta.
    """
    scale = 1 / shares[:, None]
    # eq. fsgld-local-target
    precisions = prior_precision + scale[..., None] * likelihood_precisions
    pull = scale * _times(likelihood_precisions, likelihood_means)
    return Gaussians(_solved(precisions, pull), precisions)


def _solved(matrices, vectors):
    return xp.linalg.solve(matrices, vectors[..., None])[..., 0]


def _proper_with_surrogates(
    likelihood_precisions, means, precisions, prior_precision, shares, **_
):
    """As for `conducive_gradients`, or a shard whose target is no distribution."""
    known = _moderate(precisions)
    whole = known.sum(0) + _moderate(prior_precision)
    excess = _moderate(likelihood_precisions) - known
    return [
        *_visited_and_a_distribution(means, precisions, shares),
        (
            lambda: _definite_targets(whole, excess, shares),
            "likelihood_precisions must give positive definite targets",
        ),
    ]


@checked(also=_proper_with_surrogates)
def conducive_targets(
    likelihood_means: Real[S, P],
    likelihood_precisions: Real[S, P, P],
    means: Real[S, P],
    precisions: Real[S, P, P],
    prior_precision: Real[P, P],
    shares: Simplex[S],
) -> Gaussians:
    """What endless stays draw from with conducive gradients."""
    q = global_surrogate.unchecked(means, precisions)
    scale = 1 / shares[:, None]
    # eq. fsgld-conducive-target
    excess = scale[..., None] * (likelihood_precisions - precisions)
    targets = prior_precision + q.precision + excess
    left = _times(likelihood_precisions, likelihood_means) - _times(precisions, means)
    return Gaussians(_solved(targets, q.precision @ q.mean + scale * left), targets)


def _stable(precision, *, lr, **_):
    """A precision that is not symmetric, or so large that the chain runs away."""
    known = _moderate(precision)
    return [
        (
            lambda: abs(known - known.T).max() <= 1e-6 * abs(known).max(),
            "precision must be symmetric",
        ),
        (
            lambda: _within(xp.linalg.eigvalsh(known + known.T) / 2, 4 / lr),
            "precision must be positive definite, its eigenvalues below 4/lr",
        ),
    ]


def _within(values, most):
    return (values[0] > 0) & (values[-1] < most)


@checked(also=_stable)
def stationary_covariance(precision: Real[P, P], *, lr: PositiveFloat) -> Real[P, P]:
    """The covariance of a chain for a Gaussian, with the error of its steps.

    Parameters
    ----------
    precision
        Of the Gaussian.
    """
    # eq. fsgld-stationary
    return xp.linalg.inv(precision - lr / 4 * (precision @ precision))
