"""What is known of `trref.diffusion.optimal_gaussian_diffusion`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Limit, Method, Objective, Transform
from trref.diffusion.optimal_gaussian_diffusion import (
    Prior,
    ecm_step,
    ecmr_step,
    full_guidance,
    goal_cost,
    ogd_forward,
    ogd_loss,
    ogd_prior,
    ogd_start,
    ogd_step,
)
from trref.problems.measurements import GoalCost
from trref.problems.mixtures import GaussianMixture, ScaledNoise


def _rows(rng, size):
    """What functions of rows take: data, noise, a point and what is predicted there."""
    D = int(rng.integers(1, 5))
    draw = lambda: rng.standard_normal((size, D))  # noqa: E731
    sigma = rng.uniform(0.3, 2.0, D)
    return {
        "x0": draw(),
        "x": draw(),
        "noise": draw(),
        "predicted": sigma * draw(),
        "z": draw(),
        "mean": 2 * rng.standard_normal(D),
        "sigma": sigma,
    }


def _two_rows(sigma):
    rows = xp.array([[1.0, -2.0], [0.5, 0.0]])
    return {
        "x0": rows,
        "x": 2 * rows,
        "noise": -rows,
        "predicted": rows[::-1] / 2,
        "z": 3 * rows,
        "mean": xp.array([5.0, -1.0]),
        "sigma": xp.array(sigma),
    }


EDGES = {"unlike spreads": [1e-3, 100.0], "standard noise": [1.0, 1.0]}


def _of(*names):
    def example(rng, size):
        everything = _rows(rng, size)
        return {name: everything[name] for name in names}

    def edge(sigma):
        everything = _two_rows(sigma)
        return {name: everything[name] for name in names}

    edges = {name: lambda sigma=sigma: edge(sigma) for name, sigma in EDGES.items()}
    return {"example": example, "edges": edges}


def _scaled(x0, noise, sigma, *, alpha_bar=0.5, tangent=None, cotangent=None):
    """Linear in the data: a scale, the same for jvp and vjp."""
    return math.sqrt(alpha_bar) * (tangent if cotangent is None else cotangent)


def _standard_noise(inputs):
    """the noise is standard"""
    inputs = {**inputs, "sigma": xp.ones_like(inputs["sigma"])}
    return inputs, {
        "predicted": inputs["predicted"],
        "noise": inputs["noise"],
        "weight": xp.ones_like(inputs["noise"][:, 0]),
    }


def _standard_step(inputs):
    """the noise is standard"""
    inputs = {**inputs, "sigma": xp.ones_like(inputs["sigma"])}
    return inputs, {"x": inputs["x"], "noise": inputs["predicted"], "z": inputs["z"]}


# ---- moments


def _moments(rng, size):
    factor = rng.standard_normal((size, size)) / math.sqrt(size)
    return {
        "mean": rng.standard_normal(size),
        "covariance": factor @ factor.T + 0.1 * xp.eye(size),
        "sigma": rng.uniform(0.3, 2.0, size),
    }


def _moment_edge(covariance, sigma):
    return {
        "mean": xp.arange(len(sigma)) - 0.5,
        "covariance": xp.array(covariance),
        "sigma": xp.array(sigma),
    }


def prior_by_entries(mean, covariance, sigma, *, alpha_bar=0.5, form="full"):
    """Brute force: the moments of sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) sigma noise, entry by entry."""
    D, a, b = len(mean), alpha_bar**0.5, (1 - alpha_bar) ** 0.5
    spread = xp.zeros((D, D))
    for i in range(D):
        for j in range(D):
            if i == j or form == "full":
                spread[i, j] = (a * a) * covariance[i, j] + (i == j) * (
                    b * sigma[i]
                ) ** 2
    return Prior(xp.array([a * m for m in mean.tolist()]), spread)


def start_by_entries(noise, mean, sigma, *, alpha_bar=0.5):
    return xp.array(
        [
            [
                alpha_bar**0.5 * m + s * e
                for m, s, e in zip(mean.tolist(), sigma.tolist(), row, strict=True)
            ]
            for row in noise.tolist()
        ]
    )


def step_by_rows(x, predicted, z, sigma, *, alpha_bar=0.5, next_alpha_bar=0.8, eta=0.0):
    """Brute force: in units of sigma, where the noise is standard, by the posterior's variance."""
    t, s = alpha_bar, next_alpha_bar
    x, g = x / sigma, predicted / sigma
    x0 = (x - (1 - t) ** 0.5 * g) / t**0.5
    posterior = 0.0 if s in (t, 1.0) else 1 / (1 / (1 - s) + (t / s) / (1 - t / s))
    fresh = eta**2 * posterior
    return sigma * (s**0.5 * x0 + max(1 - s - fresh, 0.0) ** 0.5 * g + fresh**0.5 * z)


# ---- guidance


def _costs(rng, size):
    D, M = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    rows = lambda n: rng.standard_normal((n, D))  # noqa: E731
    return {
        "cost": GoalCost(rows(M), rng.standard_normal(M), rng.standard_normal(M)),
        "x": rows(size),
        "predicted": rows(size),
        "modes": rows(int(rng.integers(1, 5))),
    }


def _plane(modes):
    """A goal of the first entry alone; three points, the second at the goal."""
    x = xp.array([[3.0, 1.0], [1.0, -1.0], [-0.05, 2.0]])
    return {
        "cost": GoalCost(
            xp.array([[1.0, 0.0]]), xp.zeros(1), math.sqrt(2) * xp.ones(1)
        ),
        "x": x,
        "predicted": 0 * x,
        "modes": xp.array(modes),
    }


def _without_modes(make):
    return lambda *args: {k: v for k, v in make(*args).items() if k != "modes"}


MODES = {
    "modes that cost more": [[-9.0, 0.0], [30.0, 1.0]],
    "the best mode among equals is the first": [[1.5, 3.0], [1.5, -3.0]],
    "a mode that costs as much": [[math.sqrt(2), 5.0]],
}


def ecm_by_rows(
    cost, x, predicted, *, alpha_bar=0.5, next_alpha_bar=0.8, lr=10.0, bound=1.0
):
    """Brute force: entry by entry."""
    modes = None
    return ecmr_by_rows(
        cost,
        x,
        predicted,
        modes,
        alpha_bar=alpha_bar,
        next_alpha_bar=next_alpha_bar,
        lr=lr,
        bound=bound,
    )


def ecmr_by_rows(
    cost, x, predicted, modes, *, alpha_bar=0.5, next_alpha_bar=0.8, lr=10.0, bound=1.0
):
    """Brute force: row by row, with the goal's gradient by its own formula."""
    t, s, result = alpha_bar, next_alpha_bar, xp.zeros_like(x)

    def price(row):
        r = cost.decoder @ row + cost.offset - cost.goal
        return float((r * r).mean()), 2 * cost.decoder.T @ r / len(r)

    for n, (point, g) in enumerate(zip(x, predicted, strict=True)):
        x0 = (point - (1 - t) ** 0.5 * g) / t**0.5
        for mode in (
            sorted(modes, key=lambda m: price(m)[0])[:1] if modes is not None else ()
        ):
            x0 = mode if price(mode)[0] < price(x0)[0] else x0
        moves = [min(max(lr * d, -bound), bound) for d in price(x0)[1].tolist()]
        result[n] = s**0.5 * (x0 - xp.array(moves)) + (1 - s) ** 0.5 * g
    return result


def _no_cost(inputs):
    """without guidance"""
    return inputs, {
        "x": inputs["x"],
        "noise": inputs["predicted"],
        "z": 0 * inputs["x"],
    }


def _mean_cost(
    cost, x, predicted, *, alpha_bar=0.5, next_alpha_bar=0.8, lr=10.0, bound=1.0
):
    return ecm_step(
        cost,
        x,
        predicted,
        alpha_bar=alpha_bar,
        next_alpha_bar=next_alpha_bar,
        lr=lr / len(x),
        bound=bound,
    )


def _mean_cost_of_modes(
    cost, x, predicted, modes, *, alpha_bar=0.5, next_alpha_bar=0.8, lr=10.0, bound=1.0
):
    return ecmr_step(
        cost,
        x,
        predicted,
        modes,
        alpha_bar=alpha_bar,
        next_alpha_bar=next_alpha_bar,
        lr=lr / len(x),
        bound=bound,
    )


def _mean_deviation(f):
    return Deviation(
        "the mean cost of the batch",
        f,
        seen_in="YixiaoWang7/OptTrajDiff, modules/joint_diffusion.py, sample_opd",
        computes="the gradient of the mean cost over samples: a step that is shorter by their number",
    )


def _goal_example(rng, size):
    D, M = int(rng.integers(1, 5)), int(rng.integers(1, 4))
    return {
        "x0": rng.standard_normal((size, D)),
        "decoder": rng.standard_normal((M, D)),
        "offset": rng.standard_normal(M),
        "goal": rng.standard_normal(M),
    }


def _at_the_goal():
    return {
        "x0": xp.array([[1.0, 2.0]]),
        "decoder": xp.eye(2),
        "offset": xp.zeros(2),
        "goal": xp.array([1.0, 2.0]),
    }


def _through(rng, size):
    D, M = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    factor = rng.standard_normal((2, D, D)) / 2
    mixture = GaussianMixture(
        xp.array([0.4, 0.6]),
        rng.standard_normal((2, D)),
        factor @ factor.swapaxes(1, 2) + 0.1 * xp.eye(D),
    )
    cost = GoalCost(
        rng.standard_normal((M, D)), rng.standard_normal(M), rng.standard_normal(M)
    )
    return {
        "model": ScaledNoise(mixture, rng.uniform(0.3, 2.0, D)),
        "cost": cost,
        "x": rng.standard_normal((size, D)),
    }


def _one_number():
    mixture = GaussianMixture(xp.ones(1), xp.ones((1, 1)), xp.ones((1, 1, 1)))
    return {
        "model": ScaledNoise(mixture, xp.array([0.5])),
        "cost": GoalCost(xp.array([[2.0]]), xp.zeros(1), xp.ones(1)),
        "x": xp.array([[0.3]]),
    }


# ---- the loss


def _mean_over_entries(predicted, noise, sigma):
    loss, gradient = ogd_loss(predicted, noise, sigma)
    return loss / len(sigma), gradient / len(sigma)


def _weighted(predicted, noise, sigma):
    loss, gradient = ogd_loss(predicted / sigma, noise, xp.ones_like(sigma))
    return loss / len(sigma), gradient / sigma / len(sigma)


def _from_the_shift(noise, mean, sigma, *, alpha_bar=0.5):
    return ogd_start(
        noise, (1 / math.sqrt(alpha_bar) - 1) * mean, sigma, alpha_bar=alpha_bar
    )


A_STEP_AWAY = {
    "a step away from the data": {"alpha_bar": 0.8, "next_alpha_bar": 0.5},
}


METHOD = Method(
    key="wang2024optimizing",
    provenance={
        "confirmed": ("forward", "loss", "start", "step", "ecm", "ecmr", "goal"),
        "partly": ("prior",),
        "reconstructed": ("full",),
    },
    functions=(
        Transform(
            f=ogd_forward,
            **_of("x0", "noise", "sigma"),
            wrt="x0",
            jvp=_scaled,
            vjp=_scaled,
            settings={
                "default": {},
                "all data": {"alpha_bar": 1.0},
                "all noise": {"alpha_bar": 0.0},
                "probe": {"alpha_bar": 0.3},
            },
        ),
        Objective(
            f=ogd_loss,
            **_of("predicted", "noise", "sigma"),
            wrt="predicted",
            limits=(Limit("score_matching.noise_matching", {}, where=_standard_noise),),
            deviations=(
                Deviation(
                    "mean over entries",
                    _mean_over_entries,
                    seen_in="YixiaoWang7/OptTrajDiff, modules/joint_diffusion.py, get_loss_opd",
                    computes="a loss and a gradient smaller by the number of entries of an example",
                ),
                Deviation(
                    "weighted by the spread",
                    _weighted,
                    seen_in="YixiaoWang7/OptTrajDiff, modules/joint_diffusion.py, get_loss_opsd",
                    computes="errors in units of sigma, and a mean over entries",
                    documented=True,
                ),
            ),
        ),
        Estimator(
            f=ogd_prior,
            example=_moments,
            edges={
                "one number": lambda: _moment_edge([[2.0]], [0.5]),
                "one number an entry": lambda: _moment_edge(
                    [[1.0, 0.9], [0.9, 1.0]], [1.0, 1.0]
                ),
            },
            settings={
                "default": {},
                "independent entries": {"form": "diagonal"},
                "all data": {"alpha_bar": 1.0},
                "probe": {"alpha_bar": 0.3, "form": "diagonal"},
            },
            brute_force=prior_by_entries,
        ),
        Estimator(
            f=ogd_start,
            **_of("noise", "mean", "sigma"),
            settings={"default": {}, "probe": {"alpha_bar": 0.3}},
            brute_force=start_by_entries,
            deviations=(
                Deviation(
                    "from the shift of the noise",
                    _from_the_shift,
                    seen_in="YixiaoWang7/OptTrajDiff, modules/joint_diffusion.py, sample_opsd",
                    computes="the mean times 1 - sqrt(alpha_bar), by which that variant shifts its noise; the"
                    " data's own part, times sqrt(alpha_bar), is left out",
                ),
            ),
        ),
        Estimator(
            f=ogd_step,
            **_of("x", "predicted", "z", "sigma"),
            settings={
                "default": {},
                "DDPM": {"eta": 1.0},
                "to the data": {"next_alpha_bar": 1.0},
                "probe": {"alpha_bar": 0.3, "next_alpha_bar": 0.45, "eta": 0.6},
            },
            brute_force=step_by_rows,
            limits=(
                Limit(
                    "score_models.ddim_step",
                    {"eta": 0.6},
                    {"eta": 0.6},
                    where=_standard_step,
                ),
            ),
            refused=A_STEP_AWAY,
        ),
        Estimator(
            f=ecm_step,
            example=_without_modes(_costs),
            edges={"at the goal and not": _without_modes(lambda: _plane([[0.0, 0.0]]))},
            settings={
                "default": {},
                "a small step": {"lr": 0.1},
                "to the data": {"next_alpha_bar": 1.0},
                "probe": {
                    "alpha_bar": 0.3,
                    "next_alpha_bar": 0.45,
                    "lr": 0.4,
                    "bound": 0.3,
                },
            },
            brute_force=ecm_by_rows,
            limits=(Limit("score_models.ddim_step", {"lr": 0.0}, where=_no_cost),),
            deviations=(_mean_deviation(_mean_cost),),
            refused=A_STEP_AWAY,
        ),
        Estimator(
            f=ecmr_step,
            example=_costs,
            edges={
                name: lambda modes=modes: _plane(modes) for name, modes in MODES.items()
            },
            settings={
                "default": {},
                "no gradient": {"lr": 0.0},
                "probe": {
                    "alpha_bar": 0.3,
                    "next_alpha_bar": 0.45,
                    "lr": 0.4,
                    "bound": 0.3,
                },
            },
            brute_force=ecmr_by_rows,
            deviations=(_mean_deviation(_mean_cost_of_modes),),
            refused=A_STEP_AWAY,
        ),
        Objective(
            f=goal_cost,
            example=_goal_example,
            edges={"at the goal": _at_the_goal},
            wrt="x0",
        ),
        Objective(
            f=full_guidance,
            example=_through,
            edges={"one number": _one_number},
            wrt="x",
            settings={"default": {}, "probe": {"time": 0.2, "alpha_bar": 0.7}},
        ),
    ),
)
