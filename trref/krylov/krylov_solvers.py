r"""Krylov solvers: the best vectors of a Krylov space, by definition.

All solvers of this family touch the matrix only through products :math:`v \mapsto Av`. From :math:`k - 1` of them they
know the space

.. math::
    :label: krylov-solvers-space

    \mathcal K_k = \mathrm{span}\{ b, Ab, \dots, A^{k-1} b \} = \{ V y \}, \qquad V^\top V = I,

and the k-th iterate is the vector of this space that is best in a norm. The residual can be measured for every matrix:

.. math::
    :label: krylov-solvers-residual

    x_k = V\, \arg\min_y \| b - A V y \| = V (AV)^+ b .

Or what is left over is made orthogonal to the space, which is Galerkin's condition:

.. math::
    :label: krylov-solvers-galerkin

    V^\top (b - A x_k) = 0, \qquad x_k = V (V^\top A V)^+ V^\top b .

For a symmetric positive definite :math:`A` with solution :math:`x_\ast` the second is the best of the space, too, in
the norm of the energy, :math:`\| x - x_\ast \|_A^2 = (x - x_\ast)^\top A (x - x_\ast)`. So the solvers differ in
what they minimise and in how they avoid to keep :math:`V`:

=====================================  ==========================  ====================  =============
solver                                 matrix                      its k-th iterate      vectors kept
=====================================  ==========================  ====================  =============
:func:`trref.krylov.cg.cg`             positive definite           Galerkin              3
:func:`trref.krylov.minres.minres`     symmetric                   least residual        6
:func:`trref.krylov.gmres.gmres`       any                         least residual        k
=====================================  ==========================  ====================  =============

The functions here spend :math:`k` vectors and a dense pseudo-inverse on what the definitions say, for small systems;
the solvers are tested against them, step by step. :math:`V` is built one column at a time, each product orthogonalised
twice against the columns before it. Where the space ends, at a product that lies in it up to rounding, the columns of
:math:`V` that remain are zero. For b = 0 all of them are, and so is x.

The two are also related: where the residual of the first falls from :math:`\rho_{k-1}` to :math:`\rho_k`, that of the
second is :math:`\rho_k / \sqrt{1 - (\rho_k/\rho_{k-1})^2}`. It has a peak wherever the first stands still, and is not
defined where :math:`V^\top A V` is singular; the pseudo-inverse then takes the shortest y of the least error.

**Where implementations differ.** The two kinds of iterates for matrices that are not symmetric are called GMRES and
FOM, the full orthogonalisation method. Solvers of either kind are stopped by the residual, and none reports the error
in the energy.

**Provenance.** Confirmed: textbook definitions; the solvers give these vectors.

Saad, *Iterative Methods for Sparse Linear Systems*, second edition, 2003.
"""

from collections.abc import Callable

from trref import validate
from trref.backend import linalg, xp
from trref.krylov.terms import product
from trref.signature import K, N, PositiveInt, Real, checked


@checked
def krylov_basis(matvec: Callable, b: Real[N], *, steps: PositiveInt) -> Real[N, K]:
    """Return orthonormal columns that span the Krylov space; columns after its end are zero.

    Parameters
    ----------
    b
        The first column, up to its length.
    steps
        k, the number of columns.
    """
    V, products = [_unit(xp.ldexp(b, -xp.frexp(abs(b).max())[1]), 0.0)], []
    rounding = 10 * len(b) * float(xp.finfo(b.dtype).eps)
    for _ in range(steps - 1):
        # eq. krylov-solvers-space
        w = product(matvec, V[-1])
        products.append(w)
        size = xp.sqrt(w @ w)
        before = xp.stack(V, 1)
        for _ in range(2):
            w = w - before @ (before.T @ w)
        V.append(_unit(w, rounding * size))
    if products:
        _require_finite(xp.stack(products))
    return xp.stack(V, 1)


def _require_finite(products):
    test = lambda: xp.isfinite(products).all()  # noqa: E731
    validate.require((test, "matvec must give finite values"))


def _unit(w, rounding):
    """Return w at length one, or zero where it is no longer than rounding."""
    length = xp.sqrt(w @ w)
    longer = length > rounding
    return xp.where(longer, w / xp.where(longer, length, 1.0), 0.0)


@checked
def least_residual(matvec: Callable, b: Real[N], *, steps: PositiveInt) -> Real[N]:
    """Return the vector of the Krylov space whose residual ‖b - A x‖ is the smallest.

    Parameters
    ----------
    b
        The right-hand side.
    steps
        k, the dimension of the space.
    """
    V = krylov_basis.unchecked(matvec, b, steps=steps)
    AV = _products(matvec, V)
    # eq. krylov-solvers-residual
    return V @ (_pinv(AV, AV) @ b)


@checked
def galerkin(matvec: Callable, b: Real[N], *, steps: PositiveInt) -> Real[N]:
    """Return the vector of the Krylov space whose residual is orthogonal to it: the smallest error in the A-norm, for a
    positive definite A.

    Parameters
    ----------
    b
        The right-hand side.
    steps
        k, the dimension of the space.
    """
    V = krylov_basis.unchecked(matvec, b, steps=steps)
    AV = _products(matvec, V)
    # eq. krylov-solvers-galerkin
    return V @ (_pinv(V.T @ AV, AV) @ (V.T @ b))


def _products(matvec, V):
    AV = xp.stack([product(matvec, v) for v in V.T], 1)
    _require_finite(AV)
    return AV


def _pinv(matrix, products):
    """Return the pseudo-inverse, in which singular values as small as the rounding of the products count as zero."""
    U, s, Vt = linalg.svd(matrix, full_matrices=False)
    eps = float(xp.finfo(matrix.dtype).eps)
    longer = s > 10 * len(products) * eps * xp.sqrt((products**2).sum())
    return (Vt.T * xp.where(longer, 1 / xp.where(longer, s, 1.0), 0.0)) @ U.T
