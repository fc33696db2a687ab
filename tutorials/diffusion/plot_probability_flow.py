"""
One density, many ways down
===========================

The noisy densities of a diffusion model can be followed from noise to data without any noise on the way, or with as
much as one likes. With the exact score of a Gaussian mixture all ways end at the data; what they cost is another
matter.
"""

# %%
# Where a schedule spends its time
# --------------------------------
# Up to its scale a noisy point is told by its ratio of signal to noise. Three schedules fall through the same ratios,
# at other times.

import itertools

import numpy as np

from trref.diffusion.noise_schedules import log_snr, rates, time_at
from trref.diffusion.probability_flow import exponential_step, flow_path, reverse_sample
from trref.diffusion.score_models import ddim_sample
from trref.experiments.diffusion import energy_distance
from trref.experiments.figures import spread, use_style
from trref.problems.mixtures import SCHEDULES, MixtureNoise, three_components, vp_schedule

plt = use_style()
mixture = three_components()
model = MixtureNoise(mixture)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6))
times = np.linspace(0.005, 0.995, 200)
for name in SCHEDULES:
    left.plot(times, log_snr(times, schedule=name), label=name)
left.set(xlabel="noise time", ylabel="log of squared signal to noise")
left.legend()

# %%
# So a solver that visits the same ratios sees the same points. Fifteen exponential steps through equal ratios, under
# each schedule, from one start:

ratios = np.linspace(-4.0, 6.0, 16)
start = np.random.default_rng(0).standard_normal((500, 2))
ends = {}
for name in SCHEDULES:
    alpha, sigma = SCHEDULES[name](time_at(ratios, schedule=name))
    noise, x = MixtureNoise(mixture, name), start * np.sqrt(alpha[0] ** 2 + sigma[0] ** 2)
    for k, t in enumerate(time_at(ratios, schedule=name)[:-1]):
        levels = {"alpha": alpha[k], "sigma": sigma[k], "next_alpha": alpha[k + 1], "next_sigma": sigma[k + 1]}
        x = exponential_step(x, noise(x, np.full(len(x), t)), **levels)
    ends[name] = x / alpha[-1]

# %%
# What a way down costs
# ---------------------
# Energy distance from the data against calls of the model. Heun's rule calls twice a step. All start from noise at time
# 1 and use the same grid, uniform in the square root of the time.

draws, calls, seeds = 500, (4, 8, 16, 32, 64), range(4)
data = [mixture.sample(np.random.default_rng([seed, 1]), draws) for seed in seeds]
floor = np.mean([abs(energy_distance(x, y)) for x, y in itertools.pairwise(data)])


def heun(rng, k):
    t = np.linspace(1.0, np.sqrt(1e-3), k // 2 + 1) ** 2
    return flow_path(model, rng.standard_normal((draws, 2)), t, vp_schedule(t)[1], *rates(t))


ways = {
    "DDIM": lambda rng, k: ddim_sample(rng, model, draws=draws, steps=k),
    "DDPM": lambda rng, k: ddim_sample(rng, model, draws=draws, steps=k, eta=1.0),
    "flow, Heun": heun,
    "flow, Euler": lambda rng, k: reverse_sample(rng, model, draws=draws, steps=k, churn=0.0),
    "with noise, Euler-Maruyama": lambda rng, k: reverse_sample(rng, model, draws=draws, steps=k),
}
curves = {}
for name, way in ways.items():
    runs = [[way(np.random.default_rng([seed, 2]), k) for k in calls] for seed in seeds]
    curves[name] = np.array([[energy_distance(x, fresh) for x in run] for run, fresh in zip(runs, data, strict=True)])
    spread(right, calls, np.maximum(curves[name], 5e-4).tolist(), name, marker="o")
right.axhline(floor, linestyle=":", color="#8c8c8c", label="fresh data")
right.set(xlabel="calls of the model", ylabel="energy distance to the data", yscale="log")
right.set_xscale("log", base=2)
right.set_xticks(calls, map(str, calls))
right.legend(fontsize="small")

# %%
# What the figure shows
# ---------------------
# The schedules agree to rounding: which one a model is trained under does not matter to an exact solver, where its
# steps lie does. With few calls the flow is closer to the data than the equation with noise on the same grid, because
# fresh noise has to be undone by later steps; with many calls all ways meet the distance of fresh data. Heun's rule,
# of the higher order but with half as many steps, is as good as Euler's here, not better.
#
# Exercises
# ---------
# 1. Insert :math:`\hat\varepsilon = -\sigma s` into :eq:`probability-flow-drift` and show, by the Fokker-Planck
#    equation, that the churn drops out of the marginals.
# 2. Solve the flow with `rule="heun"` on a grid that is uniform in :math:`t`. How many calls does it need now?
# 3. With a churn of 2, how many steps does the equation need for the distance that it has with 1?
# 4. Derive both forms of :eq:`probability-flow-exponential`. For which model is each of them exact in one step?

for name, values in curves.items():
    print(f"{name:28s}", values.mean(0).round(4), "+-", values.std(0).round(4))
apart = max(abs(end - ends["vp"]).max() for end in ends.values())
print(f"schedules through the same ratios: {apart:.1e} apart")
assert apart < 1e-10, "the same points under every schedule"
flow, noisy = curves["flow, Euler"], curves["with noise, Euler-Maruyama"]
assert (flow[:, :2] < noisy[:, :2]).all(), "4 and 8 calls: the flow is closer, in every seed"
assert (curves["DDIM"][:, 0] < curves["DDPM"][:, 0]).all(), "so it is with exponential steps"
assert all(values[:, -1].max() < 0.02 for values in curves.values()), "64 calls: all are at the data"
assert curves["flow, Heun"].mean(0)[2] < 0.01, "eight steps of Heun's rule are enough"

# %%
# .. claim:: The flow without noise and the reverse equation with noise have the same marginals, and the flow needs
#     fewer steps.
#     :experiment: a mixture of three Gaussians in the plane with exact scores, 4 to 64 calls of the model, 500
#         samples, four seeds
#     :controls: the equation with noise on the same grid, DDIM and DDPM, fresh data; three schedules through the same
#         ratios of signal to noise
#     :shown: yes: with 4 and 8 calls the flow is closer in every seed, with 64 all are at the data. Heun's rule is not
#         better than Euler's on this grid, and the schedules agree to rounding
