"""
A tighter start, a running account: CPPO on an enumerable task
==============================================================

With many updates on one batch a token surrogate drifts away from the objective that it stands for. On a task small
enough to enumerate every answer we can measure by how much, and what each trust region pays for holding it back.
"""

# %%
# The task
# --------
# Answers of five tokens from a vocabulary of three, each depending on the one before; every answer has a random reward.
# Each of six batches of 128 answers is used for 60 steps, far more than anybody would. Against CPPO (budget 0.05,
# smallest weight 0.5) stand DPPO (the same threshold 0.15 and neither budget nor weight), PPO's clip, and nothing; and,
# as a control of equal reach, DPPO with a threshold so low that it moves as far as CPPO.

import itertools

import numpy as np
from scipy.special import log_softmax

from trref.experiments.figures import COLOURS, spread, use_style
from trref.tokens.cppo import cppo
from trref.tokens.cppo_bound import parts_of_the_ratio
from trref.tokens.dapo import dapo_over_batch
from trref.tokens.terms import logit_gradient

T, V, N, BATCHES, STEPS, SEEDS = 5, 3, 128, 6, 60, range(5)
ANSWERS = np.array(list(itertools.product(range(V), repeat=T)))
PREVIOUS = np.concatenate([np.zeros((len(ANSWERS), 1), int), ANSWERS[:, :-1]], axis=1)
PLACE = np.eye(T * V)[np.arange(T) * V + PREVIOUS]  # (M, T, T * V): which row of the table stands before each token


def clipped(clip):
    return lambda *batch: dapo_over_batch(*batch[:4], clip_low=clip, clip_high=clip)


def dppo(radius):
    return lambda *batch: cppo(*batch, radius=radius, mean_radius=1e6, w_min=1.0)


RULES = {
    "nothing": clipped(1e9),
    "PPO 0.2": clipped(0.2),
    "DPPO 0.15": dppo(0.15),
    "CPPO": lambda *batch: cppo(*batch, mean_radius=0.05, w_min=0.5),
    "DPPO 0.09": dppo(0.09),
}


def learn(rule, seed):
    """Mean reward after each batch; per batch the total variation of answers, the residual, the mean divergence."""
    rng = np.random.default_rng(seed)
    table, value = 0.5 * rng.standard_normal((T, V, V)), rng.standard_normal(len(ANSWERS))
    rewards, drift = [], []
    for _ in range(BATCHES):
        start = np.exp(log_softmax(table, -1))
        old_rows = log_softmax(table, -1)[np.arange(T), PREVIOUS]
        old = np.take_along_axis(old_rows, ANSWERS[..., None], 2)[..., 0]
        mu = np.exp(old.sum(1))
        rows = rng.choice(len(ANSWERS), N, p=mu / mu.sum())
        actions, advantage, mask = ANSWERS[rows], value[rows] - value[rows].mean(), np.ones((N, T))
        place = PLACE[rows].reshape(N * T, -1)
        for _ in range(STEPS):
            log_p = log_softmax(table, -1)
            half = abs(np.exp(log_p) - start).sum(-1) / 2
            logits = table[np.arange(T), PREVIOUS[rows]]
            log_prob = np.take_along_axis(log_p[np.arange(T), PREVIOUS[rows]], actions[..., None], 2)[..., 0]
            _, g = rule(log_prob, old[rows], advantage, mask, half[np.arange(T), PREVIOUS[rows]])
            table = table - 4.0 * (place.T @ logit_gradient(logits, actions, g).reshape(N * T, V)).reshape(T, V, V)
        new_rows = log_softmax(table, -1)[np.arange(T), PREVIOUS]
        new = np.take_along_axis(new_rows, ANSWERS[..., None], 2)[..., 0]
        residual = parts_of_the_ratio(new, old, np.ones_like(new)).residual
        variation = abs(np.exp(new_rows) - np.exp(old_rows)).sum(-1) / 2
        pi = np.exp(new.sum(1))
        drift.append([abs(pi - mu).sum() / 2, abs(mu @ (value * residual)), float((mu @ variation).mean())])
        rewards.append(float(pi @ value))
    return rewards, np.mean(drift, 0)


runs = {name: [learn(rule, seed) for seed in SEEDS] for name, rule in RULES.items()}
plt = use_style()
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
end, variation, residual, mean_d = {}, {}, {}, {}
for (name, results), colour in zip(runs.items(), COLOURS, strict=False):
    curves, drift = np.array([r[0] for r in results]), np.array([r[1] for r in results])
    spread(axes[0], range(1, BATCHES + 1), curves, name, color=colour)
    end[name], (variation[name], residual[name], mean_d[name]) = curves[:, -1], drift.T
    axes[1].errorbar(*drift[:, :2].mean(0), drift[:, 1].std(), drift[:, 0].std(), "o", color=colour, label=name)
    print(f"{name:10s} reward {end[name].mean():.2f} ± {end[name].std():.2f}, variation {variation[name].mean():.3f}, "
          f"residual {residual[name].mean():.3f}, divergence {mean_d[name].mean():.3f}")  # fmt: skip
axes[0].set(xlabel="batch", ylabel="exact mean reward")
axes[1].set(xlabel="total variation of the answers, a batch", ylabel="residual of the surrogate, a batch")
axes[1].legend(fontsize=8, loc="upper left")

# %%
# CPPO's surrogate errs half as much as DPPO's at the same threshold, on average, and the policy moves less far. The
# price is the reward: nothing here becomes unstable, so whoever moves furthest learns fastest.

assert residual["CPPO"].mean() < 0.6 * residual["DPPO 0.15"].mean(), (
    "CPPO's surrogate errs little more than half as much, on average"
)
assert (variation["CPPO"] < variation["DPPO 0.15"]).all(), "and the policy moves less far, in every seed"
assert residual["nothing"].mean() > 2 * residual["DPPO 0.15"].mean(), "without a region it errs more than twice as much"
assert end["CPPO"].mean() < end["DPPO 0.15"].mean() < end["nothing"].mean(), "whoever moves furthest learns fastest"

# %%
# The control takes the credit: one lower threshold for all tokens moves as far, errs as little, and earns no less.
# Neither the weights nor the account do more here than a tighter threshold would.

control = "DPPO 0.09"
assert abs(variation[control].mean() / variation["CPPO"].mean() - 1) < 0.1, "a tighter threshold of DPPO moves as far"
assert abs(residual[control].mean() / residual["CPPO"].mean() - 1) < 0.25, "errs as much"
assert end[control].mean() > end["CPPO"].mean() - 0.1, "and learns as fast, nearly"

# %%
# .. claim:: Weighting by position and a prefix budget reduce the error of the token surrogate.
#     :experiment: enumerated answers of five tokens, six batches of 60 steps, 5 seeds
#     :controls: no constraint, PPO's clip, DPPO at the same threshold, DPPO at a threshold of equal reach
#     :shown: in part: half the error of DPPO at the same threshold, at a lower reward; a lower threshold does the same
