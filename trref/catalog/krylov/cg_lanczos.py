"""What is known of `trref.krylov.cg_lanczos`."""

from trref.backend import linalg, xp
from trref.catalog import Estimator, Limit, Method, Solver
from trref.catalog.krylov.interfaces import REFUSED
from trref.krylov.cg_lanczos import cg_coefficients, error_estimate, tridiagonal_from_cg
from trref.krylov.lanczos import lanczos, tridiagonal
from trref.krylov.terms import norm
from trref.problems.convex import DenseOperator, spd_matrix, spectrum


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
    following = xp.concatenate(
        [(start @ start)[None], xp.array(result.beta)[:-1] * rz[:-1]]
    )
    return {
        "difference from Lanczos": float(abs(ours[:k, :k] - theirs).max())
        / float(abs(theirs).max()),
        "residual in the Krylov space": float(abs(of_lanczos.basis.T @ residual).max())
        / norm(start),
        "error of r·z": float(abs(rz / following - 1).max()),
        "error of the energy": abs(float(alpha @ rz) / energy - 1),
        "residual of an early end": norm(b - A @ result.x) / norm(b)
        if result.iterations < steps
        else 0.0,
    }


def _still_a_recurrence(result, matvec, b, preconditioner=None, *, steps):
    """Where it ends early, beta is still the quotient of the products r·z."""
    rz, beta = xp.array(result.rz), xp.array(result.beta)
    error = abs(beta[:-1] * rz[:-1] / rz[1:] - 1).max(initial=0.0)
    return {
        "error of beta": (float(error), 1e-12),
        "first r·z": (abs(result.rz[0] / float(b @ b) - 1), 1e-14),
    }


def _brute_force_tridiagonal(alpha, beta):
    """T = L diag(1/alpha) L' with a unit lower bidiagonal L."""
    L = xp.eye(len(alpha)) + xp.diag(xp.sqrt(beta[:-1]), -1)
    return L @ xp.diag(1 / alpha) @ L.T


def _brute_force_error(alpha, rz, *, delay=4):
    k = len(alpha)
    return xp.array(
        [
            sum(float(alpha[j] * rz[j]) for j in range(i, min(i + delay, k)))
            for i in range(k)
        ]
    )


def _example(rng, size):
    scale = rng.choice((0.1, 1.0, 30.0))
    A = spd_matrix(rng, scale * spectrum(size, rng.choice((2.0, 30.0))))
    M = (
        DenseOperator(spd_matrix(rng, spectrum(size, 3.0)))
        if rng.random() < 0.5
        else None
    )
    return {
        "matvec": DenseOperator(A),
        "b": rng.standard_normal(size),
        "preconditioner": M,
    }


def _histories(rng, size, name):
    return {
        "alpha": rng.uniform(0.3, 3.0, size),
        name: xp.exp(rng.uniform(-4, 1, size)),
    }


def _refused(make):
    inputs, _ = make()
    return {name: inputs[name] for name in ("matvec", "b", "preconditioner")}, {}


_REFUSED = {
    **{name: lambda make=make: _refused(make) for name, make in REFUSED.items()},
    "no right-hand side": lambda: (
        {**_refused(REFUSED["not symmetric"])[0], "b": xp.zeros(2)},
        {},
    ),
}

METHOD = Method(
    key="strakos2002error",
    provenance="confirmed",
    functions=(
        Solver(
            f=cg_coefficients,
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
            refused=_REFUSED,
            failures={
                "a singular matrix, and no solution": lambda: (
                    {
                        "matvec": DenseOperator(xp.diag(xp.array([2.0, 1.0, 0.0]))),
                        "b": xp.array([1.0, 1.0, 1.0]),
                        "preconditioner": None,
                    },
                    {"steps": 5},
                )
            },
            remains=_still_a_recurrence,
        ),
        Estimator(
            f=tridiagonal_from_cg,
            refused={
                "a step of nearly no length": lambda: (
                    {"alpha": xp.array([0.5, 1e-101]), "beta": xp.array([0.1, 0.0])},
                    {},
                )
            },
            example=lambda rng, size: _histories(rng, size, "beta"),
            edges={
                "converged": lambda: {
                    "alpha": xp.array([0.5, 2.0]),
                    "beta": xp.array([0.0, 0.0]),
                }
            },
            brute_force=_brute_force_tridiagonal,
        ),
        Estimator(
            f=error_estimate,
            example=lambda rng, size: _histories(rng, size, "rz"),
            edges={
                "a zero residual": lambda: {
                    "alpha": xp.array([0.5, 2.0]),
                    "rz": xp.array([1.0, 0.0]),
                }
            },
            settings={"default": {}, "probe": {"delay": 3}},
            brute_force=_brute_force_error,
        ),
    ),
)
