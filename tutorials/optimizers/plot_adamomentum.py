"""
What is under the root
======================

Adam's denominator is large where gradients are noisy. AdaMomentum averages before it squares, and so sees less of the
noise: how much less, and what comes of it?
"""

# %%
# The law of noise
# ----------------
# Gradients with mean μ and standard deviation 1, for ratios of the two from 0.01 to 10; 400 coordinates, five seeds.

import numpy as np

from trref.experiments.classifiers import digits_task
from trref.experiments.figures import COLOURS, spread, use_style
from trref.experiments.training import fit
from trref.nn import mlp
from trref.optimizers import adam, adamomentum

plt = use_style()
signals, seeds, beta2 = np.geomspace(0.01, 10, 7), range(5), 0.99


def denominators(rule, rng, mean, copies=400, steps=500):
    """The mean square under the root after many steps."""
    params = [np.zeros(copies)]
    state = rule.init(params)
    for _ in range(steps):
        params, state = rule.update(params, [mean + rng.standard_normal(copies)], state, beta2=beta2)
    return state.v[0].mean() / (1 - beta2**steps)


ratios = np.array(
    [
        [
            np.sqrt(np.divide(*(denominators(rule, np.random.default_rng(s), mean) for rule in (adam, adamomentum))))
            for mean in signals
        ]
        for s in seeds
    ]
)
law = np.array(
    [np.sqrt((m * m + 1) / adamomentum.expected_square(np.asarray(m), np.asarray(1.0), beta2=beta2)) for m in signals]
)
figure, axis = plt.subplots()
spread(axis, signals, ratios.tolist(), "Adam's denominator / AdaMomentum's")
axis.plot(signals, law, "--", color=COLOURS[1], label="the law")
axis.set(xlabel="signal-to-noise ratio of a gradient", ylabel="ratio of the denominators", xscale="log")
axis.legend()
print("largest relative distance from the law", f"{abs(ratios / law - 1).max():.3f}")
assert abs(ratios / law - 1).max() < 0.05, "the law of noise holds in every seed"
assert (ratios[:, 0] > 4).all() and (ratios[:, -1] < 1.05).all(), "4.4 times in pure noise, 1 without"

# %%
# In pure noise AdaMomentum's steps are up to :math:`\sqrt{(1 + \beta_1)/(1 - \beta_1)} = 4.4` times as long as Adam's
# at the same rate. That alone speeds up training at a rate that is small for Adam; a fair comparison gives each its
# own.
#
# Digits, each at four rates
# --------------------------

rates = (1e-3, 3e-3, 1e-2, 3e-2)
task = digits_task(points=400, sizes=(64, 32, 10))
losses = {}
for name, rule in (("Adam", adam), ("AdaMomentum", adamomentum)):
    for lr in rates:
        for seed in seeds:
            start = mlp.init(np.random.default_rng(seed), (64, 32, 10))
            run = fit(task.loss, start, np.random.default_rng(seed), batch=50, steps=80, lr=lr, rule=rule)
            losses.setdefault((name, lr), []).append(float(task.loss(run.theta)[0]))
figure, axis = plt.subplots()
for name in ("Adam", "AdaMomentum"):
    spread(axis, rates, np.array([losses[name, lr] for lr in rates]).T.tolist(), name)
axis.set(xlabel="rate", ylabel="training loss after 80 steps", xscale="log", yscale="log")
axis.legend()
for (name, lr), values in losses.items():
    print(f"{name:12} {lr:g}: {np.round(values, 3)}")
smallest = {n: min(np.median(losses[n, lr]) for lr in rates) for n in ("Adam", "AdaMomentum")}
print("median of the best rate", {name: round(float(value), 3) for name, value in smallest.items()})

# %%
# At equal small rates the training loss falls faster in every seed. At its own best rate Adam does as well or better.

pairs = zip(losses["AdaMomentum", 1e-3], losses["Adam", 1e-3], strict=True)
assert all(ours < theirs for ours, theirs in pairs), "at one small rate the loss falls faster"
assert smallest["AdaMomentum"] > 0.8 * smallest["Adam"], "at their own best rates there is no advantage"

# %%
# .. claim:: Squaring the averaged gradient trains faster than Adam, and generalises better.
#     :experiment: the law of noise in five seeds; 400 digits, four rates, five seeds, 80 steps
#     :controls: Adam at the same rate, and at its own best one
#     :shown: in part: the law of noise to 5 %, and faster training at one small rate; at the best rate of each Adam is
#         as fast or faster. Generalisation is not compared here
