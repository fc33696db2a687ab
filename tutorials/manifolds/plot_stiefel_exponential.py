"""
Geodesics of frames
===================

The straightest paths between frames have a closed form in two metrics. Both use nothing but exponentials of skew
matrices, and that is what keeps long steps on the manifold.
"""

# %%
# Two vectors on a sphere
# -----------------------
# A frame of two columns in space: two perpendicular points on the sphere. Both metrics start with the same velocity,
# which turns the pair within its plane and tilts the plane.

import itertools

import numpy as np
import scipy.linalg

from trref.experiments.figures import COLOURS, use_style
from trref.manifolds.stiefel import project
from trref.manifolds.stiefel_exponential import exponential
from trref.manifolds.stiefel_gradient import inner

plt = use_style()
x = np.eye(3)[:, :2]
z = np.array([[0.0, -0.8], [0.8, 0.0], [1.0, 0.3]])
times = np.linspace(0, 2.5, 120)
paths = {m: np.array([exponential(x, t * z, metric=m) for t in times]) for m in ("euclidean", "canonical")}
figure = plt.figure(figsize=(6.5, 4))
axis = figure.add_subplot(projection="3d")
u, v = np.meshgrid(np.linspace(0, 2 * np.pi, 30), np.linspace(0, np.pi, 15))
axis.plot_wireframe(np.cos(u) * np.sin(v), np.sin(u) * np.sin(v), np.cos(v), color="#7d8590", alpha=0.3, linewidth=0.6)
for (metric, path), column in itertools.product(paths.items(), (0, 1)):
    style = "-" if metric == "euclidean" else "--"
    label = f"{metric}, column {column + 1}"
    axis.plot(*path[:, :, column].T, style, color=COLOURS[column], label=label)
axis.scatter(*x, color=COLOURS[6], s=25)
axis.set_axis_off()
axis.set_aspect("equal")
figure.legend(loc="outside right center")

# %%
# Steps of any length
# -------------------
# The form in textbooks and libraries has a block matrix that is not skew. A general matrix exponential of it loses
# digits as steps grow.


def textbook(x, z):
    A, S, p = x.T @ z, z.T @ z, x.shape[1]
    block = np.block([[A, -S], [np.eye(p), A]])
    return np.hstack([x, z]) @ scipy.linalg.expm(block)[:, :p] @ scipy.linalg.expm(-A)


def defect(y):
    return max(abs(y.T @ y - np.eye(y.shape[1])).max(), 1e-17)


lengths = np.logspace(-2, 4, 25)
ours, theirs = np.zeros((2, 5, len(lengths)))
for seed in range(5):
    rng = np.random.default_rng(seed)
    start = np.linalg.qr(rng.standard_normal((8, 3)))[0]
    step = project(start, rng.standard_normal((8, 3)))
    step /= np.linalg.norm(step)
    ours[seed] = [defect(exponential(start, t * step)) for t in lengths]
    theirs[seed] = [defect(textbook(start, t * step)) for t in lengths]
figure, axis = plt.subplots()
axis.loglog(lengths, theirs.mean(0), ".-", label="block matrix")
axis.loglog(lengths, ours.mean(0), ".-", label="skew matrices")
axis.set(xlabel="length of the step", ylabel="distance from orthonormal")
axis.legend()

# %%
# What the figures show
# ---------------------
# The two geodesics part slowly: the canonical metric makes turning within the plane cheaper. Each keeps its own speed.
# Short steps of both forms agree to rounding; for long ones only the skew form stays on the manifold.

h = 1e-4
for metric in paths:
    speeds = []
    for t in (0.2, 1.0, 2.0):
        y = exponential(x, t * z, metric=metric)
        velocity = (exponential(x, (t + h) * z, metric=metric) - exponential(x, (t - h) * z, metric=metric)) / (2 * h)
        speeds.append(float(inner(y, velocity, velocity, metric=metric)))
    print(f"{metric:10} squared speed {speeds}")
    assert np.ptp(speeds) < 1e-6, "a geodesic keeps its speed, in its own metric"
gap = np.linalg.norm(paths["euclidean"] - paths["canonical"], axis=(1, 2))
assert gap[5] < 0.01 < 0.1 < gap[-1], "the paths of the two metrics part"
print(f"step of length 100: skew {ours[:, 16].max():.1e}, block {theirs[:, 16].max():.1e}")
assert ours.max() < 1e-13, "the skew form is orthonormal for steps of any length"
assert theirs[:, -1].min() > 1e3 * ours.max(), "the block form is not"

# %%
# .. claim:: Geodesics of frames have closed forms in the Euclidean and in the canonical metric.
#     :experiment: speeds along one path in either metric; frames of 3 columns in 8 dimensions, five seeds, steps of
#         length 0.01 to 10,000
#     :controls: the form of textbooks and libraries, with a block matrix that is not skew
#     :shown: yes: constant speed, and orthonormal to rounding for steps of any length in the skew form; the block
#         form is not
