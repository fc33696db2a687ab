"""
What can a group of wrong answers learn?
========================================

From itself, nothing: all advantages are zero. COPO compares it with the other prompts of the batch and pushes all its
answers down. We train on prompts with a tempting wrong answer, and ask what that buys and what it costs.
"""

# %%
# The task
# --------
# Sixteen prompts with 64 possible answers, one of them right; a tempting wrong one starts at 0.3. On half of the
# prompts the right answer starts at 0.15, on the hard half at 0.01. Eight answers a prompt and iteration. Against COPO
# stand GRPO, the global advantage alone, and as a control GRPO with a penalty on the log-probability of the answer.

import numpy as np

from trref.experiments.figures import COLOURS, spread, use_style
from trref.experiments.tokens import tempting_prompts, train_bandit
from trref.tokens.copo import copo, global_advantage
from trref.tokens.grpo import grpo

G, ITERATIONS, SEEDS = 8, 60, range(8)


def with_answers(blend):
    def objective(log_prob, old_log_prob, advantage, mask, group, reward, actions):
        batch = log_prob, old_log_prob, advantage, mask, group, reward, actions[:, 0]
        loss, gradient = copo(*batch, blend=blend)
        wasted.append(float((gradient == 0).mean()))
        return loss, gradient

    return objective


def global_only(log_prob, old_log_prob, mask, group, reward):
    A = global_advantage(reward, group)
    wasted.append(float((A == 0).mean()))
    return grpo(log_prob, old_log_prob, A, mask)


def plain(log_prob, old_log_prob, advantage, mask):
    wasted.append(float((advantage == 0).mean()))
    return grpo(log_prob, old_log_prob, advantage, mask)


def with_entropy(log_prob, old_log_prob, advantage, mask):
    return grpo(log_prob, old_log_prob, advantage - 0.2 * (old_log_prob - old_log_prob.mean())[:, 0], mask)


METHODS = {
    "GRPO": plain,
    "COPO": with_answers("losses"),
    "COPO, blended": with_answers("advantages"),
    "global only": global_only,
    "GRPO + entropy": with_entropy,
}
figures = ("pass@1", "pass@16", "tempting", "entropy", "wasted")
final, curves = {}, {}
for name, objective in METHODS.items():
    rows = []
    for seed in SEEDS:
        start, right, tempting = tempting_prompts(seed)
        wasted = []
        p = train_bandit(objective, start, right, seed=seed, answers=G, iterations=ITERATIONS, lr=0.5).probabilities
        good = (p * right).sum(2)
        curve = 1 - (1 - good) ** 16
        H = -(p[-1] * np.log(np.maximum(p[-1], 1e-300))).sum(1)
        row = good[-1].mean(), curve[-1].mean(), (p[-1] * tempting).sum(1).mean(), H.mean(), np.mean(wasted or [0])
        rows.append((*row, curve.mean(1)))
    curves[name] = [r[-1] for r in rows]
    final[name] = {f: np.array([r[i] for r in rows]) for i, f in enumerate(figures)}
    print(f"{name:15s}", ", ".join(f"{f} {v.mean():.3f} ± {v.std():.3f}" for f, v in final[name].items()))

plt = use_style()
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
for (name, runs), colour in zip(curves.items(), COLOURS, strict=False):
    spread(axes[0], range(ITERATIONS + 1), runs, name, color=colour)
    axes[1].plot(final[name]["pass@1"], final[name]["pass@16"], "o", color=colour, alpha=0.7, label=name)
axes[0].set(xlabel="iteration", ylabel="pass@16")
axes[0].legend(fontsize=8)
axes[1].set(xlabel="pass@1 at the end", ylabel="pass@16 at the end")

# %%
# No group is wasted, and the tempting answer loses mass. The policy stays broader: entropy is higher, pass@16 about
# the same, and pass@1 lags behind in every seed. The global advantage alone fails: it cannot tell right answers to a
# prompt from wrong ones. On-policy, both ways of blending are one.

grpo_, ours, control = final["GRPO"], final["COPO"], final["GRPO + entropy"]
assert grpo_["wasted"].mean() > 0.5 and ours["wasted"].max() < 0.01, "GRPO wastes most answers, COPO next to none"
assert ours["tempting"].mean() < 0.9 * grpo_["tempting"].mean(), "the tempting answer loses mass"
assert (ours["entropy"] > grpo_["entropy"]).all(), "the policy stays broader, in every seed"
assert (ours["pass@1"] < grpo_["pass@1"]).all(), "and is less often right, in every seed"
assert abs(ours["pass@16"].mean() - grpo_["pass@16"].mean()) < 0.05, "in sixteen attempts it is as often right"
assert (final["global only"]["pass@16"] < ours["pass@16"]).all(), "the global advantage alone fails"
assert np.allclose(ours["pass@1"], final["COPO, blended"]["pass@1"]), "on-policy both blends are one"

# %%
# The control does all of this better: a small penalty on likely answers, which asks neither other prompts nor the
# agreement of the group, pushes the tempting answer down further and has the higher pass@16 at GRPO's pass@1.

assert (control["tempting"] < ours["tempting"]).all(), "the control pushes the tempting answer further down"
assert (control["pass@1"] > ours["pass@1"]).all(), "it is more often right, in every seed"
assert control["pass@16"].mean() > ours["pass@16"].mean(), "and more often in sixteen attempts, on average"

# %%
# .. claim:: A global advantage makes groups useful whose answers agree, and raises accuracy.
#     :experiment: sixteen bandit prompts with a tempting wrong answer, half of them hard, 60 iterations, 8 seeds
#     :controls: GRPO, the global advantage alone, GRPO with an entropy penalty
#     :shown: in part: no group is wasted and the policy stays broader, at a lower pass@1; an entropy penalty beats it.
#         Alone the global advantage fails here; in the paper's ablation it does as well as the blend
