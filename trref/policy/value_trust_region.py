r"""A trust-region step for the value function: as it goes with generalised advantage estimation.

A value function that is fitted to the returns of one batch over-fits it. So the fit is limited, in the way that a
policy step is:

.. math::
    :label: value-trust-region-objective

    \min_\phi\; \sum_n \big( V_\phi(s_n) - \hat V_n \big)^2

.. math::
    :label: value-trust-region-constraint

    \text{subject to}\quad
    \frac1N \sum_n \frac{\big( V_\phi(s_n) - V_{\phi_{old}}(s_n) \big)^2}{2\sigma^2} \le \epsilon,
    \qquad \sigma^2 = \frac1N \sum_n \big( V_{\phi_{old}}(s_n) - \hat V_n \big)^2.

The constraint is the mean KL divergence between Gaussians with these means and the variance :math:`\sigma^2`; its
matrix is :math:`H = \frac{1}{N\sigma^2} \sum_n j_n j_n^\top` with :math:`j_n = \nabla_\phi V_\phi(s_n)`. Conjugate
gradients and a scalar take the step to the boundary of the trust region:

.. math::
    :label: value-trust-region-step

    s \approx -H^{-1} g, \qquad \Delta\phi = \sqrt{\frac{2\epsilon}{s^\top H s}}\; s

For a linear value function the constraint holds with equality, and the step solves the problem if the constraint is
active. If the least-squares fit lies inside the region, the step goes beyond it.

**Where implementations differ.** None of the public trainers read does this: all fit the value function by some epochs
of Adam; the authors' early code uses L-BFGS with a mixture of old predictions and new returns as targets. Damping is
ours, for more parameters than states.

**Provenance.** From memory of the paper; checked for a linear value function against the constrained optimum.

Schulman, Moritz, Levine, Jordan and Abbeel, *High-Dimensional Continuous Control Using Generalized Advantage
Estimation*, 2015, arXiv:1506.02438.
"""

from typing import Any, NamedTuple

from trref import validate
from trref.backend import xp
from trref.catalog import Input, Method, Solver
from trref.policy.natural_gradient import natural_step
from trref.problems.policies import ValueNetwork

__all__ = ["ValueStep", "value_trust_region_step"]


class ValueStep(NamedTuple):
    """The new parameters (P,), residuals of conjugate gradients, their number, and whether they reached the target."""

    phi: Any
    residual_norms: list[float]
    iterations: int
    converged: bool


INPUTS = {
    "value_function": Input("", "callable"),
    "phi": Input("P"),
    "states": Input("N D"),
    "returns": Input("N"),
}


def value_trust_region_step(
    value_function, phi, states, returns, *, epsilon=0.01, damping=0.1, iterations=10, rtol=1e-6
):
    r"""Take one step of a value function towards returns, on the boundary of its trust region.

    Parameters
    ----------
    value_function : callable
        Such as `trref.problems.policies.ValueNetwork`.
    phi : array (P,)
    states : array (N, D)
    returns : array (N,)
        Discounted sums of rewards that followed the states.
    epsilon : float
        Bound of the mean divergence, in (0, inf).
    damping : float
        Added to the matrix :math:`\sigma^2 H`, in [0, inf).
    iterations : int
        Most steps of conjugate gradients.
    rtol : float
        They end where the residual is below this times the gradient's norm; in (0, 1).

    Returns
    -------
    ValueStep
        With a copy of `phi` where the gradient vanishes.

    Raises
    ------
    ValueError
        Shapes that do not fit, values that are not finite or out of range.
    """
    N = validate.inputs(INPUTS, value_function, phi, states, returns)["N"]
    validate.interval("(0, inf)", epsilon=epsilon)
    validate.interval("[0, inf)", damping=damping)
    value, cache = value_function.forward(phi, states)
    error = value - returns
    g = value_function.vjp(cache, 2 * error)  # eq. value-trust-region-objective
    variance = xp.maximum((error * error).sum() / N, xp.finfo(error.dtype).tiny)

    def damped_H(v):
        return (value_function.vjp(cache, value_function.jvp(cache, v)) / N + damping * v) / variance

    # eq. value-trust-region-constraint, value-trust-region-step
    step = natural_step(damped_H, -g, delta=epsilon, iterations=iterations, rtol=rtol)
    return ValueStep(phi + step.step, *step[1:])


def _example(rng, size):
    value_function = ValueNetwork((3, 1)) if rng.random() < 0.5 else ValueNetwork((2, 2, 1))
    states = rng.standard_normal((size, value_function.sizes[0]))
    returns = rng.choice((0.1, 1.0, 50.0)) * (states.sum(1) + rng.standard_normal(size))
    phi = 0.7 * rng.standard_normal(value_function.size)
    return {"value_function": value_function, "phi": phi, "states": states, "returns": returns}


def _edge(returns):
    states = xp.array([[1.0], [2.0], [-1.0]])
    return {
        "value_function": ValueNetwork((1, 1)),
        "phi": xp.array([0.5, 0.25]),
        "states": states[: len(returns)],
        "returns": xp.array(returns, dtype=float),
    }


def _in_the_trust_region(result, value_function, phi, states, returns, epsilon=0.01, damping=0.1, **_):
    """Certificate: divergence over its bound to first order, how far the step leads uphill, and the residuals.

    The step is c s with c = -2 epsilon / Δφᵀg, for conjugate gradients make the residual orthogonal to s.
    """
    value, cache = value_function.forward(phi, states)
    error, step = value - returns, result.phi - phi
    change = value_function.jvp(cache, step)
    variance = float((error * error).sum()) / len(error)
    if not variance:
        return {"divergence over its bound": float(abs(step).max()), "ascent": 0.0, "residual misreported": 0.0}
    divergence = float((change * change).sum()) / len(error) / (2 * variance)
    g, along = 2 * value_function.vjp(cache, error), 2 * float((error * change).sum())
    product = (value_function.vjp(cache, change) / len(error) + damping * step) / variance
    residual = g - along / (2 * epsilon) * product
    first, last = (float(xp.sqrt((r * r).sum())) for r in (g, residual))
    misreported = abs(result.residual_norms[0] - first) + abs(result.residual_norms[-1] - last)
    return {
        "divergence over its bound": divergence / epsilon,
        "ascent": max(0.0, along),
        "residual misreported": misreported / first,
    }


METHOD = Method(
    key="schulman2015high",
    provenance="partly",
    functions=(
        Solver(
            f=value_trust_region_step,
            inputs=INPUTS,
            example=_example,
            edges={
                "already fitted": lambda: _edge([0.75, 1.25, -0.25]),
                "one state": lambda: _edge([3.0]),
                "equal returns": lambda: _edge([2.0, 2.0, 2.0]),
            },
            settings={
                "default": {},
                "probe": {"epsilon": 0.3, "damping": 0.05, "iterations": 12, "rtol": 1e-5},
            },
            certificate=_in_the_trust_region,
            tolerances={"divergence over its bound": 1 + 1e-9, "ascent": 0.0, "residual misreported": 1e-7},
            agreement=1e-3,
        ),
    ),
)
