"""
A trust region for every token: TROLL
=====================================

TROLL projects each token's distribution onto a KL ball of radius 0.05 and optimises the projected policy. We run many
inner steps on each batch, at two step sizes, and watch how far tokens go, under no constraint, a clip, and TROLL.
"""

# %%
# Noisy rewards, many inner steps
# -------------------------------
# 12 contexts of 30 tokens with fixed mean rewards and noise; 16 samples a context and 8 Adam steps a batch. The raw
# policy acts; the projection is used in training alone.

import numpy as np
from scipy.special import log_softmax, softmax

from trref.experiments.figures import COLOURS, spread, use_style
from trref.experiments.tokens import train
from trref.optimizers import adam
from trref.tokens.dapo import dapo_over_batch
from trref.tokens.grpo import group_advantage
from trref.tokens.terms import logit_gradient
from trref.tokens.troll import troll
from trref.tokens.troll_projection import project_kl

plt = use_style()
C, V, N, BATCHES, SEEDS = 12, 30, 16, 25, range(5)
context = np.repeat(np.arange(C), N)


def taken(z, actions):
    return np.take_along_axis(log_softmax(z, -1), actions[..., None], 2)[..., 0]


def clipped(width):
    def objective(logits, old_logits, actions, advantage, mask):
        log_prob, old_log_prob = taken(logits, actions), taken(old_logits, actions)
        loss, g = dapo_over_batch(log_prob, old_log_prob, advantage, mask, clip_low=width, clip_high=width)
        return loss, logit_gradient(logits, actions, g)

    return objective


METHODS = {"no constraint": clipped(1e14), "clip 0.2": clipped(0.2), "TROLL 0.05": troll}


def bandit(objective, seed, lr):
    """Largest and mean KL(new ‖ old) after each batch, raw and projected, and the mean reward."""
    rng = np.random.default_rng(seed)
    value, z, state = rng.standard_normal((C, V)), np.zeros((C, V)), adam.init([np.zeros((C, V))])
    largest, mean, projected, reward = [], [], [], []
    for _ in range(BATCHES):
        old, p = z, softmax(z, -1)
        actions = (p.cumsum(-1)[context] < rng.random((C * N, 1))).sum(-1).clip(max=V - 1)[:, None]
        r = value[context, actions[:, 0]] + rng.standard_normal(C * N)
        advantage, mask = group_advantage(r, context), np.ones((C * N, 1))
        for _ in range(8):
            _, g = objective(z[context][:, None], old[context][:, None], actions, advantage, mask)
            (z,), state = adam.update([z], [g[:, 0].reshape(C, N, V).sum(1)], state, lr=lr)
        new, before = log_softmax(z, -1), log_softmax(old, -1)
        kl = (np.exp(new) * (new - before)).sum(-1)
        inside = project_kl(z, old)
        largest.append(float(kl.max()))
        mean.append(float(kl.mean()))
        projected.append(float((np.exp(inside) * (inside - before)).sum(-1).max()))
        reward.append(float((softmax(z, -1) * value).sum(-1).mean()))
    return largest, mean, projected, reward


figure, axes = plt.subplots(2, 2, figsize=(9, 6), sharex=True)
results = {}
for row, lr in zip(axes, (0.02, 0.1), strict=True):
    for name, objective in METHODS.items():
        runs = [bandit(objective, seed, lr) for seed in SEEDS]
        results[name, lr] = np.array(runs)  # seed, figure, batch
        spread(row[0], range(BATCHES), [r[0] for r in runs], name)
        spread(row[1], range(BATCHES), [r[3] for r in runs], name)
        biggest, mean, _, reward = results[name, lr].mean(0)
        print(f"lr {lr:4}: {name:14s} largest KL {biggest.max():.2f}, mean {mean.mean():.3f}, reward {reward[-1]:.2f}")
    row[0].axhline(0.05, color=COLOURS[6], linestyle=":")
    row[0].set(ylabel="largest KL(new ‖ old)", yscale="log", title=f"step size {lr}")
    row[1].set(ylabel="mean reward", title=f"step size {lr}")
for axis in axes[1]:
    axis.set_xlabel("batch")
axes[0, 0].legend(fontsize=8)

for runs in results.values():
    assert runs[:, 2].max() <= 0.05 + 1e-9, "the projected policy never leaves the ball"
free, ours = results["no constraint", 0.1], results["TROLL 0.05", 0.1]
assert (ours[:, 0].max(1) < free[:, 0].max(1)).all(), "and the raw policy is pulled back, in every seed"
assert ours[:, 1].mean() < free[:, 1].mean(), "and moves less far on average"

# %%
# At the small step nothing violates the radius, and TROLL is no constraint at all. At the large one it ends with a
# higher reward than no constraint, and so does the clip: the two are alike.

last = {key: runs[:, 3, -1] for key, runs in results.items()}
assert abs(last["TROLL 0.05", 0.02] - last["no constraint", 0.02]).max() < 1e-6, "nothing to project"
gain = {name: last[name, 0.1] - last["no constraint", 0.1] for name in ("clip 0.2", "TROLL 0.05")}
print({name: f"{g.mean():+.2f} ± {g.std(ddof=1) / len(g) ** 0.5:.2f}" for name, g in gain.items()})
assert all(g.mean() > 0 for g in gain.values()), "both end higher than without a constraint"
difference = gain["TROLL 0.05"] - gain["clip 0.2"]
assert abs(difference.mean()) < 2 * difference.std(ddof=1) / len(SEEDS) ** 0.5 + 0.05, "TROLL and the clip: alike"

# %%
# On the token task
# -----------------
# Three epochs an iteration at a larger step than usual.

figure, axis = plt.subplots()
final = {}
for name, objective in METHODS.items():
    runs = [train(objective, seed=s, iterations=20, epochs=3, lr=0.1).success for s in SEEDS]
    final[name] = np.array(runs)[:, -1]
    spread(axis, range(20), runs, name)
    print(f"{name:14s} success after 20 iterations {final[name].mean():.2f} ± {final[name].std():.2f}")
axis.set(xlabel="iteration", ylabel="probability of success", title="token task")
axis.legend(fontsize=8)

# %%
# .. claim:: Projecting each token onto a KL ball is a better trust region than a clip.
#     :experiment: noisy rewards in 12 contexts at two step sizes, and the token task; 5 seeds
#     :controls: equal step size, no constraint, a clip
#     :shown: in part: the projected policy stays in the ball, the raw one is pulled back; the clip earns as much
