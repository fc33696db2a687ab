"""
When the sampler is not the policy: six ways to weigh an answer
===============================================================

The inference engine that samples answers is never quite the policy that is trained. Weights can correct for that, of
tokens, of answers, or of something between, truncated or masked. Which of them are right on average, and at what price?
"""

# %%
# Bias and variance, exactly
# --------------------------
# A policy of three tokens over four positions has 81 answers, so every mean can be computed. A random reward for each
# answer, a sampler whose logits differ by a noise of growing size, five policies. For each weight: how far the expected
# gradient is from the true one, and the root of the variance of a single sample, both relative to the true gradient.

import itertools

import numpy as np
from scipy.special import log_softmax

from trref.experiments.figures import spread, use_style
from trref.experiments.tokens import train
from trref.tokens.rollout_correction import rollout_corrected, rollout_weight

plt = use_style()
V, T, SEEDS, DISTANCES = 3, 4, range(5), np.geomspace(0.1, 2, 7)
ANSWERS = np.array(list(itertools.product(range(V), repeat=T)))
FREE = 1e12
WEIGHTS = {
    "none": {"lower": 1.0, "upper": 1.0},
    "token": {"upper": FREE},
    "token, at most 2 (TIS)": {"upper": 2.0},
    "token, 0.5 to 5 (IcePop)": {"rule": "mask", "lower": 0.5, "upper": 5.0},
    "geometric mean": {"level": "geometric", "upper": FREE},
    "answer": {"level": "sequence", "upper": FREE},
    "answer, at most 2 (TIS)": {"level": "sequence", "upper": 2.0},
}


def exact(seed, distance):
    """Bias and deviation of the estimate from one sampled answer, for each weight."""
    rng = np.random.default_rng(seed)
    base, noise = rng.standard_normal((2, T, V))
    reward = rng.standard_normal(len(ANSWERS))
    old, sampler = log_softmax(base, -1), log_softmax(base + distance * noise, -1)
    at, rows = np.arange(T), len(ANSWERS)
    score = np.zeros((rows, T, T, V))
    score[:, at, at] = np.eye(V)[ANSWERS] - np.exp(old)
    log_old, log_sampler = old[at, ANSWERS], sampler[at, ANSWERS]
    true = np.einsum("n,n,ntab->ab", np.exp(log_old.sum(1)), reward, score)
    p, size, result = np.exp(log_sampler.sum(1)), np.linalg.norm(true), []
    for hyper in WEIGHTS.values():
        coefficient = (
            -rows
            * T
            * rollout_corrected(
                log_old, log_old, reward, np.ones((rows, T)), log_sampler, aggregation="seq_mean", **hyper
            )[1]
        )
        samples = np.einsum("nt,ntab->nab", coefficient, score)
        mean = np.einsum("n,nab->ab", p, samples)
        variance = np.einsum("n,nab->", p, (samples - mean) ** 2)
        result.append((np.linalg.norm(mean - true) / size, np.sqrt(variance) / size))
    return result


found = np.array([[exact(seed, distance) for distance in DISTANCES] for seed in SEEDS])
figure, axes = plt.subplots(1, 3, figsize=(12, 3.8))
for k, name in enumerate(WEIGHTS):
    axes[0].loglog(DISTANCES, np.maximum(np.median(found[:, :, k, 0], 0), 1e-4), label=name)
    axes[1].loglog(DISTANCES, np.median(found[:, :, k, 1], 0), label=name)
axes[0].set(xlabel="distance of the sampler", ylabel="bias (at least 1e-4)", title="on average")
axes[1].set(xlabel="distance of the sampler", ylabel="deviation of one sample", title="how it scatters")
axes[0].legend(fontsize=6)
bias = dict(zip(WEIGHTS, found[:, -2, :, 0].T, strict=True))
deviation = dict(zip(WEIGHTS, found[:, -2, :, 1].T, strict=True))
for name in WEIGHTS:
    print(f"{name:26s} bias {np.round(bias[name], 2)}  deviation {np.round(deviation[name], 1)}")
assert (bias["answer"] < 1e-10).all(), "the answer's weight alone is unbiased"
assert all((bias[name] > 0.02).all() for name in WEIGHTS if name != "answer"), "everything else has a bias"
assert (deviation["answer"] > deviation["answer, at most 2 (TIS)"]).all(), "truncation buys variance with bias"
assert (deviation["answer"] > deviation["token, at most 2 (TIS)"]).all()

# %%
# Long answers
# ------------
# The price of the product grows with the length: token log-ratios of deviation 0.1, 8,000 answers. The effective
# sample size is the share of the answers that an unweighted mean would need for the same variance.

lengths, rng = np.unique(np.geomspace(1, 512, 19).astype(int)), np.random.default_rng(0)
effective = {name: [] for name in ("token", "geometric mean", "answer", "answer, at most 2 (TIS)")}
for length in lengths:
    d = 0.1 * rng.standard_normal((8_000, length)) - 0.005
    for name, values in effective.items():
        w = rollout_weight(d, 0 * d, np.ones_like(d), **WEIGHTS[name])[:, 0]
        values.append(w.mean() ** 2 / (w**2).mean())
for name, values in effective.items():
    axes[2].semilogx(lengths, values, label=name)
axes[2].set(xlabel="length of the answer", ylabel="effective sample size", title="what length does")
axes[2].legend(fontsize=7)
print("effective sample size at length 512", {name: round(values[-1], 3) for name, values in effective.items()})
assert effective["answer"][-1] < 0.1 < 0.9 < effective["token"][-1], (
    "the product collapses, the token's weight does not"
)
assert effective["answer, at most 2 (TIS)"][-1] > 2 * effective["answer"][-1]

# %%
# Does it matter for training?
# ----------------------------
# The small token task, sampled by a policy that is eight iterations old, with the trainer's policy as the old one: no
# correction, against three corrections; five seeds.

CHOSEN = ("none", "token, at most 2 (TIS)", "token, 0.5 to 5 (IcePop)", "answer, at most 2 (TIS)")
curves = {
    name: [
        train(rollout_corrected, seed=seed, hyper=WEIGHTS[name], lag=8, lr=0.1, iterations=40).success for seed in SEEDS
    ]
    for name in CHOSEN
}
figure, axis = plt.subplots()
for name, runs in curves.items():
    spread(axis, range(1, 41), runs, name)
axis.set(xlabel="iteration", ylabel="probability of a right answer", title="Sampled eight iterations ago")
axis.legend(fontsize=8)
ends = {name: np.array(runs)[:, -10:].mean(1) for name, runs in curves.items()}
for name, values in ends.items():
    print(f"{name:26s} at the end {values.mean():.3f}  (seeds {np.round(values, 2)})")
assert all((values > 0.5).all() for values in ends.values()), "all of them learn"
gap = ends["token, at most 2 (TIS)"].mean() - ends["none"].mean()
print(f"TIS less no correction {gap:+.3f}; the seeds scatter by {ends['none'].std():.3f}")
assert abs(gap) < ends["none"].std(), "on a task this small the correction does not show"

# %%
# .. claim:: Truncated weights make training with a mismatched sampler stable, at little bias.
#     :experiment: exact means over 81 answers, five policies; weights of long answers; a task of a few tokens with a
#         sampler that is eight iterations old, five seeds
#     :controls: no weight; untruncated weights of tokens and of answers; IcePop; the geometric mean
#     :shown: in part: the answer's weight alone is unbiased, and collapses with the length; truncating it buys the
#         variance back at a smaller bias than any weight of tokens has. In training the corrections of tokens do not
#         show beside the scatter of the seeds; the collapse of large models, which they prevent, is not tried
