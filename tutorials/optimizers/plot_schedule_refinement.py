"""
Where a schedule comes from
===========================

Why does it help to let the rate fall to zero in a straight line? A bound on the last iterate says so, if gradients have
equal norms. Where they do not, it says what to do instead. Both are tried here.
"""

# %%
# A sharp edge
# ------------
# The mean absolute error of 40 equations in 20 unknowns that have a solution, 1,000 subgradient steps, five seeds. The
# rate and the linear decay are those of the bound for the largest possible norm; beside them the same rate throughout,
# with its last iterate and the average of all.

import numpy as np

from trref.experiments.classifiers import digits_task
from trref.experiments.figures import use_style
from trref.experiments.training import fit
from trref.nn import mlp
from trref.optimizers import sgd
from trref.optimizers.schedule_refinement import refined_schedule, smooth_norms, usual_schedule

plt = use_style()
seeds, T, n = range(5), 1000, 20
times = np.arange(float(T))
figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.6))
ends = {"constant, last": [], "constant, average": [], "linear, last": [], "bound": []}
curves = {"constant": [], "linear": []}
for seed in seeds:
    rng = np.random.default_rng(seed)
    A, solution = rng.standard_normal((40, n)), rng.standard_normal(n)
    b = A @ solution
    largest = np.linalg.norm(A, 2) / 40**0.5  # of a subgradient: |A' s|/40 with |s| at most the root of 40
    rate = np.linalg.norm(solution) / (largest * T**0.5)
    for kind, curve in curves.items():
        steps = rate * usual_schedule(times + 1, total=T, kind=kind)
        x, total, values = np.zeros(n), np.zeros(n), []
        for step in steps:
            r = A @ x - b
            values.append(abs(r).mean())
            total += x
            x = x - step * (A.T @ np.sign(r)) / 40
        curve.append(values)
        ends[f"{kind}, last"].append(values[-1])
        if kind == "constant":
            ends["constant, average"].append(abs(A @ total / T - b).mean())
    ends["bound"].append(np.linalg.norm(solution) * largest / T**0.5)
for kind, curve in curves.items():
    axes[0].plot(np.mean(curve, axis=0), label=kind)
axes[0].set(xlabel="step", ylabel="mean absolute error", yscale="log")
axes[0].legend()
for name, values in ends.items():
    print(f"{name:18} {np.round(values, 4).tolist()}")

# %%
# Refinement
# ----------
# A small network on the digits, by plain SGD: first with linear decay, recording the norms of the gradients, then from
# the same start with the schedule that they ask for. Three rates, five seeds.

task, batch, rates = digits_task(), 50, (0.1, 0.3, 0.8)
length = 320


def run(seed, lr, schedule):
    """Training loss and test accuracy at the end, and the norms of the gradients."""
    rng, norms = np.random.default_rng(seed), []

    def gradient(loss, theta, rng):
        value, g = loss(theta)
        norms.append(float(np.linalg.norm(g)))
        return value, g

    start = mlp.init(rng, task.loss.sizes, scale=2**0.5)
    how = {"batch": batch, "steps": length, "rule": sgd, "lr": lr, "gradient": gradient}
    # the last step has the length 0, which no rule takes: nearly 0 will do
    end = fit(task.loss, start, rng, schedule=lambda t: max(float(schedule[t]), 1e-9), **how).theta
    accuracy = (task.loss.predict(end, task.X_test) == task.y_test).mean()
    return float(task.loss(end)[0]), float(accuracy), np.array(norms)


linear = usual_schedule(np.arange(float(length)) + 1, total=length)
flat = usual_schedule(np.arange(float(length)), total=length, kind="constant")
losses, accuracies, tops = {}, {}, []
for lr in rates:
    for seed in seeds:
        first = run(seed, lr, linear)
        refined = refined_schedule(smooth_norms(first[2]))
        tops.append(refined.argmax() / length)
        for name, found in (("linear", first), ("refined", run(seed, lr, refined)), ("constant", run(seed, lr, flat))):
            losses.setdefault((lr, name), []).append(found[0])
            accuracies.setdefault((lr, name), []).append(found[1])
    axes[1].plot(refined, label=f"refined at {lr}")
axes[1].plot(linear, color="C6", ls="--", label="linear")
axes[1].set(xlabel="step", ylabel="share of the rate")
axes[1].legend()
for key, values in losses.items():
    words = f"loss {np.mean(values):.3f} ± {np.std(values):.3f}, accuracy {np.mean(accuracies[key]):.3f}"
    print(f"rate {key[0]}, {key[1]:8} {words}")
print(f"the refined schedules have their top after {min(tops):.2f} to {max(tops):.2f} of the run")

# %%
# What the figures show
# ---------------------
# On the edge linear decay ends hundreds of times lower than the constant rate, last iterate or average, and far below
# the bound. On the digits the refined schedules rise before they fall. At the two smaller rates they end below linear
# decay, at the largest they do not; but a constant rate beats both, for this short run is far from where noise would
# stop it, and any decay only slows it down.

last = {name: np.array(values) for name, values in ends.items()}
assert (last["linear, last"] < 0.02 * np.minimum(last["constant, last"], last["constant, average"])).all()
assert (last["linear, last"] <= last["bound"]).all(), "as the theorem says"
mean = {key: np.mean(values) for key, values in losses.items()}
gain = {lr: np.array(losses[lr, "linear"]) - np.array(losses[lr, "refined"]) for lr in rates}
assert (gain[0.1] > 0).all() and gain[0.3].mean() > 0, "refinement helps where the rate is small"
assert all(mean[lr, "constant"] < min(mean[lr, "linear"], mean[lr, "refined"]) for lr in rates), "no decay is better"
assert all(0.1 < top < 0.9 for top in tops), "a warm-up that nobody asked for"

# %%
# .. claim:: Linear decay to zero is best in theory and practice among the usual schedules, and refinement by the norms
#     of the gradients does better still, with a warm-up of its own.
#     :experiment: an error with a sharp edge, 1,000 steps, five seeds; a small network on the digits, 320 steps, three
#         rates, five seeds
#     :controls: the constant rate, and the average of its iterates
#     :shown: in part: on the edge clearly, in every seed; on the digits refined schedules warm up by themselves and
#         beat linear decay at the smaller rates, but a constant rate beats both
#
# Exercises
# ---------
# 1. Train longer, and with a fifth of the labels random. From when on does decay help?
# 2. Do not smooth the norms. What do the refined schedules look like?
# 3. Refine a second time. Does the shape change?
