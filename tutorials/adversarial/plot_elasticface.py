"""
Margins that are drawn anew for every face
==========================================

To tell people apart that a network has never seen, it is trained to bring one person's images together on a sphere.
Losses with a margin ask for more than the right answer. Does a margin help, and does it help to draw it at random?
"""

# %%
# Five losses
# -----------
# Digits stand in for faces: the network learns 0 to 6. It is judged by whether two images that it has not seen are of
# one digit, by their cosine: of digits it knows, and of 7, 8 and 9.

import numpy as np

from trref.adversarial.elasticface import elastic_margins, margin_objective, target_cosines
from trref.experiments.figures import use_style
from trref.experiments.training import batches
from trref.experiments.training import train as steps_of
from trref.nn import mlp
from trref.problems.digits import digits
from trref.shift.trustvlm import auroc

plt = use_style()
seeds, sizes, scale = range(4), (64, 64, 8), 16.0
data = digits(train=1100)
known = data.y_train < 7
X, y = data.X_train[known], data.y_train[known]
P = mlp.size(sizes)
LOSSES = {  # kind, mean, standard deviation, matched by rank
    "no margin": ("arc", 0.0, 0.0, False),
    "ArcFace": ("arc", 0.3, 0.0, False),
    "CosFace": ("cos", 0.3, 0.0, False),
    "ElasticArc": ("arc", 0.3, 0.05, False),
    "ElasticArc+": ("arc", 0.3, 0.05, True),
    "ElasticCos": ("cos", 0.3, 0.05, False),
}


def embed(theta, x):
    return mlp.forward(theta[:P], x, sizes, "relu")


def train(name, seed):
    kind, mean, std, matched = LOSSES[name]
    rng = np.random.default_rng(seed)
    start = np.concatenate([mlp.init(rng, sizes, scale=2**0.5), rng.standard_normal(7 * 8)])
    rows, noise = batches(rng, len(y), 64), np.random.default_rng([seed, 1])

    def gradient(theta, rng):
        batch = next(rows)
        z, cache = embed(theta, X[batch])
        centres = theta[P:].reshape(7, 8)
        c = target_cosines(z, centres, y[batch])
        m = elastic_margins(c, noise.standard_normal(len(batch)), mean=mean, std=std, matched=matched)
        value, by = margin_objective(z, centres, y[batch], m, scale=scale, kind=kind)
        return value, np.concatenate([mlp.gradient(cache, by.embeddings), by.centres.ravel()])

    return steps_of(gradient, start, rng, lr=3e-3, steps=250).theta


def verification(theta, x, labels):
    z = embed(theta, x)[0]
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    i, j = np.triu_indices(len(z), 1)
    same = (labels[i] == labels[j]).astype(float)
    pick = np.random.default_rng(0).permutation(len(i))[:3000]
    return float(auroc((z[i] * z[j]).sum(1)[pick], same[pick]))


seen, unseen = data.y_test < 7, data.y_test >= 7
thetas = {name: [train(name, s) for s in seeds] for name in LOSSES}
areas = {
    name: np.array([[verification(t, data.X_test[r], data.y_test[r]) for r in (seen, unseen)] for t in each])
    for name, each in thetas.items()
}
angles = {
    name: [np.degrees(np.arccos(target_cosines(embed(t, X)[0], t[P:].reshape(7, 8), y))) for t in each]
    for name, each in thetas.items()
}

# %%
# Verification, and angles to the centres
# ---------------------------------------

figure, axes = plt.subplots(1, 2, figsize=(9, 3.8))
for k, (shift, label) in enumerate(((-0.2, "digits it knows"), (0.2, "7, 8 and 9"))):
    values = np.array([areas[name][:, k] for name in LOSSES])
    axes[0].bar(np.arange(6) + shift, values.mean(1), 0.36, yerr=values.std(1), label=label)
axes[0].set_xticks(range(6), LOSSES, rotation=30, ha="right", fontsize=7)
axes[0].set(ylim=(0.5, 1.02), xlabel="loss", ylabel="AUROC of verification")
axes[0].legend(fontsize=7, loc="lower left")
for name in ("no margin", "ArcFace", "ElasticArc"):
    axes[1].hist(angles[name][0], bins=40, range=(0, 80), histtype="step", density=True, label=name)
axes[1].set(xlabel="angle to the centre of the class, degrees", ylabel="density, one seed")
axes[1].legend(fontsize=7)

# %%
# What the figures show
# ---------------------
# Every margin makes the classes tighter and tells images of known digits better apart, in every seed. Whether the
# margin is fixed or drawn makes no difference that could be told from the seeds. Digits that the network has never seen
# gain nothing by any of them, at this scale.

for name in LOSSES:
    a, m = areas[name], np.array([v.mean() for v in angles[name]])
    print(f"{name:12} known {a[:, 0].round(4)}, new {a[:, 1].round(3)}, angle {m.mean():.1f} ± {m.std():.1f}")
plain = "no margin"
for name in LOSSES:
    if name != plain:
        assert (areas[name][:, 0] > areas[plain][:, 0] + 0.005).all(), f"{name}: known digits are told apart better"
        tighter = [np.mean(a) < np.mean(b) - 4 for a, b in zip(angles[name], angles[plain], strict=True)]
        assert all(tighter), f"{name}: classes are tighter, in every seed"
for fixed, drawn in (("ArcFace", "ElasticArc"), ("CosFace", "ElasticCos")):
    gain = areas[drawn] - areas[fixed]
    assert (abs(gain.mean(0)) < np.maximum(2 * areas[fixed].std(0), 2e-3)).all(), f"{drawn}: within the seeds' spread"
new = np.array([areas[name][:, 1] for name in LOSSES])
assert (new[1:].mean(1) < new[0].mean() + 0.01).all(), "digits that are new gain nothing"

# %%
# **Exercises.** (1) Draw the logit of an angle against the angle, with and without the guard. (2) Why is the gradient
# by an embedding at right angles to it? (3) With a standard deviation of 0.3, what is the mean of the drawn logits?
#
# .. claim:: Margins drawn from a normal law separate faces better than fixed ones, and more so if the larger draws go
#         to those far from their centre.
#     :experiment: an embedding of digits 0 to 6 on a sphere, verification of unseen images of these and of 7, 8, 9;
#         four seeds
#     :controls: no margin; the fixed margins of ArcFace and CosFace
#     :shown: in part: margins help with known digits, in every seed; drawing them makes no difference beyond the seeds'
#         spread
