r"""Fish: gradients of several domains that point the same way.

A step that lowers the loss of one domain also lowers that of another if their gradients :math:`G_i = \nabla L_i` have a
positive inner product. *Inter-domain gradient matching* asks for that beside a small mean loss of the S domains,

.. math::
    :label: fish-objective

    L_{idgm}(\theta) = \frac1S \sum_{i=1}^S L_i(\theta) - \gamma\, \hat G(\theta), \qquad
    \hat G = \frac{2}{S(S-1)} \sum_{i<j} G_i \cdot G_j,

whose gradient needs the Hessians :math:`H_i` of all losses:

.. math::
    :label: fish-objective-gradient

    \nabla L_{idgm} = \frac1S \sum_i G_i - \frac{2\gamma}{S(S-1)} \sum_i H_i \Big(\sum_{j \ne i} G_j\Big)

Fish does without. On a copy it takes one step of gradient descent for each domain :math:`s_t`, in an order that is
drawn anew each time,

.. math::
    :label: fish-inner

    \theta_0 = \theta, \qquad \theta_t = \theta_{t-1} - \alpha\, \nabla L_{s_t}(\theta_{t-1}), \quad t = 1, \dots, T,

and moves a share of the way to where that ends:

.. math::
    :label: fish-step

    \theta \leftarrow \theta + \epsilon\, (\theta_T - \theta)

Over all orders of the S domains the mean of :math:`\theta_T - \theta` is
:math:`-\alpha \sum_i G_i + \frac{\alpha^2}{2} \nabla \sum_{i<j} G_i \cdot G_j + O(\alpha^3)`: descent on the losses and
ascent on the inner products, whose weight grows with :math:`\alpha`. In a single order the second term is another one,
so an order that stays the same does something else. With one domain, or with identical ones, Fish is gradient descent.

The objective has no lower bound: gradients that are long and alike are most easily had where all domains are wrong, so
:math:`\gamma` must be small. With one domain there are no pairs, and :math:`\hat G = 0`.

=====================  ===================================
:math:`L_i, G_i`       by `losses_and_grads`
:math:`S`              the length of `losses_and_grads`
:math:`s_t`            `order`
:math:`\alpha`         `lr`
:math:`\epsilon`       `meta`
=====================  ===================================

**Where implementations differ.** The authors' code divides :math:`\epsilon` by the number of inner steps. DomainBed
goes through the domains in their own order, the same in every step.

**Provenance.** The inner steps and the move are confirmed in the authors' repository, the objective in its text up to
the factor of the mean over pairs; the gradient and the expansion are derived and checked here.

Shi, Seely, Torr, Siddharth, Hannun, Usunier and Synnaeve, *Gradient Matching for Domain Generalization*, 2021,
arXiv:2104.09937.
"""

from trref.backend import xp
from trref.domains.terms import domain_gradients, domains_there_are
from trref.problems.protocols import DomainLosses
from trref.signature import (
    T1,
    Index,
    NonNegativeFloat,
    P,
    PositiveFloat,
    Real,
    Scalar,
    T,
    checked,
)


@checked
def idgm_objective(
    losses_and_grads: DomainLosses, theta: Real[P], *, gamma: NonNegativeFloat
) -> tuple[Scalar, Real[P]]:
    """The mean loss, less a multiple of the mean inner product of two domains' gradients.

    Parameters
    ----------
    losses_and_grads
        ``losses_and_grads(theta) -> (losses (S,), gradients (S, P))``, one a domain, such as
        `trref.problems.domains.DomainLosses`.
    gamma
        Weight of the inner product.
    """
    losses, G = domain_gradients(losses_and_grads, theta)
    pairs = max(len(G) * (len(G) - 1), 1)  # in both orders; one domain has none
    others = G.sum(0) - G
    value = losses.mean() - gamma * (G * others).sum() / pairs  # eq. fish-objective
    # eq. fish-objective-gradient
    bent = losses_and_grads.hessian_products(theta, others).sum(0)
    return value, G.mean(0) - 2 * gamma * bent / pairs


@checked(also=domains_there_are)
def inner_trajectory(
    losses_and_grads: DomainLosses,
    theta: Real[P],
    order: Index[T],
    *,
    lr: PositiveFloat,
) -> Real[T1, P]:
    """All points of gradient descent on one domain after the other, the start first.

    Parameters
    ----------
    order
        The domain of each of T steps: a permutation, drawn anew for each trajectory.
    """
    # eq. fish-inner
    points = [theta]
    for t in range(len(order)):
        _, G = domain_gradients(losses_and_grads, points[-1])
        points.append(points[-1] - lr * xp.take(G, order[t], axis=0))

    return xp.stack(points)


@checked(also=domains_there_are)
def fish_step(
    losses_and_grads: DomainLosses,
    theta: Real[P],
    order: Index[T],
    *,
    lr: PositiveFloat,
    meta: PositiveFloat = 0.5,
) -> Real[P]:
    """The parameters, moved a share of the way to the end of such a trajectory.

    Parameters
    ----------
    meta
        The share; 0.5 in DomainBed.
    """
    end = inner_trajectory.unchecked(losses_and_grads, theta, order, lr=lr)[-1]
    return theta + meta * (end - theta)  # eq. fish-step
