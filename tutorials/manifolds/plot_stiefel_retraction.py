"""
Ways back to the manifold
=========================

A step along a tangent vector leaves the manifold of frames; a retraction leads back. How far are the cheap ones from
the geodesic, and what do they cost?
"""

# %%
# On the circle
# -------------
# With one column in the plane everything is an angle: the QR and the polar retraction go to :math:`\arctan t`, the
# Cayley transform to :math:`2 \arctan(t/2)`, the geodesic to :math:`t`. Only the geodesic ever comes round.

import time

import numpy as np

from trref.experiments.figures import use_style
from trref.manifolds.stiefel import project, retract_qr
from trref.manifolds.stiefel_exponential import exponential
from trref.manifolds.stiefel_retraction import retract_cayley, retract_polar

plt = use_style()
ways = {"QR": retract_qr, "polar": retract_polar, "Cayley": retract_cayley, "geodesic": exponential}
styles = {"QR": "-", "polar": "--", "Cayley": "-", "geodesic": ":"}
steps = np.linspace(0, 6, 61)
east, north = np.array([[1.0], [0.0]]), np.array([[0.0], [1.0]])
angles = {
    name: np.unwrap([float(np.arctan2(*move(east, t * north)[::-1, 0])) for t in steps]) for name, move in ways.items()
}
figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.6))
for name, angle in angles.items():
    axes[0].plot(steps, angle, styles[name], label=name)
axes[0].set(xlabel="length of the step", ylabel="angle reached")
axes[0].legend()

# %%
# The order of a retraction
# -------------------------
# Frames of three columns in seven dimensions, five random directions: the distance from the geodesic of the metric. A
# retraction of first order misses it by :math:`t^2`, one of second order by :math:`t^3`. The polar retraction follows
# the Euclidean geodesic, the Cayley transform the canonical one.


def canonical(x, z):
    return exponential(x, z, metric="canonical")


comparisons = {
    "QR, Euclidean": (retract_qr, exponential),
    "polar, Euclidean": (retract_polar, exponential),
    "Cayley, Euclidean": (retract_cayley, exponential),
    "Cayley, canonical": (retract_cayley, canonical),
}
lengths = np.logspace(-2.5, 0, 11)
errors = {name: np.zeros((5, len(lengths))) for name in comparisons}
for seed in range(5):
    rng = np.random.default_rng(seed)
    x = np.linalg.qr(rng.standard_normal((7, 3)))[0]
    z = project(x, rng.standard_normal((7, 3)))
    z /= np.linalg.norm(z)
    for name, (move, geodesic) in comparisons.items():
        errors[name][seed] = [np.linalg.norm(move(x, t * z) - geodesic(x, t * z)) for t in lengths]
for name, error in errors.items():
    axes[1].loglog(lengths, error.mean(0), ".-", label=name)
axes[1].set(xlabel="length of the step", ylabel="distance from the geodesic")
axes[1].legend()

# %%
# Their price
# -----------

sizes = (20, 50, 100, 200, 400)
seconds = {name: [] for name in ways}
for n in sizes:
    rng = np.random.default_rng(n)
    x = np.linalg.qr(rng.standard_normal((n, 10)))[0]
    z = project(x, rng.standard_normal((n, 10))) / np.sqrt(n)
    for name, move in ways.items():
        times = []
        for _ in range(30):
            begin = time.perf_counter()
            move(x, z)
            times.append(time.perf_counter() - begin)
        seconds[name].append(np.median(times))
figure, axis = plt.subplots()
for name, each in seconds.items():
    axis.plot(sizes, 1e6 * np.array(each), ".-", label=name)
axis.set(xlabel="rows of the frame (10 columns)", ylabel="time of one step (µs)")
axis.legend()

# %%
# What the figures show
# ---------------------

slopes = {name: np.polyfit(np.log(lengths[:6]), np.log(e[:, :6]).T, 1)[0] for name, e in errors.items()}
for name, slope in slopes.items():
    print(f"{name:18} order {slope.mean():.2f} ± {slope.std():.2f}")
for name in ("QR", "polar"):
    assert np.allclose(angles[name], np.arctan(steps)), f"{name}: the arc tangent on the circle"
assert np.allclose(angles["Cayley"], 2 * np.arctan(steps / 2)), "Cayley: twice the arc tangent of the half"
assert np.allclose(angles["geodesic"], steps), "the geodesic: the angle itself"
assert np.all(abs(slopes["QR, Euclidean"] - 2) < 0.1), "QR misses by t², first order"
assert np.all(slopes["polar, Euclidean"] > 2.9), "polar misses the Euclidean geodesic by t³, second order"
assert np.all(slopes["Cayley, canonical"] > 2.9), "and Cayley the canonical one"
assert np.all(abs(slopes["Cayley, Euclidean"] - 2) < 0.1), "but not the Euclidean one"

# %%
# .. claim:: The polar retraction is of second order in the Euclidean metric, the Cayley transform in the canonical
#     one; QR is of first order.
#     :experiment: frames of 3 columns in 7 dimensions, five random directions, steps of length 0.003 to 1; angles on
#         the circle
#     :controls: the geodesics of both metrics; each retraction against the metric that is not its own
#     :shown: yes: the distances fall with the powers 2 and 3, in every direction
