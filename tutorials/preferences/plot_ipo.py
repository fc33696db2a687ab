"""
Certain preferences have an answer
==================================

When one answer always wins, DPO's margin grows as long as it is trained. IPO's stops at a point that is known in
advance. We train both to see it, and then on noisy preferences, where DPO finds the reward and IPO something else.
"""

# %%
# Four answers, always in the same order
# --------------------------------------
# All pairs, certain labels; :math:`\beta = \tau = 0.1`; the population's gradient, five random references.

import numpy as np

from trref.experiments.figures import spread, use_style
from trref.experiments.training import train
from trref.nn.heads import log_softmax
from trref.preferences import dpo, ipo

plt = use_style()
K, seeds, steps = 4, 5, 1200
W = np.ones((K, K)) - np.eye(K)
rank = np.arange(K)
certain = np.where(rank[:, None] < rank[None], 1.0, np.where(rank[:, None] > rank[None], 0.0, 0.5))


def run(loss, preference, ref_logits, lr=0.05, **hyper):
    log_ref = log_softmax(ref_logits)

    def watch(theta):
        ratio = log_softmax(theta) - log_ref
        return ratio[0] - ratio[-1], np.exp(log_softmax(theta)) @ ratio

    step = lambda theta, rng: loss(theta, ref_logits, preference, W, **hyper)  # noqa: E731
    done = train(step, ref_logits, None, lr=lr, steps=steps, every=50, watch=watch)
    return log_softmax(done.theta), np.array(done.watched).T


references = [np.random.default_rng(seed).standard_normal(K) for seed in range(seeds)]
curves = {
    "DPO": np.array([run(dpo.population_loss, certain, ref, beta=0.1)[1] for ref in references]),
    "IPO": np.array([run(ipo.population_loss, certain, ref, tau=0.1)[1] for ref in references]),
}
stated = (certain.mean(1)[0] - certain.mean(1)[-1]) / 0.1
at = np.arange(50, steps + 1, 50)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
for axis, i, title in zip(
    axes, (0, 1), ("margin of the best over the worst (nats)", "KL to the reference"), strict=True
):
    for name, values in curves.items():
        spread(axis, at, values[:, i].tolist(), name)
    axis.set(xlabel="step", title=title)
axes[0].axhline(stated, color="#8c8c8c", linestyle=":", label="IPO's optimum")
axes[0].legend()

dpo_margin, ipo_margin = curves["DPO"][:, 0], curves["IPO"][:, 0]
print("margins after 400, 800, 1,200 steps")
for name, values in curves.items():
    print(f"  {name}", values[:, 0, [7, 15, 23]].mean(0).round(2), "+-", values[:, 0, -1].std().round(3))
assert (abs(ipo_margin[:, -1] - stated) < 0.01).all(), "IPO stops where it should"
assert (dpo_margin[:, 23] - dpo_margin[:, 15] > 1).all(), "DPO goes on"

# %%
# Noisy labels by Bradley and Terry
# ---------------------------------
# Now a reward exists, and comparisons follow its law. DPO finds the policy that maximises it; IPO maximises the
# probability of winning, which flattens large differences of reward.

reward = np.array([2.0, 0.5, 0.0, -2.0])
law = 1 / (1 + np.exp(reward[None] - reward[:, None]))
targets, found = [], []
for ref in references:
    targets.append((dpo.optimal_policy(ref, reward, beta=0.5), ipo.optimal_policy(ref, law, tau=0.5)))
    by_dpo = run(dpo.population_loss, law, ref, lr=0.05, beta=0.5)[0]
    found.append((by_dpo, run(ipo.population_loss, law, ref, lr=0.05, tau=0.5)[0]))
targets, found = np.exp(targets), np.exp(found)
figure, axis = plt.subplots()
for i, name in enumerate(("DPO", "IPO")):
    axis.bar(rank + 0.3 * i, found[:, i].mean(0), 0.3, yerr=found[:, i].std(0), label=name)
axis.plot(rank, targets[:, 0].mean(0), "k_", markersize=24, zorder=5, label="optimum for the reward")
axis.set_xticks(rank)
axis.set(xlabel="answer", ylabel="probability")
axis.legend()

# %%
# What the figures show
# ---------------------
# One method converges to the point that its paper states, the other to no point. That is a matter of what is asked, not
# of which is better: where a reward exists, DPO recovers its policy and IPO does not.

errors = abs(found - targets).max(2)
print("largest error of a probability: DPO to its optimum", errors[:, 0].max(), " IPO to its own", errors[:, 1].max())
assert (errors < 1e-3).all(), "each finds its own optimum"
assert (abs(found[:, 1] - targets[:, 0]).max(1) > 0.02).all(), "which are not the same"

# %%
# .. claim:: Where preferences are certain, IPO keeps the tie to the reference and DPO loses it.
#     :experiment: four answers, all pairs, certain labels, 1,200 steps, five references; then noisy labels by a reward
#     :controls: DPO at the same weight; the optimum in closed form; the optimum for the reward
#     :shown: yes: IPO stops at its stated optimum in every case, DPO's margin grows by more than a nat over the last
#         400 steps. Where labels are noisy by a reward's law, DPO finds the policy of that reward and IPO does not
