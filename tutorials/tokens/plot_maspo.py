"""
A gate that fades in the place of a clip that cuts
==================================================

Once a token's ratio has left the clip range, PPO and its kin throw its gradient away. MASPO lets it fade, and gives
rare tokens and sure signals more room. What does it gain on rare good tokens, and what does it let go?
"""

# %%
# A rare good token
# -----------------
# Eight contexts of 40 tokens, one of them right, at first with probability 0.01. A batch has 64 samples a context and
# ten inner steps of Adam. Against MASPO stand the clips of GRPO and DAPO, all as a mean over tokens; and two controls:
# a gate of one width for all tokens (that of a token of 0.01), and no regulariser at all.

import numpy as np
from scipy.special import log_softmax

from trref.experiments.figures import COLOURS, spread, use_style
from trref.optimizers import adam
from trref.tokens.dapo import dapo_over_batch
from trref.tokens.maspo import maspo, maspo_differentiated, mass_width, risk_width
from trref.tokens.terms import logit_gradient

plt = use_style()
C, V, N, BATCHES, STEPS, SEEDS = 8, 40, 64, 5, 10, range(5)
ONE_WIDTH = {"alpha": 0.0, "beta_pos": 0.0, "beta_neg": 0.0}


def differentiated(log_prob, old, advantage, mask):
    return maspo_differentiated(log_prob, old, advantage, mask, mass_width(old) * risk_width(advantage)[:, None])


LOSSES = {
    "clip 0.2": lambda *batch: dapo_over_batch(*batch, clip_high=0.2),
    "clip-higher": dapo_over_batch,
    "MASPO": maspo,
    "MASPO, width 0.2": lambda *batch: maspo(*batch, sigma=0.2),
    "differentiated": differentiated,
    "one width": lambda *batch: maspo(*batch, sigma=4.0, **ONE_WIDTH),
    "nothing": lambda *batch: dapo_over_batch(*batch, clip_low=1e9, clip_high=1e9),
}


def climb(objective, seed):
    """Mass of the good token after each batch; share of tokens without gradient; largest ratio; mean KL of a batch."""
    rng = np.random.default_rng(seed)
    good, first = rng.integers(V, size=C), rng.dirichlet(np.full(V, 0.5), C) + 1e-4
    first[np.arange(C), good] = 0
    first *= 0.99 / first.sum(1, keepdims=True)
    first[np.arange(C), good] = 0.01
    z, context = np.log(first), np.repeat(np.arange(C), N)
    mass, lost, largest, moved = [0.01], [], [], []
    for _ in range(BATCHES):
        old, state = log_softmax(z, -1), adam.init([z])
        actions = np.concatenate([rng.choice(V, N, p=np.exp(row)) for row in old])
        reward = (actions == good[context]).astype(float)
        advantage = (reward - reward.mean()) / reward.std()
        for _ in range(STEPS):
            log_prob = log_softmax(z, -1)[context, actions][:, None]
            _, g = objective(log_prob, old[context, actions][:, None], advantage, np.ones((C * N, 1)))
            lost.append(float((g == 0).mean()))
            rows = logit_gradient(z[context][:, None], actions[:, None], g)[:, 0]
            (z,), state = adam.update([z], [rows.reshape(C, N, V).sum(1)], state, lr=0.15)
        new = log_softmax(z, -1)
        largest.append(float(np.exp((new - old)[context, actions]).max()))
        moved.append(float((np.exp(new) * (new - old)).sum(1).mean()))
        mass.append(float(np.exp(new)[np.arange(C), good].mean()))
    return mass, np.mean(lost), max(largest), np.mean(moved)


figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
end, lost, largest, moved = {}, {}, {}, {}
for (name, objective), colour in zip(LOSSES.items(), COLOURS, strict=False):
    runs = [climb(objective, seed) for seed in SEEDS]
    end[name], lost[name], largest[name], moved[name] = (np.array(x) for x in zip(*runs, strict=True))
    end[name] = end[name][:, -1]
    spread(axes[0], range(BATCHES + 1), [r[0] for r in runs], name, color=colour)
    axes[1].plot(moved[name], end[name], "o", color=colour, alpha=0.7, label=name)
    print(f"{name:18s} mass {end[name].mean():.2f} ± {end[name].std():.2f}, no gradient {lost[name].mean():.2f}, "
          f"largest ratio {largest[name].max():6.1f}, KL of a batch {moved[name].mean():.2f}")  # fmt: skip
axes[0].set(xlabel="batch", ylabel="mass of the good token")
axes[1].set(xlabel="KL of a batch's steps, in nats", ylabel="mass of the good token at the end")
axes[1].legend(fontsize=8)

# %%
# No token is without a gradient, and the rare token grows faster than under either clip, in every seed. The price: the
# largest ratios are several times those of the clips, and a batch moves the policy further.

for clip in ("clip 0.2", "clip-higher"):
    for ours in ("MASPO", "MASPO, width 0.2"):
        assert (lost[ours] == 0).all() and (lost[clip] > 0.3).all(), (
            "the soft gate loses no sample, the clip three in ten or more"
        )
        assert (end[ours] > end[clip]).all(), "and ends higher, in every seed"
        assert (largest[ours] > 2 * largest[clip]).all() and (moved[ours] > moved[clip]).all(), (
            "at larger ratios and a larger distance from the old policy"
        )

# %%
# The controls take most of the credit away: no regulariser at all is as fast, goes as far, and loses no gradient
# either, and so does a gate of one width for all. At these steps the default gate is hardly a trust region. A gate five
# times narrower holds the ratios back somewhat, and is slower.

for control in ("nothing", "one width"):
    assert abs(end["MASPO"] - end[control]).mean() < 0.02, (
        "but no higher than nothing at all, or than one width for all"
    )
assert abs(moved["MASPO"] / moved["nothing"] - 1).max() < 0.1, "it moves as far as without a region"
assert (end["MASPO, width 0.2"] < end["nothing"]).all(), "a gate of width 0.2 is slower than none"
assert (largest["MASPO, width 0.2"] < largest["nothing"]).all(), "and holds the largest ratio back"

# %%
# .. claim:: A soft gate, wider for rare tokens, loses no gradient and lets rare good tokens grow.
#     :experiment: a good token of probability 0.01 among 40, five batches of ten steps, 5 seeds
#     :controls: the clips of GRPO and DAPO, a gate of one width, no regulariser at all
#     :shown: in part: ahead of both clips in every seed at larger ratios; no regulariser at all does just as well
