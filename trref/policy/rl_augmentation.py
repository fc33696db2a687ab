r"""Augmentation in reinforcement learning: where transformations enter, what each adds in variance, and tangent prop.

Methods that train on transformed images differ in where the random transformation :math:`f_\mu` enters: in the target,
in the loss, how often, and whether invariance is asked for. Averaged over K transformations the target

.. math::
    :label: rl-augmentation-target

    \bar Y = r + \gamma (1 - d)\, \frac1K \sum_k \min_{i=1,2} \bar Q_i\big( f_{\mu_k}(s'), a'_k \big)

has a variance that falls as 1/K,

.. math::
    :label: rl-augmentation-target-variance

    \mathrm{Var}_\mu(\bar Y) = \frac{\gamma^2}{K}\, \mathrm{Var}_\mu\big[ V(f_\mu(s')) \big],

and the loss of n states, with M transformations each, has

.. math::
    :label: rl-augmentation-loss-variance

    \frac1n \Big( \mathrm{Var}_s\, E_\mu[\ell] + \frac1M\, E_s \mathrm{Var}_\mu[\ell] \Big) .

The critics' loss is

.. math::
    :label: rl-augmentation-critic

    \frac1M \sum_{m} \sum_{i=1,2} \frac1N \sum_n \big( Q_i(f_{\nu_m}(s_n), a_n) - \bar Y_n \big)^2 .

Training on transformed inputs *is* a penalty on variance:

.. math::
    :label: rl-augmentation-implicit

    E_\mu\big( Q(f_\mu(s)) - Y \big)^2 = \big( E_\mu Q(f_\mu(s)) - Y \big)^2 + \mathrm{Var}_\mu\big[ Q(f_\mu(s)) \big],

to first order :math:`\sigma^2 (\nabla_s Q^\top t)^2` for a small transformation along t. Tangent prop asks for it
openly, with the difference t that a small transformation makes:

.. math::
    :label: rl-augmentation-tangent

    L_{tp} = \frac1N \sum_n \big( \nabla_x Q(x_n, a_n)^\top t_n \big)^2

where of two critics the smaller one counts, sample by sample. The actor's two views of a state are held together by

.. math::
    :label: rl-augmentation-actor

    \frac1N \sum_n D_{KL}\big( \mathrm{sg}[\pi(\cdot|f_{\nu_1}(s_n))] \,\|\, \pi(\cdot|f_{\nu_2}(s_n)) \big)
    = \frac1N \sum_n \frac{\| \mu_n^{(1)} - \mu_n^{(2)} \|^2}{2 D \sigma^2}, \qquad
    \frac{\partial}{\partial \mu_n^{(2)}} = \frac{\mu_n^{(2)} - \mu_n^{(1)}}{N D \sigma^2},

with the first view constant, equal deviations, and the mean over the D entries of an action. The actor's loss is this
beside minus the mean of the smaller critic at the first view's actions, tangent prop's a sum over the critics' views of
a state. Both regularisers have the weight 0.1.

=======================  ========================================
:math:`\bar Q_i`         `next_value1`, `next_value2`
:math:`d`                `terminated`
:math:`Q_i`              `q1`, `q2`
:math:`\bar Y`           `target`
:math:`t`                `tangent`
:math:`\mu^{(1)}`        `first_mean`
=======================  ========================================

Where two critics are equal, either may count: the mask decides.

**Where implementations differ.** The authors' code has one augmentation by default, where its divergence of views
needs two; with tangent prop it always takes two fresh ones. DrQ-v2 and RAD are K = M = 1 without regularisers, DrQ
K = M = 2.

**Provenance.** Confirmed by the authors' code: target, critics' loss, tangent prop and the actor's divergence. The
variances and the identity are standard, and were derived here and checked.

Hu, Jiang and Weng, *Revisiting Data Augmentation in Deep Reinforcement Learning*, 2024, arXiv:2402.12181.
"""

from collections.abc import Callable
from typing import NamedTuple

from trref import validate
from trref.backend import xp
from trref.signature import (
    D,
    Decay,
    K,
    M,
    Mask,
    N,
    NonNegative,
    P,
    PositiveFloat,
    Real,
    Scalar,
    checked,
)


class CriticGradient(NamedTuple):
    """Derivatives with respect to the values of both critics."""

    q1: Real[M, N]
    q2: Real[M, N]


class Split(NamedTuple):
    """Squared error of the mean prediction, and variance of the predictions, means over states."""

    squared_error: Scalar
    variance: Scalar


@checked
def averaged_target(
    reward: Real[N],
    next_value1: Real[K, N],
    next_value2: Real[K, N],
    terminated: Mask[N],
    *,
    discount: Decay = 0.99,
) -> Real[N]:
    """Target of both critics, averaged over transformations of the next state.

    Parameters
    ----------
    next_value1, next_value2
        Of the target critics, a row a transformation.
    """
    smaller = xp.minimum(next_value1, next_value2).mean(0)
    # eq. rl-augmentation-target
    return reward + discount * (1 - terminated) * smaller


@checked
def target_variance(
    next_value: Real[K, N], *, discount: Decay = 0.99
) -> NonNegative[N]:
    """Variance of the averaged target of each state, estimated from its K values.

    Parameters
    ----------
    next_value
        Values of the transformed next state, two or more.
    """
    K = len(next_value)
    squares = ((next_value - next_value.mean(0)) ** 2).sum(0)
    # eq. rl-augmentation-target-variance
    return discount**2 * squares / max(K - 1, 1) / K


@checked
def loss_variance(losses: Real[M, N]) -> NonNegative[()]:
    """Variance of the mean loss over states and transformations.

    Parameters
    ----------
    losses
        Of each transformation (row) of each state.
    """
    M, N = losses.shape
    between = ((losses.mean(0) - losses.mean()) ** 2).mean()
    within = ((losses - losses.mean(0)) ** 2).mean()
    return (between + within / M) / N  # eq. rl-augmentation-loss-variance


@checked
def critic_loss(
    q1: Real[M, N], q2: Real[M, N], target: Real[N]
) -> tuple[Scalar, CriticGradient]:
    """Squared errors of two critics, averaged over transformations.

    Parameters
    ----------
    q1, q2
        Values, a row a transformation.
    target
        As of `averaged_target`; a constant.
    """
    miss1, miss2 = q1 - target, q2 - target
    # eq. rl-augmentation-critic
    L = ((miss1**2).sum() + (miss2**2).sum()) / q1.size
    return L, CriticGradient(2 * miss1 / q1.size, 2 * miss2 / q1.size)


@checked
def implicit_regularisation(q: Real[M, N], target: Real[N]) -> Split:
    """The loss on transformed inputs, taken apart.

    Parameters
    ----------
    q
        Predictions, a row a transformation.
    target
        Of each state.
    """
    mean = q.mean(0)
    # eq. rl-augmentation-implicit
    return Split(((mean - target) ** 2).mean(), ((q - mean) ** 2).mean())


@checked
def tangent_prop_loss(
    theta: Real[P],
    critic: Callable,
    x: Real[N, D],
    tangent: Real[N, D],
    counts: Mask[N],
) -> tuple[Scalar, Real[P]]:
    """Mean squared slope of a critic along the tangents of its inputs.

    Parameters
    ----------
    critic
        ``critic(theta, x, tangent) -> (slopes, pull)``, as `trref.problems.tangent_critic.TangentCritic`.
    x
        Transformed observations.
    tangent
        What a small transformation adds to each; a constant.
    counts
        1 where this critic is the smaller of two.
    """
    answer, N = critic(theta, x, tangent), len(x)
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise TypeError(f"critic must return a pair, not {type(answer).__name__}")
    slope = validate.returned("critic", answer[0], (N,), finite=True)
    # eq. rl-augmentation-tangent
    gradient = answer[1](2 * counts * slope / N)
    gradient = validate.returned("critic's pull", gradient, theta.shape, finite=True)
    return (counts * slope**2).sum() / N, gradient


@checked
def actor_divergence(
    mean: Real[N, D], first_mean: Real[N, D], *, std: PositiveFloat = 0.1
) -> tuple[Scalar, Real[N, D]]:
    """Divergence of two views' Gaussian policies of one deviation.

    Parameters
    ----------
    mean
        Of the policy on the second view.
    first_mean
        On the first; a constant.
    std
        Of both.
    """
    away = mean - first_mean
    # eq. rl-augmentation-actor
    return (away**2).sum() / (2 * std**2 * away.size), away / (std**2 * away.size)
