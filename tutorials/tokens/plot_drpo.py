"""
Ratios or probabilities? PPO, SPO, DPPO and DRPO on one long-tailed state
=========================================================================

A token of probability 0.001 that becomes 0.01 has a ratio of 10, and hardly anything has happened. DPPO therefore
measures a token's step in probability and drops it beyond a radius; DRPO turns that switch into a slope. We take
hundreds of exact steps on one state, and look at every token.
"""

# %%
# What is left of a token's gradient
# ----------------------------------
# The weight :math:`w` of a good token with old probability 0.3, against the change of its probability. 12.5 is the
# radius that the authors use.

import numpy as np
from scipy.special import log_softmax

from trref.experiments.figures import COLOURS, spread, use_style
from trref.experiments.tokens import train
from trref.optimizers import adam
from trref.tokens.dr_grpo import centred_advantage, dr_grpo
from trref.tokens.drpo import dppo, drpo, drpo_weight, spo

plt = use_style()
one = {"max_length": 1}
LOSSES = {
    "no regulariser": (dr_grpo, {**one, "clip": 1e14}),
    "PPO 0.2": (dr_grpo, {**one, "clip": 0.2}),
    "SPO 0.2": (spo, {**one, "radius": 0.2}),
    "DPPO 0.1": (dppo, {**one, "radius_low": 0.1, "radius_high": 0.1}),
    "DRPO 0.1": (drpo, {**one, "radius": 0.1}),
    "DRPO 12.5": (drpo, {**one, "radius": 12.5}),
}
figure, axis = plt.subplots()
mu, pi = 0.3, np.linspace(0.15, 0.55, 401)
for (name, (loss, hyper)), colour in zip(LOSSES.items(), (COLOURS[6], *COLOURS), strict=False):
    _, g = loss(np.log(pi)[None], np.full((1, 401), np.log(mu)), np.ones(1), np.ones((1, 401)), **hyper)
    axis.plot(pi - mu, -g[0] * mu / pi, label=name, color=colour)
axis.set(xlabel="π - μ of a good token, μ = 0.3", ylabel="weight of its gradient", ylim=(-2, 2.5))
axis.legend(fontsize=8)
weights = drpo_weight(np.log(pi)[None], np.full((1, 401), np.log(mu)), np.ones(1), radius=12.5)[0]
assert abs(weights - 1).max() < 0.03, "at the released radius the weight is almost constant"

# %%
# One state, 50 tokens, 400 exact steps
# -------------------------------------
# Zipf-like probabilities (exponent 1.5); a frequent token is good, two rare ones very good, all others are bad, not
# all alike (5 seeds). All tokens enter with their exact old probability, so nothing is left to sampling.

V, SEEDS = 50, range(5)
rank = np.arange(1, V + 1)
log_mu = log_softmax(-1.5 * np.log(rank))
HEAD, RARE = 0, [25, 40]


def ascend(loss, hyper, seed, steps=400, lr=0.02):
    rng = np.random.default_rng(seed)
    advantage = -1 + 0.1 * rng.standard_normal(V)
    advantage[HEAD], advantage[RARE] = 1.0, 3.0
    z, state, distance = log_mu, adam.init([log_mu]), []
    for _ in range(steps):
        log_p = log_softmax(z)
        _, g = loss(log_p[None], log_mu[None], advantage[None], np.ones((1, V)), **hyper)
        c = np.exp(log_mu) * -g[0]
        (z,), state = adam.update([z], [-(c - np.exp(log_p) * c.sum())], state, lr=lr)
        distance.append(float(abs(np.exp(log_softmax(z)) - np.exp(log_mu)).sum() / 2))
    change = np.exp(log_softmax(z)) - np.exp(log_mu)
    return distance, change


figure, axes = plt.subplots(1, 2, figsize=(9, 3.8))
runs = {name: [ascend(*setting, seed) for seed in SEEDS] for name, setting in LOSSES.items()}
print(f"{'':16s}{'TV':>7s}{'head':>8s}{'rare ratio':>12s}")
summary = {}
for (name, results), colour in zip(runs.items(), (COLOURS[6], *COLOURS), strict=False):
    spread(axes[0], range(400), [r[0] for r in results], name, color=colour)
    change = np.array([r[1] for r in results])
    axes[1].plot(rank, abs(change).mean(0), ".-", color=colour, linewidth=0.8, label=name)
    ratio = 1 + change[:, RARE] / np.exp(log_mu[RARE])
    summary[name] = {"tv": np.array([r[0][-1] for r in results]), "head": change[:, HEAD], "rare": ratio.mean(1)}
    print(f"{name:16s}{summary[name]['tv'].mean():7.2f}{change[:, HEAD].mean():8.3f}{ratio.mean():12.1f}")
axes[0].set(xlabel="step", ylabel="total variation from the old policy", title="how far")
axes[1].axhline(0.1, color=COLOURS[6], linestyle=":")
axes[1].set(xlabel="rank of the token", ylabel="|π - μ| at the end", xscale="log", yscale="log", title="which token")
axes[1].legend(fontsize=7)

# %%
# PPO and SPO freeze the rare good tokens; DPPO and DRPO let them grow. DPPO overshoots its radius on the frequent
# token: its own gradient is switched off, but the others still move it through the softmax. DRPO pulls it back.

frozen = max(summary["PPO 0.2"]["rare"].max(), summary["SPO 0.2"]["rare"].max())
assert summary["DRPO 0.1"]["rare"].min() > 1.5 * frozen and summary["DPPO 0.1"]["rare"].min() > 1.5 * frozen, (
    "the regularised policies let the rare token grow, the clips freeze it"
)
excess = {name: abs(abs(s["head"]) - 0.1) for name, s in summary.items()}
assert (excess["DRPO 0.1"] < 0.5 * excess["DPPO 0.1"]).all(), "DRPO ends nearer to the radius, in every seed"
assert (summary["DRPO 0.1"]["tv"] < summary["DPPO 0.1"]["tv"]).all(), "and moves less far, in every seed"

# %%
# The released radius is another matter: 12.5 gives the same policy as no regulariser at all.

assert abs(summary["DRPO 12.5"]["tv"] - summary["no regulariser"]["tv"]).max() < 0.02, (
    "at the released radius the regulariser does nothing"
)

# %%
# On the token task
# -----------------
# Equal step size, advantages without the deviation, as the authors have them.

figure, axis = plt.subplots()
TASK = {
    "no regulariser": (dr_grpo, {"max_length": 6, "clip": 1e14}),
    "PPO 0.2": (dr_grpo, {"max_length": 6}),
    "DPPO 0.15": (dppo, {"max_length": 6}),
    "DRPO 0.15": (drpo, {"max_length": 6, "radius": 0.15}),
}
final = {}
for name, (loss, hyper) in TASK.items():
    success = [
        train(loss, seed=seed, hyper=hyper, advantage=centred_advantage, iterations=40, epochs=4).success
        for seed in SEEDS
    ]
    final[name] = np.array(success)[:, -1]
    spread(axis, range(40), success, name)
    print(f"{name:16s} success after 40 iterations {final[name].mean():.2f} ± {final[name].std():.2f}")
axis.set(xlabel="iteration", ylabel="probability of success", title="token task")
axis.legend(fontsize=8)

# %%
# .. claim:: A quadratic penalty in probabilities is a smooth trust region that corrects what a mask lets escape.
#     :experiment: 400 exact steps on one state of 50 tokens, 5 seeds; the token task, 5 seeds
#     :controls: no regulariser, PPO, SPO, DPPO of the same radius, and the released radius
#     :shown: yes at a radius of 0.1, at 12.5 it does nothing; on the token task no regulariser does as well
