"""
Guidance by where the flow will end
===================================

Guidance without training moves a sampler's steps towards a goal, by the gradient of a loss on the data that the noisy
point stands for. One step of denoising is a poor guess of these data. A few steps of the flow are a better one, and
their exact gradient costs no more memory than their states.
"""

# %%
# How far ahead n steps see
# -------------------------
# A ring of eight narrow modes. From noisy points at four noise times the flow is solved with n Euler steps, and the
# result is compared with where 150 Heun steps end.

import numpy as np

from trref.diffusion.score_models import ddim_step
from trref.diffusion.symplectic_adjoint import guidance, guided_step, solve_flow
from trref.experiments.figures import COLOURS, spread, use_style
from trref.problems.mixtures import GuidedModel, MixtureNoise, ring, vp_schedule
from trref.problems.rewards import QuadraticReward

plt = use_style()
mixture, counts, seeds = ring(), (1, 2, 4, 8), range(5)
model = MixtureNoise(mixture)


def levels(t, n):
    """Ratios of noise to signal at n + 1 equally spaced times from t to 0."""
    alpha, sigma = vp_schedule(np.linspace(t, 0.0, n + 1))
    return sigma / alpha


starts = (0.9, 0.6, 0.4, 0.2)
misses = np.empty((len(seeds), len(starts), len(counts)))
for seed in seeds:
    for i, t in enumerate(starts):
        alpha, sigma = (float(level) for level in vp_schedule(np.array(t)))
        x = mixture.noised(alpha, sigma).sample(np.random.default_rng([seed, i]), 60)
        end = solve_flow(model, x, levels(t, 150), rule="heun")
        for j, n in enumerate(counts):
            misses[seed, i, j] = np.sqrt(((solve_flow(model, x, levels(t, n)) - end) ** 2).sum(1)).mean()
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.7))
for i, t in enumerate(starts):
    spread(left, counts, misses[:, i].tolist(), f"from noise time {t}", marker="o")
left.set(xlabel="Euler steps n", ylabel="distance from where the flow ends")
left.set_xscale("log", base=2)
left.set_xticks(counts, map(str, counts))
left.legend(fontsize="small")
print(misses.mean(0).round(3))

# %%
# Guided to a goal between two modes
# ----------------------------------
# The class has two neighbouring modes, and the goal lies halfway between them, where there are no data: a sampler has
# to choose between the goal and the data. Thirty DDIM steps with classifier-free guidance of scale 2, guided from noise
# time 0.7 to 0.3, with the same strengths for all n.

both = GuidedModel(MixtureNoise(mixture.subset(np.array([0, 1]))), model, 2.0)
goal = mixture.means[:2].mean(0)
loss, strengths = QuadraticReward(goal, -1.0), (0.0, 0.1, 0.2, 0.4)


def sample(seed, n, strength, draws=60):
    t = np.linspace(1.0, 0.0316, 31) ** 2
    alpha_bar, x = vp_schedule(t)[0] ** 2, np.random.default_rng([seed, 9]).standard_normal((draws, 2))
    for k in range(30):
        times = np.full(draws, t[k])
        moved = ddim_step(
            x, both(x, times), 0 * x, alpha_bar=float(alpha_bar[k]), next_alpha_bar=float(alpha_bar[k + 1])
        )
        if strength and 0.3 < t[k] < 0.7:
            gap = both.conditional(x, times) - both.unconditional(x, times)
            gradient = guidance(both, x, levels(t[k], n), loss)[1]
            moved = guided_step(moved, gradient, gap, strength=strength, scale=2.0)
        x = moved
    from_goal = np.sqrt(((x - goal) ** 2).sum(1)).mean()
    return from_goal, mixture.log_density(x).mean()


results = np.array([[[sample(seed, n, s) for s in strengths] for n in counts] for seed in seeds])
for j, n in enumerate(counts):
    mean = results[:, j].mean(0)
    right.plot(*mean.T, marker="o", color=COLOURS[j], label=f"n = {n}")
    print(n, mean.round(3).tolist())
right.set(xlabel="distance from the goal (strengths 0, 0.1, 0.2, 0.4)", ylabel="log-density of the data")
right.legend(loc="lower center")

# %%
# What the figure shows
# ---------------------
# The miss falls with every doubling of n, least from high noise, where one cannot see far. The guess of one step makes
# guidance blind here: for a point that may still go to either mode, the mean of the data *is* the goal, the loss is
# small and its gradient says nothing of where the point will go; what is left of it, at the same strength, only
# disturbs. Two steps see the choice. Four spare the data more than two where the guidance is strong; eight add nothing.
#
# Exercises
# ---------
# 1. Write :eq:`symplectic-adjoint-adjoint` out for the midpoint rule, whose first weight is 0. Why does the first stage
#    still receive a cotangent?
# 2. Give the levels equal distances in :math:`\log\rho` in place of equal times. How do the curves of the left panel
#    change at noise time 0.9?
# 3. Repeat each guided step twice, with `travel_back` in between. What does it do to both coordinates of the right
#    panel?
# 4. Replace the gradient by that of the adjoint equation solved backwards (the deviation on record) with n = 4. How far
#    off is it at noise times 0.7 and 0.3?

assert (misses[:, :, 1:] < misses[:, :, :-1]).all(), "more steps see farther, in every seed and from every time"
assert (misses[:, 0, 2] > misses[:, 3, 0]).all(), "but four steps from high noise miss more than one from low noise"
one, two, four, eight = np.moveaxis(results, 1, 0)
for n in (two, four, eight):
    assert (n[:, 1:, 0] < one[:, 1:, 0] - 0.05).all(), "one step does not come nearer to the goal, several do"
assert (abs(one[:, 1:, 0] - one[:, :1, 0]) < 0.05).all(), "whatever the strength"
assert (four[:, 3, 1] > two[:, 3, 1]).all(), "with strong guidance four steps spare the data more than two"
assert (abs(eight - four).mean(0) < 0.1).all(), "eight add nothing"

# %%
# .. claim:: Guidance by the exact gradient of a few solver steps follows a goal better than by one step of denoising.
#     :experiment: a ring of eight narrow modes with exact scores; a class of two, and a goal between them; DDIM of 30
#         steps, guided by n = 1, 2, 4 and 8 Euler steps at three strengths, five seeds
#     :controls: n = 1, which is guidance by the denoiser; no guidance; the end of the flow by 150 steps of Heun's rule
#     :shown: yes: one step does not come nearer to the goal at any strength, several do in every seed. Beyond four
#         steps nothing is gained, and from high noise no small number of steps sees where the flow ends
