"""
Clipping is not a trust region
==============================

The clipped surrogate of PPO takes away the *reward* for moving a probability ratio beyond :math:`1 \\pm \\epsilon`. We
optimise one fixed batch hard and watch whether the ratios stay inside.
"""

# %%
# One term of the objective
# -------------------------
# For a good action the objective is flat above :math:`1 + \epsilon`; for a bad one below :math:`1 - \epsilon`. On the
# other sides it is not: a ratio on the wrong side is pulled back.

import numpy as np

from trref.experiments.figures import spread, use_style
from trref.nn import heads, mlp
from trref.optimizers import adam
from trref.policy.ppo import clip_fraction, clipped_surrogate, unclipped_surrogate

plt = use_style()
ratios = np.linspace(0.4, 1.8, 281)
figure, axes = plt.subplots(1, 2, sharex=True)
for axis, advantage in zip(axes, (1.0, -1.0), strict=True):
    one = [(np.log([r]), np.zeros(1), np.array([advantage])) for r in ratios]
    axis.plot(ratios, [-unclipped_surrogate(*x)[0] for x in one], label="unclipped", linestyle="--")
    axis.plot(ratios, [-clipped_surrogate(*x)[0] for x in one], label="clipped")
    axis.set(xlabel="probability ratio", title=f"advantage {advantage:+.0f}")
axes[0].set_ylabel("objective of one sample")
axes[0].legend()

# %%
# Four hundred steps on one batch
# -------------------------------
# 512 states, 6 actions, a two-layer policy and full-batch Adam, over five seeds. Trainers stop after a few epochs; here
# we do not, to see what the objective itself prevents. In the control nothing is shared: each state has logits of its
# own, with the network's as their start.


def optimise(surrogate, seed, steps=400, table=False):
    rng = np.random.default_rng(seed)
    states, advantage = rng.standard_normal((512, 8)), rng.standard_normal(512)
    sizes = (8, 32, 6)
    theta = mlp.init(rng, sizes)
    logits = mlp.forward(theta, states, sizes)[0]
    actions = (rng.random((512, 1)) > np.cumsum(np.exp(heads.log_softmax(logits)), 1)[:, :-1]).sum(1)
    start = logits
    old = heads.categorical_log_prob(start, actions)[0]
    theta = start if table else theta
    state, figures = adam.init([theta]), []
    for _ in range(steps):
        logits, cache = (theta, None) if table else mlp.forward(theta, states, sizes)
        log_prob, d_logits = heads.categorical_log_prob(logits, actions)
        gradient = surrogate(log_prob, old, advantage)[1][:, None] * d_logits
        gradient = gradient if table else mlp.vjp(cache, gradient)[0]
        (theta,), state = adam.update([theta], [gradient], state, lr=3e-3)
        off, kl = abs(np.exp(log_prob - old) - 1), heads.categorical_kl(start, logits)[0]
        figures.append([off.mean(), off.max(), kl.mean(), clip_fraction(log_prob, old, clip=0.2)])
    return np.array(figures).T


runs = {
    "unclipped": np.array([optimise(unclipped_surrogate, s) for s in range(5)]),
    "clipped, 0.2": np.array([optimise(clipped_surrogate, s) for s in range(5)]),
    "clipped, nothing shared": np.array([optimise(clipped_surrogate, s, table=True) for s in range(5)]),
}
figure, axes = plt.subplots(1, 3, figsize=(9, 3.4))
titles = ("mean |ratio - 1|", "largest |ratio - 1|", "mean KL divergence (nats)")
for i, (axis, title) in enumerate(zip(axes, titles, strict=True)):
    for name, values in runs.items():
        spread(axis, range(400), np.maximum(values[:, i], 1e-4).tolist(), name)
    axis.set(xlabel="step", title=title, yscale="log")
axes[1].axhline(0.2, color="#8c8c8c", linestyle=":", label="the interval")
axes[1].legend()

# %%
# What the figure shows
# ---------------------
# Clipping slows the drift down a great deal; it does not bound it. The ratios leave the interval because samples share
# parameters: the step that helps one sample moves another one whose own gradient is already zero. Where each state has
# logits of its own the same objective stops at the edge, but for what Adam's momentum adds.

unclipped, clipped, apart = (values[:, :, -1] for values in runs.values())
print("at the end                mean |r-1|   max |r-1|   KL   ratios outside")
for name, values in runs.items():
    print(f"{name:25}", values[:, :, -1].mean(0).round(3))
assert (clipped[:, 0] < 0.5 * unclipped[:, 0]).all(), "clipping slows the mean drift in every seed"
assert (clipped[:, 2] < 0.5 * unclipped[:, 2]).all(), "and the divergence"
assert (clipped[:, 1] > 3 * 0.2).all(), "but the largest ratio is far outside the interval: no trust region"
assert (clipped[:, 3] > 0.5).all(), "and most of the others are outside, too"
assert (apart[:, 1] < 2 * 0.2).all(), "because samples share parameters"

# %%
# .. claim:: Clipping takes away the incentive to move the ratio out of its interval, and so keeps updates small
#     without a constraint.
#     :experiment: 400 full-batch steps of Adam on one batch of 512 states, five seeds
#     :controls: the unclipped surrogate; the interval itself; a policy whose states share no parameters
#     :shown: in part: ratios and divergence drift less than half as far in every seed, but the largest ratio ends more
#         than three times as far out as the interval's edge: it is no trust region. Where nothing is shared it comes
#         close to one: no ratio ends twice as far out as the edge
