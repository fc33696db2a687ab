r"""A mixture of hard constraints: each part of the domain solves for its own weights, on one basis that all share.

One solve for the whole domain is expensive, and few basis functions do not fit everywhere. So the domain is split into
K parts :math:`\Omega_k` along a coordinate,

.. math::
    :label: hard-constraint-moe-partition

    k(x) = \Big\lfloor K\, \frac{x - x_{\min}}{x_{\max} - x_{\min}} \Big\rfloor \text{, and } K - 1 \text{ at the end,}

and an expert solves for its weights :math:`w_k` by the rows of the equation that are its own, which are those of its
points and those of start and border that concern it (:mod:`trref.physics.levenberg_marquardt`). The solution is put
together from the experts',

.. math::
    :label: hard-constraint-moe-solution

    u(x_i) = \sum_k 1_{x_i \in \Omega_k} (B w_k)_i

and the training loss, half the squared residual of all rows at u, has the sum of the experts' gradients of
:mod:`trref.physics.implicit_layer`, each with the derivative by its own values:

.. math::
    :label: hard-constraint-moe-gradient

    \frac{d\ell}{dB} = \sum_k \Big( \frac{d\ell}{dB} \Big)_k, \qquad (\ell_u)_k = 1_{\Omega_k} \odot \ell_u

Differences between neighbouring points are taken before the domain is split: a row at the edge of a part sees the
values that its own expert would have beyond. Nothing makes the parts meet. With an initial condition every part knows
where it begins; in an elliptic problem the inner parts would not. One expert is the hard constraint without a mixture.

=====================  ============
:math:`k(x)`           ``owner``
=====================  ============

**Where implementations differ.** The paper's text differentiates each solve as a root, as
:func:`trref.physics.implicit_layer.root_gradient` does, though the residual of few basis functions is not 0; its code
leaves that to its solver's library, which has the stationary form. Its initial rows are divided by the initial values,
which must then not be 0.

**Provenance.** Confirmed: experts on one basis and their sum by the paper's text and code
(ASK-Berkeley/physics-NNs-hard-constraints, spatial_temporal_router.py). The gradient of the stationary form is derived
here.

Chalapathi, Du and Krishnapriyan, *Scaling Physics-Informed Hard Constraints with Mixture-of-Experts*, 2024,
arXiv:2402.13412.
"""

from typing import NamedTuple

from trref.backend import xp
from trref.physics.implicit_layer import settled, stationary
from trref.physics.levenberg_marquardt import Ridge, solve
from trref.problems.protocols import GridEquation
from trref.signature import (
    E,
    Index,
    K,
    M,
    Mask,
    N,
    NonNegativeInt,
    OpenFraction,
    PositiveInt,
    Real,
    Scalar,
    checked,
)


class Mixture(NamedTuple):
    """Values at the points; weights of the experts; norm of each expert's residual at the end."""

    u: Real[M]
    weights: Real[K, N]
    norms: list[float]
    iterations: int
    converged: bool


@checked
def partition(coordinate: Real[M], *, experts: PositiveInt = 4) -> Index[M]:
    """Expert of each point, by equal parts of a coordinate.

    Parameters
    ----------
    coordinate
        Of the points.
    experts
        How many.
    """
    low, high = coordinate.min(), coordinate.max()
    width = xp.where(high > low, high - low, 1)
    # eq. hard-constraint-moe-partition
    part = xp.floor(experts * ((coordinate - low) / width)).astype(int)
    return xp.minimum(part, experts - 1)


def _parts(basis, w0, owner, rows, **_):
    """Numbers beyond 1e4; points that belong to no expert."""
    return [
        (lambda: abs(basis).max() <= 1e4, "basis must be at most 1e4 in size"),
        (lambda: abs(w0).max() <= 1e4, "w0 must be at most 1e4 in size"),
        (lambda: owner.max() < len(rows), "owner must be less than the number of rows"),
    ]


def _joined(basis, weights, owner):
    """Each point's value by its own expert."""
    at = owner[:, None] == xp.arange(len(weights))
    # eq. hard-constraint-moe-solution
    return xp.where(at, basis @ weights.T, 0).sum(1)


@checked(also=_parts)
def mixture(
    equation: GridEquation,
    basis: Real[M, N],
    w0: Real[N],
    owner: Index[M],
    rows: Mask[K, E],
    *,
    ridge: Ridge = 1e-4,
    rtol: OpenFraction = 1e-7,
    max_iter: PositiveInt = 100,
) -> Mixture:
    """Solve the equation by experts.

    Parameters
    ----------
    equation
        Such as those of `trref.problems.pde`.
    basis
        A column a function, a row a point of the grid.
    w0
        Where each expert starts.
    owner
        The expert of each point.
    rows
        1 where an expert sees a row of the equation.
    ridge
        Weight of the weights' own rows.
    rtol
        An expert ends when its gradient is at most this, beside norms at the start.
    max_iter
        Most iterations of an expert.

    Warns
    -----
    ConvergenceWarning
        `max_iter` was reached by an expert.
    """
    found = [
        solve(equation, basis, w0, own, ridge, rtol, max_iter, "mixture")
        for own in rows
    ]
    weights = xp.stack([one.weights for one in found])
    return Mixture(
        _joined(basis, weights, owner),
        weights,
        [one.norms[-1] if one.norms else 0.0 for one in found],
        max(one.iterations for one in found),
        all(one.converged for one in found),
    )


@checked(also=_parts)
def mixture_loss(
    equation: GridEquation,
    basis: Real[M, N],
    w0: Real[N],
    owner: Index[M],
    rows: Mask[K, E],
    *,
    ridge: Ridge = 1e-4,
    steps: NonNegativeInt = 16,
    polish: NonNegativeInt = 3,
) -> tuple[Scalar, Real[M, N]]:
    """Half the squared residual of all rows, at the values that the experts find.

    Parameters
    ----------
    steps
        Damped ones of each expert's solve.
    polish
        Newton's.

    Returns
    -------
    loss
    gradient
        With respect to `basis`.
    """
    solved = [settled(equation, basis, w0, own, ridge, steps, polish) for own in rows]
    u = _joined(basis, xp.stack(solved), owner)
    residual = equation.residual(u)
    by_u, gradient = equation.vjp(u, residual), xp.zeros_like(basis)
    # eq. hard-constraint-moe-gradient
    for k, (w, own) in enumerate(zip(solved, rows, strict=True)):
        part = xp.where(owner == k, by_u, 0)
        gradient = gradient + stationary(equation, basis, w, part, own, ridge)
    return (residual * residual).sum() / 2, gradient
