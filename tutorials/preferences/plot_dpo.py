"""
A reward model without a reward model
=====================================

DPO fits the policy to comparisons directly. We check that this is the same as fitting a reward and tilting the
reference by it, and then look at what no reward model would do: comparisons that never disagree drive the policy to
infinity.
"""

# %%
# Six answers, five thousand comparisons
# --------------------------------------
# The reward is known, comparisons follow the law of Bradley and Terry, over five seeds. Two ways: DPO, by steps on the
# policy; and a reward fitted by maximum likelihood (a logistic regression, by SciPy), by which the reference is tilted.

import numpy as np
from scipy.optimize import minimize

from trref.experiments.figures import spread, use_style
from trref.experiments.preferences import train_pairs
from trref.preferences.dpo import dpo, optimal_policy
from trref.problems.preferences import AnswerPolicy, Comparisons, PreferenceBandit

plt = use_style()
K, beta, seeds = 6, 0.5, 5
reward = np.array([-1.2, -0.4, 0.0, 0.5, 0.9, 1.4])
bandit, policy = PreferenceBandit(reward[None]), AnswerPolicy.table(1, K)
ref_logits = np.array([1.0, 0.5, 0.0, 0.8, -0.5, 0.2])


def fitted_reward(comparisons):
    """Maximum likelihood of Bradley and Terry."""

    def nll(r):
        margin = r[comparisons.chosen] - r[comparisons.rejected]
        slope = -1 / (1 + np.exp(margin)) / len(margin)
        gradient = np.bincount(comparisons.chosen, slope, K) - np.bincount(comparisons.rejected, slope, K)
        return np.logaddexp(0, -margin).mean(), gradient

    return minimize(nll, np.zeros(K), jac=True, options={"gtol": 1e-9}).x


rows = []
for seed in range(seeds):
    data = bandit.compare(np.random.default_rng(seed), 5000)
    run = train_pairs(dpo, policy, data, ref_logits, hyper={"beta": beta}, rng=None, lr=0.1, steps=200)
    by_reward = optimal_policy(ref_logits, fitted_reward(data), beta=beta)
    rows.append((np.exp(policy.log_prob(run.theta)[0]), np.exp(by_reward)))
by_dpo, by_reward = np.array(rows).transpose(1, 0, 2)
exact = np.exp(optimal_policy(ref_logits, reward, beta=beta))

figure, axis = plt.subplots()
x = np.arange(K)
for i, (name, values) in enumerate((("DPO", by_dpo), ("reward, then tilting", by_reward))):
    axis.bar(x + 0.25 * (i - 1), values.mean(0), 0.25, yerr=values.std(0), label=name)
axis.bar(x + 0.25, exact, 0.25, label="the true optimum")
axis.set(xlabel="answer", ylabel="probability")
axis.legend()

two_ways = abs(by_dpo - by_reward).sum(1) / 2
to_truth = abs(by_dpo - exact).sum(1) / 2
print("total variation: between the two ways", two_ways.round(5), " to the optimum", to_truth.round(3))
assert (two_ways < 1e-3).all(), "DPO is the tilting by the fitted reward"
assert (to_truth < 0.1).all() and (to_truth > 3 * two_ways).all(), "what is left is the noise of the comparisons"

# %%
# Comparisons that never disagree
# -------------------------------
# Twenty comparisons in which the better answer always wins. No reward is large enough for them, and so no policy is:
# the margin grows without end, the divergence from the reference goes to the largest it can be, and a larger
# :math:`\beta` only slows this down. The same comparisons with a share of 0.1 of them taken to be wrong (the
# conservative loss) have an optimum.


def certain(seed, hyper):
    drawn = bandit.compare(np.random.default_rng(100 + seed), 20)
    best = reward[drawn.chosen] > reward[drawn.rejected]
    data = Comparisons(drawn.prompt, *(np.where(best, *pair) for pair in (drawn[1:], drawn[:0:-1])))
    ref = policy.log_prob(ref_logits)[0]

    def watch(theta):
        log_prob = policy.log_prob(theta)[0]
        ratio = log_prob - ref
        margin = (ratio[data.chosen] - ratio[data.rejected]).mean()
        return margin, np.exp(log_prob) @ ratio, ratio[data.chosen].mean(), ratio[data.rejected].mean()

    run = train_pairs(dpo, policy, data, ref_logits, hyper=hyper, lr=0.1, steps=600, every=50, watch=watch)
    return np.array(run.watched).T


settings = {
    "beta 0.1": {"beta": 0.1},
    "beta 0.5": {"beta": 0.5},
    "beta 0.5, conservative": {"beta": 0.5, "label_smoothing": 0.1},
}
runs = {name: np.array([certain(seed, hyper) for seed in range(seeds)]) for name, hyper in settings.items()}
steps = np.arange(50, 601, 50)
figure, axes = plt.subplots(1, 3, figsize=(9, 3.4))
for axis, i, title in zip(
    axes, range(3), ("mean margin (nats)", "KL to the reference", "log-ratio of chosen"), strict=True
):
    for name, values in runs.items():
        spread(axis, steps, values[:, i].tolist(), name)
    axis.set(xlabel="step", title=title)
axes[1].legend(loc="lower right")

# %%
# What the figure shows
# ---------------------
# Without smoothing the margin has no end, for both values of :math:`\beta`; with it the margin stops. Along the way the
# chosen answers lose probability on average, for most of them lost other comparisons: the loss sees differences only.

for name, values in runs.items():
    print(f"{name:24} margin at 200, 400, 600: {values[:, 0, [3, 7, 11]].mean(0).round(2)}", end="  ")
    print(f"chosen {values[:, 2, -1].mean():.2f}  rejected {values[:, 3, -1].mean():.2f}")
growth = {name: values[:, 0, 11] - values[:, 0, 7] for name, values in runs.items()}
for name in ("beta 0.1", "beta 0.5"):
    assert (growth[name] > 1).all(), "the margin grows without end, in every seed"
assert (abs(growth["beta 0.5, conservative"]) < 0.05).all(), "the conservative loss has an optimum"
assert (runs["beta 0.1"][:, 0, -1] > runs["beta 0.5"][:, 0, -1]).all(), "a larger beta slows it down"
assert (runs["beta 0.1"][:, 2, -1] < 0).all(), "the chosen answers are less likely than at the start"

# %%
# .. claim:: Fitting the policy directly gives the optimum of the reward with a divergence penalty.
#     :experiment: six answers, 5,000 comparisons by a known reward, five seeds; then 20 comparisons without a
#         contradiction
#     :controls: a reward fitted by SciPy and the exact tilting by it; the true optimum; two values of beta, and the
#         conservative loss
#     :shown: yes: the two ways agree to 0.1 % in every seed, and what separates them from the optimum is the noise of
#         the comparisons. With certain comparisons there is no optimum, whatever beta: the margin grows without end and
#         the chosen answers become less likely; with a share of the labels taken to be wrong there is one
