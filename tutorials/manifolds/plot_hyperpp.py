"""
How far out may a feature lie?
==============================

A policy reads its logits off a point of hyperbolic space. Far from the origin there is room for whole trees of states.
What does one step of an optimiser do to a policy whose features lie out there?
"""

# %%
# One step, from nearer and farther
# ---------------------------------
# A hyperboloid head with 8 actions, 32 features for each of 16 states, all in random directions and all of one length
# R. One step on the policy-gradient loss, a weighted cross-entropy of the actions taken, by the sign of the gradient
# (which is Adam's first step) or by the gradient itself. *Predict before you run*: by what factor does the largest
# ratio of new and old probabilities grow from R = 1.4 to R = 10?

import math

import numpy as np

from trref.experiments.figures import COLOURS, use_style
from trref.manifolds.hyperbolic_head import exp_hyperboloid, hyperbolic_cross_entropy, hyperboloid_logits
from trref.manifolds.hyperpp import bounded_features
from trref.nn.heads import log_softmax

plt = use_style()
SEEDS, N, D, K = range(5), 16, 32, 8
RADII = np.array([0.5, 1.395, 3.0, 6.0, 10.0])


def after_a_step(seed, R, rule):
    """Mean divergence KL(old‖new) and the largest ratio, after a step of the head's parameters alone."""
    rng = np.random.default_rng(seed)
    v = rng.standard_normal((N, D))
    v *= R / np.linalg.norm(v, axis=1, keepdims=True)
    normals, offsets = rng.standard_normal((K, D)) / math.sqrt(D), np.zeros(K)
    actions, x = rng.integers(0, K, N), exp_hyperboloid(v)
    _, gradient = hyperbolic_cross_entropy(v, normals, offsets, actions)
    lr = {"sign": 5e-3, "gradient": 5e-2}[rule]
    step = np.sign if rule == "sign" else np.asarray
    new = (normals - lr * step(gradient.normals), offsets - lr * step(gradient.offsets))
    before = log_softmax(hyperboloid_logits(x, normals, offsets))
    after = log_softmax(hyperboloid_logits(x, *new))
    divergence = (np.exp(before) * (before - after)).sum(1).mean()
    return divergence, np.exp((after - before).max())


steps = {rule: np.array([[after_a_step(s, R, rule) for R in RADII] for s in SEEDS]) for rule in ("sign", "gradient")}
for rule, table in steps.items():
    print(rule, "| KL", np.median(table[:, :, 0], 0).round(4), "| largest ratio", np.median(table[:, :, 1], 0).round(2))

# %%
# What bounds the length
# ----------------------
# The features of an encoder that has grown, of scale 1 to 100, in 8 to 1024 dimensions: after the normalisation and the
# learned share (:eq:`hyperpp-features`, here with the share all let out), and with tanh and the learned share alone,
# without the division by the root of D and without the normalisation.

DIMENSIONS = 2 ** np.arange(3, 11)


def longest(D, scale, kind):
    """The longest of 100 features."""
    a = scale * np.random.default_rng(D).standard_normal((100, D))
    if kind == "bounded":
        v = bounded_features(a, np.zeros(D), np.asarray(30.0))
    else:
        v = math.atanh(0.95) * np.tanh(a)
    return np.linalg.norm(v, axis=1).max()


lengths = {
    kind: np.array([[longest(D, scale, kind) for D in DIMENSIONS] for scale in (1.0, 100.0)])
    for kind in ("bounded", "tanh alone")
}
figure, axes = plt.subplots(1, 2)
for (rule, table), colour in zip(steps.items(), COLOURS, strict=False):
    axes[0].semilogy(RADII, table[:, :, 1].T, color=colour, alpha=0.3)
    axes[0].semilogy(RADII, np.median(table[:, :, 1], 0), "o-", color=colour, label=f"step by the {rule}")
bound = math.tanh(1) * math.atanh(0.95)
axes[0].axvline(bound, ls="--", color=COLOURS[-1], label="bound of Hyper++")
axes[0].set(xlabel="length R of the features", ylabel="largest ratio after one step")
axes[0].legend()
for kind, colour in zip(lengths, COLOURS[2:], strict=False):
    axes[1].loglog(DIMENSIONS, lengths[kind][0], "o-", color=colour, label=f"{kind}, scale 1")
    axes[1].loglog(DIMENSIONS, lengths[kind][1], "s--", color=colour, label=f"{kind}, scale 100")
axes[1].axhline(bound, ls="--", color=COLOURS[-1])
axes[1].set(xlabel="dimensions", ylabel="length of the longest feature", ylim=(0.5, 400))
axes[1].legend()

# %%
# Within the bound a step of this size changes no probability by much; at R = 10 the same step changes some by orders of
# magnitude, though the policy has not moved in the sense of its parameters. The bound does not depend on the dimension
# nor on what the encoder does.

for table in steps.values():
    ratios, divergences = table[:, :, 1], table[:, :, 0]
    assert (ratios[:, 1] < 1.35).all(), "at the bound of Hyper++"
    assert (ratios[:, 4] > 3 * ratios[:, 1]).all(), "far out, in every seed"
    assert (divergences[:, 4] > 30 * divergences[:, 1]).all(), "the trust region is left"
    assert (np.diff(np.log(ratios), axis=1) > 0).all(), "the farther, the worse"
assert (lengths["bounded"] <= bound).all(), "in any dimension, at any scale"
assert lengths["tanh alone"][1, -1] > 30 * bound, "which tanh alone does not give"

# %%
# .. claim:: Features of large norm let one optimiser step leave PPO's trust region; bounding the norm prevents it, in
#     any dimension.
#     :experiment: one step of a hyperboloid head of 8 actions on 16 states, features of length 0.5 to 10, by sign and
#         by gradient; 5 seeds. No agent is trained.
#     :controls: the same step from features of other lengths; tanh without the normalisation
#     :shown: yes, for one step: ratios grow with the length in every seed, and the bound holds for 8 to 1024 dimensions
#
# Divide the normals by 10 (the small initialisation of some heads): at which R does the trouble begin now? Let the
# step act on the features instead of the head: does it grow with R, too?
