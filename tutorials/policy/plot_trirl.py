"""
A reward that waits for its policy
==================================

A step of the reward asks for a new optimal policy, and a policy moves in small steps. TRIRL lets the policy move inside
a trust region, and takes back the part of the reward's step that the policy has not followed. Does the dual fall at
each step, and what if nothing is taken back?
"""

# %%
# An expert, and a learner
# ------------------------
# Five states, three actions, an expert that is soft-optimal for a random reward. The learner starts from no reward and
# the uniform policy; everything is exact. The control keeps the whole proposed step of the reward.

import numpy as np

from trref.experiments.figures import spread, use_style
from trref.policy.trirl import dual, function_space_update, trirl, trust_region_soft_update
from trref.problems.mdp import occupancy, random_mdp, soft_values

plt = use_style()
STEPS, BETA, DELTA, SEEDS = 30, 2.0, 0.01, range(3)


def problem(seed):
    rng = np.random.default_rng(seed)
    mdp = random_mdp(rng, states=5, actions=3, gamma=0.9)
    expert = occupancy(mdp, np.exp(soft_values(mdp, 1.5 * rng.standard_normal((5, 3))).log_action_prob))
    return mdp, expert


def without_correction(expert, mdp):
    """The same with the proposed reward kept: duals, and how far the policy is from the reward's."""
    reward, log_p, duals, apart = np.zeros_like(expert), np.full(expert.shape, -np.log(3)), [], []
    for _ in range(STEPS + 1):
        best = soft_values(mdp, reward).log_action_prob
        duals.append(float(dual(reward, expert, mdp, beta=BETA)[0]))
        apart.append(abs(np.exp(best) - np.exp(log_p)).max())
        log_ratio = np.log(expert / occupancy(mdp, np.exp(log_p)))
        reward = function_space_update(reward, log_ratio, beta=BETA)
        log_p = trust_region_soft_update(reward, log_p, mdp, delta=DELTA).log_prob
    return duals, apart


def divergence(expert, mdp, log_p):
    rho = occupancy(mdp, np.exp(log_p))
    return float((rho * np.log(rho / expert)).sum())


runs, kept, fits, start = {}, {}, {}, {}
for seed in SEEDS:
    mdp, expert = problem(seed)
    runs[seed] = trirl(expert, mdp, beta=BETA, delta=DELTA, steps=STEPS)
    kept[seed] = without_correction(expert, mdp)
    again = soft_values(mdp, runs[seed].reward).log_action_prob
    fits[seed] = abs(np.exp(again) - np.exp(runs[seed].log_prob)).max()
    start[seed] = divergence(expert, mdp, np.full(expert.shape, -np.log(3)))
ends = {seed: divergence(problem(seed)[1], problem(seed)[0], runs[seed].log_prob) for seed in SEEDS}

figure, axes = plt.subplots(1, 3, figsize=(11, 3.4))
x = np.arange(STEPS + 1)
for name, curves in (
    ("corrected", [runs[s].duals for s in SEEDS]),
    ("proposed reward kept", [kept[s][0] for s in SEEDS]),
):
    least = np.array([runs[s].duals[-1] for s in SEEDS])[:, None]
    spread(axes[0], x, np.array(curves) - least, name)
axes[0].set(xlabel="step", ylabel="dual, above its end")
axes[0].legend()
spread(axes[1], x[1:], np.array([runs[s].multipliers for s in SEEDS]), "multiplier")
axes[1].set(xlabel="step", ylabel="multiplier of the trust region")
axes[2].semilogy(x, np.array([kept[s][1] for s in SEEDS]).T, color="C1")
axes[2].set(xlabel="step", ylabel="policy's distance from the reward's own", title="proposed reward kept")

# %%
# What was claimed, and what came of it
# -------------------------------------
# .. claim:: With the correction, reward and policy fit at each step, and the dual falls monotonically, by local policy
#         updates alone.
#     :experiment: three random processes of five states, everything exact, 30 steps
#     :controls: the proposed reward, kept without a correction
#     :shown: yes: no dual rises, the policy is the learnt reward's own, and the divergence from the expert falls to a
#         fifth or less. Without the correction policy and reward part, as long as the region binds
#
# Exercises
# ---------
# 1. Use log π_i = r_i + γ E V_i - V_i to show :eq:`trirl-correction`. Where does the multiplier have to be the same in
#    every state?
# 2. Start from a policy that is not uniform, with r = 0. Which of the assertions fails first?
# 3. Raise β to 10. What becomes of the divergence from the expert, and of the multipliers?

for seed in SEEDS:
    run = runs[seed]
    print(seed, "multipliers", np.round(run.multipliers[:6], 2), "KL", round(start[seed], 3), round(ends[seed], 3))
    assert run.converged and max(np.diff(run.duals)) < 1e-12, "the dual never rises"
    assert fits[seed] < 1e-6, "the policy is the reward's own"
    assert run.multipliers[0] > 1 > run.multipliers[-1], "the region binds at first, and then no more"
    assert ends[seed] < start[seed] / 5, "it comes near to the expert"
    assert max(kept[seed][1]) > 0.05, "without the correction they part"
