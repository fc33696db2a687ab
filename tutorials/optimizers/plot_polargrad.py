"""
A length that vanishes
======================

Muon's step is as long at a minimum as anywhere. PolarGrad multiplies it by the gradient's nuclear norm. Does a constant
rate then converge, and how does it compare with gradient descent?
"""

# %%
# Matrix regression
# -----------------
# :math:`\frac12 \|AXB - C\|_F^2` for X of 30 × 10, three seeds, 1,500 steps. The rate that the theory certifies is
# :math:`1/(Lr)`, with the rank r = 10; it is run beside five times that, Muon at three rates, and gradient descent.

import numpy as np

from trref.experiments.descent import descend
from trref.experiments.figures import use_style
from trref.experiments.training import Rule
from trref.optimizers import muon, polargrad, sgd
from trref.optimizers.polargrad import gradient_condition
from trref.problems.matrices import MatrixQuadratic

plt = use_style()
seeds, steps, shape = range(3), 1500, (30, 10)


def problem(seed):
    rng = np.random.default_rng(seed)
    A, B, C = (rng.standard_normal(s) for s in ((60, 30), (10, 20), (60, 20)))
    f = MatrixQuadratic(A, B, C)
    best = np.linalg.pinv(A) @ C @ np.linalg.pinv(B)
    return f, float(f(best)[0]), np.linalg.norm(A, 2) ** 2 * np.linalg.norm(B, 2) ** 2


ours = Rule(polargrad.init, polargrad.update)
exact = {"momentum": 0.0, "factor": "svd", "scale": "none"}
choices = {
    "gradient descent, 1/L": (sgd, lambda L: 1 / L, {}),
    "PolarGrad, 1/(Lr)": (ours, lambda L: 1 / (10 * L), {"momentum": 0.0}),
    "PolarGrad, 5/(Lr)": (ours, lambda L: 5 / (10 * L), {"momentum": 0.0}),
    "Muon, 0.1": (muon, lambda L: 0.1, exact),
    "Muon, 0.01": (muon, lambda L: 0.01, exact),
    "Muon, 0.001": (muon, lambda L: 0.001, exact),
}
problems = [problem(seed) for seed in seeds]
gaps = {name: [] for name in choices}
for name, (rule, rate, hyper) in choices.items():
    for f, bottom, L in problems:
        start, how = np.zeros(shape), {"steps": steps, "hyper": hyper}
        trace = descend(f, start, rule, lr=rate(L), **how)
        gaps[name].append(np.maximum(trace.losses - bottom, 1e-14))

# %%
# The gradient's condition
# ------------------------
# Along gradient descent and PolarGrad.

figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3.6))
for name, each in gaps.items():
    left.plot(np.exp(np.log(each).mean(0)), label=name)
left.set(xlabel="step", ylabel="gap to the minimum (geometric mean)", yscale="log")
left.legend(fontsize="small")
f, _, L = problems[0]
for name in ("gradient descent, 1/L", "PolarGrad, 5/(Lr)"):
    rule, rate, hyper = choices[name]
    X, conditions = np.zeros(shape), []
    state = rule.init([X])
    for _ in range(300):
        G = f(X)[1]
        conditions.append(float(gradient_condition(G)))
        (X,), state = rule.update([X], [G], state, lr=rate(L), **hyper)
    right.plot(conditions, label=name)
right.set(xlabel="step", ylabel="condition of the gradient", yscale="log")
right.legend()
last = {name: np.array([g[-1] for g in each]) for name, each in gaps.items()}
for name in choices:
    print(f"{name:22} gaps {last[name]}")

# %%
# What the figures show
# ---------------------
# With five times the certified rate PolarGrad is at the minimum; at the certified rate it is slower than gradient
# descent, for the theory is worst-case. Muon stops at a distance that its rate sets. The singular values of the
# gradient come together under PolarGrad and fall apart under gradient descent.

muons = [last[name] for name in choices if name.startswith("Muon")]
assert last["PolarGrad, 5/(Lr)"].max() < 1e-9 < 1e-7 < last["gradient descent, 1/L"].min(), "it converges, and faster"
assert all(each.min() > 1e-4 for each in muons), "Muon at a constant rate does not"
assert muons[0].min() > muons[1].max() > muons[1].min() > muons[2].max(), "and stops where its rate says"
assert last["PolarGrad, 1/(Lr)"].min() > last["gradient descent, 1/L"].max(), "the certified rate is a slow one"

# %%
# .. claim:: Scaled by the nuclear norm, polar steps converge linearly on strongly convex problems, and better than
#     gradient descent where its gradients are badly conditioned.
#     :experiment: a matrix regression of 30 × 10, three seeds, constant rates without momentum
#     :controls: gradient descent at 1/L, Muon at three rates
#     :shown: yes, in every seed, at five times the rate that the theory certifies; at that rate itself it is slower
#         than gradient descent. Language models cannot be shown at this scale
#
# Exercises
# ---------
# 1. Take momentum of 0.9, in both orders. Which of them may use a larger rate?
# 2. Take two steps of QDWH for the polar factor. How much of the nuclear norm is left?
# 3. Let Muon's rate fall to zero. Does it catch up?
