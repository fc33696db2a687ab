"""
A verifier that errs: which corrections does training see?
==========================================================

A verifier rejects right answers and accepts wrong ones, at known rates. Two corrections are on offer. We train on 20
prompts of 10 answers, one of them right, and ask what each correction does that a learning rate would not.
"""

# %%
# Scale and variance
# ------------------
# One prompt, one answer, everything exact: the expected gradient relative to the clean one, and the variance of the
# score's factor. Only backward restores the scale, and pays for it.

import numpy as np

from trref.experiments.figures import COLOURS, spread, use_style
from trref.experiments.tokens import train_bandit
from trref.tokens.grpo import group_advantage
from trref.tokens.noisy_rlvr import corrected_advantage, corrected_gradient

plt = use_style()
P, V, G, SEEDS, STEPS = 20, 10, 8, range(6), 150
CORRECTIONS = ("backward", "forward", "naive")
levels = np.linspace(0, 0.45, 10)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
for correction, colour in zip(CORRECTIONS, COLOURS, strict=False):
    scale, variance = [], []
    for rho in levels:
        rates, observed = (np.full(2, rho), np.full(2, rho)), np.array([0.0, 1.0])
        s = corrected_advantage(observed, np.zeros(2, int), *rates, correction=correction)
        accept = np.array([rho, 1 - rho])  # of a wrong and of a right answer
        mean = (1 - accept) * s[0] + accept * s[1]
        scale.append(mean[1] - mean[0])
        second = (1 - accept) * s[0] ** 2 + accept * s[1] ** 2
        variance.append(0.9 * (second - mean**2)[0] + 0.1 * (second - mean**2)[1])
    style = "--" if correction == "naive" else "-"
    axes[0].plot(levels, scale, style, color=colour, label=correction)
    axes[1].semilogy(levels[1:], variance[1:], style, color=colour, label=correction)
axes[0].set(xlabel="both rates", ylabel="expected gradient over the clean one", title="scale")
axes[1].set(xlabel="both rates", ylabel="variance of the factor", title="variance")
axes[0].legend()

# %%
# Training
# --------
# Rates 0.3 (false positives) and 0.4 (false negatives), REINFORCE in plain gradient steps, equal learning rates. Left
# without, right with the mean of the group as baseline. The control is the naive reward with a larger learning rate.

RIGHT = np.eye(V)[np.arange(P) % V]


def run(correction, seed, *, rho0, rho1, baseline="none", lr=0.5, standardised=False):
    """Probability of the right answer, mean over prompts, after each step."""

    def corrected(reward, group):
        rates = rho0[group], rho1[group]
        s = corrected_advantage(reward, group, *rates, correction=correction)
        return group_advantage(s, group) if standardised else s

    def reinforce(log_prob, mask, reward, group):
        return corrected_gradient(
            log_prob, mask, reward, group, rho0[group], rho1[group], correction=correction, baseline=baseline
        )

    def given(log_prob, mask, advantage):
        return 0.0, -mask * advantage[:, None] / len(mask)

    accept = rho0[:, None] + (1 - rho0 - rho1)[:, None] * RIGHT
    result = train_bandit(
        given if standardised else reinforce,
        np.zeros((P, V)),
        accept,
        seed=seed,
        advantage=corrected,
        answers=G,
        iterations=STEPS,
        lr=lr,
    )
    return (result.probabilities * RIGHT).sum(2).mean(1)


NOISE = {"rho0": np.full(P, 0.3), "rho1": np.full(P, 0.4)}
CLEAN = {"rho0": np.zeros(P), "rho1": np.zeros(P)}
figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), sharey=True)
ends = {}


def draw(axis, name, key, **arguments):
    runs = np.array([run(seed=s, **arguments) for s in SEEDS])
    spread(axis, range(STEPS + 1), runs.tolist(), name)
    ends[key, name] = runs[:, -1]


for axis, baseline in zip(axes, ("none", "group_mean"), strict=False):
    draw(axis, "clean", baseline, correction="naive", baseline=baseline, **CLEAN)
    for correction in CORRECTIONS:
        draw(axis, correction, baseline, correction=correction, baseline=baseline, **NOISE)
    draw(axis, "naive, step / 0.3", baseline, correction="naive", baseline=baseline, lr=0.5 / 0.3, **NOISE)
    axis.set(xlabel="step", title="no baseline" if baseline == "none" else "below the group's mean")
for correction in CORRECTIONS:
    draw(axes[2], correction, "standardised", correction=correction, standardised=True, **NOISE)
axes[0].set(ylabel="probability of the right answer")
axes[2].set(xlabel="step", title="standardised within the group")
axes[0].legend(fontsize=8)
for (key, name), values in ends.items():
    print(f"{key:14s} {name:20s} {values.mean():.3f} ± {values.std(ddof=1) / 6**0.5:.3f}")

# %%
# Backward tracks the clean run; forward and naive lag, by the factor 0.3 of their expected gradients. But naive with
# its step divided by 0.3 is as good, and below the group's mean it is backward, exactly, run by run. Standardised, all
# three are one run. Forward is not faster than backward; without another baseline it is ahead of naive, for it is a
# baseline.


def end(key, name):
    return ends[key, name]


assert (abs(end("none", "backward") - end("none", "clean")) < 0.02).all(), (
    "without a baseline the backward correction ends where clean rewards do"
)
assert (end("none", "backward") > end("none", "forward") + 0.05).all(), "well ahead of the forward one"
assert np.allclose(end("group_mean", "naive, step / 0.3"), end("group_mean", "backward"), atol=1e-9), (
    "under the mean of the group the backward correction is a larger step, and nothing else"
)
assert np.allclose(end("group_mean", "forward"), end("group_mean", "naive"), atol=1e-9), (
    "and the forward one nothing at all"
)
assert np.allclose(end("standardised", "backward"), end("standardised", "naive"), atol=1e-6), (
    "divided by the deviation, backward is nothing either"
)
assert abs(end("none", "naive, step / 0.3") - end("none", "backward")).max() < 0.02, (
    "without a baseline a larger step does as well"
)

# %%
# Rates that differ from prompt to prompt
# ---------------------------------------
# Here no learning rate helps: half of the prompts have a good verifier, half one with rates of 0.4. Backward, with each
# prompt's own rates, gives all prompts equal weights. The control has naive's step divided by the mean scale.

rates = np.where(np.arange(P) < P // 2, 0.02, 0.4)
MIXED = {"rho0": rates, "rho1": rates}
mean_scale = float((1 - 2 * rates).mean())
figure, axis = plt.subplots()
draw(axis, "clean", "mixed", correction="naive", baseline="group_mean", **CLEAN)
draw(axis, "backward", "mixed", correction="backward", baseline="group_mean", **MIXED)
draw(axis, "naive", "mixed", correction="naive", baseline="group_mean", **MIXED)
draw(axis, f"naive, step / {mean_scale:.2f}", "mixed", correction="naive", baseline="group_mean",
     lr=0.5 / mean_scale, **MIXED)  # fmt: skip
axis.set(xlabel="step", ylabel="probability of the right answer", title="rates 0.02 for half of the prompts, else 0.4")
axis.legend()
for name in ("backward", "naive", f"naive, step / {mean_scale:.2f}"):
    print(f"mixed {name:20s} {end('mixed', name).mean():.3f}")
assert (end("mixed", "backward") > end("mixed", f"naive, step / {mean_scale:.2f}") + 0.01).all(), (
    "where prompts differ in their noise a larger step is not enough"
)

# %%
# .. claim:: Corrections of a noisy verifier's rewards, backward and forward, recover clean training.
#     :experiment: 20 prompts, 10 answers each, groups of 8, rates 0.3 and 0.4 or per prompt, 6 seeds
#     :controls: the naive reward, its step divided by the lost scale; baselines; GRPO's standardisation
#     :shown: in part: backward does, but so does a larger step unless prompts have rates of their own; forward is naive
#         with a baseline; standardised within groups, all are one
