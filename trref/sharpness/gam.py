r"""Gradient norm aware minimisation (GAM): the steepest slope nearby, not the highest loss.

Two minima may rise equally far within a ball and yet be unlike: one smooth, one rippled. *First-order flatness* is the
largest slope in the ball, times its radius,

.. math::
    :label: gam-flatness

    R_\rho(\theta) = \rho \max_{\|\delta\|_2 \le \rho} \|\nabla L(\theta + \delta)\|_2.

No rise within the ball is larger; at the minimum of a quadratic it is :math:`\rho^2 \lambda_{max}`, twice the rise.
The norm of the gradient has itself a gradient, 0 where :math:`\nabla L = 0`,

.. math::
    :label: gam-norm-gradient

    f(\theta) = \nabla \|\nabla L(\theta)\| = \nabla^2 L(\theta)\, \frac{\nabla L(\theta)}{\|\nabla L(\theta)\|},

along which one step leads to a steep point,

.. math::
    :label: gam-displacement

    \delta(\theta) = \rho\, \frac{f(\theta)}{\|f(\theta)\|}, \qquad \delta = 0 \text{ where } f = 0.

GAM follows the loss and the slope there, with :math:`\delta` held constant:

.. math::
    :label: gam-gradient

    h = \nabla L(\theta) + \alpha \rho\, f(\theta + \delta).

**Without Hessian products** four gradients do. With :math:`u(v) = v / \|v\|`, and :math:`g_i` the gradient at
:math:`\theta + e_i`,

.. math::
    :label: gam-displacements

    e_0 = 0, \quad e_1 = \rho' u(g_0), \quad e_2 = \rho\, u(g_1 - g_0), \quad e_3 = e_2 + \rho' u(g_2),

.. math::
    :label: gam-accelerated

    h_+ = \alpha g_1 + (1 - \alpha) g_3, \qquad h_- = \beta g_0 + (1 - \beta) g_2, \qquad
    h = h_+ - \gamma\, (h_- - c\, h_+), \qquad c = \frac{\langle h_-, h_+ \rangle}{\|h_+\|^2}:

descend along the gradients after ascent, and *ascend* along the part of those before it that is orthogonal to them.
That is the gradient of a combination of four losses, with the displacements and c held constant.

=====================  ================
:math:`\rho'`          `inner_rho`
:math:`\delta`         `displacement`
:math:`e_1, e_2, e_3`  `displacements`
:math:`c`              `overlap`
=====================  ================

**Where implementations differ.** The authors' code forgets :math:`\beta` on :math:`g_0`: its :math:`h_-` is
:math:`g_0 + (1 - \beta) g_2`. Public code adds 1e-12 to the norms; here a zero gradient gives no displacement.

**Provenance.** The accelerated algorithm and its defaults are confirmed in the authors' repository (xxgege/GAM, with an
image of the paper's Algorithm 2), the update with Hessian products by a public write-up; the definition of flatness is
from memory, and checked. The default of :math:`\alpha` in the update with Hessian products is ours.

Zhang, Xu, Yu, Zou and Cui, *Gradient Norm Aware Minimization Seeks First-Order Flatness and Improves Generalization*,
2023, arXiv:2303.03108.
"""

from collections.abc import Callable

from trref import validate
from trref.backend import xp
from trref.problems.protocols import CurvedLoss
from trref.sharpness.terms import direction, length
from trref.signature import (
    Fraction,
    K,
    NonNegativeFloat,
    P,
    Real,
    Scalar,
    checked,
)


@checked
def gradient_norm(loss_and_grad: CurvedLoss, theta: Real[P]) -> tuple[Scalar, Real[P]]:
    """The slope, and its gradient.

    Parameters
    ----------
    loss_and_grad
        With ``hessian_product(theta, v)``, such as `trref.problems.networks.ClassifierLoss`.
    """
    _, g = validate.loss_and_grad(loss_and_grad, theta, finite=True)
    # eq. gam-norm-gradient
    return length(g), loss_and_grad.hessian_product(theta, direction(g))


@checked
def steep_displacement(
    loss_and_grad: CurvedLoss, theta: Real[P], *, rho: NonNegativeFloat = 0.2
) -> Real[P]:
    """A step of the length of the radius along which the slope rises."""
    _, f = gradient_norm.unchecked(loss_and_grad, theta)
    return rho * direction(f)  # eq. gam-displacement


@checked
def gam(
    loss_and_grad: CurvedLoss,
    theta: Real[P],
    *,
    rho: NonNegativeFloat = 0.2,
    alpha: NonNegativeFloat = 0.5,
    displacement: Real[P] | None = None,
) -> tuple[Scalar, Real[P]]:
    """Loss and first-order flatness.

    Parameters
    ----------
    alpha
        Weight of the flatness.
    displacement
        Held constant by the gradient; the `steep_displacement` if None.
    """
    if displacement is None:
        displacement = steep_displacement.unchecked(loss_and_grad, theta, rho=rho)
    loss, g = validate.loss_and_grad(loss_and_grad, theta, finite=True)
    slope, f = gradient_norm.unchecked(loss_and_grad, theta + displacement)
    # eq. gam-flatness, gam-gradient
    return loss + alpha * rho * slope, g + alpha * rho * f


@checked
def four_displacements(
    loss_and_grad: Callable,
    theta: Real[P],
    *,
    rho: NonNegativeFloat = 0.2,
    inner_rho: NonNegativeFloat = 0.02,
) -> Real[K, P]:
    """Where the accelerated method takes its gradients beside theta itself: three rows.

    Parameters
    ----------
    inner_rho
        Radius of SAM's steps, to the ends of the differences of gradients.
    """
    return xp.stack(_four(loss_and_grad, theta, rho, inner_rho)[0])


def _four(loss_and_grad, theta, rho, inner_rho):
    """The three displacements, and losses and gradients at all four points."""
    # eq. gam-displacements
    here = _at(loss_and_grad, theta, 0)
    e1 = inner_rho * direction(here[1])
    beside = _at(loss_and_grad, theta, e1)
    e2 = rho * direction(beside[1] - here[1])
    steep = _at(loss_and_grad, theta, e2)
    e3 = e2 + inner_rho * direction(steep[1])
    return (e1, e2, e3), (here, beside, steep, _at(loss_and_grad, theta, e3))


def _at(loss_and_grad, theta, moved):
    return validate.loss_and_grad(loss_and_grad, theta + moved, finite=True)


def _pairs(four, alpha, beta):
    """Losses and gradients after SAM's steps, and before."""
    ahead, behind = [], []
    for x0, x1, x2, x3 in zip(*four, strict=True):
        ahead.append(alpha * x1 + (1 - alpha) * x3)
        behind.append(beta * x0 + (1 - beta) * x2)
    return ahead, behind


@checked
def gradient_overlap(
    loss_and_grad: Callable,
    theta: Real[P],
    *,
    rho: NonNegativeFloat = 0.2,
    inner_rho: NonNegativeFloat = 0.02,
    alpha: Fraction = 0.6,
    beta: Fraction = 0.5,
) -> Scalar:
    """How much of the gradient after SAM's steps is contained in the one before them.

    Parameters
    ----------
    alpha
        Share of SAM's gradient at theta, among those after SAM's steps.
    beta
        Share of the gradient at theta itself, among those before SAM's steps.
    """
    four = _four(loss_and_grad, theta, rho, inner_rho)[1]
    ahead, behind = _pairs(four, alpha, beta)
    return _overlap(ahead[1], behind[1])


def _overlap(ahead, behind):
    size = length(ahead)
    share = (behind * direction(ahead)).sum() / xp.where(size > 0, size, 1)
    return xp.asarray(share)


@checked
def gam_accelerated(
    loss_and_grad: Callable,
    theta: Real[P],
    *,
    rho: NonNegativeFloat = 0.2,
    inner_rho: NonNegativeFloat = 0.02,
    alpha: Fraction = 0.6,
    beta: Fraction = 0.5,
    gamma: NonNegativeFloat = 0.03,
    displacements: Real[K, P] | None = None,
    overlap: Scalar | None = None,
) -> tuple[Scalar, Real[P]]:
    """GAM by four gradients.

    Parameters
    ----------
    gamma
        How much is ascended.
    displacements
        Held constant by the gradient; the `four_displacements` if None.
    overlap
        Held constant by the gradient; the `gradient_overlap` if None.
    """
    if displacements is None:
        four = _four(loss_and_grad, theta, rho, inner_rho)[1]
    elif len(displacements) == 3:
        four = [_at(loss_and_grad, theta, e) for e in (0, *displacements)]
    else:
        raise ValueError(f"displacements must have 3 rows, not {len(displacements)}")
    ahead, behind = _pairs(four, alpha, beta)
    if overlap is None:
        overlap = _overlap(ahead[1], behind[1])
    # eq. gam-accelerated
    loss, h = (
        a - gamma * (b - overlap * a) for a, b in zip(ahead, behind, strict=True)
    )
    return loss, h
