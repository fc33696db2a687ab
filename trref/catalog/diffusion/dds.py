"""What is known of `trref.diffusion.dds`."""

import math

from trref.backend import linalg, xp
from trref.catalog import Deviation, Estimator, Interface, Limit, Method, Objective
from trref.diffusion.dds import (
    Volume,
    admm_tv,
    dc_noiseless,
    dc_noisy,
    dds_step,
    dds_step_ve,
    dps_loss,
    exact_consistency,
    full_projection,
    row_cg,
)
from trref.diffusion.score_models import denoise
from trref.problems.measurements import LinearMeasurement, NormalOperator
from trref.problems.mixtures import GaussianMixture, MixtureDenoiser

SIZES = ((2, 5), (1, 3), (3, 3), (4, 2), (3, 7))  # measurements, entries


def _matrix(rng, M, D):
    """A matrix whose singular values lie between 0.5 and 1.5."""
    U, _, V = linalg.svd(rng.standard_normal((M, D)), full_matrices=False)
    return (U * rng.uniform(0.5, 1.5, len(V))) @ V


def _example(rng, size):
    """Measurements without noise of data near the estimates."""
    M, D = SIZES[int(rng.integers(len(SIZES)))]
    A, x0 = _matrix(rng, M, D), rng.standard_normal((size, D))
    return {
        "measurement": LinearMeasurement(A),
        "A": A,
        "x0": x0,
        "x": rng.standard_normal((size, D)),
        "noise": rng.standard_normal((size, D)),
        "z": rng.standard_normal((size, D)),
        "y": (x0 + rng.standard_normal((size, D))) @ A.T,
        "split": 0.1 * rng.standard_normal((size, D)),
        "dual": 0.1 * rng.standard_normal((size, D)),
    }


def _edge(A, data):
    A, data = xp.array(A), xp.array(data)
    x0 = xp.cos(xp.arange(data.size * 1.0)).reshape(data.shape)
    return {
        "measurement": LinearMeasurement(A),
        "A": A,
        "x0": x0,
        "x": x0 + data,
        "noise": x0[:, ::-1] / 2,
        "z": -2 * x0,
        "y": data @ A.T,
        "split": 0.05 * x0,
        "dual": -0.05 * data,
    }


MEASURED = Interface(
    "measured",
    example=_example,
    edges={
        "some entries are seen": lambda: _edge(
            [[1.0, 0, 0, 0], [0, 0, 1.0, 0]],
            [[1.0, 2.0, 3.0, -1.0], [0.5, 0.0, 0.0, 1.0]],
        ),
        "all is seen": lambda: _edge(
            [[1.0, 0.0], [0.0, 2.0]], [[1.0, -1.0], [3.0, 0.5], [0.0, 2.0]]
        ),
        "the same entry twice": lambda: _edge([[1.0, 1.0], [1.0, 1.0]], [[1.0, 0.5]]),
        "nothing is seen": lambda: _edge(
            [[0.0, 0.0, 0.0]], [[1.0, 2.0, 3.0], [0.0, 1.0, -1.0]]
        ),
        "one number": lambda: _edge([[0.5]], [[2.0], [-1.0]]),
        "more measurements than steps": lambda: _edge(
            xp.linspace(0.5, 1.5, 7)[:, None] * xp.eye(7, 8),
            xp.sin(1 + xp.arange(16.0).reshape(2, 8) ** 2),
        ),
    },
)
"""``f(measurement or A, x0 or x (N D), y (N M), …)``."""


# ---- conjugate gradients


def _systems(rng, size):
    D = int(rng.integers(1, 7))
    A = _matrix(rng, D, D)
    return {
        "operator": NormalOperator(A, float(rng.choice((0.0, 0.5, 2.0)))),
        "b": rng.standard_normal((size, D)),
        "x0": rng.standard_normal((size, D)),
    }


def _system(A, shift, b, x0):
    operator = NormalOperator(xp.array(A), shift)
    return {"operator": operator, "b": xp.array(b), "x0": xp.array(x0)}


def _singular(scale, start=0.0):
    """Two measurements of seven entries: a solution exists up to rounding."""
    A = xp.cos(xp.arange(14.0) ** 2).reshape(2, 7)
    y = scale * xp.array([[1.0, -0.3], [0.2, 0.7]])
    x0 = start * xp.sin(xp.arange(14.0)).reshape(2, 7)
    return {"operator": NormalOperator(A, 0.0), "b": y @ A, "x0": x0}


SYSTEMS = {
    "the identity": lambda: _system(
        xp.zeros((1, 3)), 1.0, [[1.0, 2.0, -1.0], [0.0, 1.0, 0.0]], xp.zeros((2, 3))
    ),
    "rows solved at the start and not": lambda: _system(
        xp.diag(xp.array([1.0, 2.0])),
        0.0,
        [[1.0, 4.0], [2.0, 1.0]],
        [[1.0, 1.0], [0.0, 0.0]],
    ),
    "a singular system with a solution": lambda: _system(
        [[1.0, 1.0]], 0.0, [[2.0, 2.0], [-1.0, -1.0]], [[1.0, 0.0], [0.5, 0.5]]
    ),
    "rows of very different size": lambda: _system(
        xp.diag(xp.array([1.0, 0.5, 2.0])),
        0.25,
        [[1e6, 2e6, -1e6], [1e-6, 0.0, 2e-6]],
        xp.zeros((2, 3)),
    ),
    "a singular system in general position": lambda: _singular(1.0),
    "a large singular system": lambda: _singular(1e9),
    "a singular system from afar": lambda: _singular(1e-3, 1e4),
    "no operator": lambda: _system([[0.0, 0.0]], 0.0, [[1.0, 2.0]], [[0.5, 0.5]]),
}


def krylov_basis(operator, r, steps):
    """An orthonormal basis (D, l) of the Krylov space of one residual; shorter where the space is."""
    basis = []
    for _ in range(steps):
        new = r
        for _ in range(2):
            for q in basis:
                new = new - (q @ new) * q
        size = math.sqrt(float(new @ new))
        if size <= 1e-9 * math.sqrt(float(r @ r)):
            break
        basis.append(new / size)
        r = operator(basis[-1][None])[0]
    return xp.stack(basis, 1) if basis else None


def by_krylov(operator, b, x0, *, iterations=5):
    """Brute force: the minimiser over the Krylov space, by a dense solve in an orthonormal basis."""
    rows = []
    for start, right in zip(x0, b, strict=True):
        r = right - operator(start[None])[0]
        V = krylov_basis(operator, r, iterations) if float(abs(r).max()) > 0 else None
        if V is None:
            rows.append(start)
            continue
        H = V.T @ operator(V.T).T
        if float(abs(H).max()) == 0:  # no curvature
            rows.append(start)
            continue
        rows.append(start + V @ linalg.solve(H, V.T @ r))
    return xp.stack(rows)


def noiseless_by_krylov(measurement, x0, y, *, iterations=5):
    A = measurement.A
    return by_krylov(lambda x: x @ (A.T @ A), y @ A, x0, iterations=iterations)


def noisy_by_krylov(measurement, x0, y, *, gamma=5.0, iterations=5):
    """Brute force in another form: least squares of the misfit over the Krylov space of AᵀA alone."""
    A, rows = measurement.A, []
    for start, right in zip(x0, y, strict=True):
        r = (right - A @ start) @ A
        V = (
            krylov_basis(lambda x: x @ (A.T @ A), r, iterations)
            if float(abs(r).max()) > 0
            else None
        )
        if V is None:
            rows.append(start)
            continue
        tall = xp.concatenate([math.sqrt(gamma) * A @ V, V])
        aim = xp.concatenate([math.sqrt(gamma) * (right - A @ start), 0 * start])
        rows.append(start + V @ linalg.lstsq(tall, aim, rcond=None)[0])
    return xp.stack(rows)


def exact_by_normal_equations(A, x0, y, *, gamma=5.0):
    return linalg.solve(xp.eye(A.shape[1]) + gamma * A.T @ A, (x0 + gamma * y @ A).T).T


def projection_by_least_squares(A, x0, y):
    """The least correction that fits best, row by row."""
    return xp.stack(
        [
            s + linalg.lstsq(A, t - A @ s, rcond=1e-12)[0]
            for s, t in zip(x0, y, strict=True)
        ]
    )


def _many_steps(inputs):
    """enough steps for every row"""
    return inputs, {
        "A": inputs["measurement"].A,
        "x0": inputs["x0"],
        "y": inputs["y"],
    }


def _first_row(inputs):
    """one row from 0, and as many steps as it has entries"""
    operator = NormalOperator(inputs["operator"].A, 1.0)
    b, x0 = inputs["b"][:1], 0 * inputs["x0"][:1]
    ours = {"operator": operator, "b": b, "x0": x0}
    return ours, {"matvec": _OneRow(operator.A), "b": b[0], "x0": x0[0]}


class _OneRow(NormalOperator):
    """The operator on a vector."""

    def __call__(self, x):
        return super().__call__(x[None])[0]


def _for_the_whole_batch(operator, b, x0, *, iterations=5):
    x, r = x0, b - operator(x0)
    p, rr = r, float((r * r).sum())
    for _ in range(iterations):
        Ap = operator(p)
        if math.sqrt(rr) < 1e-5 or not float((p * Ap).sum()):
            break
        a = rr / float((p * Ap).sum())
        x, r = x + a * p, r - a * Ap
        rr, old = float((r * r).sum()), rr
        p = r + rr / old * p
    return x + 0


BATCH = Deviation(
    "one step length for the whole batch",
    _for_the_whole_batch,
    seen_in="HJ-harry/DDS, utils.py, CG",
    computes="conjugate gradients with inner products over all rows, until their norm is below 1e-5",
)


def _pseudo_inverse(measurement, x0, y, *, iterations=5):
    return dc_noiseless(measurement, x0, y, iterations=2 * x0.shape[1])


# ---- steps


def _by_hand(measurement, x, noise, y, gamma, iterations, alpha, sigma):
    x0 = (x - sigma * noise) / alpha
    if gamma is None:
        return noiseless_by_krylov(measurement, x0, y, iterations=iterations)
    return noisy_by_krylov(measurement, x0, y, gamma=gamma, iterations=iterations)


def step_by_krylov(
    measurement,
    x,
    noise,
    z,
    y,
    *,
    alpha_bar=0.5,
    next_alpha_bar=0.8,
    eta=0.85,
    gamma=None,
    iterations=5,
):
    """Brute force: the posterior's variance by its own formula, 1/(1/(1 - s) + (t/s)/(1 - t/s))."""
    t, s = alpha_bar, next_alpha_bar
    x0 = _by_hand(measurement, x, noise, y, gamma, iterations, t**0.5, (1 - t) ** 0.5)
    if s == 1:
        return x0
    precision = 1 / (1 - s) + (t / s) / (1 - t / s)
    fresh = eta**2 / precision
    return s**0.5 * x0 + (1 - s - fresh) ** 0.5 * noise + fresh**0.5 * z


def step_ve_by_krylov(
    measurement,
    x,
    noise,
    z,
    y,
    *,
    sigma=1.0,
    next_sigma=0.5,
    eta=0.85,
    gamma=None,
    iterations=5,
):
    """Brute force: the posterior of less noise given more, two Gaussians multiplied."""
    x0 = _by_hand(measurement, x, noise, y, gamma, iterations, 1.0, sigma)
    if not next_sigma:
        return x0
    precision = 1 / next_sigma**2 + 1 / (sigma**2 - next_sigma**2)
    fresh = eta**2 / precision
    return x0 + (next_sigma**2 - fresh) ** 0.5 * noise + fresh**0.5 * z


def _noise_split(
    measurement,
    x,
    noise,
    z,
    y,
    *,
    alpha_bar=0.5,
    next_alpha_bar=0.8,
    eta=0.85,
    gamma=None,
    iterations=5,
):
    x0 = denoise(x, noise, alpha_bar=alpha_bar)
    if gamma is None:
        x0 = dc_noiseless(measurement, x0, y, iterations=iterations)
    else:
        x0 = dc_noisy(measurement, x0, y, gamma=gamma, iterations=iterations)
    left = math.sqrt(1 - next_alpha_bar)
    put = left * math.sqrt(1 - eta**2) * noise + left * eta * z
    return math.sqrt(next_alpha_bar) * x0 + put


# ---- volumes


def _tied(N, D):
    """The differences of slices as a dense matrix on the flat volume."""
    turned = xp.eye(N)[(xp.arange(N) + 1) % N]
    return _kronecker(turned - xp.eye(N), xp.eye(D))


def _kronecker(a, b):
    return (a[:, None, :, None] * b[None, :, None, :]).reshape(len(a) * len(b), -1)


def admm_by_dense(
    measurement, x0, y, split, dual, *, rho=10.0, tv_weight=0.04, iterations=5
):
    """Brute force: the volume as one vector, D as a dense matrix, the minimiser over the Krylov space."""
    N, D = x0.shape
    T, A = _tied(N, D), _kronecker(xp.eye(N), measurement.A)
    system = A.T @ A + rho * T.T @ T
    b = A.T @ y.ravel() + rho * T.T @ (split - dual).ravel()
    x = by_krylov(
        lambda v: v @ system, b[None], x0.reshape(1, -1), iterations=iterations
    )
    moved = T @ x[0] + dual.ravel()
    bound = tv_weight / rho
    shrunk = xp.where(
        moved > bound, moved - bound, xp.where(moved < -bound, moved + bound, 0)
    )
    return Volume(*(v.reshape(N, D) for v in (x[0], shrunk, moved - shrunk)))


# ---- the gradient through the model


def _through(rng, size):
    M, D = SIZES[int(rng.integers(len(SIZES)))]
    factor = rng.standard_normal((2, D, D)) / 2
    mixture = GaussianMixture(
        xp.array([0.4, 0.6]),
        rng.standard_normal((2, D)),
        factor @ factor.swapaxes(1, 2) + 0.1 * xp.eye(D),
    )
    return {
        "model": MixtureDenoiser(mixture),
        "measurement": LinearMeasurement(_matrix(rng, M, D)),
        "x": rng.standard_normal((size, D)),
        "y": rng.standard_normal((size, M)),
    }


def _one_row_through():
    mixture = GaussianMixture(xp.ones(1), xp.array([[1.0, 0.0]]), xp.eye(2)[None])
    return {
        "model": MixtureDenoiser(mixture),
        "measurement": LinearMeasurement(xp.array([[1.0, 1.0]])),
        "x": xp.array([[0.5, -0.25]]),
        "y": xp.array([[3.0]]),
    }


def _one_number_through():
    mixture = GaussianMixture(
        xp.array([0.5, 0.5]), xp.array([[1.0], [-1.0]]), 0.1 + xp.zeros((2, 1, 1))
    )
    return {
        "model": MixtureDenoiser(mixture),
        "measurement": LinearMeasurement(xp.array([[2.0]])),
        "x": xp.array([[0.1], [0.0]]),
        "y": xp.array([[1.0], [0.5]]),
    }


METHOD = Method(
    key="chung2023decomposed",
    provenance={
        "confirmed": ("noiseless", "noisy", "cg", "admm"),
        "partly": ("step", "step-ve"),
        "reconstructed": ("exact", "projection", "dps"),
    },
    functions=(
        Estimator(
            f=row_cg,
            example=_systems,
            edges=SYSTEMS,
            settings={
                "default": {},
                "no step": {"iterations": 0},
                "one step": {"iterations": 1},
                "many steps": {"iterations": 12},
                "probe": {"iterations": 3},
            },
            brute_force=by_krylov,
            limits=(
                Limit(
                    "cg.cg",
                    {"iterations": 12},
                    {"rtol": 1e-13},
                    where=_first_row,
                    part="x",
                ),
            ),
            deviations=(BATCH,),
        ),
        Estimator(
            f=dc_noiseless,
            interface=MEASURED,
            settings={
                "default": {},
                "one step": {"iterations": 1},
                "probe": {"iterations": 2},
            },
            brute_force=noiseless_by_krylov,
            limits=(
                Limit("dds.full_projection", {"iterations": 12}, where=_many_steps),
            ),
            deviations=(
                Deviation(
                    "a pseudo-inverse for conjugate gradients",
                    _pseudo_inverse,
                    seen_in="HJ-harry/DDS, solver_2d.py, magnetic resonance with one coil",
                    computes="the whole projection, here by as many steps as it needs",
                ),
            ),
        ),
        Estimator(
            f=dc_noisy,
            interface=MEASURED,
            settings={
                "default": {},
                "one step": {"iterations": 1},
                "probe": {"gamma": 0.7, "iterations": 2},
            },
            brute_force=noisy_by_krylov,
            limits=(
                Limit("dds.exact_consistency", {"iterations": 12}, where=_many_steps),
            ),
        ),
        Estimator(
            f=exact_consistency,
            interface=MEASURED,
            settings={"default": {}, "probe": {"gamma": 0.7}},
            brute_force=exact_by_normal_equations,
        ),
        Estimator(
            f=full_projection,
            interface=MEASURED,
            brute_force=projection_by_least_squares,
        ),
        Estimator(
            f=dds_step,
            interface=MEASURED,
            settings={
                "default": {},
                "noisy": {"gamma": 5.0},
                "deterministic": {"eta": 0.0},
                "to the data": {"next_alpha_bar": 1.0},
                "probe": {
                    "alpha_bar": 0.3,
                    "next_alpha_bar": 0.45,
                    "eta": 0.6,
                    "gamma": 0.7,
                    "iterations": 2,
                },
            },
            brute_force=step_by_krylov,
            limits=(Limit("score_models.ddim_step", {"iterations": 0}, {"eta": 0.85}),),
            deviations=(
                Deviation(
                    "another split of the noise",
                    _noise_split,
                    seen_in="HJ-harry/DDS, solver_2d.py and solver_3d.py",
                    computes="fresh noise of variance eta² (1 - next_alpha_bar), and the rest predicted",
                ),
            ),
            refused={
                "a step away from the data": {"alpha_bar": 0.8, "next_alpha_bar": 0.5},
            },
        ),
        Estimator(
            f=dds_step_ve,
            interface=MEASURED,
            settings={
                "default": {},
                "noisy": {"gamma": 5.0},
                "to the data": {"next_sigma": 0.0},
                "probe": {
                    "sigma": 2.5,
                    "next_sigma": 0.7,
                    "eta": 0.6,
                    "gamma": 0.7,
                    "iterations": 2,
                },
            },
            brute_force=step_ve_by_krylov,
            refused={
                "a step to more noise": {"sigma": 0.5, "next_sigma": 1.0},
            },
        ),
        Estimator(
            f=admm_tv,
            interface=MEASURED,
            settings={
                "default": {},
                "no total variation": {"tv_weight": 0.0},
                "probe": {"rho": 0.6, "tv_weight": 0.02, "iterations": 3},
            },
            brute_force=admm_by_dense,
            sizes=(4, 8, 16),
        ),
        Objective(
            f=dps_loss,
            example=_through,
            edges={"one row": _one_row_through, "one number": _one_number_through},
            wrt="x",
            settings={"default": {}, "probe": {"time": 0.2}},
        ),
    ),
)
