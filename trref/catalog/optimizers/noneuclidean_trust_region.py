"""What is known of `trref.optimizers.noneuclidean_trust_region`."""

from trref.backend import xp
from trref.catalog import (
    Deviation,
    Estimator,
    Interface,
    Limit,
    Method,
    Objective,
    Transform,
    UpdateRule,
)
from trref.catalog.optimizers.interfaces import MATRIX_UPDATE
from trref.optimizers.noneuclidean_trust_region import (
    composite_step,
    dual_norm,
    init,
    lmo,
    polar_first_update,
    update,
)


def _from_zero(
    params, grads, state, *, lr=0.02, alpha=0.1, shrink=0.0, norm="spectral"
):
    """With a state that says that there were steps before, its average zero."""
    begun = state._replace(begun=True)
    hyper = {"lr": lr, "alpha": alpha, "shrink": shrink, "norm": norm}
    return update(params, grads, begun, **hyper)


MOMENTUM_FROM_ZERO = Deviation(
    "momentum from zero",
    _from_zero,
    seen_in="KellerJordan/Muon, muon.py; PyTorch 2.13, torch/optim/_muon.py",
    computes="an average that begins at zero, not at the first gradient",
)


def _gradients(rng, size):
    return {"g": rng.choice((0.1, 5.0)) * rng.standard_normal((size, 2 + size % 3))}


def _points(rng, size):
    shape = (2 + size % 3, size)
    return {
        "x": rng.standard_normal(shape),
        "m": rng.choice((0.002, 0.3)) * rng.standard_normal(shape),
    }


def _matrix(rows):
    return lambda: {"g": xp.array(rows)}


GRADIENT = Interface(
    "gradient_matrix",
    example=_gradients,
    edges={
        "zero": _matrix([[0.0, 0.0], [0.0, 0.0]]),
        "rank one": _matrix([[1.0, 2.0], [2.0, 4.0]]),
        "a zero column": _matrix([[1.0, 0.0], [-2.0, 0.0]]),
        "one row": _matrix([[3.0, -4.0, 1.0]]),
        "one number": _matrix([[-2.0]]),
    },
)


def _by_bisection(x, m, *, lr=0.02, penalty=0.1, norm="frobenius"):
    """The multiplier of the ball by bisection; entry by entry for the largest entry."""
    if norm == "max":
        wanted, low, high = (a.ravel().tolist() for a in (-m / penalty, x - lr, x + lr))
        near = [min(max(w, a), b) for w, a, b in zip(wanted, low, high, strict=True)]
        return xp.asarray(near).reshape(x.shape)

    def point(mu):  # where the gradient of the Lagrangian vanishes
        return (mu * x - m) / (penalty + mu)

    def far(mu):
        return float(xp.sqrt(((point(mu) - x) ** 2).sum())) > lr

    if not far(0.0):
        return point(0.0)
    low, high = 0.0, 1.0
    while far(high):
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if far(middle) else (low, middle)
    return point(high)


METHOD = Method(
    key="kovalev2025understanding",
    provenance="partly",
    functions=(
        UpdateRule(
            f=update,
            interface=MATRIX_UPDATE,
            init=init,
            settings={
                "default": {},
                "Frobenius": {"norm": "frobenius"},
                "max": {"norm": "max", "shrink": 0.02},
                "column": {"norm": "column", "alpha": 0.5},
                "no momentum": {"alpha": 1.0},
                "probe": {"lr": 0.05, "alpha": 0.3, "shrink": 0.2, "norm": "column"},
            },
            limits=(
                Limit(
                    "noneuclidean_trust_region.polar_first_update",
                    {"alpha": 1.0},
                    {"alpha": 1.0},
                ),
                Limit(
                    "adam.update",
                    {"alpha": 1.0, "norm": "max", "lr": 0.05},
                    {"beta1": 0.0, "beta2": 0.0, "eps": 1e-200, "lr": 0.05},
                ),
            ),
            deviations=(MOMENTUM_FROM_ZERO,),
        ),
        UpdateRule(
            f=polar_first_update,
            interface=MATRIX_UPDATE,
            init=init,
            settings={
                "default": {},
                "Frobenius": {"norm": "frobenius"},
                "max": {"norm": "max"},
                "probe": {"lr": 0.05, "alpha": 0.3, "norm": "column"},
            },
        ),
        Transform(
            f=lmo,
            interface=GRADIENT,
            wrt="g",
            settings={
                "default": {},
                "Frobenius": {"norm": "frobenius"},
                "column": {"norm": "column"},
                "probe": {"norm": "max"},
            },
        ),
        Objective(
            f=dual_norm,
            interface=GRADIENT,
            wrt="g",
            settings={
                "default": {},
                "Frobenius": {"norm": "frobenius"},
                "column": {"norm": "column"},
                "probe": {"norm": "max"},
            },
        ),
        Estimator(
            f=composite_step,
            example=_points,
            edges={
                "inside": lambda: {"x": xp.zeros((1, 2)), "m": xp.full((1, 2), 1e-4)},
                "far outside": lambda: {"x": xp.ones((2, 1)), "m": xp.ones((2, 1))},
            },
            settings={
                "default": {},
                "max": {"norm": "max"},
                "probe": {"lr": 0.3, "penalty": 0.4, "norm": "max"},
            },
            brute_force=_by_bisection,
        ),
    ),
)
