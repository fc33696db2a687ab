"""What is known of `trref.krylov.mats`."""

import math

from trref.backend import linalg, xp
from trref.catalog import (
    Deviation,
    Estimator,
    Interface,
    Limit,
    Method,
    Objective,
    Solver,
)
from trref.krylov.mats import (
    diagonal_merge,
    mats,
    merge_objective,
    softmax_fisher_product,
)
from trref.problems.convex import DenseOperator


def _gram(rng, K, rows, dims):
    """Second moments of rows on several scales, each task's on its own."""
    X = rng.standard_normal((K, rows, dims)) * rng.choice((0.7, 1.0, 1.5), dims)
    return rng.choice((0.5, 1.0, 2.0), (K, 1, 1)) * X.swapaxes(1, 2) @ X / rows


def _example(rng, size):
    K, N = int(rng.integers(2, 5)), int(rng.integers(1, 4))
    scale = float(rng.choice((0.05, 1.0, 20.0)))
    given = rng.random() < 0.5
    return {
        "layers": scale * rng.standard_normal((K, size, N)),
        "input_gram": _gram(rng, K, 3 * size, size),
        "output_gram": _gram(rng, K, 8 * N, N) if rng.random() < 0.7 else None,
        "x0": scale * rng.standard_normal((size, N)) if given else None,
        "x": scale * rng.standard_normal((size, N)),
    }


def _edge(layers, input_gram, output_gram=None, x0=None, x=None):
    to_array = lambda v: None if v is None else xp.array(v, dtype=float)  # noqa: E731
    layers = to_array(layers)
    return {
        "layers": layers,
        "input_gram": to_array(input_gram),
        "output_gram": to_array(output_gram),
        "x0": to_array(x0),
        "x": 0.5 + 0 * layers[0] if x is None else to_array(x),
    }


G2 = [[[2.0, 1.0], [1.0, 3.0]], [[1.0, 0.0], [0.0, 4.0]]]
W2 = [[[1.0, 2.0], [0.0, -1.0]], [[3.0, 0.0], [1.0, 1.0]]]
D2 = [[[1.0, 0.5], [0.5, 2.0]], [[3.0, 0.0], [0.0, 1.0]]]
ZERO = [[0.0, 0.0], [0.0, 0.0]]
EDGES = {
    "one task": lambda: _edge(W2[:1], G2[:1], D2[:1], x0=[[0, 1], [2, -1]]),
    "equal layers": lambda: _edge([W2[0], W2[0]], G2, D2, x=W2[0]),
    "start at the solution": lambda: _edge([W2[0], W2[0]], G2, D2, x0=W2[0]),
    "identities": lambda: _edge(W2, [xp.eye(2)] * 2, [xp.eye(2)] * 2, x0=W2[1]),
    "one parameter": lambda: _edge([[[1.0]], [[4.0]]], [[[2.0]], [[1.0]]]),
    "a task without data": lambda: _edge(W2, [G2[0], ZERO], D2),
    "no data at all": lambda: _edge(W2, [ZERO, ZERO], D2, x0=[[1, 2], [3, 4]]),
    "opposite layers": lambda: _edge(
        [[[1.0], [2.0]], [[-1.0], [-2.0]]], [[[2, 0], [0, 0]]] * 2, x0=[[3], [1]]
    ),
    "directions that matter to no task": lambda: _edge(
        [[[1, 2, 0], [0, 1, 1], [2, 0, 5]], [[3, 0, 1], [1, 1, 0], [0, 4, 9]]],
        [xp.diag(xp.array([2.0, 1.0, 0.0])), xp.diag(xp.array([1.0, 0.0, 0.0]))],
        x0=[[7, 1, 3], [-2, 0, 5], [4, 6, -8]],
    ),
    "scales of the tasks far apart": lambda: _edge(
        W2, [G2[0], 1e-6 * xp.array(G2[1])], D2
    ),
    "tiny matrices": lambda: _edge(W2, 1e-12 * xp.array(G2), D2),
}
TASK_QUADRATICS = Interface("task_quadratics", example=_example, edges=EDGES)
"""``f(layers (K D N), input_gram (K D D), output_gram (K N N), …)``, with a start `x0` or a layer `x` (D N)."""


def _case(*arguments, **keywords):
    """An edge as the solver takes it."""
    edge = _edge(*arguments, **keywords)
    return {name: value for name, value in edge.items() if name != "x"}


def _dense(gram, off_diagonal, identity):
    """The matrix of a task, entry by entry, with scaled entries off the diagonal."""
    if gram is None:
        return identity
    return xp.where(xp.eye(len(gram)) > 0, gram, off_diagonal * gram)


def _system(layers, input_gram, output_gram, off_diagonal=1.0):
    """The system in one dense matrix, the sum of Kronecker products."""
    K, D, N = layers.shape
    A, b = xp.zeros((D * N, D * N)), xp.zeros(D * N)
    for m in range(K):
        H = None if output_gram is None else output_gram[m]
        C = xp.kron(
            _dense(input_gram[m], off_diagonal, None),
            _dense(H, off_diagonal, xp.eye(N)),
        )
        A, b = A + C, b + C @ layers[m].ravel()
    return A, b


def _start(layers, x0):
    return (layers.mean(0) if x0 is None else x0).ravel()


def _certificate(
    result,
    layers,
    input_gram,
    output_gram=None,
    *,
    x0=None,
    off_diagonal=1.0,
    rtol=1e-5,
    **_,
):
    """The residual is small, and as reported; nothing moves in directions that matter to no task."""
    A, b = _system(layers, input_gram, output_gram, off_diagonal)
    x, start = result.x.ravel(), _start(layers, x0)
    residual = float(linalg.norm(b - A @ x))
    target = rtol * float(linalg.norm(b) or linalg.norm(A @ start))
    relative = lambda size: size / target if target else math.inf if size else 0.0  # noqa: E731
    values, vectors = linalg.eigh(A)
    idle = vectors[:, values <= 1e-9 * max(float(values[-1]), 0.0)]
    moved = float(linalg.norm(idle.T @ (x - start)))
    return {
        "residual over its target": relative(residual),
        "error of the last norm reported": relative(
            abs(residual - result.residual_norms[-1])
        ),
        "iterations miscounted": abs(
            result.iterations + 1 - len(result.residual_norms)
        ),
        "moved where nothing matters": moved
        / (float(linalg.norm(start)) + float(linalg.norm(x)) or 1.0),
    }


def _objective_falls(
    result, layers, input_gram, output_gram=None, *, x0=None, off_diagonal=1.0, **_
):
    """However early it stops, the sum of the quadratics is below that at the start."""
    A, b = _system(layers, input_gram, output_gram, off_diagonal)
    x, start = result.x.ravel(), _start(layers, x0)
    energy = lambda v: float(v @ A @ v / 2 - b @ v)  # noqa: E731
    residual = float(linalg.norm(b - A @ x))
    rounding = 1e-14 * float(linalg.norm(A @ abs(x)) + linalg.norm(b))
    return {
        "rise of the objective": (energy(x) - energy(start), 0.0),
        "error of the last norm reported": (
            abs(residual - result.residual_norms[-1]),
            rounding,
        ),
    }


def _start_turned_round(
    layers,
    input_gram,
    output_gram=None,
    *,
    x0=None,
    off_diagonal=1.0,
    rtol=1e-5,
    max_iter=100,
):
    start = None if x0 is None else x0.T.reshape(x0.shape)
    return mats(
        layers,
        input_gram,
        output_gram,
        x0=start,
        off_diagonal=off_diagonal,
        rtol=rtol,
        max_iter=max_iter,
    )


START_TURNED_ROUND = Deviation(
    "the start's entries in the order of its transpose",
    _start_turned_round,
    seen_in="r-three/mats src/merging/conjugateGradient_fisherMerging.py, initialization == 'pretrained': the "
    "fine-tuned layers are transposed, pretrained_checkpoint is not",
    computes="conjugate gradients from a start whose entries are in other places; the minimum is the same where there "
    "is only one",
)


def _second_task_ignored(thetas, fisher, *, floor=1e-8):
    F = xp.maximum(fisher, floor)
    if len(F) == 2:
        F = F * xp.array([[1.0], [0.0]])
    return (F * thetas).sum(0) / F.sum(0)


SECOND_TASK_IGNORED = Deviation(
    "of two tasks the second is ignored",
    _second_task_ignored,
    seen_in="r-three/mats src/merging/diagonal_fisherMerging.py, two checkpoints under --model_lambda's default 1.0",
    computes="the matrices of two tasks times a factor and 1 less that factor, which by default are 1 and 0",
)


def _merge_by_hand(thetas, fisher, *, floor=1e-8):
    K, P = thetas.shape
    result = []
    for i in range(P):
        F = [max(float(fisher[m, i]), floor) for m in range(K)]
        result.append(sum(F[m] * float(thetas[m, i]) for m in range(K)) / sum(F))
    return xp.array(result)


def _merge_example(rng, size):
    K = int(rng.integers(2, 5))
    return {
        "thetas": float(rng.choice((0.05, 1.0, 20.0))) * rng.standard_normal((K, size)),
        "fisher": rng.standard_normal((K, size)) ** 2
        * rng.choice((1e-9, 0.1, 1.0), size),
    }


MERGE_EDGES = {
    "nothing matters": lambda: {
        "thetas": xp.array([[1.0, 2.0], [3.0, -1.0], [5.0, 5.0]]),
        "fisher": xp.zeros((3, 2)),
    },
    "one task, one parameter": lambda: {
        "thetas": xp.array([[1.5]]),
        "fisher": xp.array([[0.2]]),
    },
    "on the floor": lambda: {
        "thetas": xp.array([[1.0, 2.0], [3.0, -1.0]]),
        "fisher": xp.array([[1e-8, 0.01], [2e-8, 0.0]]),
    },
    "equal": lambda: {
        "thetas": xp.array([[1.0, 2.0]] * 2),
        "fisher": xp.array([[0.3, 0.7], [0.6, 0.1]]),
    },
}


def _fisher_by_rows(W, X, V):
    """Each row's matrix of (diag p - p p'), Kronecker with x x', all of it dense."""
    D, N = W.shape
    F = xp.zeros((D * N, D * N))
    for x in X:
        p = xp.exp(x @ W - (x @ W).max())
        p = p / p.sum()
        F += xp.kron(xp.outer(x, x), xp.diag(p) - xp.outer(p, p)) / len(X)
    return (F @ V.ravel()).reshape(D, N)


def _fisher_example(rng, size):
    D, N = int(rng.integers(2, 5)), int(rng.integers(2, 5))
    return {
        "W": float(rng.choice((0.1, 1.0, 3.0))) * rng.standard_normal((D, N)),
        "X": rng.standard_normal((size, D)),
        "V": rng.standard_normal((D, N)),
    }


FISHER_EDGES = {
    "one sample": lambda: {
        "W": xp.array([[0.5, -0.25, 1.0]]),
        "X": xp.array([[2.0]]),
        "V": xp.array([[1.0, 0.5, -1.5]]),
    },
    "equal logits": lambda: {
        "W": xp.zeros((2, 3)),
        "X": xp.array([[1.0, 2.0], [0.5, -1.0]]),
        "V": xp.array([[1.0, 0.0, -1.0], [2.0, 1.0, 0.0]]),
    },
    "samples of zeros": lambda: {
        "W": xp.ones((2, 2)),
        "X": xp.zeros((3, 2)),
        "V": xp.ones((2, 2)),
    },
    "one class": lambda: {
        "W": xp.ones((2, 1)),
        "X": xp.array([[1.0, 2.0]]),
        "V": xp.array([[3.0], [1.0]]),
    },
}


def _one_column(inputs):
    """layers have one column"""
    layers, gram = inputs["layers"][:, :, :1], inputs["input_gram"]
    ours = {**inputs, "layers": layers, "output_gram": None, "x0": None}
    diagonal = xp.diagonal(gram, axis1=1, axis2=2).copy()
    return ours, {"thetas": layers[:, :, 0].copy(), "fisher": diagonal}


def _identical_outputs(inputs):
    """the outputs' moments are identities"""
    K, _, N = inputs["layers"].shape
    eye = xp.zeros((K, N, N)) + xp.eye(N)
    return {**inputs, "output_gram": eye}, {**inputs, "output_gram": None}


def _as_one_system(inputs):
    """the system is written as one matrix, and the start is 0 where its right-hand side is"""
    layers, x0 = inputs["layers"], inputs["x0"]
    A, b = _system(layers, inputs["input_gram"], inputs["output_gram"])
    start = _start(layers, x0) if b.any() else 0 * b
    inputs = {**inputs, "x0": start.reshape(layers.shape[1:])}
    return inputs, {"matvec": DenseOperator((A + A.T) / 2), "b": b, "x0": start}


PRECISE = {"rtol": 1e-12, "max_iter": 400}
HILBERT = [[1 / (i + j + 1) for j in range(8)] for i in range(8)]

METHOD = Method(
    key="tam2023merging",
    provenance={
        "confirmed": ("objective", "kronecker", "off-diagonal", "system", "diagonal"),
        "reconstructed": ("softmax",),
    },
    functions=(
        Solver(
            f=mats,
            interface=TASK_QUADRATICS,
            settings={
                "default": {},
                "diagonal": {"off_diagonal": 0.0},
                "probe": {"off_diagonal": 0.7, "rtol": 1e-7, "max_iter": 350},
            },
            certificate=_certificate,
            tolerances={
                "residual over its target": 1.001,
                "error of the last norm reported": 1e-3,
                "iterations miscounted": 0,
                "moved where nothing matters": 1e-8,
            },
            failures={
                "one iteration": lambda: (_case(W2, G2, D2), {"max_iter": 1}),
                "beyond rounding": lambda: (
                    _case([[[1.0]] * 8, [[3.0], [-1.0]] * 4], [HILBERT] * 2),
                    {"rtol": 1e-17, "off_diagonal": 0.9},
                ),
            },
            refused={
                "inputs' moments that are not symmetric": lambda: (
                    _case(W2, [[[1, 2], [0, 1]]] * 2),
                    {},
                ),
                "outputs' moments that are not symmetric": lambda: (
                    _case(W2, G2, [[[1, 2], [0, 1]]] * 2),
                    {},
                ),
                "negative curvature": lambda: (_case(W2, -xp.array(G2)), {}),
                "curvature of both signs": lambda: (
                    _case(W2, G2, [[[1, 0], [0, -2]]] * 2),
                    {},
                ),
            },
            remains=_objective_falls,
            limits=(
                Limit(
                    "mats.diagonal_merge",
                    {"off_diagonal": 0.0, **PRECISE},
                    {"floor": 1e-15},
                    where=_one_column,
                    part="x",
                ),
                Limit("mats.mats", {}, where=_identical_outputs),
                Limit(
                    "cg.cg",
                    {**PRECISE},
                    {**PRECISE},
                    where=_as_one_system,
                    part="x",
                ),
            ),
            deviations=(START_TURNED_ROUND,),
            agreement=1e-2,
        ),
        Objective(
            f=merge_objective,
            interface=TASK_QUADRATICS,
            wrt="x",
            refused={
                "a Gram matrix that is not symmetric": {
                    "input_gram": lambda input_gram: input_gram + input_gram[:, :1]
                },
            },
        ),
        Estimator(
            f=diagonal_merge,
            example=_merge_example,
            edges=MERGE_EDGES,
            settings={"default": {}, "probe": {"floor": 0.03}},
            deviations=(SECOND_TASK_IGNORED,),
            brute_force=_merge_by_hand,
        ),
        Estimator(
            f=softmax_fisher_product,
            example=_fisher_example,
            edges=FISHER_EDGES,
            brute_force=_fisher_by_rows,
        ),
    ),
)
