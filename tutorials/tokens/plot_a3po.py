"""
Old data: clip around a policy that was never computed
======================================================

Training that runs beside sampling sees answers of a policy several versions old. Clip ratios around that policy and
most tokens freeze; clip around the weights just before the update and one needs another forward pass. A-3PO guesses
them from two numbers that are at hand. How good is the guess, and does it matter?
"""

# %%
# The trust region that the guess amounts to
# ------------------------------------------
# The guess lies on the straight line between the sampling policy's log-probability and the current one, at the
# second-last of d steps. Clipping around it clips the *total* ratio to a range that widens with the age d of the token.

import numpy as np

from trref.experiments.figures import COLOURS, spread, use_style
from trref.experiments.tokens import train
from trref.tokens.a3po import a3po, decoupled, proximal_approximation

plt = use_style()
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
ratio, ages = np.geomspace(0.1, 10, 2001), np.arange(1, 9)
low, high = [], []
for d in ages:
    token = np.log(ratio)[:, None], np.ones(len(ratio)), np.ones((len(ratio), 1)), np.zeros((len(ratio), 1))
    version = np.full((len(ratio), 1), 8 - d)
    rises = a3po(*token, version, current_version=8)[1][:, 0] != 0
    falls = a3po(token[0], -token[1], *token[2:], version, current_version=8)[1][:, 0] != 0
    low.append(ratio[falls].min())
    high.append(ratio[rises].max())
axes[0].fill_between(ages, low, high, color=COLOURS[0], alpha=0.25, label="moves freely")
for bound in (0.8, 1.2):
    axes[0].plot(ages, bound**ages, color=COLOURS[0], label="$(1\\pm\\epsilon)^d$" if bound > 1 else None)
    axes[0].axhline(bound, color=COLOURS[1], linestyle=":", label="PPO" if bound > 1 else None)
axes[0].set(xlabel="age d of the token, in versions", ylabel="ratio to the sampling policy", yscale="log")
axes[0].set_title("the trust region, found by probing")
axes[0].legend()
step = ratio[1] / ratio[0]
assert np.allclose(np.log(low), ages * np.log(0.8), atol=np.log(step)), (
    "the lower end of the region falls with age as a power of 0.8"
)
assert np.allclose(np.log(high), ages * np.log(1.2), atol=np.log(step)), "and the upper end rises as a power of 1.2"

# %%
# Training on old answers
# -----------------------
# The sampling policy is d versions old, two epochs of two minibatches a version. Four losses: PPO on the sampling
# policy; decoupled PPO with the proximal policy recomputed; the same with A-3PO's guess; and, as a control, no clipping
# at all. We record which tokens were clipped and how far the guess was from the truth.

SEEDS, ITERATIONS = range(5), 35


def loss(kind, log):
    def objective(log_prob, old_log_prob, advantage, mask, behavior_log_prob, version, current_version):
        stale = advantage, mask, behavior_log_prob
        now = {"current_version": current_version + 1}  # the loop counts from the weights before the update
        if kind == "recomputed":
            result = decoupled(log_prob, old_log_prob, *stale)
        else:
            hyper = {"PPO": {"interpolation": "rollout"}, "A-3PO": {}, "no clip": {"clip": 1e9}}[kind]
            result = a3po(log_prob, *stale, version, **now, **hyper)
        alive = mask * (advantage[:, None] != 0)
        guess = proximal_approximation(log_prob, behavior_log_prob, version, **now)
        errors = (mask * abs(guess - old_log_prob)).sum() / mask.sum()
        distance = (mask * abs(behavior_log_prob - old_log_prob)).sum() / mask.sum()
        log.append((float((alive * (result[1] == 0)).sum() / max(alive.sum(), 1)), float(errors), float(distance)))
        return result

    return objective


KINDS = ("PPO", "recomputed", "A-3PO", "no clip")
runs, logs = {}, {}
for d in (4, 8):
    for kind in KINDS:
        logs[d, kind] = [[] for _ in SEEDS]
        runs[d, kind] = [
            train(loss(kind, log), seed=s, lag=d - 1, iterations=ITERATIONS).success
            for s, log in zip(SEEDS, logs[d, kind], strict=True)
        ]
for kind, colour in zip(KINDS, COLOURS, strict=False):
    spread(axes[1], range(ITERATIONS), runs[8, kind], kind, color=colour)
axes[1].set(xlabel="iteration", ylabel="probability of a right answer", title="sampled 8 versions ago")
axes[1].legend()

# %%
# Anchored at old data, PPO clips many tokens and learns slowly. The guess is off by a part of the distance between
# sampling and proximal policy, the smaller the older the data, and does at least as well as the exact anchor, which
# clips a few tokens more. The saving is one forward pass a training step.

mean = {}
print(f"{'age':>4s} {'loss':12s}{'success':>16s}{'clipped':>9s}{'error':>8s}{'distance':>10s}")
for (d, kind), values in runs.items():
    final, log = np.array(values)[:, -1], np.array([np.mean(one, 0) for one in logs[d, kind]])
    mean[d, kind] = final, *log.mean(0)
    print(f"{d:4d} {kind:12s}{final.mean():8.3f} ± {final.std(ddof=1):.3f}", end="")
    print(f"{mean[d, kind][1]:9.3f}{mean[d, kind][2]:8.3f}{mean[d, kind][3]:10.3f}")

first = [train(loss(kind, []), seed=0, iterations=10).success for kind in ("PPO", "recomputed", "A-3PO")]
assert np.allclose(first[0], first[1]) and np.allclose(first[0], first[2]), "at age 1 the three are one"
for d in (4, 8):
    ppo, exact, guess = (mean[d, kind] for kind in ("PPO", "recomputed", "A-3PO"))
    assert (guess[0] > ppo[0] + 0.1).all(), "in every seed far ahead of PPO on the sampling policy"
    assert guess[0].mean() > exact[0].mean() - 0.03, "no worse than the exact anchor"
    assert guess[1] < exact[1] < 0.25 * ppo[1], "few tokens clipped, by the guess fewest"
part = {d: mean[d, "A-3PO"][2] / mean[d, "A-3PO"][3] for d in (4, 8)}
print(f"error of the guess, as a part of the distance: {part[4]:.2f} at age 4, {part[8]:.2f} at age 8")
assert part[8] < 0.7 * part[4] < 0.3, "the anchor is close, and the guess worth more on older data"
lead = {d: (mean[d, "A-3PO"][0] - mean[d, "PPO"][0]).mean() for d in (4, 8)}
assert lead[8] > lead[4], "and the further behind PPO falls"

# %%
# The control without any clipping keeps up: in this small task the anchors matter because they do *not* clip. That a
# trust region around the proximal policy prevents a collapse needs longer training of larger models.

assert abs(mean[8, "no clip"][0] - mean[8, "A-3PO"][0]).mean() < 0.1, "no clipping at all keeps up"

# %%
# .. claim:: On stale data an interpolated proximal policy does as well as a recomputed one, at one forward pass less.
#     :experiment: small token task, answers 4 and 8 versions old, 5 seeds
#     :controls: PPO on the sampling policy; the exact proximal policy; no clipping at all
#     :shown: yes: at least as good as the exact anchor and far ahead of PPO; no clipping at all does as well here
