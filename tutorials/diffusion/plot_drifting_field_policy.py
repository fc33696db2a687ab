"""
Actions that drift
==================

A one-step policy has no path along which to push its actions. A drifting field moves them directly: towards the best
actions of the old policy, and away from each other. What is the second half good for?
"""

# %%
# Particles
# ---------
# One state, actions in the plane, and a value that is high on a circle, a little higher at its right. 200 particles
# start from a wide law beside it; at each of 120 steps 64 candidates are drawn from the old policy (a copy of the
# particles, a twentieth of which is replaced a step), and the best 16 attract. With the repulsion of the field, and
# without.

import numpy as np

from trref.diffusion.drifting_field_policy import drift_field, drift_loss, mean_shift, top_positives
from trref.experiments.figures import COLOURS, spread, use_style
from trref.optimizers import adam
from trref.problems.denoisers import TimeNetwork

plt = use_style()
SEEDS, STEPS, WIDTH = range(3), 120, 0.4


def value(a):
    return np.exp(-((np.sqrt((a**2).sum(1)) - 1) ** 2) / (2 * 0.2**2)) * (1 + 0.1 * a[:, 0])


def measured(a):
    """Mean value, and deviation of the actions."""
    return value(a).mean(), np.sqrt(a.var(0).sum())


def particles(seed, repel):
    rng = np.random.default_rng(seed)
    x = 0.5 * rng.standard_normal((200, 2)) + [0.6, 0.3]
    old, history = x.copy(), [measured(x)]
    for _ in range(STEPS):
        candidates = old[rng.integers(0, 200, 64)]
        best = top_positives(candidates, value(candidates), count=16)
        x = x + 0.2 * (drift_field if repel else mean_shift)(x, best, bandwidth=WIDTH)
        replaced = rng.random(200) < 0.05
        old[replaced] = x[replaced]
        history.append(measured(x))
    return x, history


arms = {"the whole field": True, "attraction alone": False}
runs = {name: [particles(seed, repel) for seed in SEEDS] for name, repel in arms.items()}
figure, axes = plt.subplots(1, 4, figsize=(12, 3.2))
ticks = np.linspace(-1.6, 1.6, 60)
grid = np.stack(np.meshgrid(ticks, ticks), -1).reshape(-1, 2)
axes[0].contour(ticks, ticks, value(grid).reshape(60, 60), levels=5, colors=COLOURS[6], linewidths=0.7)
for i, (name, of_seeds) in enumerate(runs.items()):
    history = np.array([h for _, h in of_seeds])
    spread(axes[1], np.arange(STEPS + 1), history[:, :, 0], name, color=COLOURS[i])
    spread(axes[2], np.arange(STEPS + 1), history[:, :, 1], None, color=COLOURS[i])
    axes[0].scatter(*of_seeds[0][0].T, s=10, color=COLOURS[i])
axes[0].set(xlabel="first action", ylabel="second action")
axes[1].set(xlabel="step", ylabel="mean value")
axes[2].set(xlabel="step", ylabel="deviation of the actions")
axes[1].legend()

# %%
# A network
# ---------
# The same with a small network from noise to actions, and Adam on the drift loss of 64 actions a step. It first learns
# the wide law from data (positives are 64 data, 300 steps), then drifts for 300 steps towards the best 16 of 64
# candidates of a slow copy of itself.

network = TimeNetwork(dims=2, hidden=(32, 32))


def acted(theta, noise):
    return network.forward(theta, noise, np.zeros(len(noise)))


def learned(seed, repel):
    rng = np.random.default_rng(seed)
    theta = network.init(rng)
    slow, params, state, history = theta, [theta], adam.init([theta]), []
    for step in range(600):
        x, cache = acted(params[0], rng.standard_normal((64, 2)))
        if step < 300:
            positives = 0.5 * rng.standard_normal((64, 2)) + [0.6, 0.3]
        else:
            candidates = acted(slow, rng.standard_normal((64, 2)))[0]
            positives = top_positives(candidates, value(candidates), count=16)
        target = None if repel or step < 300 else x + mean_shift(x, positives, bandwidth=WIDTH)
        _, slope = drift_loss(x, positives, bandwidth=WIDTH, target=target)
        params, state = adam.update(params, [network.vjp(cache, slope)[0]], state, lr=3e-3)
        slow = params[0] if step < 300 else slow + 0.05 * (params[0] - slow)
        if step % 20 == 0 or step == 599:
            history.append(measured(acted(params[0], np.random.default_rng(9).standard_normal((256, 2)))[0]))
    return history


networks = {name: np.array([learned(seed, repel) for seed in SEEDS]) for name, repel in arms.items()}
for i, (name, history) in enumerate(networks.items()):
    steps = np.append(np.arange(0, 600, 20), 599)
    spread(axes[3], steps, history[:, :, 0], "value, " + name, color=COLOURS[i])
    spread(axes[3], steps, history[:, :, 1], "deviation", color=COLOURS[i], linestyle="--")
axes[3].axvline(300, color=COLOURS[6], linewidth=1)
axes[3].set(xlabel="step", ylabel="of a network's actions")

# %%
# What was claimed, and what came of it
# -------------------------------------
# .. claim:: Drifting improves a one-step policy while it stays a distribution; the repulsion prevents collapse.
#     :experiment: a bandit with a circle of good actions, 200 particles, and a network; 3 seeds
#     :controls: the same without repulsion; the law before
#     :shown: yes: with the whole field the mean value more than doubles and the actions still differ, by a third of
#         their first deviation (the network's by a seventh); without repulsion they are one point within 40 steps. That
#         point is as good as any here: the spread is bought with speed, and pays only where the value is not known well
#
# Exercises
# ---------
# 1. Show :eq:`drifting-field-policy-field`: the joint form is the difference of the two mean shifts.
# 2. Which law do the particles have when the field is 0 everywhere on them?
# 3. Include each action among its own negatives. How far does the nearest other one have to be to be felt?

last = {name: np.array([h[-1] for _, h in of_seeds]) for name, of_seeds in runs.items()}
before = np.array([h[0] for _, h in runs["the whole field"]])
print("before", before.round(3).tolist())
for name in arms:
    print(
        name,
        last[name].round(3).tolist(),
        networks[name][:, 15].round(3).tolist(),
        networks[name][:, -1].round(3).tolist(),
    )
for found in (last, {name: history[:, -1] for name, history in networks.items()}):
    whole, alone = found["the whole field"], found["attraction alone"]
    assert (whole[:, 0] > 2 * before[:, 0]).all() and (whole[:, 1] > 0.05).all(), "better, and not one point"
    assert (alone[:, 1] < 0.02).all() and (alone[:, 0] > whole[:, 0] - 0.1).all(), "one point, and as good"
