"""What is known of `trref.diffusion.diff_instruct_star`."""

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Interface, Method, Objective
from trref.diffusion.diff_instruct_star import (
    di_star,
    diff_instruct,
    score_distance,
    score_gap,
)
from trref.problems.mixtures import GaussianMixture, MixtureNoise, vp_schedule
from trref.problems.rewards import QuadraticReward

LEVELS = {"default": {}, "probe": {"t": 0.3, "alpha": 0.7, "sigma": 0.4}}
DISTANCES = {
    "default": {},
    "squared": {"distance": "squared"},
    "probe": {"huber": 0.2, "distance": "squared"},
    "another constant": {"huber": 0.2},
}

# ---- examples


def _mixture(rng, D):
    cube = rng.standard_normal((2, D, D)) / 2
    return GaussianMixture(
        rng.dirichlet(xp.ones(2)),
        rng.standard_normal((2, D)),
        cube @ cube.swapaxes(1, 2) + 0.2 * xp.eye(D),
    )


def _example(rng, size):
    D = int(rng.integers(1, 4))
    return {
        "model": MixtureNoise(_mixture(rng, D)),
        "ref_model": MixtureNoise(_mixture(rng, D)),
        "x0": rng.standard_normal((size, D)),
        "noise": rng.standard_normal((size, D)),
        "reward": QuadraticReward(rng.standard_normal(D), 0.3),
    }


def _one(mean):
    return MixtureNoise(
        GaussianMixture(xp.ones(1), xp.array([mean]), xp.array([0.5 * xp.eye(2)]))
    )


def _edge(ref_mean, x0=((0.5, -1.0), (2.0, 0.25)), goal=(1.0, 0.0)):
    x0 = xp.array(x0)
    return {
        "model": _one([0.5, -0.5]),
        "ref_model": _one(ref_mean),
        "x0": x0,
        "noise": xp.array([[1.0, -0.5], [-0.25, 2.0]])[: len(x0)],
        "reward": QuadraticReward(xp.array(goal), 0.3),
    }


def _on_a_line():
    model, ref_model = (
        MixtureNoise(GaussianMixture(xp.ones(1), xp.array([[m]]), xp.array([[[v]]])))
        for m, v in ((0.5, 0.3), (-0.5, 1.0))
    )
    return {
        "model": model,
        "ref_model": ref_model,
        "x0": xp.array([[0.25], [1.5]]),
        "noise": xp.array([[1.0], [-0.75]]),
        "reward": QuadraticReward(xp.array([1.0]), 0.3),
    }


GENERATOR = Interface(
    "generator",
    example=_example,
    edges={
        "the reference is the generator": lambda: _edge([0.5, -0.5]),
        "on a line": _on_a_line,
        "far from the reference": lambda: _edge([6.0, 3.0]),
        "one sample, at the goal": lambda: _edge(
            [0.0, 0.0], x0=((1.0, 0.0),), goal=(1.0, 0.0)
        ),
    },
)


def _gap(*rows):
    return {"gap": xp.array(rows)}


# ---- brute force


def _difference_of_scores(model, ref_model, x0, noise, *, t=0.5, alpha=0.8, sigma=0.6):
    """From the scores of both mixtures, whose noise level is that of the schedule."""
    levels = [float(level) for level in vp_schedule(xp.array(t))]
    x = alpha * x0 + sigma * noise
    own, ref = (m.mixture.noised(*levels).score(x) for m in (model, ref_model))
    return (own - ref) * levels[1] / sigma


# ---- deviations


def _sid(
    model,
    ref_model,
    x0,
    noise,
    reward,
    *,
    t=0.5,
    alpha=0.8,
    sigma=0.6,
    huber=0.5,
    distance="pseudo_huber",
    time_weight=1.0,
    reward_weight=1.0,
    a=1.2,
    weighed=True,
):
    """SiD's loss by denoisers."""
    N = len(x0)
    x, times = alpha * x0 + sigma * noise, xp.zeros_like(x0[:, 0]) + t
    own = (x - sigma * model(x, times)) / alpha
    ref = (x - sigma * ref_model(x, times)) / alpha

    def pulled(which, v):
        return (v - sigma * which.vjp(x, times, v)) / alpha

    e, away = ref - own, ref - x0
    f = away - a * e
    weight = time_weight * xp.ones_like(x0[:, :1]) * 2 * alpha**2 / sigma**4
    if weighed:
        weight = weight / xp.maximum(abs(away).mean(1, keepdims=True), 1e-5)
    turned = pulled(ref_model, f - a * e + e) - pulled(model, f - a * e)
    earned, d_earned = reward(x0)
    L = ((weight[:, 0] * (e * f).sum(1)) - reward_weight * earned).sum() / N
    return L, (weight * (alpha * turned - e) - reward_weight * d_earned) / N


def sid(
    model,
    ref_model,
    x0,
    noise,
    reward,
    *,
    t=0.5,
    alpha=0.8,
    sigma=0.6,
    time_weight=1.0,
    reward_weight=1.0,
):
    return _sid(
        model,
        ref_model,
        x0,
        noise,
        reward,
        t=t,
        alpha=alpha,
        sigma=sigma,
        time_weight=time_weight,
        reward_weight=reward_weight,
    )


def sid_bracket(inputs, *, a, **levels):
    """SiD's loss for any a, without its weights."""
    return _sid(**inputs, **levels, a=a, weighed=False)


def _denoiser_form(
    model,
    ref_model,
    x0,
    noise,
    *,
    t=0.5,
    alpha=0.8,
    sigma=0.6,
    time_weight=1.0,
    gap=None,
):
    if gap is None:
        gap = score_gap(model, ref_model, x0, noise, t=t, alpha=alpha, sigma=sigma)
    slope = time_weight / len(x0) * sigma**2 / alpha * gap
    return (slope * x0).sum(), slope


SID = Deviation(
    "SiD's a of 1.2, each sample over its mean distance",
    sid,
    seen_in="mingyuanzhou/SiD-LSG training/sid_training_loop.py, with the default of SiD's trainer",
    computes="a squared distance of denoisers with a = 1.2, which is the gradient of no divergence, each sample divided"
    " by its mean |x0 - D_ref|",
)
DENOISERS = Deviation(
    "a difference of denoisers",
    _denoiser_form,
    seen_in="pkulwj1994/diff_instruct training/di_loss.py",
    computes="the difference of denoised samples in the place of that of scores: a factor of sigma² over the"
    " squared signal level",
)


METHOD = Method(
    key="luo2024diff",
    provenance={
        "confirmed": ("distance", "gap", "kl"),
        "partly": ("objective",),
        "reconstructed": ("gradient",),
    },
    functions=(
        Objective(
            f=di_star,
            interface=GENERATOR,
            wrt="x0",
            settings={
                "default": {},
                "squared": {"distance": "squared"},
                "distillation": {"reward_weight": 0.0},
                "the reward alone": {"time_weight": 0.0},
                "a small constant": {"huber": 0.1, "t": 0.3, "reward_weight": 0.2},
                "probe": {
                    **LEVELS["probe"],
                    "huber": 0.3,
                    "distance": "squared",
                    "time_weight": 0.7,
                    "reward_weight": 0.4,
                },
            },
            deviations=(SID,),
        ),
        Objective(
            f=diff_instruct,
            interface=GENERATOR,
            wrt="x0",
            stopped={"gap": score_gap},
            value_free=True,
            settings={
                "default": {},
                "probe": {**LEVELS["probe"], "time_weight": 0.7},
            },
            deviations=(DENOISERS,),
        ),
        Objective(
            f=score_distance,
            example=lambda rng, size: {
                "gap": float(rng.choice((0.1, 1.0, 5.0)))
                * rng.standard_normal((size, int(rng.integers(1, 4))))
            },
            edges={
                "no difference": lambda: _gap([0.0, 0.0], [0.0, 0.0]),
                "one that is large": lambda: _gap([1e6, 0.0], [0.0, 1e-6]),
            },
            wrt="gap",
            settings=DISTANCES,
        ),
        Estimator(
            f=score_gap,
            interface=GENERATOR,
            settings=LEVELS,
            brute_force=_difference_of_scores,
        ),
    ),
)
