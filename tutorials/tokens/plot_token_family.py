"""
The token family at a glance
============================

Every member of the family turns a token's probability ratio and advantage into a weight on the gradient of its
log-probability. Drawn side by side, these weights explain the methods; trained on one task with one step size, the
members can be compared.
"""

# %%
# Who takes part
# --------------
# One objective a method: those on log-probabilities whose inputs the common training loop provides.

import numpy as np

from trref import catalog
from trref.experiments.figures import use_style
from trref.experiments.tokens import train
from trref.tokens.grpo import group_advantage

plt = use_style()
provided = set(
    "log_prob old_log_prob behavior_log_prob ref_log_prob advantage mask group reward answer domain version"
    " actions entropy divergence".split()
)
members = {}
for method in catalog.methods():
    if method.family != "tokens":
        continue
    for record in method.functions:
        own = isinstance(record, catalog.Objective) and record.wrt == "log_prob" and "advantage" in record.inputs
        if own and set(record.inputs) <= provided and method.slug not in members:
            members[method.slug] = record
print(len(members), "members:", ", ".join(members))

# %%
# The weight of a token
# ---------------------
# One token's ratio moves, all else stays on-policy. The weight is what multiplies the gradient of the token's
# log-probability, relative to its value on-policy; solid for a good response (advantage 1), dashed for a bad one
# (advantage -2). Where it is 0 the token is left alone.

ratios = np.geomspace(0.3, 3.0, 61)


def weights(record, row):
    """The gradient's entry of the moved token, over its value at ratio 1."""
    start = record.edges["on-policy"]()
    values = []
    for ratio in (1.0, *ratios):
        log_prob = start["log_prob"].copy()
        log_prob[row, 1] += np.log(ratio)
        values.append(record({**start, "log_prob": log_prob}, record.settings["default"])[1][row, 1])
    return np.array(values[1:]) / values[0] if values[0] else np.zeros(len(ratios))


columns = 5
rows = -(-len(members) // columns)
figure, axes = plt.subplots(rows, columns, figsize=(10, 1.7 * rows), sharex=True, sharey=True)
found = {}
for axis, (name, record) in zip(axes.flat, members.items(), strict=False):
    found[name] = weights(record, 0), weights(record, 1)
    for values, style in zip(found[name], ("-", "--"), strict=True):
        axis.plot(ratios, values, style)
    axis.set(title=name, xscale="log", ylim=(-0.6, 3.1))
    axis.set_xticks([0.5, 1, 2], ["½", "1", "2"])
    axis.minorticks_off()
for axis in axes.flat[len(members) :]:
    axis.set_visible(False)
for axis in axes[:, 0]:
    axis.set_ylabel("weight")
for axis in axes[-1]:
    axis.set_xlabel("ratio")

# %%
# One task, one step size
# -----------------------
# The same policy, task, seeds, batches and step size for all (five seeds, mean and standard deviation at the end). A
# method whose weights are smaller takes smaller steps, so this is no ranking; it shows what each does to success,
# diversity and the distance from the start under equal conditions.

ADVANTAGE = {"dr_grpo": {"std": "none"}}
seeds, table = range(5), {}
for name, record in members.items():
    keywords = ADVANTAGE.get(name, {})

    def advantage(reward, group, keywords=keywords):
        return group_advantage(reward, group, **keywords)

    runs = [
        train(record.f, seed=s, hyper=record.settings["default"], advantage=advantage, iterations=30) for s in seeds
    ]
    table[name] = {
        key: np.array([getattr(run, key)[-1] for run in runs]) for key in ("success", "pass_at_k", "entropy", "kl")
    }
header = f"{'method':20} {'pass@1':>15} {'pass@8':>15} {'entropy':>15} {'KL to start':>15}"
print(header)
for name, row in sorted(table.items(), key=lambda item: -item[1]["success"].mean()):
    cells = " ".join(f"{v.mean():7.3f} ± {v.std():5.3f}" for v in row.values())
    print(f"{name:20} {cells}")

figure, axis = plt.subplots(figsize=(8, 4.5))
for i, (name, row) in enumerate(table.items()):
    x, y = row["kl"].mean(), row["success"].mean()
    axis.errorbar(x, y, xerr=row["kl"].std(), yerr=row["success"].std(), fmt="o", color=f"C{i % 7}", alpha=0.8)
    axis.annotate(name, (x, y), textcoords="offset points", xytext=(4, 4), fontsize=8)
axis.set(xlabel="mean KL to the start (nats)", ylabel="pass@1 after 30 iterations")

# %%
# What the figures show
# ---------------------
# The members differ where ratios have moved. Under one step size what they reach follows how much of the gradient they
# let through: the wide intervals and soft gates move furthest from the start, GSPO's interval of 3e-4 least. GTPO
# leaves out answers of high entropy, and so all answers of the uniform policy that this comparison starts from.
#
# .. claim:: The published variants change which tokens get a gradient off-policy; on-policy they agree.
#     :experiment: weight of one token against its ratio, and 30 iterations on the verifiable token task, 5 seeds
#     :controls: same policy, task, seeds, batches and step size
#     :shown: in part: the weights differ clearly; under one step size success goes with the distance from the start

grpo_good, grpo_bad = found["grpo"]
assert (grpo_good[ratios > 1.25] == 0).all(), "GRPO gives a good token nothing above its interval"
assert (grpo_bad[ratios < 0.75] == 0).all(), "and a bad one nothing below"
distinct = {tuple(np.round(np.concatenate(pair), 6)) for pair in found.values()}
assert len(distinct) > len(members) / 2, "most members weigh tokens in a way of their own"
learned = {name: row for name, row in table.items() if name != "gtpo"}
assert all(row["success"].mean() > 0.2 for row in learned.values()), "every other member learns on the task"
success, kl = (np.array([row[key].mean() for row in learned.values()]) for key in ("success", "kl"))
assert np.corrcoef(success, kl)[0, 1] > 0.8, "success goes with the distance from the start"
