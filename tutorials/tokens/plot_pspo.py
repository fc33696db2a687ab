"""
Does a smoothed probability hold the policy back?
=================================================

PSPO replaces the clip of GRPO by a mixture: the ratio is taken of :math:`(1-\\alpha)\\pi + \\alpha\\pi_{old}`. It looks
like a soft trust region. We draw it, follow it in exact steps, and hold it against the plain ratio with a smaller step.
"""

# %%
# The token term
# --------------
# Clipped, the term becomes flat and its gradient vanishes. Smoothed, it stays a straight line, a little less steep.

import numpy as np
from scipy.special import log_softmax

from trref.experiments.figures import COLOURS, spread, use_style
from trref.experiments.tokens import train
from trref.tokens.grpo import grpo
from trref.tokens.pspo import contraction, pspo
from trref.tokens.terms import logit_gradient

plt = use_style()
ratio = np.linspace(0.02, 3, 300)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
TERMS = {
    "clip 0.2": (grpo, {}),
    "PSPO, alpha 0.1": (pspo, {}),
    "PSPO, alpha 0.5": (pspo, {"alpha": 0.5}),
    "plain ratio": (pspo, {"alpha": 0.0}),
}
one = np.ones((1, 1))
for axis, A in zip(axes, (1.0, -1.0), strict=True):
    for (name, (f, hyper)), colour in zip(TERMS.items(), COLOURS, strict=False):
        values = [-f(np.log(r) * one, 0 * one, np.array([A]), one, **hyper)[0] for r in ratio]
        axis.plot(ratio, values, color=colour, label=name, linestyle="--" if name.startswith("plain") else "-")
    axis.set(xlabel="ratio of the token", ylabel="token term", title=f"advantage {A:+.0f}")
axes[0].legend()

# %%
# Many steps on one batch
# -----------------------
# One context of 50 tokens with random advantages, all expectations exact, plain gradient steps. The control: the plain
# ratio with a learning rate smaller by :math:`1-\alpha`.

V, STEPS, SEEDS, LR = 50, 400, range(6), 2.0
ARMS = {
    "plain ratio": (pspo, {"alpha": 0.0}, 1.0),
    "PSPO, alpha 0.1": (pspo, {"alpha": 0.1}, 1.0),
    "PSPO, alpha 0.5": (pspo, {"alpha": 0.5}, 1.0),
    "plain ratio, half the step": (pspo, {"alpha": 0.0}, 0.5),
    "clip 0.2": (grpo, {}, 1.0),
}


def inner_loop(objective, hyper, scale, seed):
    """Total variation of the policy, and of the mixture with 0.1 of the old one, from the old one after each step."""
    rng = np.random.default_rng(seed)
    q, value = rng.dirichlet(np.full(V, 0.5)) + 1e-4, rng.standard_normal(V)
    log_q = np.log(q / q.sum())
    q, z = np.exp(log_q), log_q
    weighted, actions = V * q * (value - q @ value), np.arange(V)[:, None]  # the mean over tokens is that over q
    policy, mixture = [], []
    for _ in range(STEPS):
        log_prob = log_softmax(z)[:, None]
        _, g = objective(log_prob, log_q[:, None], weighted, np.ones((V, 1)), **hyper)
        z = z - LR * scale * logit_gradient(np.tile(z, (V, 1, 1)), actions, g).sum((0, 1))
        policy.append(abs(np.exp(log_softmax(z)) - q).sum() / 2)
        mixture.append(float(contraction(z[None, None], log_q[None, None], alpha=0.1).total_variation[0, 0]))
    return policy, mixture


figure, axis = plt.subplots()
distance = {}
for name, (objective, hyper, scale) in ARMS.items():
    runs = [inner_loop(objective, hyper, scale, seed) for seed in SEEDS]
    distance[name], mixtures = (np.array(part) for part in zip(*runs, strict=True))
    style = {"linestyle": "--"} if "half" in name else {}
    spread(axis, range(1, STEPS + 1), distance[name], name, **style)
    assert np.allclose(mixtures, 0.9 * distance[name], rtol=1e-9), "what contracts is the mixture, whatever the loss"
axis.set(xlabel="step on the same batch", ylabel="total variation from the old policy", xscale="log")
axis.legend()
for name, values in distance.items():
    print(f"{name:28s} total variation after 20 steps {values[:, 19].mean():.3f}, after 400 {values[:, -1].mean():.3f}")

# %%
# PSPO and the plain ratio with the smaller step lie on top of each other, and neither holds the policy: its distance
# from the old one grows without a bound but 1. The clip does hold it, more or less.

same = abs(distance["PSPO, alpha 0.5"] - distance["plain ratio, half the step"])
assert same.max() < 1e-12, "smoothing the ratio is a smaller step, and nothing else"
assert (distance["PSPO, alpha 0.1"][:, -1] > 0.75).all() and (distance["PSPO, alpha 0.5"][:, -1] > 0.7).all(), (
    "however smooth, the policy runs away"
)
assert distance["clip 0.2"][:, -1].mean() < 0.5 * distance["PSPO, alpha 0.5"][:, -1].mean(), (
    "the clip holds it to less than half of that"
)

# %%
# With Adam
# ---------
# Adam divides by the size of the gradient, so that not even the smaller step is left: at any :math:`\alpha` the run is
# that of the plain ratio. On the token task, several epochs on each batch, against the clip at four learning rates:

figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
curves = {}
for name in ("clip 0.2", "plain ratio", "PSPO, alpha 0.1", "PSPO, alpha 0.5"):
    objective, hyper, _ = ARMS[name]
    runs = [train(objective, seed=s, hyper=hyper, iterations=40).success for s in SEEDS]
    curves[name] = np.array(runs)
    spread(axes[0], range(40), runs, name, linestyle="--" if name.startswith("plain") else "-")
axes[0].set(xlabel="iteration", ylabel="probability of success", title="token task, Adam 0.05")
axes[0].legend()
RATES, ends = (0.05, 0.1, 0.2, 0.4), {}
for name in ("clip 0.2", "PSPO, alpha 0.1"):
    objective, hyper, _ = ARMS[name]
    ends[name] = np.array(
        [[train(objective, seed=s, hyper=hyper, iterations=25, lr=lr).success[-1] for s in SEEDS] for lr in RATES]
    )
    axes[1].errorbar(
        RATES, ends[name].mean(1), ends[name].std(1, ddof=1) / len(SEEDS) ** 0.5, label=name, marker="o", capsize=3
    )
axes[1].set(xscale="log", xlabel="learning rate", ylabel="success after 25 iterations", title="equal learning rates")
axes[1].set_xticks(RATES, RATES)
axes[1].minorticks_off()
axes[1].legend()
for name, values in ends.items():
    print(f"{name:28s} success at learning rates {RATES}: {values.mean(1).round(3)}")

# %%
# PSPO beats the clip at small learning rates, and so does the plain ratio, by the same amount: what helps here is that
# nothing is clipped. At larger learning rates, where the clip is better, too, most of the gain is gone.

gap = abs(curves["PSPO, alpha 0.1"] - curves["plain ratio"]).max()
print(f"largest difference between PSPO and the plain ratio {gap:.1e}")
assert gap < 1e-3 and abs(curves["PSPO, alpha 0.5"] - curves["plain ratio"]).max() < 1e-3, (
    "no difference from the plain ratio in training either"
)
gain = (ends["PSPO, alpha 0.1"] - ends["clip 0.2"]).mean(1)
assert gain[0] > 0.05 and gain[-1] < 0.5 * gain[0], "the lead over the clip shrinks at larger learning rates"

# %%
# .. claim:: Smoothing the probabilities is a soft trust region that trains better than the clip.
#     :experiment: exact steps on one batch of 50 tokens, and the token task with Adam, 6 seeds each
#     :controls: the plain ratio, alone and with the step times 1 - alpha; the clip at four learning rates
#     :shown: no: every run is that of the plain ratio with a smaller step, unbounded as that; both beat a clip at small
#         learning rates, and by less than half of that at large ones
