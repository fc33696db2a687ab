"""What is known of `trref.diffusion.trqam`."""

import math
import statistics

from trref.backend import xp
from trref.catalog import (
    Deviation,
    Estimator,
    Interface,
    Method,
    Objective,
    Transform,
)
from trref.catalog.diffusion.interfaces import FLOW_POLICY, waves
from trref.diffusion.trqam import (
    adjoint_matching,
    lean_adjoint,
    memoryless_path,
    memoryless_rate,
    memoryless_step,
    pessimistic_target,
)
from trref.problems.denoisers import TimeNetwork, WithParameters
from trref.problems.mixtures import GaussianMixture, MixtureVelocity, three_components

# ---- paths


def _paths(policy, model, z, times):
    """Paths of a policy, with velocities and an adjoint that need not be those of the models."""
    path = memoryless_path(policy, model, z, times)
    return {
        "policy": policy,
        "model": model,
        "z": z,
        "times": times,
        "path": path,
        "slope": xp.cos(2 * path[-1]),
        "velocity": xp.sin(3 * path[:-1]) + 0.5,
        "base_velocity": xp.sin(3 * path[:-1] + z),
        "adjoint": xp.cos(path[1:] - z),
    }


def _network(D, theta):
    return WithParameters(TimeNetwork(D, (4,)), theta)


def _example(rng, size):
    """One to four steps of unequal lengths, of two small networks."""
    D, K = int(rng.choice((1, 2, 3))), int(rng.integers(1, 5))
    scale, number = float(rng.choice((0.3, 1.0))), TimeNetwork(D, (4,)).size
    falls = rng.uniform(0.5, 1.5, K)
    times = 1 - xp.concatenate([[0.0], 0.95 * xp.cumsum(falls) / falls.sum()])
    return _paths(
        _network(D, scale * rng.standard_normal(number)),
        _network(D, scale * rng.standard_normal(number)),
        rng.standard_normal((K, size, D)),
        times,
    )


def _exact(times, D=2, N=3, policy=None):
    """The exact velocity of three components, or of a Gaussian of a deviation of 0.5."""
    law = three_components()
    if D != 2:
        law = GaussianMixture(xp.ones(1), xp.ones((1, D)), xp.eye(D)[None] / 4)
    model, times = MixtureVelocity(law), xp.array(times)
    return _paths(policy or model, model, waves(len(times) - 1, N, D), times)


PATHS = Interface(
    "memoryless",
    example=_example,
    edges={
        "one step": lambda: _exact([1.0, 0.0]),
        "an equal grid": lambda: _exact(xp.linspace(1.0, 0.0, 6)),
        "another policy": lambda: _exact(
            [1.0, 0.4, 0.0], policy=_network(2, waves(TimeNetwork(2, (4,)).size))
        ),
        "from the middle": lambda: _exact([0.5, 0.3, 0.2]),
        "one path in sixteen dimensions": lambda: _exact([1.0, 0.7, 0.0], D=16, N=1),
        "on the line": lambda: _exact([1.0, 0.8, 0.3, 0.0], D=1),
        "short steps": lambda: _exact([1.0, 0.999, 0.9988, 0.5]),
    },
)
"""Paths (K+1, N, D) of a policy with its base, their times, and velocities and adjoints (K, N, D)."""

# ---- derivatives and brute force


def _step_jvp(x, velocity, z, u, next_u, tangent):
    """A number for each row, so that the vjp is the same."""
    return -2 * (u - next_u)[:, None] * tangent


def _step_vjp(x, velocity, z, u, next_u, cotangent):
    return _step_jvp(x, velocity, z, u, next_u, cotangent)


def _each_rate(u, next_u):
    """In the paper's time t, from the noise."""
    steps = zip((1 - u).tolist(), (1 - next_u).tolist(), strict=True)
    return [2 * (1 - t + (after - t)) / after for t, after in steps]


def _path_by_points(policy, model, z, times):
    """Point by point in the paper's time, where data are ahead."""
    t, K = 1 - times, len(z)
    path = xp.empty((K + 1, *z.shape[1:]))
    for n in range(z.shape[1]):
        x = z[0, n]
        path[0, n] = x
        for k in range(K):
            h, last = t[k + 1] - t[k], k == K - 1
            v = -(model if last else policy)(x[None], times[k : k + 1])[0]
            if last:
                x = x + h * v
            else:
                g = math.sqrt(2 * (1 - t[k] + h) / (t[k] + h))
                drift = 2 * v - x / (t[k] + h)
                x = x + h * drift + math.sqrt(h) * g * z[k + 1, n]
            path[k + 1, n] = x
    return path


def _jacobian(model, x, u):
    """Of the model at one point, from the cotangents of all rows of the identity."""
    eye = xp.eye(len(x))
    return model.vjp(xp.tile(x, (len(x), 1)), xp.full(len(x), u), eye)


def _by_dense_jacobians(model, path, slope, times):
    """Products of the Jacobians of the base's noisy steps, from each time to the end."""
    K, D = len(times) - 1, path.shape[2]
    adjoint = xp.empty_like(path[:-1])
    for n in range(path.shape[1]):
        product = xp.eye(D)
        for k in reversed(range(K)):
            h = times[k] - times[k + 1]
            v = -_jacobian(model, path[k, n], times[k])
            step = xp.eye(D) + h * (2 * v - xp.eye(D) / (1 - times[k + 1]))
            product = product @ step
            adjoint[k, n] = -(slope[n] @ product)
    return adjoint


def _target_by_sample(
    reward, done, next_values, *, pessimism=0.5, discount=0.995, horizon=1
):
    targets = []
    for n, (r, d) in enumerate(zip(reward.tolist(), done.tolist(), strict=True)):
        values = next_values[:, n].tolist()
        low = statistics.fmean(values) - pessimism * statistics.pstdev(values)
        targets.append(r if d else r + discount**horizon * low)
    return targets


# ---- critics


def _critics(rng, size):
    E = int(rng.integers(1, 11))
    return {
        "reward": rng.standard_normal(size),
        "done": rng.integers(0, 2, size).astype(float),
        "next_values": float(rng.choice((0.1, 5.0))) * rng.standard_normal((E, size)),
    }


def _two_samples(next_values):
    return {
        "reward": xp.array([1.0, -0.5]),
        "done": xp.array([0.0, 1.0]),
        "next_values": xp.array(next_values),
    }


# ---- deviations


class _Late:
    """A model whose derivative is asked at the times after the steps."""

    def __init__(self, model, times):
        self.model, self.times = model, times

    def __call__(self, x, t):
        return self.model(x, t)

    def vjp(self, x, t, cotangent):
        after = self.times[1:][self.times[:-1] == t[0]][0]
        return self.model.vjp(x, 0 * t + after, cotangent)


def _time_shifted(model, path, slope, times):
    return lean_adjoint(_Late(model, times), path, slope, times)


def _three_temperatures(velocity, base_velocity, adjoint, times, *, temperature=1.0):
    return adjoint_matching(
        velocity, base_velocity, adjoint, times, temperature=3 * temperature
    )


TIME_SHIFTED = Deviation(
    "the Jacobian at the time after the step",
    _time_shifted,
    seen_in="yonghdong/trqam agents/trqam.py, adj_matching",
    computes="the base's Jacobian at the states before each step and the time after it",
)
THREE_TEMPERATURES = Deviation(
    "three times the temperature",
    _three_temperatures,
    seen_in="yonghdong/trqam agents/trqam.py, lam_scale",
    computes="the loss at three times the temperature that the trust region moves",
    documented=True,
)

FEW = {"sizes": (2, 3, 5)}

TIMES_RISE = {
    "times that rise": {"times": lambda times: times[::-1]},
    "steps that are too short": {"times": 0.5},
}

STEP_TOO_SHORT = {
    "a step that is too short": {"u": 0.5, "next_u": 0.5},
}


METHOD = Method(
    key="dong2026trust",
    provenance={
        "confirmed": ("rate", "step", "path", "adjoint", "objective", "target"),
        "reconstructed": ("gradient",),
    },
    functions=(
        Objective(
            f=adjoint_matching,
            interface=PATHS,
            wrt="velocity",
            settings={
                "default": {},
                "cold": {"temperature": 0.01},
                "probe": {"temperature": 2.7},
            },
            deviations=(THREE_TEMPERATURES,),
            **FEW,
            refused=TIMES_RISE,
        ),
        Estimator(
            f=lean_adjoint,
            interface=PATHS,
            brute_force=_by_dense_jacobians,
            deviations=(TIME_SHIFTED,),
            **FEW,
            refused=TIMES_RISE,
        ),
        Estimator(
            f=memoryless_path,
            interface=PATHS,
            brute_force=_path_by_points,
            **FEW,
            refused=TIMES_RISE,
        ),
        Estimator(
            f=memoryless_rate,
            interface=FLOW_POLICY,
            brute_force=_each_rate,
            refused=STEP_TOO_SHORT,
        ),
        Transform(
            f=memoryless_step,
            interface=FLOW_POLICY,
            wrt="velocity",
            jvp=_step_jvp,
            vjp=_step_vjp,
            refused=STEP_TOO_SHORT,
        ),
        Estimator(
            f=pessimistic_target,
            example=_critics,
            edges={
                "one critic": lambda: _two_samples([[2.0, -3.0]]),
                "critics that agree": lambda: _two_samples([[2.0, 0.25]] * 4),
            },
            settings={
                "default": {},
                "no pessimism": {"pessimism": 0.0},
                "a chunk of five actions": {"horizon": 5},
                "probe": {"pessimism": 0.8, "discount": 0.9, "horizon": 3},
            },
            brute_force=_target_by_sample,
        ),
    ),
)
