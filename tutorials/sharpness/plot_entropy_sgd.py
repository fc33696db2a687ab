"""
Wide valleys by their volume
============================

Entropy-SGD does not ask how low a point is but how much room there is near it at low loss. In one dimension that can be
computed and looked at. For a network it is sampled, and then it is not so clear what helps.
"""

# %%
# Two valleys
# -----------
# The narrow valley at -2 is the lower one. The smaller the stiffness, the further the objective looks around.

import numpy as np

from trref.experiments.classifiers import digits_task
from trref.experiments.figures import spread, use_style
from trref.experiments.training import batches
from trref.nn import mlp
from trref.problems.wells import TwoParabolas
from trref.sharpness.entropy_sgd import langevin_average, negative_local_entropy

plt = use_style()
x, valleys = np.linspace(-4, 5, 181), TwoParabolas()


def objective(stiffness, beta):
    how = {"stiffness": stiffness, "inverse_temperature": beta, "nodes": 801}
    return np.array([float(negative_local_entropy(valleys, point, **how)[0]) for point in x[:, None]])


figure, axis = plt.subplots()
axis.plot(x, valleys(x[:, None])[0], color="0.6", label="loss")
lowest = {}
for stiffness in (10.0, 1.0, 0.3):
    values = objective(stiffness, 5.0)
    values = values - values.min()
    lowest[stiffness] = x[values.argmin()]
    line = axis.plot(x, values, label=f"stiffness {stiffness:g}")[0]
    axis.plot(lowest[stiffness], 0.0, "o", color=line.get_color())
cold = x[objective(0.3, 20.0).argmin()]
axis.set(xlabel="parameter", ylabel="objective, above its minimum", ylim=(-0.1, 2.5))
axis.legend()

# %%
# Noisy labels
# ------------
# 400 digits, 30 % of the labels noise. Everybody computes as many gradients of batches: a step of Entropy-SGD takes 20.

seeds, budget, every = range(3), 1600, 40
task = digits_task(noise=0.3)


def trained(seed, step, cost):
    """Training loss and test accuracy along a run of ``step(gradient, theta, rng, memory) -> (theta, memory)``."""
    rng, seen = np.random.default_rng(seed), []
    theta = mlp.init(rng, task.loss.sizes, scale=2**0.5)
    rows, memory = batches(rng, len(task.loss), 50), np.zeros_like(theta)
    fresh = lambda theta: task.loss.on(next(rows))(theta)  # noqa: E731
    for k in range(budget // cost):
        theta, memory = step(fresh, theta, rng, memory)
        if (k + 1) * cost % every == 0:
            right = task.loss.predict(theta, task.X_test) == task.y_test
            seen.append((float(task.loss(theta)[0]), float(right.mean())))
    return np.array(seen)


def with_momentum(momentum):
    def step(fresh, theta, rng, memory):
        memory = momentum * memory + fresh(theta)[1]
        return theta - 0.1 * memory, memory

    return step


def with_entropy(fresh, theta, rng, memory):
    noise = rng.standard_normal((20, theta.size))
    return langevin_average(fresh, theta, noise, alpha=0.75), memory


choices = {
    "SGD, momentum 0.9": (with_momentum(0.9), 1),
    "SGD": (with_momentum(0.0), 1),
    "Entropy-SGD, L = 20": (with_entropy, 20),
}
runs = {name: np.array([trained(s, step, cost) for s in seeds]) for name, (step, cost) in choices.items()}
figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.6))
for name, each in runs.items():
    for axis, k in zip(axes, (0, 1), strict=True):
        spread(axis, every * np.arange(1, each.shape[1] + 1), each[..., k].tolist(), name)
axes[0].set(xlabel="gradients", ylabel="training loss (noisy labels)")
axes[1].set(xlabel="gradients", ylabel="test accuracy (clean labels)")
axes[0].legend()

# %%
# What the figures show
# ---------------------
# In a wide scope the wide valley wins, although it is higher; in a cold one it does not. The network: Entropy-SGD ends
# with more accuracy than SGD with momentum, which fits the noise. But it has fitted much less of anything. SGD without
# momentum has fitted as little and is as accurate, and so was SGD with momentum when it had fitted no more. What helped
# here is to fit less; that the valleys are wider is not shown.

for stiffness, place in lowest.items():
    print(f"stiffness {stiffness:4}: lowest at {place:.2f}")
assert lowest[10.0] < 0 < lowest[0.3], "the wide valley wins in a wide scope"
assert cold < 0, "but not at a low temperature"
entropy, fast = runs["Entropy-SGD, L = 20"], runs["SGD, momentum 0.9"]
for name, each in runs.items():
    loss, accuracy = each[:, -1].T
    print(f"{name:20} training loss {loss.mean():.2f}, accuracy {accuracy.mean():.3f} ± {accuracy.std():.3f}")
stopped = np.array([run[np.argmax(run[:, 0] <= end[-1, 0]), 1] for run, end in zip(fast, entropy, strict=True)])
print(f"SGD with momentum, stopped at the training loss of Entropy-SGD: {stopped.mean():.3f} ± {stopped.std():.3f}")
assert entropy[:, -1, 1].min() > fast[:, -1, 1].max(), "Entropy-SGD is more accurate at the end, in every seed"
assert entropy[:, -1, 0].min() > fast[:, -1, 0].max(), "and has fitted less, in every seed"
assert stopped.mean() > entropy[:, -1, 1].mean() - 0.03, "SGD stopped there is no worse than by three points"
plain = runs["SGD"][:, -1, 1]
assert abs(plain.mean() - entropy[:, -1, 1].mean()) < 0.02, "nor is SGD without momentum worse than by two"

# %%
# .. claim:: Local entropy favours wide valleys, and following it generalises better than SGD.
#     :experiment: two valleys on a line; a small network on 400 digits, 30 % of the labels noise, 1,600 gradients,
#         three seeds
#     :controls: a low temperature; SGD with and without momentum, and SGD stopped at the same training loss
#     :shown: in part: the wide valley wins in a wide scope; the network is more accurate than with SGD to the end in
#         every seed, but not than with SGD that has fitted as little
