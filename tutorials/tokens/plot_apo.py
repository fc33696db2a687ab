"""
Where does the probability of a wrong token go?
===============================================

Push a token down and the others share what it loses: in proportion to what they have. Rare alternatives get next to
nothing. APO pulls up the tokens that a reference trusts. We follow the probability through one step, through many, and
through training.
"""

# %%
# One step
# --------
# Four tokens with probabilities 0.6, 0.2, 0.05 and 0.15; the last one was sampled and is wrong. The reference trusts
# the first three (K = 3) or two (K = 2). For comparison: GRPO with a divergence from the reference as penalty.

import numpy as np

from trref.experiments.figures import COLOURS, spread, use_style
from trref.experiments.tokens import train_bandit
from trref.nn.heads import categorical_kl, log_softmax
from trref.tokens.apo import apo, safe_manifold

plt = use_style()
p, reference = np.array([0.6, 0.2, 0.05, 0.15]), np.array([0.4, 0.3, 0.2, 0.1])
token = np.log(p)[None, None], np.log(p)[None, None], np.array([[3]]), np.array([-1.0]), np.ones((1, 1))
PLAIN, PUSH = {"push": 1.0, "pull": 0.0}, {"pull": 0.0}


def step(**hyper):
    return -apo(*token, np.log(reference)[None, None], **hyper)[1][0, 0]


steps = {"GRPO": step(**PLAIN), "APO, K = 3": step(K=3), "APO, K = 2": step(K=2)}
penalty = categorical_kl(np.log(p)[None], np.log(reference)[None])[1][0]
steps["GRPO with divergence"] = steps["GRPO"] - 0.3 * penalty
figure, axes = plt.subplots(1, 3, figsize=(12, 3.6))
for i, (name, direction) in enumerate(steps.items()):
    flow = p * (direction - p @ direction)
    axes[0].bar(np.arange(4) + 0.2 * (i - 1.5), flow, 0.2, label=name)
    print(f"{name:22s} step of the logits {np.round(direction, 3)}, flow of probability {np.round(flow, 3)}")
axes[0].set(xlabel="token (3 is wrong)", ylabel="rate of change of probability", title="one step")
axes[0].legend(fontsize=8)
assert np.allclose(steps["APO, K = 3"], (0.640, 0.213, 0.053, -0.907), atol=5e-4), (
    "the step that the equations give for these four tokens"
)
assert steps["APO, K = 2"][2] < steps["GRPO"][2] < steps["APO, K = 3"][2], "outside the support it gains less"
assert steps["GRPO with divergence"][0] < steps["GRPO"][0], "a divergence also holds back the token that is too likely"

# %%
# Many steps
# ----------
# The same wrong token is pushed down 400 times. A token *outside* the reference's support starts with some probability.
# The likeliest token takes all in the end. Which one it is, the pull can shift: a little at the default strength, a lot
# at five times that.

V, K, SEEDS, OUTSIDER, WRONG = 16, 4, range(5), 6, 1
shares = np.linspace(0.1, 0.6, 21)
strengths = {"GRPO": PLAIN, "push alone": PUSH, "APO": {}, "APO, pull 0.5": {"pull": 0.5}}


def collapse(hyper, seed, count=400, lr=0.5):
    ref = np.sort(np.random.default_rng(seed).standard_normal(V))[::-1] + (np.arange(V) < K)
    start = np.exp(log_softmax(ref)) * (np.arange(V) != OUTSIDER)
    start = (1 - shares[:, None]) * start / start.sum()
    start[:, OUTSIDER] = shares
    z, inside = np.log(start)[:, None], safe_manifold(ref, K=K) * (np.arange(V) != WRONG)
    rest = np.full((len(shares), 1), WRONG), -np.ones(len(shares)), np.ones((len(shares), 1))
    for _ in range(count):
        z = z - lr * len(shares) * apo(z, z, *rest, np.broadcast_to(ref, z.shape), K=K, **hyper)[1]
    return np.exp(log_softmax(z))[:, 0] @ inside


kept = {name: np.array([collapse(hyper, seed) for seed in SEEDS]) for name, hyper in strengths.items()}
for (name, runs), colour in zip(kept.items(), COLOURS, strict=False):
    spread(axes[1], shares, runs, name, color=colour)
axes[1].set(xlabel="probability of a token outside, at the start", ylabel="probability of the anchors, at the end")
axes[1].set_title("400 steps against one wrong token")
axes[1].legend(fontsize=8)
area = {name: runs.mean() for name, runs in kept.items()}
print("mean probability of the anchors at the end:", {name: round(float(a), 3) for name, a in area.items()})
assert (kept["APO"] >= kept["GRPO"] - 0.01).all() and (kept["APO, pull 0.5"] >= kept["APO"] - 0.01).all(), (
    "the anchors keep at least what GRPO leaves them, and more with a pull"
)
assert area["APO, pull 0.5"] > area["GRPO"] + 0.1 and area["APO"] - area["GRPO"] < 0.1, (
    "clearly more only with the pull"
)
assert abs(area["push alone"] - area["GRPO"]) < 0.02, "pushing harder alone does nothing"

# %%
# Training
# --------
# Sixteen prompts with 64 answers. The set-up favours APO: of the reference's eight likeliest answers six are right, all
# others are wrong. We plot the entropy among the right answers (how many of them remain in use) against the probability
# of a right answer, so that methods are compared at equal progress.

PROMPTS, ANSWERS, ITERATIONS = 16, 64, 60


def problem(seed):
    rng = np.random.default_rng([seed, 3])
    ref, right = 0.5 * rng.standard_normal((PROMPTS, ANSWERS)), np.zeros((PROMPTS, ANSWERS))
    for prompt in range(PROMPTS):
        right[prompt, rng.permutation(np.argsort(-ref[prompt])[:8])[:6]] = 1
    return ref, right


def train(hyper, seed):
    start, right = problem(seed)
    p = train_bandit(apo, start, right, seed=seed, hyper=hyper, iterations=ITERATIONS, epochs=2, lr=0.3).probabilities
    success = (p * right).sum(2)
    within = p * right / success[..., None]
    entropy = -(within * np.log(within + 1e-300)).sum(2)
    return success.mean(1), (1 - (1 - success) ** 4).mean(1), entropy.mean(1)


runs = {name: np.array([train(hyper, seed) for seed in SEEDS]) for name, hyper in strengths.items()}
levels = np.linspace(0.3, 0.85, 12)
diversity = {}
for (name, histories), colour in zip(runs.items(), COLOURS, strict=False):
    diversity[name] = np.array([[h[2][(h[0] >= level).argmax()] for level in levels] for h in histories])
    spread(axes[2], levels, diversity[name], name, color=colour)
    final = histories[:, :, -1]
    print(f"{name:14s} pass@1 {final[:, 0].mean():.3f} ± {final[:, 0].std(ddof=1):.3f}", end="   ")
    print(f"pass@4 {final[:, 1].mean():.3f}   entropy among right answers {final[:, 2].mean():.3f}", end="   ")
    print(f"at pass@1 = 0.6: {diversity[name][:, 6].mean():.3f}")
axes[2].set(xlabel="probability of a right answer", ylabel="entropy among the right answers (nats)")
axes[2].set_title("training: diversity at equal progress")
axes[2].legend(fontsize=8)

# %%
# Support is what the pull keeps: without it, a likely token outside wins more often. Diversity is another matter. The
# pull of an anchor is proportional to its current probability, so that the likeliest anchor gains most; a rare one
# still loses in the first figure. In training, APO is faster in this favourable set-up, and at equal progress its right
# answers are as concentrated as GRPO's.

final = {name: histories[:, 0, -1] for name, histories in runs.items()}
assert (final["APO"] > final["GRPO"]).all() and (final["APO"] > final["push alone"]).mean() >= 0.8, "faster"
assert steps["APO, K = 3"][2] * p[2] > 0 and p[2] * (steps["APO, K = 3"][2] - p @ steps["APO, K = 3"]) < 0, (
    "a rare anchor: its logit is raised, and its probability falls all the same"
)
for name in ("APO", "APO, pull 0.5"):
    gap = diversity[name] - diversity["GRPO"]
    print(
        f"{name}: diversity at equal progress differs from GRPO's by {gap.mean():+.3f} ± {gap.mean(1).std():.3f} nats"
    )
    assert abs(gap.mean()) < 0.08, "no more diverse at equal progress"
    assert runs[name][:, 2, -1].mean() < runs["GRPO"][:, 2, -1].mean(), "and less so after as many steps"

# %%
# .. claim:: Anchoring restores the diversity (pass@k) that punishing wrong answers takes away.
#     :experiment: one step, 400 steps against one wrong token, and training on bandit prompts, 5 seeds
#     :controls: GRPO; the harder push without the pull; a five times stronger pull; equal progress
#     :shown: in part: probability stays in the reference's support; no more diversity at equal progress, less after
#         equally many steps, because the likeliest anchor is pulled most
