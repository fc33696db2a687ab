"""
A second look before an answer is trusted
=========================================

A model compares images with words and is too sure of itself. Does it help to ask another embedding whether the image
looks like others of the class that was named? And is it the second look that helps, or what is looked with?
"""

# %%
# Two embeddings of digits
# ------------------------
# "Image and text": pixels, projected to 24 dimensions at random, against class means with noise, which is right for
# about two digits of three. The other embedding: hidden units of a network that learnt on 300 digits. As
# controls, other random projections of the same pixels, to 24 dimensions and to 2. Prototypes come from 16 images a
# class.

import numpy as np

from trref.experiments.figures import spread, use_style
from trref.experiments.training import fit
from trref.nn import mlp
from trref.problems.digits import digits
from trref.problems.networks import ClassifierLoss
from trref.shift.trustvlm import (
    auroc,
    false_positive_rate,
    prototypes,
    risk_coverage,
    trust_scores,
    voted_scores,
    zero_shot_logits,
)

plt = use_style()
seeds = range(5)
data = digits(train=1000)
X, y, X_test, y_test = data


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def run(seed):
    rng = np.random.default_rng(seed)
    projection, other = rng.standard_normal((2, 64, 24))
    centred = X.mean(0)
    means = np.stack([((X - centred) @ projection)[y == c].mean(0) for c in range(10)])
    text = means + 1.1 * np.std(means) * rng.standard_normal(means.shape)
    logits = zero_shot_logits((X_test - centred) @ projection, text, scale=10.0)

    loss = ClassifierLoss(X[:300], y[:300], (64, 64, 10), "relu")
    theta = fit(loss, mlp.init(rng, loss.sizes, scale=2**0.5), rng, batch=30, steps=400, lr=2e-3).theta
    hidden = lambda x: mlp.forward(theta, x, loss.sizes, "relu")[1].inputs[1]  # noqa: E731
    shots = np.concatenate([np.flatnonzero(y == c)[:16] for c in range(10)])

    def look(embed):
        mu = prototypes(embed(X[shots]), y[shots], classes=10)
        one = trust_scores(logits, embed(X_test), mu)
        alone = trust_scores(logits, embed(X_test), mu, alpha=1e6)
        return one, alone, voted_scores(logits, embed(X_test), mu, temperature=0.1)

    one, alone, voted = look(hidden)
    same, _, _ = look(lambda x: x @ other)
    poor, _, _ = look(lambda x: (x - centred) @ other[:, :2])
    text_alone = trust_scores(logits, X_test, np.zeros((10, 64)), alpha=0.0)
    return {
        "text alone": text_alone,
        "TrustVLM": one,
        "image alone": alone,
        "voted": voted,
        "TrustVLM, 24 projections": same,
        "TrustVLM, 2 projections": poor,
    }


runs = [run(seed) for seed in seeds]

# %%
# Risk against coverage
# ---------------------

names = list(runs[0])
right = lambda trust: (trust.prediction == y_test).astype(float)  # noqa: E731
curves = {n: [risk_coverage(r[n].score, right(r[n])) for r in runs] for n in names}
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
coverage = np.arange(1, len(y_test) + 1) / len(y_test)
for name in names:
    spread(axes[0], coverage[20:], [c.risk[20:].tolist() for c in curves[name]], name)
axes[0].set(xlabel="share of answers that is accepted", ylabel="share of errors among them")
axes[0].legend(fontsize=7)
shown = runs[0]["TrustVLM"]
for kind, label in ((1, "right"), (0, "wrong")):
    axes[1].hist(shown.score[right(shown) == kind], bins=30, alpha=0.6, density=True, label=label)
axes[1].set(xlabel="score, one split", ylabel="density")
axes[1].legend()

# %%
# What the figures show
# ---------------------
# The second look lowers the area below the curve and the errors that pass, and nothing was trained for it. Where
# prototypes may vote, many more answers are right. It is what is looked with that helps: in two dimensions all of the
# gain is lost. But another 24 projections of the same pixels do as well as the trained network, for prototypes made of
# images are better than the noisy words. The second look alone, without the sum, is better still.

table = {}
for name in names:
    table[name] = np.array(
        [
            [
                right(r[name]).mean(),
                1000 * c.area,
                auroc(r[name].score, right(r[name])),
                false_positive_rate(r[name].score, right(r[name])),
            ]
            for r, c in zip(runs, curves[name], strict=True)
        ],
        float,
    )
    print(
        f"{name:27} accuracy, area x 1000, AUROC, FPR:", table[name].mean(0).round(3), "±", table[name].std(0).round(3)
    )
text, trust, vote, bad = (table[n] for n in ("text alone", "TrustVLM", "voted", "TrustVLM, 2 projections"))
assert (trust[:, 1] < 0.85 * text[:, 1]).all(), "the area falls, in every split"
assert (trust[:, 2] > text[:, 2] + 0.03).all() and (trust[:, 3] < text[:, 3]).all(), "errors are found, in every split"
assert (vote[:, 0] > text[:, 0] + 0.05).all(), "voting makes more answers right, in every split"
gain, small = text[:, 1] - trust[:, 1], text[:, 1] - bad[:, 1]
assert small.mean() < gain.mean() / 4, "a poor embedding does not help"

# %%
# **Exercises.** (1) How does the area depend on the weight of the cosine, and on the number of images a class? (2) Why
# may the sum of the second version not be read as a probability? (3) Add a common vector to all embeddings: what
# becomes of the cosines, and what does centring do?
#
# .. claim:: Adding the similarity to the visual prototype of the predicted class to the confidence finds errors better,
#         without training; letting prototypes vote makes more answers right.
#     :experiment: two embeddings of digits in the place of text and image encoders, 797 test images, five splits
#     :controls: the confidence from text alone; other random projections of the pixels, many and few
#     :shown: yes, in every split; with a poor second embedding the gain is lost, and image prototypes alone do better
#         than the sum
