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

from typing import Any, NamedTuple

from trref import validate
from trref.backend import linalg, xp
from trref.catalog import Estimator, Input, Limit, Method, Solver
from trref.krylov import _lanczos_cases as cases
from trref.krylov.terms import norm, require_symmetric
from trref.problems.spectral import Logarithm

__all__ = ["LanczosResult", "lanczos", "lanczos_quadrature", "stochastic_trace", "tridiagonal"]

INPUTS = {"matvec": Input("", "callable"), "v": Input("N")}
QUADRATURE_INPUTS = {**INPUTS, "f": Input("", "callable")}
TRACE_INPUTS = {"matvec": Input("", "callable"), "probes": Input("M N"), "f": Input("", "callable")}


class LanczosResult(NamedTuple):
    """Basis (n, k); diagonal (k) and off-diagonal (k) of T as host floats; the number k of steps; and the verdict.

    The last entry of the off-diagonal is the norm of what would become the next basis vector: the Ritz value θ_i is
    within ``off_diagonal[-1] |S_ki|`` of an eigenvalue. `converged` says that all steps asked for were taken, or that
    the basis spans an invariant subspace.
    """

    basis: Any
    diagonal: list[float]
    off_diagonal: list[float]
    iterations: int
    converged: bool


def lanczos(matvec, v, *, steps, reorthogonalise=2):
    """Tridiagonalise a symmetric operator on the Krylov space of a vector.

    Parameters
    ----------
    matvec : callable
        ``matvec(v) -> A v`` for arrays (n,), A symmetric.
    v : array (n,)
        The start, not zero.
    steps : int
        The most basis vectors; fewer where the Krylov space is exhausted.
    reorthogonalise : int
        How often each vector is orthogonalised against all earlier ones; 0 for the plain recurrence.

    Returns
    -------
    LanczosResult
        Fields basis, diagonal, off_diagonal, iterations, converged.

    Raises
    ------
    ValueError
        Wrong shapes, values that are not finite, `v` zero, a `matvec` that is not symmetric.
    """
    validate.inputs(INPUTS, matvec, v)
    validate.integer("[1, inf)", steps=steps)
    validate.integer("[0, inf)", reorthogonalise=reorthogonalise)
    length = norm(v)
    if length == 0:
        raise ValueError("v must not be zero")
    require_symmetric(matvec, v / length)

    basis, diagonal, off_diagonal, size = [v / length], [], [], 0.0
    rounding = 10 * len(v) * float(xp.finfo(v.dtype).eps)
    while True:
        # eq. lanczos-recurrence
        w = matvec(basis[-1])
        if diagonal:
            w = w - off_diagonal[-1] * basis[-2]
        diagonal.append(float(basis[-1] @ w))
        w = w - diagonal[-1] * basis[-1]

        # eq. lanczos-reorthogonalise
        for _ in range(reorthogonalise):
            V = xp.stack(basis, 1)
            w = w - V @ (V.T @ w)

        off_diagonal.append(norm(w))
        size = max(size, abs(diagonal[-1]) + off_diagonal[-1])
        if off_diagonal[-1] <= rounding * size or len(basis) == steps:
            return LanczosResult(xp.stack(basis, 1), diagonal, off_diagonal, len(basis), True)
        basis.append(w / off_diagonal[-1])  # eq. lanczos-recurrence


def tridiagonal(result):
    """Return the matrix T (k, k) of a `LanczosResult`, in the dtype of its basis."""
    k, dtype = result.iterations, result.basis.dtype
    side = xp.asarray(result.off_diagonal[: k - 1], dtype=dtype)
    return xp.diag(xp.asarray(result.diagonal, dtype=dtype)) + xp.diag(side, 1) + xp.diag(side, -1)


def lanczos_quadrature(matvec, v, f, *, steps=20):
    """Estimate the quadratic form v·f(A)v by the Gauss rule of the Lanczos recurrence.

    Parameters
    ----------
    matvec : callable
        ``matvec(v) -> A v`` for arrays (n,), A symmetric.
    v : array (n,)
        Not zero.
    f : callable
        ``f(t (k,)) -> (k,)``, entry by entry, on the interval that the eigenvalues span.
    steps : int
        Nodes of the rule.

    Returns
    -------
    scalar array

    Raises
    ------
    ValueError
        As `lanczos`, or an `f` that is not finite at a Ritz value.
    """
    validate.inputs(QUADRATURE_INPUTS, matvec, v, f)
    result = lanczos(matvec, v, steps=steps)
    theta, S = linalg.eigh(tridiagonal(result))
    values = f(theta)
    validate.require((lambda: xp.isfinite(values).all(), "f must be finite at the Ritz values"))
    return (v @ v) * (S[0] ** 2 * values).sum()  # eq. lanczos-quadrature


def stochastic_trace(matvec, probes, f, *, steps=20):
    """Estimate the trace of f(A) by the mean of Lanczos quadratures over probes.

    Parameters
    ----------
    matvec : callable
        ``matvec(v) -> A v`` for arrays (n,), A symmetric.
    probes : array (m, n)
        Independent vectors with mean zero and identity covariance, such as random signs; none of them zero.
    f : callable
        As in `lanczos_quadrature`.
    steps : int
        Nodes of each rule.

    Returns
    -------
    scalar array

    Raises
    ------
    ValueError
        As `lanczos_quadrature`.
    """
    _, flags = validate.deferred(TRACE_INPUTS, matvec, probes, f)
    validate.require(*flags, (lambda: ((probes**2).sum(1) > 0).all(), "probes must hold no zero vector"))
    return xp.stack([lanczos_quadrature(matvec, v, f, steps=steps) for v in probes]).mean()  # eq. lanczos-trace


def _certificate(result, matvec, v, steps, reorthogonalise=2):
    """How far A V - V T is from β v_{k+1} e_k', V from orthonormal (without reorthogonalisation: neighbours), and the
    start from v/‖v‖; no β is negative, and fewer steps than asked for end with one that is zero.
    """
    V, T, k = result.basis, tridiagonal(result), result.iterations
    left = xp.stack([matvec(V[:, j]) for j in range(k)], 1) - V @ T
    size = max(float(abs(T).max()), result.off_diagonal[-1])
    gram = abs(V.T @ V - xp.eye(k))
    last = abs(float(xp.sqrt((left[:, -1] ** 2).sum())) - result.off_diagonal[-1])
    return {
        "three-term recurrence": max(float(abs(left[:, :-1]).max()) if k > 1 else 0.0, last) / size,
        "orthogonality": float((gram if reorthogonalise else xp.tril(xp.triu(gram, -1), 1)).max()),
        "start": float(abs(V[:, 0] - v / norm(v)).max()),
        "negative off-diagonal": -min(result.off_diagonal) / size,
        "steps left out": result.off_diagonal[-1] / size if k < steps else 0.0,
    }


def _one_probe(inputs):
    """one probe"""
    return {**inputs, "probes": inputs["probes"][:1], "v": inputs["probes"][0]}


METHOD = Method(
    key="lanczos1950iteration",
    provenance="confirmed",
    functions=(
        Solver(
            f=lanczos,
            inputs=INPUTS,
            example=cases.example,
            edges=cases.EDGES | cases.SIGNED_EDGES,
            settings={
                "default": {"steps": 4},
                "plain": {"steps": 3, "reorthogonalise": 0},
                "once": {"steps": 3, "reorthogonalise": 1},
                "until the basis would lose its orthogonality": {"steps": 40},
                "probe": {"steps": 2, "reorthogonalise": 3},
            },
            certificate=_certificate,
            tolerances={
                "three-term recurrence": 1e-12,
                "orthogonality": 1e-12,
                "start": 1e-14,
                "negative off-diagonal": 0.0,
                "steps left out": 1e-12,
            },
        ),
        Estimator(
            f=lanczos_quadrature,
            inputs=QUADRATURE_INPUTS,
            example=cases.quadrature_example,
            edges={name: lambda make=make: {**make(), "f": Logarithm()} for name, make in cases.EDGES.items()},
            settings={"default": {}, "probe": {"steps": 3}},
            brute_force=cases.brute_force,
        ),
        Estimator(
            f=stochastic_trace,
            inputs=TRACE_INPUTS,
            example=cases.trace_example,
            edges={"one probe": cases.one_probe},
            settings={"default": {}, "probe": {"steps": 3}},
            brute_force=cases.brute_force_trace,
            limits=(Limit("lanczos.lanczos_quadrature", {}, where=_one_probe),),
        ),
    ),
)
