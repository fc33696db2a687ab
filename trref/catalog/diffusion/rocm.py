"""What is known of `trref.diffusion.rocm`."""

from trref.backend import xp
from trref.catalog import (
    Deviation,
    Estimator,
    Interface,
    Limit,
    Method,
    Objective,
    Transform,
)
from trref.catalog.diffusion.interfaces import waves
from trref.diffusion.rocm import (
    consistency,
    multistep_sample,
    noisy_states,
    rocm_objective,
    step_divergence,
    truncated_objective,
)
from trref.problems.denoisers import Residual, TimeNetwork, WithParameters
from trref.problems.mixtures import MixtureDenoiser, three_components
from trref.problems.rewards import QuadraticReward

# ---- the form of the model


def _head_example(rng, size):
    D = int(rng.integers(1, 5))
    scale = float(rng.choice((0.3, 3.0)))
    return {
        "x": scale * rng.standard_normal((size, D)),
        "output": rng.standard_normal((size, D)),
        "level": 0.01 + scale * rng.exponential(1.0, size),
    }


def _head_edge(levels):
    rows = xp.array([[1.0, -2.0], [0.5, 0.0]])
    return {"x": rows, "output": 3 - rows, "level": xp.array(levels)}


def _head_linear(x, output, level, tangent, **hyper):
    """Linear in x: its share alone, in jvp and vjp."""
    return consistency(tangent, xp.zeros_like(output), level, **hyper)


def _head_vjp(x, output, level, cotangent, **hyper):
    return _head_linear(x, output, level, cotangent, **hyper)


def _latent(x, output, level, *, data_std=0.5, smallest=0.002):
    total = (level**2 + data_std**2)[:, None]
    return data_std**2 / total * x + level[:, None] / xp.sqrt(total) * output


LATENT = Deviation(
    "latent consistency models' scaling",
    _latent,
    seen_in="diffusers LCMScheduler, get_scalings_for_boundary_condition_discrete",
    computes="an output that is not multiplied by data_std, and levels counted from 0, not from the smallest",
    documented=True,
)


# ---- divergences


def _distances(values):
    return lambda: {"delta": xp.array(values)}


# ---- chains


def _chain(network, theta, moved, base, x, z, times, levels, reward):
    model = Residual(base, network) if base else network
    return {
        "model": model,
        "theta": theta,
        "reference": WithParameters(model, theta + moved),
        "x": x,
        "z": z,
        "times": times,
        "signal": levels[0],
        "spread": levels[1],
        "reward": reward,
    }


def _example(rng, size):
    D, steps = int(rng.choice((1, 2, 3))), int(rng.integers(1, 4))
    network = TimeNetwork(D, (int(rng.integers(3, 6)),))
    theta = rng.standard_normal(network.size)
    return _chain(
        network,
        theta,
        float(rng.choice((0.05, 0.4))) * rng.standard_normal(theta.shape),
        None,
        2 * rng.standard_normal((size, D)),
        rng.standard_normal((steps, size, D)),
        xp.linspace(1.0, 0.3, steps + 1),
        (rng.uniform(0.5, 1.0, steps), rng.uniform(0.3, 1.2, steps)),
        QuadraticReward(rng.standard_normal(D), 0.3),
    )


def _edge(steps, moved, exact=False, D=2, rows=3):
    network = TimeNetwork(D, (4,))
    theta = waves(network.size)
    levels = xp.linspace(0.8, 0.4, steps)
    return _chain(
        network,
        theta / 4 if exact else theta,
        moved * waves(network.size) ** 2,
        MixtureDenoiser(three_components()) if exact else None,
        waves(rows, D),
        waves(steps, rows, D) ** 2,
        xp.linspace(0.9, 0.2, steps + 1),
        (xp.sqrt(1 - levels**2), levels),
        QuadraticReward(0.5 * xp.ones(D)),
    )


STEPS = Interface(
    "consistency_chain",
    example=_example,
    edges={
        "at the reference": lambda: _edge(2, 0.0),
        "far from the reference": lambda: _edge(2, 1.5),
        "an exact model and a correction": lambda: _edge(3, 0.3, exact=True),
        "points on a line": lambda: _edge(2, 0.4, D=1),
        "one point in sixteen dimensions": lambda: _edge(1, 0.1, D=16, rows=1),
    },
)


def _walk(model, theta, x, z, times, signal, spread):
    """Brute force: point by point, the guess and the noise that is put back."""
    states = xp.empty((len(times), *x.shape))
    guesses = xp.empty_like(x)
    for i in range(len(x)):
        point = x[i]
        for n in range(len(times)):
            states[n, i] = point
            guesses[i] = model.forward(theta, point[None], times[n : n + 1])[0][0]
            if n < len(z):
                point = float(signal[n]) * guesses[i] + float(spread[n]) * z[n, i]
    return states, guesses


KINDS = ("hellinger", "jensen_shannon", "total_variation")
PROBE = {"kind": "fisher", "beta": 0.3}
FEW = {"sizes": (4, 8), "seeds": (0,)}

METHOD = Method(
    key="shekhar2025rocm",
    provenance="reconstructed",
    functions=(
        Transform(
            f=consistency,
            example=_head_example,
            edges={
                "the smallest level": lambda: _head_edge([0.002, 0.002]),
                "large levels": lambda: _head_edge([80.0, 10.0]),
            },
            wrt="x",
            jvp=_head_linear,
            vjp=_head_vjp,
            settings={"default": {}, "probe": {"data_std": 1.4, "smallest": 0.001}},
            deviations=(LATENT,),
        ),
        Objective(
            f=step_divergence,
            example=lambda rng, size: {"delta": rng.exponential(1.5, size)},
            edges={
                "no distance": _distances([0.0]),
                "one without distance": _distances([0.0, 2.0, 0.5]),
                "far": _distances([6.0, 8.5]),
                "near": _distances([1e-3, 0.2]),
            },
            wrt="delta",
            settings={
                "default": {},
                **{kind: {"kind": kind} for kind in (*KINDS, "chi_square")},
                "probe": {"kind": "fisher", "spread": 0.6},
            },
            refused={
                "a chi-square divergence that is too large": {
                    "kind": "chi_square",
                    "delta": 10.0,
                },
            },
        ),
        Objective(
            f=rocm_objective,
            interface=STEPS,
            wrt="theta",
            settings={
                "default": {},
                **{kind: {"kind": kind, "beta": 0.5} for kind in KINDS},
                "probe": PROBE,
            },
            **FEW,
        ),
        Objective(
            f=truncated_objective,
            interface=STEPS,
            wrt="theta",
            stopped={"states": noisy_states},
            settings={
                "default": {},
                **{kind: {"kind": kind, "beta": 0.5} for kind in KINDS},
                "probe": PROBE,
            },
            **FEW,
            limits=(Limit("rocm.rocm_objective", {"beta": 0.0}, {"beta": 0.0}),),
        ),
        Estimator(
            f=noisy_states, interface=STEPS, brute_force=lambda **how: _walk(**how)[0]
        ),
        Estimator(
            f=multistep_sample,
            interface=STEPS,
            brute_force=lambda **how: _walk(**how)[1],
        ),
    ),
)
