"""What is known of `trref.policy.girl`."""

import dataclasses
import math

from trref.backend import xp
from trref.catalog import Estimator, Interface, Method, Objective, Transform
from trref.catalog.policy.trpo_improvement import COMPARISON, return_by_summation
from trref.nn.heads import log_softmax
from trref.policy.girl import (
    Bounds,
    adapt_radius,
    gap_bounds,
    gated_prior_jvp,
    gated_prior_mean,
    gated_prior_pull,
    gated_prior_vjp,
    grounding_loss,
    information_gain,
    update_multiplier,
    value_gap,
    world_model_loss,
)


def _modelled(make, error):
    """With a model that mixes the transitions with others."""

    def inputs(*arguments):
        batch = make(*arguments)
        mdp = batch["mdp"]
        other = 1 + xp.sin(3.1 * xp.arange(mdp.transition.size)).reshape(
            mdp.transition.shape
        )
        other = other / other.sum(2, keepdims=True)
        model = dataclasses.replace(
            mdp, transition=(1 - error) * mdp.transition + error * other
        )
        return batch | {"model": model}

    return inputs


MODELLED = Interface(
    "policy_comparison with a model",
    example=_modelled(COMPARISON.example, 0.3),
    edges={
        **{n: _modelled(make, 0.1) for n, make in COMPARISON.edges.items()},
        "the process itself": _modelled(COMPARISON.edges["nearly deterministic"], 0.0),
        "all wrong": _modelled(COMPARISON.edges["the same policy"], 0.99),
    },
)


def _gap_of_returns(logits, mdp, model):
    return return_by_summation(logits, logits, mdp) - return_by_summation(
        logits, logits, model
    )


def _bounds_by_loops(logits, mdp, model):
    policy = xp.exp(log_softmax(logits))
    value, discount = xp.zeros(len(policy)), 1.0
    state, visits = mdp.start, xp.zeros(policy.shape)
    while discount > 1e-18:
        value = (policy * (model.reward + model.gamma * model.transition @ value)).sum(
            1
        )
        visits = visits + discount * state[:, None] * policy
        state = xp.einsum("s,sa,sat->t", state, policy, mdp.transition)
        discount *= mdp.gamma
    span, g = float(value.max() - value.min()), mdp.gamma
    far, kls, worst = 0.0, 0.0, 0.0
    for s in range(policy.shape[0]):
        for a in range(policy.shape[1]):
            p, q = mdp.transition[s, a].tolist(), model.transition[s, a].tolist()
            tv = sum(abs(x - y) for x, y in zip(p, q, strict=True)) / 2
            kl = sum(x * math.log(x / y) for x, y in zip(p, q, strict=True) if x > 0)
            far += float(visits[s, a]) * tv
            kls += float(visits[s, a]) * math.sqrt(max(kl, 0.0) / 2)
            worst = max(worst, tv)
    largest = float(abs(mdp.reward).max())
    return Bounds(
        g * span * far, g * span * kls, 2 * g * largest / (1 - g) ** 2 * worst
    )


def _prior(rng, size):
    D, M, H = (int(n) for n in rng.integers(1, 5, 3))
    return {
        "embedding": rng.standard_normal((size, M)),
        "base_mean": rng.standard_normal((size, D)),
        "features": rng.standard_normal((size, H)),
        "projection": rng.standard_normal((M, D)),
        "gate": rng.standard_normal((D, H + M)),
        "gate_bias": rng.standard_normal(D),
    }


def _gate(bias):
    return {
        "embedding": xp.array([[1.0, -0.5], [0.25, 2.0]]),
        "base_mean": xp.array([[0.5], [-1.0]]),
        "features": xp.array([[1.0], [0.0]]),
        "projection": xp.array([[0.5], [-0.25]]),
        "gate": xp.array([[0.5, 1.0, -0.5]]),
        "gate_bias": xp.array([bias]),
    }


def _pulled(make):
    """With a derivative of the mean that comes back."""

    def inputs(*arguments):
        batch = make(*arguments)
        wave = xp.arange(batch["base_mean"].size, dtype=float)
        return batch | {
            "cotangent": xp.cos(1.7 * wave).reshape(batch["base_mean"].shape)
        }

    return inputs


def _latents(rng, size):
    D, M = (int(n) for n in rng.integers(1, 5, 2))
    return {
        "latent": rng.standard_normal((size, D)),
        "projector": rng.standard_normal((D, M)),
        "embedding": rng.standard_normal((size, M)),
    }


def _told():
    """Latent states from which the embedding follows exactly."""
    latent, projector = xp.array([[1.0, 0.5], [0.25, -1.0]]), xp.array([[2.0], [0.5]])
    return {"latent": latent, "projector": projector, "embedding": latent @ projector}


def _worlds(rng, size):
    D, M = (int(n) for n in rng.integers(1, 5, 2))
    gaussians = 0.7 * rng.standard_normal((4, size, D))
    names = ("mean", "log_std", "prior_mean", "prior_log_std")
    return {
        "reconstruction": rng.standard_normal((size, M)),
        **dict(zip(names, gaussians, strict=True)),
        "observation": rng.standard_normal((size, M)),
    }


def _settled():
    """Posterior and prior agree, and the reconstruction is exact."""
    one = xp.ones((2, 1))
    return {
        "reconstruction": 0.5 * one,
        "mean": 0.25 * one,
        "log_std": 0 * one,
        "prior_mean": 0.25 * one,
        "prior_log_std": 0 * one,
        "observation": 0.5 * one,
    }


def _multiplied(rng, size):
    return {
        "beta": xp.array(10.0 ** float(rng.uniform(-2, 2))),
        "kl": float(rng.choice((0.2, 5.0))) * rng.exponential(1.0, size),
    }


def _by_the_exponent(beta, kl, *, radius=1.0, lr=0.01):
    moved = float(beta) * math.exp(
        min(20.0, lr * (sum(kl.tolist()) / len(kl) - radius))
    )
    return min(max(moved, 1e-10), 1e10)


def _models(rng, size):
    K, D = int(rng.integers(2, 6)), int(rng.integers(1, 4))
    return {
        "means": float(rng.choice((0.1, 1.0))) * rng.standard_normal((K, size, D)),
        "log_stds": 0.5 * rng.standard_normal((K, size, D)),
    }


def _gain_by_loops(means, log_stds):
    found = []
    K, N, D = means.shape
    for n in range(N):
        total = 0.0
        for i in range(D):
            m = [float(means[k, n, i]) for k in range(K)]
            s = [math.exp(float(log_stds[k, n, i])) for k in range(K)]
            centre = sum(m) / K
            mixed = sum((x - centre) ** 2 + y**2 for x, y in zip(m, s, strict=True)) / K
            total += math.log(mixed) / 2 - sum(math.log(y) for y in s) / K
        found.append(total)
    return found


def _epoch(rng, size):
    return {
        "radius": xp.array(float(rng.uniform(0.2, 5.0))),
        "information": rng.exponential(0.5, size),
        "imagined_return": 3 + rng.standard_normal(size),
        "real_return": 2 + rng.standard_normal(size),
    }


def _returns(radius, information, imagined, real):
    arrays = (xp.array(x) for x in (radius, information, imagined, real))
    return dict(
        zip(
            ("radius", "information", "imagined_return", "real_return"),
            arrays,
            strict=True,
        )
    )


def _radius_by_cases(
    radius,
    information,
    imagined_return,
    real_return,
    *,
    lr=0.1,
    loss_weight=1.0,
    smallest=0.1,
    largest=10.0,
    eps=1e-6,
):
    imagined, real, gain = (
        sum(x.tolist()) / len(x) for x in (imagined_return, real_return, information)
    )
    lost = (imagined - real) / (abs(real) + eps) if imagined > real else 0.0
    return min(max(float(radius) + lr * (gain - loss_weight * lost), smallest), largest)


OTHER_DISCOUNT = {
    "a model of another discount": {
        "model": lambda model: dataclasses.replace(model, gamma=0.123)
    },
}

GATE_DOES_NOT_FIT = {
    "a gate that does not fit": {"gate": lambda gate: gate[:, :-1]},
}


METHOD = Method(
    key="hiremath2026girl",
    provenance={
        "confirmed": ("gap", "bounds"),
        "reconstructed": (
            "gate",
            "gate-gradient",
            "grounding",
            "objective",
            "multiplier",
            "information",
            "radius",
        ),
    },
    functions=(
        Estimator(
            f=value_gap,
            interface=MODELLED,
            brute_force=_gap_of_returns,
            refused=OTHER_DISCOUNT,
        ),
        Estimator(
            f=gap_bounds,
            interface=MODELLED,
            brute_force=_bounds_by_loops,
            refused=OTHER_DISCOUNT,
        ),
        Transform(
            f=gated_prior_mean,
            example=_prior,
            edges={
                "the gate is shut": lambda: _gate(-40.0),
                "the gate is open": lambda: _gate(40.0),
                "in between": lambda: _gate(0.25),
            },
            wrt="embedding",
            jvp=gated_prior_jvp,
            vjp=gated_prior_vjp,
            refused=GATE_DOES_NOT_FIT,
        ),
        Objective(
            f=gated_prior_pull,
            example=_pulled(_prior),
            edges={
                "the gate is shut": lambda: _pulled(_gate)(-40.0),
                "in between": lambda: _pulled(_gate)(0.25),
            },
            wrt=("base_mean", "features", "projection", "gate", "gate_bias"),
            refused=GATE_DOES_NOT_FIT,
        ),
        Objective(
            f=grounding_loss,
            example=_latents,
            edges={"told exactly": _told},
            wrt=("latent", "projector"),
        ),
        Objective(
            f=world_model_loss,
            example=_worlds,
            edges={"settled": _settled},
            wrt=("reconstruction", "mean", "log_std", "prior_mean", "prior_log_std"),
            settings={
                "default": {},
                "no radius": {"radius": 0.0},
                "probe": {"beta": 2.5, "radius": 0.3},
            },
            refused={
                "a large log_std": {"log_std": 20.0},
                "a large prior_log_std": {"prior_log_std": 20.0},
            },
        ),
        Estimator(
            f=update_multiplier,
            example=_multiplied,
            edges={
                "on the radius": lambda: {
                    "beta": xp.array(2.0),
                    "kl": xp.array([0.5, 1.5]),
                },
                "no divergence": lambda: {"beta": xp.array(2.0), "kl": xp.array([0.0])},
                "at the largest": lambda: {
                    "beta": xp.array(1e10),
                    "kl": xp.array([40.0]),
                },
                "at the smallest": lambda: {
                    "beta": xp.array(1e-10),
                    "kl": xp.array([0.0]),
                },
                "far out": lambda: {"beta": xp.array(1e-3), "kl": xp.array([1e4])},
            },
            settings={"default": {}, "probe": {"radius": 0.3, "lr": 0.2}},
            brute_force=_by_the_exponent,
        ),
        Estimator(
            f=information_gain,
            example=_models,
            edges={
                "one model": lambda: {
                    "means": xp.array([[[0.5, 1.0]]]),
                    "log_stds": xp.array([[[0.0, -1.0]]]),
                },
                "all agree but on the scale": lambda: {
                    "means": xp.zeros((2, 1, 1)),
                    "log_stds": xp.array([[[0.0]], [[1.0]]]),
                },
            },
            brute_force=_gain_by_loops,
            refused={
                "large log_stds": {"log_stds": 20.0},
            },
        ),
        Estimator(
            f=adapt_radius,
            example=_epoch,
            edges={
                "nothing to learn, nothing lost": lambda: _returns(
                    1.0, [0.0], [1.0], [2.0]
                ),
                "at the smallest": lambda: _returns(0.1, [0.0], [5.0], [1.0]),
                "at the largest": lambda: _returns(
                    10.0, [3.0, 5.0], [1.0, 1.0], [1.0, 1.0]
                ),
                "a real return of 0": lambda: _returns(1.0, [0.5], [2e-7], [0.0]),
            },
            settings={
                "default": {},
                "probe": {
                    "lr": 0.3,
                    "loss_weight": 0.6,
                    "smallest": 0.4,
                    "largest": 4.0,
                    "eps": 0.02,
                },
            },
            brute_force=_radius_by_cases,
        ),
    ),
)
