"""
Without a date for the end
==========================

A rate that falls to zero is planned for one last step. Schedule-free methods average instead, and can stop at any. What
does that cost, and what does the point at which gradients are taken have to do with it?
"""

# %%
# A noisy quadratic
# -----------------
# Twenty directions of curvature 0.01 to 1, gradient noise of variance 1/4, 1,000 steps from a normal start: 150 runs
# at each of six rates, in five groups. With β = 0 the parameters are those of SGD at a constant rate and the mean is
# Polyak's: one run gives both. The rate that falls in a straight line is planned for 1,000 steps.

import numpy as np

from trref.experiments.figures import use_style
from trref.optimizers import schedule_free, sgd

plt = use_style()
curvature = np.geomspace(0.01, 1, 20)
rates, runs, steps, groups, every = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0), 150, 1000, 5, 25


def excess(theta):
    """Mean excess loss of each group."""
    return 0.5 * (curvature * theta**2).sum(-1).reshape(groups, -1).mean(-1)


def run(lr, beta=None):
    """Losses of the parameters and of the mean, (steps seen, groups) each; without β, SGD with a rate that falls."""
    rng = np.random.default_rng(0)
    params = [rng.standard_normal((runs, 20))]
    state = sgd.init(params) if beta is None else schedule_free.init(params)
    seen = []
    for t in range(steps):
        grads = [curvature * params[0] + 0.5 * rng.standard_normal((runs, 20))]
        if beta is None:
            params, state = sgd.update(params, grads, state, lr=(1 - t / steps) * lr)
        else:
            params, state = schedule_free.update(params, grads, state, lr=lr, beta=beta)
        if (t + 1) % every == 0:
            seen.append((excess(params[0]), excess(params[0] if beta is None else state.x[0])))
    return np.array(seen).transpose(1, 0, 2)


found = {}
for lr in rates:
    found["constant", lr], found["mean of SGD, β = 0", lr] = run(lr, 0.0)
    found["schedule-free, at y", lr], found["schedule-free, β = 0.9", lr] = run(lr, 0.9)
    found["linear decay", lr] = run(lr)[0]
names = list(dict.fromkeys(name for name, _ in found))
best = {name: min(rates, key=lambda lr: found[name, lr][-1].mean()) for name in names}

# %%
# The way and the end
# -------------------
# Left: the loss on the way, each rule at the rate that is best at the end. Right: the end, against the rate.

figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3.5), sharey=True)
for name in names:
    left.plot(range(every, steps + 1, every), found[name, best[name]].mean(1), label=f"{name}, rate {best[name]:g}")
    right.plot(rates, [found[name, lr][-1].mean() for lr in rates], marker="o", label=name)
left.set(xlabel="step", ylabel="excess loss", yscale="log")
right.set(xlabel="rate", ylabel="excess loss at the end", xscale="log", yscale="log")
left.legend(fontsize=6)

ends = {name: found[name, best[name]][-1] for name in names}
middles = {name: found[name, best[name]][steps // every // 2 - 1] for name in names}
for name in names:
    print(f"{name:24} rate {best[name]:<5} half-way {middles[name].mean():.3f}, end {np.round(ends[name], 3)}")

# %%
# What the figures show
# ---------------------
# With each at its best rate the schedule-free method is a little better than a constant rate and a little worse than
# linear decay, with which it is level half-way, before the rate of that is small. The plain mean of SGD (β = 0) is
# better than all of them, and from 0.1 on hardly cares for the rate: in a quadratic nothing is lost by gradients far
# from the mean. The claim that the point between pays is one on networks, and is not shown. At the best rate it hardly
# matters what is evaluated; at large rates the parameters themselves, y, are clearly worse than the mean.

free, linear = "schedule-free, β = 0.9", "linear decay"
assert (ends[free] < ends["constant"]).all(), "better than a constant rate, in every group"
assert ends[linear].mean() < 0.95 * ends[free].mean(), "not quite as good as a rate that knows the end"
assert abs(middles[free].mean() / middles[linear].mean() - 1) < 0.15, "but level with it half-way"
assert (ends["mean of SGD, β = 0"] < ends[linear]).all(), "on a quadratic the plain mean is the best"
at = [found[name, 1.0][-1] for name in ("schedule-free, at y", free)]
assert (at[0] > 1.2 * at[1]).all(), "at a large rate the parameters are worse than their mean"

# %%
# .. claim:: Without knowing when training ends, schedule-free SGD is as good as a schedule that does.
#     :experiment: a noisy quadratic, six rates, 150 runs in five groups
#     :controls: a constant rate, linear decay and Polyak's mean of SGD, each at its best rate
#     :shown: in part: better than a constant rate in every group, a tenth behind linear decay, level with it half-way;
#         the plain mean is better than all here. Networks are not compared
#
# Exercises
# ---------
# 1. Which β is best here? Try 0, 0.5, 0.9 and 1, each at its best rate.
# 2. Give linear decay 500 steps and stop both there. Who is ahead?
# 3. Why does a warm-up of ten steps change so little, with the weights as they are? Set `rate_power` to 0.
