r"""Non-Euclidean trust regions: the step of a fixed length in the norm of your choice.

Each step minimises the linearised objective over a ball whose norm suits the parameters. With the spectral norm of a
matrix that is Muon without the error of its iteration, with the largest entry sign descent, with the Frobenius norm
normalised gradient descent. The minimiser over the unit ball is the linear minimisation oracle

.. math::
    :label: noneuclidean-trust-region-lmo

    \mathrm{lmo}(G) \in \arg\min_{\|D\| \le 1} \langle G, D \rangle, \qquad
    \langle G, \mathrm{lmo}(G) \rangle = -\|G\|_* ,

which goes with the dual norm; where :math:`\mathrm{lmo}` is unique it is minus the gradient of

.. math::
    :label: noneuclidean-trust-region-dual

    \|G\|_* = \max_{\|X\| \le 1} \langle G, X \rangle .

=============  ==========================  ==================================  ===================================
norm           dual                        :math:`\mathrm{lmo}(G)`             the method
=============  ==========================  ==================================  ===================================
Frobenius      Frobenius                   :math:`-G/\|G\|_F`                  normalised gradient descent
max            sum of absolute values      :math:`-\mathrm{sign}\, G`          sign descent
spectral       nuclear                     :math:`-UV^\top` of the SVD         Muon, orthogonalised descent
column         sum of the columns' norms   each column over its norm           normalised columns
=============  ==========================  ==================================  ===================================

Momentum is an average of gradients, taken *before* the step is made of it, so that noise averages out; it begins with
the first gradient:

.. math::
    :label: noneuclidean-trust-region-momentum

    M_{k+1} = (1 - \alpha) M_k + \alpha\, G_k, \qquad M_0 = G_0

.. math::
    :label: noneuclidean-trust-region-step

    X_{k+1} = (1 - \beta) X_k + \eta\, \mathrm{lmo}(M_{k+1}) .

Weight decay :math:`\beta` moves the centre of the ball; with it all iterates stay in :math:`\|X\| \le \eta/\beta` once
there, and the step is one of Frank and Wolfe's on that ball. With a penalty :math:`\frac\lambda2 \|X\|_F^2` beside the
linear term two balls have a closed form:

.. math::
    :label: noneuclidean-trust-region-composite

    \arg\min_{\|X - X_k\| \le \eta} \langle M, X \rangle + \tfrac\lambda2 \|X\|_F^2 =
    \text{the projection of } -M/\lambda \text{ onto the ball (Frobenius, max)} .

The other order, which averages what :math:`\mathrm{lmo}` made of each gradient, follows the mean *direction*, not the
direction of the mean:

.. math::
    :label: noneuclidean-trust-region-first

    O_{k+1} = (1 - \alpha)\, O_k + \alpha\, \mathrm{lmo}(G_k), \qquad X_{k+1} = X_k + \eta\, O_{k+1} .

Zero gradients, and columns and singular values that are zero, do not move. A parameter with one axis is one column; of
more than two axes the first counts rows.

================  ================================
:math:`\eta`      `lr`
:math:`\beta`     `shrink`
:math:`\lambda`   `penalty`
================  ================================

**Where implementations differ.** Muon's average begins at zero. Its first direction is the same, as the scale does not
matter, but the second then gives the first gradient :math:`\alpha` times the weight that it has here.

**Provenance.** Partly: momentum, step, composite step and the order reversed are confirmed by a public write-up with
pictures of the algorithms and by reading notes; decay as a shifted centre by the reviews. The closed forms and the
reading as Frank and Wolfe's method are derived here.

Kovalev, *Understanding Gradient Orthogonalization for Deep Learning via Non-Euclidean Trust-Region Optimization*, 2025,
arXiv:2503.12645.
"""

from typing import Annotated, Literal, NamedTuple

from trref.backend import xp
from trref.optimizers.polar_decomposition import polar_factor
from trref.signature import (
    Arrays,
    Decay,
    M,
    N,
    PositiveFloat,
    Real,
    Scalar,
    checked,
)

Norm = Literal["spectral", "frobenius", "max", "column"]
Share = Annotated[float, "(0, 1]"]


class TrustRegionState(NamedTuple):
    """Whether there was a step, and the average."""

    begun: bool
    m: Arrays


def init(params: Arrays) -> TrustRegionState:
    """Return the state before the first step."""
    return TrustRegionState(False, [xp.zeros_like(p) for p in params])


def _unit(g, sizes):
    return xp.where(sizes > 0, g / xp.where(sizes > 0, sizes, 1), 0)


@checked
def lmo(g: Real[M, N], *, norm: Norm = "spectral") -> Real[M, N]:
    """Minimise ⟨g, D⟩ over the unit ball of a norm.

    Parameters
    ----------
    g
        A gradient, as a matrix.
    norm
        Of the ball: the largest singular value, the Frobenius norm, the largest entry, or the longest column.
    """
    # eq. noneuclidean-trust-region-lmo
    if norm == "spectral":
        return -polar_factor.unchecked(g)
    if norm == "max":
        return -xp.sign(g)
    axis = 0 if norm == "column" else None
    return -_unit(g, xp.sqrt((g * g).sum(axis, keepdims=True)))


@checked
def dual_norm(g: Real[M, N], *, norm: Norm = "spectral") -> tuple[Scalar, Real[M, N]]:
    """The largest ⟨g, X⟩ over the unit ball of a norm.

    Returns
    -------
    norm
    gradient
        Minus the minimiser over the ball; where several are, one of them.
    """
    best = -lmo.unchecked(g, norm=norm)
    return (g * best).sum(), best  # eq. noneuclidean-trust-region-dual


def _oracle(g, norm):
    """`lmo` for an array of any number of axes."""
    rows = g.reshape(len(g), g.size // len(g))
    return lmo.unchecked(rows, norm=norm).reshape(g.shape)


@checked
def update(
    params: Arrays,
    grads: Arrays,
    state: TrustRegionState,
    *,
    lr: PositiveFloat = 0.02,
    alpha: Share = 0.1,
    shrink: Decay = 0.0,
    norm: Norm = "spectral",
) -> tuple[Arrays, TrustRegionState]:
    """Take one step of trust-region descent with momentum.

    Parameters
    ----------
    alpha
        Weight of the new gradient in the average.
    shrink
        Weights are multiplied by one minus this at each step.

    Returns
    -------
    params
    state
    """
    # eq. noneuclidean-trust-region-momentum
    share = alpha if state.begun else 1.0
    m = [(1 - share) * a + share * g for a, g in zip(state.m, grads, strict=True)]

    # eq. noneuclidean-trust-region-step
    params = [
        (1 - shrink) * p + lr * _oracle(a, norm) for p, a in zip(params, m, strict=True)
    ]
    return params, TrustRegionState(True, m)


@checked
def polar_first_update(
    params: Arrays,
    grads: Arrays,
    state: TrustRegionState,
    *,
    lr: PositiveFloat = 0.02,
    alpha: Share = 0.1,
    norm: Norm = "spectral",
) -> tuple[Arrays, TrustRegionState]:
    """Take one step in the other order: the average of what each gradient's step would be.

    Returns
    -------
    params
    state
    """
    # eq. noneuclidean-trust-region-first
    share = alpha if state.begun else 1.0
    m = [
        (1 - share) * a + share * _oracle(g, norm)
        for a, g in zip(state.m, grads, strict=True)
    ]
    params = [p + lr * a for p, a in zip(params, m, strict=True)]
    return params, TrustRegionState(True, m)


@checked
def composite_step(
    x: Real[M, N],
    m: Real[M, N],
    *,
    lr: PositiveFloat = 0.02,
    penalty: PositiveFloat = 0.1,
    norm: Literal["frobenius", "max"] = "frobenius",
) -> Real[M, N]:
    """Minimise ⟨m, X⟩ + penalty/2 ‖X‖² over the ball around x.

    Parameters
    ----------
    x
        The parameters.
    m
        The average of the gradients.
    lr
        Radius of the ball.
    penalty
        Weight of the squared norm, halved.
    norm
        Of the ball.
    """
    # eq. noneuclidean-trust-region-composite
    wanted = -m / penalty - x
    if norm == "max":
        return x + xp.clip(wanted, -lr, lr)
    length = xp.sqrt((wanted * wanted).sum())
    return x + wanted * xp.where(length > lr, lr / xp.where(length > lr, length, 1), 1)
