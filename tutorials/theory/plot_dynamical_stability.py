"""
Large steps find flat minima, if they are noisy
===============================================

SGD with a large step cannot stay at a sharp minimum. Does it therefore end at a flat one, and is the function there a
simpler one? And is it the size of the step, or the noise?
"""

# %%
# The task
# --------
# A diagonal linear network :math:`f(x) = \sum_j a_j b_j x_j` in 20 dimensions, 12 samples, and a target with three
# weights of 20: many minima fit all samples. There the trace of G is :math:`\frac1n \sum_i \|g_i\|^2`, and a minimum at
# which SGD stays obeys :math:`\mathrm{tr}\, G \le 2/\eta` (:eq:`dynamical-stability-trace`). *Predict before you run*:
# at which step does gradient descent, which may take larger steps, meet that line?

import numpy as np

from trref.experiments.figures import COLOURS, use_style
from trref.theory.dynamical_stability import critical_step, diagonal_trace, step_bounds

plt = use_style()
D, SAMPLES, RUNS = 20, 12, 6
TARGET = np.zeros(D)
TARGET[:3] = 1.0, -1.0, 0.7


def outputs_gradients(a, b, X):
    """Of each run's network at its samples: gradients by (a, b), shape (runs, samples, 2 D)."""
    return np.concatenate([b[:, None] * X, a[:, None] * X], 2)


def train(lr, *, noisy, steps=30_000):
    """All runs side by side, to residuals of 1e-4: the weights, and which runs arrived."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((RUNS, SAMPLES, D))
    a, b = 0.6 * rng.standard_normal((2, RUNS, D))
    y, each = X @ TARGET, np.arange(RUNS)
    for step in range(steps):
        if noisy:
            rows = rng.integers(0, SAMPLES, RUNS)
            x, target = X[each, rows], y[each, rows]
            slope = ((a * b * x).sum(1) - target)[:, None] * x
        else:
            slope = ((X @ (a * b)[:, :, None])[:, :, 0] - y)[:, None] @ X / SAMPLES
            slope = slope[:, 0]
        a, b = a - lr * slope * b, b - lr * slope * a
        if step % 250 == 249:
            worst = abs((X @ (a * b)[:, :, None])[:, :, 0] - y).max(1)
            if not (worst[np.isfinite(worst)] > 1e-4).any():
                break
    return X, a, b, worst < 1e-4


def measure(lr, *, noisy):
    """Trace, eigenvalue, norm of the function and its error, of the runs that arrived."""
    with np.errstate(over="ignore", invalid="ignore"):
        X, a, b, arrived = train(lr, noisy=noisy)
    rows = []
    for k in np.flatnonzero(arrived):
        # only their inner products count: 12 gradients have 12 coordinates
        g = np.linalg.qr(outputs_gradients(a, b, X)[k].T)[1].T
        bounds = step_bounds(g)
        rows.append(
            (
                2 / bounds.by_trace,
                2 / bounds.gradient_descent,
                abs(a[k] * b[k]).sum(),
                np.linalg.norm(a[k] * b[k] - TARGET),
                critical_step(g),
                diagonal_trace(a[k], b[k]).trace,
            )
        )
    return np.array(rows).reshape(-1, 6)


runs = {
    "SGD": {lr: measure(lr, noisy=True) for lr in (0.01, 0.05, 0.1, 0.15, 0.2)},
    "gradient descent": {lr: measure(lr, noisy=False) for lr in (0.01, 0.1, 0.3, 0.45)},
}
figure, axes = plt.subplots(1, 2)
for (name, table), colour in zip(runs.items(), COLOURS, strict=False):
    for lr, rows in table.items():
        axes[0].plot([lr] * len(rows), rows[:, 0], "o", color=colour, alpha=0.5)
        axes[1].plot([lr] * len(rows), rows[:, 2], "o", color=colour, alpha=0.5)
    means = [rows.mean(0) for rows in table.values()]
    axes[0].plot(list(table), [m[0] for m in means], color=colour, label=name)
    axes[1].plot(list(table), [m[2] for m in means], color=colour, label=name)
steps = np.geomspace(0.05, 0.5, 50)
axes[0].plot(steps, 2 / steps, "--", color=COLOURS[-1], label=r"$2/\eta$")
axes[1].axhline(abs(TARGET).sum(), ls="--", color=COLOURS[-1], label="target")
axes[0].set(xlabel="step", ylabel="trace of G", ylim=(0, 25))
axes[1].set(xlabel="step", ylabel="norm of the function, l1")
axes[0].legend()
axes[1].legend()
for name, table in runs.items():
    for lr, rows in table.items():
        print(
            f"{name}, {lr}: {len(rows)} of {RUNS} arrived; trace, eigenvalue, l1, error", np.round(rows.mean(0)[:4], 2)
        )

# %%
# No run of SGD ends above the line, as the theory says; as its step grows the minima become flatter and the functions
# sparser. Gradient descent, which only needs a small largest eigenvalue, takes twice the step, crosses the line, and
# ends no flatter than with small steps. The noise does it, together with the step.

sgd, descent = runs["SGD"], runs["gradient descent"]
for lr, rows in sgd.items():
    assert (rows[:, 0] <= 2 / lr).all(), "no minimum of SGD is sharper than its step allows"
    assert (rows[:, 4] >= lr * (1 - 0.02)).all(), "nor beyond the exact limit"
for lr, rows in descent.items():
    assert len(rows) >= 5 and (rows[:, 1] <= 2 / lr * (1 + 1e-6)).all()
assert max(len(rows) for rows in sgd.values()) == RUNS and min(len(rows) for rows in sgd.values()) >= 2
assert sgd[0.15][:, 0].mean() < 0.75 * sgd[0.01][:, 0].mean(), "flatter"
assert sgd[0.15][:, 2].mean() < 0.9 * sgd[0.01][:, 2].mean(), "and sparser"
assert descent[0.45][:, 0].mean() > 2 / 0.45, "gradient descent crosses the line of SGD"
assert descent[0.45][:, 0].mean() > 0.75 * descent[0.01][:, 0].mean(), "and is hardly flatter"

# %%
# .. claim:: A minimum at which SGD stays has a trace of at most :math:`2/\eta`; large steps therefore lead to flat
#     minima and simple functions, and gradient descent's do not.
#     :experiment: a diagonal linear network in 20 dimensions, 12 samples, batches of one, five steps, six runs of each
#     :controls: gradient descent at four steps, from the same starts
#     :shown: yes, among the runs that arrive: at the largest step some do not
#
# Change `RUNS` to 20: what share of the runs arrives at 0.2? Draw two samples a step, and replace the line by the bound
# that :eq:`dynamical-stability-trace` gives then.
