"""What is known of `trref.policy.odice`."""

import math

from trref.backend import xp
from trref.catalog import Estimator, Interface, Limit, Method, Objective
from trref.policy.odice import (
    cloning_loss,
    conjugate,
    extraction_weight,
    odice_loss,
    overlap,
    vdice_loss,
)
from trref.problems.policies import ValueNetwork


def _transitions(rng, size):
    value = ValueNetwork((3, 1)) if rng.random() < 0.4 else ValueNetwork((2, 3, 1))
    D, theta = value.sizes[0], 0.7 * rng.standard_normal(value.size)
    states = rng.standard_normal((size, D))
    return {
        "value": value,
        "theta": theta,
        "target_theta": theta + 0.3 * rng.standard_normal(value.size),
        "states": states,
        "next_states": states + 0.5 * rng.standard_normal((size, D)),
        "reward": float(rng.choice((0.3, 3.0))) * rng.standard_normal(size),
        "terminated": (rng.random(size) < 0.25).astype(float),
    }


def _line(reward, terminated=None, target=0.5):
    reward = xp.array(reward)
    states = xp.linspace(-1.0, 0.75, len(reward))[:, None]
    return {
        "value": ValueNetwork((1, 1)),
        "theta": xp.array([0.5, -0.25]),
        "target_theta": xp.array([target, -0.25]),
        "states": states,
        "next_states": states + 0.5,
        "reward": reward,
        "terminated": xp.zeros(len(reward))
        if terminated is None
        else xp.array(terminated),
    }


TRANSITIONS = Interface(
    "transitions",
    example=_transitions,
    edges={
        "the target is the network": lambda: _line([1.0, -0.5, 0.25]),
        "all end": lambda: _line([1.0, -0.5, 0.25], [1.0, 1.0, 1.0], 0.25),
        "all residuals below -2": lambda: _line([-9.0, -8.0], None, 0.25),
        "one transition": lambda: _line([0.5], None, 0.25),
    },
)


def _ratio(divergence):
    """Where the supremum of x y - f(x) is."""
    if divergence == "reverse_kl":
        return lambda y: math.exp(min(y, 80.0) - 1)
    return lambda y: y / 2 + 1 if y > -2 else 0.0


def _gradients_by_samples(
    value,
    theta,
    target_theta,
    states,
    next_states,
    reward,
    terminated,
    forward_weight,
    backward_weight,
    discount,
    divergence,
):
    """Forward and backward gradients, one sample at a time."""
    ratio = _ratio(divergence)
    g_f, g_b, one = 0 * theta, 0 * theta, xp.ones(1)
    for n in range(len(reward)):
        x, y = states[n : n + 1], next_states[n : n + 1]
        (v, here), (w, there) = value.forward(theta, x), value.forward(theta, y)
        old_v, old_w = value(target_theta, x), value(target_theta, y)
        onward = discount * (1 - float(terminated[n]))
        for_, back = reward[n] + onward * old_w - v, reward[n] + onward * w - old_v
        scale = forward_weight / len(reward)
        g_f = g_f - scale * ratio(float(for_[0])) * value.vjp(here, one)
        pull = scale * backward_weight * onward * ratio(float(back[0]))
        g_b = g_b + pull * value.vjp(there, one)
    return g_f, g_b


def _overlap_by_samples(
    value,
    theta,
    target_theta,
    states,
    next_states,
    reward,
    terminated,
    *,
    forward_weight=0.6,
    backward_weight=1.0,
    discount=0.99,
    divergence="chi_square",
):
    g_f, g_b = _gradients_by_samples(
        value,
        theta,
        target_theta,
        states,
        next_states,
        reward,
        terminated,
        forward_weight,
        backward_weight,
        discount,
        divergence,
    )
    return float(g_f @ g_b) / max(float(g_f @ g_f), 1e-10)


def _weights_by_cases(residual, *, form="code", cap=100.0, divergence="chi_square"):
    if form == "code":
        return [min(max(e, 0.0), cap) for e in residual.tolist()]
    return [_ratio(divergence)(e) for e in residual.tolist()]


def _without_backward(inputs):
    """the target is the network, and all episodes end"""
    still = {
        **inputs,
        "target_theta": inputs["theta"],
        "terminated": xp.ones_like(inputs["reward"]),
    }
    return still, {n: x for n, x in still.items() if n != "target_theta"}


WEIGHTS = {
    "default": {},
    "semi-gradient": {"backward_weight": 0.0},
    "reverse divergence": {"divergence": "reverse_kl"},
    "probe": {
        "forward_weight": 0.4,
        "backward_weight": 1.7,
        "discount": 0.9,
        "divergence": "reverse_kl",
    },
}
METHOD = Method(
    key="mao2024odice",
    provenance={
        "confirmed": ("conjugate", "parts", "gradient", "weight", "cloning"),
        "partly": ("vdice", "reverse"),
        "reconstructed": ("loss",),
    },
    functions=(
        Objective(
            f=odice_loss,
            interface=TRANSITIONS,
            wrt="theta",
            stopped={"overlap": overlap},
            settings={n: h for n, h in WEIGHTS.items() if n != "semi-gradient"},
            limits=(
                Limit(
                    "odice.vdice_loss",
                    {"backward_weight": 0.0},
                    where=_without_backward,
                ),
            ),
        ),
        Objective(
            f=vdice_loss,
            interface=TRANSITIONS,
            wrt="theta",
            settings={
                "default": {},
                "reverse divergence": {"divergence": "reverse_kl"},
                "probe": {
                    "forward_weight": 0.4,
                    "discount": 0.9,
                    "divergence": "reverse_kl",
                },
            },
        ),
        Objective(
            f=conjugate,
            example=lambda rng, size: {
                "residual": float(rng.choice((0.5, 4.0))) * rng.standard_normal(size)
            },
            edges={
                "at the kink of the derivative": lambda: {
                    "residual": xp.array([-2.0, 0.0])
                },
                "far below": lambda: {"residual": xp.array([-50.0])},
                "where a line goes on": lambda: {"residual": xp.array([85.0, 78.0])},
            },
            wrt="residual",
            settings={
                "default": {},
                "reverse divergence": {"divergence": "reverse_kl"},
                "probe": {"divergence": "reverse_kl"},
            },
        ),
        Estimator(
            f=overlap,
            interface=TRANSITIONS,
            settings=WEIGHTS,
            brute_force=_overlap_by_samples,
        ),
        Estimator(
            f=extraction_weight,
            example=lambda rng, size: {"residual": 3 * rng.standard_normal(size)},
            edges={
                "beyond the cap": lambda: {"residual": xp.array([500.0, -1.0])},
                "on the edges": lambda: {"residual": xp.array([0.0, -2.0, 100.0])},
            },
            settings={
                "default": {},
                "derived": {"form": "derived"},
                "derived, reverse divergence": {
                    "form": "derived",
                    "divergence": "reverse_kl",
                },
                "a small cap": {"cap": 2.5},
                "probe": {
                    "form": "derived",
                    "cap": 2.5,
                    "divergence": "reverse_kl",
                },
            },
            brute_force=_weights_by_cases,
        ),
        Objective(
            f=cloning_loss,
            example=lambda rng, size: {
                "log_prob": -rng.exponential(1.5, size),
                "weight": rng.exponential(1.0, size),
            },
            edges={
                "no weights": lambda: {
                    "log_prob": xp.array([-1.0, -2.0]),
                    "weight": xp.zeros(2),
                }
            },
            wrt="log_prob",
        ),
    ),
)
