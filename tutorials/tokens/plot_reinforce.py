"""
What is a baseline worth?
=========================

REINFORCE needs no more than answers, rewards and the gradient of log-probabilities. Its estimate has the right mean
with any baseline; the baseline decides how many answers it takes to see that mean. We measure the variance with and
without one at equal numbers of answers, train with both, and look at when GRPO is the same update.
"""

# %%
# The variance of the estimate
# ----------------------------
# A policy on the token task is trained for a while, so that it solves its prompts now and then. From there we take many
# batches of the same size and compare the estimates of the gradient: how far they scatter about their mean, and where
# that mean points. Baselines are nothing, the mean of the group, and the mean of the *other* answers.

import functools

import numpy as np

from trref.experiments.figures import COLOURS, use_style
from trref.experiments.tokens import train
from trref.problems.tokens import TokenTask
from trref.tokens.grpo import group_advantage, grpo
from trref.tokens.reinforce import reinforce

plt = use_style()
SEEDS, ANSWERS, BATCHES = range(6), 8, 150
task = TokenTask(levels=(1, 1, 2, 2), vocabulary=8, length=5)
group = np.repeat(np.arange(len(task.levels)), ANSWERS)
leave_one_out = functools.partial(group_advantage, std="none", baseline="leave_one_out")
BASELINES = {
    "none": lambda reward, group: reward,
    "none, rewards 1 and 2": lambda reward, group: reward + 1,
    "the group": functools.partial(group_advantage, std="none"),
    "the other answers": leave_one_out,
}


def estimate(theta, responses, baseline):
    """The gradient that REINFORCE ascends on one batch."""
    advantage = baseline(task.reward(responses), group)
    _, gradient = reinforce(responses.log_prob, advantage, responses.mask)
    return -task.log_prob_vjp(theta, group, responses.tokens, gradient)


def exact(theta, direction, h=1e-5):
    """The slope of the mean success along a direction."""
    ahead, behind = (task.success_probability(theta + s * h * direction).mean() for s in (1, -1))
    return (ahead - behind) / (2 * h)


STAGES = (2, 8, 16, 40)
variance = {name: np.zeros((len(SEEDS), len(STAGES))) for name in BASELINES}
slope = {name: np.zeros(len(SEEDS)) for name in BASELINES}
success = np.zeros((len(SEEDS), len(STAGES)))
for seed in SEEDS:
    for stage, iterations in enumerate(STAGES):
        start = train(reinforce, seed=seed, task=task, advantage=leave_one_out, iterations=iterations, lr=0.03)
        theta, rng = start.theta, np.random.default_rng(1000 + seed)
        success[seed, stage] = start.success[-1]
        batches = [task.sample(rng, theta, group) for _ in range(BATCHES)]
        for name, baseline in BASELINES.items():
            estimates = np.array([estimate(theta, batch, baseline) for batch in batches])
            variance[name][seed, stage] = estimates.var(0, ddof=1).sum()
            if stage == 1:  # along a fixed direction, drawn apart from the batches
                along = estimate(theta, task.sample(np.random.default_rng(seed), theta, group), leave_one_out)
                along /= np.linalg.norm(along)
                slope[name][seed] = (estimates @ along).mean() / exact(theta, along)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
colour = dict(zip(BASELINES, COLOURS, strict=False))


def draw(axis, x, runs, name):
    """Mean and standard deviation over the seeds."""
    axis.errorbar(x, runs.mean(0), runs.std(0, ddof=1), fmt="o-", capsize=3, color=colour[name], label=name)


for name, values in variance.items():
    draw(axes[0], success.mean(0), values, name)
axes[0].set(
    xlabel="probability of success", ylabel="variance of the estimate", yscale="log", title="32 answers a batch"
)
axes[0].legend(title="baseline", fontsize=8)
saved = variance["none"] / variance["the other answers"]
shifted = variance["none, rewards 1 and 2"] / variance["the other answers"]
print("variance without a baseline over that with the others', rewards 0 and 1 | 1 and 2:")
for p, *factors in zip(success.mean(0), saved.T, shifted.T, strict=True):
    print(f"  at success {p:.2f}: " + " | ".join(f"{x.mean():6.2f} ± {x.std(ddof=1):5.2f}" for x in factors))
for name, values in slope.items():
    print(f"slope over the exact one, baseline {name}: {values.mean():.3f} ± {values.std(ddof=1):.3f}")

assert (saved[:, -1] > 2).all(), "for a policy that mostly succeeds the baseline is worth more than twice the answers"
assert (saved[:, 0] < 1).all(), "for one that mostly fails it costs some"
assert (shifted > 4).all(), "with rewards of 1 and 2 it is worth more than four times the answers, always"
standard_error = {name: values.std(ddof=1) / len(values) ** 0.5 for name, values in slope.items()}
for name in ("none", "the other answers"):
    assert abs(slope[name].mean() - 1) < 3 * standard_error[name], "the mean is right, with or without it"
assert np.allclose(slope["the group"], (1 - 1 / ANSWERS) * slope["the other answers"]), "an own share is a factor"

# %%
# While successes are rare there is nothing to take off, and the noise of the baseline itself, a mean of seven, adds to
# the variance. Where the policy mostly succeeds most of the reward is its mean, and without a baseline the estimate
# keeps paying for it. With rewards of 1 and 2 it does from the start.
#
# Training
# --------
# Sixty plain gradient steps (Adam would hide the difference of scales) at several step sizes, with the same number of
# answers for all.


def trained(seed, baseline, lr, steps=60):
    """Success after gradient ascent from the uniform policy."""
    rng, theta = np.random.default_rng(seed), np.zeros(task.size)
    for _ in range(steps):
        theta = theta + lr * estimate(theta, task.sample(rng, theta, group), baseline)
    return float(task.success_probability(theta).mean())


STEP_SIZES = (1.5, 4, 16, 64)
final = {}
print(f"success at step size {'':18}" + "".join(f"{lr:>15g}" for lr in STEP_SIZES))
for name in ("none", "none, rewards 1 and 2", "the other answers"):
    final[name] = np.array([[trained(seed, BASELINES[name], lr) for lr in STEP_SIZES] for seed in SEEDS])
    middle, width = final[name].mean(0), final[name].std(0, ddof=1)
    draw(axes[1], STEP_SIZES, final[name], name)
    cells = "".join(f"{m:7.3f} ± {w:5.3f}" for m, w in zip(middle, width, strict=True))
    print(f"  baseline {name:28}{cells}")
axes[1].set(
    xlabel="step size", ylabel="exact probability of success", xscale="log", title="after sixty steps, six seeds"
)
axes[1].set_xticks(STEP_SIZES, [f"{lr:g}" for lr in STEP_SIZES])
axes[1].minorticks_off()
gap = final["the other answers"][:, 2:] - final["none, rewards 1 and 2"][:, 2:]
assert (gap.mean(1) > 0.1).all(), "with rewards of 1 and 2 large steps fail without a baseline, in every seed"
assert (final["the other answers"][:, 2:] > 0.98).all(), "with one they don't"
same = final["the other answers"] - final["none"]
assert (abs(same.mean(0)) < 0.03).all(), "with rewards of 0 and 1 it makes no difference here"

# %%
# With rewards of 0 and 1 a wrong answer moves nothing, only right ones grow, and nothing is lost without a baseline.
# With rewards of 1 and 2 every sampled answer is pushed up, the wrong ones half as much as the right ones, and at large
# steps the policy settles on what it happened to sample.
#
# GRPO on fresh samples
# ---------------------
# GRPO's ratio is 1 where the policy has not moved. Then nothing is clipped, and its gradient is that of REINFORCE with
# the same average: with one step a batch the two are one and the same run. With more steps a batch the ratio moves;
# REINFORCE does not notice that its answers are no longer the policy's own, GRPO does.

AVERAGE = {"aggregation": "seq_mean"}
apart = {}
for epochs in (1, 4):
    options = {"task": task, "iterations": 15, "epochs": epochs, "minibatches": 1}
    both = [
        (train(grpo, seed=s, **options).theta, train(reinforce, seed=s, hyper=AVERAGE, **options).theta) for s in SEEDS
    ]
    apart[epochs] = np.array([abs(a - b).max() / abs(a).max() for a, b in both])
    print(f"{epochs} steps a batch: parameters differ by {apart[epochs].mean():.1e} ± {apart[epochs].std(ddof=1):.1e}")
assert apart[1].max() < 1e-9, "one step a batch: GRPO is REINFORCE"
assert apart[4].min() > 1e-2, "four steps: they part"

# %%
# .. claim:: A baseline leaves the policy gradient's mean as it is and lowers its variance.
#     :experiment: 150 batches of 32 answers on a small token task, at four stages of training; 60 plain gradient steps
#         at four step sizes; six seeds each
#     :controls: no baseline at equal answers and step sizes; rewards of 1 and 2 in the place of 0 and 1; the exact
#         slope; the mean of the group
#     :shown: in part: the mean is right. The variance falls where the policy mostly succeeds, and everywhere with
#         rewards of 1 and 2, where without it large steps fail; with rewards of 0 and 1 it rises while successes are
#         rare, and training reaches the same
