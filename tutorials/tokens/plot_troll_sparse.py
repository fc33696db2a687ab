"""
How many tokens does a projection need?
=======================================

A row of a language model has 150,000 probabilities, and TROLL projects every row of every answer. The authors keep a
handful of tokens a row, and say that 5 to 10 are the rule. How much of the loss and of its gradient is lost with the
others?
"""

# %%
# Long-tailed rows
# ----------------
# 2,000 tokens. The old policy's logits fall with the logarithm of the rank, as frequencies of words do, the new policy
# has moved; some rows are nearly certain, as most rows of a language model are. Answers are sampled from the old
# policy. One batch a seed, 5 seeds.

import numpy as np
from scipy.special import log_softmax

from trref.experiments.figures import spread, use_style
from trref.tokens.troll import troll
from trref.tokens.troll_sparse import support, troll_sparse

plt = use_style()
B, T, V, SEEDS = 4, 6, 2000, range(5)


def batch(seed, exponent):
    rng = np.random.default_rng(seed)
    order = rng.permuted(np.tile(np.arange(V), (B, T, 1)), axis=-1)
    old = -exponent * np.log(1 + order)
    p = np.exp(log_softmax(old, -1))
    actions = (p.cumsum(-1) < rng.random((B, T, 1))).sum(-1).clip(max=V - 1)
    logits = old + 0.7 * rng.standard_normal((B, T, V))
    return logits, old, actions, rng.standard_normal(B), np.ones((B, T))


def errors(inputs, keep):
    """Of loss and gradient, relative; and how many tokens a row keeps."""
    loss, gradient = troll(*inputs)
    sparse = troll_sparse(*inputs, keep)
    return abs(sparse[0] / loss - 1), abs(sparse[1] - gradient).sum() / abs(gradient).sum(), keep.sum(-1).mean()


TAILS = {"heavy tail": 1.5, "usual tail": 3.0, "nearly certain": 6.0}
COUNTS = (1, 2, 4, 8, 16, 32, 64)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.8))
found = {}
for name, exponent in TAILS.items():
    batches = [batch(seed, exponent) for seed in SEEDS]
    found[name] = np.array([[errors(x, support(*x[:3], K=K)) for K in COUNTS] for x in batches])
    spread(axes[0], COUNTS, found[name][..., 1], name)
    spread(axes[1], COUNTS, found[name][..., 2], name)
    row = found[name][:, -1].mean(0)
    print(f"{name:15s} K = 64: {row[2]:5.1f} tokens a row, loss off by {row[0]:.1e}, gradient by {row[1]:.1e}")
axes[0].set(xlabel="K", ylabel="error of the gradient, relative", xscale="log", yscale="log")
axes[1].set(xlabel="K", ylabel="tokens a row", xscale="log", yscale="log")
axes[0].legend(fontsize=8)

# %%
# The sampled token alone would not do
# ------------------------------------
# The control keeps as many tokens as the rule does, but at random, beside the sampled one.

rng, random = np.random.default_rng(0), {}
for name, exponent in TAILS.items():
    rows = []
    for seed in SEEDS:
        x = batch(seed, exponent)
        count = support(*x[:3]).sum(-1, keepdims=True)
        keep = (rng.random((B, T, V)).argsort(-1).argsort(-1) < count).astype(float)
        np.put_along_axis(keep, x[2][..., None], 1.0, -1)
        rows.append(errors(x, keep))
    random[name] = np.array(rows)
    print(f"{name:15s} at random: gradient off by {random[name][:, 1].mean():.2f}")

# %%
# Where rows are nearly certain, as the rule assumes, a handful of tokens gives the gradient to four digits. Where the
# tail is heavy, 64 of 2,000 tokens hold too little of the mass, and the error stays large: the cap then decides, not
# the mass.

certain, heavy = found["nearly certain"], found["heavy tail"]
assert (certain[:, -1, 2] < 20).all(), "a handful of tokens a row"
assert (certain[:, -1, 1] < 1e-3).all(), "the gradient is nearly that of all tokens, in every seed"
assert (heavy[:, -1, 1] > 10 * certain[:, -1, 1]).all(), "a heavy tail is cut by K, not by the mass"
for name in TAILS:
    assert (random[name][:, 1] > 3 * found[name][:, -1, 1]).all(), "as many tokens at random give another gradient"

# %%
# .. claim:: A handful of tokens of each row is enough for the projection and its gradient.
#     :experiment: rows of 2,000 tokens with three tails, K from 1 to 64, 5 seeds
#     :controls: as many tokens at random; heavier tails
#     :shown: yes where rows are nearly certain; not where the tail is heavy, which K cuts off
