"""
Guessing the next gradient
==========================

An adversary may choose the losses, or they may be drawn from one distribution. Most are in between. Does it pay to
guess that the next gradient will be the last one, and what if that is wrong?
"""

# %%
# Four kinds of losses
# --------------------
# Linear losses on the unit ball in five dimensions: the same mean in all rounds with no noise, a little or much of it,
# and a mean that turns round in each round, the worst for the guess. *Predict before you run*: by which factor does the
# regret grow if there are four times as many rounds, in each of them?

import numpy as np

from trref.experiments.figures import use_style
from trref.optimization.optimistic_omd import linear_regret, mirror_descent, sea_quantities
from trref.problems.online import LinearLosses

plt = use_style()
ROUNDS, SEEDS = (60, 250, 1000), range(4)
KINDS = {"no noise": (0.0, False), "noise 0.1": (0.1, False), "noise 1": (1.0, False), "alternating": (0.0, True)}


def losses(T, noise, alternating, rng, switches=0.0):
    """Mean losses of norm 1/2, and a sample of each; the mean turns round always, or with a probability."""
    mean = rng.standard_normal(5)
    mean = mean / np.linalg.norm(mean) / 2
    turned = np.arange(T) % 2 if alternating else np.cumsum(rng.random(T) < switches) % 2
    means = (1 - 2 * turned)[:, None] * mean
    return means, means + noise * rng.standard_normal((T, 5)) / np.sqrt(5)


def regret(T, kind, seed, **how):
    """Regret of the mean losses: what the samples' noise adds by luck is left out."""
    means, samples = losses(T, *kind, np.random.default_rng([T, seed]))
    bound = np.linalg.norm(samples, axis=1).max()
    points = mirror_descent(LinearLosses(samples), np.zeros(5), np.arange(T), bound=float(bound), **how).points
    return float(linear_regret(means, points))


RULES = {"optimistic": {}, "online gradient descent": {"rule": "horizon", "guess": "none"}}
table = {
    (rule, name): np.array([[regret(T, kind, seed, **how) for T in ROUNDS] for seed in SEEDS])
    for rule, how in RULES.items()
    for name, kind in KINDS.items()
}

# %%
# Between the two
# ---------------
# A grid over noise and how often the mean turns round. The bound is of the size of the roots of two sums: of variances,
# and of squared moves of the mean.


def point(noise, switches, seed, T=400):
    means, samples = losses(T, noise, False, np.random.default_rng([seed, 7]), switches)
    bound = np.linalg.norm(samples, axis=1).max()
    points = mirror_descent(LinearLosses(samples), np.zeros(5), np.arange(T), bound=float(bound)).points
    drift = sea_quantities(means[:, None, None]).drift
    return np.sqrt(noise**2 * T) + np.sqrt(drift), float(linear_regret(means, points))


grid = np.array([point(s, p, k) for s in (0.0, 0.1, 0.5, 1.0) for p in (0.0, 0.02, 0.2, 1.0) for k in SEEDS])

figure, axes = plt.subplots(1, 2, figsize=(10, 3.8))
for number, name in enumerate(KINDS):
    for rule, style in zip(RULES, ("-", "--"), strict=True):
        values = table[rule, name].mean(0)
        label = name if rule == "optimistic" else None
        axes[0].loglog(ROUNDS, values, style, marker="o", color=f"C{number}", label=label)
axes[0].set(xlabel="rounds", ylabel="regret (dashed: no guess)")
axes[0].legend()
axes[1].plot(grid[:, 0], grid[:, 1], "o", alpha=0.6, label="optimistic, 400 rounds")
axes[1].plot([0, 60], [2, 122], color="0.5", label="2 times, plus 2")
axes[1].set(xlabel="root of the noise plus root of the drift", ylabel="regret", ylim=(-50, 130))
axes[1].legend(loc="upper left")

# %%
# What the figure shows
# ---------------------
# With one loss for all rounds the guess is right and the regret is a constant, where descent without a guess grows with
# the root of the rounds. With noise both grow like the root; a little noise leaves the guess an advantage, much noise
# none. Where the mean alternates the guess is always wrong, and costs a factor of two to three: the bound allows that.
# Over the whole grid the regret stays below two times the measure of noise and drift. Where the mean turns round now
# and then it is far below 0: any fixed point is a weak rival there.

for (rule, name), values in table.items():
    print(f"{rule}, {name}: {values.mean(0).round(1)} after {ROUNDS} rounds, largest {values.max(0).round(1)}")
print(
    f"largest regret over noise and drift: {(grid[:, 1] - 2).max():.1f} and {(grid[:, 1] / (1 + grid[:, 0])).max():.2f}"
)

# %%
# .. claim:: The regret is of the order of the root of the noise plus the root of the drift, without knowing either.
#     :experiment: linear losses on a ball, four environments, three numbers of rounds, 4 seeds; a grid of noise and
#         drift
#     :controls: online gradient descent with the step length for the known number of rounds
#     :shown: yes; without noise and drift the regret is constant. Where the mean alternates the guess loses by a
#         constant factor
#
# Give the algorithm the true next gradient as its guess (`guess="true"`) where the mean alternates: what is the regret
# after 60 and after 1000 rounds? And with a guess of the gradient before the last one?

span = np.log(ROUNDS[2] / ROUNDS[0])
slopes = {key: np.log(values.mean(0)[2] / values.mean(0)[0]) / span for key, values in table.items()}
assert abs(slopes["optimistic", "no noise"]) < 0.05, "constant"
for rule, name in [("optimistic", "noise 1"), *(("online gradient descent", name) for name in KINDS)]:
    assert 0.35 < slopes[rule, name] < 0.65, f"a root of the rounds: {rule}, {name}"
for seed in SEEDS:
    last = {key: values[seed, -1] for key, values in table.items()}
    for name in ("no noise", "noise 0.1"):
        assert last["optimistic", name] < 0.8 * last["online gradient descent", name], "the guess helps"
    assert last["optimistic", "alternating"] > 1.5 * last["online gradient descent", "alternating"], "it hurts"
assert (grid[:, 1] <= 2 * grid[:, 0] + 2).all(), "below a line"
