"""
What a token surrogate does not see
===================================

Token-level objectives add up the changes of single tokens. The answer's probability multiplies them. CPPO starts from a
bound of the difference: how large is it, how tight is the bound, and what does the position of a change matter?
"""

# %%
# All answers of a small policy
# -----------------------------
# Answers of six tokens from a vocabulary of three, each token depending on the one before: 729 answers, all enumerated.
# We change the policy at one position only, or at the last token and one other.

import itertools

import numpy as np
from scipy.special import log_softmax

from trref.experiments.figures import COLOURS, spread, use_style
from trref.tokens.cppo_bound import parts_of_the_ratio, residual_bound

T, V, SEEDS = 6, 3, range(20)
ANSWERS = np.array(list(itertools.product(range(V), repeat=T)))
PREVIOUS = np.concatenate([np.zeros((len(ANSWERS), 1), int), ANSWERS[:, :-1]], axis=1)


def residual(old, new, reward):
    """The residual of the mean reward, and its two bounds."""
    rows = [log_softmax(z, -1)[np.arange(T), PREVIOUS] for z in (new, old)]
    taken = [np.take_along_axis(r, ANSWERS[..., None], 2)[..., 0] for r in rows]
    mu = np.exp(taken[1].sum(1))
    variation = abs(np.exp(rows[0]) - np.exp(rows[1])).sum(-1) / 2
    parts = parts_of_the_ratio(*taken, np.ones_like(taken[0]))
    gain = float((np.exp(taken[0].sum(1)) - mu) @ reward)
    assert np.isclose(gain, mu @ (reward * (parts.surrogate - parts.residual)), atol=1e-13), "the identity"
    return abs(float(mu @ (reward * parts.residual))), *map(float, residual_bound(mu @ variation, variation.max(0)))


steps, seen = np.geomspace(0.02, 2, 9), []
for seed in SEEDS:
    rng = np.random.default_rng(seed)
    old, noise, reward = rng.standard_normal((2, T, V, V)), rng.standard_normal((T, V, V)), rng.random(len(ANSWERS))
    seen.append([residual(old[0], old[0] + h * noise, 2 * reward - 1) for h in steps])
seen = np.array(seen)

plt = use_style()
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
for k, name in enumerate(("residual", "bound by positions", "bound by the largest")):
    spread(axes[0], steps, seen[:, :, k], name, color=COLOURS[k])
axes[0].set(xscale="log", yscale="log", xlabel="size of the change", ylabel="absolute residual, rewards in [-1, 1]")
axes[0].legend(fontsize=8)
assert (seen[..., 0] <= seen[..., 1]).all() and (seen[..., 1] <= seen[..., 2]).all(), (
    "residual, bound and looser bound are in order"
)
looseness = float(np.median(seen[..., 1] / seen[..., 0]))
print(f"the bound is {looseness:.0f} times the residual (median)")
assert 100 < looseness < 300, "the bound is far from tight"

# %%
# Early and late
# --------------
# The same change of one token's logits, with all other tokens changed a little, moved along the answer. The bound
# counts a change before token t with the T - t tokens after it. The residual itself hardly depends on the position: it
# is made of *pairs* of changes, and a late change pairs with all the earlier ones. Early changes weigh more only in the
# sense that one may book each pair to its earlier member.

moved = []
for seed in range(100):
    rng = np.random.default_rng([seed, 1])
    old, everywhere = rng.standard_normal((T, V, V)), 0.1 * rng.standard_normal((T, V, V))
    reward, kick = 2 * rng.random(len(ANSWERS)) - 1, rng.standard_normal((V, V))
    row = []
    for t in range(T):
        new = old + everywhere
        new[t] += kick
        row.append(residual(old, new, reward)[0])
    moved.append(row)
moved = np.array(moved)
spread(axes[1], range(1, T + 1), moved, "residual", color=COLOURS[0])
left = np.arange(T, 0, -1) - 1
axes[1].plot(range(1, T + 1), moved.mean(0)[0] * left / left[0], ":", color=COLOURS[6], label="tokens left, scaled")
axes[1].set(xlabel="position of the change", ylabel="absolute residual")
axes[1].legend()
early, late = moved[:, :2].mean(1), moved[:, -2:].mean(1)
print(f"change among the first two tokens {early.mean():.4f}, among the last two {late.mean():.4f}")
assert abs(early.mean() - late.mean()) < 3 * (early - late).std(ddof=1) / 10, "early and late tokens change alike"
assert late.mean() > 0.5 * early.mean() > 0.5 * 0.5 * late.mean(), "where the bound's weights have a ratio of 9"

# %%
# .. claim:: The error of a token surrogate is bounded, and early changes weigh more.
#     :experiment: all 729 answers of a policy of six tokens, 20 and 100 seeds
#     :controls: the identity, exactly; the same change at every position
#     :shown: in part: bounded, loosely (some 200 times); a late change leaves no smaller residual than an early one
