"""
A policy that knows how likely it is to be right
================================================

Read a policy, up to one constant for the question, as a model of "this answer is right", and fit it to right and wrong
answers by maximum likelihood: wrong answers then carry a penalty that grows with confidence. We watch where that leads,
and what becomes of it where the constant is wrong.
"""

# %%
# The penalty of a mistake
# ------------------------

import numpy as np
from scipy.special import log_softmax

from trref.experiments.figures import COLOURS, spread, use_style
from trref.tokens.lens_likelihood import difficulty, mle_loss

plt = use_style()
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
p = np.linspace(0.001, 0.48, 200)
for D, colour in zip((0.5, 0.7, 1.0, 3.0), COLOURS, strict=False):
    push = [-mle_loss(np.log(np.array([x])), np.zeros(1), np.array([D]))[1][0] for x in p]
    axes[0].plot(p, push, color=colour, label=f"D = {D}")
axes[0].axhline(0, color=COLOURS[6], linestyle=":", label="REINFORCE")
axes[0].set(xlabel="probability of the wrong answer", ylabel="its calibrated reward", ylim=(-4, 0.2))
axes[0].legend(fontsize=8)

# %%
# Where the two objectives lead
# -----------------------------
# Eight answers that are right with given probabilities, random over eight seeds. The mean reward is highest for a
# policy of one answer. The likelihood, all answers being asked equally often, is highest for the policy in proportion
# to the probability of being right, if D is the true difficulty. We descend both exactly.

V, STEPS, SEEDS = 8, 1500, range(8)


def descend(seed, factor):
    """Total variation from the calibrated policy along the descent; D is `factor` times the true one."""
    rng = np.random.default_rng(seed)
    correct = rng.random(V)
    D, target = difficulty(correct[None])[0], correct / correct.sum()
    z, distance = np.zeros(V), []
    for step in range(STEPS):
        log_p = log_softmax(z)
        if factor is None:
            gradient = -25 * np.exp(log_p) * (correct - np.exp(log_p) @ correct)
        else:
            asked = np.concatenate([log_p, np.minimum(log_p, np.log(0.999 * factor * D))])
            weight = np.concatenate([correct, 1 - correct])
            label = np.concatenate([np.ones(V), np.zeros(V)])
            g = 2 * V * mle_loss(asked, label, np.full(2 * V, factor * D))[1] * weight
            g = g[:V] + g[V:]
            gradient = g - np.exp(log_p) * g.sum()
        z = z - 0.02 * gradient
        if step % 10 == 0:
            distance.append(abs(np.exp(log_softmax(z)) - target).sum() / 2)
    return distance


end = {}
for (name, factor), colour in zip(
    {"mean reward": None, "likelihood, true D": 1.0, "twice the true D": 2.0, "8 times": 8.0}.items(),
    COLOURS,
    strict=False,
):
    runs = [descend(seed, factor) for seed in SEEDS]
    end[name] = np.array(runs)[:, -1]
    spread(axes[1], range(0, STEPS, 10), runs, name, color=colour)
    print(f"{name:20s} distance from the calibrated policy {end[name].mean():.3f} ± {end[name].std():.3f}")
axes[1].set(xlabel="step", ylabel="total variation from the calibrated policy")
axes[1].legend(fontsize=8)

# %%
# The mean reward collapses towards one answer; the likelihood finds the calibrated policy. With a wrong D it still
# comes close, and for a very large one closer again: without the penalty there remain the right answers, asked here
# equally often, and fitting those alone has the same optimum.

assert (end["likelihood, true D"] < 0.02).all(), "the likelihood ends at the calibrated policy, in every seed"
assert (end["mean reward"] > 0.5).all(), "the mean reward far from it"
assert (end["twice the true D"] > end["likelihood, true D"]).all(), "a wrong difficulty costs something"
assert (end["twice the true D"] < 0.1).all(), "but little"
assert end["8 times"].mean() < end["twice the true D"].mean(), "and one without effect less"

# %%
# .. claim:: The maximum-likelihood policy is in proportion to the probability of being right.
#     :experiment: exact descent over eight answers, 8 seeds
#     :controls: the mean reward; a difficulty that is wrong by factors of 2 and 8
#     :shown: yes, to 0.02 in total variation; a wrong difficulty costs 0.1 at most
