"""
One deviation for the batch: what Lite PPO's scale changes
==========================================================

GRPO divides by each group's deviation. Lite PPO divides by the batch's. Which prompts does either listen to, how noisy
is the number, and what does the mean over all tokens add?
"""

# %%
# Which prompts are listened to
# -----------------------------
# A prompt whose answers are right with probability p: the sizes of its 8 advantages together, on average over groups,
# exactly. The other prompts of the batch are of every difficulty, so that the batch's deviation is one half.

from math import comb

import numpy as np

from trref.experiments.figures import spread, use_style
from trref.experiments.tokens import train
from trref.tokens.dapo import dapo_over_batch
from trref.tokens.grpo import group_advantage, grpo
from trref.tokens.lite_ppo import lite_ppo, lite_ppo_advantage

plt = use_style()
n, share = 8, np.linspace(0.02, 0.98, 49)
others = np.tile([1.0, 0.0], 200)


def sizes(advantage):
    """Mean size of an advantage in a group with k right answers, k = 0 … 8."""
    found = []
    for k in range(n + 1):
        reward = np.r_[np.ones(k), np.zeros(n - k), others]
        group = np.r_[np.zeros(n, int), 1 + np.arange(400) // 8]
        found.append(abs(advantage(reward, group)[:n]).mean())
    return np.array(found)


ways = np.array([[comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)] for p in share])
ADVANTAGES = {
    "GRPO: the group's deviation": lambda r, g: group_advantage(r, g, std="population"),
    "Lite PPO: the batch's": lite_ppo_advantage,
}
listened = {name: ways @ sizes(advantage) for name, advantage in ADVANTAGES.items()}
figure, axes = plt.subplots(1, 3, figsize=(11, 3.5))
for name, values in listened.items():
    axes[0].plot(share, values, label=name)
axes[0].set(xlabel="share of right answers p", ylabel="mean size of an advantage")
axes[0].legend(fontsize=7)

# %%
# How noisy the scale is
# ----------------------
# The scale that divides, over 300 batches of 16 prompts and 8 answers, with each prompt's difficulty drawn anew.

rng = np.random.default_rng(0)
right = rng.uniform(size=(300, 16, 1))
reward = (rng.uniform(size=(300, 16, n)) < right).astype(float)
group_scales = reward.std(2, ddof=1).ravel()
batch_scales = reward.reshape(300, -1).std(1, ddof=1)
axes[1].hist(group_scales, bins=20, density=True, alpha=0.6, label="of a group")
axes[1].hist(batch_scales, bins=20, density=True, alpha=0.6, label="of a batch")
axes[1].set(xlabel="deviation", ylabel="density")
axes[1].legend(fontsize=7)

# %%
# Training
# --------
# The token task, 40 iterations, six seeds. Beside Lite PPO and GRPO stand their mixtures, so that either change is seen
# alone. The scale of all advantages is a step length in disguise; Adam, which divides it out again, is the control.


def from_rewards(log_prob, old_log_prob, reward, group, mask):
    return lite_ppo(log_prob, old_log_prob, reward, group, mask)


def batch_scale_over_answers(log_prob, old_log_prob, reward, group, mask):
    return grpo(log_prob, old_log_prob, lite_ppo_advantage(reward, group), mask)


def group_scale_over_tokens(log_prob, old_log_prob, advantage, mask):
    return dapo_over_batch(log_prob, old_log_prob, advantage, mask, clip_low=0.2, clip_high=0.2)


OBJECTIVES = {
    "GRPO": grpo,
    "the batch's deviation alone": batch_scale_over_answers,
    "mean over tokens alone": group_scale_over_tokens,
    "Lite PPO": from_rewards,
}
curves = {
    name: np.array([train(f, seed=seed, iterations=40, every=5).success for seed in range(6)])
    for name, f in OBJECTIVES.items()
}
for name, values in curves.items():
    spread(axes[2], 5 * np.arange(1, 9), values.tolist(), name)
    print(f"{name:28s} success after 20: {values[:, 3].round(2)}, after 40: {values[:, -1].round(2)}")
axes[2].set(xlabel="iteration", ylabel="success")
axes[2].legend(fontsize=7)

# %%
# What the figures show
# ---------------------
# Dividing by the group's deviation lifts the prompts whose answers are nearly all right or nearly all wrong; under the
# batch's they count less, against the prompts in the middle. The group's scale varies twenty times as much as the
# batch's, and a fifth of the groups have none. In training neither change shows a gain here: at the end all four lie
# within the spread of the seeds. The gain that the paper reports is on large models.

end, middle = abs(share - 0.5).argmax(), abs(share - 0.5).argmin()
contrast = {name: values[end] / values[middle] for name, values in listened.items()}
print("an extreme prompt against one in the middle:", {name: round(float(v), 2) for name, v in contrast.items()})
assert contrast["Lite PPO: the batch's"] < 0.8 * contrast["GRPO: the group's deviation"], "extreme prompts count less"
assert group_scales.std() > 10 * batch_scales.std(), "the batch's scale is steady"
last = {name: values[:, -1] for name, values in curves.items()}
widest = max(values.std(ddof=1) for values in last.values())
means = [values.mean() for values in last.values()]
assert max(means) - min(means) < widest, "no gain shows in training, and no loss"

# %%
# .. claim:: The group's mean, the batch's deviation and a mean over tokens do better than GRPO.
#     :experiment: sizes of advantages and of scales, exactly and over 300 batches; the token task, six seeds
#     :controls: GRPO, and each of the two changes alone
#     :shown: no: in training all four are alike within the spread of the seeds. What shows is the mechanism: extreme
#         prompts count less, and the scale is twenty times as steady
#
# Exercises
# ---------
# 1. Multiply all rewards of every other prompt by 10. Which prompts does Lite PPO listen to now?
# 2. Take four prompts in the place of sixteen. How steady is the batch's deviation?
# 3. Let the task have answers of very different lengths. Does the mean over tokens matter then?
