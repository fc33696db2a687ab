"""
A value function that does not chase its batch
==============================================

Returns are noisy, and a batch is small. A value function that fits each batch as well as it can learns the noise; one
that may only move a bounded distance averages over batches. The distance is measured against its own error.
"""

# %%
# Noisy returns, batch after batch
# --------------------------------
# The true value is a smooth function of two features; returns scatter around it with a standard deviation of 1.5. Each
# of sixty batches holds 64 states. Ways to use a batch: fit it (200 steps of Adam), take one trust-region step, or, as
# controls, one step along the plain gradient that moves the values just as far, and a gentle fit (50 steps of Adam at a
# tenth of the rate, the best of a small grid).

import numpy as np

from trref.experiments.figures import spread, use_style
from trref.optimizers import adam
from trref.policy.gae_value_trust_region import value_trust_region_step
from trref.problems.policies import ValueNetwork

plt = use_style()
V, batches, epsilon, seeds = ValueNetwork((2, 32, 1)), 60, 0.02, range(5)


def truth(states):
    return np.sin(2 * states[:, 0]) + states[:, 0] * states[:, 1]


def fit(phi, states, returns, steps=200, lr=1e-2):
    state = adam.init([phi])
    for _ in range(steps):
        value, cache = V.forward(phi, states)
        (phi,), state = adam.update([phi], [V.vjp(cache, 2 * (value - returns) / len(returns))], state, lr=lr)
    return phi


def gentle_fit(phi, states, returns):
    return fit(phi, states, returns, steps=50, lr=1e-3)


def trust_region(phi, states, returns):
    return value_trust_region_step(V, phi, states, returns, delta=epsilon).theta


def plain(phi, states, returns):
    value, cache = V.forward(phi, states)
    error = value - returns
    direction = -V.vjp(cache, error)
    change = V.jvp(cache, direction)
    return phi + np.sqrt(2 * epsilon * (error @ error) / (change @ change)) * direction


def run(rule, seed):
    rng = np.random.default_rng(seed)
    phi, test, errors = V.init(rng), rng.standard_normal((500, 2)), []
    for _ in range(batches):
        errors.append(np.mean((V(phi, test) - truth(test)) ** 2))
        states = rng.standard_normal((64, 2))
        phi = rule(phi, states, truth(states) + 1.5 * rng.standard_normal(64))
    return errors


rules = {
    "fit of each batch": fit,
    "trust-region step": trust_region,
    "plain gradient, as far": plain,
    "gentle fit": gentle_fit,
}
curves = {name: [run(rule, seed) for seed in seeds] for name, rule in rules.items()}
figure, axis = plt.subplots()
for name, runs in curves.items():
    spread(axis, range(batches), runs, name)
axis.set(xlabel="batch", ylabel="squared error against the true value", yscale="log")
figure.legend(loc="outside upper center", ncols=4, fontsize=9)

# %%
# What the figure shows
# ---------------------
# The fit of a batch of 64 is worse than what came before it: it follows the noise, up and down. The trust-region step
# keeps improving. The plain gradient, allowed to move the values equally far, is slower: the matrix matters, not only
# the bound. A gentle fit forgets less than a full one, and still follows the noise more than the trust region does.

late = {name: np.array([np.mean(r[-20:]) for r in runs]) for name, runs in curves.items()}
for name, values in late.items():
    print(f"{name:24} error {values.mean():.3f} in the last twenty batches (seeds {values.round(3)})")
assert (late["trust-region step"] < 0.6 * late["fit of each batch"]).all(), "bounded steps average the noise out"
assert (late["trust-region step"] < 0.8 * late["gentle fit"]).all(), "also compared with a gentle fit"
assert (late["trust-region step"] < 0.5 * late["plain gradient, as far"]).all(), "and the metric helps, in every seed"

# %%
# .. claim:: A trust region for the value function keeps it from overfitting the latest batch.
#     :experiment: regression on noisy returns of a known function, sixty batches of 64, five seeds; no policy is
#         learned
#     :controls: 200 steps of Adam a batch; 50 at a tenth of the rate; one plain gradient step that moves the values
#         as far
#     :shown: yes: the smallest error against the true values in every seed
