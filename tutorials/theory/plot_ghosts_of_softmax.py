"""
How far may a step go?
======================

The cross-entropy has no singularity anywhere on the real line, and still its Taylor series stops at a circle. Does
training break where that circle ends?
"""

# %%
# One update, longer and longer
# -----------------------------
# A tanh network on the digits, trained by Adam to an early and a late stage. From there one step along random
# directions, and one along the steepest descent of all data, with a length of r safe radii
# (:eq:`ghosts-of-softmax-normalised`). *Predict before you run*: which of the two directions breaks first, and at
# which r?

import numpy as np

from trref.experiments.classifiers import digits_task
from trref.experiments.figures import COLOURS, use_style
from trref.experiments.training import fit
from trref.nn import mlp
from trref.optimizers import adam
from trref.theory.ghosts_of_softmax import clip_step, normalised_step

plt = use_style()
SEEDS, SIZES = range(5), (64, 32, 10)
task = digits_task(points=300, sizes=SIZES, activation="tanh")
loss, X = task.loss, task.loss.X


def slopes(theta, update, rows=slice(None)):
    """How the logits move along an update."""
    return mlp.jvp(mlp.forward(theta, X[rows], SIZES, "tanh")[1], update)


def start(seed, steps):
    """Parameters after some steps of Adam."""
    theta = mlp.init(np.random.default_rng(seed), SIZES)
    return fit(loss, theta, np.random.default_rng(seed), batch=50, steps=steps, lr=3e-3).theta


LENGTHS = np.array([0.1, 0.3, 1.0, 3.0, 10.0])


def inflation(theta, direction):
    """Loss after a step of each length, over the loss before."""
    r = normalised_step(slopes(theta, direction))
    return np.array([loss(theta + length / r * direction)[0] / loss(theta)[0] for length in LENGTHS])


tables = {"random, early": [], "random, late": [], "steepest descent, early": [], "steepest descent, late": []}
for seed in SEEDS:
    rng = np.random.default_rng([seed, 1])
    early, late = start(seed, 60), start(seed, 600)
    for name, theta in (("early", early), ("late", late)):
        directions = rng.standard_normal((8, len(theta)))
        tables[f"random, {name}"].append(np.median([inflation(theta, d) for d in directions], 0))
        tables[f"steepest descent, {name}"].append(inflation(theta, -loss(theta)[1]))
tables = {name: np.array(rows) for name, rows in tables.items()}
figure, axes = plt.subplots(1, 2)
for (name, rows), colour in zip(tables.items(), COLOURS, strict=False):
    axes[0].loglog(LENGTHS, rows.T, color=colour, alpha=0.3)
    axes[0].loglog(LENGTHS, np.median(rows, 0), "o-", color=colour, label=name)
    print(name, np.round(np.median(rows, 0), 2))
axes[0].axvline(1, ls="--", color=COLOURS[-1])
axes[0].set(xlabel="length r, in safe radii", ylabel="loss after the step, over before")
axes[0].legend()

# %%
# A rate that is wrong by a thousand
# ----------------------------------
# Adam, and at step 50 the rate is a thousand times too large for five steps; with and without the clip of
# :eq:`ghosts-of-softmax-clip`, which asks for the slopes along what Adam is about to add.


def spike(seed, clipped, steps=150):
    """Loss after each step."""
    rng, curve = np.random.default_rng(seed), []
    params = [mlp.init(np.random.default_rng(seed), SIZES)]
    state = adam.init(params)
    for step in range(steps):
        rows = rng.integers(0, len(X), 50)
        lr = 3e-3 * (1000 if 50 <= step < 55 else 1)
        moved, state = adam.update(params, [loss.on(rows)(params[0])[1]], state, lr=lr)
        update = moved[0] - params[0]
        params = [params[0] + (clip_step(update, slopes(params[0], update, rows)) if clipped else update)]
        curve.append(float(loss(params[0])[0]))
    return curve


curves = {clipped: np.array([spike(seed, clipped) for seed in SEEDS]) for clipped in (False, True)}
for clipped, colour in ((False, COLOURS[3]), (True, COLOURS[2])):
    axes[1].semilogy(curves[clipped].T, color=colour, alpha=0.3)
    axes[1].semilogy(np.median(curves[clipped], 0), color=colour, label="clipped" if clipped else "not clipped")
axes[1].set(xlabel="steps", ylabel="training loss")
axes[1].legend()
print(
    "loss 40 steps after the spike, without and with the clip:",
    curves[False][:, 95].round(2),
    curves[True][:, 95].round(2),
)

# %%
# Random directions hurt from about r = 1 on, the more the surer the network is. The steepest descent does not while the
# network is unsure: there a step of three radii still lowers the loss. Later it may, or may not, from one seed to the
# next. The radius says when something can break, not that it does. As a clip it turns a disaster into a large step that
# helps.

late = tables["random, late"]
assert (late[:, 0] < 1.2).all(), "far within the radius nothing happens"
assert (late[:, 4] > 5 * late[:, 2]).all() and (late[:, 4] > 10).all(), "far beyond it the loss explodes"
assert (late[:, 3] > tables["random, early"][:, 3]).all(), "the more, the surer the network"
descent = tables["steepest descent, early"]
assert (descent[:, 3] < 1.0).all(), "three radii along an early descent lower the loss"
assert (descent[:, 3] < 0.5 * tables["random, early"][:, 3]).all(), "where random directions raise it"
assert (curves[True][:, 95] < 0.3 * curves[False][:, 95]).all(), "the clip survives the spike in every seed"

# %%
# .. claim:: Steps beyond the radius of the nearest complex zero break training; steps clipped to it are safe.
#     :experiment: a network of 32 tanh units on 300 digits; single steps of up to ten radii, and a thousandfold rate
#         for five steps under Adam; 5 seeds
#     :controls: the steepest descent at the same lengths, an early stage, Adam without the clip
#     :shown: in part: the clip is safe, and random directions break beyond the radius; early steepest descent goes
#         beyond it without harm
#
# Divide the logits by a temperature of 4 in `inflation`: at which r do the curves rise now? Replace the maximum over
# samples in `normalised_step` by the mean: how much longer do the steps become?
