"""
A baseline weighted by length
=============================

OPO's baseline would be optimal if the squared gradient of an answer grew like its length. When it does, how much does
it save? When it does not? And what of it is bias?
"""

# %%
# Twelve answers, whose scores have chosen norms
# ----------------------------------------------
# The scores of the answers are random vectors, shifted so that their mean is 0, with squared norms in proportion to the
# lengths (1 to 40), or, as a control, to the lengths in reverse order. Long answers are right less often. Groups of
# four; 2,000 of them. For each baseline the trace of the covariance of an estimate, and the squared bias, relative to
# the squared gradient; eight seeds.

import numpy as np

from trref.experiments.figures import use_style
from trref.tokens.dr_grpo import centred_advantage
from trref.tokens.opo import opo_advantage
from trref.tokens.rloo import leave_one_out

plt = use_style()
SEEDS, G, GROUPS, K = range(8), 4, 2000, 12
LENGTHS = np.round(np.geomspace(1, 40, K)).astype(int)
group = np.repeat(np.arange(25), G)
NAMES = ("none", "own mean", "RLOO", "OPO", "OPO, one left out", "best constant")


def world(seed, lengths_tell):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(K, 3.0))
    reward = (rng.random(K) < np.linspace(0.8, 0.2, K)).astype(float)
    reward[0], reward[-1] = 1.0, 0.0
    norms = np.sqrt(LENGTHS if lengths_tell else LENGTHS[::-1])
    score = rng.standard_normal((K, 6))
    score *= (norms / np.linalg.norm(score, axis=1))[:, None]
    return rng, p, reward, score - p @ score


def compare(seed, lengths_tell):
    """Variance and squared bias for each baseline."""
    rng, p, reward, score = world(seed, lengths_tell)
    true, squares = (p * reward) @ score, (score**2).sum(1)
    batches = rng.choice(K, (GROUPS // 25, 25 * G), p=p)
    best = (p @ (reward * squares)) / (p @ squares)

    def mask(chosen):
        return (np.arange(40) < LENGTHS[chosen][:, None]).astype(float)

    advantages = (
        lambda chosen: reward[chosen],
        lambda chosen: centred_advantage(reward[chosen], group),
        lambda chosen: leave_one_out(reward[chosen], group),
        lambda chosen: opo_advantage(reward[chosen], group, mask(chosen)),
        lambda chosen: opo_advantage(reward[chosen], group, mask(chosen), baseline="leave_one_out"),
        lambda chosen: reward[chosen] - best,
    )
    result, scale = [], true @ true
    for advantage in advantages:
        A = np.array([advantage(chosen) for chosen in batches])
        each = (A[..., None] * score[batches]).reshape(GROUPS, G, -1).mean(1)
        bias, variance = each.mean(0) - true, each.var(0).sum()
        result.append((variance / scale, max(bias @ bias - variance / GROUPS, 0) / scale))
    return result


found = {tell: np.array([compare(seed, tell) for seed in SEEDS]) for tell in (True, False)}
figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), sharey=True)
for axis, (tell, values) in zip(axes, found.items(), strict=True):
    for part, offset, label in ((0, -0.2, "variance"), (1, 0.2, "squared bias")):
        x, middle = np.arange(len(NAMES)) + offset, np.median(values[..., part], 0)
        span = np.abs(np.quantile(values[..., part], (0.25, 0.75), axis=0) - middle)
        axis.bar(x, middle, 0.4, yerr=span, label=label)
    axis.set_xticks(range(len(NAMES)), NAMES, rotation=30, ha="right", fontsize=8)
    axis.set(title="lengths say how large scores are" if tell else "lengths say the opposite", yscale="symlog")
axes[0].set_ylabel("relative to the squared gradient")
axes[0].legend()

# %%
# To compare baselines that shrink the gradient with such that do not, look at the ones that leave the answer itself
# out. Where lengths tell the truth, weighting by them saves variance; where they say the opposite, it costs.

for tell, values in found.items():
    print("lengths tell" if tell else "lengths mislead")
    for k, name in enumerate(NAMES):
        print(f"  {name:18s} variance {np.median(values[:, k, 0]):6.2f}  squared bias {np.median(values[:, k, 1]):.3f}")
gain = {tell: values[:, 4, 0] / values[:, 2, 0] for tell, values in found.items()}
print("variance of OPO without the answer itself over RLOO's:", {t: np.round(g, 2) for t, g in gain.items()})
assert np.median(gain[True]) < 1 < gain[False].min(), "on most policies it saves; misled, it costs on every one"
tell = found[True]
assert (tell[:, 5, 0] < tell[:, 2, 0]).all(), "the best constant is better than RLOO on every policy"
assert np.median(tell[:, 3, 1]) > 0.02 > np.median(tell[:, 4, 1]), (
    "as published it is biased; with the answer left out not"
)

# %%
# .. claim:: A baseline weighted by lengths minimises the variance of the gradient.
#     :experiment: a bandit of twelve answers with scores of chosen norms, groups of four, eight policies
#     :controls: no baseline, the mean of the group, RLOO, the best constant; lengths that mislead
#     :shown: in part: where squared scores grow like lengths, it saves variance against RLOO on most policies, not on
#         all, and counting the answer itself makes it biased. Where lengths mislead, it costs. The best constant, which
#         nobody knows, is better than all
