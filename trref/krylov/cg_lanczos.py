r"""What conjugate gradients know about the matrix: Ritz values and the error of the iterate.

Conjugate gradients are the Lanczos recurrence in disguise. Their coefficients :math:`\alpha_j, \beta_j` (of
:func:`trref.krylov.cg.cg`) are the entries of the tridiagonal matrix that Lanczos builds from :math:`r_0`, for
:math:`A` itself or, with a preconditioner :math:`M = CC^\top`, for :math:`C^{-1}AC^{-\top}` from :math:`C^{-1}r_0`:

.. math::
    :label: cg-lanczos-tridiagonal

    T_{jj} = \frac1{\alpha_j} + \frac{\beta_{j-1}}{\alpha_{j-1}}, \qquad
    T_{j,j+1} = \frac{\sqrt{\beta_j}}{\alpha_j},

without the second term for :math:`j = 0`. The eigenvalues of :math:`T_k` are the Ritz values: they say which part of
the spectrum the iteration has resolved, and how large the condition number is. The same coefficients give the error,
which cannot be seen from the residual. Between iterates k and k + d it falls by

.. math::
    :label: cg-lanczos-error

    \|x - x_k\|_A^2 - \|x - x_{k+d}\|_A^2 = \sum_{j=k}^{k+d-1} \alpha_j\, r_j^\top z_j,

a lower bound of :math:`\|x - x_k\|_A^2` that is tight when the next d steps reduce the error well. For :math:`x_0 = 0`
and no preconditioner the error is a remainder of Gauss quadrature for :math:`b^\top A^{-1} b`:

.. math:: \|x - x_k\|_A^2 = \|b\|^2 \big[ (T_n^{-1})_{11} - (T_k^{-1})_{11} \big] .

**Where implementations differ.** Most solvers stop by the residual, which may be smaller or larger than the error by
the condition number; few report :math:`\alpha` and :math:`\beta`.

**Provenance.** Confirmed: textbook; compared with reorthogonalised Lanczos and with dense linear algebra.

Golub and Strakoš, *Estimates in Quadratic Formulas*, 1994; Strakoš and Tichý, *On Error Estimation in the Conjugate
Gradient Method and Why it Works in Finite Precision Computations*, 2002.
"""

from typing import Any, NamedTuple

from trref import validate
from trref.backend import linalg, xp
from trref.catalog import Estimator, Input, Limit, Method, Solver
from trref.krylov.cg import recurrence
from trref.krylov.lanczos import lanczos, tridiagonal
from trref.krylov.terms import norm, require_symmetric
from trref.problems.convex import DenseOperator, spd_matrix, spectrum

__all__ = ["CgCoefficients", "cg_coefficients", "error_estimate", "tridiagonal_from_cg"]

INPUTS = {
    "matvec": Input("", "callable"),
    "b": Input("N"),
    "preconditioner": Input("", "callable", optional=True),
}
TRIDIAGONAL_INPUTS = {"alpha": Input("K", "positive"), "beta": Input("K", "nonnegative")}
ERROR_INPUTS = {"alpha": Input("K", "positive"), "rz": Input("K", "nonnegative")}


class CgCoefficients(NamedTuple):
    """Iterate (n,) after k steps; alpha, beta and r·z of each, as host floats; their number k; and the verdict.

    `beta` holds the coefficient of the next direction after each step, `rz` the value before it. `converged` says that
    all steps asked for were taken, or that the residual has reached rounding.
    """

    x: Any
    alpha: list[float]
    beta: list[float]
    rz: list[float]
    iterations: int
    converged: bool


def cg_coefficients(matvec, b, *, preconditioner=None, steps):
    """Take steps of conjugate gradients from 0 and keep their coefficients.

    Parameters
    ----------
    matvec : callable
        ``matvec(v) -> A v`` for arrays (n,), A symmetric positive definite.
    b : array (n,)
        Not zero.
    preconditioner : callable
        As for `trref.krylov.cg.cg`; the identity by default.
    steps : int
        The most steps; fewer where the residual reaches rounding.

    Returns
    -------
    CgCoefficients
        Fields x, alpha, beta, rz, iterations, converged.

    Raises
    ------
    ValueError
        As `trref.krylov.cg.cg`, or `b` zero.
    """
    validate.inputs(INPUTS, matvec, b, preconditioner)
    validate.integer("[1, inf)", steps=steps)
    smallest = 10 * float(xp.finfo(b.dtype).eps) * norm(b)
    if smallest == 0:
        raise ValueError("b must not be zero")
    require_symmetric(matvec, b)

    x, r = xp.zeros_like(b), b.copy()
    alpha, beta, rz = [], [], [float(r @ (preconditioner(r) if preconditioner else r))]
    for step in recurrence(matvec, x, r, preconditioner):
        for history, value in zip((alpha, beta, rz), step, strict=True):
            history.append(value)
        if len(alpha) == steps or norm(r) <= smallest:
            break
    return CgCoefficients(x, alpha, beta, rz[:-1], len(alpha), len(alpha) == steps or norm(r) <= smallest)


def tridiagonal_from_cg(alpha, beta):
    """Return the tridiagonal matrix of the Lanczos recurrence from the coefficients of conjugate gradients.

    Parameters
    ----------
    alpha : array (k,), positive
        Step lengths, no shorter than 1e-100 (float32: 1e-15).
    beta : array (k,), not negative
        Coefficients of the next direction after each step; the last one is not used.

    Returns
    -------
    array (k, k)

    Raises
    ------
    ValueError
        Wrong shapes, values that are not finite or not positive.
    """
    _, flags = validate.deferred(TRIDIAGONAL_INPUTS, alpha, beta)
    shortest = 1e-100 if alpha.dtype.itemsize == 8 else 1e-15
    validate.require(*flags, (lambda: (alpha >= shortest).all(), f"alpha must be no smaller than {shortest:g}"))
    # eq. cg-lanczos-tridiagonal
    diagonal = 1 / alpha
    diagonal[1:] += beta[:-1] / alpha[:-1]
    side = xp.sqrt(beta[:-1]) / alpha[:-1]
    return xp.diag(diagonal) + xp.diag(side, 1) + xp.diag(side, -1)


def error_estimate(alpha, rz, *, delay=4):
    """Return lower bounds of the squared error in the A-norm of the iterates that conjugate gradients went through.

    Parameters
    ----------
    alpha : array (k,), positive
        Step lengths.
    rz : array (k,), not negative
        ``r·z`` before each step.
    delay : int
        How many steps an estimate looks ahead. The last estimates look ahead as far as there are steps.

    Returns
    -------
    array (k,)
        For the iterates 0 to k - 1.

    Raises
    ------
    ValueError
        Wrong shapes, values that are not finite or negative, a `delay` below 1.
    """
    validate.inputs(ERROR_INPUTS, alpha, rz)
    validate.integer("[1, inf)", delay=delay)
    decrease = alpha * rz
    return xp.stack([decrease[k : k + delay].sum() for k in range(len(alpha))])  # eq. cg-lanczos-error


def _difference_from_lanczos(result, matvec, b, preconditioner=None, *, steps):
    """The first four steps of both recurrences give one matrix T, and the residual is orthogonal to their space; the
    products r·z begin with b·M⁻¹b, follow beta, and with alpha add up to ‖x‖_A² = b·x. Fewer steps than asked for end
    with a residual of rounding size.
    """
    n, k = len(b), min(result.iterations, 4)
    dense = lambda f: xp.stack([f(e) for e in xp.eye(n)], 1)  # noqa: E731
    A, inverse = dense(matvec), dense(preconditioner) if preconditioner else xp.eye(n)
    C = linalg.inv(linalg.cholesky((inverse + inverse.T) / 2)).T
    inside, start = linalg.solve(C, linalg.solve(C, A).T), linalg.solve(C, b)
    of_lanczos = lanczos(DenseOperator((inside + inside.T) / 2), start, steps=k)
    ours = tridiagonal_from_cg(xp.array(result.alpha[:k]), xp.array(result.beta[:k]))
    theirs, k = tridiagonal(of_lanczos), of_lanczos.iterations
    residual = linalg.solve(C, b - A @ result.x)
    rz, alpha, energy = xp.array(result.rz), xp.array(result.alpha), float(b @ result.x)
    following = xp.concatenate([(start @ start)[None], xp.array(result.beta)[:-1] * rz[:-1]])
    return {
        "difference from Lanczos": float(abs(ours[:k, :k] - theirs).max()) / float(abs(theirs).max()),
        "residual in the Krylov space": float(abs(of_lanczos.basis.T @ residual).max()) / norm(start),
        "error of r·z": float(abs(rz / following - 1).max()),
        "error of the energy": abs(float(alpha @ rz) / energy - 1),
        "residual of an early end": norm(b - A @ result.x) / norm(b) if result.iterations < steps else 0.0,
    }


def _brute_force_tridiagonal(alpha, beta):
    """T = L diag(1/alpha) L' with a unit lower bidiagonal L."""
    L = xp.eye(len(alpha)) + xp.diag(xp.sqrt(beta[:-1]), -1)
    return L @ xp.diag(1 / alpha) @ L.T


def _brute_force_error(alpha, rz, *, delay=4):
    k = len(alpha)
    return xp.array([sum(float(alpha[j] * rz[j]) for j in range(i, min(i + delay, k))) for i in range(k)])


def _example(rng, size):
    scale = rng.choice((0.1, 1.0, 30.0))
    A = spd_matrix(rng, scale * spectrum(size, rng.choice((2.0, 30.0))))
    M = DenseOperator(spd_matrix(rng, spectrum(size, 3.0))) if rng.random() < 0.5 else None
    return {"matvec": DenseOperator(A), "b": rng.standard_normal(size), "preconditioner": M}


def _histories(rng, size, name):
    return {"alpha": rng.uniform(0.3, 3.0, size), name: xp.exp(rng.uniform(-4, 1, size))}


METHOD = Method(
    key="strakos2002error",
    provenance="confirmed",
    functions=(
        Solver(
            f=cg_coefficients,
            inputs=INPUTS,
            example=_example,
            edges={
                "repeated eigenvalues": lambda: {
                    "matvec": DenseOperator(xp.diag(xp.array([2.0, 2.0, 5.0]))),
                    "b": xp.array([1.0, 2.0, 3.0]),
                    "preconditioner": None,
                },
                "small right-hand side": lambda: {
                    "matvec": DenseOperator(xp.diag(xp.array([2.0, 3.0, 5.0]))),
                    "b": xp.array([1e-16, 2e-16, 3e-16]),
                    "preconditioner": None,
                },
            },
            settings={"default": {"steps": 4}, "probe": {"steps": 3}},
            limits=(Limit("cg.cg", {"steps": 4}, {"max_iter": 4, "rtol": 1e-14}),),
            certificate=_difference_from_lanczos,
            tolerances={
                "difference from Lanczos": 1e-11,
                "residual in the Krylov space": 1e-11,
                "error of r·z": 1e-10,
                "error of the energy": 1e-11,
                "residual of an early end": 1e-13,
            },
            agreement=1e-9,
        ),
        Estimator(
            f=tridiagonal_from_cg,
            inputs=TRIDIAGONAL_INPUTS,
            example=lambda rng, size: _histories(rng, size, "beta"),
            edges={"converged": lambda: {"alpha": xp.array([0.5, 2.0]), "beta": xp.array([0.0, 0.0])}},
            brute_force=_brute_force_tridiagonal,
        ),
        Estimator(
            f=error_estimate,
            inputs=ERROR_INPUTS,
            example=lambda rng, size: _histories(rng, size, "rz"),
            edges={"a zero residual": lambda: {"alpha": xp.array([0.5, 2.0]), "rz": xp.array([1.0, 0.0])}},
            settings={"default": {}, "probe": {"delay": 3}},
            brute_force=_brute_force_error,
        ),
    ),
)
