"""
A second phase that does not end outside
========================================

A penalty on the divergence nearly keeps a policy in its trust region, on average. FixPO goes on, after each epoch,
until every state of the batch is inside. What does a penalty leave outside, and what does the guarantee cost?
"""

# %%
# Ten epochs on one batch
# -----------------------
# 512 states, a network with two hidden layers, minibatches of 64. After each step on the surrogate with its penalty the
# weight of the penalty takes a step of its own. The control is the same without the second phase; three bounds, and
# three margins for the middle one.

import numpy as np

from trref.experiments.figures import spread, use_style
from trref.experiments.one_batch import one_batch
from trref.optimizers import adam
from trref.policy.fixpo import fixup_phase, multiplier_loss
from trref.policy.ppo_penalty import kl_penalty_objective

plt = use_style()
EPOCHS, SIZE, SEEDS = 10, 64, range(3)


def train(seed, radius, margin, fixup):
    """The largest divergence at the end of each epoch, the exact gain, and the steps of both phases."""
    batch = one_batch(seed)
    policy, theta = batch.policy, batch.theta
    rng, weight, record = np.random.default_rng(seed), np.array(1.0), []
    state, weight_state = adam.init([theta]), adam.init([weight])
    taken = np.take_along_axis(batch.advantage, batch.actions[:, None], 1)[:, 0]
    extra = steps = 0
    for _ in range(EPOCHS):
        order = rng.permutation(len(batch.states))
        for start in range(0, len(order), SIZE):
            rows = order[start : start + SIZE]
            z, cache = policy.forward(theta, batch.states[rows])
            _, dz = kl_penalty_objective(
                z, batch.logits[rows], batch.actions[rows], taken[rows], kl_weight=float(weight)
            )
            (theta,), state = adam.update([theta], [policy.vjp(cache, dz)], state, lr=3e-3)
            kl = policy.kl(batch.logits[rows], z)[0]
            slope = np.asarray(multiplier_loss(weight, np.maximum(kl, 0), radius=radius, margin=margin).slope)
            (weight,), weight_state = adam.update([weight], [slope], weight_state, lr=0.01)
            weight, steps = np.asarray(np.maximum(weight, 0.0)), steps + 1
        if fixup:
            done = fixup_phase(
                policy,
                theta,
                batch.states,
                batch.logits,
                kl_weight=float(weight),
                radius=radius,
                margin=margin,
                batch=SIZE,
            )
            theta, weight, extra = done.theta, np.asarray(done.kl_weight), extra + done.updates
        z = policy(theta, batch.states)
        p, q = (np.exp(v - v.max(1, keepdims=True)) for v in (z, batch.logits))
        p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
        record.append((policy.kl(batch.logits, z)[0].max(), ((p - q) * batch.advantage).sum(1).mean()))
    return np.array(record), extra / steps


settings = {(radius, 2.0) for radius in (0.05, 0.2, 0.5)} | {(0.2, margin) for margin in (1.0, 3.0)}
runs = {(*s, fixup): [train(seed, *s, fixup) for seed in SEEDS] for s in sorted(settings) for fixup in (False, True)}

figure, axes = plt.subplots(1, 3, figsize=(11, 3.5))
x = np.arange(1, EPOCHS + 1)
for i, radius in enumerate((0.05, 0.2, 0.5)):
    for fixup, style in ((False, "--"), (True, "-")):
        curves = np.array([r[0] for r in runs[radius, 2.0, fixup]])
        name = f"{radius:g}{', fixup' if fixup else ', penalty alone'}"
        spread(axes[0], x, curves[:, :, 0], name, color=f"C{i}", linestyle=style)
        spread(axes[1], x, curves[:, :, 1], name, color=f"C{i}", linestyle=style)
    axes[0].axhline(radius, color=f"C{i}", linewidth=0.8, linestyle=":")
axes[0].set(xlabel="epoch", ylabel="largest KL(old‖new) in the batch", yscale="log")
axes[1].set(xlabel="epoch", ylabel="exact gain")
axes[1].legend(fontsize=7)
keys = [(0.05, 2.0), (0.2, 1.0), (0.2, 2.0), (0.2, 3.0), (0.5, 2.0)]
shares = np.array([[r[1] for r in runs[*key, True]] for key in keys])
axes[2].bar(range(len(keys)), shares.mean(1), color="C3")
axes[2].set(ylabel="steps of the fixup, per step", xlabel="bound, margin")
axes[2].set_xticks(range(len(keys)), [f"{r:g}, {c:g}" for r, c in keys])

# %%
# What was claimed, and what came of it
# -------------------------------------
# .. claim:: A fixup phase guarantees the trust region in every state, for less than five per cent more steps.
#     :experiment: one batch of 512 states, ten epochs of eight minibatches, five settings of bound and margin; 3 seeds
#     :controls: the penalty with its learned weight alone
#     :shown: in part: with the phase no state is outside at the end of any epoch, in any setting and seed; without it
#         some are, in all of them. The cost is far more than five per cent, because the weight starts cold on this one
#         batch and its own steps are small; that it falls over many batches is not tried
#
# Exercises
# ---------
# 1. Why is the margin above 1, when the largest divergence of a minibatch is already used in :eq:`fixpo-multiplier`?
# 2. Test each minibatch once only in ``fixup_phase``. Find a batch on which it then ends outside.
# 3. Carry weight and both optimisers over ten batches, and plot the steps of the fixup phase against the batch.

for (radius, margin, fixup), each in runs.items():
    worst = [float(r[0][:, 0].max()) for r in each]
    print(radius, margin, "fixup" if fixup else "alone", np.round(worst, 3), "extra", np.round([r[1] for r in each], 2))
    if fixup:
        assert max(worst) <= radius * (1 + 1e-12), "no state is outside at the end of an epoch"
        assert min(r[1] for r in each) > 0.05, "for more than five per cent more steps"
    else:
        assert min(worst) > radius, "the penalty alone leaves some outside"
