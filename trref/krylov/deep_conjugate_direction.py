r"""DCDM: conjugate directions that a network proposes.

The method of conjugate gradients takes its search directions from the residual. Here a network f, trained to map a
residual r near to a multiple of :math:`A^{-1} r`, proposes them. Its output is made A-orthogonal to the last few
directions, and the step along it is exact, so that its length does not matter:

.. math::
    :label: deep-conjugate-direction-network

    d = f\big( r_k / \|r_k\| \big)

.. math::
    :label: deep-conjugate-direction-orthogonal

    p_k = d - \sum_{j = k - m}^{k - 1} \frac{d^\top A p_j}{p_j^\top A p_j}\, p_j

.. math::
    :label: deep-conjugate-direction-step

    \alpha_k = \frac{p_k^\top r_k}{p_k^\top A p_k}, \qquad x_{k+1} = x_k + \alpha_k p_k, \qquad
    r_{k+1} = b - A x_{k+1} .

With the identity as network and m ≥ 1 this is CG, with a positive definite matrix :math:`M^{-1}` CG with that
preconditioner, with m = 0 steepest descent. Whatever the network gives, no step makes the error larger in the norm of
A; a direction orthogonal to r gives a step of 0.

What the network is trained on, for r of length 1, does not depend on the length of its output either:

.. math::
    :label: deep-conjugate-direction-loss

    \ell = \| e \|^2, \qquad e = r - \alpha A f, \qquad \alpha = \frac uv, \qquad u = f^\top r, \quad v = f^\top A f

with the gradient, nothing held,

.. math::
    :label: deep-conjugate-direction-gradient

    \nabla_f \ell = -2 \Big[ (e^\top A f) \Big( \frac rv - \frac{2 u\, A f}{v^2} \Big) + \alpha A e \Big]

(:math:`\alpha` is the step of the method, which makes the error small in the norm of A; measured is the residual.)
It is 0 exactly where f is a multiple of :math:`A^{-1} r`, and :math:`f^\top \nabla_f \ell = 0`.

The vectors to train on are made of Ritz vectors :math:`q_i`, those of m steps of Lanczos from :math:`A \xi`. Of
independent normal numbers :math:`c_i`,

.. math::
    :label: deep-conjugate-direction-ritz

    r = \frac{\sum_i w_i c_i q_i}{\| \sum_i w_i c_i q_i \|}, \qquad
    w_i = 9 \text{ for the first } \tfrac m2 + \theta, \quad 1 \text{ for others}

with Ritz values in ascending order: the slow half counts more. Ritz values below 1e-8 are left out (a vector of
which nothing is left is 0), and each :math:`q_i` has the sign that makes its product with :math:`A \xi` positive.

==================  ======================
m (directions)      ``orthogonal``
m (Lanczos)         columns of ``noise``
:math:`\xi`         ``start``
:math:`c`           ``noise``
:math:`w`           ``boost``
:math:`\theta`      ``further``
==================  ======================

If the network gives nothing, or nothing beyond the directions before, the iteration ends.

**Where implementations differ.** The authors' code begins with two zero vectors as the directions before, and computes
a recurred residual that it then overwrites: the numbers are the same.

**Provenance.** Confirmed in the authors' code, except the gradient, which is worked out here. Their network is one of
three dimensions with rectifiers; `trref.problems.stencil` has a small, linear one of one dimension.

Kaneda, Akar, Chen, Kala, Hyde and Teran, *A Deep Conjugate Direction Method for Iteratively Solving Linear Systems*,
2023, arXiv:2205.10763.
"""

from collections.abc import Callable

from trref.backend import linalg, xp
from trref.krylov.lanczos import lanczos, tridiagonal
from trref.krylov.terms import (
    KrylovResult,
    begin,
    exponents,
    finish,
    floats,
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
    OpenFraction,
    PositiveFloat,
    PositiveInt,
    Real,
    Scalar,
    checked,
)
from trref.validate import returned

SMALLEST = 1e-8


def _somewhere(output, **_):
    """An output of zero."""
    return [(lambda: (output != 0).any(), "output must not be zero")]


@checked(also=_somewhere)
def direction_loss(
    output: Real[N], residual: Real[N], matvec: Callable
) -> tuple[Scalar, Real[N]]:
    """How much of the residual an exact step along an output leaves.

    Parameters
    ----------
    output
        Of the network.
    residual
        Its input, of length 1 in training.
    matvec
        A is symmetric, positive definite.
    """
    scale = abs(output).max()
    f = output / scale
    Af = returned("matvec", product(matvec, f), f.shape, finite=True)
    u, v = f @ residual, f @ Af
    alpha = u / v
    e = residual - alpha * Af  # eq. deep-conjugate-direction-loss
    # eq. deep-conjugate-direction-gradient
    bend = (e @ Af) * (residual / v - 2 * u / v**2 * Af)
    Ae = returned("matvec", product(matvec, e), e.shape, finite=True)
    gradient = -2 * (bend + alpha * Ae)
    return e @ e, gradient / scale


@checked
def training_vectors(
    matvec: Callable,
    start: Real[N],
    noise: Real[M, K],
    *,
    boost: PositiveFloat = 9.0,
    further: NonNegativeInt = 0,
) -> Real[M, N]:
    """Vectors of length 1 in which the slow directions count more.

    Parameters
    ----------
    start
        Random numbers; A times it is where Lanczos begins.
    noise
        Normal numbers: a row a vector, a column a step of Lanczos.
    boost
        Weight of the first half.
    further
        How many more have that weight.
    """
    begun = product(matvec, start)
    run = lanczos.unchecked(matvec, begun, steps=noise.shape[1])
    k = run.iterations
    values, S = linalg.eigh(tridiagonal(run))
    S = S * xp.where(S[0] < 0, -1, 1).astype(S.dtype)
    slow = xp.arange(k) < k // 2 + further
    weights = xp.where(slow, boost, 1) * (values >= SMALLEST)
    r = (noise[:, :k] * weights.astype(S.dtype)) @ (run.basis @ S).T
    length = xp.sqrt((r * r).sum(1, keepdims=True))
    # eq. deep-conjugate-direction-ritz
    return r / xp.where(length > 0, length, 1)


@checked
def dcdm(
    matvec: Callable,
    b: Real[N],
    network: Callable,
    *,
    orthogonal: NonNegativeInt = 2,
    rtol: OpenFraction = 1e-4,
    max_iter: PositiveInt | None = None,
) -> KrylovResult:
    """Solve A x = b for a symmetric positive definite A, along the directions of a network.

    Parameters
    ----------
    b
        The right-hand side.
    network
        ``network(r) -> d`` for a residual of length 1.
    orthogonal
        How many directions before each is made orthogonal to.
    max_iter
        10 n if None.

    Warns
    -----
    ConvergenceWarning
        `max_iter` was reached, or the network gives no new direction.
    """
    system = begin(matvec, None, b, None, rtol, max_iter)
    A, _, b, x, r, norms, target, max_iter, _ = system
    if norms[0] > target:
        require_symmetric(A, r)
    before, why = [], ""
    while norms[-1] > target and len(norms) <= max_iter:
        # eq. deep-conjugate-direction-network
        d = product(network, r / norms[-1], "network")
        d = xp.ldexp(d, -exponents(d)[0])
        p = d
        for q, Aq, curvature in before:
            # eq. deep-conjugate-direction-orthogonal
            p = p - (d @ Aq) / curvature * q

        # eq. deep-conjugate-direction-step
        Ap = A(p)
        along, curvature, length, whole = floats(p @ r, p @ Ap, p @ p, d @ d)
        require_finite("matvec and network", along, curvature, length)
        if length <= (10 * xp.finfo(r.dtype).eps) ** 2 * whole or not whole:
            why = ": the network gives no new direction"
            break
        if curvature <= 0:
            raise ValueError("matvec must be positive definite along the directions")
        x = x + along / curvature * p
        r = b - A(x)

        norms.append(norm(r))
        before = (before + [(p, Ap, curvature)])[-orthogonal:] if orthogonal else []
    return finish("dcdm", system, x, norms, why)
