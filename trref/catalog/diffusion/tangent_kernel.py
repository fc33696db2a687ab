"""What is known of `trref.diffusion.tangent_kernel`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Method
from trref.diffusion.tangent_kernel import (
    early_stop,
    empirical_kernel,
    kernel_descent,
    limit_kernel,
)


def _inputs(rng, size):
    M, P, D, Q = (
        int(rng.choice((1, 3, 9))),
        int(rng.integers(1, 5)),
        int(rng.integers(1, 4)),
        int(rng.integers(1, 6)),
    )
    return {
        "W": rng.standard_normal((M, P)),
        "a": rng.choice((-1.0, 1.0), (M, D)),
        "Z": float(rng.choice((0.3, 1.0, 5.0))) * rng.standard_normal((size, P)),
        "queries": rng.standard_normal((Q, P)),
    }


def _empirical(Z, queries):
    W = xp.array([[1.0, -1.0], [0.5, 2.0], [-1.0, -0.25]])
    a = xp.array([[1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    return {"W": W, "a": a, "Z": xp.array(Z), "queries": xp.array(queries)}


def _unlike_units():
    edge = _empirical([[1.0, 2.0], [0.5, -1.0]], [[1.0, 0.0]])
    return {**edge, "a": edge["a"] * xp.array([[0.5, 2.0], [3.0, 1.0], [1.5, 0.25]])}


PAIRS = {
    "equal, opposite and orthogonal inputs": (
        [[1.0, 2.0], [-1.0, -2.0], [2.0, -1.0]],
        [[1.0, 2.0]],
    ),
    "parallel inputs": ([[1.0, 2.0], [3.0, 6.0]], [[0.1, 0.2], [1.0, 2.0]]),
    "an input of zero": ([[0.0, 0.0], [1.0, 1.0]], [[1.0, 0.0], [0.0, 0.0]]),
    "almost parallel inputs": ([[1.0, 1.0]], [[1.0, 1.0 + 1e-7], [1.0, 1.0]]),
}


def empirical_by_derivatives(W, a, Z, queries):
    """Brute force: inner products of the derivatives of the outputs by all weights."""

    def derivatives(z):
        return [
            xp.array(
                [
                    [sign * (float(w @ z) > 0) * q for q in z.tolist()]
                    for w, sign in zip(W, column, strict=True)
                ]
            )
            for column in a.T.tolist()
        ]

    D, result = a.shape[1], xp.zeros((len(queries), len(Z), a.shape[1], a.shape[1]))
    for p, query in enumerate(queries):
        ours = derivatives(query)
        for n, z in enumerate(Z):
            theirs = derivatives(z)
            for i in range(D):
                for k in range(D):
                    result[p, n, i, k] = float((ours[i] * theirs[k]).sum()) / len(W)
    return result


def limit_by_angles(Z, queries):
    """Brute force: the angle in the plane of each pair, by Gram and Schmidt."""
    result = xp.zeros((len(queries), len(Z)))
    for p, q in enumerate(queries):
        for n, z in enumerate(Z):
            size = math.sqrt(float(q @ q))
            if size == 0 or not float(z @ z):
                continue
            along = float(q @ z) / size
            across = z - along * q / size
            angle = math.atan2(math.sqrt(float(across @ across)), along)
            result[p, n] = size * along * (math.pi - angle) / (2 * math.pi)
    return result


# ---- descent


def _kernels(rng, size):
    N, Q, D = size, int(rng.integers(1, 6)), int(rng.integers(1, 4))
    A = rng.standard_normal((N, N + 2)) / math.sqrt(N)
    return {
        "kernel": A @ A.T / 2 + 0.05 * xp.eye(N),
        "query_kernel": rng.standard_normal((Q, N)) / math.sqrt(N),
        "Y": rng.standard_normal((N, D)),
    }


def _kernel(kernel, Y):
    kernel = xp.array(kernel)
    return {
        "kernel": kernel,
        "query_kernel": xp.concatenate([kernel, kernel[:1] / 2]),
        "Y": xp.array(Y),
    }


KERNELS = {
    "one sample": lambda: _kernel([[2.0]], [[1.0, -1.0]]),
    "a sample twice": lambda: _kernel([[1.0, 1.0], [1.0, 1.0]], [[1.0], [-0.5]]),
    "an input of zero": lambda: _kernel([[0.0, 0.0], [0.0, 4.0]], [[3.0], [1.0]]),
    "no kernel": lambda: _kernel([[0.0]], [[1.0]]),
    "unlike eigenvalues": lambda: _kernel(
        [[4.0, 0.0, 0.0], [0.0, 1e-3, 0.0], [0.0, 0.0, 1e-7]], [[1.0], [1.0], [1.0]]
    ),
}


def descent_by_steps(kernel, query_kernel, Y, *, lr=0.01, steps=100):
    """Brute force: the iteration itself, in the coefficients."""
    c = xp.zeros_like(Y)
    for _ in range(steps):
        c = c + lr * (Y - kernel @ c)
    return query_kernel @ c


def _step_of_the_mean(kernel, query_kernel, Y, *, lr=0.01, steps=100):
    return kernel_descent(kernel, query_kernel, Y, lr=lr / len(Y), steps=steps)


# ---- stopping


def _spectrum(rng, size):
    return {
        "eigenvalues": rng.permutation(
            rng.uniform(0.5, 1.5) * xp.exp(-0.4 * xp.arange(size))
        )
    }


def stop_by_the_rule(eigenvalues, *, noise=1.0, lr=0.1):
    """Brute force: one step after the other until the rule says so."""
    t, values = 1, eigenvalues.tolist()
    while True:
        eta = lr * t
        local = math.sqrt(sum(min(v, 1 / eta) for v in values) / len(values))
        if local > 1 / (2 * math.e * noise * eta):
            return xp.asarray(t - 1.0)
        t += 1


METHOD = Method(
    key="han2024neural",
    provenance="reconstructed",
    functions=(
        Estimator(
            f=empirical_kernel,
            example=_inputs,
            edges={
                "a second layer that is not of signs": _unlike_units,
                **{
                    name: lambda pair=pair: _empirical(*pair)
                    for name, pair in PAIRS.items()
                },
            },
            sizes=(4, 8, 16),
            brute_force=empirical_by_derivatives,
        ),
        Estimator(
            f=limit_kernel,
            example=lambda rng, size: {
                k: v for k, v in _inputs(rng, size).items() if k in ("Z", "queries")
            },
            edges={
                name: lambda pair=pair: {
                    "Z": xp.array(pair[0]),
                    "queries": xp.array(pair[1]),
                }
                for name, pair in PAIRS.items()
            },
            brute_force=limit_by_angles,
        ),
        Estimator(
            f=kernel_descent,
            example=_kernels,
            edges=KERNELS,
            settings={
                "default": {},
                "no step": {"lr": 0.25, "steps": 0},
                "one step": {"steps": 1},
                "a long step": {"lr": 0.25, "steps": 7},
                "probe": {"lr": 0.05, "steps": 30},
            },
            brute_force=descent_by_steps,
            refused={
                "a step that is too long": lambda: (
                    _kernel([[2.0]], [[1.0]]),
                    {"lr": 0.6},
                ),
                "a kernel that is indefinite": lambda: (
                    _kernel([[0.0, 1.0], [1.0, 0.0]], [[1.0], [1.0]]),
                    {},
                ),
            },
            deviations=(
                Deviation(
                    "a step of the mean loss",
                    _step_of_the_mean,
                    seen_in="trainers that take the mean of a batch, as most do",
                    computes="the predictions after steps that are shorter by the number of samples",
                ),
            ),
        ),
        Estimator(
            f=early_stop,
            example=_spectrum,
            edges={
                "one eigenvalue": lambda: {"eigenvalues": xp.array([0.7])},
                "some are zero": lambda: {"eigenvalues": xp.array([0.0, 0.4, 0.0])},
                "equal eigenvalues": lambda: {"eigenvalues": xp.full(5, 0.3)},
                "stops at once": lambda: {"eigenvalues": xp.full(2, 1e4)},
            },
            settings={
                "default": {},
                "little noise": {"noise": 0.02},
                "probe": {"noise": 0.05, "lr": 0.03},
            },
            brute_force=stop_by_the_rule,
            refused={
                "eigenvalues that are all 0": {"eigenvalues": 0},
            },
        ),
    ),
)
