"""What is known of `trref.tokens.trusted_direction`."""

from trref.backend import linalg, xp
from trref.catalog import Estimator, Method, Transform
from trref.tokens.trusted_direction import (
    direction_similarity,
    explained_share,
    project_gradient,
    weighted_projection,
)


def example(rng, size):
    """A change of well-separated singular values, tall or wide, and a gradient."""
    M, N = (
        (size, max(size // 2, 2)) if rng.random() < 0.5 else (max(size // 2, 2), size)
    )
    k = min(M, N)
    U, V = (linalg.qr(rng.standard_normal((n, k)))[0] for n in (M, N))
    scale = float(rng.choice((0.01, 1.0, 30.0)))
    return {
        "grad": rng.standard_normal((M, N)),
        "change": scale * (U * 0.7 ** xp.arange(k)) @ V.T,
    }


def _edge(grad, change):
    return {
        "grad": xp.array(grad, dtype=float),
        "change": xp.array(change, dtype=float),
    }


EDGES = {
    "one direction": lambda: _edge(
        [[1.0, 2.0], [3.0, -1.0], [0.5, 0.0]], [[2.0, 4.0], [0.0, 0.0], [-1.0, -2.0]]
    ),
    "one row": lambda: _edge([[1.0, -2.0, 0.5]], [[0.0, 3.0, 4.0]]),
    "one number": lambda: _edge([[2.0]], [[-3.0]]),
    "a small gradient": lambda: _edge(
        [[0.01, 0.02, -0.01], [0.03, 0.0, 0.01]], [[3.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    ),
    "a tiny change": lambda: _edge(
        [[1.0, 2.0, 0.0], [3.0, -1.0, 2.0]], [[3e-20, 0.0, 1e-20], [0.0, 1e-20, 0.0]]
    ),
    "a direction of little weight": lambda: _edge(
        [[1.0, 2.0], [3.0, -1.0]], [[1.0, 0.0], [0.0, 1.2e-6]]
    ),
    "nothing has moved": lambda: _edge(
        [[1.0, 2.0], [3.0, -1.0]], [[0.0, 0.0], [0.0, 0.0]]
    ),
    "a gradient of 0": lambda: _edge(
        [[0.0] * 3] * 2, [[3.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    ),
}


def pair(rng, size):
    first = example(rng, size)["change"]
    return {
        "change": first,
        "other": first + abs(first).max() * rng.standard_normal(first.shape),
    }


def _two(change, other):
    return {
        "change": xp.array(change, dtype=float),
        "other": xp.array(other, dtype=float),
    }


PAIRS = {
    "one direction": lambda: _two(
        [[2.0, 4.0], [0.0, 0.0], [-1.0, -2.0]], [[1.0, 0.0], [0.5, 2.0], [0.0, 1.0]]
    ),
    "the same change": lambda: _two(
        [[3.0, 0.0, 1.0], [0.0, 1.0, 0.0]], [[6.0, 0.0, 2.0], [0.0, 2.0, 0.0]]
    ),
    "nothing in common": lambda: _two(
        [[1.0, 2.0], [0.0, 0.0]], [[0.0, 0.0], [3.0, 1.0]]
    ),
    "one row": lambda: _two([[1.0, 2.0]], [[0.0, -1.0]]),
    "a tiny change": lambda: _two(
        [[3e-20, 0.0, 1e-20], [0.0, 1e-20, 0.0]], [[1.0, 2.0, 0.0], [3.0, -1.0, 2.0]]
    ),
    "a direction of little weight": lambda: _two(
        [[1.0, 0.0], [0.0, 1.2e-6]], [[1.0, 1.0], [0.0, 2.0]]
    ),
    "nothing has moved": lambda: _two(
        [[0.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [3.0, 1.0]]
    ),
}


def _output_by_gram(change, rank):
    """Eigenvectors of the Gram matrix, up to signs; 0 where the eigenvalue is."""
    values, vectors = linalg.eigh(change @ change.T)
    return (vectors * (values > 1e-12 * values[-1]))[:, ::-1][
        :, : min(rank, *change.shape)
    ]


def _share_by_gram(grad, change, *, rank=2):
    U = _output_by_gram(change, rank)
    whole = float((grad**2).sum())
    return float(sum(((U[:, k] @ grad) ** 2).sum() for k in range(U.shape[1]))) / (
        whole or 1.0
    )


def _cosines_by_gram(change, other, *, rank=2):
    """Square roots of the eigenvalues of the product of the projectors."""
    U, Z = (_output_by_gram(x, rank) for x in (change, other))
    values = linalg.eigh(U.T @ Z @ Z.T @ U)[0]
    return xp.sqrt(xp.maximum(values[::-1], 0))


METHOD = Method(
    key="deng2026directional",
    provenance={
        "partly": ("svd", "hard", "similarity"),
        "reconstructed": ("weighted", "share"),
    },
    functions=(
        Transform(
            f=project_gradient,
            example=example,
            edges=EDGES,
            wrt="grad",
            idempotent=True,
            jvp=lambda grad, change, tangent, **hyper: project_gradient(
                tangent, change, **hyper
            ),
            vjp=lambda grad, change, cotangent, **hyper: project_gradient(
                cotangent, change, **hyper
            ),
            settings={
                "default": {},
                "input": {"side": "input"},
                "probe": {"rank": 3, "side": "both"},
            },
        ),
        Transform(
            f=weighted_projection,
            example=example,
            edges=EDGES,
            wrt="grad",
            settings={"default": {}, "probe": {"rank": 3, "keep_norm": True}},
        ),
        Estimator(
            f=explained_share,
            example=example,
            edges=EDGES,
            settings={"default": {}, "probe": {"rank": 3}},
            brute_force=_share_by_gram,
        ),
        Estimator(
            f=direction_similarity,
            example=pair,
            edges=PAIRS,
            settings={"default": {}, "probe": {"rank": 3}},
            brute_force=_cosines_by_gram,
        ),
    ),
)
