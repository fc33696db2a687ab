"""
Standardised over the batch
===========================

GRPO divides by the deviation of a group, REINFORCE++ by that of the whole batch. We compute what each does to prompts
of different difficulty, and to answers of different length.
"""

# %%
# What a prompt weighs
# --------------------
# Batches of prompts with success probabilities 0.05, 0.5 and 0.95 in equal parts, 16 answers each. The expected
# gradient of a prompt relative to that of its probability, estimated from 200 batches of 12 prompts; five seeds.
# Divided by its own group's deviation a nearly solved, or nearly hopeless, prompt weighs more than one in the middle.
# Divided by the batch's, all weigh nearly the same.

import numpy as np

from trref.experiments.figures import COLOURS, use_style
from trref.tokens.grpo import group_advantage
from trref.tokens.reinforce_plus_plus import reinforce_plus_plus, reinforce_plus_plus_baseline
from trref.tokens.rloo import leave_one_out

plt = use_style()
P, G, PROMPTS, BATCHES, SEEDS = np.array([0.05, 0.5, 0.95]), 16, 12, 200, range(5)
group = np.repeat(np.arange(PROMPTS), G)
kind = group % 3
one = np.ones((len(group), 1))
ADVANTAGES = {
    "own deviation (GRPO)": lambda r: group_advantage(r, group, std="population"),
    "batch (REINFORCE++ baseline)": lambda r: reinforce_plus_plus_baseline(r, group, one)[:, 0],
    "no deviation (RLOO)": lambda r: leave_one_out(r, group),
}


def weights(seed):
    """For each advantage the weight of the three kinds of prompts, up to one factor."""
    rng, found = np.random.default_rng(seed), {name: np.zeros(3) for name in ADVANTAGES}
    for _ in range(BATCHES):
        reward = (rng.random(len(group)) < P[kind]).astype(float)
        for name, advantage in ADVANTAGES.items():
            # d log-likelihood of the outcome by p: (r - p) / (p (1 - p))
            each = advantage(reward) * (reward - P[kind]) / (P * (1 - P))[kind]
            found[name] += [each[kind == k].mean() for k in range(3)]
    return {name: values / BATCHES for name, values in found.items()}


found = [weights(seed) for seed in SEEDS]
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6))
relative = {name: np.array([w[name] / w[name][1] for w in found]) for name in ADVANTAGES}
for k, (name, values) in enumerate(relative.items()):
    axes[0].bar(np.arange(3) + 0.25 * (k - 1), values.mean(0), 0.25, yerr=np.ptp(values, 0) / 2, label=name)
axes[0].set_xticks(range(3), P)
axes[0].set(xlabel="probability of success", ylabel="weight relative to p = 0.5", title="what a prompt weighs")
axes[0].legend(fontsize=7)
for name, values in relative.items():
    print(f"{name:30s} weight at 0.05 and 0.95 relative to 0.5: {np.round(values[:, [0, 2]].mean(0), 2)}")
assert (relative["own deviation (GRPO)"][:, [0, 2]] > 1.2).all(), "the own deviation lifts both ends"
for name in ("batch (REINFORCE++ baseline)", "no deviation (RLOO)"):
    assert (abs(relative[name] - 1) < 0.2).all(), f"{name}: flat"

# %%
# Long answers count more often
# -----------------------------
# The plain form standardises tokens. Long wrong answers bring more tokens, so the mean sinks, and a right answer gets a
# larger advantage the longer the wrong ones are. Of 64 answers half are right and have 4 tokens; the wrong ones have
# 4 to 64.

lengths, right = np.array([4, 8, 16, 32, 64]), np.arange(64) % 2 == 0
reward, advantages = right.astype(float), []
for n in lengths:
    mask = (np.arange(64) < np.where(right, 4, n)[:, None]).astype(float)
    A = reinforce_plus_plus(reward, 0 * mask, 0 * mask, mask, kl_weight=0.0)
    advantages.append((A[right][:, 0].mean(), A[~right][:, 0].mean()))
    assert abs(A.sum()) < 1e-9 and abs((A**2).sum() / mask.sum() - 1) < 1e-6, "mean 0 and variance 1 over tokens"
good, bad = np.array(advantages).T
axes[1].semilogx(lengths, good, "o-", color=COLOURS[2], label="right, 4 tokens")
axes[1].semilogx(lengths, bad, "o-", color=COLOURS[5], label="wrong")
axes[1].axhline(0, color=COLOURS[-1], lw=0.8)
axes[1].set(xlabel="tokens of the wrong answers", ylabel="advantage of a token", title="the plain form")
axes[1].legend()
print("advantage of right and wrong tokens", np.round(advantages, 2).tolist())
assert (np.diff(good) > 0).all() and (np.diff(bad) > 0).all() and good[-1] > 3 * good[0]

# %%
# .. claim:: Standardising over the batch avoids the bias of a group's own deviation.
#     :experiment: weights of prompts from 200 batches of 12 prompts with 16 answers, five seeds
#     :controls: GRPO's deviation of the group; RLOO without any
#     :shown: yes: the weight of a prompt does not depend on its difficulty, as in RLOO and not in GRPO. Over tokens the
#         lengths of the answers come in instead. That rewards get better is not tried
