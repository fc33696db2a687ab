r"""
A critic that is wrong where nobody has been
============================================

A flow that is trained against a critic finds what the critic gets wrong. How far it may go from the data is set by a
temperature, but the right one depends on the critic's scale. TRQAM sets the distance itself: does the policy end where
it was told to, and is there a distance at which the critic helps and does not yet mislead?
"""

# %%
# A base, a critic and many policies
# ----------------------------------
# Actions are numbers. The base is a mixture whose velocity is known exactly. The true value falls with the distance
# from 0.8; the critic adds a bump at 2.5, where the base has hardly any action. A policy's velocity is the base's and
# an affine correction at each of eight steps. Twenty policies train side by side, four seeds of five kinds: two fixed
# temperatures (QAM) and three budgets (TRQAM), each with 48 paths a round.

import numpy as np

from trref.diffusion.trqam import adjoint_matching, lean_adjoint, memoryless_path
from trref.diffusion.trust_region_temperature import dual_update, path_kl, tilted_kl
from trref.experiments.figures import COLOURS, spread, use_style
from trref.optimizers import adam
from trref.problems.mixtures import GaussianMixture, MixtureVelocity

plt = use_style()
SEEDS, N, K, ROUNDS = 4, 48, 8, 450
FIXED, BUDGETS = (0.05, 8.0), (0.1, 1.0, 4.0)
KINDS = [f"temperature {t:g}" for t in FIXED] + [f"budget {b:g}" for b in BUDGETS]
ARMS = len(KINDS) * SEEDS
base_law = GaussianMixture(np.array([0.6, 0.4]), np.array([[-0.8], [0.4]]), np.array([[[0.25]], [[0.16]]]))
base, times = MixtureVelocity(base_law), np.linspace(1.0, 0.0, K + 1)


def true(x):
    return -0.5 * (x - 0.8) ** 2


def critic(x):
    """Value and slope."""
    bump = 3 * np.exp(-((x - 2.5) ** 2) / (2 * 0.6**2))
    return true(x) + bump, -(x - 0.8) - bump * (x - 2.5) / 0.6**2


# %%
# Training
# --------
# Each round: paths of the policy with noise, the adjoint of the base along them, a step of Adam on the regression, and
# a step of the temperatures that are free, of 0.006 at most.


def correction(theta, x, k):
    """Of each policy for its own N rows."""
    rows = x.reshape(ARMS, N)
    return (theta[0][:, k, None] * rows + theta[1][:, k, None]).reshape(-1, 1)


def train_round(theta, temperature, z):
    """The gradient of each policy's loss, divergences from the base, and where paths end."""
    asked = []

    def policy(x, t):
        k = len(asked)
        asked.append(base(x, t))
        return asked[k] + correction(theta, x, k)

    path = memoryless_path(policy, base, z, times)
    asked.append(base(path[-2], np.full(ARMS * N, times[-2])))
    adjoint = lean_adjoint(base, path, critic(path[-1])[1], times)
    v0 = np.stack(asked)
    v = v0 + np.stack([correction(theta, x, k) for k, x in enumerate(path[:-1])])
    x, v, v0, a = (y.reshape(K, ARMS, N, 1).swapaxes(0, 1) for y in (path[:-1], v, v0, adjoint))
    gradient, kl = np.empty_like(theta), np.empty(ARMS)
    for i in range(ARMS):
        dv = adjoint_matching(v[i], v0[i], a[i], times, temperature=temperature[i])[1]
        gradient[:, i] = (dv * x[i]).sum((1, 2)), dv.sum((1, 2))
        kl[i] = path_kl(v[i], v0[i], times)
    return gradient, kl, path[-1].reshape(ARMS, N)


theta, state = np.zeros((2, ARMS, K)), adam.init([np.zeros((2, ARMS, K))])
rngs = [np.random.default_rng(seed) for seed in range(SEEDS)]
temperature, average = np.array([*FIXED, 1, 1, 1]).repeat(SEEDS), np.zeros(ARMS)
watched = []
for _ in range(ROUNDS):
    # the same noise for all kinds
    z = np.stack([rng.standard_normal((K, N)) for rng in rngs], 1)
    z = np.tile(z, (1, len(KINDS), 1)).reshape(K, ARMS * N, 1)
    gradient, kl, end = train_round(theta, temperature, z)
    (theta,), state = adam.update([theta], [gradient], state, lr=0.1)
    for j, budget in enumerate(BUDGETS, len(FIXED)):
        own = slice(j * SEEDS, (j + 1) * SEEDS)
        moved = dual_update(temperature[own], average[own], kl[own], budget=budget, lr=0.006 / budget)
        temperature[own], average[own] = moved
    watched.append([kl, temperature.copy(), true(end).mean(1), critic(end)[0].mean(1)])

# divergence, temperature, true value and the critic's, of each kind and seed over the rounds
history = np.array(watched).reshape(ROUNDS, 4, len(KINDS), SEEDS).transpose(1, 2, 3, 0)
late = history[..., -100:].mean(-1)

# %%
# What came of them
# -----------------
# For each temperature the law that the critic asks for is known by quadrature: its divergence and its true value are
# the dotted line.

grid = np.linspace(-5, 6, 1001)
weight = np.exp(base_law.log_density(grid[:, None]))
weight /= weight.sum()
optimum = []
for t in np.geomspace(0.03, 20, 40):
    law = weight * np.exp((critic(grid)[0] - critic(grid)[0].max()) / t)
    optimum.append([tilted_kl(np.asarray(t), critic(grid)[0], weight).kl, law @ true(grid) / law.sum()])
optimum = np.array(optimum)

figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.6))
for i, name in enumerate(KINDS):
    style = {"color": COLOURS[i], "linestyle": "--" if i < len(FIXED) else "-"}
    spread(axes[0], np.arange(ROUNDS)[::10], history[0, i, :, ::10] + 1e-4, name, **style)
    spread(axes[1], np.arange(ROUNDS)[::10], history[1, i, :, ::10], None, **style)
    axes[2].plot(late[0, i] + 1e-3, late[2, i], "o", color=COLOURS[i])
for i, budget in enumerate(BUDGETS, len(FIXED)):
    axes[0].axhline(budget, color=COLOURS[i], linestyle=":", linewidth=1)
axes[2].plot(optimum[:, 0] + 1e-3, optimum[:, 1], ":", color=COLOURS[6], label="tilted laws")
axes[0].set(xlabel="round", ylabel="divergence of the paths", yscale="log", ylim=(1e-3, 30))
axes[1].set(xlabel="round", ylabel="temperature", yscale="log")
axes[2].set(xlabel="divergence of the paths", ylabel="true value", xscale="log")
axes[0].legend(fontsize="small")
axes[2].legend()

# %%
# What was claimed, and what came of it
# -------------------------------------
# .. claim:: The divergence of the paths settles at the budget, whatever temperature that takes; value rises with the
#     budget until errors of the critic prevail.
#     :experiment: an exact flow on the line with an affine correction at each step; a critic with a false bump where
#         the base has hardly any action; 4 seeds
#     :controls: two fixed temperatures, which is QAM; the tilted laws by quadrature
#     :shown: in part: for budgets of 0.1 and 1 the divergence settles within a tenth; at 4 it is right on average, but
#         swings around the budget by a factor of five or more, because a step is not small beside so low a temperature.
#         The true value is best at 1 and falls again at 4. Fixed temperatures end where the critic is happiest or where
#         they began, at true values below those of all budgets. One that was chosen well would do as well as the best
#         budget: what is gained is that a distance is chosen in its place, which does not depend on the critic's scale
#
# Exercises
# ---------
# 1. Multiply the critic by 10. Which of the five kinds end elsewhere, and what happens to the temperatures?
# 2. The temperature moves up by at most :math:`\eta\,(c-1)\,\epsilon` a round. Give all budgets one `lr`, first 0.005
#    and then 0.05: which of them settles late, and which one swings?
# 3. Show that the affine correction can reach the optimum for a Gaussian base and a quadratic critic. Why not here?

for i, name in enumerate(KINDS):
    print(name, "divergence, temperature, true value, critic", late[:, i].mean(1).round(2).tolist())
cold, hot, *free = range(len(KINDS))
small, middle, large = free
realised = late[0, free] / np.array(BUDGETS)[:, None]
print("realised divergence over the budget", realised.round(2).tolist())
swing = history[0, free, :, -200:].max(-1) / history[0, free, :, -200:].min(-1)
print("largest over smallest divergence of the last 200 rounds", swing.round(1).tolist())
assert (abs(realised[:2] - 1) < 0.1).all() and (abs(realised[2] - 1) < 1 / 4).all(), "budgets are kept"
assert (swing[2] > 1.5 * swing[:2]).all(), "the largest one on average alone"
kl, _, value, seen = late
assert (kl[cold] > 1.5 * kl[large]).all() and (kl[hot] < 0.1 * kl[small]).all(), "fixed temperatures end anywhere"
assert (value[small] < value[middle]).all(), "value rises with the budget"
assert (value[large] < value[middle]).all(), "until the critic's error prevails"
assert (value[[cold, hot]].max(0) < value[free].min(0)).all(), "and both fixed temperatures are worse"
assert (seen[cold] > seen[large]).all() and (seen[large] > seen[middle]).all(), "which the critic does not notice"
