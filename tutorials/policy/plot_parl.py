"""
A reward that is judged on the data of its own policy
=====================================================

Learn a reward from preferences, train the policy on it, compare what the policy does, and so on: the reward decides
which trajectories are compared at all. PARL differentiates through that. Is the second term of the gradient of any
size, and does ascent with it find a better reward?
"""

# %%
# The two terms
# -------------
# Two states, two actions, three steps: 64 trajectories, all expectations are sums. The gradient by differences solves
# the lower level anew at each point.

import numpy as np

from trref.experiments.figures import spread, use_style
from trref.policy.parl import hypergradient, lower_value, upper_objective
from trref.problems.mdp import random_mdp
from trref.problems.trajectories import all_trajectories

plt = use_style()
KAPPA, SEEDS, STEPS = 0.3, range(5), 60


def problem(seed):
    rng = np.random.default_rng(seed)
    mdp = random_mdp(rng, states=2, actions=2, gamma=0.9, concentration=1.0)
    return {
        "nu": 0.5 * rng.standard_normal(3),
        "theta": np.zeros((2, 2)),
        "features": rng.standard_normal((2, 2, 3)),
        "true_reward": 1.5 * rng.standard_normal((2, 2)),
        "table": all_trajectories(mdp, 3),
    }


def solved(p, steps=400):
    """The problem at its lower optimum."""
    theta = p["theta"]
    for _ in range(steps):
        _, d = lower_value(theta, p["nu"], p["features"], p["table"], regularisation=KAPPA)
        theta = theta - 0.5 * d
    return p | {"theta": theta}


def value(p):
    return -float(upper_objective(**p)[0])


def true_return(p):
    z = np.exp(p["theta"])
    chance = p["table"].probabilities(z / z.sum(1, keepdims=True))
    return float(chance @ p["table"].returns(p["true_reward"]))


whole, by_differences = {}, {}
for seed in SEEDS:
    p = solved(problem(seed))
    whole[seed] = hypergradient(**p, regularisation=KAPPA)
    slopes = []
    for e in 1e-4 * np.eye(3):
        up, down = (value(solved(p | {"nu": nu}, 200)) for nu in (p["nu"] + e, p["nu"] - e))
        slopes.append((up - down) / 2e-4)
    by_differences[seed] = np.array(slopes)

# %%
# Ascent with and without the second term
# ---------------------------------------
# The control takes the direct term alone, as alternating methods do. Both keep the policy at the optimum of its reward.


def ascend(p, both, lr=0.3):
    curve = []
    for step in range(STEPS + 1):
        p = solved(p, 25)
        if step % 5 == 0:
            q = solved(p, 100)
            curve.append((value(q), true_return(q)))
        slope = hypergradient(**p, regularisation=KAPPA)
        p = p | {"nu": p["nu"] + lr * (slope.total if both else slope.direct)}
    return np.array(curve)


curves = {both: np.array([ascend(problem(seed), both) for seed in SEEDS]) for both in (False, True)}

figure, axes = plt.subplots(1, 3, figsize=(11, 3.4))
places = np.arange(3)
for offset, bars, name in (
    (-0.25, whole[0].total, "whole"),
    (0.0, by_differences[0], "by differences"),
    (0.25, whole[0].direct, "direct term alone"),
):
    axes[0].bar(places + offset, bars, 0.25, label=name)
axes[0].axhline(0, color="0.5", linewidth=0.8)
axes[0].set(xlabel="weight of the reward", ylabel="derivative of the objective")
axes[0].set_xticks(places)
axes[0].legend(fontsize=8)
x = 5 * np.arange(STEPS // 5 + 1)
for both, runs in curves.items():
    name = "with the second term" if both else "direct term alone"
    for k, label in enumerate(("objective", "true return")):
        spread(axes[k + 1], x, runs[:, :, k] - runs[:, :1, k], name)
        axes[k + 1].set(xlabel="step", ylabel=f"{label}, change")
axes[1].legend(fontsize=8)

# %%
# What was claimed, and what came of it
# -------------------------------------
# .. claim:: Differentiating through the policy that makes the data gives the right gradient, and better alignment than
#         alternating between reward and policy.
#     :experiment: five random processes of two states and three steps, everything exact; 60 steps of ascent
#     :controls: derivatives by differences, with the policy solved anew; ascent on the direct term alone
#     :shown: in part: the gradient with both terms is that of the differences, and the direct one has wrong signs. The
#         objective ends higher on average, and nowhere lower by more than a thousandth. The *true return* ends lower in
#         every process, against the claim: the objective also rises where the policy makes pairs that are easy to tell
#
# Exercises
# ---------
# 1. Give the reward the true reward as its first feature, with weight 1. Which term of :eq:`parl-hypergradient` is 0
#    there, and why is the other not?
# 2. Watch the policy's entropy on both ascents. What does that of the whole gradient buy?
# 3. Take 5 inner steps in the place of 25. How large is the error of the hypergradient then, against the second term?

wrong_signs = 0
for seed in SEEDS:
    print(seed, whole[seed].total.round(4), by_differences[seed].round(4), whole[seed].direct.round(4))
    assert np.allclose(whole[seed].total, by_differences[seed], atol=1e-6), "the whole gradient is that of differences"
    assert abs(whole[seed].implicit).max() > 0.04, "the second term is no trifle"
    wrong_signs += int((np.sign(whole[seed].direct) != np.sign(whole[seed].total)).sum())
assert wrong_signs > 0, "without it there are wrong signs"
end = {both: runs[:, -1] for both, runs in curves.items()}
print("objective", end[True][:, 0].round(4), end[False][:, 0].round(4))
print("true return", end[True][:, 1].round(4), end[False][:, 1].round(4))
gain = end[True][:, 0] - end[False][:, 0]
assert gain.mean() > 0.002 and (gain > -1e-3).all(), "the objective ends higher, or the same"
assert (end[True][:, 1] < end[False][:, 1]).all(), "the true return ends lower"
