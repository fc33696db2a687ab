"""What is known of `trref.optimizers.psgd`."""

from trref.backend import xp
from trref.catalog import (
    Deviation,
    Estimator,
    Interface,
    Limit,
    Method,
    Objective,
    UpdateRule,
)
from trref.optimizers.psgd import (
    Kronecker,
    LowRank,
    MatrixFree,
    criterion,
    dense_step,
    diagonal_step,
    init,
    kronecker_step,
    low_rank_step,
    matrix_free_step,
    update,
)


def _pairs(rng, size):
    v = rng.standard_normal(size)
    rank = 2 + size // 4 % 2
    return {
        "q": rng.standard_normal((size, size)) / size + xp.eye(size),
        "d": 0.5 + rng.random(size),
        "alpha": 1 + rng.random(size),
        "beta": rng.uniform(-0.7, 0.7, size),
        "U": rng.standard_normal((size, rank)) / size**0.5 / 3,
        "V": rng.standard_normal((size, rank)) / size**0.5 / 3,
        "v": v,
        "h": rng.choice((0.2, 3.0)) * (v + 0.5 * rng.standard_normal(size)),
    }


def _pair(v, h):
    def make():
        n = len(v)
        waves = xp.cos(xp.arange(float(n)))
        return {
            "q": xp.eye(n) + 0.3 * xp.outer(waves, waves[::-1]),
            "d": 1 + waves**2,
            "alpha": 1 + waves**2,
            "beta": 0.5 * waves,
            "U": 0.3 * waves[:, None],
            "V": 0.2 + 0 * waves[:, None],
            "v": xp.array(v),
            "h": xp.array(h),
        }

    return make


PAIR = Interface(
    "curvature_pair",
    example=_pairs,
    edges={
        "one number": _pair([2.0], [-3.0]),
        "nothing": _pair([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
        "no probe": _pair([0.0, 0.0], [1.0, -2.0]),
        "no product": _pair([1.0, -2.0], [0.0, 0.0]),
        "odd": _pair([1.0, -2.0, 0.5, 3.0, 0.0], [0.5, 0.0, -4.0, 1.0, 2.0]),
        "negative curvature": _pair([1.0, -1.0], [-2.0, 0.5]),
        "small": _pair([0.1, -0.2], [0.3, 0.1]),
    },
)
"""``f(q or other parts of Q, v (N), h (N), …)``: a factor, a probe, and the Hessian times the probe."""


def _matrices(rng, size):
    shape = (size, 2 + size % 3)
    v = rng.standard_normal(shape)
    left, right = (xp.triu(rng.standard_normal((n, n)) / n) for n in shape)
    return {
        "left": left + 1.5 * xp.eye(shape[0]),
        "right": right + 1.5 * xp.eye(shape[1]),
        "v": v,
        "h": rng.choice((0.2, 3.0)) * (v + 0.5 * rng.standard_normal(shape)),
    }


def _two_by_one(scale):
    left = xp.array([[1.0, 0.5], [0.0, 2.0]])
    v, h = xp.array([[1.0], [-2.0]]), xp.array([[0.5], [3.0]])
    return {"left": left, "right": xp.array([[0.5]]), "v": scale * v, "h": scale * h}


def _both(q, v, h):
    """a = Qh, b = Q⁻ᵀv, and the inverse, without a solver for systems."""
    inverse = xp.linalg.inv(q)
    return q @ h, inverse.T @ v, inverse


def _move(q, slope, size, fit_rate):
    return q - fit_rate * slope / size @ q if size else q.copy()


def _dense(q, v, h, *, fit_rate=0.1, triangular=False):
    a, b, _ = _both(q, v, h)
    n = len(v)
    slope = xp.array([[a[i] * a[j] - b[i] * b[j] for j in range(n)] for i in range(n)])
    if triangular:
        slope = xp.array([[slope[i, j] * (i <= j) for j in range(n)] for i in range(n)])
    return _move(q, slope, float(a @ a + b @ b), fit_rate)


def _diagonal(d, v, h, *, fit_rate=0.1):
    a, b, _ = _both(xp.diag(d), v, h)
    size = max(x * x + y * y for x, y in zip(a.tolist(), b.tolist(), strict=True))
    return xp.diag(_move(xp.diag(d), xp.diag(a * a - b * b), size, fit_rate)).copy()


def _matrix_free(alpha, beta, v, h, *, fit_rate=0.1):
    n = len(v)
    mirror = xp.eye(n)[::-1]
    middle = xp.asarray([float(2 * i != n - 1) for i in range(n)])
    q = xp.diag(alpha) + (middle * beta)[:, None] * mirror
    a, b, _ = _both(q, v, h)
    outer = xp.outer(a, a) - xp.outer(b, b)
    slope = (
        xp.diag(xp.diag(outer)) + (middle * xp.diag(outer @ mirror))[:, None] * mirror
    )
    q = _move(q, slope, float((a * a + b * b).max()), fit_rate)
    if n % 2:  # the middle of the diagonal is no antidiagonal
        return MatrixFree(xp.diag(q).copy(), middle * xp.diag(q @ mirror))
    return MatrixFree(xp.diag(q).copy(), xp.diag(q @ mirror).copy())


def _low_rank(d, U, V, v, h, *, fit_rate=0.1, moved="U"):
    n, rank = U.shape
    q = (xp.eye(n) + U @ V.T) @ xp.diag(d)
    a, b, inverse = _both(q, v, h)
    Ph, Pv = q.T @ q @ h, inverse @ inverse.T @ v
    least = [
        ((x * x + y * y) * (s * s + t * t)) ** -0.5
        for x, y, s, t in zip(*(z.tolist() for z in (Ph, v, h, Pv)), strict=True)
        if (x or y) and (s or t)
    ]
    new = d - fit_rate * min(least, default=0.0) * d * (Ph * h - v * Pv)
    outer = xp.outer(a, a) - xp.outer(b, b)
    fixed = V if moved == "U" else U
    norm = lambda y: float(xp.sqrt((y * y).sum()))  # noqa: E731
    size = norm(a) * norm(fixed @ fixed.T @ a) + norm(b) * norm(fixed @ fixed.T @ b)
    rate = fit_rate / size if size else 0.0
    if moved == "U":
        U = U - rate * outer @ V @ (xp.eye(rank) + V.T @ U)
    else:
        V = V - rate * (xp.eye(n) + V @ U.T) @ outer @ U
    return LowRank(new, U.copy(), V.copy())


def _kronecker(left, right, v, h, *, fit_rate=0.1):
    m, n = v.shape
    q = xp.kron(right, left)  # acts on columns, stacked
    a, b, _ = _both(q, v.T.ravel(), h.T.ravel())
    A, B = a.reshape(n, m).T, b.reshape(n, m)
    sizes = [xp.linalg.norm(S, 2) for S in (A @ A.T + B.T @ B, A.T @ A + B @ B.T)]
    return Kronecker(
        _move(left, xp.triu(A @ A.T - B.T @ B), float(sizes[0]), fit_rate),
        _move(right, xp.triu(A.T @ A - B @ B.T), float(sizes[1]), fit_rate),
    )


def _largest_entry(q, v, h, *, fit_rate=0.1, triangular=False):
    a, b, _ = _both(q, v, h)
    slope = xp.outer(a, a) - xp.outer(b, b)
    slope = xp.triu(slope) if triangular else slope
    return _move(q, slope, float(abs(slope).max()), fit_rate)


PSGD_LARGEST_ENTRY = Deviation(
    "largest entry",
    _largest_entry,
    seen_in='lixilinx/psgd_torch, preconditioned_stochastic_gradient_descent.py, step_normalizer="1st"',
    computes="a step that is divided by the largest entry of the slope, not by a second derivative",
    documented=True,
)


def _run(rng, shapes, steps=6):
    """Products with a fixed matrix: a diagonal of both signs and a little of the reversed probe."""
    draw = lambda: [rng.standard_normal(s) for s in shapes]  # noqa: E731
    diagonal, probes = draw(), [draw() for _ in range(steps)]
    products = [
        [
            (2 + c) * v + 0.2 * v.ravel()[::-1].reshape(v.shape)
            for c, v in zip(diagonal, each, strict=True)
        ]
        for each in probes
    ]
    scale = rng.choice((0.1, 2.0))
    return {
        "params": draw(),
        "gradients": [[scale * g for g in draw()] for _ in range(steps)],
        "probes": probes,
        "products": products,
    }


def _edge(shapes, probe, product, first=1.0):
    def make():
        steps = 3
        waves = [
            xp.cos(xp.arange(1.0, 1 + float(xp.prod(xp.array(s))))).reshape(s)
            for s in shapes
        ]
        return {
            "params": waves,
            "gradients": [[w + k for w in waves] for k in range(steps)],
            "probes": [
                [(probe if k else first * probe) * (w - k) for w in waves]
                for k in range(steps)
            ],
            "products": [[product * (k - w * w) for w in waves] for k in range(steps)],
        }

    return make


CURVED_UPDATE = Interface(
    "curved_update",
    example=lambda rng, size: _run(rng, [(size, 2), (3,)]),
    edges={
        "one parameter": _edge([(1,)], 1.0, 2.0),
        "a kernel and a row": _edge([(2, 1, 3), (1, 4)], 1.0, -0.5),
        "no probe at first": _edge([(1, 2)], 1.0, 0.5, first=0.0),
        "no pairs": _edge([(3,)], 0.0, 0.0),
        "no products": _edge([(2,)], 1.0, 0.0),
    },
)
"""``update(params, grads, state, *, probe, product, …)``: with a probe at each step, and the Hessian times it."""


def _first_order(inputs):
    """The factor is the identity and stays so"""
    return inputs, {name: inputs[name] for name in ("params", "gradients")}


STEPS = {"default": {}, "probe": {"fit_rate": 0.6}}
AS_SGD = {"momentum": 0.8, "lr": 0.05, "averaging": "ema"}
AS_PSGD = {"momentum": 0.8, "lr": 0.05, "fit_rate": 0.0, "initial_scale": 1.0}

SINGULAR_FACTOR = {
    "a singular factor": {"q": 1.0},
}

ZERO_DIAGONAL = {
    "a diagonal of 0": {"d": 0},
}


METHOD = Method(
    key="pooladzandi2024curvature",
    provenance={
        "confirmed": (
            "criterion",
            "dense",
            "diagonal",
            "matrix-free",
            "low-rank",
            "kronecker",
            "step",
            "start",
        ),
        "reconstructed": ("gradient",),
    },
    functions=(
        UpdateRule(
            f=update,
            interface=CURVED_UPDATE,
            init=init,
            step_inputs={"probe": "probes", "product": "products"},
            sizes=(4, 8),
            seeds=(0,),
            settings={
                "default": {},
                "triangular": {"group": "triangular", "fit_rate": 0.5},
                "diagonal": {"group": "diagonal", "radius": 0.5, "lr": 0.3},
                "matrix-free": {"group": "matrix_free", "momentum": 0.5},
                "low rank": {"group": "low_rank", "rank": 2, "fit_rate": 0.3},
                "probe": {
                    "group": "kronecker",
                    "lr": 0.05,
                    "momentum": 0.6,
                    "fit_rate": 0.3,
                    "radius": 0.7,
                    "rank": 3,
                    "initial_scale": 0.5,
                },
            },
            limits=tuple(
                Limit("sgd.update", {**AS_PSGD, "group": g}, AS_SGD, where=_first_order)
                for g in ("dense", "triangular", "diagonal", "matrix_free", "kronecker")
            ),
        ),
        Objective(
            f=criterion,
            interface=PAIR,
            wrt="q",
            sizes=(4, 8),
            refused=SINGULAR_FACTOR,
        ),
        Estimator(
            f=dense_step,
            interface=PAIR,
            sizes=(4, 8),
            settings={
                "default": {},
                "full": {"fit_rate": 0.9},
                "probe": {"fit_rate": 0.6, "triangular": True},
            },
            brute_force=_dense,
            deviations=(PSGD_LARGEST_ENTRY,),
            refused=SINGULAR_FACTOR,
        ),
        Estimator(
            f=diagonal_step,
            interface=PAIR,
            settings=STEPS,
            brute_force=_diagonal,
            refused=ZERO_DIAGONAL,
        ),
        Estimator(
            f=matrix_free_step,
            interface=PAIR,
            settings=STEPS,
            brute_force=_matrix_free,
            refused={
                "entries that cancel": {"alpha": 1.0, "beta": 1.0},
            },
        ),
        Estimator(
            f=low_rank_step,
            interface=PAIR,
            settings={
                "default": {},
                "V": {"moved": "V"},
                "probe": {"fit_rate": 0.6, "moved": "V"},
            },
            brute_force=_low_rank,
            refused=ZERO_DIAGONAL,
        ),
        Estimator(
            f=kronecker_step,
            example=_matrices,
            edges={
                "two by one": lambda: _two_by_one(1.0),
                "small": lambda: _two_by_one(0.03),
                "nothing": lambda: _two_by_one(0.0),
            },
            settings=STEPS,
            brute_force=_kronecker,
            refused={
                "a singular left factor": {"left": 1.0},
                "a singular right factor": {"right": 1.0},
            },
        ),
    ),
)
