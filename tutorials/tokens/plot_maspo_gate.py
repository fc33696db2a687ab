"""
How far may a token move before it fades?
=========================================

MASPO replaces the clip of the ratio by a Gaussian whose width grows for rare tokens and with the size of a success, and
shrinks with the size of a failure. We draw the gate, and find the region that each of its exponents amounts to.
"""

# %%
# The gate beside the clip
# ------------------------
# The weight of a token of a right answer (left) and of a wrong one (right), by its ratio, at three old probabilities.

import numpy as np

from trref.experiments.figures import COLOURS, use_style
from trref.tokens.maspo import gaussian_gate, half_gate_distance, mass_width, risk_width

plt = use_style()
ratio = np.linspace(0.02, 8, 800)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
for axis, advantage in zip(axes, (1.0, -1.0), strict=True):
    for p, colour in zip((0.01, 0.1, 0.9), COLOURS, strict=False):
        old = np.full((len(ratio), 1), np.log(p))
        gate = gaussian_gate(old + np.log(ratio)[:, None], old, np.full(len(ratio), advantage))
        axis.plot(ratio, gate, color=colour, label=f"MASPO, p = {p}")
    clipped = ratio <= 1.28 if advantage > 0 else ratio >= 0.8
    axis.plot(ratio, clipped, color=COLOURS[6], linestyle=":", label="clip-higher, kept or cut")
    axis.set(xlabel="ratio", title=f"advantage {advantage:+.0f}", xscale="log")
axes[0].set(ylabel="weight of the token")
axes[1].legend(fontsize=8)


def half(p, **hyper):
    """Distance of the half gate from the ratio 1, of tokens of a right answer of advantage 1."""
    return half_gate_distance(mass_width(np.log(p)[None], **hyper) * risk_width(np.ones(1)))[0]


print("half gated at a ratio of", 1 + half(np.array([0.9, 0.1, 0.01])).round(2))

# %%
# The gate is wide. A token of probability 0.9 cannot reach the ratio at which it is half closed, and one of a wrong
# answer never does: its ratio cannot fall below 0, where a gate of width 1 is still above one half.

assert 1 + half(np.array([0.9]))[0] > 1 / 0.9, "a token of probability 0.9 never gets to the half of its gate"
worst = gaussian_gate(np.array([[-29.0]]), np.zeros((1, 1)), -np.ones(1))[0, 0]
assert worst > 0.5, "and a bad token's gate is never half closed"

# %%
# Ratios, shifts, and what lies between
# -------------------------------------
# Left the shift of probability at which the gate of a good token is one half: with the exponent 0 the region is one of
# ratios, as a clip's; with 1 one of shifts, as that of a total variation. The default 0.3 is closer to the former, and
# tokens rarer than 0.0005 reach the largest width of 10. Right what the advantage adds: at advantages of order 1, which
# is all that standardised rewards give, hardly anything.

p, A = np.geomspace(1e-4, 1, 400), np.linspace(-6, 6, 241)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
slope = {}
for alpha, colour in zip((0.0, 0.3, 0.5, 1.0), COLOURS, strict=False):
    shift = p * half(p, alpha=alpha)
    axes[0].loglog(p, shift, color=colour, label=f"$\\alpha$ = {alpha}")
    common = p > 0.15
    slope[alpha] = np.polyfit(np.log(p[common]), np.log(shift[common]), 1)[0]
axes[0].loglog(p, 0.2 * p, color=COLOURS[6], linestyle=":", label="clip 0.2")
axes[0].set(xlabel="old probability", ylabel="shift of probability at one half")
axes[0].legend(fontsize=8)
for beta, colour in zip((0.03, 0.3), COLOURS, strict=False):
    axes[1].plot(A, risk_width(A, beta_pos=beta, beta_neg=beta), color=colour, label=f"$\\beta$ = {beta}")
axes[1].set(xlabel="advantage", ylabel="factor on the width")
axes[1].legend()
print("exponents of the shift:", {alpha: round(float(s), 3) for alpha, s in slope.items()})
assert np.allclose([slope[alpha] for alpha in slope], [1 - alpha for alpha in slope], atol=1e-9), (
    "the shift falls with the power 1 - alpha of the probability"
)
assert abs(risk_width(np.array([-1.0, 1.0])) - 1).max() < 0.031, "advantages of a usual size hardly change the width"

# %%
# .. claim:: The gate gives rare tokens and sure signals more room than a clip.
#     :experiment: the distance at which the gate is one half, for all probabilities and advantages
#     :controls: the fixed clip of 0.2, and the exponents 0 and 1
#     :shown: yes for rare tokens, whose shift is a power 0.7 of the probability; the advantage adds 3 per cent at most
