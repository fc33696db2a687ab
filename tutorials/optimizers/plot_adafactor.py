"""
Two vectors for a matrix
========================

Adam keeps a second moment of every weight. Adafactor keeps one number a row and one a column. What is lost by it, and
what is its clipping for?
"""

# %%
# Regression with a matrix
# ------------------------
# :math:`\frac12 \| A X B - C \|^2` for X of 10 × 8, with factors of condition 30, 400 steps with a rate that falls
# linearly, each rule at the best of four rates. The control with a whole moment sees the same matrix as a vector.

import numpy as np

from trref.experiments.figures import spread, use_style
from trref.optimizers import adafactor, adam

plt = use_style()
rows, columns, steps, seeds = 10, 8, 400, range(3)


def problem(seed):
    rng = np.random.default_rng(seed)
    A = np.linalg.qr(rng.standard_normal((rows, rows)))[0] * np.geomspace(1, 30, rows) / 30
    B = (np.linalg.qr(rng.standard_normal((columns, columns)))[0] * np.geomspace(1, 30, columns)).T / 30
    return A, B, A @ rng.standard_normal((rows, columns)) @ B


def run(rule, lr, seed, shape, **hyper):
    A, B, C = problem(seed)
    params = [np.zeros(shape)]
    state, losses = rule.init(params), []
    for k in range(steps):
        off = A @ params[0].reshape(rows, columns) @ B - C
        losses.append((off**2).sum() / 2)
        gradient = (A.T @ off @ B.T).reshape(shape)
        params, state = rule.update(params, [gradient], state, lr=lr * (1 - k / steps), **hyper)
    return np.array(losses)


plain = {"relative": False, "scaled": False}
matrix, vector = (rows, columns), (rows * columns,)
rules = {
    "Adam": (adam, matrix, {}, 160),
    "Adafactor": (adafactor, matrix, plain, 18),
    "a whole moment": (adafactor, vector, plain, 80),
    "no clipping": (adafactor, matrix, {**plain, "clip": 1e9}, 18),
}
best = {}
for name, (rule, shape, hyper, _) in rules.items():
    tried = {lr: np.array([run(rule, lr, seed, shape, **hyper) for seed in seeds]) for lr in (0.01, 0.03, 0.1, 0.3)}
    lr = min(tried, key=lambda lr: np.log(tried[lr][:, -1]).mean())
    best[name] = lr, tried[lr]

figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 3.4))
for name, (lr, losses) in best.items():
    numbers = rules[name][3]
    spread(left, range(0, steps, 10), losses[:, ::10].tolist(), f"{name} ({numbers} numbers), rate {lr:g}")
left.set(xlabel="step", ylabel="loss", yscale="log")
left.legend(fontsize=7)

# %%
# A gradient that jumps
# ---------------------
# Noise of size 1 for 200 steps, and of size 50 for the next ten: how long is the update, relative to the rate?

sizes = {}
for name, clip in (("clipped", 1.0), ("not clipped", 1e9)):
    runs = []
    for seed in seeds:
        rng, params = np.random.default_rng(seed), [np.zeros((rows, columns))]
        state, seen = adafactor.init(params), []
        for k in range(260):
            g = rng.standard_normal((rows, columns)) * (50.0 if 200 <= k < 210 else 1.0)
            before = params[0]
            params, state = adafactor.update(params, [g], state, lr=0.01, clip=clip, **plain)
            seen.append(np.sqrt(((params[0] - before) ** 2).mean()) / 0.01)
        runs.append(seen)
    sizes[name] = np.array(runs)
    spread(right, range(150, 260), sizes[name][:, 150:].tolist(), name)
right.set(xlabel="step", ylabel="root mean square of the update, in rates", yscale="log")
right.legend(fontsize=7)

# %%
# What the figures show
# ---------------------
# Without momentum of its own, and with 18 numbers in the place of 160, Adafactor comes down to nothing when the rate
# falls, as Adam and the rule with a whole moment do. (The clip is not needed here, and slows it down.) The decay near 1
# that makes the moment need no correction is slow to see a jump: the first update after it is several times as long as
# the rate, and is cut.

ends = {name: np.log10(losses[:, -1]) for name, (_, losses) in best.items()}
for name, end in ends.items():
    print(f"{name:16} rate {best[name][0]:g}, log10 of the loss at the end {end.round(1)}")
start = np.log10(best["Adam"][1][:, 0])
assert all((end < start - 10).all() for end in ends.values()), "all come down by ten orders, in every run"
jump = {name: values[:, 200] for name, values in sizes.items()}
print({name: values.round(1) for name, values in jump.items()})
assert (jump["not clipped"] > 4).all() and (jump["clipped"] < 1.001).all(), "the jump would be a long step, and is cut"

# %%
# .. claim:: The second moments of rows and columns do the work of a whole one, with sublinear memory, and clipping
#     keeps steps in bounds where the decay is slow.
#     :experiment: regression with a matrix of 10 × 8, the best of four rates, three seeds; noise that jumps fiftyfold
#     :controls: the same rule with a whole moment, and without clipping; Adam
#     :shown: yes at this size, in every run
#
# Exercises
# ---------
# 1. Turn A and B by random rotations of the inputs of X. Which of the rules notices?
# 2. Start at weights of 0 with the scaled step. How many steps does it take to leave?
# 3. Bring momentum back as the vision variant has it. Does the left figure change?
