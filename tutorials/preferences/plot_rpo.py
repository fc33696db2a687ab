"""
Answers that nobody compared
============================

Comparisons cover a few answers; a policy that learns from them moves the others, too. RPO's likelihood term is to keep
it from praising what it does not know. We look at where DPO's probability goes.
"""

# %%
# Twenty answers, six of them compared
# ------------------------------------
# Logits are linear in features. A bad answer that was never compared looks like the best ones. Five seeds, 60
# comparisons by Bradley and Terry's law; the baseline are the chosen answers. As a control the same with a table of
# logits, where answers share nothing.

import numpy as np

from trref.experiments.figures import spread, use_style
from trref.experiments.preferences import train_pairs
from trref.preferences.rpo import rpo
from trref.problems.preferences import AnswerPolicy, PreferenceBandit

plt = use_style()
K, covered, bad, F, seeds, steps = 20, 6, 6, 8, 5, 300


def task(seed, table):
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((K, F))
    reward = features @ rng.standard_normal(F) / np.sqrt(F)
    order = np.argsort(-reward[:covered])
    features[bad] = 1.5 * (features[order[0]] - features[order[-1]])
    reward[bad] = -4.0
    law = np.zeros((1, K))
    law[0, :covered] = 1 / covered
    data = PreferenceBandit(reward[None]).compare(rng, 60, law=law)
    return reward, data, AnswerPolicy.table(1, K) if table else AnswerPolicy(features[None])


def learn(seed, eta, table=False):
    reward, data, policy = task(seed, table)
    start = np.zeros(policy.size)
    ref = policy.log_prob(start)[0]

    def watch(theta):
        log_p = policy.log_prob(theta)[0]
        p = np.exp(log_p)
        return p @ reward, p[bad], p[covered:].sum(), (log_p - ref)[data.chosen].mean()

    hyper = {"beta": 0.1, "eta": eta}
    run = train_pairs(rpo, policy, data, start, hyper=hyper, lr=0.03, steps=steps, every=5, watch=watch)
    return np.array(run.watched).T


etas = (0.0, 0.05, 0.5)
runs = {eta: np.array([learn(seed, eta) for seed in range(seeds)]) for eta in etas}
tables = {eta: np.array([learn(seed, eta, table=True) for seed in range(seeds)]) for eta in etas}
at = np.arange(5, steps + 1, 5)
figure, axes = plt.subplots(1, 3, figsize=(10, 3.4))
titles = ("expected reward", "probability of the bad answer", "log-ratio of the chosen answers")
for axis, i, title in zip(axes, (0, 1, 3), titles, strict=True):
    for eta, values in runs.items():
        spread(axis, at, values[:, i].tolist(), "DPO" if eta == 0 else f"RPO, η = {eta:g}")
    axis.set(xlabel="step", title=title)
axes[2].legend(loc="center right")

# %%
# What the figure shows
# ---------------------
# DPO finds the direction that separates winners from losers, and the bad answer lies furthest along it: it ends with
# nearly all of the probability, while all chosen answers lose theirs. The likelihood term stops that, the larger its
# weight the better. The leak is one through shared features: in the table DPO leaves nothing to answers that were not
# compared, and there the likelihood costs reward, because losers are chosen at times, too.

for name, group in (("features", runs), ("table", tables)):
    for eta, values in group.items():
        reward, at_bad, uncovered, chosen = values[:, :, -1].mean(0)
        print(f"{name:9} η {eta:<5g} reward {reward:6.2f} +- {values[:, 0, -1].std():.2f}", end="  ")
        print(f"bad {at_bad:.2f}  not compared {uncovered:.2f}  log-ratio of chosen {chosen:.2f}")
bad_share = {eta: values[:, 1, -1] for eta, values in runs.items()}
assert (bad_share[0.0] > 0.9).all() and (bad_share[0.5] < 0.3).all(), "DPO's probability leaks, RPO's does not"
assert (bad_share[0.05] < bad_share[0.0]).all(), "a small weight helps already"
assert (runs[0.5][:, 0, -1] > runs[0.0][:, 0, -1] + 1).all(), "and the reward says so, in every seed"
assert (runs[0.0][:, 3, -1] < -5).all() and (runs[0.5][:, 3, -1] > -1).all(), "chosen answers keep their probability"
assert (tables[0.0][:, 2, -1] < 0.1).all(), "in a table nothing leaks"
assert tables[0.5][:, 0, -1].mean() < tables[0.0][:, 0, -1].mean(), "and the term costs reward"

# %%
# .. claim:: The likelihood of the chosen answers keeps preference optimisation from over-optimising.
#     :experiment: twenty answers with shared features, six of them compared 60 times, one bad answer that looks like
#         the best; three weights, five seeds
#     :controls: DPO, the weight of 0; a table of logits, where answers share nothing
#     :shown: yes: DPO gives the bad answer more than nine tenths of the probability in every seed, RPO at a weight of
#         0.5 less than three tenths, with more reward. The leak needs shared features: in a table there is none, and
#         the term costs reward
