"""Where the examples on the Stiefel manifold come from, with arbitrary leading batch axes."""

from trref.backend import linalg, xp
from trref.catalog import Interface
from trref.problems.convex import spd_matrix
from trref.problems.frames import Brockett, Procrustes

__all__ = [
    "ALONG_STEP",
    "ANY_STEP",
    "LOST_RANK",
    "MATRIX",
    "MINIMISER",
    "NO_FRAME",
    "PAIR",
    "STEP",
    "TRANSPORT",
    "off_manifold",
    "off_tangent",
    "random_frame",
    "random_near",
    "random_tangent",
    "small_frame",
]


def off_manifold(result, **_):
    """How far the columns are from orthonormal."""
    return float(abs(result.mT @ result - xp.eye(result.shape[-1])).max())


def off_tangent(y, result, z):
    """How far a vector is from the tangent space at y, relative to z where that is longer than 1."""
    M = y.mT @ result
    return float(abs(M + M.mT).max()) / max(2 * float(abs(z).max()), 1.0)


def random_frame(rng, n, p):
    """Return a random frame (n, p) on the host."""
    return linalg.qr(rng.standard_normal((n, p)))[0]


def random_tangent(rng, x):
    """Return a random tangent vector at x, of random scale, on the host."""
    z = rng.choice((0.05, 0.4, 1.5)) * rng.standard_normal(x.shape)
    M = x.T @ z
    return z - x @ (M + M.T) / 2


def random_near(rng, x, copies):
    """Return frames (copies, n, p) near x, of random spread, on the host."""
    spread = rng.choice((0.01, 0.1, 0.3)) / len(x) ** 0.5
    U, _, Vt = linalg.svd(
        x + spread * rng.standard_normal((copies, *x.shape)), full_matrices=False
    )
    return U @ Vt


def small_frame(rng, size):
    """Return a random frame with `size` rows and at most four columns, on the host."""
    return random_frame(rng, size, min(size, int(rng.integers(1, 5))))


def _step(rng, size):
    x = small_frame(rng, size)
    return {"x": x, "z": random_tangent(rng, x)}


def _any_step(rng, size):
    example = _step(rng, size)
    return {
        "x": example["x"],
        "z": example["z"] + 0.1 * rng.standard_normal(example["z"].shape),
    }


def _batch():
    x = xp.stack([xp.eye(4)[:, :2], xp.eye(4)[:, 2:]])
    return {"x": x, "z": xp.arange(16.0).reshape(2, 4, 2) / 10}


EDGES = {
    "no step": lambda: {"x": xp.eye(5)[:, :2], "z": xp.zeros((5, 2))},
    "square": lambda: {
        "x": xp.eye(3),
        "z": xp.array([[0.0, -0.4, 0.1], [0.4, 0.0, 0.2], [-0.1, -0.2, 0.0]]),
    },
    "sphere": lambda: {
        "x": xp.eye(4)[:, :1],
        "z": xp.array([[0.0], [0.3], [-0.2], [0.9]]),
    },
    "negative entries on the diagonal": lambda: {
        "x": -xp.eye(4)[:, :2],
        "z": xp.ones((4, 2)) / 8,
    },
    "a batch": _batch,
}

STEP = Interface("step", example=_step, edges=EDGES)
"""``retract(x, z)``: a frame and a tangent vector there."""

LOST_RANK = {
    "a step that loses a column": lambda: (
        {"x": xp.eye(3)[:, :2], "z": xp.array([[-1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])},
        {},
    ),
    "a step that makes two columns equal": lambda: (
        {"x": xp.eye(3)[:, :2], "z": xp.array([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])},
        {},
    ),
}
"""Steps, not tangent, after which x + z has no nearest frame."""

ANY_STEP = Interface("any_step", example=_any_step, edges=EDGES)
"""``project(x, z)``: a frame and any matrix of its shape."""


def _along_step(rng, size):
    x = small_frame(rng, size)
    return {"x": x, "step": random_tangent(rng, x), "z": random_tangent(rng, x)}


def _with_step(edge):
    def make():
        made = edge()
        x, step = made["x"], made["z"]
        other = xp.flip(step, -2) + x / 4
        M = x.mT @ other
        return {"x": x, "step": step, "z": other - x @ (M + M.mT) / 2}

    return make


ALONG_STEP = Interface(
    "along_step",
    example=_along_step,
    edges={name: _with_step(edge) for name, edge in EDGES.items()},
)
"""``transport_qr(x, step, z)``: move the tangent vector z from x to where the retraction of `step` leads."""


def _to_end(along):
    y = linalg.qr(along["x"] + along["step"])[0]
    return {"x": along["x"], "y": y, "z": along["z"]}


TRANSPORT = Interface(
    "transport",
    example=lambda rng, size: _to_end(_along_step(rng, size)),
    edges={
        name: (lambda edge=edge: _to_end(_with_step(edge)()))
        for name, edge in EDGES.items()
    },
)
"""``transport(x, y, z)``: move the tangent vector z from x to y."""


def _any_matrix(rng, size):
    p = min(size, int(rng.integers(1, 5)))
    return {
        "y": rng.choice((0.4, 1.0, 30.0))
        * (random_frame(rng, size, p) + 0.3 * rng.standard_normal((size, p)))
    }


MATRIX = Interface(
    "matrix",
    example=_any_matrix,
    edges={
        "a frame": lambda: {"y": xp.eye(4)[:, :2]},
        "negative": lambda: {"y": -2 * xp.eye(3)},
        "one number": lambda: {"y": xp.array([[-0.3]])},
        "far from orthogonal": lambda: {
            "y": xp.array([[1.0, 1.0], [0.0, 0.3], [0.0, 0.0]])
        },
        "a batch": lambda: {
            "y": xp.stack([xp.eye(3)[:, :2], xp.arange(6.0).reshape(3, 2) - 1])
        },
    },
)
"""``nearest_frame(y)``: any matrices of full column rank."""


NO_FRAME = {
    "two equal columns": lambda: ({"y": xp.ones((3, 2))}, {}),
    "a column of zeros": lambda: ({"y": xp.array([[1.0, 0.0], [2.0, 0.0]])}, {}),
    "more columns than rows": lambda: ({"y": xp.eye(3)[:2]}, {}),
}
"""Matrices that have no nearest frame, or many."""


def _minimiser(rng, size):
    """Brockett's function from anywhere, from near its minimum or its maximum; orthogonal Procrustes."""
    p = min(size, int(rng.integers(1, 4)))
    x0 = random_frame(rng, size, p)
    if rng.random() < 0.3:
        A = spd_matrix(rng, 1 + rng.random(size))
        return {
            "loss_and_grad": Procrustes(
                A, A @ x0 + 0.1 * rng.standard_normal((size, p))
            ),
            "x0": random_frame(rng, size, p),
        }
    A = spd_matrix(rng, xp.concatenate([rng.random(size - p), 2.0 + xp.arange(p)]))
    vectors = linalg.eigh(A)[1]
    near = {"minimum": vectors[:, ::-1][:, :p], "maximum": vectors[:, :p]}.get(
        rng.choice(("minimum", "maximum", "any"))
    )
    x0 = x0 if near is None else random_near(rng, near, 1)[0]
    return {
        "loss_and_grad": Brockett(
            rng.choice((0.1, 1.0, 30.0)) * A, xp.arange(p, 0, -1.0)
        ),
        "x0": x0,
    }


MINIMISER = Interface(
    "minimiser",
    example=_minimiser,
    edges={
        "start at the solution": lambda: {
            "loss_and_grad": Brockett(
                xp.diag(xp.array([3.0, 2.0, 1.0])), xp.array([2.0, 1.0])
            ),
            "x0": xp.eye(3)[:, :2],
        },
        "start at a saddle": lambda: {
            "loss_and_grad": Brockett(
                xp.diag(xp.array([3.0, 2.0, 1.0])), xp.array([2.0, 1.0])
            ),
            "x0": xp.eye(3)[:, 1:],
        },
        "a weak function": lambda: {
            "loss_and_grad": Brockett(
                xp.diag(xp.array([0.03, 0.02, 0.015, 0.01])), xp.array([2.0, 1.0])
            ),
            "x0": xp.array([[0.5, 0.5], [0.5, -0.5], [0.5, 0.5], [0.5, -0.5]]),
        },
        "sphere": lambda: {
            "loss_and_grad": Brockett(
                xp.diag(xp.array([4.0, 1.0, 1.0, 1.0])), xp.array([1.0])
            ),
            "x0": xp.full((4, 1), 0.5),
        },
        "square": lambda: {
            "loss_and_grad": Procrustes(xp.eye(2), xp.eye(2)),
            "x0": xp.array([[0.6, -0.8], [0.8, 0.6]]),
        },
    },
)
"""``solver(loss_and_grad, x0) -> MinimiserResult`` with ``loss_and_grad(x) -> (loss, Euclidean gradient)``."""


def _pair(rng, size):
    x = small_frame(rng, size)
    return {"x": x, "y": -random_near(rng, x, 1)[0, :, ::-1].copy()}


PAIR = Interface(
    "pair",
    example=_pair,
    edges={
        "orthogonal": lambda: {"x": xp.eye(4)[:, :2], "y": xp.eye(4)[:, 2:]},
        "one vector": lambda: {"x": xp.eye(2)[:, :1], "y": xp.array([[-0.6], [0.8]])},
        "a batch": lambda: {
            "x": xp.stack([xp.eye(4)[:, :2], xp.eye(4)[:, 2:]]),
            "y": xp.stack([xp.eye(4)[:, 1:3], xp.eye(4)[:, :1:-1]]),
        },
    },
)
"""``subspace_distance(x, y)``: two frames."""
