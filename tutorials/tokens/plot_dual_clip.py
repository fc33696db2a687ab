"""
When one bad token rules the batch
==================================

The clipped objective bounds what a good token can earn, and does not bound what a bad one can cost: for a negative
advantage the loss grows with the ratio without end. We look at the term, and at batches of stale answers.
"""

# %%
# The term of a bad token
# -----------------------

import numpy as np

from trref.experiments.figures import COLOURS, use_style
from trref.tokens.dual_clip import dual_clip, two_sided_clip
from trref.tokens.grpo import grpo

plt = use_style()
ratios = np.linspace(0.2, 6, 300)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
for advantage, style in ((-1.0, "-"), (1.0, "--")):
    batches = [(np.log([[r]]), np.zeros((1, 1)), np.array([advantage]), np.ones((1, 1))) for r in ratios]
    for (name, f), colour in zip({"GRPO": grpo, "dual clip, c = 3": dual_clip}.items(), COLOURS, strict=False):
        label = f"{name}, advantage {advantage:+.0f}"
        axes[0].plot(ratios, [f(*b)[0] for b in batches], style, color=colour, label=label)
axes[0].set(xlabel="ratio", ylabel="loss of one token", title="bounded from both sides")
axes[0].legend(fontsize=8)

# %%
# Stale answers
# -------------
# Answers of an old policy; the log-ratios have a deviation that grows with staleness. We ask how much of the squared
# gradient comes from the largest one per cent of the tokens, over twenty batches of 64 answers of 32 tokens.

spreads, share = np.linspace(0.1, 2.0, 12), {"GRPO": [], "dual clip": [], "two-sided clip": []}
for sigma in spreads:
    seen = {name: [] for name in share}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        old = -rng.exponential(1.5, (64, 32))
        batch = (old + sigma * rng.standard_normal((64, 32)), old, rng.standard_normal(64), np.ones((64, 32)))
        for name, f in zip(share, (grpo, dual_clip, two_sided_clip), strict=True):
            squares = np.sort(f(*batch)[1].ravel() ** 2)
            seen[name].append(squares[-20:].sum() / squares.sum())
    for name, values in seen.items():
        share[name].append((np.mean(values), np.std(values)))
for name, style in zip(share, ("-", "-", ":"), strict=True):
    mean, deviation = np.array(share[name]).T
    (line,) = axes[1].plot(spreads, mean, style, label=name)
    axes[1].fill_between(spreads, mean - deviation, mean + deviation, color=line.get_color(), alpha=0.2, linewidth=0)
axes[1].set(xlabel="deviation of the log-ratios", ylabel="share of the squared gradient", ylim=(0, 1))
axes[1].set_title("the largest 1 % of the tokens")
axes[1].legend(fontsize=8)

# %%
# On nearly fresh data the bound never acts; on stale data it takes the rule away from a handful of tokens. The price is
# the one of all clips: beyond the bound a bad token is no longer pulled back at all.

print("staleness 0.1 and 2.0:", {k: (round(v[0][0], 3), round(v[-1][0], 3)) for k, v in share.items()})
assert share["GRPO"][0] == share["dual clip"][0], "fresh data: no difference"
assert share["GRPO"][-1][0] > 1.5 * share["dual clip"][-1][0], "stale data: a few tokens no longer rule"
assert np.allclose(share["dual clip"], share["two-sided clip"]), "the two clips are one function here"
far = np.log([[5.0]]), np.zeros((1, 1)), -np.ones(1), np.ones((1, 1))
assert grpo(*far)[1] > 4.99 and dual_clip(*far)[1] == 0, "beyond the bound a bad token is not pulled back at all"

# %%
# .. claim:: A bound on the loss of bad tokens keeps training stable on data far from the policy.
#     :experiment: gradients on twenty synthetic batches of 64 answers of 32 tokens, fresh to very stale; nothing is
#         trained
#     :controls: GRPO; the two-sided clip
#     :shown: in part: on stale data the largest one per cent of the tokens no longer rule the gradient, on fresh data
#         nothing changes; what that does to training is not tried
