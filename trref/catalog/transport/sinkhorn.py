"""What is known of `trref.transport.sinkhorn`."""

from trref.backend import xp
from trref.catalog import Method, Solver, Transform
from trref.catalog.transport.interfaces import CERTIFICATE, FAR, TRANSPORT, arrays
from trref.transport.sinkhorn import round_to_feasible, sinkhorn_log, sinkhorn_scaling


def _rounding_example(rng, size):
    problem = TRANSPORT.example(rng, size)
    plan = problem["a"][:, None] * problem["b"]
    noise = rng.choice((1e-6, 0.1, 2.0))
    return {
        "plan": plan * xp.exp(noise * rng.standard_normal(plan.shape)),
        "a": problem["a"],
        "b": problem["b"],
    }


def _infeasibility(result, plan, a, b):
    return float(
        abs(result.sum(1) - a).sum()
        + abs(result.sum(0) - b).sum()
        + abs(xp.minimum(result, 0)).sum()
    )


SETTINGS = {
    "default": {"reg": 0.1},
    "small regularisation": {"reg": 0.05},
    "probe": {"reg": 0.3, "tol": 1e-7, "max_iter": 3000},
}


# the potentials move far from where they start
EDGES = {
    **TRANSPORT.edges,
    "mass that must go far": FAR,
    "routes too dear to take": arrays(
        cost=[[7.0, 0.0, 100.0], [0.0, 7.0, 7.0], [100.0, 100.0, 0.0]],
        a=[0.4, 0.3, 0.3],
        b=[0.4, 0.2, 0.4],
    ),
}


SOLVER = {"interface": TRANSPORT, "edges": EDGES, "settings": SETTINGS, **CERTIFICATE}


REFUSED = {
    "a cost that is too large for reg": {"cost": 1e9},
    "masses of sum 2": {"a": lambda a: 2 * a},
    "other masses of sum 2": {"b": lambda b: 2 * b},
}


METHOD = Method(
    key="cuturi2013sinkhorn",
    provenance="confirmed",
    functions=(
        Solver(
            f=sinkhorn_log,
            **SOLVER,
            refused=REFUSED,
        ),
        Solver(
            f=sinkhorn_scaling,
            prescribed=False,
            **SOLVER,
            refused=REFUSED,
        ),
        Transform(
            f=round_to_feasible,
            example=_rounding_example,
            edges={
                "an empty plan": arrays(
                    plan=[[0.0, 0.0], [0.0, 0.0]], a=[0.5, 0.5], b=[0.25, 0.75]
                ),
                "an exact plan": arrays(
                    plan=[[0.25, 0.25], [0.0, 0.5]], a=[0.5, 0.5], b=[0.25, 0.75]
                ),
                "an empty row": arrays(
                    plan=[[0.0, 0.0], [0.25, 0.75]], a=[0.5, 0.5], b=[0.25, 0.75]
                ),
                "too much everywhere": arrays(
                    plan=[[3.0, 1.0], [2.0, 9.0]], a=[0.5, 0.5], b=[0.25, 0.75]
                ),
            },
            wrt="plan",
            idempotent=True,
            feasible=_infeasibility,
            refused={
                "masses of sum 2": {"a": lambda a: 2 * a},
                "other masses of sum 2": {"b": lambda b: 2 * b},
            },
        ),
    ),
)
