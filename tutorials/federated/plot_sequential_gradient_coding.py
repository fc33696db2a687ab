"""
Late workers that are forgiven
==============================

Thirty-two workers compute one gradient after the other; some are slow for a while, then others. Codes let a round go on
without them, for more work of everybody. What does it save to code for bursts instead of for the worst round?
"""

# %%
# One pattern, job by job
# -----------------------
# Who straggles when, for eight workers, and the jobs that multiplexed coding has decoded at their deadlines: all of
# them, as long as the pattern keeps to two workers a window and bursts of two rounds.

import numpy as np

from trref.experiments.figures import use_style
from trref.federated.sequential_gradient_coding import bursty, decoded, loads, waited
from trref.problems.stragglers import gilbert_elliott

plt = use_style()
shape = {"burst": 2, "window": 4, "stragglers": 2}
late = gilbert_elliott(np.random.default_rng(3), 40, 8, enter=0.03, leave=0.5)
fits, done = bursty(late, **shape), decoded(late, **shape, scheme="multiplexed")
figure, axis = plt.subplots(figsize=(8.5, 2.6))
axis.imshow(late.T, aspect="auto", cmap="cividis", interpolation="nearest")
axis.plot(np.flatnonzero(fits == 0), 0 * np.flatnonzero(fits == 0) - 0.9, "v", label="no longer bursty", clip_on=False)
axis.plot(np.flatnonzero(done == 0), 0 * np.flatnonzero(done == 0) + 7.9, "^", label="job is lost", clip_on=False)
axis.set(xlabel="round", ylabel="worker")
axis.grid(visible=False)
axis.legend(loc="lower right", bbox_to_anchor=(1, 1.1), ncols=2, fontsize=8)
lost, broken = np.flatnonzero(done == 0), np.flatnonzero(fits == 0)
delay = shape["window"] - 2 + shape["burst"]
assert len(broken), "this pattern leaves the model"
assert all(any(t <= r <= t + delay for r in broken) for t in lost), "jobs are lost only where it does"

# %%
# Times of whole runs
# -------------------
# A round takes (0.3 + 20 load), with a tenth of jitter, six times as long for who straggles; one waits for twice the
# time of the fastest. Each scheme takes the best of a few parameters, on the same chains.

workers, jobs, seeds = 32, 100, range(3)
chains = {"rare, short": (0.01, 0.5), "rare, shorter": (0.02, 0.7), "frequent": (0.05, 0.5)}
options = {
    "coding": [{"burst": 1, "window": 2, "stragglers": s} for s in (1, 3, 6, 10)],
    "repeat": [{"burst": B, "window": B + 1, "stragglers": s} for B in (1, 2) for s in (4, 8, 14)],
    "multiplexed": [{"burst": B, "window": W, "stragglers": s} for B, W in ((1, 2), (2, 4)) for s in (6, 14, 24)],
}


def total(scheme, how, slow, jitter):
    """The time of all rounds, those after the last job included."""
    load = 1 / workers if scheme == "uncoded" else loads.unchecked(np.array([workers]), **how, scheme=scheme)[0]
    extra = {"repeat": how["burst"], "multiplexed": how["window"] - 2 + how["burst"]}.get(scheme, 0)
    times = ((0.3 + 20 * load) * jitter * np.where(slow > 0, 6.0, 1.0))[: jobs + extra]
    if scheme == "uncoded":
        return times.max(1).sum(), load
    return waited.unchecked(times, **how, scheme=scheme).times.sum(), load


spent, chosen = {}, {}
for name, (enter, leave) in chains.items():
    for scheme in ("uncoded", *options):
        ways = options.get(scheme, [options["coding"][0]])
        table = []
        for seed in seeds:
            rng = np.random.default_rng(seed)
            slow = gilbert_elliott(rng, jobs + 10, workers, enter=enter, leave=leave)
            jitter = rng.uniform(1.0, 1.1, slow.shape)
            table.append([total(scheme, how, slow, jitter) for how in ways])
        table = np.array(table)
        best = table[..., 0].mean(0).argmin()
        spent[name, scheme], chosen[name, scheme] = table[:, best, 0], table[0, best, 1]
schemes = ("uncoded", *options)
figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.5))
for k, scheme in enumerate(schemes):
    at = np.arange(len(chains)) + 0.2 * k - 0.3
    axes[0].bar(at, [spent[name, scheme].mean() for name in chains], 0.19, label=scheme)
    axes[1].bar(at, [chosen[name, scheme] for name in chains], 0.19)
for axis, words in zip(axes, ("time of 100 jobs", "load of the best parameters"), strict=True):
    axis.set_xticks(range(len(chains)), chains)
    axis.set(ylabel=words, xlabel="chain of stragglers")
axes[0].legend(fontsize=8)

# %%
# What the figures show
# ---------------------
# Multiplexed coding is the fastest in all three chains, at a load that is half as much again as without a code, where
# plain coding needs twice as much or more. Selective repetition is no faster than plain coding by itself: its load is
# that of a code for several stragglers, and here it hardly pays. Where stragglers are frequent plain codes even lose
# against waiting for everybody.

for name in chains:
    told = {s: f"{spent[name, s].mean():.0f} (load {chosen[name, s]:.3f})" for s in schemes}
    print(f"{name}: {told}")
for name in chains:
    others = np.array([spent[name, s] for s in ("uncoded", "coding", "repeat")])
    assert (spent[name, "multiplexed"] < others.min(0)).all(), "multiplexed is the fastest, in every chain and seed"
    assert chosen[name, "multiplexed"] < chosen[name, "coding"], "at a smaller load than plain coding"
slower = [spent[name, "repeat"].mean() > 0.9 * spent[name, "coding"].mean() for name in chains]
assert sum(slower) >= 2, "selective repetition hardly pays here"

# %%
# .. claim:: Coding for bursts over several rounds needs less work of each worker than coding every round, and runs are
#     faster.
#     :experiment: 32 workers, 100 jobs, three chains of stragglers, the best of a few parameters for each scheme;
#         three seeds
#     :controls: no coding, plain gradient coding
#     :shown: in part: multiplexed coding is the fastest in every chain and seed, at a smaller load; selective
#         repetition is hardly faster than plain coding
#
# **Exercises.** (1) Take the exemption out of selective repetition: how many more rounds wait for everybody? (2) Let
# the jitter be as large as the slow-down. Who is taken for a straggler? (3) Draw patterns that break the window by one
# straggler, and find one that loses a job.
