"""
Carrying directions along
=========================

Conjugate gradients and momentum need an old direction in a new tangent space. There are several ways to carry it there;
they differ in what they keep.
"""

# %%
# Lengths
# -------
# Steps of growing length along random directions, 40 pairs of frames and vectors: how long is the carried vector?

import numpy as np

from trref.experiments.figures import use_style
from trref.manifolds.stiefel import project, retract_qr
from trref.manifolds.stiefel_gradient import inner
from trref.manifolds.stiefel_retraction import retract_cayley, retract_polar
from trref.manifolds.stiefel_transport import (
    scaled_transport,
    transport,
    transport_cayley,
    transport_polar,
    transport_qr,
)

plt = use_style()
n, p, pairs = 8, 3, 40
rng = np.random.default_rng(0)
x = np.linalg.qr(rng.standard_normal((pairs, n, p)))[0]
step, z, w = (project(x, rng.standard_normal((pairs, n, p))) for _ in range(3))
step /= np.linalg.norm(step, axis=(1, 2), keepdims=True)
ways = {
    "projection": lambda s, v: transport(x, retract_qr(x, s), v),
    "differential of QR": lambda s, v: transport_qr(x, s, v),
    "the same, scaled": lambda s, v: scaled_transport(x, s, v),
    "differential of polar": lambda s, v: transport_polar(x, s, v),
    "Cayley": lambda s, v: transport_cayley(x, s, v),
}
lengths = np.linspace(0, 3, 31)
size = np.linalg.norm(z, axis=(1, 2))
ratios = {
    name: np.array([np.linalg.norm(carry(t * step, z), axis=(1, 2)) / size for t in lengths])
    for name, carry in ways.items()
}
figure, axes = plt.subplots(1, 2, figsize=(9, 3.8))
for name, ratio in ratios.items():
    (line,) = axes[0].plot(lengths, ratio.mean(1), label=name)
    axes[0].fill_between(lengths, ratio.min(1), ratio.max(1), color=line.get_color(), alpha=0.12, linewidth=0)
axes[0].set(xlabel="length of the step", ylabel="length of the carried vector, relative")
axes[0].legend(fontsize=8)

# %%
# How much the ways differ
# ------------------------
# To first order in the step all are equal where the end points are. The polar differential and the projection to the
# same end differ at second order only, so the cheap projection is nearly as good for short steps.

short = np.logspace(-3, 0, 10)


def gap(t, move, carry):
    return np.linalg.norm(carry(x, t * step, z) - transport(x, move(x, t * step), z), axis=(1, 2)).mean()


gaps = {
    "QR": [gap(t, retract_qr, transport_qr) for t in short],
    "polar": [gap(t, retract_polar, transport_polar) for t in short],
    "Cayley": [gap(t, retract_cayley, transport_cayley) for t in short],
}
for name, values in gaps.items():
    axes[1].loglog(short, values, ".-", label=name)
axes[1].set(xlabel="length of the step", ylabel="distance from the projection")
axes[1].legend()

# %%
# What the figures show
# ---------------------

for name, ratio in ratios.items():
    print(f"{name:22} relative length {ratio.min():.3f} to {ratio.max():.3f}")
orders = {name: np.polyfit(np.log(short[:5]), np.log(values[:5]), 1)[0] for name, values in gaps.items()}
print("orders:", {name: round(float(order), 2) for name, order in orders.items()})
assert np.allclose(ratios["Cayley"], 1, atol=1e-12), "the Cayley transport keeps lengths"
carried = [transport_cayley(x, 2 * step, v) for v in (z, w)]
for metric in ("euclidean", "canonical"):
    there = inner(retract_cayley(x, 2 * step), *carried, metric=metric)
    assert np.allclose(there, inner(x, z, w, metric=metric), atol=1e-12), "and inner products in both metrics"
assert ratios["projection"].max() <= 1 + 1e-12, "the projection never lengthens"
assert ratios["differential of polar"].max() <= 1 + 1e-12, "nor does the polar differential"
assert ratios["differential of QR"].max() > 1.01, "the QR differential does"
assert ratios["the same, scaled"].max() <= 1 + 1e-12, "until it is scaled"
assert orders["polar"] > 1.9, "the polar differential leaves the projection at second order"
assert 0.9 < orders["QR"] < 1.1 and 0.9 < orders["Cayley"] < 1.1, "those of QR and Cayley at first order"

# %%
# .. claim:: The Cayley transport is an isometry; scaling makes any other transport one that never lengthens, as the
#     theory of Fletcher-Reeves asks.
#     :experiment: 40 random pairs of frame and vector, steps of length 0 to 3
#     :controls: the projection and the differentials of the QR and polar retractions
#     :shown: yes: lengths and inner products of both metrics are kept to 1e-12; of the others only the unscaled QR
#         differential lengthens
