"""What is known of `trref.transport.sinkhorn_divergence`."""

from trref.backend import linalg, xp
from trref.catalog import Deviation, Estimator, Method, Objective
from trref.catalog.transport.interfaces import DUAL, TRANSPORT
from trref.transport.sinkhorn import sinkhorn_log
from trref.transport.sinkhorn_divergence import (
    optimal_cost,
    optimal_cost_of_points,
    sinkhorn_divergence,
    sinkhorn_divergence_gradient,
)
from trref.transport.terms import squared_distances


def _divergence_of_transport_costs(x, z, a, b, *, reg, tol=1e-12, max_iter=10000):
    def transport_cost(x, z, a, b):
        cost = squared_distances(x, z)
        return (
            cost * sinkhorn_log(cost, a, b, reg=reg, tol=tol, max_iter=max_iter).plan
        ).sum()

    S = (
        transport_cost(x, z, a, b)
        - transport_cost(x, x, a, a) / 2
        - transport_cost(z, z, b, b) / 2
    )
    return xp.maximum(S, 0)


DIVERGENCE_OF_TRANSPORT_COSTS = Deviation(
    "transport costs without their entropy",
    _divergence_of_transport_costs,
    seen_in="POT ot/bregman/_empirical.py, empirical_sinkhorn_divergence",
    computes="max(0, S) with the transport costs <C, P> of the three plans in the place of the optimal values",
)


def _clouds(rng, size):
    problem = TRANSPORT.example(rng, size)
    n, m = problem["cost"].shape
    D = 2 + size % 3 % 2
    x = rng.standard_normal((n, D)) / 2
    z = rng.standard_normal((m, D)) / 2 + rng.uniform(0.5, 1.5, D)
    return {"x": x, "z": z, "a": problem["a"], "b": problem["b"]}


def _points_example(rng, size):
    drawn = {**_clouds(rng, size), **DUAL.of(DUAL.example(rng, size), ("f", "g"))}
    return {name: drawn[name] for name in ("x", "z", "f", "g", "a", "b")}


def _newton_optimum(cost, a, b, reg):
    """Optimal value and plan by dense Newton steps on the dual, in units of reg."""
    z, n = xp.zeros(len(a) + len(b)), len(a)
    w = xp.concatenate([xp.ones(n), -xp.ones(len(b))])

    def evaluate(z):
        P = xp.exp(xp.clip(z[:n, None] + z[n:] - cost / reg - 1, -700, 50))
        return z[:n] @ a + z[n:] @ b - P.sum(), P

    value, P = evaluate(z)
    for _ in range(100):
        q = xp.concatenate([a - P.sum(1), b - P.sum(0)])
        M = xp.concatenate(
            [xp.hstack([xp.diag(P.sum(1)), P]), xp.hstack([P.T, xp.diag(P.sum(0))])]
        )
        step = linalg.solve(M + xp.outer(w, w) / len(w) ** 2, q)
        for halvings in range(40):
            following = evaluate(z + 0.5**halvings * step)
            if following[0] >= value - 1e-13:
                break
        z, (value, P) = z + 0.5**halvings * step, following
    return reg * value, P


def _divergence_by_newton(x, z, a, b, reg, **_):
    W = lambda x, z, a, b: _newton_optimum(squared_distances(x, z), a, b, reg)[0]  # noqa: E731
    return W(x, z, a, b) - W(x, x, a, a) / 2 - W(z, z, b, b) / 2


def _gradient_by_newton(x, z, a, b, reg, **_):
    P = _newton_optimum(squared_distances(x, z), a, b, reg)[1]
    Q = _newton_optimum(squared_distances(x, x), a, a, reg)[1]
    pull = [sum(P[i, j] * (x[i] - z[j]) for j in range(len(z))) for i in range(len(x))]
    return 2 * xp.array(
        [
            p - sum(Q[i, j] * (x[i] - x[j]) for j in range(len(x)))
            for i, p in enumerate(pull)
        ]
    )


SETTINGS = {
    "default": {"reg": 0.5},
    "probe": {"reg": 0.8, "tol": 1e-11, "max_iter": 2000},
}
DUAL_SETTINGS = {"default": {"reg": 0.5}, "probe": {"reg": 0.8}}

POTENTIAL_TOO_LARGE = {
    "a potential that is too large": {"f": 1e4},
}

MASSES_OF_2 = {
    "masses of sum 2": {"a": lambda a: 2 * a},
    "other masses of sum 2": {"b": lambda b: 2 * b},
}


METHOD = Method(
    key="genevay2018learning",
    provenance="confirmed",
    functions=(
        Objective(
            f=optimal_cost,
            interface=DUAL,
            settings=DUAL_SETTINGS,
            wrt=("cost", "a", "b"),
            refused=POTENTIAL_TOO_LARGE,
        ),
        Objective(
            f=optimal_cost_of_points,
            example=_points_example,
            settings=DUAL_SETTINGS,
            wrt=("x", "z"),
            refused=POTENTIAL_TOO_LARGE,
        ),
        Estimator(
            f=sinkhorn_divergence,
            example=_clouds,
            settings=SETTINGS,
            brute_force=_divergence_by_newton,
            deviations=(DIVERGENCE_OF_TRANSPORT_COSTS,),
            refused=MASSES_OF_2,
        ),
        Estimator(
            f=sinkhorn_divergence_gradient,
            example=_clouds,
            settings=SETTINGS,
            brute_force=_gradient_by_newton,
            refused=MASSES_OF_2,
        ),
    ),
)
