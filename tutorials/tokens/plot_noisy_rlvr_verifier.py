"""
How good is the verifier? Appeals tell
======================================

Corrections of noisy rewards need the verifier's rates of error. A few rejected answers, checked anew by a better
verifier, give the rate of false negatives. We ask how many checks it takes, and what happens when nobody looks at the
accepted answers.
"""

# %%
# A running estimate
# ------------------
# Batches of 64 answers, a third of them right, rates 0.2 (false positives) and 0.3 (false negatives). A share of the
# answers is checked; estimates are averaged with momentum 0.9.

import numpy as np

from trref.experiments.figures import COLOURS, spread, use_style
from trref.tokens.noisy_rlvr import backward_reward
from trref.tokens.noisy_rlvr_verifier import estimate_rates, noisy_verifier

plt = use_style()
RHO0, RHO1, N, BATCHES, SEEDS = 0.2, 0.3, 64, 80, range(8)


def follow(seed, share, audit):
    """Estimates of both rates after each batch."""
    rng, estimate, path = np.random.default_rng(seed), None, []
    for _ in range(BATCHES):
        truth = (rng.random(N) < 1 / 3).astype(float)
        seen = noisy_verifier(rng, truth, np.full(N, RHO0), np.full(N, RHO1))
        checked = (rng.random(N) < share).astype(float)
        estimate = estimate_rates(seen, truth, checked, audit_accepted=audit, previous=estimate)
        path.append([float(x) for x in estimate])
    return np.array(path)


figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
ARMS = {"all checked": (1.0, True), "a fifth checked": (0.2, True), "a fifth of the rejected": (0.2, False)}
ends = {}
for name, (share, audit) in ARMS.items():
    paths = np.array([follow(seed, share, audit) for seed in SEEDS])
    ends[name] = paths[:, -20:].mean(1)
    for axis, column in zip(axes, (1, 0), strict=True):
        spread(axis, range(1, BATCHES + 1), paths[:, :, column].tolist(), name)
for axis, rate, title in ((axes[0], RHO1, "false negatives"), (axes[1], RHO0, "false positives")):
    axis.axhline(rate, linestyle=":", color=COLOURS[-1])
    axis.set(xlabel="batch", ylabel="estimated rate", title=title)
axes[0].legend()
for name, values in ends.items():
    print(f"{name:24s} false positives {values[:, 0].mean():.3f}, false negatives {values[:, 1].mean():.3f}")

assert abs(ends["all checked"].mean(0) - [RHO0, RHO1]).max() < 0.02, "audits of all answers find both rates"
assert abs(ends["a fifth checked"].mean(0) - [RHO0, RHO1]).max() < 0.07, "audits of a fifth, nearly"
assert ends["a fifth of the rejected"][:, 1].mean() < RHO1 - 0.05, "unaudited, false positives pass for right answers"

# %%
# What the error costs
# --------------------
# The backward correction with estimated rates: mean corrected reward of right and of wrong answers, where 1 and 0 would
# be unbiased.

figure, axis = plt.subplots()
bias = {}
for i, (name, values) in enumerate(ends.items()):
    rho0, rho1 = values.T
    of = {}
    for truth, accept in ((1.0, 1 - RHO1), (0.0, RHO0)):
        rejected, accepted = (backward_reward(np.full(len(rho0), r), rho0, rho1) for r in (0.0, 1.0))
        of[truth] = (1 - accept) * rejected + accept * accepted
    bias[name] = of[1.0] - of[0.0]
    for truth, colour in ((1.0, COLOURS[2]), (0.0, COLOURS[5])):
        axis.errorbar(i, of[truth].mean(), of[truth].std(ddof=1), marker="o", color=colour, capsize=4,
                      label=f"truly {'right' if truth else 'wrong'}" if i == 0 else None)  # fmt: skip
for level in (0, 1):
    axis.axhline(level, linestyle=":", color=COLOURS[-1])
axis.set(ylabel="mean corrected reward", title="backward correction with estimated rates")
axis.set_xticks(range(len(ends)), list(ends))
axis.legend()
for name, gap in bias.items():
    print(f"{name:24s} right minus wrong {gap.mean():.3f}")
assert abs(bias["all checked"].mean() - 1) < 0.05 and bias["a fifth of the rejected"].mean() < 0.8, (
    "unbiased with audits of all; not without audits of accepted answers"
)

# %%
# .. claim:: Re-checking a sample of the rejected answers gives the rate of false negatives as training goes on.
#     :experiment: 80 batches of 64 answers, a fifth checked, moving average, 8 seeds
#     :controls: all answers checked; accepted answers audited or not
#     :shown: in part: with an audit of accepted answers, too; without one, false positives make the estimate too small
