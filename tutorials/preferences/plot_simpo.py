"""
What a mean over tokens does to a preference
============================================

DPO scores an answer by the sum of its tokens' log-ratios, SimPO by the mean of their log-probabilities. We train both
on the same comparisons, by a judge who does not look at the length and by one who likes short answers.
"""

# %%
# A model of letters
# ------------------
# Answers are strings of 2 to 16 letters, of eight kinds; the policy gives every place the same distribution over
# letters. What is good about an answer is its *share* of the first letter. Five seeds, 1,500 comparisons each, and
# 4,000 that are held out. How well these are ranked is held against the ranking by the share itself, because chance
# separates long answers from short ones, too (short ones have extreme shares).

import numpy as np

from trref.experiments.figures import use_style
from trref.experiments.preferences import train_letters
from trref.nn.heads import log_softmax
from trref.preferences.dpo import dpo, length_normalised
from trref.preferences.simpo import simpo

plt = use_style()
V, seeds = 8, 5


def compare(rng, draws, shortness):
    """Letter counts (draws, V) of chosen and rejected answers."""
    counts = []
    for _ in range(2):
        length = rng.integers(2, 17, draws)
        counts.append(rng.multinomial(length, rng.dirichlet(np.full(V, 2.0), draws)).astype(float))
    a, b = counts
    score = [6 * x[:, 0] / x.sum(1) - shortness * x.sum(1) for x in (a, b)]
    wins = rng.random(draws) < 1 / (1 + np.exp(score[1] - score[0]))
    return np.where(wins[:, None], a, b), np.where(wins[:, None], b, a)


methods = {
    "DPO (sums)": (dpo, {"beta": 0.3}),
    "DPO, length-normalised": (length_normalised, {"beta": 3.0}),
    "SimPO": (simpo, {"beta": 3.0, "gamma": 0.5}),
}


def rewards(name, counts, log_p, ref):
    total = counts @ (log_p if name == "SimPO" else log_p - ref)
    return total if name == "DPO (sums)" else total / counts.sum(1)


results = {}
for shortness in (0.0, 0.3):
    for name, (objective, hyper) in methods.items():
        rows = []
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            ref_theta = 0.3 * rng.standard_normal(V)
            data = compare(rng, 1500, shortness)
            run = train_letters(objective, *data, ref_theta, hyper=hyper, lr=0.05, steps=250)
            log_p = log_softmax(run.theta)
            chosen, rejected = compare(rng, 4000, shortness)
            ref = log_softmax(ref_theta)
            by_policy = rewards(name, chosen, log_p, ref) > rewards(name, rejected, log_p, ref)
            share = chosen[:, 0] / chosen.sum(1) - rejected[:, 0] / rejected.sum(1)
            gained = by_policy - (np.sign(share) + 1) / 2  # a tie is half right
            longer, shorter = chosen.sum(1) > rejected.sum(1), chosen.sum(1) < rejected.sum(1)
            rows.append((gained.mean(), gained[longer].mean(), gained[shorter].mean()))
        results[shortness, name] = np.array(rows)

figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
titles = {0.0: "a judge blind to length", 0.3: "a judge who likes short answers"}
for axis, (shortness, title) in zip(axes, titles.items(), strict=True):
    for i, name in enumerate(methods):
        values = results[shortness, name]
        axis.bar(np.arange(3) + 0.27 * (i - 1), values.mean(0), 0.27, yerr=values.std(0), label=name)
    axis.set_xticks(range(3), ["all pairs", "winner is longer", "winner is shorter"])
    axis.axhline(0, color="#8c8c8c", linewidth=1)
    axis.set(title=title)
axes[0].set_ylabel("ranked right, beyond the share's ranking")
axes[1].legend(loc="lower right")

# %%
# What a margin adds
# ------------------
# The weight of a pair is one half where its rewards are :math:`\gamma` apart, not where they are equal.

difference = np.linspace(-3, 4, 141)
figure, axis = plt.subplots()
for gamma in (0.0, 0.5, 1.6):
    one = np.ones(1)
    weight = [-simpo(np.array([d / 2]), np.zeros(1), one, one, beta=2.0, gamma=gamma)[1][0][0] / 2 for d in difference]
    axis.plot(difference, weight, label=f"$\\gamma$ = {gamma:g}")
axis.axhline(0.5, color="#8c8c8c", linestyle=":")
axis.set(xlabel="difference of rewards", ylabel="weight of the pair")
axis.legend()

# %%
# What the figures show
# ---------------------
# The mean ranks long and short winners equally well. The sum does not, even where the judge is blind to length: a
# policy that has moved has negative log-ratios on average (it is a distribution, too), and a longer answer collects
# more of them. Where the judge does look at the length, that is an advantage: the sum can express a taste for short
# answers, the mean cannot.

for key, values in results.items():
    print(key, values.mean(0).round(3), "+-", values.std(0).round(3))
gap = {key: values[:, 2] - values[:, 1] for key, values in results.items()}
assert (gap[0.0, "DPO (sums)"] > 0.1).all(), "sums favour the shorter answer, in every seed"
for name in ("SimPO", "DPO, length-normalised"):
    assert (abs(gap[0.0, name]) < 0.05).all(), "means do not"
assert (results[0.3, "DPO (sums)"][:, 0] > results[0.3, "SimPO"][:, 0] + 0.1).all(), "a taste for length needs the sum"

# %%
# .. claim:: A reward that is a mean over tokens takes the length out of the preference.
#     :experiment: strings of letters, 1,500 comparisons by a judge who is blind to length, and by one who likes short
#         answers; five seeds
#     :controls: DPO on sums; DPO on means, which separates the mean from the missing reference
#     :shown: yes: held-out pairs are ranked equally well whichever answer is longer, in every seed, and sums favour the
#         shorter one by more than ten points. It is the mean that does it, not the missing reference; and a judge who
#         does look at the length is learnt better by the sum. Nothing is shown of win rates
