"""
Steps that shrink on steep ground
=================================

On the graph of the loss a steep slope is a long way, and the natural gradient takes it in short steps. That is a smooth
clipping of gradients. Where does it help on small functions, and on a network with too large a rate?
"""

# %%
# Lengths
# -------
# The step of the graph of the loss against the size of the gradient, beside a hard clip.

import numpy as np

from trref.experiments.classifiers import digits_task, train
from trref.experiments.figures import use_style
from trref.experiments.training import Rule
from trref.optimizers import adam, induced_metric, sgd
from trref.optimizers.induced_metric import natural_step
from trref.problems.convex import Quadratic, Rosenbrock
from trref.problems.landscapes import Beale, Quartic

plt = use_style()
figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.6))
sizes = np.logspace(-2, 2, 81)
for xi in (0.01, 0.1, 1.0):
    lengths = [natural_step(np.array([s]), xi=xi)[0] for s in sizes]
    axes[0].loglog(sizes, lengths, label=f"xi = {xi}")
    assert max(lengths) <= 0.5 / xi**0.5 + 1e-12, "the bound"
axes[0].loglog(sizes, np.minimum(sizes, 1), color="C6", ls="--", label="clipped at 1")
axes[0].set(xlabel="norm of the gradient", ylabel="norm of the step")
axes[0].legend()

# %%
# Four small functions
# --------------------
# Steps to a loss of 1e-8 above the minimum, at most 800, for the best of a grid: five rates, two momenta, and where
# there is one, three heights. All minima are 0.

functions = {
    "Rosenbrock": (Rosenbrock(), [-1.2, 1.0]),
    "quartic": (Quartic(), [1.5, -1.0]),
    "Beale": (Beale(), [1.0, 1.0]),
    "quadratic 1:100": (Quadratic(np.diag([100.0, 1.0]), np.zeros(2)), [1.0, 1.0]),
}
LIMIT, RATES = 800, 10.0 ** np.arange(-3, 1.1)
rules = {
    "SGD": (sgd.init, sgd.update, {"averaging": "debiased_ema"}, False),
    "Adam": (adam.init, adam.update, {}, False),
    "graph of L": (induced_metric.init, induced_metric.update, {"beta": 0.0}, True),
    "graph of log L": (induced_metric.init, induced_metric.update_log, {"beta": 0.0}, True),
}


def steps_needed(f, start, init, update, hyper, with_loss):
    """Steps until the loss is below 1e-8; the limit where that does not happen."""
    x = np.array(start)
    state = init([x])
    for step in range(LIMIT):
        loss, g = f(x)
        if loss < 1e-8:
            return step
        if not loss < 1e8:
            return LIMIT
        more = {"loss": np.asarray(loss)} if with_loss else {}
        (x,), state = update.unchecked([x], [g], state, **hyper, **more)
    return LIMIT


needed = {}
for name, (init, update, fixed, has_height) in rules.items():
    key = "beta1" if name == "Adam" else "momentum"
    for function, (f, start) in functions.items():
        best = LIMIT
        for lr in RATES:
            for momentum in (0.0, 0.9):
                for xi in (0.01, 0.3, 10.0) if has_height else (None,):
                    hyper = {**fixed, "lr": lr, key: momentum} | ({} if xi is None else {"xi": xi})
                    best = min(best, steps_needed(f, start, init, update, hyper, "log" in name))
        needed[name, function] = best
for name in rules:
    print(f"{name:15}", {function: needed[name, function] for function in functions})
for i, name in enumerate(rules):
    axes[1].bar(np.arange(4) + 0.2 * (i - 1.5), [needed[name, f] for f in functions], 0.2, label=name)
axes[1].set(ylabel="steps to 1e-8", xticks=range(4), yscale="log")
axes[1].set_xticklabels(functions, rotation=15)
axes[1].legend(fontsize="small")

# %%
# A rate that is too large
# ------------------------
# The digits by momentum, with and without the metric, at a rate that suits and at one that is far too large.

task, seeds = digits_task(), range(3)
plain = Rule(sgd.init, sgd.update), {"averaging": "debiased_ema", "momentum": 0.9}
metric = Rule(induced_metric.init, induced_metric.update), {"momentum": 0.9, "xi": 0.1}
accuracy = {}
for lr in (0.3, 10.0):
    for name, (rule, hyper) in {"plain": plain, "metric": metric}.items():
        runs = [train(task, seed=s, rule=rule, hyper=hyper, lr=lr, epochs=20) for s in seeds]
        accuracy[lr, name] = np.array([r.accuracies[-1] for r in runs])
        print(f"rate {lr}, {name:6}: accuracy {accuracy[lr, name].round(3).tolist()}")

# %%
# What the figures show
# ---------------------
# The logarithmic form is ahead where the surface is flat or curved, for it knows the minimum's value to be 0, but Adam
# solves an axis-parallel quadratic at once, and no form beats all others everywhere. Scaling alone, the first form, is
# slower than plain descent on a quadratic. On the digits it changes nothing at a rate that suits; at one that is far
# too large it keeps what is left of learning.

limit = {name: [f for f in functions if needed[name, f] == LIMIT] for name in rules}
print("not reached:", limit)
assert not limit["graph of log L"] and all("Rosenbrock" in limit[name] for name in ("SGD", "Adam", "graph of L"))
assert needed["graph of log L", "quartic"] < 0.2 * needed["graph of L", "quartic"] < 0.5 * needed["Adam", "quartic"]
assert needed["Adam", "quadratic 1:100"] < needed["SGD", "quadratic 1:100"] < needed["graph of L", "quadratic 1:100"]
assert abs(accuracy[0.3, "metric"] - accuracy[0.3, "plain"]).max() < 0.02, "nothing changes at a rate that suits"
assert accuracy[10.0, "metric"].min() > accuracy[10.0, "plain"].max() + 0.1, "and learning survives one that does not"

# %%
# .. claim:: Optimisers from the metric of the loss landscape are highly effective in low dimension, and act as a smooth
#     clipping of gradients.
#     :experiment: four functions of two variables with minimum 0, each rule with the best of a grid; the digits at two
#         rates, three seeds
#     :controls: momentum and Adam on the same grid; momentum at the same rates
#     :shown: in part: the logarithmic form alone reaches all four minima, but Adam is faster on one of them, and there
#         the form without logarithm is slower than plain descent; a rate that ends all learning ends less of it with
#         the metric
#
# Exercises
# ---------
# 1. Add 1 to each function. What becomes of the logarithmic form, and why?
# 2. Compute one number for each tensor in place of one for all. How does the network at the large rate fare?
# 3. Turn the quadratic by 45°. Which of the rules notice?
