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

    u_n = J_n v, \qquad F v + \lambda v = \frac1N \sum_n J_n^\top (M_n u_n) + \lambda v

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

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Method, Objective, Solver
from trref.krylov.cg import cg
from trref.nn import heads
from trref.policy import _natural_gradient_cases as cases
from trref.policy import _trust_region_deviations as deviations
from trref.policy.interfaces import NaturalStep, TrustRegionStep

__all__ = [
    "backtracking_line_search",
    "fisher_vector_product",
    "mean_kl_categorical",
    "mean_kl_diag_gaussian",
    "natural_step",
]


def mean_kl_categorical(old_logits, logits):
    """Mean divergence KL(old‖new) of categorical policies.

    Parameters
    ----------
    old_logits, logits : array (N, K)

    Returns
    -------
    kl : scalar array
    gradient : array (N, K)
        With respect to `logits`.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite.
    """
    N = validate.inputs(cases.CATEGORICAL.inputs, old_logits, logits)["N"]
    kl, _, gradient = heads.categorical_kl(old_logits, logits)
    return kl.sum() / N, gradient / N  # eq. natural-gradient-categorical-kl


def mean_kl_diag_gaussian(old_mean, old_log_std, mean, log_std):
    """Mean divergence KL(old‖new) of Gaussian policies with independent entries.

    Parameters
    ----------
    old_mean, old_log_std, mean, log_std : array (N, d)
        Logarithms of standard deviations within ±15.

    Returns
    -------
    kl : scalar array
    gradient : GaussianGradient
        With respect to `mean` and `log_std`.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log standard deviations beyond ±15.
    """
    sizes, flags = validate.deferred(cases.GAUSSIAN.inputs, old_mean, old_log_std, mean, log_std)
    for name, value in (("old_log_std", old_log_std), ("log_std", log_std)):
        flags.append((lambda value=value: (abs(value) <= 15).all(), f"{name} must lie within ±15"))
    validate.require(*flags)
    kl, _, gradient = heads.gaussian_kl(old_mean, old_log_std, mean, log_std)
    N = sizes["N"]
    return kl.sum() / N, heads.GaussianGradient(*(g / N for g in gradient))  # eq. natural-gradient-gaussian-kl


def fisher_vector_product(policy, theta, v, states, *, damping=0.0):
    """Multiply the damped Fisher matrix of a policy, averaged over states, by a vector.

    Parameters
    ----------
    policy : callable
        Such as `trref.problems.policies.CategoricalPolicy`.
    theta, v : array (P,)
    states : array (N, D)
    damping : float
        Multiple of the identity to add, in [0, inf).

    Returns
    -------
    array (P,)

    Raises
    ------
    ValueError
        Shapes that do not fit, values that are not finite, negative damping.
    """
    sizes, flags = validate.deferred(cases.FISHER.inputs, policy, theta, v, states)
    validate.require(*flags, *policy.requirements(theta))
    validate.interval("[0, inf)", damping=damping)
    # eq. natural-gradient-fisher
    z, cache = policy.forward(theta, states)
    u = policy.jvp(cache, v)
    return policy.vjp(cache, policy.fisher(z, u) / sizes["N"]) + damping * v


def natural_step(matvec, gradient, *, delta=0.01, iterations=10, rtol=1e-10):
    """Step along the natural gradient to the boundary of the trust region of the quadratic model.

    Parameters
    ----------
    matvec : callable
        ``matvec(v) -> (F + λI) v``, symmetric positive definite (semi-definite if the gradient is in its range).
    gradient : array (P,)
        Of what is to be maximised.
    delta : float
        The divergence that the quadratic model allows, in (0, inf).
    iterations, rtol
        Most steps of conjugate gradients, and the relative residual in (0, 1) that ends them earlier.

    Returns
    -------
    NaturalStep
        The zero step for a zero gradient.

    Raises
    ------
    ValueError
        Shapes that do not fit, values out of range, a `matvec` that is not symmetric or has negative curvature.
    """
    validate.inputs(cases.STEP.inputs, matvec, gradient)
    validate.interval("(0, inf)", delta=delta)
    validate.integer("[1, inf)", iterations=iterations)
    validate.interval("(0, 1)", rtol=rtol)
    size = float(abs(gradient).max())  # the step does not depend on it; without it tiny gradients underflow
    if size == 0:
        return NaturalStep(xp.zeros_like(gradient), [0.0], 0, True)
    # eq. natural-gradient-step
    with warnings.catch_warnings():  # stopping early is the method here, not a failure
        warnings.simplefilter("ignore", validate.ConvergenceWarning)
        s, norms, count, converged = cg(matvec, gradient / size, rtol=rtol, max_iter=iterations)
    step = math.sqrt(2 * delta / float(s @ matvec(s))) * s
    return NaturalStep(step, [size * norm for norm in norms], count, converged)


def backtracking_line_search(
    objective_and_divergence, theta, step, gradient, *, delta=0.01, shrink=0.5, trials=10, accept_ratio=0.0
):
    """Shrink a step until the divergence is within its bound and the objective has improved.

    Parameters
    ----------
    objective_and_divergence : callable
        ``f(theta) -> (objective to maximise, divergence from the start)``; NaN is rejected.
    theta, step, gradient : array (P,)
        The start, the full step, and the gradient of the objective at the start.
    delta : float
        Bound of the divergence, in (0, inf).
    shrink : float
        In (0, 1); 0.5 in baselines, 0.8 in Spinning Up.
    trials : int
        Most trials, the full step included.
    accept_ratio : float
        Share of the linear prediction that the gain must reach, in [0, 1); 0 asks for no loss only.

    Returns
    -------
    TrustRegionStep
        With a copy of `theta` and ``converged=False`` if no trial was accepted.

    Raises
    ------
    ValueError
        Shapes that do not fit, values that are not finite or out of range.
    """
    validate.inputs(cases.SEARCH.inputs, objective_and_divergence, theta, step, gradient)
    validate.interval("(0, inf)", delta=delta)
    validate.interval("(0, 1)", shrink=shrink)
    validate.integer("[1, inf)", trials=trials)
    validate.interval("[0, 1)", accept_ratio=accept_ratio)
    start = float(objective_and_divergence(theta)[0])
    predicted = float(gradient @ step)
    divergences, gains = [], []
    for j in range(trials):
        # eq. natural-gradient-backtracking
        trial = theta + shrink**j * step
        objective, divergence = objective_and_divergence(trial)
        divergences.append(float(divergence))
        gains.append(float(objective) - start)
        if divergences[-1] <= delta and gains[-1] >= accept_ratio * shrink**j * predicted:
            return TrustRegionStep(trial, divergences, gains, j + 1, True)

    return TrustRegionStep(theta.copy(), divergences, gains, trials, False)


METHOD = Method(
    title="A Natural Policy Gradient",
    key="kakade2001natural",
    arxiv=None,
    provenance={
        "confirmed": ("categorical-kl", "gaussian-kl", "step", "backtracking"),
        "reconstructed": ("fisher",),
    },
    functions=(
        Objective(f=mean_kl_categorical, interface=cases.CATEGORICAL, wrt="logits"),
        Objective(f=mean_kl_diag_gaussian, interface=cases.GAUSSIAN, wrt=("mean", "log_std")),
        Estimator(
            f=fisher_vector_product,
            interface=cases.FISHER,
            settings={"default": {}, "probe": {"damping": 0.3}},
            brute_force=cases.outer_products_of_scores,
        ),
        Solver(
            f=natural_step,
            interface=cases.STEP,
            settings={"default": {}, "probe": {"delta": 0.3, "iterations": 7, "rtol": 1e-7}},
            deviations=(deviations.STEP_FROM_NOISE, deviations.STEP_REGULARISED),
            certificate=cases.on_the_sphere,
            tolerances=cases.ON_THE_SPHERE,
            agreement=1e-4,
        ),
        Solver(
            f=backtracking_line_search,
            interface=cases.SEARCH,
            settings={"default": {}, "Spinning Up": {"shrink": 0.8}, "probe": cases.SEARCH_PROBE},
            deviations=(deviations.SEARCH_WITHOUT_DIVERGENCE, deviations.SEARCH_WITH_SLACK),
            certificate=cases.within_the_bound,
            tolerances=cases.WITHIN_THE_BOUND,
            agreement=1e-9,
        ),
    ),
)
