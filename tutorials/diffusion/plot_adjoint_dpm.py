"""
A gradient that runs the sampler backwards
==========================================

The gradient of a loss on a sample, by the noise that the sample came from, solves an equation that runs from the data
back to the noise. No state has to be kept. What it costs is that the gradient belongs to the solution of the flow, not
to the steps that were taken.
"""

# %%
# How exact with how many steps
# -----------------------------
# A mixture of three Gaussians with its exact score and a small untrained correction. The reference is the fourth-order
# method with 100 steps. On the same grids: the adjoint equation, and the exact gradient of the steps. Errors are
# relative, by row, and the median of the rows counts: near a border between modes no short grid finds the gradient.

import numpy as np

from trref.diffusion.adjoint_dpm import adjoint_gradient
from trref.diffusion.noise_schedules import rates, time_at
from trref.diffusion.probability_flow import flow_path
from trref.diffusion.symplectic_adjoint import solve_flow, trained_guidance
from trref.experiments.figures import spread, use_style
from trref.optimizers import adam
from trref.problems.denoisers import Residual, TimeNetwork
from trref.problems.mixtures import MixtureNoise, three_components, vp_schedule
from trref.problems.rewards import QuadraticReward

plt = use_style()
exact = MixtureNoise(three_components())
network = Residual(exact, TimeNetwork(2, (8,)))
loss, seeds, counts = QuadraticReward(np.array([0.2, 0.0]), -1.0), range(4), (4, 8, 16, 32)


def grid(n, start=0.9, end=0.02):
    """Times of equally spaced logarithms of signal to noise."""
    alpha, sigma = vp_schedule(np.array([start, end]))
    return time_at(np.linspace(*(2 * np.log(alpha / sigma)), n + 1))


def of_the_steps(theta, x, times, rule):
    alpha, sigma = vp_schedule(times)
    return trained_guidance(network, theta, x, sigma / alpha, loss, rule=rule)[1]


ways = {
    "adjoint, Euler": lambda theta, x, n: adjoint_gradient(network, theta, x, grid(n), loss, rule="euler"),
    "steps, Euler": lambda theta, x, n: of_the_steps(theta, x, grid(n), "euler"),
    "adjoint, Runge-Kutta": lambda theta, x, n: adjoint_gradient(network, theta, x, grid(n), loss),
    "steps, Runge-Kutta": lambda theta, x, n: of_the_steps(theta, x, grid(n), "rk4"),
}
errors = {name: np.empty((len(seeds), len(counts))) for name in ways}
drift, by_time, by_rho = np.empty((3, len(seeds), len(counts)))
for seed in seeds:
    rng = np.random.default_rng(seed)
    theta, x = 0.2 * rng.standard_normal(network.size), rng.standard_normal((25, 2))
    true = adjoint_gradient(network, theta, x, grid(100), loss).x
    end = solve_flow(exact, x, np.divide(*vp_schedule(grid(100))[::-1]), rule="rk4")
    for i, n in enumerate(counts):
        for name, way in ways.items():
            off = np.linalg.norm(way(theta, x, n).x - true, axis=1) / np.linalg.norm(true, axis=1)
            errors[name][seed, i] = np.median(off)
        drift[seed, i] = np.median(abs(ways["adjoint, Runge-Kutta"](theta, x, n).start - x).max(1))
        times = grid(n)
        alpha, sigma = vp_schedule(times)
        ends = flow_path(exact, x, times, sigma, *rates(times), rule="euler"), solve_flow(exact, x, sigma / alpha)
        by_time[seed, i], by_rho[seed, i] = (np.sqrt(((e - end) ** 2).sum(1)).mean() for e in ends)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.7))
for name, values in errors.items():
    spread(left, counts, values.tolist(), name, marker="o")
left.set(xlabel="steps", ylabel="relative error of the gradient", yscale="log")
left.set_xscale("log", base=2)
left.set_xticks(counts, map(str, counts))
left.legend(fontsize="small")
for name, values in errors.items():
    print(f"{name:22s}", values.mean(0))
print("drift", drift.mean(0), "Euler in t", by_time.mean(0).round(3), "in rho", by_rho.mean(0).round(3))

# %%
# The noise of a wanted sample
# ----------------------------
# Adam on the noise, 40 updates, so that the sample comes to a goal between the modes. The gradient comes from 6 steps;
# the loss that is shown is that of a fine solution.

curves = {}
for name in ("adjoint, Euler", "steps, Euler", "adjoint, Runge-Kutta"):
    runs = []
    for seed in seeds[:3]:
        theta, x = np.zeros(network.size), np.random.default_rng([seed, 1]).standard_normal((15, 2))
        state, values = adam.init([x]), []
        for step in range(41):
            if step % 10 == 0:
                fine = np.divide(*vp_schedule(grid(25))[::-1])
                values.append(loss(solve_flow(exact, x, fine, rule="rk4"))[0].mean())
            (x,), state = adam.update([x], [ways[name](theta, x, 6).x], state, lr=0.1)
        runs.append(values)
    curves[name] = np.array(runs)
    spread(right, range(0, 41, 10), runs, name, marker="o")
    print(name, curves[name].mean(0).round(4))
right.set(xlabel="updates of the noise", ylabel="squared distance from the goal", yscale="log")
right.legend(fontsize="small")

# %%
# What the figure shows
# ---------------------
# With the fourth-order method the adjoint equation gives the gradient as well as the steps do, and the drift of the
# start, which costs nothing to look at, tells when. With Euler's method it gives none: towards the noise the flow near
# the data expands, and what is integrated back is not where one came from. The steps' own gradient has no such trouble.
# So it is when the noise of a sample is optimised by gradients of six steps.
#
# Exercises
# ---------
# 1. Show that the change of variables :eq:`adjoint-dpm-variables` removes the linear term of the flow.
# 2. End the grid at noise time 0.1 in place of 0.02. What becomes of the adjoint by Euler's method, and why?
# 3. Count the states that each way has to keep for n steps, and the calls of the model.
# 4. Derive :eq:`adjoint-dpm-adjoint` from :math:`\frac{\mathrm d}{\mathrm d\rho}(a^\top\delta) = 0` for every tangent
#    :math:`\delta` of the flow.

adjoint_euler, steps_euler, adjoint_rk, steps_rk = errors.values()
assert (adjoint_rk[:, 1] / adjoint_rk[:, 3] > 40).all(), "fourth order: two doublings, in every seed"
assert (abs(np.log2(steps_euler[:, 0] / steps_euler[:, 3]) - 3) < 1.2).all(), "first order: three doublings"
assert (adjoint_euler[:, 1:] > 2 * steps_euler[:, 1:]).all(), "Euler's adjoint is not the gradient of Euler's steps"
assert (adjoint_euler > 0.2).all(), "and of little use with up to 32 of them"
assert (adjoint_rk < 2 * steps_rk).all(), "at order four the two are equally good"
assert (by_time < by_rho).all(), "the stiff linear part does not hurt here"
first, second, third = curves.values()
assert (first[:, -1] > 2 * second[:, -1]).all() and (second[:, -1] > 2 * third[:, -1]).all(), "and they optimise so"

# %%
# .. claim:: Adjoint equations give gradients through a diffusion sampler with constant memory, and a change of
#     variables makes few steps enough.
#     :experiment: a mixture of three Gaussians with exact scores and a small correction, 4 to 32 steps, the gradient by
#         the noise; the noise of wanted samples by 40 updates; three and four seeds
#     :controls: the exact gradient of the steps; Euler's and the fourth-order method; the flow in its own time
#     :shown: in part: with the fourth-order method the gradient is as good as that of the steps, and errors fall with
#         its order. With Euler's method it is useless where the gradient of the steps is not. That the change of
#         variables saves steps does not show: in its own time Euler's method ends nearer to the data, in every seed
