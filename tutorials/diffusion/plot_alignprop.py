"""
A reward's gradient through the whole sampler
=============================================

A diffusion model samples points on a ring. A reward likes one place beside it. How many samples does it take to teach
the model, with the reward's gradient and without? And what becomes of the ring?
"""

# %%
# Four ways to the gradient
# -------------------------
# The model is the exact one of the ring plus a network that starts at 0, and a chain has eight steps. AlignProp
# differentiates all of them, those from a random one on, or the last one, on four samples an update. The policy
# gradient differentiates the log-density of the path, without the reward's gradient; it may spend the same 256 samples
# in batches of 4, 16 or 64.

import numpy as np

from trref.diffusion.alignprop import chain, ddpo, reward_of_chain, sample_truncation
from trref.experiments.diffusion import finetune
from trref.experiments.figures import spread, use_style
from trref.problems.denoisers import Residual, TimeNetwork
from trref.problems.mixtures import MixtureNoise, ring, vp_schedule
from trref.problems.rewards import QuadraticReward

plt = use_style()
steps, budget, looks, seeds = 8, 256, 4, range(3)
data = ring()
model = Residual(MixtureNoise(data), TimeNetwork(2, (32, 32)))
reward = QuadraticReward(np.array([1.2, 1.2]), 0.5)
times = np.linspace(1.0, 0.1, steps + 1) ** 2
alpha_bar = vp_schedule(times)[0] ** 2


def through(pick):
    """The loss of AlignProp, on the steps that `pick` keeps."""

    def objective(theta, x, rng):
        z = rng.standard_normal((steps, *x.shape))
        return reward_of_chain(model, theta, x, z, times, alpha_bar, pick(rng), reward)

    return objective


def policy_gradient(theta, x, rng):
    path = chain(model, theta, x, rng.standard_normal((steps, *x.shape)), times, alpha_bar)
    R = reward(path[-1])[0]
    return ddpo(model, theta, path, times, alpha_bar, (R - R.mean()) / R.std())


fresh = np.random.default_rng(100)
test = fresh.standard_normal((300, 2)), fresh.standard_normal((steps, 300, 2))


def seen(theta):
    """Mean reward of test samples, and their mean distance from the nearest mode."""
    x = chain(model, theta, *test, times, alpha_bar)[-1]
    away = np.sqrt(((x[:, None] - data.means) ** 2).sum(-1)).min(1)
    return reward(x)[0].mean(), away.mean()


choices = {
    "whole chain": (4, through(lambda rng: np.ones(steps))),
    "from a random step": (4, through(lambda rng: sample_truncation(rng, draws=1, steps=steps)[0])),
    "last step": (4, through(lambda rng: 1.0 * (np.arange(steps) == steps - 1))),
} | {f"policy gradient, batches of {n}": (n, policy_gradient) for n in (4, 16, 64)}
curves = {name: [] for name in choices}
for seed in seeds:
    theta = model.init(np.random.default_rng(seed))
    for name, (draws, objective) in choices.items():
        updates = budget // draws
        every = updates // looks
        run = finetune(objective, theta, seed=seed, draws=draws, steps=updates, lr=2e-3, every=every, watch=seen)
        curves[name].append([seen(theta), *run.watched])
curves = {name: np.array(runs) for name, runs in curves.items()}  # (seeds, looks, 2)

samples = np.linspace(0, budget, looks + 1)
figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3.6))
for name, values in curves.items():
    spread(left, samples, values[:, :, 0].tolist(), name, marker="o")
    right.plot(*values.mean(0).T, marker="o")
left.set(xlabel="samples seen", ylabel="mean reward")
right.set(xlabel="mean reward", ylabel="distance from the nearest mode")
figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=8)

# %%
# What the figure shows
# ---------------------
# With the reward's gradient four samples make a useful update, and 64 of them gain nearly twice what the policy
# gradient gains at best, in batches of four, too. (In the plane, with a smooth reward and Adam, which looks at signs
# more than at sizes, the policy gradient is not bad.) In batches of 64, as it is used where its noise is larger, it has
# hardly begun. The whole chain is the fastest. All buy reward with distance from the ring (right): nothing in the
# method holds the model back, and truncation is slower on much the same road. Stopping early, or going part of the way
# back (:method:`lora`), is part of the recipe.

gained = {name: values[:, :, 0] - values[:, :1, 0] for name, values in curves.items()}
for name, values in gained.items():
    print(f"{name:32} gains {values[:, 1].mean():.2f} with 64 samples, {values[:, 2].mean():.2f} with 128")
whole, others = gained["whole chain"], [gained[f"policy gradient, batches of {n}"] for n in (4, 16, 64)]
assert all((whole[:, 1:3] > other[:, 1:3]).all() for other in others), "64 and 128 samples, in every seed"
assert whole[:, 1].mean() > 1.5 * others[0][:, 1].mean(), "by half as much again with 64, on average"
middle, last = gained["from a random step"], gained["last step"]
assert whole[:, 1].mean() > max(middle[:, 1].mean(), last[:, 1].mean()), "the whole chain is the fastest, on average"
away = curves["whole chain"][:, :, 1]
assert (away[:, 3:] > 1.5 * away[:, :1]).all(), "and the samples leave the ring, in every seed"

# %%
# .. claim:: Back-propagation through the sampler reaches a reward with far fewer samples than the policy gradient, and
#     random truncation keeps a model from exploiting the reward.
#     :experiment: an exact model of a ring and a network that corrects it, eight steps, 256 samples, three seeds;
#         reward and distance from the ring of 300 test samples
#     :controls: the policy gradient with the same samples and optimiser in three sizes of batch; the last step alone
#     :shown: in part: fewer samples, in every seed, by half against the best policy gradient and by far more against
#         one in large batches. That truncation exploits less is not shown: it is slower, and leaves the ring, too
#
# Exercises
# ---------
# 1. Measure the noise of each gradient: the spread over batches against the mean. How does it grow with the dimension?
# 2. Give the reward a target, ``kind="target"``. Where do the samples stop?
# 3. Let eta be 0. Which of the ways can still be used?
