r"""Lanczos tridiagonalisation: with Gauss quadrature for quadratic forms of matrix functions.

An orthonormal basis :math:`V_k` of the Krylov space of a symmetric :math:`A` and a vector :math:`v` in which :math:`A`
is tridiagonal: :math:`V_k^\top A V_k = T_k` with diagonal :math:`a` and off-diagonal :math:`\beta`. Its eigenvalues,
the Ritz values, approach the ends of the spectrum first. From :math:`v_1 = v/\|v\|`, :math:`\beta_0 = 0`:

.. math::
    :label: lanczos-recurrence

    w = A v_j - \beta_{j-1} v_{j-1}, \qquad a_j = v_j^\top w, \qquad w \leftarrow w - a_j v_j, \qquad
    \beta_j = \|w\|, \qquad v_{j+1} = w / \beta_j .

In floating point the vectors lose their orthogonality as soon as a Ritz value has converged, and copies of it
("ghosts") appear. Reorthogonalisation prevents that, at the price of keeping all vectors:

.. math::
    :label: lanczos-reorthogonalise

    w \leftarrow w - V_j V_j^\top w .

The tridiagonal matrix is also a Gauss rule for the measure that :math:`v` puts on the spectrum. With
:math:`T_k = S\,\mathrm{diag}(\theta)\,S^\top`,

.. math::
    :label: lanczos-quadrature

    v^\top f(A)\, v \approx \|v\|^2 \sum_{i=1}^k S_{1i}^2\, f(\theta_i),

exact for polynomials of degree :math:`2k - 1`. Averaged over random probes with mean zero and identity covariance it
estimates a trace:

.. math::
    :label: lanczos-trace

    \mathrm{tr}\, f(A) = \mathbb E\, v^\top f(A)\, v .

Random signs are the usual probes: only the entries of :math:`f(A)` off the diagonal make the estimate vary.

**Where implementations differ.** Some subtract :math:`\beta_{j-1} v_{j-1}` after :math:`a_j` is computed from
:math:`A v_j`; equal in exact arithmetic, and less orthogonal otherwise. Here the reorthogonalisation is done twice by
default: once leaves an error that grows as :math:`\beta_j` falls.

**Provenance.** Confirmed: textbook; compared with dense linear algebra.

Lanczos, *An Iteration Method for the Solution of the Eigenvalue Problem*, 1950; Golub and Meurant, *Matrices, Moments
and Quadrature*, 1994; Ubaru, Chen and Saad, *Fast Estimation of tr(f(A)) via Stochastic Lanczos Quadrature*, 2017.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from trref import validate
from trref.backend import linalg, xp
from trref.krylov.terms import (
    InUnits,
    exponents,
    norm,
    product,
    require_finite,
    require_symmetric,
)
from trref.signature import (
    K,
    M,
    N,
    NonNegativeInt,
    PositiveInt,
    Real,
    Scalar,
    checked,
)


class LanczosResult(NamedTuple):
    """Basis, and the diagonal and off-diagonal of T.

    The last entry of the off-diagonal is the norm of what would become the next basis vector: the Ritz value θ_i is
    within ``off_diagonal[-1] |S_ki|`` of an eigenvalue. `converged` says that all steps asked for were taken, or that
    the basis spans an invariant subspace.
    """

    basis: Real[N, K]
    diagonal: list[float]
    off_diagonal: list[float]
    iterations: int
    converged: bool


@checked
def lanczos(
    matvec: Callable,
    v: Real[N],
    *,
    steps: PositiveInt,
    reorthogonalise: NonNegativeInt = 2,
) -> LanczosResult:
    """Tridiagonalise a symmetric operator on the Krylov space of a vector.

    Parameters
    ----------
    matvec
        A is symmetric.
    v
        The start, not zero.
    reorthogonalise
        How often each vector is orthogonalised against all earlier ones; 0 for the plain recurrence.
    """
    A, v = InUnits(matvec), xp.ldexp(v, -exponents(v)[0])
    length = norm(v)
    if length == 0:
        raise ValueError("v must not be zero")
    require_symmetric(A, v / length)

    basis, diagonal, off_diagonal, size = [v / length], [], [], 0.0
    rounding = 10 * len(v) * float(xp.finfo(v.dtype).eps)
    while True:
        # eq. lanczos-recurrence
        w = A(basis[-1])
        if diagonal:
            w = w - off_diagonal[-1] * basis[-2]
        diagonal.append(float(basis[-1] @ w))
        w = w - diagonal[-1] * basis[-1]

        # eq. lanczos-reorthogonalise
        for _ in range(reorthogonalise):
            V = xp.stack(basis, 1)
            w = w - V @ (V.T @ w)

        off_diagonal.append(norm(w))
        require_finite("matvec", diagonal[-1], off_diagonal[-1])
        size = max(size, abs(diagonal[-1]) + off_diagonal[-1])
        if off_diagonal[-1] <= rounding * size or len(basis) == steps:
            diagonal, off_diagonal = (
                [math.ldexp(t, A.size) for t in side]
                for side in (diagonal, off_diagonal)
            )
            return LanczosResult(
                xp.stack(basis, 1), diagonal, off_diagonal, len(basis), True
            )
        basis.append(w / off_diagonal[-1])  # eq. lanczos-recurrence


def tridiagonal(result):
    """Return the matrix T (k, k) of a `LanczosResult`, in the dtype of its basis."""
    k, dtype = result.iterations, result.basis.dtype
    side = xp.asarray(result.off_diagonal[: k - 1], dtype=dtype)
    return (
        xp.diag(xp.asarray(result.diagonal, dtype=dtype))
        + xp.diag(side, 1)
        + xp.diag(side, -1)
    )


@checked
def lanczos_quadrature(
    matvec: Callable, v: Real[N], f: Callable, *, steps: PositiveInt = 20
) -> Scalar:
    """Estimate the quadratic form v·f(A)v by the Gauss rule of the Lanczos recurrence.

    Parameters
    ----------
    f
        ``f(t (k,)) -> (k,)``, entry by entry, on the interval that the eigenvalues span.
    """
    result = lanczos.unchecked(matvec, v, steps=steps)
    theta, S = linalg.eigh(tridiagonal(result))
    values = product(f, theta, "f")
    validate.require(
        (lambda: xp.isfinite(values).all(), "f must be finite at the Ritz values")
    )
    slope = exponents(v)[0]
    v = xp.ldexp(v, -slope)
    # eq. lanczos-quadrature
    return xp.ldexp((v @ v) * (S[0] ** 2 * values).sum(), 2 * slope)


def _not_zero(probes, **_):
    """A probe that is zero."""
    return [(lambda: (probes != 0).any(1).all(), "probes must hold no zero vector")]


@checked(also=_not_zero)
def stochastic_trace(
    matvec: Callable, probes: Real[M, N], f: Callable, *, steps: PositiveInt = 20
) -> Scalar:
    """Estimate the trace of f(A) by the mean of Lanczos quadratures over probes.

    Parameters
    ----------
    probes
        Independent vectors with mean zero and identity covariance, such as random signs.
    """
    # eq. lanczos-trace
    return xp.stack(
        [lanczos_quadrature.unchecked(matvec, v, f, steps=steps) for v in probes]
    ).mean()
