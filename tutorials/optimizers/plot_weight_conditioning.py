"""
Rows of length one
==================

A deep linear network has to learn a linear map, from hidden weights whose rows differ a lot in length. Weight
conditioning lets it see rows of length one. Which rates does that allow, and what does it cost?
"""

# %%
# Rates that work
# ---------------
# 64 samples of 16 features, a random target map, two or four layers of 16 × 16, 300 steps of plain descent, four seeds.
# Hidden rows are stretched by :math:`e^{s z}` with normal z. The last layer keeps its scale. Rows of all seeds are
# stacked: the functions see one tall matrix.

import numpy as np

from trref.experiments.figures import use_style
from trref.optimizers.weight_conditioning import condition_number, equilibrate, equilibrate_vjp

plt = use_style()
seeds, n, samples, steps = 4, 16, 64, 300
rates = 3e-3 * 10.0 ** np.arange(0, 3.1, 0.5)


def by_rows(function, *stacks):
    return function(*(s.reshape(-1, n) for s in stacks)).reshape(seeds, n, n)


def start(depth, stretch):
    layers, data = [], []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((samples, n))
        data.append((X, X @ rng.standard_normal((n, n)).T / n**0.5))
        weights = rng.standard_normal((depth, n, n)) / n**0.5
        weights[:-1] *= np.exp(stretch * rng.standard_normal((depth - 1, n, 1)))
        layers.append(weights)
    X, Y = (np.stack(each) for each in zip(*data, strict=True))
    return X, Y, list(np.stack(layers, axis=1))


def train(X, Y, layers, rate, conditioned, watch=None):
    """Losses of all seeds after the steps; a run whose loss goes beyond 1e6 stands still, and counts as infinite."""
    lost = np.zeros(seeds, bool)
    for step in range(steps + 1):
        seen = [by_rows(equilibrate, W) if conditioned else W for W in layers[:-1]] + [layers[-1]]
        inputs = [X]
        for W in seen:
            inputs.append(inputs[-1] @ W.mT)
        error = inputs.pop() - Y
        loss = (error**2).sum((1, 2)) / (2 * samples)
        lost |= loss > 1e6
        if watch is not None and step % 10 == 0:
            watch.append([condition_number(W) for W in seen[0]])
        back, slopes = error / samples, []
        for k in reversed(range(len(layers))):
            slope = back.mT @ inputs[k]
            back = back @ seen[k]
            slopes.append(by_rows(equilibrate_vjp, layers[k], slope) if conditioned and k < len(layers) - 1 else slope)
        keep = ~lost[:, None, None]
        layers = [W - rate * np.where(keep, g, 0) for W, g in zip(layers, slopes[::-1], strict=True)]
    return np.where(lost, np.inf, loss)


names = {False: "raw rows", True: "rows of length one"}
ends, conditions = {}, {}
for depth in (2, 4):
    for stretch in (0.0, 1.5):
        problem = start(depth, stretch)
        for conditioned in names:
            ends[depth, stretch, conditioned] = np.array([train(*problem, rate, conditioned) for rate in rates])
for conditioned in names:
    watch = []
    train(*start(4, 1.5), 0.01, conditioned, watch)
    conditions[conditioned] = np.array(watch)

figure, axes = plt.subplots(1, 3, figsize=(10, 3.4))
for axis, depth in zip(axes, (2, 4), strict=False):
    for i, (conditioned, name) in enumerate(names.items()):
        for stretch, line in ((0.0, ":"), (1.5, "-")):
            worst = np.minimum(ends[depth, stretch, conditioned].max(1), 30)
            axis.loglog(rates, worst, line, color=f"C{i}", label=f"{name}, s = {stretch:g}")
    axis.set(xlabel="rate", ylabel="worst loss of four seeds", title=f"{depth} layers", ylim=(1e-6, 40))
axes[0].legend(fontsize="small")
for conditioned, name in names.items():
    axes[2].semilogy(10 * np.arange(len(conditions[conditioned])), conditions[conditioned].mean(1), label=name)
axes[2].set(xlabel="step", ylabel="condition of the first weights", title="4 layers, s = 1.5, rate 0.01")
for key, losses in ends.items():
    print(
        f"{key[0]} layers, s = {key[1]}, {names[key[2]]:18} worst of the seeds by rate:",
        losses.max(1).round(4).tolist(),
    )

# %%
# What the figures show
# ---------------------
# With stretched rows the raw network leaves all bounds at rates at which the conditioned one learns, as though nothing
# had been stretched. Where rows have about one length to begin with there is nothing to gain, and the largest rate that
# works is the same. How well conditioned the rows are changes little while they are trained.

works = {key: np.isfinite(losses.max(1)) for key, losses in ends.items()}
for depth in (2, 4):
    stretched, even = (works[depth, s, True].sum() for s in (1.5, 0.0))
    assert works[depth, 1.5, False].sum() + 2 <= stretched, "rates that work in every seed: more than with raw rows"
    assert abs(stretched - even) <= 1, "as many as if nothing were stretched"
    assert abs(works[depth, 0.0, False].sum() - even) <= 1, "and without stretch as many as with raw rows"
    best = {c: ends[depth, 1.5, c].max(1).min() for c in names}
    print(f"{depth} layers, s = 1.5: smallest worst loss {best[False]:.4f} raw, {best[True]:.4f} conditioned")
    assert best[True] < 0.1 * best[False]

# %%
# A price
# -------
# Lengths of hidden rows are part of what a network can be. With saturating units and few layers the fixed lengths cost
# accuracy: a single hidden layer of tanh has to fit a curve that needs steep units.

from trref.problems.networks import RegressionLoss

x = np.linspace(-1, 1, 64)[:, None]
curve = RegressionLoss(x, np.tanh(8 * x - 4) + np.tanh(8 * x + 4), (1, 16, 1))
errors = {c: [] for c in names}
for seed in range(seeds):
    rng = np.random.default_rng(seed)
    first = np.concatenate([4 * rng.standard_normal(16), rng.uniform(-2, 2, 16), 0.3 * rng.standard_normal(16), [0.0]])
    for conditioned, found in errors.items():
        theta = first
        for _ in range(1500):
            seen = theta.copy()
            if conditioned:  # one input: the rows are single numbers, of which the sign remains
                seen[:16] = equilibrate(theta[:16, None])[:, 0]
            loss, g = curve(seen)
            if conditioned:
                g[:16] = equilibrate_vjp(theta[:16, None], g[:16, None])[:, 0]
            theta = theta - 0.05 * g
        found.append(float(loss))
for conditioned, name in names.items():
    print(f"one layer of tanh, {name}: losses {np.round(errors[conditioned], 4)}")
assert min(errors[True]) > max(errors[False]), "rows of length one cannot be steep"

# %%
# .. claim:: Conditioned weights make the loss smoother and training easier.
#     :experiment: deep linear regression with stretched hidden rows, two and four layers, seven rates, four seeds; one
#         layer of tanh on a curve with steep parts
#     :controls: the same networks with raw rows, and without stretch
#     :shown: in part: with stretched rows clearly, in every seed, by the rates that work; without stretch nothing is
#         gained; and where a layer needs rows of other lengths it costs accuracy
#
# Exercises
# ---------
# 1. Hold the scale constant in the gradient (`scale_rows_vjp`). Which of the curves change?
# 2. Equilibrate columns in place of rows. Does the stretch of rows still matter?
# 3. Follow the lengths of the raw rows while training. What is the effective rate at the end?
