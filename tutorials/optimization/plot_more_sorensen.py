"""
Moré and Sorensen: one equation, almost linear
==============================================

All that is left of the subproblem is one equation in one unknown. How fast it is solved depends on how it is written.
"""

# %%
# The same equation twice
# -----------------------
# The length of the step over the multiplier has a pole, its reciprocal is nearly a straight line.

import numpy as np

from trref.catalog.optimization.interfaces import optimality
from trref.experiments.figures import COLOURS, use_style
from trref.optimization.more_sorensen import more_sorensen
from trref.problems.convex import spd_matrix

plt = use_style()
w, c, radius = np.array([-2.0, 0.5, 3.0]), np.array([0.4, 1.0, 1.0]), 1.0
multipliers = np.linspace(2.02, 6, 400)
lengths = np.array([np.linalg.norm(c / (w + m)) for m in multipliers])
figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.4))
axes[0].plot(multipliers, lengths)
axes[0].axhline(radius, color=COLOURS[1], linestyle="--", label="radius")
axes[0].set(xlabel="multiplier", ylabel="length of the step", ylim=(0, 6))
axes[1].plot(multipliers, 1 / lengths)
axes[1].axhline(1 / radius, color=COLOURS[1], linestyle="--")
axes[1].set(xlabel="multiplier", ylabel="reciprocal")
axes[0].legend()


def iterations(newton_step, start, tolerance=1e-12):
    """How many steps of Newton's method it takes; None if it leaves the domain or does not converge."""
    m = start
    for k in range(100):
        p, d = c / (w + m), w + m
        length, squared = np.linalg.norm(p), (p * p / d).sum()
        if abs(length - radius) <= tolerance:
            return k
        m += newton_step(length, squared)
        if m <= 2:
            return None
    return None


forms = {
    "length": lambda length, squared: length / squared * (length - radius),
    "reciprocal": lambda length, squared: length**2 / squared * (length - radius) / radius,
}
starts = 2 + np.logspace(-4, 0.5, 40)
needed = {name: [iterations(step, start) for start in starts] for name, step in forms.items()}
figure, axis = plt.subplots()
for name, counts in needed.items():
    inside = [(s - 2, k) for s, k in zip(starts, counts, strict=True) if k is not None]
    axis.semilogx(*zip(*inside, strict=True), "o-", markersize=3, label=f"Newton for the {name}")
axis.set(xlabel="start, right of -λ₁", ylabel="steps until 12 digits")
axis.legend()

# %%
# Factorisations, from ordinary problems to the hard case
# -------------------------------------------------------
# The component of g along the softest direction is 10⁻ᵏ; ten random problems for each k, and the last column has none.

counts, violations, status = np.zeros((18, 10)), np.zeros((18, 10)), np.zeros((18, 10))
for k in range(18):
    for seed in range(10):
        rng = np.random.default_rng([k, seed])
        Q = np.linalg.qr(rng.standard_normal((8, 8)))[0]
        eigenvalues = np.concatenate([[-2.0], rng.uniform(-1.5, 3.0, 7)])
        g = Q @ np.concatenate([[10.0**-k if k < 17 else 0.0], 0.2 * rng.standard_normal(7)])
        B = (Q * eigenvalues) @ Q.T
        result = more_sorensen(g, (B + B.T) / 2, radius=2.0)
        counts[k, seed] = result.iterations
        status[k, seed] = result.status == "hard case"
        violations[k, seed] = max(optimality(result, g, (B + B.T) / 2, radius=2.0).values())
figure, axis = plt.subplots()
axis.plot(counts.mean(1), "o-", label="mean")
axis.fill_between(range(18), counts.min(1), counts.max(1), alpha=0.2, linewidth=0, label="smallest to largest")
axis.set(xlabel="k", ylabel="factorisations", ylim=(0, None))
axis.legend()
ordinary = [
    more_sorensen(
        np.random.default_rng(s).standard_normal(8), spd_matrix(np.random.default_rng(s), np.arange(1.0, 9)), radius=0.1
    )
    for s in range(50)
]

# %%
# What the figures show
# ---------------------

assert all(k is not None and k <= 8 for k in needed["reciprocal"][:20]), (
    "near the pole the reciprocal needs a few steps"
)
slow = [k for k in needed["length"][:10] if k is not None]
print("steps from 1e-4 right of the pole: reciprocal", needed["reciprocal"][0], ", length", needed["length"][0])
assert not slow or min(slow) > max(needed["reciprocal"][:10]), "and the length itself many, or it leaves the domain"
print("mean factorisations over k:", counts.mean(1).round(1).tolist())
assert violations.max() < 1e-11, "every problem is solved, the hard ones included"
print("share that ended with a piece of the softest direction:", status.mean(1).round(1).tolist())
assert not status[0].any() and status[12:].all(), "near the hard case by adding a piece of the softest direction"
assert counts[5:].mean() < 12, "near the hard case about ten factorisations"
assert counts.max() < 30, "no problem needs thirty"
assert np.mean([r.iterations for r in ordinary]) < 6, "and ordinary ones a handful"

# %%
# .. claim:: Newton's method for the reciprocal of the length solves the subproblem in a few factorisations, the hard
#     case included.
#     :experiment: one model in three dimensions from 40 starts; 180 random problems up to the hard case; 50 ordinary
#         ones
#     :controls: Newton's method for the length itself; the conditions of optimality
#     :shown: yes: every problem to 1e-11; a handful of factorisations for ordinary problems, about ten near the hard
#         case
