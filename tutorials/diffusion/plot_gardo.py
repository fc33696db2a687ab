"""
A penalty for those who look too good
=====================================

A reward that can be hacked will be. A divergence from the first policy prevents it, and slows everything else. GARDO
penalises only samples that the reward likes and other rewards do not. Is that enough, and does learning stay fast?
"""

# %%
# A ring of modes, and a reward with a hole in it
# -----------------------------------------------
# The data are eight modes on a circle. Truly wanted is the right half of the circle. The reward that is trained on adds
# a bump of height 3 outside, where no data are. Two auxiliary rewards are the true one with a wave on it: none of them
# knows the bump. Each arm trains a learned flow for 80 rounds of 40 paths with the same weight of the penalty.

import numpy as np

from trref.diffusion.flow_grpo import flow_advantage
from trref.diffusion.gardo import gardo, gardo_advantage, risk_gate, uncertainty
from trref.experiments.diffusion import flow_rollout, train_flow_policy, train_network
from trref.experiments.figures import COLOURS, spread, use_style
from trref.problems.denoisers import TimeNetwork, WithParameters
from trref.problems.mixtures import ring

plt = use_style()
SEEDS, ROUNDS, WEIGHT = range(3), 80, 8.0
data, network, rng = ring(), TimeNetwork(dims=2, hidden=(48, 48)), np.random.default_rng(0)
options = {"schedule": "flow", "target": "velocity", "steps": 800, "batch": 128, "lr": 3e-3}
first = train_network(network, network.init(rng), data.sample, rng, **options).theta
tilt, shift = np.random.default_rng(7).standard_normal((2, 24)), np.random.default_rng(8).uniform(0, 2 * np.pi, 24)
waves = np.random.default_rng(0).standard_normal((2, 2, 1))


def wanted(x):
    return np.tanh(2 * x[:, 0]) - 2 * (np.sqrt((x**2).sum(1)) - 1.5) ** 2


def bump(x):
    return 3 * np.exp(-((x - [2.3, 0.0]) ** 2).sum(1) / (2 * 0.4**2))


def measured(x):
    return wanted(x) + bump(x)


def auxiliary(x):
    return np.stack([wanted(x) + 0.3 * np.sin(3 * (x @ wave)[:, 0]) for wave in waves])


def features(x):
    return np.cos(1.5 * x @ tilt + shift)


def judged(theta):
    """Means of both rewards, the share of samples in the bump, and the number of modes with 2 % of them or more."""
    start = np.random.default_rng(1).standard_normal((250, 2))
    x = flow_rollout(WithParameters(network, theta), start, steps=16)[-1]
    square = ((x[:, None] - data.means) ** 2).sum(-1)
    inside = square.argmin(1)[square.min(1) < 0.16]
    modes = (np.bincount(inside, minlength=8) >= 0.02 * len(x)).sum()
    return measured(x).mean(), wanted(x).mean(), (bump(x) > 1).mean(), modes


def trained(seed, *, weight=WEIGHT, gated=False, diverse=False, refresh=0):
    def score(x):
        together, reward = np.zeros(len(x), int), measured(x)
        A = gardo_advantage(reward, features(x), together) if diverse else flow_advantage(reward, together)
        gate = risk_gate(uncertainty(reward, auxiliary(x))) if gated else np.ones(len(x))
        return {"advantage": A, "gate": gate}

    def loss(velocity, batch):
        given = {**batch, "velocity": velocity}
        return gardo(**{n: given[n] for n in gardo.inputs}, clip=0.01, kl_weight=weight)

    settings = {"iterations": ROUNDS, "paths": 40, "steps": 8, "refresh": refresh, "watch": lambda theta, _: theta}
    run = train_flow_policy(network, first, score, loss, np.random.default_rng(seed), **settings)
    return [judged(theta) for theta in [first, *run.watched[9::10]]]


arms = {
    "no penalty": {"weight": 0.0},
    "a penalty on all": {},
    "on the gated": {"gated": True},
    "GARDO": {"gated": True, "diverse": True, "refresh": 15},
}
runs = {name: np.array([trained(seed, **how) for seed in SEEDS]) for name, how in arms.items()}
figure, axes = plt.subplots(1, 4, figsize=(12, 3.2))
labels = ("measured reward", "wanted reward", "share in the bump", "modes")
for axis, label, values in zip(
    axes, labels, zip(*(np.moveaxis(r, 2, 0) for r in runs.values()), strict=True), strict=True
):
    for i, (name, of_seeds) in enumerate(zip(runs, values, strict=True)):
        spread(axis, np.arange(0, ROUNDS + 1, 10), of_seeds, name, color=COLOURS[i])
    axis.set(xlabel="round", ylabel=label)
axes[2].legend()

# %%
# What was claimed, and what came of it
# -------------------------------------
# .. claim:: Penalising a few uncertain samples, refreshing the reference and rewarding diversity prevents hacking of a
#     reward without the cost in speed and exploration of a penalty on all.
#     :experiment: a learned flow of eight modes, a reward with a spurious bump, 80 rounds of 40 paths; 3 seeds
#     :controls: no penalty; the same penalty on all samples; the gate alone
#     :shown: in part. Without a penalty nearly all samples end in the bump. The gate keeps them out as well as the
#         penalty on all does, and the wanted reward grows faster and ends higher, in every seed. Diversity and fresh
#         references change little beside it, and the arm that learned least has kept most modes: that diversity is
#         kept at equal reward does not show
#
# Exercises
# ---------
# 1. In :eq:`gardo-uncertainty`, what is the mean over the batch, and how many samples can the gate let through?
# 2. Reverse the sign of the uncertainty, as released. Which samples are penalised?
# 3. Whose advantage does :eq:`gardo-advantage` take away when half of the samples are copies of one?

last = {name: values[:, -1] for name, values in runs.items()}
for name, values in last.items():
    print(name, values.round(2).tolist())
assert (last["no penalty"][:, 2] > 0.9).all(), "the reward is hacked"
for name in ("a penalty on all", "on the gated", "GARDO"):
    assert (last[name][:, 2] < 0.05).all(), "the bump stays empty"
for name in ("on the gated", "GARDO"):
    assert (last[name][:, 1] > last["a penalty on all"][:, 1] + 0.1).all(), "faster than a penalty on all"
