"""
The greedy answer as a baseline
===============================

One more generation in the place of a group: what is the greedy answer's reward worth as a baseline, early and late in
training?
"""

# %%
# Variance, as a policy learns
# ----------------------------
# Twenty answers, a third of them right, among these the likeliest; logits scaled from a flat policy to a sharp one. For
# a single sampled answer the variance of the gradient (its trace, exactly), with no baseline, with the greedy answer's
# reward, with the mean reward, and with the best constant. Once with the scores of answers of one token, where likely
# answers have small scores; once with scores of one norm, as long answers nearly have.

import numpy as np
from scipy.special import softmax

from trref.experiments.figures import spread, use_style
from trref.experiments.tokens import train_bandit
from trref.tokens.reinforce import reinforce
from trref.tokens.remax import remax_advantage

plt = use_style()
SEEDS, SHARP, K = range(5), np.linspace(0.1, 3, 15), 20
NAMES = ("no baseline", "greedy answer (ReMax)", "mean reward", "best constant")


def variances(seed, sharpness, one_norm, greedy=1.0):
    """For each baseline; and the probability of a right answer."""
    rng = np.random.default_rng(seed)
    logits, reward = sharpness * np.sort(rng.standard_normal(K))[::-1], (rng.random(K) < 1 / 3).astype(float)
    reward[0] = greedy
    p = softmax(logits)
    squares = np.ones(K) if one_norm else ((np.eye(K) - p) ** 2).sum(1)
    best, found = (p @ (reward * squares)) / (p @ squares), []
    for baseline in (0.0, reward[p.argmax()], p @ reward, best):
        A = remax_advantage(reward[:, None], np.full(K, baseline), np.ones((K, 1)))[:, 0]
        found.append(p @ (A**2 * squares) / (p @ squares))
    return [*found, p @ reward]


figure, axes = plt.subplots(1, 3, figsize=(12, 3.6))
results = {}
for axis, one_norm in zip(axes, (False, True), strict=False):
    results[one_norm] = found = np.array([[variances(seed, s, one_norm) for s in SHARP] for seed in SEEDS])
    for k, name in enumerate(NAMES):
        spread(axis, SHARP, found[..., k].tolist(), name)
    axis.set(xlabel="sharpness of the policy", ylabel="second moment", title="one norm" if one_norm else "one token")
axes[0].legend(fontsize=7)

# %%
# With scores of one norm the second moment is P without a baseline and 1 - P with the greedy answer's reward of 1, if P
# is the probability of a right answer: the baseline saves from one half on. With answers of one token it *costs*: rare
# answers have the large scores, most of them are wrong, and get -1 in the place of 0. A greedy answer that is wrong has
# the baseline 0, and changes nothing.

found = results[True]
P = found[..., 4]
assert np.allclose(found[..., 0], P) and np.allclose(found[..., 1], 1 - P)
assert (found[:, -1, 1] < found[:, -1, 0]).mean() > 0.5, "sharp policies that are mostly right save"
found = results[False]
print("one token, sharp: without", np.round(found[:, -1, 0], 2), " greedy", np.round(found[:, -1, 1], 2))
assert (found[:, -1, 1] > found[:, -1, 0]).all(), "with answers of one token it costs, on every policy"
assert (found[..., 3] <= found[..., :3].min(-1) + 1e-12).all(), "the best constant is never worse"
wrong = np.array(variances(0, 2.0, False, greedy=0.0))
assert wrong[0] == wrong[1], "a baseline of 0 is none"

# %%
# In training
# -----------
# Eight prompts, twenty answers of one token each, two of them right; two sampled answers a prompt and step. Both
# estimators are unbiased. Five seeds.

PROMPTS, STEPS = 8, 60


def learn(seed, with_greedy):
    rng = np.random.default_rng([seed, 3])
    start, right = 0.5 * rng.standard_normal((PROMPTS, K)), np.zeros((PROMPTS, K))
    for row in right:
        row[rng.choice(K, 2, replace=False)] = 1.0

    def advantage(reward, group, old_logits):
        greedy = right[group, old_logits[:, 0].argmax(1)] if with_greedy else np.zeros_like(reward)
        return remax_advantage(reward[:, None], greedy, np.ones((len(reward), 1)))[:, 0]

    run = train_bandit(reinforce, start, right, seed=seed, advantage=advantage, answers=2, iterations=STEPS, lr=2.0)
    return (run.probabilities * right).sum(2).mean(1)


curves = {name: [learn(seed, k == 1) for seed in SEEDS] for k, name in enumerate(NAMES[:2])}
for name, runs in curves.items():
    spread(axes[2], range(STEPS + 1), runs, name)
axes[2].set(xlabel="step", ylabel="probability of a right answer", title="training")
ends = {name: np.array(runs)[:, -1] for name, runs in curves.items()}
print("at the end", {name: np.round(values, 2) for name, values in ends.items()})
assert all((values > 0.95).all() for values in ends.values()), "both learn, equally well at the end"

# %%
# .. claim:: The greedy answer's reward reduces the variance of the gradient.
#     :experiment: exact second moments for a table of twenty answers, five policies; training on eight prompts
#     :controls: no baseline; the mean reward; the best constant; scores of one norm
#     :shown: in part: with scores of one norm it saves as soon as more than half of the answers are right; with answers
#         of one token it costs on every policy. In training no difference shows
