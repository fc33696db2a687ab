"""What is known of `trref.policy.gae_value_trust_region`."""

from trref.backend import xp
from trref.catalog import Method, Solver
from trref.policy.gae_value_trust_region import value_trust_region_step
from trref.problems.policies import ValueNetwork


def _example(rng, size):
    value_function = (
        ValueNetwork((3, 1)) if rng.random() < 0.5 else ValueNetwork((2, 2, 1))
    )
    states = rng.standard_normal((size, value_function.sizes[0]))
    value_target = rng.choice((0.1, 1.0, 50.0)) * (
        states.sum(1) + rng.standard_normal(size)
    )
    theta = 0.7 * rng.standard_normal(value_function.size)
    return {
        "value_function": value_function,
        "theta": theta,
        "states": states,
        "value_target": value_target,
    }


def _edge(value_target):
    states = xp.array([[1.0], [2.0], [-1.0]])
    return {
        "value_function": ValueNetwork((1, 1)),
        "theta": xp.array([0.5, 0.25]),
        "states": states[: len(value_target)],
        "value_target": xp.array(value_target, dtype=float),
    }


def in_the_trust_region(
    result, value_function, theta, states, value_target, delta=0.01, damping=0.1, **_
):
    """Certificate: the step is on the boundary of the damped model, and the divergence, to first order, within it.

    The step is c s with c = -2 delta / Δφᵀg, for conjugate gradients make the residual orthogonal to s; it must not
    lead uphill, and the residuals must be those reported.
    """
    value, cache = value_function.forward(theta, states)
    error, step = value - value_target, result.theta - theta
    change = value_function.jvp(cache, step)
    variance = float((error * error).sum()) / len(error)
    if not variance:
        moved = float(abs(step).max())
        return dict.fromkeys(TOLERANCES, 0.0) | {"divergence over its bound": moved}
    divergence = float((change * change).sum()) / len(error) / (2 * variance)
    damped = divergence + damping * float(step @ step) / (2 * variance)
    g, along = 2 * value_function.vjp(cache, error), 2 * float((error * change).sum())
    product = (
        value_function.vjp(cache, change) / len(error) + damping * step
    ) / variance
    residual = g - along / (2 * delta) * product
    first, last = (float(xp.sqrt((r * r).sum())) for r in (g, residual))
    misreported = abs(result.residual_norms[0] - first) + abs(
        result.residual_norms[-1] - last
    )
    return {
        "divergence over its bound": divergence / delta,
        "distance from the boundary of the damped model": abs(damped / delta - 1),
        "ascent": max(0.0, along),
        "residual misreported": misreported / first,
    }


TOLERANCES = {
    "divergence over its bound": 1 + 1e-9,
    "distance from the boundary of the damped model": 1e-9,
    "ascent": 0.0,
    "residual misreported": 1e-7,
}

METHOD = Method(
    key="schulman2015high",
    provenance="partly",
    functions=(
        Solver(
            f=value_trust_region_step,
            example=_example,
            edges={
                "already fitted": lambda: _edge([0.75, 1.25, -0.25]),
                "one state": lambda: _edge([3.0]),
                "equal returns": lambda: _edge([2.0, 2.0, 2.0]),
            },
            settings={
                "default": {},
                "probe": {
                    "delta": 0.3,
                    "damping": 0.05,
                    "iterations": 12,
                    "rtol": 1e-5,
                },
            },
            certificate=in_the_trust_region,
            tolerances=TOLERANCES,
            direct=True,  # few steps of conjugate gradients are the method
            agreement=1e-3,
        ),
    ),
)
