"""
Truncated conjugate gradients in a trust region
===============================================

Follow conjugate gradients, stop where they leave the ball. That seems careless, and is not: the iterates only ever
grow.
"""

# %%
# Length and model along the iteration
# ------------------------------------

import numpy as np

from trref.catalog.optimization.steihaug import POSITIVE_ROOT
from trref.experiments.figures import COLOURS, use_style
from trref.optimization.steihaug import steihaug_toint
from trref.optimization.trust_region_subproblem import eigen_step
from trref.problems.convex import DenseOperator, spd_matrix, spectrum

plt = use_style()
figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.4))
grows = []
for seed in range(6):
    rng = np.random.default_rng(seed)
    B, g = DenseOperator(spd_matrix(rng, spectrum(40, 200.0))), rng.standard_normal(40)
    free = steihaug_toint(g, B, radius=1e6, rtol=1e-8)
    # the length after each step: stop at a radius between two iterates and see where it ended
    radii = np.geomspace(1e-2, 1.2 * np.linalg.norm(free.p), 60)
    stopped = [steihaug_toint(g, B, radius=r, rtol=1e-8) for r in radii]
    products = [s.iterations for s in stopped]
    grows.append(products == sorted(products))
    axes[0].plot(products, radii, color=COLOURS[0], alpha=0.6)
    axes[1].plot(free.values, color=COLOURS[0], alpha=0.6)
axes[0].set(xlabel="products until the boundary", ylabel="radius")
axes[1].set(xlabel="iteration", ylabel="model")

# %%
# How much of the best decrease
# -----------------------------
# For a positive definite matrix Yuan's theorem promises one half. Many random problems, most of them of the nasty kind:
# a wide spectrum, and a gradient that lies mostly along the stiff directions.

rng = np.random.default_rng(10)
share = []
for _ in range(4000):
    n = int(rng.integers(2, 8))
    w = np.exp(rng.uniform(-4, 4, n))
    B, g = np.diag(w), rng.standard_normal(n) * w ** rng.uniform(0, 1)
    radius = float(np.linalg.norm(g / w) * 10 ** rng.uniform(-2, 0))
    p = steihaug_toint(g, DenseOperator(B), radius=radius, rtol=1e-10).p
    best = eigen_step(g, B, radius=radius).p
    share.append((g @ p + p @ B @ p / 2) / (g @ best + best @ B @ best / 2))
share = np.array(share)
figure, axis = plt.subplots()
axis.hist(share, bins=np.linspace(0.45, 1, 56), color=COLOURS[2])
axis.axvline(0.5, color=COLOURS[5], linestyle="--", label="Yuan's bound")
axis.set(xlabel="share of the best decrease", ylabel="problems", yscale="log")
axis.legend()

# %%
# Which way along negative curvature
# ----------------------------------
# Steihaug's original goes forward; the better of both ends costs nothing more.

ratio = []
for seed in range(3000):
    rng = np.random.default_rng([1, seed])
    n = int(rng.integers(2, 8))
    B = DenseOperator(spd_matrix(rng, np.exp(rng.uniform(-2, 2, n)) * rng.choice((-1.0, 1.0), n)))
    g, radius = rng.standard_normal(n), float(10 ** rng.uniform(-1, 1))
    ours, forward = (f(g, B, radius=radius, rtol=1e-6).values[-1] for f in (steihaug_toint, POSITIVE_ROOT.f))
    ratio.append(forward / ours)
ratio = np.array(ratio)

# %%
# What the figures show
# ---------------------

assert all(grows), "a larger radius never ends earlier: the lengths of the iterates grow"
print(f"smallest share {share.min():.3f}, median {np.median(share):.3f}")
assert share.min() >= 0.5, "Yuan's theorem"
assert share.min() < 0.7, "and no empty one"
worse = (ratio < 1 - 1e-9).mean()
print(f"going forward is worse in {100 * worse:.1f} % of indefinite problems, by up to a factor {1 / ratio.min():.1f}")
assert 0.005 < worse < 0.15 and ratio.max() < 1 + 1e-9, "never better, and worse in a few per cent"

# %%
# .. claim:: The truncated conjugate gradients of a convex model give at least half of the best decrease, and their
#     iterates only grow.
#     :experiment: 4000 random convex problems, 3000 indefinite ones, growth of the iterates in six problems of 40
#         dimensions
#     :controls: the exact step; Steihaug's forward direction along negative curvature
#     :shown: yes: never less than half (the bound is Yuan's). Along negative curvature the better of both ends is
#         never worse than forward, and better in a few per cent
