"""
A contrast alone lets both answers fall
=======================================

Without a reference nothing says how likely the chosen answer should be: a contrast is as content with two unlikely
answers. CPO adds the likelihood. We watch both, what length does to the contrast, and the authors' later penalty.
"""

# %%
# Pairs that are nearly alike
# ---------------------------
# Strings of letters, of eight kinds; the rejected one has two letters of content exchanged, and both have two letters
# that occur nowhere else. Five seeds, 200 pairs, with three weights of the likelihood.

import numpy as np

from trref.experiments.figures import spread, use_style
from trref.experiments.preferences import train_letters
from trref.nn.heads import log_softmax
from trref.preferences.cpo import arpo, arpo_penalty, cpo

plt = use_style()
V, seeds, steps = 8, 5, 200


def pairs(rng, draws=200, times=1):
    """Chosen strings of 4 shared letters and 6 of content, rejected ones `times` as long."""
    shared = rng.multinomial(4, [0.5, 0.5], draws)
    chosen, rejected = np.zeros((2, draws, V))
    chosen[:, :2] = rejected[:, :2] = shared
    chosen[:, 2:5] = rng.multinomial(6, np.full(3, 1 / 3), draws)
    rejected[:, 2:8] = chosen[:, 2:8]
    moved = np.minimum(chosen[:, 2], 2)
    rejected[:, 2] -= moved
    rejected[:, 5] += moved
    return chosen, times * rejected


def learn(seed, objective=cpo, times=1, **hyper):
    rng = np.random.default_rng(seed)
    chosen, rejected = pairs(rng, times=times)
    theta = 0.3 * rng.standard_normal(V)

    def watch(theta):
        log_p = log_softmax(theta)
        sums = chosen @ log_p, rejected @ log_p
        h = hyper.get("beta", 0.1) * (sums[0] - sums[1])
        return sums[0].mean(), sums[1].mean() / times, (1 / (1 + np.exp(h))).mean()

    start = watch(theta)
    run = train_letters(objective, chosen, rejected, theta, hyper=hyper, lr=0.05, steps=steps, every=4, watch=watch)
    return np.array([start, *run.watched]).T


arms = {f"α = {alpha:g}": {"likelihood_weight": alpha, "beta": 0.3} for alpha in (0.0, 0.1, 1.0)}
runs = {name: np.array([learn(seed, **hyper) for seed in range(seeds)]) for name, hyper in arms.items()}
at = np.arange(0, steps + 1, 4)
figure, axes = plt.subplots(1, 3, figsize=(10, 3.4))
for axis, i, title in zip(axes, (0, 1), ("chosen", "rejected"), strict=False):
    for name, values in runs.items():
        spread(axis, at, (values[:, i] - values[:, i, :1]).tolist(), name)
    axis.axhline(0, color="#8c8c8c", linewidth=1)
    axis.set(xlabel="step", title=f"log-probability of the {title} answers")
axes[0].set_ylabel("change (nats)")
axes[1].legend()

# %%
# Longer rejected answers
# -----------------------
# Rejected answers twice as long lose by their length alone: the weights of their pairs are near 0 before anything is
# learnt.

lengths = {times: np.array([learn(seed, times=times, beta=0.3) for seed in range(seeds)]) for times in (1, 2)}
for times, values in lengths.items():
    spread(axes[2], at, values[:, 2].tolist(), f"rejected {times} times as long")
axes[2].set(xlabel="step", title="mean weight of a pair")
axes[2].legend()

# %%
# The penalty of the authors' later code
# --------------------------------------
# It weighs the rejected answer by the distance of the averages. Below 0.263 nats a token it is negative, and rejected
# answers are pulled up.

distance, one = np.linspace(0, 2.5, 101), np.ones(101)
figure, axis = plt.subplots()
axis.plot(distance, arpo_penalty(-1 - distance, -one, one, one))
axis.axhline(0, color="#8c8c8c", linewidth=1)
axis.set(xlabel="distance of the averages (nats a token)", ylabel="weight of the rejected answer")

# %%
# What the figures show
# ---------------------
# With the contrast alone the margin grows while both answers lose ten nats and more. A weight of 0.1 is enough to turn
# the chosen one around; a larger one costs margin. The pairs with long rejected answers never counted. And on these
# close pairs the later penalty does the opposite of the contrast: the rejected answers rise.

change = {name: values[:, :2, -1] - values[:, :2, 0] for name, values in runs.items()}
for name, values in change.items():
    print(name, "chosen", values[:, 0].round(2), "rejected", values[:, 1].round(2))
assert (change["α = 0"] < -5).all(), "both fall, in every seed"
assert (change["α = 0.1"][:, 0] > 2).all() and (change["α = 1"][:, 0] > 2).all(), "the likelihood keeps the chosen up"
margin = {name: values[:, 0] - values[:, 1] for name, values in change.items()}
assert (margin["α = 0"] > margin["α = 1"]).all() and (margin["α = 1"] > 5).all(), "at some cost to the margin"
assert (lengths[1][:, 2, 0] > 0.4).all() and (lengths[2][:, 2, 0] < 0.01).all(), "long rejected answers are silent"

rejected = {}
for name, objective in (("CPO", cpo), ("ARPO", arpo)):
    paths = [learn(seed, objective, likelihood_weight=0.0) for seed in range(seeds)]
    rejected[name] = np.array([path[1, 1] - path[1, 0] for path in paths])
    print(name, "change of the rejected answers after four steps", rejected[name].round(2))
assert (rejected["ARPO"] > 0).all() and (rejected["CPO"] < 0).all(), "close pairs: the penalty pulls them up"

# %%
# .. claim:: The likelihood of the chosen answers lets a contrast do without a reference.
#     :experiment: pairs of strings that differ in two letters, three weights of the likelihood, five seeds
#     :controls: the contrast alone; rejected answers twice as long; the authors' later penalty on the same pairs
#     :shown: yes: alone, the contrast lowers both answers by more than five nats in every seed, and a weight of 0.1
#         turns the chosen one around. Pairs whose rejected answer is twice as long have less than a fortieth of the
#         weight from the start, and with the later penalty the rejected answers of close pairs rise
