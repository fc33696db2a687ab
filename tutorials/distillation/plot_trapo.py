"""
An expert's prefix, and imitation that lets minor modes go
==========================================================

Reinforcement needs a first success; imitation has one at once, but spreads the policy over all that experts do, also
where they contradict one another. TRAPO shows a prefix of the expert only while the reward is low, and caps the pull of
tokens that the policy finds unlikely. Does the cap drop the minor modes, and does the whole learn what GRPO alone does
not find?
"""

# %%
# Modes
# -----
# One state, an expert with two modes and a tail. Supervised fine-tuning ends at the expert; with the cap at 0.1 the
# tail is gone, and the modes share its mass. Then two experts of unequal frequency, each with its own pair of tokens,
# and a policy whose second token cannot see the first: what mass falls between the experts, on the first token of one
# and the second of the other?

import numpy as np

from trref.distillation.trapo import GROUPS, population_loss, prefix_ratio, trapo, trsft_optimum
from trref.experiments.figures import spread, use_style
from trref.optimizers import adam
from trref.problems.tokens import TokenTask
from trref.tokens.dr_grpo import centred_advantage

plt = use_style()


def softmax(z):
    p = np.exp(z - z.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def flow(expert, alpha, steps=600, lr=3.0):
    """The law after each step of gradient descent, from uniform."""
    z, laws = np.zeros_like(expert), []
    for _ in range(steps):
        laws.append(softmax(z))
        z = z - lr * len(z) * population_loss(z, expert, alpha=alpha)[1]
    return np.array(laws)


expert = np.array([[0.55, 0.35, 0.04, 0.03, 0.03]])
shares = np.linspace(0.02, 0.5, 25)
between = {}
for alpha in (0.0, 0.1, 0.3):
    pairs = np.stack([1 - shares, shares], 1)
    law = trsft_optimum(pairs, alpha=alpha)
    between[alpha] = 2 * law[:, 0] * law[:, 1]  # the two tokens are independent, and have the same law

figure, axes = plt.subplots(1, 3, figsize=(11, 3.4))
for alpha, name in ((0.0, "supervised"), (0.1, "TrSFT, 0.1")):
    axes[0].plot(flow(expert, alpha)[:, 0, 2:].sum(1), label=name)
axes[0].set(xlabel="step", ylabel="mass of the expert's tail", ylim=(0, None))
axes[0].legend()
for alpha, mass in between.items():
    axes[1].plot(shares, mass, label=f"α = {alpha:g}")
axes[1].set(xlabel="share of the rarer expert", ylabel="mass between the experts")
axes[1].legend()

# %%
# The whole loop
# --------------
# Prompts ask for three or four increasing symbols of fifteen, and the end: one answer in several hundred is right by
# chance. Eight answers a prompt and step, one update each. GRPO samples all of them alone; the others follow the
# schedule, and imitate the prefix with the cap, without it, or not at all.

task = TokenTask(levels=(3, 3, 4, 4))
PROMPTS, LENGTH, STEPS, SEEDS = len(task.levels), task.length, 120, range(4)


def answers(rng, theta, kind):
    """Eight answers a prompt, group by group: tokens, mask, prefix, rewards."""
    found, rewards = [], np.zeros((PROMPTS, 0))
    for group in GROUPS:
        prompts = np.repeat(np.arange(PROMPTS), group.answers)
        share = np.zeros(PROMPTS)
        if kind != "GRPO" and rewards.size:
            share = prefix_ratio(rewards, ratio=group.ratio, threshold=group.threshold)
        expert = task.expert(rng, prompts)
        shown = np.round(share[prompts] * expert.mask.sum(1))
        prefix = (np.arange(LENGTH) < shown[:, None]).astype(float)
        sampled = task.sample(rng, theta, prompts, prefix=(expert.tokens, prefix))
        reward = task.reward(sampled)
        rewards = np.concatenate([rewards, reward.reshape(PROMPTS, -1)], 1)
        found.append((prompts, sampled.tokens, sampled.mask, prefix, reward))
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def learn(kind, seed):
    """Chance of a right answer without a prefix, and the tokens that the expert gave, step by step."""
    rng, record = np.random.default_rng(seed), []
    theta = 0.1 * rng.standard_normal(task.size)
    state = adam.init([theta])
    for _ in range(STEPS):
        prompts, tokens, mask, prefix, reward = answers(rng, theta, kind)
        log_prob = task.log_prob(theta, prompts, tokens)
        A = centred_advantage(reward, prompts)
        supervised = np.zeros_like(prefix) if kind == "prefix alone" else prefix
        alpha = 0.0 if kind == "plain imitation" else 0.1
        _, pull = trapo(log_prob, log_prob, A, prefix, supervised, mask, max_length=LENGTH, alpha=alpha)
        gradient = task.log_prob_vjp(theta, prompts, tokens, pull)
        (theta,), state = adam.update([theta], [gradient], state, lr=0.05)
        record.append((task.success_probability(theta).mean(), prefix.sum()))
    return np.array(record)


kinds = ("GRPO", "prefix alone", "plain imitation", "TRAPO")
runs = {kind: np.array([learn(kind, seed) for seed in SEEDS]) for kind in kinds}
for kind in kinds:
    spread(axes[2], np.arange(STEPS), runs[kind][:, :, 0], kind)
axes[2].set(xlabel="step", ylabel="chance of a right answer, unaided")
axes[2].legend()

# %%
# What was claimed, and what came of it
# -------------------------------------
# .. claim:: Imitation with a capped pull drops the modes that nobody supports, and interleaved with reinforcement, with
#         prefixes only as long as the reward is low, it learns what reinforcement alone does not.
#     :experiment: laws of one state; four prompts of 0.1 to 1 % success by chance, 120 steps of 8 answers; 4 seeds
#     :controls: GRPO; the same prefixes without imitation; with supervised fine-tuning in the place of TrSFT
#     :shown: yes: the tail and the mass between two experts go where the rarer one has less than about a tenth. In
#         every seed TRAPO ends above plain imitation, by 0.03, and well above GRPO, with fewer tokens of the expert.
#         The collapse that is reported of plain imitation does not show here
#
# Exercises
# ---------
# 1. From :eq:`trapo-optimum`, find the share of the rarer of two experts below which it is dropped at α = 0.3, and
#    check it in the middle panel.
# 2. Log the surrogate -p / max(p, α) beside :eq:`trapo-potential` in a run. What does each say of progress?
# 3. Replace the schedule by a prefix of half the answer for all groups. How many tokens of the expert does it take,
#    and where does it end?

end = {kind: runs[kind][:, -1, 0] for kind in kinds}
for kind in kinds:
    print(kind, "chance at the end:", end[kind].round(3), "tokens shown:", runs[kind][:, :, 1].sum(1))
assert flow(expert, 0.1)[-1, 0, 2:].sum() < 2e-3 and flow(expert, 0.0)[-1, 0, 2:].sum() > 0.09, "the tail goes"
assert (between[0.1][shares < 0.09] == 0).all() and (between[0.0] > 0).all(), "and what lies between the experts"
assert (between[0.1][shares > 0.12] == between[0.0][shares > 0.12]).all(), "where the rarer one is rare"
assert (end["TRAPO"] > end["plain imitation"] + 0.01).all(), "the cap helps, in every seed"
assert (end["TRAPO"] > end["GRPO"] + 0.1).all() and (end["TRAPO"] > end["prefix alone"] + 0.1).all()
early = {kind: runs[kind][:, 30, 0] for kind in kinds}
assert (early["TRAPO"] > 5 * early["GRPO"]).all(), "GRPO waits for its first success"
shown = {kind: runs[kind][:, :, 1].sum(1) for kind in kinds}
assert (shown["TRAPO"] < shown["plain imitation"]).all(), "the sooner it succeeds, the less it is shown"
