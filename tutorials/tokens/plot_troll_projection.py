"""
Back into the ball: the KL projection of a categorical distribution
===================================================================

A token's new distribution has drifted too far from the old one. TROLL moves it to the nearest distribution inside the
trust region. We draw where that is, the dual whose highest point is the multiplier, and what the gradient does at the
surface.
"""

# %%
# Three tokens
# ------------
# The ball :math:`KL(\cdot\|q) \le 0.05` around an old policy, drifting policies and their projections.

import numpy as np
from scipy.special import log_softmax

from trref.experiments.figures import COLOURS, use_style
from trref.tokens.troll_projection import dual_value, multiplier, project_jvp, project_kl

plt = use_style()
q = np.array([0.6, 0.3, 0.1])
side = np.linspace(0, 1, 401)[1:-1]
x, y = np.meshgrid(side, side)
inside = x + y < 0.999
p = np.stack([np.where(inside, 1 - x - y, 0.3), x, y], -1)
kl = np.where(inside, (p * np.log(p / q)).sum(-1), np.nan)
rng = np.random.default_rng(0)
drift = np.log(q) + 1.2 * rng.standard_normal((12, 3))
old = np.broadcast_to(np.log(q), drift.shape)
projected = project_kl(drift, old)

figure, axes = plt.subplots(1, 2, figsize=(9, 4))
axes[0].contour(x, y, kl, levels=[0.05], colors=[COLOURS[0]])
for before, after in zip(np.exp(log_softmax(drift, -1)), np.exp(projected), strict=True):
    axes[0].annotate("", after[1:], before[1:], arrowprops={"arrowstyle": "->", "color": COLOURS[6]})
axes[0].plot(*np.exp(log_softmax(drift, -1))[:, 1:].T, "o", color=COLOURS[5], label="new policy")
axes[0].plot(*np.exp(projected)[:, 1:].T, "s", color=COLOURS[2], label="its projection")
axes[0].plot(*q[1:], "*", color=COLOURS[0], markersize=10, label="old policy, ball of radius 0.05")
axes[0].set(xlabel="probability of token 2", ylabel="probability of token 3", title="three tokens")
axes[0].legend(fontsize=8)
distance = (np.exp(projected) * (projected - np.log(q))).sum(-1)
assert (distance <= 0.05 + 1e-12).all(), "every projection is inside"

# %%
# The dual
# --------
# The multiplier is where the concave dual is highest, and its height is the distance that the projection has gone.

far = int(multiplier(drift, old).argmax())
log_p, log_q = log_softmax(drift[[far]], -1), np.log(q)[None]
eta = float(multiplier(log_p, log_q)[0])
grid = np.geomspace(eta / 30, eta * 30, 200)
values = np.array([dual_value(log_p, log_q, np.array([e]), 0.05)[0] for e in grid])
gone = float((np.exp(projected[far]) * (projected[far] - log_p[0])).sum())
axes[1].semilogx(grid, values)
axes[1].axhline(gone, color=COLOURS[6], linestyle=":", label="KL(projection ‖ new)")
axes[1].axvline(eta, color=COLOURS[1], linestyle=":", label="η")
axes[1].set(xlabel="η", ylabel="dual value", title="strong duality")
axes[1].legend()
assert values.max() <= gone + 1e-12 and gone - values.max() < 1e-3, (
    "the dual is never above the divergence of the projection, and reaches it"
)

# %%
# The slope at the surface
# ------------------------
# Along old-to-new the projection follows the policy up to the surface, and stays there: its derivative jumps to zero.

direction = rng.standard_normal(6)
base = rng.standard_normal(6)
sizes = np.linspace(0.02, 1.2, 120)
z = base + sizes[:, None] * direction
rows = np.broadcast_to(base, z.shape)
speed = np.sqrt((project_jvp(z, rows, np.broadcast_to(direction, z.shape)) ** 2).sum(-1))
kept = multiplier(z, rows) == 0
figure, axis = plt.subplots()
axis.plot(sizes, speed, ".")
axis.set(xlabel="step along old-to-new", ylabel="speed of the projection", title="no gradient past the surface")
assert kept.any() and not kept.all() and speed[kept].min() > 0.1 and speed[~kept].max() < 1e-6, (
    "inside the ball gradients pass, beyond its surface none"
)

# %%
# .. claim:: The projection onto the trust region has a closed form up to one scalar, and can be differentiated.
#     :experiment: three tokens in the plane, the dual, and the derivative along old-to-new
#     :controls: feasibility, strong duality
#     :shown: yes, exactly
