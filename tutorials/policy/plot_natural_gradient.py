"""
A step that does not see the coordinates
========================================

The gradient of the return depends on how a policy is written down: multiply one feature by 100, and the steepest
direction turns towards its weights. The natural gradient measures steps by how much the *policy* changes. We compare
the two at equal divergence per step.
"""

# %%
# One feature in other units
# --------------------------
# A Gaussian policy chooses a number from three features; its mean is linear in them, and it loses the squared distance
# from a target that is linear in them, too. The same problem is solved twice, with the features as they are and with
# the first one multiplied by 100. All expectations are exact. Both methods take steps whose modelled divergence is
# 0.01.

import math

import numpy as np

from trref.experiments.figures import COLOURS, spread, use_style
from trref.policy.natural_gradient import fisher_vector_product, natural_step
from trref.problems.policies import GaussianPolicy

plt = use_style()
policy, delta, steps, seeds = GaussianPolicy((3, 1)), 0.01, 60, range(5)


def descend(natural, scale, seed):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((200, 3))
    target = X @ rng.standard_normal(3)
    X = X * (scale, 1.0, 1.0)
    theta, losses = np.zeros(policy.size), []
    for _ in range(steps):
        z, cache = policy.forward(theta, X)
        mean, variance = z[:, 0], np.exp(2 * z[:, 1])
        losses.append(np.mean((mean - target) ** 2 + variance))
        gradient = policy.vjp(cache, np.stack([-2 * (mean - target), -2 * variance], 1) / len(X))
        fisher = lambda v: fisher_vector_product(policy, theta, v, X)  # noqa: B023, E731
        if natural:
            theta = theta + natural_step(fisher, gradient, delta=delta, iterations=20, rtol=1e-9).step
        else:
            theta = theta + math.sqrt(2 * delta / (gradient @ fisher(gradient))) * gradient
    return losses


runs = {(n, s): [descend(n, s, seed) for seed in seeds] for n in (True, False) for s in (1.0, 100.0)}
figure, axis = plt.subplots()
for (natural, scale), values in runs.items():
    label = f"{'natural' if natural else 'plain'} gradient, first feature times {scale:g}"
    style = {"linestyle": "--" if scale > 1 else "-", "color": COLOURS[0 if natural else 1]}
    spread(axis, range(steps), values, label, linewidth=3.0 if natural and scale == 1 else 1.6, **style)
axis.set(xlabel="step", ylabel="expected squared distance", yscale="log")
axis.legend()

# %%
# A Gaussian policy on a hill
# ---------------------------
# One action, drawn with a mean and a standard deviation; it earns minus its squared distance from 3. The plain gradient
# of the mean does not know that a narrow policy must take small steps: measured by the divergence its path bends.


def path(natural, log_std, steps=60, delta=0.02):
    mean, points = 0.0, []
    for _ in range(steps):
        points.append((mean, log_std))
        variance = math.exp(2 * log_std)
        gradient = np.array([-2 * (mean - 3), -2 * variance])  # of -(mean - 3)² - variance
        metric = np.array([1 / variance, 2.0])
        direction = gradient / metric if natural else gradient
        direction = direction * math.sqrt(2 * delta / (direction @ (metric * direction)))
        mean, log_std = mean + direction[0], log_std + direction[1]
    return np.array(points)


figure, axis = plt.subplots()
for number, start in enumerate((-1.0, 0.0, 1.0)):
    for natural in (True, False):
        points = path(natural, start)
        label = ("natural gradient" if natural else "plain gradient") if number == 0 else None
        axis.plot(*points.T, ".-" if natural else ".:", markersize=3, color=COLOURS[0 if natural else 1], label=label)
axis.plot(3, -2.6, "*", color=COLOURS[2], markersize=12, label="the best mean")
axis.set(xlabel="mean", ylabel="log standard deviation", ylim=(-2.8, 1.3))
axis.legend()

# %%
# What the figures show
# ---------------------
# The natural gradient's curves lie on top of each other, whatever the feature's units. The plain gradient's do not:
# with one large feature it moves along that one alone, and stays where the others have hardly been used.

end = {key: np.array([v[-1] for v in values]) for key, values in runs.items()}
for (natural, scale), values in end.items():
    name = "natural" if natural else "plain"
    print(f"{name:8} gradient, feature times {scale:3.0f}: squared distance {values.mean():.4f}")
ratio = np.array(runs[True, 1.0]) / np.array(runs[True, 100.0])
print(f"the natural gradient's two curves differ by {abs(ratio - 1).max():.1e}")
assert abs(ratio - 1).max() < 1e-5, "the natural gradient does not see the scale of a feature"
assert (end[False, 100.0] > 2 * end[False, 1.0]).all(), "the plain gradient does, in every seed"
assert (end[False, 100.0] > 5 * end[True, 100.0]).all(), "and is far behind"

# %%
# .. claim:: The natural gradient does not depend on the coordinates in which the policy is written; the plain
#     gradient does.
#     :experiment: a Gaussian policy on three features with exact expectations, one feature as it is or times 100, 60
#         steps, five seeds
#     :controls: the plain gradient, with steps of the same modelled divergence
#     :shown: yes: the natural gradient's curves agree to 1e-5 in every seed, the plain gradient is left far behind
