"""
Advantages of tokens under the ratio of the answer
==================================================

GSPO's loss may be given an advantage for each token. What it makes of them is their mean. GSPO-token keeps the loss and
changes its gradient: each token answers for itself.
"""

# %%
# One answer, two halves
# ----------------------
# Eight tokens, four good and four bad ones. GSPO's gradient is exactly 0. Under GSPO-token the halves move apart while
# the answer's ratio stays within the clip, which is narrow: it concerns the mean.

import numpy as np
from scipy.special import expit

from trref.experiments.figures import spread, use_style
from trref.tokens.grpo import grpo
from trref.tokens.gspo import gspo
from trref.tokens.gspo_token import gspo_token

plt = use_style()
old, mask, A = np.full((1, 8), -1.0), np.ones((1, 8)), np.array([[1.0] * 4 + [-1.0] * 4])
print("at first: GSPO", gspo(old, old, A, mask)[1][0], " GSPO-token", gspo_token(old, old, A, mask)[1][0])
assert not gspo(old, old, A, mask)[1].any(), "the mean of the advantages is 0, and so is GSPO's gradient"
moved = old.copy()
for _ in range(10):
    moved = moved - 0.1 * gspo_token(moved, old, A, mask)[1]
print("log-ratios after ten steps of GSPO-token", np.round((moved - old)[0], 3))
assert (moved - old)[0, :4].min() > 0.05 and (moved - old)[0, 4:].max() < -0.05

# %%
# Above the interval only bad tokens move, which lowers the answer's ratio; below it only good ones. With tokens of both
# signs the clip therefore pulls back from both sides. GSPO pulls back as well, by all tokens alike.

for d, name in ((8e-4, "above"), (-8e-4, "below")):
    step, other = (-f(old + d, old, A, mask)[1][0] for f in (gspo_token, gspo))
    print(
        f"{name} the interval: good tokens {step[0]:+.3f}, bad ones {step[4]:+.3f}; GSPO {other[0]:+.3f}, all of them"
    )
    assert step.sum() * d < 0, "the mean log-ratio is pulled back"
    assert np.allclose(other, step.mean()), "GSPO moves good and bad tokens alike"

# %%
# Credit for tokens
# -----------------
# A policy of twelve independent binary tokens; each has a right value, and a judge of the process says of each token
# whether it is right. Advantages are standardised at each position over 32 answers. We follow the mean probability of
# the right value, for four steps on each batch and five seeds. GSPO sees of the judge the mean over the answer.

T, B, BATCHES, SEEDS = 12, 32, 40, range(5)
LOSSES = {
    "GSPO-token": (gspo_token, {"clip_low": 0.05, "clip_high": 0.05}),
    "GSPO, advantages of tokens": (gspo, {"clip_low": 0.05, "clip_high": 0.05}),
    "GSPO-token, one advantage": (gspo_token, {"clip_low": 0.05, "clip_high": 0.05}),
    "GRPO, advantages of tokens": (grpo, {}),
}


def learn(name, seed, lr=4.0):
    loss, hyper = LOSSES[name]
    rng, theta, history = np.random.default_rng(seed), np.zeros(T), []
    right = rng.integers(0, 2, T)
    for _ in range(BATCHES):
        taken = (rng.random((B, T)) < expit(theta)).astype(float)
        judged = (taken == right).astype(float)
        each = (judged - judged.mean(0)) / (judged.std(0) + 1e-6)
        advantage = each.mean(1) if "one advantage" in name else each

        def log_prob(z, taken=taken):
            return -np.logaddexp(0, np.where(taken == 1, -z, z))

        old = log_prob(theta)
        for _ in range(4):
            _, gradient = loss(log_prob(theta), old, advantage, np.ones((B, T)), **hyper)
            theta = theta - lr * (gradient * (taken - expit(theta))).sum(0)
        history.append(np.where(right == 1, expit(theta), expit(-theta)).mean())
    return history


figure, axis = plt.subplots()
runs = {name: [learn(name, seed) for seed in SEEDS] for name in LOSSES}
for name, values in runs.items():
    spread(axis, range(1, BATCHES + 1), values, name)
axis.set(xlabel="batch", ylabel="probability of the right token", title="A judge of tokens")
axis.legend(fontsize=8)

half = {name: np.array(values)[:, BATCHES // 2] for name, values in runs.items()}
for name, values in half.items():
    print(f"{name:28s} after {BATCHES // 2} batches {values.mean():.3f}  (seeds {np.round(values, 3)})")
assert (half["GSPO-token"] > half["GSPO, advantages of tokens"] + 0.05).all(), "credit for tokens learns faster"
assert (half["GSPO-token"] > half["GSPO-token, one advantage"] + 0.05).all(), "without it, it is no better than GSPO"
assert (half["GRPO, advantages of tokens"] > half["GSPO, advantages of tokens"] + 0.05).all(), "so it does in GRPO"

# %%
# .. claim:: GSPO-token allows advantages of tokens, and equals GSPO where each answer has one.
#     :experiment: one answer of two halves; twelve binary tokens with a judge of each token, five seeds
#     :controls: GSPO with the same advantages; GSPO-token with their mean; GRPO
#     :shown: yes: with advantages of tokens it learns faster than GSPO in every seed. That it is better than GRPO,
#         which can do the same, does not show here
