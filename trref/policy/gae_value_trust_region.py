r"""A trust-region step for the value function: as it goes with generalised advantage estimation.

A value function that is fitted to the returns of one batch over-fits it. So the fit is limited, in the way that a
policy step is:

.. math::
    :label: gae-value-trust-region-objective

    \min_\phi\; \sum_n \big( V_\phi(s_n) - \hat V_n \big)^2

.. math::
    :label: gae-value-trust-region-constraint

    \text{subject to}\quad
    \frac1N \sum_n \frac{\big( V_\phi(s_n) - V_{\phi_{old}}(s_n) \big)^2}{2\sigma^2} \le \epsilon,
    \qquad \sigma^2 = \frac1N \sum_n \big( V_{\phi_{old}}(s_n) - \hat V_n \big)^2.

The constraint is the mean KL divergence between Gaussians with these means and the variance :math:`\sigma^2`; its
matrix is :math:`H` with :math:`j_n = \nabla_\phi V_\phi(s_n)`. Conjugate gradients and a scalar take the step to the
boundary of the trust region:

.. math::
    :label: gae-value-trust-region-step

    H = \frac1{\sigma^2} \Big( \frac1N \sum_n j_n j_n^\top + \lambda I \Big), \qquad
    s \approx -H^{-1} g, \qquad \Delta\phi = \sqrt{\frac{2\epsilon}{s^\top H s}}\; s

The paper has :math:`\lambda = 0`: for a linear value function the constraint then holds with equality, and the step
solves the problem if the constraint is active. If the least-squares fit lies inside the region, the step goes beyond
it. The damping :math:`\lambda` is ours, for more parameters than states. It counts in the direction and in the length,
as in :mod:`trref.policy.natural_gradient`, so that the step of a linear value function then ends inside the region.

=====================  ==============
:math:`\phi`           `theta`
:math:`\hat V_n`       `value_target`
:math:`\epsilon`       `delta`
:math:`\lambda`        `damping`
=====================  ==============

Where the values are the targets already there is no gradient and no step.

**Where implementations differ.** None of the public trainers read does this: all fit the value function by some epochs
of Adam; the authors' early code uses L-BFGS with a mixture of old predictions and new returns as targets.

**Provenance.** From memory of the paper; checked for a linear value function against the constrained optimum.

Schulman, Moritz, Levine, Jordan and Abbeel, *High-Dimensional Continuous Control Using Generalized Advantage
Estimation*, 2015, arXiv:1506.02438.
"""

from typing import NamedTuple

from trref import validate
from trref.backend import xp
from trref.policy.natural_gradient import natural_step
from trref.problems.policies import Asked
from trref.problems.protocols import ValueFunction
from trref.signature import (
    D,
    N,
    NonNegativeFloat,
    OpenFraction,
    P,
    PositiveFloat,
    PositiveInt,
    Real,
    checked,
)


class ValueStep(NamedTuple):
    """The new parameters, and the norms of the residuals of conjugate gradients."""

    theta: Real[P]
    residual_norms: list[float]
    iterations: int
    converged: bool


@checked
def value_trust_region_step(
    value_function: ValueFunction,
    theta: Real[P],
    states: Real[N, D],
    value_target: Real[N],
    *,
    delta: PositiveFloat = 0.01,
    damping: NonNegativeFloat = 0.1,
    iterations: PositiveInt = 10,
    rtol: OpenFraction = 1e-6,
) -> ValueStep:
    """Take one step of a value function towards its targets, on the boundary of its trust region.

    Parameters
    ----------
    value_function
        Such as `trref.problems.policies.ValueNetwork`.
    value_target
        In the paper discounted sums of the rewards that followed.
    damping
        The matrix is the mean of the squared gradients of the values.
    iterations
        Most steps of conjugate gradients.

    Returns
    -------
    ValueStep
        With a copy of `theta` where the gradient vanishes.
    """
    N = len(states)
    asked = Asked("value_function", value_function, (N,))
    value, cache = asked.forward(theta, states)
    error = value - value_target
    g = asked.vjp(cache, 2 * error)  # eq. gae-value-trust-region-objective
    finite = lambda: xp.isfinite(error).all() & xp.isfinite(g).all()  # noqa: E731
    validate.require((finite, "value_function must give finite values and derivatives"))
    # eq. gae-value-trust-region-constraint
    variance = (error * error).sum() / N
    variance = xp.maximum(variance, xp.finfo(error.dtype).tiny)

    def H(v):
        mean = asked.vjp(cache, asked.jvp(cache, v)) / N
        return (mean + damping * v) / variance

    # eq. gae-value-trust-region-step
    step = natural_step(H, -g, delta=delta, iterations=iterations, rtol=rtol)
    return ValueStep(theta + step.step, *step[1:])
