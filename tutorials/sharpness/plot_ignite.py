"""
Climbing a surrogate that was fitted to bad designs
===================================================

All that is known are 150 noisy values from the worst third of a space. A network is fitted to them and climbed. Where
it has never been it promises too much. Does it promise less if its predictions may not hang on its weights?
"""

# %%
# Fit and climb
# -------------
# The function has six arguments, a hill and ripples on it. 32 designs start at the best known points and follow the
# surrogate's gradient. Values are in the units of the data, whose mean is 0 and standard deviation 1.

import numpy as np

from trref.experiments.figures import spread, use_style
from trref.nn import mlp
from trref.optimizers import adam
from trref.problems.networks import MeanOutput, RegressionLoss
from trref.sharpness.ignite import multiplier_step, output_sharpness, penalised_fit

plt = use_style()
seeds, sizes, rho = range(4), (6, 48, 48, 1), 0.05


def hill(x):
    return -((x - 0.8) ** 2).sum(1) / 2 + 0.5 * np.cos(4 * x).sum(1)


def climb(seed, first, rate):
    """Sharpness, true and promised values of the designs along the climb; `first` and `rate` of the multiplier."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1.5, 1.5, (450, 6))
    X = X[np.argsort(hill(X))[:150]]
    y = hill(X) + 0.1 * rng.standard_normal(150)
    middle, unit = y.mean(), y.std()
    fit = RegressionLoss(X, ((y - middle) / unit)[:, None], sizes)
    output, theta, multiplier = MeanOutput(X, sizes), mlp.init(rng, sizes), np.asarray(first)
    state = adam.init([theta])
    for _ in range(800):
        rows = rng.choice(150, 50, replace=False)
        if multiplier > 0:
            how = {"penalty_weight": float(multiplier), "rho": rho, "inner_rho": rho}
            gradient = penalised_fit(fit.on(rows), output.on(rows), theta, **how)[1]
            if rate:
                multiplier = multiplier_step(output.on(rows), theta, multiplier, lr=rate, rho=rho)
        else:
            gradient = fit.on(rows)(theta)[1]
        (theta,), state = adam.update([theta], [gradient], state, lr=2e-3)
    x, true, promised = X[np.argsort(y)[-32:]], [], []
    for _ in range(201):
        true.append(np.median(hill(x) - middle) / unit)
        promised.append(np.median(fit.predict(theta, x)))
        x = x + 0.02 * fit.input_gradient(theta, x)
    return float(output_sharpness(output, theta, rho=rho)), np.array(true), np.array(promised)


choices = {"plain": (0.0, 0.0), "IGNITE": (0.01, 0.01)}
runs = {name: [climb(s, *multiplier) for s in seeds] for name, multiplier in choices.items()}
figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.6))
for name, each in runs.items():
    spread(axes[0], range(201), [true.tolist() for _, true, _ in each], name)
    spread(axes[1], range(201), [(promised - true).tolist() for _, true, promised in each], name)
axes[0].set(xlabel="step of the climb", ylabel="true value of the median design")
axes[1].set(xlabel="step of the climb", ylabel="promised minus true value")
axes[0].legend()

# %%
# What the figures show
# ---------------------
# The constraint keeps the sharpness down. Its designs are better in the median and promised less falsely, by more than
# the spread over the seeds, but in one of them by little. More is not claimed here: on a function whose optimum is far
# from the data the same constraint may only slow the climb.

sharpness = {name: np.array([s for s, _, _ in each]) for name, each in runs.items()}
value = {name: np.array([true[-1] for _, true, _ in each]) for name, each in runs.items()}
excess = {name: np.array([promised[-1] - true[-1] for _, true, promised in each]) for name, each in runs.items()}
for name in runs:
    print(
        f"{name:7} sharpness {sharpness[name].mean():.3f}, median design {value[name].mean():.2f} ± "
        f"{value[name].std():.2f}, promised too much {excess[name].mean():.2f} ± {excess[name].std():.2f}"
    )
print("gain of the median design, seed by seed:", (value["IGNITE"] - value["plain"]).round(2).tolist())
assert (sharpness["IGNITE"] < sharpness["plain"]).all(), "the surrogate is less sharp, in every seed"
assert value["IGNITE"].mean() > value["plain"].mean() + 0.3, "the median design is better on average"
assert excess["IGNITE"].mean() < excess["plain"].mean() - 0.3, "and less is promised falsely"

# %%
# .. claim:: Bounding the gradient norm of a surrogate's mean prediction makes offline optimisation find better designs.
#     :experiment: a hill with ripples in six dimensions, 150 noisy values from its worst third, a network of two
#         layers, 200 steps of ascent from 32 designs, four seeds
#     :controls: the same fit without the constraint
#     :shown: in part: sharpness is lower in every seed, the median design better and less over-estimated on average;
#         in one of the seeds by little
