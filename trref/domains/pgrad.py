r"""PGrad: the principal components of a trajectory through the domains.

From :math:`\theta_0` the parameters take some steps of gradient descent, each on one of the S domains :math:`s_t`, in
an order that is shuffled anew for each pass through them:

.. math::
    :label: pgrad-trajectory

    \theta_{t} = \theta_{t-1} - \alpha\, \nabla L_{s_t}(\theta_{t-1}), \qquad t = 1, \dots, T

Directions that the trajectory keeps moving along are common to the domains; small ones are a domain's own noise. So
its points are centred and put into their principal components,

.. math::
    :label: pgrad-components

    X = \Theta - \bar\theta, \qquad \frac{1}{d-1} X X^\top u_k = \lambda_k u_k, \qquad
    v_k = \frac{X^\top u_k}{\|X^\top u_k\|}, \qquad \lambda_1 \ge \lambda_2 \ge \dots,

where :math:`\Theta` has the :math:`T + 1` points as rows and d columns. This needs a matrix of the points' size, not of
the parameters'. A component has no sign of its own; it takes that of the way back,

.. math::
    :label: pgrad-displacement

    \delta = \theta_0 - \theta_T, \qquad \sigma_k = 1 \text{ where } v_k \cdot \delta > 0, \text{ else } -1.

The first m of them, weighed by their eigenvalues and as long together as the way, make the *principal gradient*,

.. math::
    :label: pgrad-gradient

    g = \|\delta\| \sum_{k=1}^m w_k \sigma_k v_k, \qquad w = \frac{\lambda_{1:m}}{\|\lambda_{1:m}\|},

which takes the place of a gradient in a step with weight decay:

.. math::
    :label: pgrad-step

    \theta \leftarrow \theta_0 - \gamma\, (g + \mu\, \theta_0)

Always :math:`\|g\| = \|\delta\|` and :math:`g \cdot \delta \ge 0`. If the trajectory is straight, g is
:math:`\delta`, and the step is the one of Fish. With the weights :math:`|v_k \cdot \delta| / \|\delta\|` and all
components it would be :math:`\delta` again, so the eigenvalues are what PGrad changes. On a quadratic loss with Hessian
H, descent has :math:`\theta_t - \theta^* = (I - \alpha H)^t (\theta_0 - \theta^*)`: the principal components then
follow the Hessian's eigenvectors along which the trajectory moves most.

The control of the authors' repository takes every step from :math:`\theta_0` instead, in parallel:

.. math::
    :label: pgrad-parallel

    \theta_{t} = \theta_0 - \alpha\, \nabla L_{s_t}(\theta_0)

Nothing is differentiated through the components. A trajectory of T steps has at most T of them, and at most d; where m
is more, all are taken. One whose eigenvalue is 0 weighs nothing, and where the trajectory does not move g is 0. With
:math:`d = 1` the factor :math:`1/(d-1)`, which cancels in g, is left out.

=====================  ===================================
:math:`\alpha`         `inner_lr`
:math:`\gamma, \mu`    `lr`, `weight_decay`
:math:`m`              `components`
:math:`s_t`            `order`
=====================  ===================================

**Where implementations differ.** The authors' inner steps are those of Adam, whose state is carried over from one
trajectory to the next; here they are gradient descent, so that early steps are the longest.

**Provenance.** All equations are confirmed in the authors' repository (a fork of DomainBed); the statement about
quadratic losses is derived and checked here.

Wang, Grigsby and Qi, *PGrad: Learning Principal Gradients For Domain Generalization*, 2023, arXiv:2305.01134.
"""

from trref.backend import xp
from trref.domains.fish import inner_trajectory
from trref.domains.terms import domain_gradients, domains_there_are
from trref.problems.protocols import DomainLosses
from trref.signature import (
    T1,
    Index,
    NonNegative,
    NonNegativeFloat,
    P,
    PositiveFloat,
    PositiveInt,
    Real,
    T,
    checked,
)


@checked
def spectrum(trajectory: Real[T1, P]) -> NonNegative[T1]:
    """The eigenvalues of a trajectory's components, the largest first; the last is 0.

    Parameters
    ----------
    trajectory
        Points, the start first.
    """
    # eq. pgrad-components
    X = trajectory - trajectory.mean(0)
    values = xp.linalg.eigvalsh(X @ X.T / max(X.shape[1] - 1, 1))
    return xp.maximum(values[::-1], 0)


@checked
def principal_gradient(
    trajectory: Real[T1, P], *, components: PositiveInt = 4
) -> Real[P]:
    """The leading components, weighed and signed, of the length of the whole way.

    Parameters
    ----------
    components
        How many are taken.
    """
    # singular values are the roots of d - 1 times the eigenvalues
    # eq. pgrad-components
    X = trajectory - trajectory.mean(0)
    _, singular, V = xp.linalg.svd(X, full_matrices=False)
    largest = singular[0]
    scaled = singular / xp.where(largest > 0, largest, 1)  # squares do not vanish
    lam, V = (scaled**2)[:components], V[:components]

    delta = trajectory[0] - trajectory[-1]  # eq. pgrad-displacement
    sign = xp.where(V @ delta > 0, 1, -1).astype(V.dtype)  # eq. pgrad-displacement
    # eq. pgrad-gradient
    w = lam / xp.maximum(xp.sqrt((lam * lam).sum()), 1)  # the first is 1, or all are 0
    return xp.sqrt((delta * delta).sum()) * ((w * sign) @ V)


@checked(also=domains_there_are)
def parallel_trajectory(
    losses_and_grads: DomainLosses,
    theta: Real[P],
    order: Index[T],
    *,
    lr: PositiveFloat,
) -> Real[T1, P]:
    """The start, and the ends of single steps from it, one on each domain of the order.

    Parameters
    ----------
    losses_and_grads
        ``losses_and_grads(theta) -> (losses (S,), gradients (S, P))``, one a domain, such as
        `trref.problems.domains.DomainLosses`.
    order
        The domain of each step.
    """
    _, G = domain_gradients(losses_and_grads, theta)
    ends = theta - lr * xp.take(G, order, axis=0)  # eq. pgrad-parallel
    return xp.concatenate([theta[None], ends])


@checked(also=domains_there_are)
def pgrad_step(
    losses_and_grads: DomainLosses,
    theta: Real[P],
    order: Index[T],
    *,
    inner_lr: PositiveFloat,
    lr: PositiveFloat = 0.1,
    weight_decay: NonNegativeFloat = 0.0,
    components: PositiveInt = 4,
) -> Real[P]:
    """A step along the principal gradient of a trajectory through the domains.

    Parameters
    ----------
    order
        The domain of each of T steps: some permutations, one after the other.
    inner_lr
        Step size of the trajectory.
    weight_decay
        Multiple of the parameters that is added to the principal gradient.
    """
    # eq. pgrad-trajectory
    points = inner_trajectory.unchecked(losses_and_grads, theta, order, lr=inner_lr)

    g = principal_gradient.unchecked(points, components=components)
    return theta - lr * (g + weight_decay * theta)  # eq. pgrad-step
