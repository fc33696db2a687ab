"""
Conjugate gradients on frames
=============================

Brockett's function has its minimum at the eigenvectors of a matrix. How much do conjugate directions save over descent,
and which of the many choices (multiple, retraction, transport, restart) matter?
"""

# %%
# Conjugate gradients against descent
# -----------------------------------
# Frames of five columns in 50 dimensions, five matrices and starts; the figure shows the first. Descent gets the best
# fixed step of a grid, on each of them; the multiples of the last
# direction are those of Polak and Ribière, Hestenes and Stiefel, Fletcher and Reeves, Dai and Yuan. The last two also
# without Powell's restarts.

import time
import warnings

import numpy as np

from trref.experiments.figures import use_style
from trref.manifolds.riemannian_cg import riemannian_cg
from trref.manifolds.stiefel import project, retract_qr
from trref.problems.convex import spd_matrix
from trref.problems.frames import Brockett
from trref.validate import ConvergenceWarning

warnings.simplefilter("ignore", ConvergenceWarning)
plt = use_style()
n, p, seeds = 50, 5, range(5)


def problem(seed):
    rng = np.random.default_rng(seed)
    f = Brockett(spd_matrix(rng, np.linspace(0.1, 1.0, n)), np.arange(p, 0, -1.0))
    return f, np.linalg.qr(rng.standard_normal((n, p)))[0]


def descent(f, x, step, iterations=800):
    norms = []
    for _ in range(iterations):
        g = project(x, f(x)[1])
        norms.append(float(np.linalg.norm(g)))
        x = retract_qr(x, -step * g)
    return norms


settings = {"PR+": {}, "HS": {"beta": "HS"}, "FR": {"beta": "FR"}, "DY": {"beta": "DY"}}
settings |= {f"{b}, no restarts": {"beta": b, "restart": None} for b in ("FR", "DY")}
runs = {
    name: [riemannian_cg(*problem(s), gtol=1e-9, max_iter=800, **hyper) for s in seeds]
    for name, hyper in settings.items()
}
best_steps, descents = [], []
for s in seeds:
    by_step = {step: descent(*problem(s), step) for step in (0.1, 0.2, 0.3, 0.4, 0.5)}
    best_steps.append(min(by_step, key=lambda step: by_step[step][-1]))
    descents.append(by_step[best_steps[-1]])

figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.9))
axes[0].semilogy(descents[0], color="#7d8590", label=f"descent, step {best_steps[0]}")
for name, results in runs.items():
    style = "--" if "restarts" in name else "-"
    axes[0].semilogy(results[0].gradient_norms, style, label=name, linewidth=1.3)
axes[0].set(xlabel="iteration", ylabel="norm of the Riemannian gradient", xlim=(0, 800))
axes[0].legend(fontsize=8, loc="center right")

# %%
# Retraction and transport
# ------------------------
# The same multiple (PR+) with every way back to the manifold and every way to carry directions: iterations, and time.

ways = [
    ("qr", "projection"),
    ("qr", "differential"),
    ("polar", "projection"),
    ("polar", "differential"),
    ("cayley", "projection"),
    ("cayley", "differential"),
    ("cayley", "cayley"),
]
counts, milliseconds = {}, {}
for way in ways:
    begin = time.perf_counter()
    counts[way] = [riemannian_cg(*problem(s), retraction=way[0], transport=way[1]).iterations for s in seeds]
    milliseconds[way] = 1e3 * (time.perf_counter() - begin) / len(seeds)
names = [f"{r}, {t}" for r, t in ways]
axes[1].barh(names, [np.mean(counts[w]) for w in ways], xerr=[np.std(counts[w]) for w in ways], height=0.6)
for i, way in enumerate(ways):
    axes[1].text(8, i, f"{milliseconds[way]:.0f} ms", va="center", fontsize=8, color="white")
axes[1].invert_yaxis()
axes[1].set(xlabel="iterations to 1e-6")

# %%
# What the figures show
# ---------------------
# Conjugate gradients need far fewer iterations than the best descent. The choice of retraction and transport changes
# the time and hardly the iterations. Fletcher-Reeves and Dai-Yuan keep up only with restarts: alone they jam, as in
# flat space. And the method goes on to the last digits, where a line search on losses alone would stall near the
# square root of rounding.

targets = [1e-4 * np.linalg.norm(f(x0)[1]) for f, x0 in map(problem, seeds)]
needed = [int(np.argmax(np.array(r.gradient_norms) <= t)) for r, t in zip(runs["PR+"], targets, strict=True)]
for name, results in runs.items():
    print(f"{name:16} iterations {[r.iterations for r in results]}, converged {[r.converged for r in results]}")
print("iterations by retraction and transport:", {f"{r}, {t}": c for (r, t), c in counts.items()})
still = [sum(bool(v > t) for v in norms) for norms, t in zip(descents, targets, strict=True)]
print(f"to 1e-4: descent {still} iterations (steps {best_steps}), PR+ {needed}")
for results in (runs["PR+"], runs["HS"], runs["FR"], runs["DY"]):
    assert all(r.converged for r in results), "all four multiples converge, with restarts"
assert all(s > 3 * k for s, k in zip(still, needed, strict=True)), "conjugate directions save most iterations"
means = [np.mean(counts[w]) for w in ways]
assert max(means) < 1.25 * min(means), "retraction and transport hardly change the number of iterations"
for beta in ("FR", "DY"):
    with_restarts, alone = (np.mean([r.iterations for r in runs[name]]) for name in (beta, f"{beta}, no restarts"))
    assert alone > 1.5 * with_restarts, "without restarts these two jam"
f, _ = problem(0)
vectors = np.linalg.eigh(f.A)[1][:, : -p - 1 : -1]
assert abs((runs["PR+"][0].x * vectors).sum(0)).min() > 1 - 1e-12, "the minimum is at the eigenvectors"

# %%
# .. claim:: Conjugate gradients on the manifold need far fewer iterations than gradient descent; retraction and
#     transport change the time and hardly the iterations.
#     :experiment: Brockett's function on frames of 5 columns in 50 dimensions, five matrices and starts
#     :controls: descent with the best of five fixed steps for each; seven pairs of retraction and transport;
#         Fletcher-Reeves and Dai-Yuan without restarts
#     :shown: yes: a third of the iterations of descent or fewer; counts within a quarter of each other for all pairs
