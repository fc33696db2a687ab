"""
What an outlier does to the step
================================

Adam remembers squares, AdaMax the largest size. One gradient in a hundred is a hundred times as large: for how long do
the others pay for it?
"""

# %%
# Sizes in the denominator
# ------------------------
# Gradients of size 1 and random sign, every hundredth of them times 100.

import numpy as np

from trref.experiments.figures import spread, use_style
from trref.optimizers import adam, adamax

plt = use_style()
steps, decay, seeds = 400, 0.99, range(5)


def denominators(rule, size, seed):
    """The root of the second moment, or the maximum, as the step sees it."""
    rng, params = np.random.default_rng(seed), [np.zeros(1)]
    state, seen = rule.init(params), []
    for t in range(1, steps + 1):
        g = rng.choice((-1.0, 1.0), 1) * (size if t % 100 == 0 else 1.0)
        params, state = rule.update(params, [g], state, lr=0.01, beta2=decay)
        seen.append(state.u[0][0] if rule is adamax else np.sqrt(state.v[0][0] / (1 - decay**t)))
    return np.array(seen)


names = {"Adam": adam, "AdaMax": adamax}
found = {
    (name, size): np.array([denominators(rule, size, seed) for seed in seeds])
    for name, rule in names.items()
    for size in (1.0, 100.0)
}
figure, axis = plt.subplots()
for (name, size), values in found.items():
    label = f"{name}, {'one in a hundred times 100' if size > 1 else 'no outliers'}"
    spread(axis, range(1, steps + 1), values.tolist(), label)
axis.set(xlabel="step", ylabel="denominator", yscale="log")
axis.legend(fontsize=7)

# %%
# What the figure shows
# ---------------------
# Adam's root jumps to a tenth of the outlier, the root of :math:`1 - \beta_2`, and falls by the root of
# :math:`\beta_2` a step; AdaMax's maximum jumps to all of it and falls twice as fast. After a hundred steps the two
# agree within a factor of ten: the maximum is the more cautious after an outlier, and needs no correction at the start.

start = {name: found[name, 1.0][:, 0] for name in names}
assert all(np.allclose(values, 1.0) for values in start.values()), "both begin at the first gradient's size"
jump = {name: found[name, 100.0][:, 99] / found[name, 100.0][:, 98] for name in names}
last = {name: found[name, 100.0][:, 198] for name in names}
print({name: (float(jump[name].mean().round(1)), float(last[name].mean().round(1))) for name in names})
assert np.allclose(jump["AdaMax"], 100.0), "the maximum is the outlier"
assert np.allclose(found["AdaMax", 100.0][:, 198], 100 * decay**99, rtol=1e-12), "and decays by the power of β₂"
assert (jump["Adam"] < 15).all() and (jump["Adam"] > 8).all(), "the root takes a tenth of it"
assert (last["AdaMax"] > 4 * last["Adam"]).all(), "99 steps later the maximum is still several times as large"

# %%
# .. claim:: With the infinity norm the second moment needs no correction for its start, and steps are bounded by the
#     rate.
#     :experiment: gradients of size 1 with and without outliers, five seeds; the bound in the tests
#     :controls: Adam with the same decay
#     :shown: yes; with the price that one outlier shortens the steps of AdaMax by its full size
#
# Exercises
# ---------
# 1. Let the outliers come at random, on average every tenth step. Which rule moves farther?
# 2. Give the first hundred gradients the size 0. Which of the three forms of epsilon can do that without a division by
#    0?
# 3. At which decay does AdaMax forget an outlier as fast as Adam does?
