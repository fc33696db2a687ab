"""What public code computes in the place of the natural gradient's and TRPO's equations: small runnable variants."""

import math
import warnings

from trref.backend import xp
from trref.catalog import Deviation
from trref.krylov.cg import cg
from trref.policy.interfaces import NaturalStep, TrustRegionStep
from trref.validate import LOG_RATIO_BOUND, ConvergenceWarning

__all__ = [
    "SEARCH_WITHOUT_DIVERGENCE",
    "SEARCH_WITH_SLACK",
    "STEP_FROM_NOISE",
    "STEP_REGULARISED",
    "TRPO_REVERSED_KL",
    "TRPO_SLACK",
    "TRPO_UNBOUNDED",
]


def _scaled(matvec, s, delta, extra=0.0):
    curvature = float(s @ matvec(s)) + extra
    return (math.sqrt(2 * delta / curvature) if curvature > 0 else 0.0) * s


def _step_from_noise(matvec, gradient, *, delta=0.01, iterations=15, rtol=1e-10):
    noise = 1e-4 * xp.cos(3 * xp.arange(len(gradient)) ** 2).astype(gradient.dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        solution = cg(matvec, gradient, x0=noise, rtol=rtol, max_iter=iterations)
    return NaturalStep(_scaled(matvec, solution.x, delta), *solution[1:])


STEP_FROM_NOISE = Deviation(
    "conjugate gradients from noise",
    _step_from_noise,
    seen_in="SB3-contrib common/utils.py: 15 steps from 1e-4 times Gaussian noise",
    computes="iterates that start off 0, and keep what of the noise lies in the null space (the noise is fixed here)",
)


def _step_regularised(matvec, gradient, *, delta=0.01, iterations=10, rtol=1e-10):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        solution = cg(matvec, gradient, rtol=rtol, max_iter=iterations)
    return NaturalStep(_scaled(matvec, solution.x, delta, extra=1e-8), *solution[1:])


STEP_REGULARISED = Deviation(
    "1e-8 in the denominator of the step length",
    _step_regularised,
    seen_in="Spinning Up tf1/trpo/trpo.py",
    computes="a step inside the sphere, far inside for a tiny gradient",
)


def _search(f, theta, step, gradient, *, bound, shrink, trials, accept_ratio):
    start, predicted, divergences, gains = float(f(theta)[0]), float(gradient @ step), [], []
    for j in range(trials):
        trial = theta + shrink**j * step
        objective, divergence = f(trial)
        divergences.append(float(divergence))
        gains.append(float(objective) - start)
        if divergences[-1] <= bound and gains[-1] >= accept_ratio * shrink**j * predicted:
            return TrustRegionStep(trial, divergences, gains, j + 1, True)
    return TrustRegionStep(theta.copy(), divergences, gains, trials, False)


def _search_without_divergence(
    objective_and_divergence, theta, step, gradient, *, delta=0.01, shrink=0.5, trials=10, accept_ratio=0.1
):
    options = {"bound": math.inf, "shrink": shrink, "trials": trials, "accept_ratio": accept_ratio}
    return _search(objective_and_divergence, theta, step, gradient, **options)


SEARCH_WITHOUT_DIVERGENCE = Deviation(
    "line search without the divergence",
    _search_without_divergence,
    seen_in="joschu/modular_rl modular_rl/trpo.py",
    computes="acceptance by a tenth of the predicted gain alone, whatever the divergence",
)


def _search_with_slack(
    objective_and_divergence, theta, step, gradient, *, delta=0.01, shrink=0.5, trials=10, accept_ratio=0.0
):
    options = {"bound": 1.5 * delta, "shrink": shrink, "trials": trials, "accept_ratio": accept_ratio}
    return _search(objective_and_divergence, theta, step, gradient, **options)


SEARCH_WITH_SLACK = Deviation(
    "one and a half times the bound",
    _search_with_slack,
    seen_in="openai/baselines trpo_mpi/trpo_mpi.py",
    computes="acceptance up to 1.5 delta",
)


def _trpo(policy, theta, states, actions, advantage, weight, *, search, kl, delta, damping, iterations, subsample):
    """A step with another line search: ``search(f, theta, step, gradient)``, and ``kl(z_old, z)`` row by row."""
    weight = xp.full_like(advantage, 1 / len(advantage)) if weight is None else weight
    z_old, cache = policy.forward(theta, states)
    log_prob_old, d_log_prob = policy.log_prob(z_old, actions)

    def surrogate_and_divergence(trial):
        z = policy(trial, states)
        log_ratio = xp.minimum(policy.log_prob(z, actions)[0] - log_prob_old, LOG_RATIO_BOUND)
        return (weight * xp.exp(log_ratio) * advantage).sum(), (weight * kl(z_old, z)).sum()

    gradient = policy.vjp(cache, (weight * advantage)[:, None] * d_log_prob)
    z_some, cache_some = policy.forward(theta, states[::subsample])
    share = weight[::subsample, None] * weight.sum() / weight[::subsample].sum()

    def matvec(v):
        return policy.vjp(cache_some, share * policy.fisher(z_some, policy.jvp(cache_some, v))) + damping * v

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        solution = cg(matvec, gradient, rtol=1e-10, max_iter=iterations)
    result = search(surrogate_and_divergence, theta, _scaled(matvec, solution.x, delta), gradient)
    return result._replace(iterations=solution.iterations + result.iterations)


def _trpo_variant(*, slack=1.0, accept_ratio=0.0, reverse=False):
    def step(
        policy,
        theta,
        states,
        actions,
        advantage,
        weight=None,
        *,
        delta=0.01,
        damping=0.1,
        iterations=10,
        subsample=1,
        shrink=0.5,
        trials=10,
    ):
        options = {"bound": slack * delta, "shrink": shrink, "trials": trials, "accept_ratio": accept_ratio}
        return _trpo(
            policy,
            theta,
            states,
            actions,
            advantage,
            weight,
            search=lambda *args: _search(*args, **options),
            kl=lambda z_old, z: policy.kl(z, z_old)[0] if reverse else policy.kl(z_old, z)[0],
            delta=delta,
            damping=damping,
            iterations=iterations,
            subsample=subsample,
        )

    return step


TRPO_UNBOUNDED = Deviation(
    "line search without the divergence",
    _trpo_variant(slack=math.inf, accept_ratio=0.1),
    seen_in="joschu/modular_rl modular_rl/trpo.py, the authors' own code",
    computes="acceptance by a tenth of the predicted gain; the divergence is never tested",
)

TRPO_SLACK = Deviation(
    "one and a half times the bound",
    _trpo_variant(slack=1.5),
    seen_in="openai/baselines trpo_mpi/trpo_mpi.py",
    computes="acceptance up to 1.5 delta in the line search",
)

TRPO_REVERSED_KL = Deviation(
    "KL(new‖old) in the constraint",
    _trpo_variant(reverse=True),
    seen_in="SB3-contrib trpo/trpo.py; Spinning Up tf1/trpo/core.py for Gaussian policies",
    computes="the divergence in the other direction: the same Fisher matrix, another line search",
)
