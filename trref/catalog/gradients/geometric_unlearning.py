"""What is known of `trref.gradients.geometric_unlearning`."""

from trref.backend import xp
from trref.catalog import (
    Deviation,
    Estimator,
    Interface,
    Limit,
    Method,
    Solver,
    Transform,
)
from trref.gradients.geometric_unlearning import (
    Split,
    candidate,
    first_order_change,
    joint_step,
    metric_direction,
    normal_direction,
    safe_cone,
    split,
    whiten,
)


def _example(rng, size):
    """One to four retain gradients with singular values apart, and a forget gradient that is partly in their span."""
    P = size
    M = int(rng.integers(1, min(4, P) + 1))
    frame = xp.linalg.qr(rng.standard_normal((P, P)))[0][:M]
    mixed = xp.linalg.qr(rng.standard_normal((M, M)))[0]
    rows = mixed @ (3.0 * 0.4 ** xp.arange(M)[:, None] * frame)
    return {
        "gradient": rng.standard_normal(P) + rng.standard_normal(M) @ frame,
        "retain": rng.choice((0.1, 1.0, 10.0)) * rows,
        "retain_gradient": rng.standard_normal(M) @ frame
        + 0.3 * rng.standard_normal(P),
        "curvature": xp.exp(rng.uniform(-1.0, 1.0, P)),
        "direction": rng.standard_normal(P),
    }


def _case(gradient, retain, retain_gradient=None, curvature=None):
    g = xp.array(gradient)
    return {
        "gradient": g,
        "retain": xp.array(retain),
        "retain_gradient": xp.array(retain_gradient or [1.0] * len(g)),
        "curvature": xp.array(curvature or [2.0] * len(g)),
        "direction": g - 1,
    }


UNLEARNING = Interface(
    "unlearning",
    example=_example,
    edges={
        "as many rows as parameters": lambda: _case(
            [3.0, -1.0], [[2.0, 0.0], [0.0, 1.0]], [1.0, 0.5], [1.0, 4.0]
        ),
        "orthogonal already": lambda: _case([0.0, 0.0, 2.0], [[3.0, 4.0, 0.0]]),
        "a row of 0": lambda: _case(
            [1.0, 2.0, -1.0], [[0.0, 0.0, 0.0], [2.0, 0.0, 0.0]], [0.5, 1.0, 1.0]
        ),
        "nothing to retain": lambda: _case([1.0, 2.0], [[0.0, 0.0]]),
        "the gradient is 0": lambda: _case([0.0, 0.0], [[1.0, 0.0]]),
        "one row twice": lambda: _case(
            [1.0, 2.0, 5.0], [[4.0, 0.0, 0.0], [4.0, 0.0, 0.0]]
        ),
        "in one dimension": lambda: _case([-3.0], [[2.0]]),
        "a short row": lambda: _case(
            [1.0, 2.0, -1.0], [[0.0, 0.0, 0.05], [2.0, 0.0, 0.0]], [0.5, 1.0, 1.0]
        ),
    },
)


def _vectors(rows, rank, tol):
    """Eigenvectors of the rows' second moments, the largest first."""
    values, vectors = xp.linalg.eigh(rows.T @ rows)
    order = [k for k in range(len(values))[::-1] if values[k] > tol**2 * values[-1]]
    kept = order[: min(len(rows), rank or len(rows))]
    return [vectors[:, k] for k in kept]


def _parts(gradient, retain, *, rank=None, tol=1e-6):
    inside = 0 * gradient
    for q in _vectors(retain, rank, tol):
        inside = inside + (q @ gradient) * q
    return Split(gradient - inside, inside)


def _by_least_squares(gradient, retain, curvature, *, rank=None, tol=1e-6):
    """The gradient less the combination of directions that is nearest to it in the optimiser's metric."""
    root = xp.sqrt(curvature)
    return root * _parts(gradient / root, retain / root, rank=rank, tol=tol).normal


def _one_by_one(
    gradient,
    retain,
    retain_gradient,
    *,
    kappa=0.5,
    tau=0.0,
    gamma=1.0,
    beta=0.0,
    rank=None,
    tol=1e-6,
):
    kept, repair, normal = 0 * gradient, 0 * gradient, gradient
    for q in _vectors(retain, rank, tol):
        a, b = q @ gradient, q @ retain_gradient
        normal = normal - a * q
        repair = repair + b * q
        if a * b > tau:
            kept = kept + a * q
    length = xp.linalg.norm(kept)
    if length > 0:
        kept = kept * min(1.0, kappa * xp.linalg.norm(normal) / length)
    return gamma * (normal + kept) + beta * repair


def _both(
    gradient,
    retain,
    retain_gradient,
    *,
    rho=1.0,
    alpha=1.0,
    beta=1.0,
    rank=None,
    tol=1e-6,
):
    normal = _parts(gradient, retain, rank=rank, tol=tol).normal
    return rho * alpha * normal + rho * beta * retain_gradient


def _kkt(result, gradient, retain, rtol=1e-10, **_):
    """How far from optimal: each in units of rtol, and of the lengths in it."""
    z, weights, size = result.direction, result.multipliers, xp.linalg.norm(gradient)
    norms = xp.linalg.norm(retain, axis=1)
    size, norms = (xp.where(x > 0, x, 1.0) for x in (size, norms))
    along = retain @ z / norms / size
    share = weights * norms / max((weights * norms).sum(), 1e-300)
    off = z - gradient - weights @ retain
    return {
        "rise of a retain loss": float(max(-along.min(), 0)) / rtol,
        "multipliers of what falls": float(abs(share * along).sum()) / rtol,
        "off the gradient and its multiples": float(xp.linalg.norm(off) / size) / 1e-13,
    }


def _on_the_way(result, gradient, retain, **how):
    """However early it stops, the direction is the gradient and multiples of the rows."""
    off = _kkt(result, gradient, retain)["off the gradient and its multiples"]
    return {"off the gradient and its multiples": (off, 100.0)}


def _cone_example(rng, size):
    P, M = size, int(rng.integers(1, min(6, max(2, size // 2 + 1))))
    rows = rng.choice((0.1, 1.0, 10.0), (M, 1)) * rng.standard_normal((M, P))
    return {"gradient": 3 * rng.standard_normal(P) - rows.sum(0), "retain": rows}


def _whitened_by_all(gradient, retain, curvature, *, rank=None, tol=1e-6):
    """The split in coordinates g / h."""
    z, rows = gradient / curvature, retain / curvature
    return curvature * normal_direction(z, rows, rank=rank, tol=tol)


def _before_the_optimiser(gradient, retain, curvature, *, rank=None, tol=1e-6):
    return normal_direction(gradient, retain, rank=rank, tol=tol)


def _tensor_by_tensor(gradient, retain, *, rank=None, tol=1e-6):
    """The first half of the parameters is one tensor, the rest another."""
    n = len(gradient) // 2
    parts = [
        normal_direction(gradient[cut], retain[:, cut].copy(), rank=rank, tol=tol)
        for cut in (slice(None, n), slice(n, None))
        if len(gradient[cut])
    ]
    return xp.concatenate(parts)


def _seen(what):
    return f"Lemutisme/geo-unlearning src/trainer/unlearn/geometric.py, {what}"


def _flat(inputs):
    """the curvature is 1"""
    return {**inputs, "curvature": xp.ones_like(inputs["curvature"])}


def _cone(arguments):
    return {name: arguments[name] for name in ("gradient", "retain")}


CONES = {
    **UNLEARNING.edges,
    "all rows are violated": lambda: _case(
        [-1.0, -2.0, -3.0, 1.0],
        [[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]],
    ),
    "a row leaves again": lambda: _case(
        [-1.0, 0.2, 0.1, 0.7],
        [[2.0, 3.0, 0.0, 0.0], [1.0, -0.4, 0.0, 0.0], [1.0, 0.0, -0.7, 0.0]],
    ),
}

RANKS = {
    "default": {},
    "the leading one": {"rank": 1},
    "probe": {"rank": 2, "tol": 0.2},
}
NORMAL = "geometric_unlearning.normal_direction"

METHOD = Method(
    key="zhou2025geometric",
    provenance={
        "confirmed": (
            "split",
            "change",
            "whiten",
            "metric",
            "keep",
            "candidate",
            "cone",
        ),
        "partly": ("joint",),
    },
    functions=(
        Estimator(f=split, interface=UNLEARNING, settings=RANKS, brute_force=_parts),
        Estimator(
            f=first_order_change,
            interface=UNLEARNING,
            brute_force=lambda direction, retain: xp.array(
                [-sum(row * direction) for row in retain]
            ),
        ),
        Transform(
            f=normal_direction,
            interface=UNLEARNING,
            settings=RANKS,
            wrt="gradient",
            idempotent=True,
            jvp=lambda gradient, retain, tangent, **how: normal_direction(
                tangent, retain, **how
            ),
            vjp=lambda gradient, retain, cotangent, **how: normal_direction(
                cotangent, retain, **how
            ),
            deviations=(
                Deviation(
                    "tensor by tensor",
                    _tensor_by_tensor,
                    seen_in=_seen("the older version"),
                    computes="each weight tensor's part orthogonal to its part of the rows",
                ),
            ),
        ),
        Estimator(
            f=whiten,
            interface=UNLEARNING,
            brute_force=lambda retain, curvature: retain * curvature**-0.5,
        ),
        Transform(
            f=metric_direction,
            interface=UNLEARNING,
            settings=RANKS,
            wrt="gradient",
            idempotent=True,
            limits=(Limit(to=NORMAL, hyper={}, where=_flat),),
            deviations=(
                Deviation(
                    "whitened by the curvature itself",
                    _whitened_by_all,
                    seen_in=_seen("the older version"),
                    computes="a split in coordinates g / h in the place of g / sqrt(h)",
                ),
                Deviation(
                    "split before the optimiser",
                    _before_the_optimiser,
                    seen_in=_seen("the older version"),
                    computes="a split in the plain metric, whatever the optimiser divides by",
                ),
            ),
        ),
        Estimator(
            f=candidate,
            interface=UNLEARNING,
            settings={
                "default": {},
                "the normal part": {"kappa": 0.0},
                "what agrees enough": {"kappa": 3.0, "tau": 0.3},
                "all that agrees": {"kappa": 1e6, "beta": 0.5},
                "probe": {
                    "kappa": 0.7,
                    "tau": -0.2,
                    "gamma": 0.4,
                    "beta": 0.3,
                    "rank": 2,
                    "tol": 0.2,
                },
            },
            brute_force=_one_by_one,
            limits=(Limit(to=NORMAL, hyper={"kappa": 0.0}),),
        ),
        Estimator(
            f=joint_step,
            interface=UNLEARNING,
            settings={
                "default": {},
                "probe": {
                    "rho": 0.3,
                    "alpha": 0.7,
                    "beta": 2.5,
                    "rank": 2,
                    "tol": 0.2,
                },
            },
            brute_force=_both,
            limits=(Limit(to=NORMAL, hyper={"beta": 0.0}),),
        ),
        Solver(
            f=safe_cone,
            example=_cone_example,
            edges={
                name: lambda make=make: _cone(make()) for name, make in CONES.items()
            },
            settings={
                "default": {},
                "probe": {"rtol": 1e-6, "max_iter": 700},
            },
            certificate=_kkt,
            tolerances={
                "rise of a retain loss": 10.0,
                "multipliers of what falls": 10.0,
                "off the gradient and its multiples": 100.0,
            },
            remains=_on_the_way,
            failures={
                "two sweeps": lambda: (
                    _cone(CONES["a row leaves again"]()),
                    {"max_iter": 2},
                ),
            },
        ),
    ),
)
