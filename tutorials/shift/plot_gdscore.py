"""
How wrong is a network on data without labels?
==============================================

A network is put to work on images unlike those it learnt from. Nobody labels them. Does the size of the gradient that
it would follow, were its own labels true, say how many of them are wrong?
"""

# %%
# Shifted sets
# ------------
# A network is trained on clean digits. 600 test digits are corrupted in five ways, each in six severities.

import numpy as np
from scipy import stats

from trref.experiments.classifiers import digits_task, train
from trref.experiments.figures import use_style
from trref.nn import mlp
from trref.nn.heads import log_softmax
from trref.problems.corruptions import corrupt
from trref.shift.gdscore import gdscore

plt = use_style()
seeds, severities = range(3), (0.0, 0.1, 0.2, 0.35, 0.5, 0.75)
kinds = ("noise", "blur", "occlusion", "contrast", "rotation")
task = digits_task(points=1000, sizes=(64, 64, 10))
X, y, sizes = task.X_test[:600], task.y_test[:600], task.loss.sizes
powers = (0.1, 0.3, 0.5, 1.0, 2.0)


def measure(seed):
    theta = train(task, seed=seed, epochs=25, lr=2e-3).theta
    _, (W, b) = mlp.unpack(theta, sizes)
    rows = []
    for kind in kinds:
        for severity in severities:
            rng = np.random.default_rng([seed, kinds.index(kind)])
            logits, cache = mlp.forward(theta, corrupt(X, kind, severity, rng.standard_normal(X.shape)), sizes, "relu")
            log_p, z, u = log_softmax(logits), cache.inputs[1], rng.random(600)
            scores = [np.log10(float(gdscore(z, W, b.ravel(), u, p=p, batch=100))) for p in powers]
            unsure = [1 - np.exp(log_p).max(1).mean(), -(np.exp(log_p) * log_p).sum(1).mean()]
            rows.append([(logits.argmax(1) == y).mean(), *unsure, *scores])
    return rows


table = np.array([measure(seed) for seed in seeds]).reshape(3, len(kinds), len(severities), -1)
accuracy, others = table[..., 0], table[..., 1:]

# %%
# Score against accuracy
# ----------------------

figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
for k, kind in enumerate(kinds):
    axes[0].plot(accuracy[0, k], others[0, k, :, 3], marker="o", ms=3, label=kind)
axes[0].set(xlabel="accuracy", ylabel="log10 of the score, p = 0.3")
axes[0].legend(fontsize=7)
names = ["1 - confidence", "entropy", *(f"score, p = {p:g}" for p in powers)]
flat = others.reshape(3, -1, len(names))
rho = np.array([[stats.spearmanr(flat[s, :, j], accuracy[s].ravel())[0] for j in range(len(names))] for s in seeds])
axes[1].bar(range(len(names)), -rho.mean(0), yerr=rho.std(0))
axes[1].set(xlabel="predictor", ylabel="rank correlation with the error, all sets")
axes[1].set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=7)

# %%
# What the figures show
# ---------------------
# Within one kind of corruption, as long as half of the answers are right, the score rises as the accuracy falls. Over
# all kinds together it is a fair predictor and no more: plain confidence does better, and p = 0.3 is not the best
# exponent, for a network this small; the paper studies large ones. Where a network is wrong and sure of it, as on
# turned digits, curves flatten or turn back.


def order(seed, kind):
    """Rank correlation of the score with the accuracy, where at least half of the answers are right."""
    easy = accuracy[seed, kind] > 0.5
    return stats.spearmanr(others[seed, kind, easy, 3], accuracy[seed, kind, easy])[0]


within = np.array([[order(s, k) for k in range(3)] for s in seeds])
for j, name in enumerate(names):
    print(f"{name:16} rank correlation with the accuracy {rho[:, j].mean():+.2f} ± {rho[:, j].std():.2f}")
print("within noise, blur, occlusion, accuracy above one half:", within.round(2).tolist())
assert (within < -0.9).all(), "within a kind the score rises as the accuracy falls, in every seed"
assert (rho[:, 3] < -0.5).all(), "over all kinds the score of p = 0.3 is a predictor, in every seed"
assert (rho[:, 0] < rho[:, 3]).all(), "and plain confidence a better one, in every seed"

# %%
# **Exercises.** (1) Show that a network that is certain everywhere has the score 0. (2) Why may two networks not be
# compared by their scores? (3) What is the score if all labels are random, and what does it measure then?
#
# .. claim:: The size of the last layer's gradient with pseudo-labels predicts the accuracy on shifted data better than
#         other scores do, with p = 0.3 as the best exponent.
#     :experiment: a small network, digits corrupted in five ways and six severities, three seeds
#     :controls: confidence and entropy; four other exponents
#     :shown: in part: the score is monotone within a kind of corruption; over all kinds confidence predicts better, and
#         p = 0.3 is not the best exponent here
