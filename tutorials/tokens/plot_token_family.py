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
# Every training objective of the family, with its published defaults. Most take log-probabilities and advantages as
# they are; some need a word. FiberPO's sample objective (``apc``) takes a prompt for the state and an answer for the
# action; two penalties are added to GRPO; the correction of noisy rewards meets a verifier without errors; TROLL on
# sparse rows gets its support; GTPO is told the entropy of the start; trusted directions change GRPO's gradient, not
# the objective; of the clips by covariance stands the one that draws nothing. Nothing lags here, so the methods for
# stale samples (``decoupled``, ``a3po``, ``rollout_corrected``) are PPO. Methods that change the advantage alone, as
# OPO, ReMax, REINFORCE++ and MaxRL, weigh tokens as the loss that they are given, and are left out.

import math
import time

import numpy as np

from trref import catalog
from trref.catalog.tokens.interfaces import TOKEN_OBJECTIVE
from trref.experiments.figures import use_style
from trref.experiments.tokens import train
from trref.problems.tokens import TokenTask
from trref.tokens.ace_regulariser import selective_regulariser
from trref.tokens.covariance_clip import kl_cov, kl_cov_choice
from trref.tokens.dr_grpo import centred_advantage
from trref.tokens.f_divergences import divergence
from trref.tokens.fiberpo_censoring import apc
from trref.tokens.grpo import group_advantage, grpo
from trref.tokens.maspo import maspo_differentiated, mass_width, risk_width
from trref.tokens.noisy_rlvr import corrected_gradient
from trref.tokens.rloo import leave_one_out
from trref.tokens.terms import logit_gradient
from trref.tokens.troll_sparse import support, troll_sparse
from trref.tokens.trusted_direction import project_gradient

plt = use_style()


def log_softmax(z):
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def taken(logits, actions):
    return np.take_along_axis(log_softmax(logits), actions[..., None], 2)[..., 0]


def apc_of_answers(log_prob, old_log_prob, advantage, mask, group):
    ratio = np.exp((mask * (log_prob - old_log_prob)).sum(1))
    loss, g = apc(ratio, advantage, group, radius=0.2)
    return loss, mask * (g * ratio)[:, None]


def grpo_in_logits(logits, old_logits, actions, advantage, mask):
    loss, g = grpo(taken(logits, actions), taken(old_logits, actions), advantage, mask)
    return loss, logit_gradient(logits, actions, g)


def with_divergence(logits, old_logits, actions, advantage, mask):
    loss, gradient = grpo_in_logits(logits, old_logits, actions, advantage, mask)
    far, pull = divergence(logits, old_logits, mask, kind="reverse_kl")
    return loss + 0.5 * far, gradient + 0.5 * pull


def with_regulariser(logits, old_logits, actions, advantage, mask, ref_logits, reward):
    """Of the tokens of wrong answers, those that were sampled."""
    loss, gradient = grpo_in_logits(logits, old_logits, actions, advantage, mask)
    wrong = (actions[..., None] == np.arange(logits.shape[-1])) * (mask * (reward[:, None] == 0))[..., None]
    rows = (x.reshape(-1, logits.shape[-1]) for x in (logits, ref_logits, wrong.astype(float)))
    penalty, push = selective_regulariser(*rows)
    return loss + 0.5 * penalty, gradient + 0.5 * push.reshape(logits.shape)


def gate_differentiated(log_prob, old_log_prob, advantage, mask):
    width = mass_width(old_log_prob) * risk_width(advantage)[:, None]
    return maspo_differentiated(log_prob, old_log_prob, advantage, mask, width)


def without_noise(log_prob, mask, reward, group):
    none = np.zeros(len(reward))
    return corrected_gradient(log_prob, mask, reward, group, none, none, baseline="group_mean")


def covariance_penalised(log_prob, old_log_prob, advantage, mask):
    """The form that draws nothing at random."""
    return kl_cov(log_prob, old_log_prob, advantage, mask, kl_cov_choice(log_prob, advantage, mask))


def sparse(logits, old_logits, actions, advantage, mask):
    return troll_sparse(logits, old_logits, actions, advantage, mask, support(logits, old_logits, actions))


MADE = {
    "fiberpo_censoring": (apc_of_answers, {}),
    "f_divergences": (with_divergence, {}),
    "ace_regulariser": (with_regulariser, {}),
    "noisy_rlvr": (without_noise, {}),
    "covariance_clip": (covariance_penalised, {}),
    "troll_sparse": (sparse, {}),
}
PARTS = {  # what has no objective of its own, and where it is used
    "gtpo_conflicts": "gtpo",
    "cppo_bound": "cppo",
    "troll_projection": "troll",
    "lens_likelihood": "lens",
    "noisy_rlvr_verifier": "noisy_rlvr",
    "reduced_divergences": "dppo",
}
BESIDE = "maxrl opo reinforce_plus_plus remax value_loss".split()  # other advantages for these losses; no policy loss
slugs, members = set(), {}
for method in (catalog.method(*place) for place in catalog.places() if place[0] == "tokens"):
    if method.slug in BESIDE:
        continue
    slugs.add(method.slug)
    for record in method.functions:
        trains = isinstance(record, catalog.Objective) and {"advantage", "reward"} & set(record.inputs)
        if trains and method.slug not in (*MADE, *PARTS):
            hyper = {k: v for k, v in record.settings["default"].items() if k != "current_version"}
            members[record.f.__name__] = record.f, hyper
            slugs.discard(method.slug)
members |= {name: MADE[name] for name in sorted(MADE)}
members["trusted_direction"] = grpo, {}
members["maspo_differentiated"] = gate_differentiated, {}
members["gtpo"] = members["gtpo"][0], {"initial_entropy": math.log(TokenTask().vocabulary)}
assert slugs == {*MADE, *PARTS, "trusted_direction"} and set(PARTS.values()) <= set(members), "nobody is left out"
print(len(members), "members:", ", ".join(members))

# %%
# The weight of a token
# ---------------------
# One token's probability moves from a quarter to between a twelfth and three quarters, the rest of its row shrinks or
# grows in proportion, and all else stays on-policy. The weight is what multiplies the gradient of the token's
# log-probability, over advantage times its value on-policy: 0 leaves the token alone, a negative weight takes it back.
# REINFORCE, which knows of no old policy, has 1 throughout; with the ratio as weight the samples are those of the old
# policy, and the gradient is the policy's. Colours are advantages.

V, B, T = 6, 4, 3
ratios, advantages = np.geomspace(0.34, 2.9, 21), (-2.0, -0.5, 0.5, 2.0)
names = ("version", "group", "reward", "answer", "domain", "actions", "entropy", "divergence")
COMMON = {n: value for n, value in TOKEN_OBJECTIVE.edges["on-policy"]().items() if n in names}
ROW = np.log([0.25, 0.3, 0.2, 0.12, 0.08, 0.05])


def coefficient(objective, hyper, ratio, advantage):
    """What multiplies the gradient of the log-probability of token 0 of answer 0."""
    actions = np.zeros((B, T), int)
    old = np.tile(ROW, (B, T, 1))
    logits = old.copy()
    p = ratio * np.exp(ROW[0])
    logits[0, 0] = np.append(np.log(p), ROW[1:] + np.log((1 - p) / (1 - np.exp(ROW[0]))))
    batch = {**COMMON, "actions": actions, "logits": logits, "old_logits": old, "ref_logits": old}
    batch |= {"log_prob": taken(logits, actions), "group": np.array([0, 0, 1, 1]), "domain": np.zeros(B, int)}
    batch |= {name: taken(old, actions) for name in ("old_log_prob", "behavior_log_prob", "ref_log_prob")}
    batch |= {"mask": np.ones((B, T)), "version": np.full((B, T), 3)}
    batch["entropy"] = -(np.exp(logits) * logits).sum(-1)
    batch["divergence"] = np.maximum((np.exp(logits) * (logits - old)).sum(-1), 0)
    good = advantage > 0
    batch["advantage"] = np.array([advantage, -advantage, 0.5, -0.5])
    batch["reward"] = np.array([good, not good, 1, 0], float)
    _, gradient = catalog.call(objective, batch, {"current_version": 3}, hyper)
    if gradient.ndim == 2:
        return -gradient[0, 0]
    return -gradient[0, 0, 0] / (1 - p)


def weights(objective, hyper):
    """One row an advantage."""
    found = []
    for A in advantages:
        at_start = coefficient(objective, hyper, 1.0, A)
        moved = np.array([coefficient(objective, hyper, ratio, A) for ratio in ratios])
        found.append(moved / at_start if abs(at_start) > 1e-12 else 0 * moved)
    return np.array(found)


drawn = {name: member for name, member in members.items() if name != "trusted_direction"}
weight = {name: weights(*member) for name, member in drawn.items()}
columns = 6
rows = -(-len(drawn) // columns)
figure, axes = plt.subplots(rows, columns, figsize=(11, 1.55 * rows), sharex=True, sharey=True)
colours = plt.cm.RdBu(np.array([0.05, 0.25, 0.75, 0.95]))
axes[0, 0].set(xscale="log", ylim=(-1.2, 3.1))  # the axes are shared, the marks too
axes[0, 0].set_xticks([0.5, 1, 2], ["½", "1", "2"])
axes[0, 0].minorticks_off()
for axis, (name, curves) in zip(axes.flat, weight.items(), strict=False):
    for A, curve, colour in zip(advantages, curves, colours, strict=True):
        axis.plot(ratios, curve, color=colour, label=f"advantage {A:g}", linewidth=1.4)
    axis.set_title(name, fontsize=8)
for axis in axes.flat[len(drawn) :]:
    axis.set_visible(False)
for axis in axes[:, 0]:
    axis.set_ylabel("weight")
for axis in axes[-1]:
    axis.set_xlabel("ratio")
axes[0, 0].legend(fontsize=5, loc="upper left")

# %%
# One task, one step size
# -----------------------
# The same policy, task, seeds, batches and step size for all (three seeds, mean and standard deviation at the end). A
# method whose weights are smaller takes smaller steps, so this is no ranking; it shows what each does to success,
# diversity and the distance from the start under equal conditions. The trusted directions are the first four of a run
# of GRPO of five iterations.

ADVANTAGE = {
    "reinforce": centred_advantage,
    "rloo": leave_one_out,
    "dr_grpo": centred_advantage,
    "dppo": centred_advantage,
    "spo": centred_advantage,
    "drpo": centred_advantage,
}
COLUMNS = {"success": "pass@1", "pass_at_k": "pass@8", "entropy": "entropy", "kl": "KL to start"}
SEEDS, ITERATIONS, task = range(3), 16, TokenTask()


def trusted(seed):
    """A projection of gradients onto the directions of a warm-up; rows of the matrix stand for tokens."""
    warm = train(grpo, seed=100 + seed, task=task, iterations=5, every=5).theta.reshape(-1, task.vocabulary).T
    return lambda g: project_gradient(g.reshape(-1, task.vocabulary).T, warm, rank=4).T.ravel()


def final(name, seed):
    """The last figures of a run, and the seconds that it took the processor."""
    objective, hyper = members[name]
    change = trusted(seed) if name == "trusted_direction" else None
    options = {"task": task, "hyper": hyper, "iterations": ITERATIONS, "every": ITERATIONS, "change_gradient": change}
    start = time.process_time()
    run = train(objective, seed=seed, advantage=ADVANTAGE.get(name, group_advantage), **options)
    return [*(getattr(run, key)[-1] for key in COLUMNS), time.process_time() - start]


table = {name: np.array([final(name, seed) for seed in SEEDS]) for name in members}  # seed, column
order = sorted(table, key=lambda name: -table[name][:, 0].mean())
print(f"{'method':24}" + " ".join(f"{title:>15}" for title in COLUMNS.values()))
for name in order:
    cells = " ".join(f"{v.mean():7.3f} ± {v.std(ddof=1):5.3f}" for v in table[name].T[:4])
    print(f"{name:24}{cells}")

figure, axes = plt.subplots(1, 4, figsize=(11, 0.21 * len(order) + 0.6), sharey=True)
place = np.arange(len(order))[::-1]
for column, (axis, title) in enumerate(zip(axes, COLUMNS.values(), strict=True)):
    values = np.array([table[name][:, column] for name in order])
    axis.errorbar(values.mean(1), place, xerr=values.std(1, ddof=1), fmt="o", markersize=4, linewidth=1)
    axis.set(xlabel=title)
axes[0].set_yticks(place, order, fontsize=8)
axes[0].set_ylim(-0.6, len(order) - 0.4)

# %%
# What the figures show
# ---------------------
# On-policy nearly all members have REINFORCE's gradient, as their pages declare; close to the old policy most weigh by
# the ratio alone; they differ where ratios have moved. Under one step size what they reach follows how much of the
# gradient they let through: the wide intervals, the soft gates and GTPO's doubled weights move furthest from the start,
# GSPO's interval of 3e-4 and SPO's brake on rare tokens least. At its released radius DRPO is no regulariser. Trusted
# directions reach least for the distance that they go: four are few. ``noisy_rlvr``, without noise, is REINFORCE.

seconds = max(values[:, -1].mean() for values in table.values())
print(f"One loop trains with any of them; the slowest member takes {seconds:.2f} s a run.")

assert (weight["grpo"][2:, ratios > 1.25] == 0).all(), "GRPO gives a good token nothing above its interval"
assert (weight["grpo"][:2, ratios < 0.75] == 0).all(), "and a bad one nothing below"
assert np.allclose(weight["reinforce"], 1), "REINFORCE does not see where the ratio has moved"
near = abs(ratios - 1) < 0.1
plain = [name for name, curves in weight.items() if abs(curves - ratios)[:, near].max() < 0.02]
print(f"{len(plain)} of {len(weight)} weigh by the ratio alone between 0.9 and 1.1.")
assert len(plain) > len(weight) / 2, "on-policy most members agree"
distinct = {tuple(np.round(curves, 3).ravel() + 0.0) for curves in weight.values()}
print(f"{len(distinct)} weights of {len(weight)} are distinct.")
assert len(distinct) > len(weight) / 2, "off-policy most weigh tokens in a way of their own"

start = float(task.success_probability(np.zeros(task.size)).mean())
assert all((values[:, 0] > 2 * start).all() for values in table.values()), "every member learns, in every seed"
success, kl = (np.array([table[name][:, column].mean() for name in order]) for column in (0, 3))
print(f"correlation of pass@1 with the distance from the start: {np.corrcoef(success, kl)[0, 1]:.2f}")
assert np.corrcoef(success, kl)[0, 1] > 0.8, "success goes with the distance from the start"

# %%
# .. claim:: The published variants change which tokens get a gradient off-policy; on-policy they agree.
#     :experiment: weight of one token against its ratio at four advantages; 16 iterations on the token task, 3 seeds
#     :controls: same policy, task, seeds, batches and step size
#     :shown: in part: most agree near the old policy and differ away from it; success goes with the distance moved
