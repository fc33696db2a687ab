"""What is known of `trref.diffusion.alignprop`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Method, Objective, Sampler
from trref.catalog.diffusion.interfaces import CHAIN
from trref.diffusion.alignprop import (
    chain,
    ddpo,
    predictions,
    reward_of_chain,
    sample_truncation,
)


def _posterior_walk(model, theta, x, z, times, alpha_bar, *, eta=1.0):
    """Brute force: at each step the estimate of the data, noise put back, and fresh noise, point by point."""
    states, seen = [x], []
    for k in range(len(z)):
        t, s = float(alpha_bar[k]), float(alpha_bar[k + 1])
        variance = eta**2 * (1 - s) * (1 - t / s) / (1 - t)
        noise = model.forward(theta, states[-1], xp.full(len(x), float(times[k])))[0]
        after = xp.empty_like(x)
        for n in range(len(x)):
            data = (states[-1][n] - math.sqrt(1 - t) * noise[n]) / math.sqrt(t)
            kept = math.sqrt(max(0.0, 1 - s - variance))
            after[n] = math.sqrt(s) * data + kept * noise[n]
            after[n] += math.sqrt(variance) * z[k, n]
        states.append(after)
        seen.append(noise)
    return xp.stack(states), xp.stack(seen)


# ---- deviations


def _entry_mean(model, theta, path, times, alpha_bar, advantage, *, eta=1.0):
    D = path.shape[2]
    return ddpo(model, theta, path, times, alpha_bar, advantage / D, eta=eta)


def _each_step_for_itself(rng, *, draws=1000, steps=50, dtype="float64"):
    first = xp.asarray(rng.integers(0, steps + 1, (draws, steps)))
    return (xp.arange(steps) >= first).astype(dtype)


def _around_step_42(rng, *, draws=1000, steps=50, dtype="float64"):
    first = xp.zeros(draws)
    while (wrong := (first < 1) | (first >= steps)).any():
        drawn = xp.trunc(steps * (0.84 + 0.1 * xp.asarray(rng.standard_normal(draws))))
        first = xp.where(wrong, drawn, first)
    return (xp.arange(steps) >= first[:, None]).astype(dtype)


def _without_absolute_value(
    model,
    theta,
    x,
    z,
    times,
    alpha_bar,
    kept,
    reward,
    *,
    eta=1.0,
    kind="reward",
    target=10.0,
    every=1,
):
    loss, gradient = reward_of_chain(
        model, theta, x, z, times, alpha_bar, kept, reward, eta=eta, every=every
    )
    return target + loss, gradient


ENTRY_MEAN = Deviation(
    "mean over entries",
    _entry_mean,
    seen_in="kvablack/ddpo-pytorch diffusers_patch/ddim_with_logprob.py; TRL's DDPOTrainer",
    computes="the mean of the log-density over the entries of a sample, in the place of their sum",
)
EACH_STEP_FOR_ITSELF = Deviation(
    "each step for itself",
    _each_step_for_itself,
    seen_in="TRL, models/modeling_sd_base.py, pipeline_step_with_grad with truncated_backprop_rand=True",
    computes="a first kept step that is drawn anew at each step, from 0 to their number: steps in the middle drop out",
)
AROUND_STEP_42 = Deviation(
    "around step 42 of 50",
    _around_step_42,
    seen_in="mihirp1998/AlignProp (b22918a), sd_pipeline.py with backprop_strategy='gaussian', its default",
    computes="a first kept step from a normal law of mean 42 and deviation 5, cut to whole numbers, never the first",
    documented=True,
)
WITHOUT_ABSOLUTE_VALUE = Deviation(
    "what is missing to the target",
    _without_absolute_value,
    seen_in="TRL, trainer/alignprop_trainer.py, calculate_loss, with 10 for the target",
    computes="the target less the mean reward, with no absolute value: beyond the target the reward is still raised",
)


# ---- paths of the policy gradient


def _with_path(inputs, advantage, path_theta=None):
    given = {name: inputs[name] for name in ("model", "theta", "times", "alpha_bar")}
    sampled = {"theta": inputs["theta"] if path_theta is None else path_theta}
    path = chain(**{**given, **sampled}, x=inputs["x"], z=inputs["z"])
    return {
        "model": inputs["model"],
        "theta": inputs["theta"],
        "path": path,
        "times": inputs["times"],
        "alpha_bar": inputs["alpha_bar"],
        "advantage": xp.array(advantage),
    }


def _ddpo_example(rng, size):
    inputs = CHAIN.example(rng, size)
    moved = inputs["theta"] + 0.2 * rng.standard_normal(inputs["theta"].shape)
    return _with_path(inputs, rng.standard_normal(size), moved)


def _ddpo_edge(name, advantage):
    return _with_path(CHAIN.edges[name](), advantage)


def _moments(kept, *, draws=1000, steps=50, **_):
    """Steps in the gradient: uniform on 1 to `steps`; five standard errors of mean and of mean square."""
    number = kept.sum(1)
    whole = xp.arange(1.0, steps + 1)
    moments = {}
    for name, power in (("mean", 1), ("mean square", 2)):
        expected = float((whole**power).mean())
        deviation = float((whole**power).std())
        seen = float((number**power).mean())
        moments[name] = (seen, expected, 5 * deviation / math.sqrt(draws) + 1e-12)
    falls = float((kept[:, 1:] < kept[:, :-1]).sum())
    moments["steps dropped after a kept one"] = (falls, 0.0, 0.0)
    return moments


ETAS = {"default": {}, "deterministic": {"eta": 0.0}, "probe": {"eta": 0.6}}

REFUSED = {
    "times that rise": {"times": lambda times: times[::-1]},
    "levels that fall": {"alpha_bar": lambda alpha_bar: alpha_bar[::-1]},
    "no signal at the start": {"alpha_bar": 0},
    "data before the end": {"alpha_bar": 1},
}


METHOD = Method(
    key="prabhudesai2023aligning",
    provenance="partly",
    functions=(
        Objective(
            f=reward_of_chain,
            interface=CHAIN,
            wrt="theta",
            stopped={"held": predictions},
            settings={
                "default": {},
                "deterministic": {"eta": 0.0},
                "target": {"kind": "target", "target": -4.0},
                "probe": {"eta": 0.6, "kind": "target", "target": -2.5, "every": 3},
            },
            deviations=(WITHOUT_ABSOLUTE_VALUE,),
            sizes=(4, 8),
            refused=REFUSED,
        ),
        Objective(
            f=ddpo,
            example=_ddpo_example,
            edges={
                "no advantage": lambda: _ddpo_edge("all steps kept", [0.0, 0.0, 0.0]),
                "one advantage": lambda: _ddpo_edge(
                    "an exact model and a correction", [0.0, 2.0, 0.0]
                ),
                "one point in sixteen dimensions": lambda: _ddpo_edge(
                    "one point in sixteen dimensions", [-1.5]
                ),
            },
            wrt="theta",
            settings={"default": {}, "probe": {"eta": 0.6}},
            deviations=(ENTRY_MEAN,),
            sizes=(4, 8),
            refused={
                "times that rise": {"times": lambda times: times[::-1]},
                "no fresh noise": {"alpha_bar": 0.5},
            },
        ),
        Estimator(
            f=chain,
            interface=CHAIN,
            settings=ETAS,
            brute_force=lambda **how: _posterior_walk(**how)[0],
            refused=REFUSED,
        ),
        Estimator(
            f=predictions,
            interface=CHAIN,
            settings=ETAS,
            brute_force=lambda **how: _posterior_walk(**how)[1],
            refused=REFUSED,
        ),
        Sampler(
            f=sample_truncation,
            example=lambda rng, size: {},
            settings={"default": {}, "probe": {"draws": 700, "steps": 12}},
            moments=_moments,
            deviations=(EACH_STEP_FOR_ITSELF, AROUND_STEP_42),
        ),
    ),
)
