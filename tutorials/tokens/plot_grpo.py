"""
What the mean over tokens does to wrong answers
===============================================

GRPO divides each answer's sum over tokens by the answer's length. That looks like bookkeeping, and is a force: every
token of a long wrong answer is punished less than a token of a short one. We isolate it in a policy that can answer in
three ways only, and look at two further choices that hide in the same few lines.
"""

# %%
# Three ways to answer
# --------------------
# The first token picks a template: *solve* (6 tokens, right with probability 0.3, which training can't improve),
# *short* (2 tokens, wrong), *long* (12 tokens, wrong). All other tokens are forced. The two wrong templates deserve the
# same fate. We train with GRPO's advantages and change nothing but the weights of the tokens.

import numpy as np
from scipy.special import log_softmax
from scipy.stats import binom

from trref.experiments.figures import COLOURS, spread, use_style
from trref.tokens.dapo import dapo_over_batch
from trref.tokens.dr_grpo import dr_grpo
from trref.tokens.grpo import group_advantage, grpo
from trref.tokens.kl_estimators import kl_estimate
from trref.tokens.terms import logit_gradient

plt = use_style()
LENGTHS, SOLVE, SHORT, LONG = np.array([6, 2, 12]), 0, 1, 2
PROMPTS, ANSWERS, STEPS, SEEDS = 32, 8, 300, range(5)
group = np.repeat(np.arange(PROMPTS), ANSWERS)
OBJECTIVES = {
    "mean over the answer's tokens (GRPO)": grpo,
    "mean over all tokens (DAPO)": dapo_over_batch,
    "constant (Dr. GRPO)": lambda *batch: dr_grpo(*batch, max_length=6),
}


def drift(objective, seed, lr=1.0):
    rng, theta, history = np.random.default_rng(seed), np.zeros(3), []
    for _ in range(STEPS):
        p = np.exp(log_softmax(theta))
        template = rng.choice(3, len(group), p=p)
        reward = ((template == SOLVE) & (rng.random(len(group)) < 0.3)).astype(float)
        mask = (np.arange(12) < LENGTHS[template][:, None]).astype(float)
        log_prob = np.zeros_like(mask)
        log_prob[:, 0] = np.log(p[template])
        _, gradient = objective(log_prob, log_prob, group_advantage(reward, group), mask)
        logits = np.broadcast_to(theta, (len(group), 1, 3))
        theta = theta - lr * logit_gradient(logits, template[:, None], gradient[:, :1]).sum((0, 1))
        history.append(theta[LONG] - theta[SHORT])
    return history


figure, axis = plt.subplots()
drifts = {}
for name, objective in OBJECTIVES.items():
    runs = [drift(objective, seed) for seed in SEEDS]
    drifts[name] = np.array(runs)[:, -1]
    spread(axis, range(STEPS), runs, name)
axis.set(xlabel="step", ylabel="log p(long) - log p(short)", title="Which wrong answer survives?")
axis.legend()

# %%
# Only the mean over the answer's own tokens lets long wrong answers survive short ones. (That the *average length*
# rises needs prompts the policy can't solve; on others the length follows the solution.)

for name, values in drifts.items():
    print(f"{name:40s} {values.mean():+.2f}  (seeds {np.round(values, 2)})")
ours, *controls = drifts.values()
assert (ours > 1).all(), "GRPO drifts to the long wrong template in every seed"
for other in controls:
    assert abs(other).max() < 0.3 * ours.min(), "the other two weightings do not"

# %%
# What the deviation does to prompts
# ----------------------------------
# Dividing by the group's deviation multiplies the expected gradient of a prompt by a factor that depends on how likely
# the prompt is solved. We enumerate all outcomes of a group of 8: the factor is largest for prompts that are nearly
# always or nearly never solved. For large groups it turns the success probability P into 2 arcsin √P.

P, G = np.linspace(0.02, 0.98, 97), 8
k = np.arange(G + 1)
outcomes = [np.concatenate([np.ones(j), np.zeros(G - j)]) for j in k]
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
factors = {}
for std in ("population", "sample", "none"):
    # the gradient of E[r] is P (1 - P) times that of the logit of P; the mean of A r is what the estimator has instead
    gain = np.array([(group_advantage(r, np.zeros(G, int), std=std) * r).mean() for r in outcomes])
    factors[std] = np.array([binom.pmf(k, G, x) @ gain for x in P]) / (P * (1 - P))
    axes[0].plot(P, factors[std], label=f"divided by: {std}")
axes[0].plot(P, 1 / np.sqrt(P * (1 - P)), color=COLOURS[-1], linestyle=":", label="slope of 2 arcsin √P")
axes[0].set(xlabel="probability of success P", ylabel="factor on the gradient of P", ylim=(0, 5))
axes[0].set_title("the deviation")
axes[0].legend(fontsize=8)
assert np.allclose(factors["none"], 1 - 1 / G), "without it the factor is 1 - 1/G: the mean is a biased baseline"
middle = len(P) // 2
assert factors["population"][4] > 1.2 * factors["population"][middle], "with it hard prompts weigh more"

# %%
# What a divergence estimate does in the loss
# -------------------------------------------
# GRPO adds :math:`k_3` to the loss. As a value it is an unbiased estimate of :math:`KL(\pi\|\pi_{ref})`. Its gradient
# is that of the *other* divergence. Exact means over a vocabulary of six:

rng = np.random.default_rng(0)
log_p, log_ref = log_softmax(1.2 * rng.standard_normal(6)), log_softmax(1.2 * rng.standard_normal(6))
p, ref = np.exp(log_p), np.exp(log_ref)
reverse = p * (log_p - log_ref - p @ (log_p - log_ref))
forward = p - ref
means = {k: p @ kl_estimate(log_p, log_ref, k)[0] for k in ("k1", "k2", "k3")}
table = {k: p @ (kl_estimate(log_p, log_ref, k)[1][:, None] * (np.eye(6) - p)) for k in ("k1", "k2", "k3")}
bars = {"∇KL(π‖ref)": reverse, **{f"E[∇{k}]": v for k, v in table.items()}, "∇KL(ref‖π)": forward}
for i, (name, values) in enumerate(bars.items()):
    axes[1].bar(np.arange(6) + 0.16 * (i - 2), values, 0.16, label=name, color=COLOURS[i])
axes[1].set(xlabel="token", ylabel="mean gradient in its logit", title="the divergence")
axes[1].legend(fontsize=8)

exact = p @ (log_p - log_ref)
assert np.allclose((means["k1"], means["k3"]), exact), "k1 and k3 are unbiased estimates of the divergence"
assert abs(means["k2"] - exact) > 0.1 * exact, "k2 is not"
assert np.allclose(table["k1"], 0, atol=1e-12), "k1 in the loss has no gradient on average"
assert np.allclose(table["k2"], reverse), "k2 has the gradient of the divergence that it misestimates"
assert np.allclose(table["k3"], forward), "k3 has the right value and the gradient of the other divergence"
assert np.linalg.norm(forward - reverse) > 0.2 * np.linalg.norm(reverse), "and the two gradients differ"

# %%
# .. claim:: Averaging over each answer's own tokens favours long wrong answers over short ones (the criticism of Dr.
#     GRPO).
#     :experiment: a policy over three templates, 32 prompts with 8 answers each, 300 steps, five seeds
#     :controls: mean over all tokens (DAPO); a constant divisor (Dr. GRPO)
#     :shown: yes: the long wrong answer gains on the short one in every seed, and hardly moves under the controls
#
# .. claim:: The k3 estimate in the loss regularises by the divergence of the policy from the reference, without bias.
#     :experiment: exact means over a vocabulary of six
#     :controls: k1 and k2; the exact gradients of both divergences
#     :shown: in part: its value is unbiased; its gradient is that of the divergence of the reference from the policy
