r"""Smooth domain adversarial training (SDAT): flat in the task, not in the game.

Features are to serve a classifier on the source, and to fool a discriminator that tells source from target. A flat
minimum of the *classification* loss makes that game more stable; to flatten the *adversarial* loss as well does harm.
With logits D, positive for the source, of the discriminator :math:`\Phi`,

.. math::
    :label: sdat-domain

    \ell_d(\theta, \Phi) = -\frac1N \sum_{i \in S} \log \sigma(D_i) - \frac1M \sum_{j \in T} \log (1 - \sigma(D_j)),

a sum of two means with the derivatives

.. math::
    :label: sdat-domain-gradient

    \frac{\partial \ell_d}{\partial D_i} = \frac{\sigma(D_i) - 1}{N}, \qquad
    \frac{\partial \ell_d}{\partial D_j} = \frac{\sigma(D_j)}{M}.

No discriminator is better than :math:`\ell_d = 2 \log 2 - 2\, \mathrm{JS}` of the two distributions of features. The
ascent is SAM's, from the loss :math:`R_S` of the task alone, and so it sees neither target nor discriminator:

.. math::
    :label: sdat-perturbation

    \hat\epsilon = \rho\, \frac{\nabla_\theta R_S(\theta)}{\|\nabla_\theta R_S(\theta)\|}, \qquad
    \hat\epsilon = 0 \text{ where } \nabla_\theta R_S(\theta) = 0.

Both players look at the network at :math:`\theta' = \theta + \hat\epsilon`, held constant, and move from
:math:`(\theta, \Phi)`: the discriminator down :math:`\ell_d(\theta', \Phi)`, which is not smoothed in :math:`\Phi`,

.. math::
    :label: sdat-discriminator

    g_\Phi = \nabla_\Phi\, \ell_d(\theta', \Phi),

and the network down

.. math::
    :label: sdat-generator

    g_\theta = \nabla_\theta \bigl[ R_S(\theta') - \lambda\, \ell_d(\theta', \Phi) \bigr].

Two variants show what to flatten. ``adversarial`` ascends :math:`-\lambda \ell_d` and takes the gradient of the task
where it was; ``all`` ascends the sum:

.. math::
    :label: sdat-variants

    \hat\epsilon_{adv} = \rho\, \frac{-\nabla_\theta \lambda \ell_d}{\|\nabla_\theta \lambda \ell_d\|}, \quad
    g_{adv} = \nabla_\theta \bigl[ R_S(\theta) - \lambda\, \ell_d(\theta', \Phi) \bigr]; \qquad
    \hat\epsilon_{all} = \rho\, \frac{\nabla_\theta (R_S - \lambda \ell_d)}{\|\nabla_\theta (R_S - \lambda \ell_d)\|}.

At first the discriminator knows nothing worth fooling. The weight :math:`\lambda` rises from 0 by the reversal
schedule, with :math:`\kappa = 1` in the authors' code and 10 in the work that the schedule comes from:

.. math::
    :label: sdat-reversal

    \lambda(s) = \frac{2}{1 + e^{-\kappa s}} - 1, \qquad s = \text{step} / \text{steps of the rise}.

The **conditional** discriminator reads features and classes together, with the probabilities held constant:

.. math::
    :label: sdat-condition

    (p \otimes f)_{kD + d} = p_k\, f_d .

With :math:`\rho = 0` all of this is plain domain adversarial training, with :math:`\lambda = 0` it is SAM on the
source.

================  ================================
:math:`\Phi`      `phi`
:math:`\lambda`   `domain_weight`
:math:`\kappa`    `steepness`
:math:`f, p`      `features`, `prob`
================  ================================

**Where implementations differ.** The paper's objective has the worst case over the loss of the task alone: there the
domain loss would be taken at :math:`\theta`. The authors' code takes both at :math:`\theta'`, as here. Their library
averages the two means with weights ½, so its :math:`\lambda` is half of this one. It adds 1e-12 to the norm.

**Provenance.** Step, variants and schedule are confirmed in the authors' code (val-iisc/SDAT), the objective by a
public reading note.

Rangwani, Aithal, Mishra, Jain and Babu, *A Closer Look at Smoothness in Domain Adversarial Training*, 2022,
arXiv:2206.08213.
"""

from typing import Literal, NamedTuple

from trref import validate
from trref.backend import special, xp
from trref.problems.protocols import AdversarialDomains
from trref.sharpness.terms import direction
from trref.signature import (
    D,
    E,
    K,
    M,
    N,
    NonNegative,
    NonNegativeFloat,
    P,
    PositiveFloat,
    Q,
    Real,
    Scalar,
    Simplex,
    checked,
)

Smooth = Literal["task", "adversarial", "all"]


class LogitGradient(NamedTuple):
    """Derivatives by the logits of both domains."""

    source_logit: Real[N]
    target_logit: Real[M]


@checked
def domain_loss(
    source_logit: Real[N], target_logit: Real[M]
) -> tuple[Scalar, LogitGradient]:
    """How badly a discriminator tells source from target.

    Parameters
    ----------
    source_logit, target_logit
        What the discriminator says; positive for the source.
    """
    N, M = len(source_logit), len(target_logit)
    zero = xp.zeros_like(source_logit[:1])
    # eq. sdat-domain
    source = xp.logaddexp(zero, -source_logit).sum() / N
    target = xp.logaddexp(zero, target_logit).sum() / M

    # eq. sdat-domain-gradient
    d_source = -special.expit(-source_logit) / N
    d_target = special.expit(target_logit) / M
    return source + target, LogitGradient(d_source, d_target)


def _task(game, theta):
    return validate.loss_and_grad(game.task, theta, "task", finite=True)


def _domain(game, theta, phi):
    by_theta = lambda theta: game.domain(theta, phi)[:2]  # noqa: E731
    return validate.loss_and_grad(by_theta, theta, "domain", finite=True)


@checked
def worst_perturbation(
    game: AdversarialDomains,
    theta: Real[P],
    phi: Real[Q],
    *,
    rho: NonNegativeFloat = 0.05,
    domain_weight: NonNegativeFloat = 1.0,
    smooth: Smooth = "task",
) -> Real[P]:
    """The worst point, to first order, of the loss that is to be flat, relative to theta.

    Parameters
    ----------
    game
        Both losses, such as `trref.problems.domains.DomainAdversarial`.
    theta
        The network: features and classifier, flat.
    phi
        The discriminator, flat.
    rho
        0.02 or 0.05 in the authors' runs.
    domain_weight
        Weight of the domain loss, the reversal's coefficient included.
    smooth
        Which loss is to be flat: SDAT's that of the task.
    """
    # eq. sdat-perturbation, sdat-variants
    slopes = []
    if smooth != "adversarial":
        slopes.append(_task(game, theta)[1])
    if smooth != "task":
        slopes.append(-domain_weight * _domain(game, theta, phi)[1])
    return rho * direction(sum(slopes))


@checked
def generator_objective(
    game: AdversarialDomains,
    theta: Real[P],
    phi: Real[Q],
    *,
    rho: NonNegativeFloat = 0.05,
    domain_weight: NonNegativeFloat = 1.0,
    smooth: Smooth = "task",
    perturbation: Real[P] | None = None,
) -> tuple[Scalar, Real[P]]:
    """What the network descends.

    Parameters
    ----------
    perturbation
        Held constant by the gradient; the `worst_perturbation` if None.

    Returns
    -------
    loss
    gradient
        With respect to `theta`.
    """
    if perturbation is None:
        perturbation = worst_perturbation.unchecked(
            game, theta, phi, rho=rho, domain_weight=domain_weight, smooth=smooth
        )
    moved = theta + perturbation
    # eq. sdat-generator, sdat-variants
    task, g = _task(game, theta if smooth == "adversarial" else moved)
    domain, d = _domain(game, moved, phi)
    return task - domain_weight * domain, g - domain_weight * d


@checked
def discriminator_objective(
    game: AdversarialDomains,
    theta: Real[P],
    phi: Real[Q],
    perturbation: Real[P],
) -> tuple[Scalar, Real[Q]]:
    """What the discriminator descends.

    Parameters
    ----------
    perturbation
        The network's, from `worst_perturbation`; it does not move with phi.

    Returns
    -------
    loss
    gradient
        With respect to `phi`.
    """
    moved = theta + perturbation
    # eq. sdat-discriminator
    by_phi = lambda phi: game.domain(moved, phi)[::2]  # noqa: E731
    return validate.loss_and_grad(by_phi, phi, "domain", finite=True)


@checked
def reversal(progress: NonNegative[N], *, steepness: PositiveFloat = 1.0) -> Real[N]:
    """The weight of the domain loss as training goes on.

    Parameters
    ----------
    progress
        Steps so far, in units of the steps of the rise: 1000 in the authors' code.
    steepness
        1 in the authors' code, 10 in that of others.
    """
    return 2 * special.expit(steepness * progress) - 1  # eq. sdat-reversal


@checked
def condition_features(features: Real[N, D], prob: Simplex[N, K]) -> Real[N, E]:
    """What a conditional discriminator reads: every product of a class's probability with a feature.

    Parameters
    ----------
    features
        Of each sample.
    prob
        The classifier's probabilities, held constant by `condition_features_vjp`.
    """
    (N, D), K = features.shape, prob.shape[1]
    # eq. sdat-condition
    return (prob[:, :, None] * features[:, None, :]).reshape(N, K * D)


@checked
def condition_features_jvp(
    features: Real[N, D], prob: Simplex[N, K], tangent: Real[N, D]
) -> Real[N, E]:
    """Differential of `condition_features` along a tangent of the features, in which it is linear."""
    return condition_features.unchecked(tangent, prob)


@checked
def condition_features_vjp(
    features: Real[N, D], prob: Simplex[N, K], cotangent: Real[N, E]
) -> Real[N, D]:
    """Adjoint of `condition_features_jvp`."""
    pairs = cotangent.reshape(*prob.shape, features.shape[1])
    return (prob[:, :, None] * pairs).sum(1)
