r"""Natural policy gradient: Fisher-vector products, conjugate gradients, a step on the KL sphere, and backtracking.

Steepest ascent depends on how distance is measured. Measured by the mean divergence of the new policy from the old,

.. math::
    :label: natural-gradient-categorical-kl

    \bar D(p\|q) = \frac1N \sum_n \sum_a p_{na} (\log p_{na} - \log q_{na})

for categorical actions, and for Gaussian ones with independent entries

.. math::
    :label: natural-gradient-gaussian-kl

    \bar D(p\|q) = \frac1N \sum_{n,i} \Big[ \log \frac{s_{q,ni}}{s_{p,ni}}
    + \frac{s_{p,ni}^2 + (\mu_{p,ni} - \mu_{q,ni})^2}{2 s_{q,ni}^2} - \frac12 \Big],

it does not depend, to first order, on how the policy is parametrised. The metric is the Fisher matrix, the Hessian of
that divergence at the old policy. There the divergence has no gradient in the outputs :math:`z` of the network, so that
the Hessian is exactly :math:`F = \frac1N \sum_n J_n^\top M_n J_n` with the Jacobian :math:`J_n = \partial z_n/\partial
\theta` and the Fisher matrix :math:`M_n` of the distribution: :math:`\mathrm{diag}(p) - pp^\top` for logits,
:math:`1/s^2` for a Gaussian's mean and 2 for its log standard deviation. :math:`F` is never formed; its product takes
one forward-mode pass, one product with :math:`M_n` and one reverse-mode pass:

.. math::
    :label: natural-gradient-fisher

    u_n = J_n v, \qquad F v + \lambda v = \sum_n w_n J_n^\top (M_n u_n) + \lambda v

with weights :math:`w_n` of the states, :math:`1/N` unless others are given.

Conjugate gradients give the direction, a scalar the length at which the model of the divergence equals :math:`\delta`:

.. math::
    :label: natural-gradient-step

    s \approx (F + \lambda I)^{-1} g, \qquad \Delta = \sqrt{\frac{2\delta}{s^\top (F + \lambda I)\, s}}\; s

Backtracking repairs what the model neglects: the smallest :math:`j` is taken with

.. math::
    :label: natural-gradient-backtracking

    \bar D(\theta + c^j \Delta) \le \delta, \qquad
    f(\theta + c^j \Delta) - f(\theta) \ge \kappa\, c^j g^\top \Delta.

**Where implementations differ.** KL(old‖new) and KL(new‖old) have the same Hessian, but differ at a finite step: the
line search must use the first. Damping is 1e-3 (modular_rl), 1e-2 or 0.1 (baselines), 0.1 (SB3-contrib); with few
states and many parameters it dominates, and the divergence stays far below :math:`\delta`.

**Provenance.** Confirmed in openai/baselines, Spinning Up and SB3-contrib; the products without automatic
differentiation are standard Gauss-Newton algebra, derived here and checked.

Kakade, *A Natural Policy Gradient*, 2001; as used in Schulman et al., *Trust Region Policy Optimization*, 2015.
"""

import math
import warnings
from collections.abc import Callable
from typing import Annotated, NamedTuple

from trref import validate
from trref.backend import xp
from trref.krylov.cg import cg
from trref.krylov.terms import product, require_finite
from trref.nn import heads
from trref.problems.policies import Asked
from trref.problems.protocols import Policy
from trref.signature import (
    D,
    K,
    N,
    NonNegative,
    NonNegativeFloat,
    OpenFraction,
    P,
    PositiveFloat,
    PositiveInt,
    Real,
    Scalar,
    checked,
)


class NaturalStep(NamedTuple):
    """The step, and the norms of the residuals of conjugate gradients."""

    step: Real[P]
    residual_norms: list[float]
    iterations: int
    converged: bool


class TrustRegionStep(NamedTuple):
    """Where it ended, with the divergence and the gain of each trial."""

    theta: Real[P]
    divergences: list[float]
    gains: list[float]
    iterations: int
    converged: bool


@checked
def mean_kl_categorical(
    old_logits: Real[N, K], logits: Real[N, K]
) -> tuple[Scalar, Real[N, K]]:
    """Mean divergence KL(old‖new) of categorical policies.

    Returns
    -------
    divergence
    gradient
        With respect to `logits`.
    """
    kl, _, gradient = heads.categorical_kl(old_logits, logits)
    N = len(kl)
    return kl.sum() / N, gradient / N  # eq. natural-gradient-categorical-kl


@checked(also=validate.moderate_spread)
def mean_kl_diag_gaussian(
    old_mean: Real[N, D], old_log_std: Real[N, D], mean: Real[N, D], log_std: Real[N, D]
) -> tuple[Scalar, heads.GaussianGradient]:
    """Mean divergence KL(old‖new) of Gaussian policies with independent entries.

    Parameters
    ----------
    old_mean, old_log_std, mean, log_std
        Means and logarithms of standard deviations, the latter within ±15.
    """
    kl, _, gradient = heads.gaussian_kl(old_mean, old_log_std, mean, log_std)
    N = len(kl)
    # eq. natural-gradient-gaussian-kl
    return kl.sum() / N, heads.GaussianGradient(*(g / N for g in gradient))


@checked(also=lambda policy, theta, **_: policy.requirements(theta))
def fisher_vector_product(
    policy: Policy,
    theta: Real[P],
    v: Real[P],
    states: Real[N, D],
    weight: NonNegative[N] | None = None,
    *,
    damping: NonNegativeFloat = 0.0,
) -> Real[P]:
    """Multiply the damped Fisher matrix of a policy, averaged over states, by a vector.

    Parameters
    ----------
    v
        The vector.
    weight
        1/N if None.
    """
    asked = Asked("policy", policy)
    # eq. natural-gradient-fisher
    z, cache = asked.forward(theta, states)
    u = asked.fisher(z, asked.jvp(cache, v))
    u = u / len(states) if weight is None else weight[:, None] * u
    return asked.vjp(cache, u) + damping * v


@checked
def natural_step(
    matvec: Callable,
    gradient: Real[P],
    *,
    delta: PositiveFloat = 0.01,
    iterations: PositiveInt = 10,
    rtol: OpenFraction = 1e-10,
) -> NaturalStep:
    """Step along the natural gradient to the boundary of the model's trust region.

    Parameters
    ----------
    matvec
        With F + λI: positive definite (semi-definite if the gradient is in its range).
    iterations
        Most steps of conjugate gradients.

    Returns
    -------
    NaturalStep
        The zero step for a zero gradient.

    Raises
    ------
    ValueError
        A `matvec` that is not symmetric or has negative curvature.
    """
    size = float(abs(gradient).max())  # else tiny gradients would underflow
    if size == 0:
        return NaturalStep(xp.zeros_like(gradient), [0.0], 0, True)
    # eq. natural-gradient-step
    with warnings.catch_warnings():  # stopping early is the method here, not a failure
        warnings.simplefilter("ignore", validate.ConvergenceWarning)
        solution = cg(matvec, gradient / size, rtol=rtol, max_iter=iterations)
    s, norms = solution.x, [size * norm for norm in solution.residual_norms]
    curvature = float(s @ product(matvec, s))
    require_finite("matvec", curvature)
    step = math.sqrt(2 * delta / curvature) * s
    return NaturalStep(step, norms, solution.iterations, solution.converged)


@checked
def backtracking_line_search(
    objective_and_divergence: Callable,
    theta: Real[P],
    step: Real[P],
    gradient: Real[P],
    *,
    delta: PositiveFloat = 0.01,
    shrink: OpenFraction = 0.5,
    trials: PositiveInt = 10,
    accept_ratio: Annotated[float, "[0, 1)"] = 0.0,
) -> TrustRegionStep:
    """Shrink a step until the divergence is within its bound and the objective better.

    Parameters
    ----------
    objective_and_divergence
        ``f(theta) -> (objective to maximise, divergence from the start)``; a trial with NaN is rejected.
    shrink
        0.5 in baselines, 0.8 in Spinning Up.
    trials
        Most trials, the full step included.
    accept_ratio
        Share of the linear prediction that the gain must reach; 0 asks for no loss only.

    Returns
    -------
    TrustRegionStep
        With a copy of `theta` and ``converged=False`` if no trial was accepted.

    Warns
    -----
    ConvergenceWarning
        No trial was accepted.
    """
    start, divergence = _figures(objective_and_divergence, theta)
    if not math.isfinite(start + divergence):
        raise ValueError("objective_and_divergence must give finite values at theta")
    predicted = float(gradient @ step)
    divergences, gains = [], []
    for j in range(trials):
        # eq. natural-gradient-backtracking
        trial = theta + shrink**j * step
        objective, divergence = _figures(objective_and_divergence, trial)
        divergences.append(divergence)
        gains.append(objective - start)
        enough = gains[-1] >= accept_ratio * shrink**j * predicted
        if divergences[-1] <= delta and enough:
            return TrustRegionStep(trial, divergences, gains, j + 1, True)

    message = f"the line search accepted none of its {trials} trials"
    warnings.warn(message, validate.ConvergenceWarning, stacklevel=3)
    return TrustRegionStep(theta.copy(), divergences, gains, trials, False)


def _figures(objective_and_divergence, theta):
    """Both numbers, as host floats."""
    pair = objective_and_divergence(theta)
    scalars = isinstance(pair, tuple) and all(
        getattr(x, "shape", None) == () or isinstance(x, int | float) for x in pair
    )
    if not scalars or len(pair) != 2:
        raise TypeError("objective_and_divergence must return a tuple of two scalars")
    return [float(x) for x in pair]
