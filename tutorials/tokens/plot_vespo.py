"""
A weight for the whole answer that fades on both sides
======================================================

The ratio of a whole answer corrects exactly for old samples, and scatters wildly. VESPO passes it through a kernel.
What does the kernel pay in bias for what it takes from the scatter, and does training with old answers gain from it?
"""

# %%
# The kernel
# ----------
# What multiplies advantage and score, against the ratio W of an answer. Plain importance sampling follows W without
# end. GSPO's clip has no bound for bad answers that have become likely. VESPO's kernel fades for either sign.

import itertools

import numpy as np
from scipy.special import log_softmax

from trref.experiments.figures import spread, use_style
from trref.experiments.tokens import train
from trref.tokens.gspo import gspo
from trref.tokens.reinforce import reinforce
from trref.tokens.vespo import gamma_weight, vespo

plt = use_style()
PLAIN = {"k_pos": 1.0, "lambda_pos": 0.0, "k_neg": 1.0, "lambda_neg": 0.0}
W = np.geomspace(0.05, 5, 200)
log_W = np.log(W)[:, None]
figure, axes = plt.subplots(1, 3, figsize=(11, 3.5))
for sign, name in ((1.0, "good answer"), (-1.0, "bad answer")):
    axes[0].plot(W, gamma_weight(log_W, 0 * log_W, np.full(200, sign), np.ones((200, 1)))[:, 0], label=name)
axes[0].plot(W, W, ":", label="plain ratio")
axes[0].set(xlabel="ratio W of the answer", ylabel="weight", ylim=(0, 2.5))
axes[0].legend(fontsize=7)

# %%
# Bias and scatter, exactly
# -------------------------
# A policy of three tokens over four positions has 81 answers, so every mean can be computed. The answers come from an
# old policy whose logits differ by a noise of growing size; random rewards, eight pairs of policies. The error is that
# of a mean over 16 answers, as a share of the true gradient: its bias and its deviation together.

T, V, SEEDS, DISTANCES, DRAWS = 4, 3, range(8), np.geomspace(0.1, 3, 7), 16
ANSWERS = np.array(list(itertools.product(range(V), repeat=T)))
N, ones, SUM = len(ANSWERS), np.ones((81, T)), {"aggregation": "constant"}
LOSSES = {
    "no weight": lambda new, old, A: reinforce(new, A, ones),
    "GSPO, clip 0.2": lambda new, old, A: tuple(T * x for x in gspo(new, old, A, ones, clip_low=0.2, clip_high=0.2)),
    "plain ratio": lambda new, old, A: vespo(new, old, A, ones, **PLAIN, **SUM),
    "VESPO": lambda new, old, A: vespo(new, old, A, ones, **SUM),
}


def exact(seed, distance):
    """Bias and error of each loss, relative to the true gradient."""
    rng = np.random.default_rng(seed)
    base, noise = rng.standard_normal((2, T, V))
    reward = rng.standard_normal(N)
    old, new = log_softmax(base, -1), log_softmax(base + distance * noise, -1)
    at = np.arange(T)
    score = np.zeros((N, T, T, V))
    score[:, at, at] = np.eye(V)[ANSWERS] - np.exp(new)
    log_old, log_new = old[at, ANSWERS], new[at, ANSWERS]
    p_old, p_new = np.exp(log_old.sum(1)), np.exp(log_new.sum(1))
    A = reward - p_old @ reward
    true = np.einsum("n,n,ntab->ab", p_new, A, score)
    found = []
    for loss in LOSSES.values():
        samples = np.einsum("nt,ntab->nab", -N * loss(log_new, log_old, A)[1], score)
        mean = np.einsum("n,nab->ab", p_old, samples)
        variance = np.einsum("n,nab->", p_old, (samples - mean) ** 2)
        bias = ((mean - true) ** 2).sum()
        found.append(np.sqrt([bias, bias + variance / DRAWS]) / np.linalg.norm(true))
    return found


found = np.array([[exact(seed, distance) for distance in DISTANCES] for seed in SEEDS])
for k, name in enumerate(LOSSES):
    axes[1].plot(DISTANCES, np.median(found[:, :, k, 1], 0), "o-", markersize=3, label=name)
axes[1].set(xlabel="distance of the old policy", ylabel="error of the gradient", xscale="log")
axes[1].legend(fontsize=7)
bias = dict(zip(LOSSES, found[:, :, :, 0].T, strict=True))
error = dict(zip(LOSSES, found[:, :, :, 1].T, strict=True))
for name in LOSSES:
    print(f"{name:15s} bias {np.median(bias[name], 1).round(2)}, error {np.median(error[name], 1).round(2)}")

# %%
# Training with old answers
# -------------------------
# The token task, with answers that were sampled sixteen iterations ago. All losses get the log-probabilities of the
# policy that sampled. Mean and deviation of four seeds.

STEPS = 15 * np.arange(1, 5)


def of_the_sampler(loss, hyper):
    def objective(log_prob, behavior_log_prob, advantage, mask):
        return loss(log_prob, behavior_log_prob, advantage, mask, **hyper)

    return objective


TRAINED = {
    "GSPO, clip 0.2": of_the_sampler(gspo, {"clip_low": 0.2, "clip_high": 0.2}),
    "plain ratio": of_the_sampler(vespo, PLAIN),
    "VESPO": of_the_sampler(vespo, {}),
}
success = {
    name: np.array([train(objective, seed=seed, lag=16, iterations=60, every=15).success for seed in range(4)])
    for name, objective in TRAINED.items()
}
for name, curves in success.items():
    spread(axes[2], STEPS, curves.tolist(), name)
    print(f"{name:15s} success at the end {curves[:, -1].round(2)}")
axes[2].set(xlabel="iteration", ylabel="success")
axes[2].legend(fontsize=7)

# %%
# What the figures show
# ---------------------
# The plain ratio has no bias; from a distance on its scatter costs more than the bias of the clip and of the kernel.
# There VESPO's error is the smallest. But an error of 1 is that of no gradient at all: the kernel gets there by
# silence, it ignores what is too old. Near the old policy it mostly has *more* bias than no weight at all: at W = 1 the
# right weight rises with W, and the kernel of good answers falls there (its slope is k - λ = -1). In training on short
# answers the scatter does not hurt: the plain ratio learns fastest, and what VESPO holds back is missed. Very long
# answers, for which it is made, do not fit in here.

far, near = slice(-2, None), 0
assert (bias["plain ratio"] < 1e-10).all(), "the plain ratio alone is unbiased"
assert (np.median(error["VESPO"], 1)[far] < np.median(error["plain ratio"], 1)[far]).all(), "far away it errs less"
assert ((error["VESPO"] < error["plain ratio"])[far].mean(1) >= 6 / 8).all(), "for most pairs of policies"
assert (np.median(error["VESPO"], 1)[far] < np.median(error["no weight"], 1)[far]).all(), "and less than no weight"
assert (bias["VESPO"] > bias["no weight"])[near].mean() >= 6 / 8, "near the old policy it mostly has more bias"
assert (success["plain ratio"][:, -1] > success["VESPO"][:, -1]).all(), "on short answers it learns more slowly"

# %%
# .. claim:: A kernel of the answer's ratio keeps training with old answers stable, where plain ratios scatter.
#     :experiment: exact bias and error for eight pairs of policies; the token task with answers sixteen iterations old
#     :controls: the plain ratio, GSPO's clip, no weight
#     :shown: in part: far from the old policy its gradient errs less than that of the plain ratio, for six of eight
#         pairs and more, and is nearly silent; near it, it mostly has more bias than no weight. In training on short
#         answers it is the slower one
#
# Exercises
# ---------
# 1. For which k and λ does the kernel have the right slope at W = 1? What happens to the error near the old policy?
# 2. Make the answers longer (six positions). From which distance on does the plain ratio lose?
# 3. Divide the logarithm of W by the length. Which loss of the family does it come close to?
