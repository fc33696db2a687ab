"""
Do confident mistakes teach?
============================

A group without a right answer has no advantage under GRPO. LENS takes the answers' own confidences for a contrast: the
surest mistake is pushed down, the least sure one up. What does that buy on hard prompts with a tempting wrong answer,
and is it the confidence, or just any push away from what is likely?
"""

# %%
# The task
# --------
# Sixteen prompts with 64 possible answers, one of them right; a tempting wrong one starts at 0.3. On half of the
# prompts the right answer starts at 0.15, on the hard half at 0.01. Eight answers a prompt and iteration. Beside LENS:
# its mixed groups alone, its groups of wrong answers alone (with GRPO elsewhere), GRPO, and as a control GRPO with a
# penalty on the log-probability of every answer, right or wrong.

import numpy as np

from trref.experiments.figures import COLOURS, spread, use_style
from trref.experiments.tokens import tempting_prompts, train_bandit
from trref.tokens.grpo import group_advantage, grpo
from trref.tokens.lens import lens_advantage

P, G, ITERATIONS, SEEDS = 16, 8, 60, range(8)


def negative_only(old_log_prob, mask, group, reward):
    A, plain = lens_advantage(old_log_prob, mask, group, reward), group_advantage(reward, group)
    return np.where(plain == 0, A, plain)


def mixed_only(old_log_prob, mask, group, reward):
    return lens_advantage(old_log_prob, mask, group, reward, alpha=0.0)


def stronger(old_log_prob, mask, group, reward):
    return lens_advantage(old_log_prob, mask, group, reward, alpha=4.0)


def with_entropy(old_log_prob, group, reward):
    return group_advantage(reward, group) - 0.2 * (old_log_prob - old_log_prob.mean())[:, 0]


METHODS = {
    "GRPO": group_advantage,
    "LENS": lens_advantage,
    "mixed groups only": mixed_only,
    "wrong groups only": negative_only,
    "LENS, alpha = 4": stronger,
    "GRPO + entropy": with_entropy,
}
figures = ("pass@1", "hard pass@1", "pass@16", "tempting", "wasted")
final, curves = {}, {}
for name, advantage in METHODS.items():
    rows = []
    for seed in SEEDS:
        start, right, tempting = tempting_prompts(seed)
        wasted = []

        def loss(log_prob, old_log_prob, advantage, mask, wasted=wasted):
            wasted.append(float((advantage == 0).mean()))
            return grpo(log_prob, old_log_prob, advantage, mask)

        run = train_bandit(
            loss, start, right, seed=seed, advantage=advantage, answers=G, iterations=ITERATIONS, epochs=2, lr=0.25
        )
        p = run.probabilities
        good = (p * right).sum(2)
        row = good[-1].mean(), good[-1, P // 2 :].mean(), (1 - (1 - good[-1]) ** 16).mean()
        rows.append((*row, (p[-1] * tempting).sum(1).mean(), np.mean(wasted), (p * tempting).sum(2).mean(1)))
    curves[name] = [r[-1] for r in rows]
    final[name] = {f: np.array([r[i] for r in rows]) for i, f in enumerate(figures)}
    print(f"{name:18s}", ", ".join(f"{f} {v.mean():.3f} ± {v.std():.3f}" for f, v in final[name].items()))

plt = use_style()
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
for (name, runs), colour in zip(curves.items(), COLOURS, strict=False):
    spread(axes[0], range(ITERATIONS + 1), runs, name, color=colour)
    axes[1].plot(final[name]["pass@1"], final[name]["pass@16"], "o", color=colour, alpha=0.7, label=name)
axes[0].set(xlabel="iteration", ylabel="mass of the tempting wrong answer")
axes[0].legend(fontsize=8)
axes[1].set(xlabel="pass@1 at the end", ylabel="pass@16 at the end")

# %%
# Far fewer answers are wasted: those that remain are of groups all right, or all of one wrong answer. The tempting
# mistake loses mass a little faster, more so for a larger alpha. Neither pass@1 nor pass@16 gains beyond the spread.

plain, ours, control = final["GRPO"], final["LENS"], final["GRPO + entropy"]
assert (ours["wasted"] < 0.5 * plain["wasted"]).all(), "fewer than half as many answers are wasted, in every seed"
assert np.allclose(final["mixed groups only"]["wasted"], plain["wasted"], atol=0.1), "mixed groups alone save none"
assert ours["tempting"].mean() < 0.95 * plain["tempting"].mean(), "the mistake loses a little mass, on average"
assert (final["LENS, alpha = 4"]["tempting"] < 0.6 * plain["tempting"]).all(), "and much for a larger alpha"
for figure_ in ("pass@1", "hard pass@1", "pass@16"):
    assert abs(ours[figure_].mean() - plain[figure_].mean()) < plain[figure_].std(), f"{figure_} stays the same"

# %%
# The control says what confidence buys: a penalty on all likely answers, which looks at no group, takes the tempting
# mistake down as far as LENS does at sixteen times its alpha, and has the higher pass@16.

strong = final["LENS, alpha = 4"]
assert (control["tempting"] < ours["tempting"]).all(), "the control pushes the mistake further down than LENS"
assert abs(control["tempting"].mean() / strong["tempting"].mean() - 1) < 0.2, (
    "as far as LENS at sixteen times its alpha"
)
assert control["pass@16"].mean() > strong["pass@16"].mean(), "and is more often right in sixteen attempts"

# %%
# .. claim:: Penalties by confidence make groups of wrong answers useful and raise accuracy.
#     :experiment: sixteen bandit prompts with a tempting wrong answer, half of them hard, 60 iterations, 8 seeds
#     :controls: GRPO, each kind of group alone, GRPO with an entropy penalty
#     :shown: in part: few groups are wasted, confident mistakes fall faster; accuracy stays the same
