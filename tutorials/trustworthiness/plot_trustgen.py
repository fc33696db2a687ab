"""
A leaderboard that is drawn again
=================================

A model that has memorised a benchmark leads it. Does drawing the benchmark anew expose that? And of the models that
have not: how many places of a leaderboard are more than the noise of drawing?
"""

# %%
# Four models, seven dimensions
# -----------------------------
# Each simulated model is right on a case with a chance whose logit is its skill in the dimension, plus how easy the
# case is, plus what the wording does. Skills of three models are 0.15 apart; the fourth is weaker, but has memorised
# *one* drawn set of cases, on which it is right. A judge calls 25 % of failures a success and misses 5 % of the
# successes. *Predict before you run*: how many cases a dimension until neighbours on the board can be told apart?

import numpy as np
from scipy.special import expit

from trref.experiments.figures import COLOURS, spread, use_style
from trref.trustworthiness.dynamic_evaluation import (
    dynamic_estimate,
    judge_corrected,
    rank_stability,
    wilson_interval,
    win_probability,
)
from trref.trustworthiness.trustgen import overall_score

plt = use_style()
NAMES, DIMENSIONS, SEEDS = ("A", "B", "C", "memorised"), 7, 5
SKILL = np.array([1.3, 1.15, 1.0, 0.4])
FALSE_POSITIVE, FALSE_NEGATIVE = 0.25, 0.05


def answers(rng, cases, wordings=1, memorised=False):
    """Right answers (models, dimensions, cases, wordings) to one draw of cases that all models share."""
    ease = rng.standard_normal((1, DIMENSIONS, cases, 1))
    wording = 0.7 * rng.standard_normal((len(SKILL), DIMENSIONS, cases, wordings))
    right = rng.random(wording.shape) < expit(SKILL[:, None, None, None] + ease + wording)
    right[-1] |= memorised
    return right.astype(float)


def judged(rng, right):
    """What the judge sees, and the shares that undo its errors."""
    u = rng.random(right.shape)
    seen = np.where(right > 0, u >= FALSE_NEGATIVE, u < FALSE_POSITIVE).astype(float).mean((2, 3))
    rate = judge_corrected(
        seen.ravel(),
        (seen * (1 - seen) / right[0, 0].size).ravel(),
        false_positive=FALSE_POSITIVE,
        false_negative=FALSE_NEGATIVE,
    )
    return seen, rate.rate.reshape(seen.shape), np.sqrt(rate.variance).reshape(seen.shape)


def overall(rng, cases, memorised=False):
    _, rate, error = judged(rng, answers(rng, cases, memorised=memorised))
    return overall_score(rate, error)


rngs = [np.random.default_rng(seed) for seed in range(SEEDS)]
static = np.array([overall(rng, 100, memorised=True).score for rng in rngs])
dynamic = np.array([overall(rng, 100) for rng in rngs])
sizes = (25, 50, 100, 200, 400, 800)
stability = np.array(
    [[rank_stability(np.array([overall(rng, n).score[:3] for _ in range(6)])) for n in sizes] for rng in rngs]
)
told_apart = []
for rng in rngs:
    row = []
    for n in (100, 800):
        right = answers(rng, n)[:3].reshape(3, -1)
        wins = win_probability(right, rng.integers(0, right.shape[1], (200, right.shape[1])))
        row.append([wins[0, 1], wins[1, 2]])
    told_apart.append(row)
told_apart = np.array(told_apart)

# noise: 40 redraws of 60 cases in 4 wordings, one dimension of the best model
redrawn = np.stack([answers(rngs[0], 60, 4)[0, 0] for _ in range(40)])
estimate = dynamic_estimate(redrawn, cases=60, wordings=4)
seen, corrected, _ = judged(rngs[0], right := answers(rngs[0], 2000))
truth = right.mean((2, 3))

figure, axes = plt.subplots(1, 3, figsize=(11, 3.6))
places = np.arange(4)
axes[0].bar(places - 0.2, static.mean(0), 0.4, color=COLOURS[0], label="fixed set")
axes[0].bar(
    places + 0.2,
    dynamic[:, 0].mean(0),
    0.4,
    color=COLOURS[1],
    label="drawn anew",
    yerr=1.96 * dynamic[:, 1].mean(0),
    ecolor=plt.rcParams["text.color"],
)
axes[0].set_xticks(places, NAMES)
axes[0].set(ylabel="overall score", ylim=(0.5, 1.25), title="100 cases a dimension")
axes[0].legend(loc="upper left")
spread(axes[1], sizes, stability, "A, B, C")
axes[1].axhline(1, ls="--", color=COLOURS[-1])
axes[1].set(xscale="log", xlabel="cases a dimension", ylabel="Kendall's τ of two redraws", title="Ranks")
wordings = np.arange(1, 21)
planned = [dynamic_estimate(redrawn, cases=60, wordings=int(v)).planned for v in wordings]
axes[1].set_xticks(sizes, [str(n) for n in sizes])
axes[1].minorticks_off()
axes[2].plot(wordings, np.sqrt(planned), label="planned")
axes[2].axhline(np.sqrt(estimate.case / 60), ls="--", color=COLOURS[-1], label="cases alone")
axes[2].plot([4], [np.sqrt(estimate.observed)], "o", color=COLOURS[1], label="40 redraws")
axes[2].set(xlabel="wordings a case", ylabel="standard error", ylim=(0, None), title="60 cases")
axes[2].legend()
interval = wilson_interval(np.array([0.8]), np.array([100.0]))
print(f"80 of 100: {interval.low[0]:.3f} to {interval.high[0]:.3f}")
print("fixed set:", np.round(static.mean(0), 3), "drawn anew:", np.round(dynamic[:, 0].mean(0), 3))
print("Kendall's tau by cases:", dict(zip(sizes, np.round(stability.mean(0), 2), strict=True)))
print("A over B, B over C at 100 and at 800:", np.round(told_apart.mean(0), 2).tolist())
print("judge: mean error before and after", np.round([abs(seen - truth).mean(), abs(corrected - truth).mean()], 4))

# %%
# On the set that it knows, the weakest model leads; drawn anew it is last, in every run. That is what a dynamic
# benchmark is for. Among the honest ones 100 cases a dimension, 700 answers, do not settle the order of neighbours: in
# two redraws one pair in five changes places. More wordings of the same cases help little beyond a few, because the
# cases' own variance stays. So a narrow gap among leaders says something about the benchmark first.

assert (static.argmax(1) == 3).all() and (dynamic[:, 0].argmin(1) == 3).all(), "memory is exposed by redrawing"
assert 0.1 < stability[:, 2].mean() < 0.85, "at 100 cases ranks of neighbours are not settled"
assert stability[:, -1].mean() > stability[:, 0].mean() + 0.2, "and more cases do settle them"
assert (told_apart[:, 0] < 0.975).any(1).mean() >= 0.6, "some neighbours are not told apart at 100"
assert abs(np.log(estimate.planned / estimate.observed)) < 4 * np.sqrt(2 / 39), "the formula holds in its own noise"
assert planned[-1] > 0.5 * planned[3], "sixteen more wordings do not halve the variance"
assert abs(corrected - truth).mean() < 0.35 * abs(seen - truth).mean(), "a known judge can be undone"

# %%
# .. claim:: A benchmark that is drawn anew is immune to memory, and leading models are close.
#     :experiment: four simulated models in seven dimensions, 25 to 800 cases, five seeds, a judge that errs
#     :controls: the same models on a fixed set; redraws against each other; more wordings instead of more cases
#     :shown: yes for memory; how close the leaders are is, at this size, mostly noise of drawing
#
# Let the memorising model know half of the cases only. From how many redraws on does the bootstrap notice? Give the
# judge errors that sum to 0.9: how many cases make up for it?
