"""What is known of `trref.policy.natural_gradient`."""

import itertools
import math
import warnings

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Method, Objective, Solver
from trref.krylov.cg import cg
from trref.policy.natural_gradient import (
    NaturalStep,
    backtracking_line_search,
    fisher_vector_product,
    mean_kl_categorical,
    mean_kl_diag_gaussian,
    natural_step,
)
from trref.problems.convex import DenseOperator, spd_matrix
from trref.problems.policies import (
    CategoricalPolicy,
    GaussianPolicy,
    LinearSoftmaxPolicy,
    QuadraticTrustRegion,
)
from trref.validate import ConvergenceWarning


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


def _search_without_divergence(
    objective_and_divergence,
    theta,
    step,
    gradient,
    *,
    delta=0.01,
    shrink=0.5,
    trials=10,
    accept_ratio=0.1,
):
    options = {
        "delta": math.inf,
        "shrink": shrink,
        "trials": trials,
        "accept_ratio": accept_ratio,
    }
    return backtracking_line_search.unchecked(
        objective_and_divergence, theta, step, gradient, **options
    )


SEARCH_WITHOUT_DIVERGENCE = Deviation(
    "line search without the divergence",
    _search_without_divergence,
    seen_in="joschu/modular_rl modular_rl/trpo.py",
    computes="acceptance by a tenth of the predicted gain alone, whatever the divergence",
)


def _search_with_slack(
    objective_and_divergence,
    theta,
    step,
    gradient,
    *,
    delta=0.01,
    shrink=0.5,
    trials=10,
    accept_ratio=0.0,
):
    options = {
        "delta": 1.5 * delta,
        "shrink": shrink,
        "trials": trials,
        "accept_ratio": accept_ratio,
    }
    return backtracking_line_search.unchecked(
        objective_and_divergence, theta, step, gradient, **options
    )


SEARCH_WITH_SLACK = Deviation(
    "one and a half times the bound",
    _search_with_slack,
    seen_in="openai/baselines trpo_mpi/trpo_mpi.py",
    computes="acceptance up to 1.5 delta",
)


def _categorical(rng, size):
    old = rng.choice((0.1, 1.0, 4.0)) * rng.standard_normal((size, 3))
    return {
        "old_logits": old,
        "logits": old + rng.choice((0.05, 0.4, 1.5)) * rng.standard_normal((size, 3)),
    }


CATEGORICAL = Interface(
    "mean_kl_categorical",
    example=_categorical,
    edges={
        "equal": lambda: {
            "old_logits": xp.array([[0.3, -1.0]]),
            "logits": xp.array([[0.3, -1.0]]),
        },
        "all but deterministic": lambda: {
            "old_logits": xp.array([[0.0, -40.0], [-40.0, 0.0]]),
            "logits": xp.array([[-3.0, 0.0], [-900.0, 0.0]]),
        },
        "one action": lambda: {
            "old_logits": xp.array([[0.5]]),
            "logits": xp.array([[-2.0]]),
        },
    },
)


def _gaussian(rng, size):
    spread = rng.choice((0.05, 0.4, 1.5))
    old = {
        "old_mean": rng.standard_normal((size, 2)),
        "old_log_std": rng.standard_normal((size, 2)) - 0.5,
    }
    new = {
        k.removeprefix("old_"): v + spread * rng.standard_normal((size, 2))
        for k, v in old.items()
    }
    return {**old, **new}


GAUSSIAN = Interface(
    "mean_kl_diag_gaussian",
    example=_gaussian,
    edges={
        "equal": lambda: dict.fromkeys(
            ("old_mean", "old_log_std", "mean", "log_std"), xp.array([[0.5, -0.25]])
        ),
        "much narrower": lambda: {
            "old_mean": xp.array([[0.0]]),
            "old_log_std": xp.array([[0.0]]),
            "mean": xp.array([[1.0]]),
            "log_std": xp.array([[-3.0]]),
        },
    },
)


def _fisher(rng, size):
    kinds = (
        CategoricalPolicy((3, 5, 3)),
        GaussianPolicy((3, 4, 2)),
        LinearSoftmaxPolicy(3, 4),
    )
    policy = kinds[rng.integers(3)]
    theta = 0.7 * rng.standard_normal(policy.size)
    v = rng.choice((0.01, 1.0, 100.0)) * rng.standard_normal(policy.size)
    weight = rng.exponential(1.0, size) if rng.random() < 0.5 else None
    return {
        "policy": policy,
        "theta": theta,
        "v": v,
        "states": rng.standard_normal((size, 3)),
        "weight": weight,
    }


def _fisher_edge(policy, theta, v):
    states = xp.array([[1.0, -2.0], [0.0, 0.5]])
    return {"policy": policy, "theta": theta, "v": v, "states": states, "weight": None}


FISHER = Interface(
    "fisher_vector_product",
    example=_fisher,
    edges={
        "zero vector": lambda: _fisher_edge(
            LinearSoftmaxPolicy(2, 2), xp.arange(4.0), xp.zeros(4)
        ),
        "a vector of the null space": lambda: _fisher_edge(
            LinearSoftmaxPolicy(2, 2), xp.arange(4.0), xp.array([1.0, 1.0, -2.0, -2.0])
        ),
        "narrow Gaussian": lambda: _fisher_edge(
            GaussianPolicy((2, 1)), xp.array([0.3, -0.2, 0.1, -4.0]), xp.arange(4.0)
        ),
    },
)


def outer_products_of_scores(policy, theta, v, states, weight=None, *, damping=0.0):
    """Brute force: F = E[∇log π ∇log πᵀ], the expectation summed over all actions, or by Gauss-Hermite quadrature."""
    total = damping * v
    shares = [1 / len(states)] * len(states) if weight is None else weight.tolist()
    for row, share in zip(states, shares, strict=True):
        z, cache = policy.forward(theta, row[None])
        for action, prob in _support(policy, z):
            score = policy.vjp(cache, policy.log_prob(z, action)[1])
            total = total + share * prob * (score * v).sum() * score
    return total


def _support(policy, z):
    """Actions with probabilities under which the expectation of a polynomial of degree 5 is exact."""
    if policy.discrete:
        weights = xp.exp(
            policy.log_prob(xp.tile(z, (policy.actions, 1)), xp.arange(policy.actions))[
                0
            ]
        )
        return [(xp.array([a]), float(weights[a])) for a in range(policy.actions)]
    nodes = [(-math.sqrt(3.0), 1 / 6), (0.0, 2 / 3), (math.sqrt(3.0), 1 / 6)]
    mean, std = z[:, : policy.actions], xp.exp(z[:, policy.actions :])
    return [
        (
            mean + std * xp.array([[node for node, _ in point]]),
            math.prod(w for _, w in point),
        )
        for point in itertools.product(nodes, repeat=policy.actions)
    ]


def _step(rng, size):
    # five different eigenvalues: conjugate gradients end after five steps
    eigenvalues = rng.choice((0.1, 1.0, 30.0)) * rng.choice(
        (1.0, 0.5, 0.2, 0.1, 0.02), size
    )
    return {
        "matvec": DenseOperator(spd_matrix(rng, eigenvalues)),
        "gradient": rng.standard_normal(size),
    }


def _step_edge(A, gradient):
    return {
        "matvec": DenseOperator(xp.array(A, dtype=float)),
        "gradient": xp.array(gradient, dtype=float),
    }


STEP = Interface(
    "natural_step",
    example=_step,
    edges={
        "zero gradient": lambda: _step_edge([[2.0, 0.5], [0.5, 1.0]], [0, 0]),
        "singular, consistent": lambda: _step_edge(
            xp.diag(xp.array([2.0, 1.0, 0.0])), [1, -1, 0]
        ),
        "identity": lambda: _step_edge(xp.eye(3), [3, 0, 4]),
    },
)


def on_the_sphere(result, matvec, gradient, delta=0.01, **_):
    """Certificate: half of Δᵀ(F + λI)Δ, relative to delta; how far the step leads downhill; and the residuals.

    The step is c s with c = 2 delta / Δᵀg, for conjugate gradients make g - (F + λI) s orthogonal to s.
    """
    if float(gradient @ gradient) == 0:
        return {
            "model of the divergence": float(abs(result.step).max()),
            "descent": 0.0,
            "residual misreported": 0.0,
        }
    model, along = (
        float(result.step @ matvec(result.step)) / 2,
        float(gradient @ result.step),
    )
    residual = gradient - along / (2 * delta) * matvec(result.step)
    first, last = (float(xp.sqrt((r * r).sum())) for r in (gradient, residual))
    misreported = abs(result.residual_norms[0] - first) + abs(
        result.residual_norms[-1] - last
    )
    return {
        "model of the divergence": abs(model / delta - 1),
        "descent": max(0.0, -along),
        "residual misreported": misreported / first,
    }


ON_THE_SPHERE = {
    "model of the divergence": 1e-10,
    "descent": 0.0,
    "residual misreported": 1e-8,
}


def _search(rng, size):
    eigenvalues = rng.choice((1.0, 0.3, 0.1), size)
    model = QuadraticTrustRegion(
        rng.standard_normal(size),
        rng.standard_normal(size),
        spd_matrix(rng, eigenvalues),
        0.2,
    )
    step = (
        model.gradient
        * (rng.choice((0.005, 0.02, 0.3)) / model(model.centre + model.gradient)[1])
        ** 0.5
    )
    return {
        "objective_and_divergence": model,
        "theta": model.centre,
        "step": step,
        "gradient": model.gradient,
    }


def _search_edge(bend, step, start=0.0):
    one = xp.ones(1)
    model = QuadraticTrustRegion(0 * one, one, xp.eye(1), bend, start)
    return {
        "objective_and_divergence": model,
        "theta": 0 * one,
        "step": step * one,
        "gradient": one,
    }


SEARCH = Interface(
    "backtracking_line_search",
    example=_search,
    edges={
        "the full step": lambda: _search_edge(0.0, 0.125),
        "the objective turns down": lambda: _search_edge(20.0, 0.14),
        "from a positive objective": lambda: _search_edge(20.0, 0.14, start=3.0),
        "from a negative objective": lambda: _search_edge(20.0, 0.14, start=-3.0),
        "far outside": lambda: _search_edge(0.5, 0.7),
        "no step": lambda: _search_edge(0.5, 0.0),
    },
)


SEARCH_PROBE = {"delta": 0.03, "shrink": 0.6, "trials": 15, "accept_ratio": 0.1}


def within_the_bound(result, objective_and_divergence, theta, delta=0.01, **_):
    """Certificate: the divergence over its bound, how much the objective has fallen, and what it says of both."""
    objective, divergence = (float(x) for x in objective_and_divergence(result.theta))
    gain = objective - float(objective_and_divergence(theta)[0])
    gains, divergences = (
        (result.gains, result.divergences) if result.converged else ([0.0], [0.0])
    )
    return {
        "divergence over its bound": divergence / delta,
        "loss": max(0.0, -gain),
        "misreported": abs(divergence - divergences[-1]) / delta
        + abs(gain - gains[-1]),
    }


WITHIN_THE_BOUND = {"divergence over its bound": 1.0, "loss": 0.0, "misreported": 1e-9}


METHOD = Method(
    key="kakade2001natural",
    provenance={
        "confirmed": ("categorical-kl", "gaussian-kl", "step", "backtracking"),
        "reconstructed": ("fisher",),
    },
    functions=(
        Objective(f=mean_kl_categorical, interface=CATEGORICAL, wrt="logits"),
        Objective(
            f=mean_kl_diag_gaussian,
            interface=GAUSSIAN,
            wrt=("mean", "log_std"),
            refused={
                "a large log_std": {"log_std": 20.0},
                "a large old_log_std": {"old_log_std": 20.0},
            },
        ),
        Estimator(
            f=fisher_vector_product,
            interface=FISHER,
            settings={"default": {}, "probe": {"damping": 0.3}},
            brute_force=outer_products_of_scores,
            refused={
                "log standard deviations that are too large": {
                    "policy": GaussianPolicy((3, 2)),
                    "theta": lambda _: xp.full(10, 99.0),
                    "v": lambda _: xp.ones(10),
                },
            },
        ),
        Solver(
            f=natural_step,
            interface=STEP,
            refused={
                "not symmetric": lambda: (_step_edge([[2, 1], [0, 2]], [1, 2]), {}),
                "negative curvature": lambda: (
                    _step_edge([[-1, 0], [0, 2]], [1, 0]),
                    {},
                ),
            },
            settings={
                "default": {},
                "probe": {"delta": 0.3, "iterations": 7, "rtol": 1e-7},
            },
            deviations=(STEP_FROM_NOISE, STEP_REGULARISED),
            certificate=on_the_sphere,
            tolerances=ON_THE_SPHERE,
            direct=True,  # few steps of conjugate gradients are the method
            agreement=1e-4,
        ),
        Solver(
            f=backtracking_line_search,
            interface=SEARCH,
            settings={
                "default": {},
                "Spinning Up": {"shrink": 0.8},
                "probe": SEARCH_PROBE,
            },
            deviations=(SEARCH_WITHOUT_DIVERGENCE, SEARCH_WITH_SLACK),
            certificate=within_the_bound,
            tolerances=WITHIN_THE_BOUND,
            failures={
                "the only trial loses": lambda: (
                    _search_edge(20.0, 0.14),
                    {"trials": 1},
                ),
                "all trials are too far": lambda: (
                    _search_edge(0.0, 5.0),
                    {"trials": 3},
                ),
            },
            agreement=1e-9,
        ),
    ),
)
