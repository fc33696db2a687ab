"""
Attacking a network to optimise through it
==========================================

A network stands for a model of something, and its best input is wanted. An attack knows how to push a network's outputs
in any direction. Is that a good way to climb, and where does it need help?
"""

# %%
# An attack as a step
# -------------------
# Along the gradient of what is to be maximised, in outputs, a corner of a small box. *Predict before you run*: if the
# radius is ten times as small, by how much does the gain differ from the linear one?

import numpy as np
from scipy.optimize import minimize

from trref.experiments.figures import use_style
from trref.experiments.training import fit
from trref.optimization.directional_attacks import attack, attack_gain, hybrid
from trref.problems.maps import Network, SquaredDistance
from trref.problems.networks import RegressionLoss

plt = use_style()
DIMS, STARTS, BUDGET = (2, 20), range(8), 300
PARTS = {"hybrid": "hybrid", "attack": "attacks alone", "search": "direct search", "random": "random directions"}


def trained(n):
    """A network for a smooth map of n inputs to two outputs."""
    rng = np.random.default_rng(n)
    X, A = rng.uniform(-2, 2, (400, n)), rng.standard_normal((2, n)) / np.sqrt(n)
    y = np.c_[np.sin(1.5 * X @ A[0]), np.cos(X @ A[1]) + 0.1 * (X**2).mean(1)]
    sizes = (n, 16, 2)
    theta = 0.5 * rng.standard_normal((n + 1) * 16 + 34)
    return Network(fit(RegressionLoss(X, y, sizes), theta, rng, batch=100, steps=400, lr=0.02).theta, sizes)


class FirstBelow:
    """The first output is at most a half."""

    def __call__(self, y):
        return y[:1] - 0.5


networks = {n: trained(n) for n in DIMS}
rng = np.random.default_rng(0)
x, d = rng.standard_normal((1, 20)), np.array([[1.0, -0.5]])
for radius in (0.1, 0.01):
    linear = radius * abs(networks[20].vjp(x, d)).sum()
    print(
        f"radius {radius}: gain {attack_gain(networks[20], x, attack(networks[20], x, d, radius=radius), d)[0]:.5f}, "
        f"linear {linear:.5f}"
    )

# %%
# Four ways up
# ------------
# The outputs are to come near a goal that the constraint cuts off: the first output may be one half at most, and the
# goal has 0.9. All that count are evaluations of the network; an iteration of direct search takes up to 2 n + 2.


class Seen:
    """What is maximised, with a list of all outputs that it was asked about."""

    def __init__(self, goal):
        self.goal, self.outputs = SquaredDistance(np.array(goal)), []

    def __call__(self, y):
        self.outputs.append(y)
        return self.goal(y)


def climb(n, parts, seed, constraint, goal):
    """The best value after each evaluation of the network, up to the budget."""
    rng = np.random.default_rng([n, seed])
    x0 = rng.uniform(-1, 1, n)
    while networks[n](x0[None])[0, 0] > 0.5:
        x0 = rng.uniform(-1, 1, n)
    T = BUDGET if parts in ("attack", "random") else BUDGET // 3
    seen = Seen(goal)
    hybrid(networks[n], seen, x0, *rng.standard_normal((3, T, n)), rng.random(T), constraint, parts=parts)
    values = [-np.inf if constraint and constraint(y) > 0 else float(seen.goal(y)[0]) for y in seen.outputs]
    best = np.maximum.accumulate(values)[:BUDGET]
    return np.r_[best, np.full(BUDGET - len(best), best[-1])], x0


def quasi_newton(n, x0, goal):
    """The best value of a method for smooth functions, and how often it asked."""

    def negative(x):
        value, slope = SquaredDistance(np.array(goal))(networks[n](x[None])[0])
        return -value, -networks[n].vjp(x[None], slope[None])[0]

    found = minimize(negative, x0, jac=True, method="L-BFGS-B")
    return -found.fun, found.nfev


runs, smooth = {}, {}
for n in DIMS:
    goals = {"cut off": (FirstBelow(), (0.9, 0.6)), "within reach": (None, (0.2, 0.6))}
    for name, (constraint, goal) in goals.items():
        for parts in PARTS:
            runs[n, name, parts] = np.array([climb(n, parts, seed, constraint, goal)[0] for seed in STARTS])
    starts = [climb(n, "attack", seed, None, (0.2, 0.6))[1] for seed in STARTS]
    smooth[n] = [quasi_newton(n, x0, (0.2, 0.6)) for x0 in starts]

figure, axes = plt.subplots(1, 4, figsize=(13, 3.6), sharey=True)
for axis, (n, name) in zip(axes, [(n, name) for n in DIMS for name in ("cut off", "within reach")], strict=True):
    # with the goal cut off no value is above -0.16
    highest = -0.16 if name == "cut off" else 0.0
    for number, (parts, label) in enumerate(PARTS.items()):
        gap = np.maximum(highest - runs[n, name, parts], 1e-9)
        axis.loglog(np.arange(BUDGET) + 1, np.exp(np.log(gap).mean(0)), color=f"C{number}", label=label)
    axis.set(xlabel="evaluations", title=f"{n} inputs, goal {name}")
axes[0].set_ylabel("distance from the highest value")
axes[0].legend()

# %%
# What the figure shows
# ---------------------
# With the goal cut off attacks run into the constraint and stay there; direct search moves along it, and so does the
# hybrid, which is ahead of direct search in the first evaluations. With the goal within reach attacks alone are best:
# the hybrid spends evaluations on help that is not needed. It is never far from the better of its two parts, and
# seldom ahead of both. Where all is smooth and nothing forbidden a quasi-Newton method needs a dozen evaluations: that
# is the tool for it.

last = {key: values[:, -1] for key, values in runs.items()}
for (n, name, parts), values in last.items():
    print(f"{n} inputs, goal {name}, {PARTS[parts]}: median {np.median(values):.4f}, worst {values.min():.4f}")
for n, found in smooth.items():
    print(f"quasi-Newton, {n} inputs: values {np.round([v for v, _ in found], 6)}, evaluations {[k for _, k in found]}")

# %%
# .. claim:: A hybrid of attacks and direct search is better than either alone.
#     :experiment: two trained networks, of 2 and 20 inputs, a goal within reach and one cut off, 8 starts, 300
#         evaluations
#     :controls: attacks alone, direct search alone, random directions; L-BFGS where it applies
#     :shown: in part: the hybrid is early where attacks are, and goes on where they stop, but in the end it is not
#         better than the better of the two; L-BFGS is better than all where it applies
#
# Let the attack be the gradient's own direction (`method="l2"`) and not a corner: does the constraint still stop it?
# And with random directions of the same radii, how much of the hybrid's speed is left in 20 dimensions?

for n in DIMS:
    gap = {key[1:]: np.median(-0.16 * (key[1] == "cut off") - values) for key, values in last.items() if key[0] == n}
    assert gap["cut off", "attack"] > 3 * gap["cut off", "hybrid"], "attacks alone stop at the constraint"
    assert gap["cut off", "attack"] > 3 * gap["cut off", "search"], "direct search does not"
    assert gap["within reach", "attack"] < gap["within reach", "hybrid"] + 1e-9, "help that is not needed"
    assert max(gap["within reach", parts] for parts in ("hybrid", "search")) < 1e-3, "all come near"
    early = {parts: np.median(runs[n, "cut off", parts][:, 9]) for parts in PARTS}
    assert early["hybrid"] > early["search"], "after ten evaluations the hybrid is ahead of direct search"
    assert all(value > -1e-6 and count < 40 for value, count in smooth[n]), "a quasi-Newton method is better still"
