"""
Which labels of a weak teacher to believe
=========================================

A teacher that has seen 60 digits, of which half of the pixels were blank, labels 800 more for a student. A quarter of
its labels are wrong. Can a small network tell which, from the teacher's hidden units? And is it better at that than the
teacher's own confidence?
"""

# %%
# Teacher, trust and student
# --------------------------
# The trust network learns on 440 digits whose truth is known and which the teacher has not seen.

import numpy as np

from trref.datasampling.trust_functions import (
    calibration_error,
    calibration_shift,
    correctness,
    recovery,
    select,
    trust_logits,
    trust_objective,
)
from trref.experiments.figures import spread, use_style
from trref.experiments.training import fit
from trref.experiments.training import train as steps_of
from trref.nn import flat, mlp
from trref.nn.heads import log_softmax
from trref.problems.digits import digits
from trref.problems.networks import ClassifierLoss

plt = use_style()
seeds, shares = range(5), (0.15, 0.3, 0.5, 0.75, 1.0)
data = digits(train=1300)
X_test, y_test = data.X_test, data.y_test
D, H = 16, 16
SHAPES = [(1, D), (1, D, H), (1, D, H), (1, H, D), (D,), (D,), ()]


def train(X, y, sizes, seed, steps, lr=3e-3):
    rng = np.random.default_rng([seed, steps])
    loss = ClassifierLoss(X, y, sizes, "relu")
    return loss, fit(loss, mlp.init(rng, sizes, scale=2**0.5), rng, batch=32, steps=steps, lr=lr).theta


def trust_network(u, t, seed):
    """300 steps on all data; the hidden states are scaled by their root mean square, the parameters decay."""
    rng = np.random.default_rng(seed)
    shrink = [1, 0.3 / D**0.5, 0.3 / D**0.5, 0.3 / H**0.5, 1, 0.1 / D**0.5, 0]
    start = [scale * rng.standard_normal(shape) for scale, shape in zip(shrink, SHAPES, strict=True)]
    start[0], start[4] = np.ones((1, D)), np.ones(D)

    def gradient(theta, rng):
        value, parts = trust_objective(u, t, *flat.split(theta, SHAPES))
        return value, flat.join(map(np.asarray, parts)) + 3e-3 * theta

    return steps_of(gradient, flat.join(map(np.asarray, start)), rng, lr=1e-2, steps=300).theta


def auroc(score, right):
    order = np.argsort(np.argsort(score))
    m = right.sum()
    return (order[right == 1].sum() - m * (m - 1) / 2) / (m * (len(right) - m))


def run(seed):
    rng = np.random.default_rng(seed)
    order = rng.permutation(1300)
    seen, known, target = order[:60], order[60:500], order[500:]
    blank = data.X_train * (rng.random(64) < 0.5)
    loss, teacher = train(blank[seen], data.y_train[seen], (64, 16, 10), seed, 300)
    logits, cache = mlp.forward(teacher, blank, loss.sizes, "relu")
    answers, u = logits.argmax(1), cache.inputs[1]
    right = correctness(answers, data.y_train)
    trusted = trust_network(u[known], right[known], seed)
    s = trust_logits(u[target], *flat.split(trusted, SHAPES))
    confidence = log_softmax(logits[target]).max(1)
    scores = {"trust network": s, "confidence": confidence, "at random": rng.random(800)}
    scores["trust network, each class"] = s

    def student(rows, labels):
        loss, theta = train(data.X_train[target][rows], labels[target][rows], (64, 64, 10), seed, 250)
        return float((loss.predict(theta, X_test) == y_test).mean())

    purity, accuracy = {}, {}
    for name, score in scores.items():
        group = answers[target] if "each" in name else None
        kept = [select(score, group, share=share) == 1 for share in shares]
        purity[name] = [right[target][rows].mean() for rows in kept]
        accuracy[name] = [student(rows, answers) for rows in kept[:-1]]
    all_rows = np.ones(800, bool)
    ends = [student(all_rows, answers), student(all_rows, data.y_train)]
    p = 1 / (1 + np.exp(-s))
    q = 1 / (1 + np.exp(-calibration_shift(s, prior=float(right[known].mean()))))
    calibration = [float(calibration_error(v, right[target])[0]) for v in (p, q)]
    return purity, accuracy, ends, calibration, [auroc(v, right[target]) for v in (s, confidence)]


purities, accuracies, ends, calibrations, areas = (list(part) for part in zip(*map(run, seeds), strict=True))

# %%
# Purity of what is believed, and what a student makes of it
# ----------------------------------------------------------

names = list(purities[0])
naive, truth = np.array(ends).T
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
for name in names:
    spread(axes[0], shares, [p[name] for p in purities], name, marker="o")
    spread(axes[1], shares, [[*a[name], n] for a, n in zip(accuracies, naive, strict=True)], name, marker="o")
axes[1].axhline(truth.mean(), color="k", ls=":", label="true labels")
axes[0].set(xlabel="share of the labels that is believed", ylabel="share of right labels among them")
axes[1].set(xlabel="share of the labels that is believed", ylabel="accuracy of the student")
axes[1].legend(fontsize=7)

# %%
# What the figures show
# ---------------------
# What is believed is far purer than chance. But no student gains much by it: what is believed is right, and easy, and
# of few classes. A quota for each class repairs that at the price of purity, and all students stay far from one with
# true labels. Nor does the trained network know more than the teacher's confidence does: at this scale it knows less.
# Trust is a probability only after the shift to the true rate.

half = shares.index(0.5)
P = {name: np.array([p[name][half] for p in purities]) for name in names}
A = {name: np.array([a[name][half] for a in accuracies]) for name in names}
for name in names:
    part = recovery(A[name], naive, truth)
    print(f"{name:26} purity {P[name].mean():.3f} ± {P[name].std():.3f}, student {A[name].mean():.3f}, ", end="")
    print(f"recovery over all weak labels {part.mean():.0f} %")
print("all weak labels:", naive.round(3), "true labels:", truth.round(3))
print("calibration error, before and after the shift:", np.mean(calibrations, 0).round(3))
print("AUROC of trust and confidence:", np.round(areas, 3).tolist())
for name in ("trust network", "confidence"):
    assert (P[name] > P["at random"] + 0.05).all(), f"{name}: purer than chance, in every seed"
assert A["trust network, each class"].mean() > A["trust network"].mean(), "a quota for each class helps on average"
assert all(trust < confidence for trust, confidence in areas), "the teacher's confidence is the better score here"
assert (np.array(list(A.values())) < truth - 0.05).all(), "the way to true labels is not made, in any seed"
before, after = np.array(calibrations).T
assert (after < before).all(), "the shift makes probabilities of trust, in every seed"

# %%
# **Exercises.** (1) Train the teacher on the 440 known digits as well: what is left for the trust network to learn? (2)
# Show that with a constant input the balanced loss is lowest at 0. (3) Let the student be the teacher of a second one.
#
# .. claim:: A network that reads the weak teacher's hidden state finds labels so reliable that a student of them nearly
#         equals one with true labels.
#     :experiment: a teacher of 60 half-blank digits, 440 to learn trust from, 800 to label, five seeds
#     :controls: random choices of the same size, the teacher's confidence, all weak labels, true labels
#     :shown: no: what is trusted is much purer than chance, but easy and of few classes; confidence is the better score
#         at this scale, and no student comes near true labels
