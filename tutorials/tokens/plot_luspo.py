"""
Which length survives? GSPO and LUSPO
=====================================

GSPO gives an answer one term, whatever its length, so each token of a long answer learns less. LUSPO multiplies the
term by the length. We isolate what that does in a policy that can answer in three ways only.
"""

# %%
# Three ways to answer
# --------------------
# The first token picks a template, all other tokens are forced. Once two wrong templates compete, of 2 and of 12
# tokens, beside one of 6 tokens that is right with probability 0.3; once two right templates, of 2 and of 12 tokens,
# beside a wrong one of 6. In both tasks the short and the long template deserve the same fate. As a control all
# templates have 6 tokens. LUSPO's gradient is larger by the length: its step is smaller by the mean length, 20/3.

import numpy as np
from scipy.special import log_softmax

from trref.experiments.figures import spread, use_style
from trref.tokens.grpo import group_advantage
from trref.tokens.gspo import gspo
from trref.tokens.luspo import luspo
from trref.tokens.terms import logit_gradient

plt = use_style()
SHORT, LONG, OTHER = range(3)
PROMPTS, ANSWERS, STEPS, SEEDS = 32, 8, 120, range(5)
group = np.repeat(np.arange(PROMPTS), ANSWERS)
TASKS = {
    "two wrong templates": ([2, 12, 6], [0.0, 0.0, 0.3]),
    "two right templates": ([2, 12, 6], [1.0, 1.0, 0.0]),
    "two wrong templates, equally long": ([6, 6, 6], [0.0, 0.0, 0.3]),
}
OBJECTIVES = {"GSPO": (gspo, 1.0), "LUSPO": (luspo, 3 / 20)}


def drift(objective, lr, lengths, right, seed):
    """How much more likely the long template becomes than the short one, step by step, in log-probability."""
    rng, theta, history = np.random.default_rng(seed), np.zeros(3), []
    for _ in range(STEPS):
        p = np.exp(log_softmax(theta))
        template = rng.choice(3, len(group), p=p)
        reward = (rng.random(len(group)) < np.array(right)[template]).astype(float)
        mask = (np.arange(12) < np.array(lengths)[template][:, None]).astype(float)
        log_prob = np.zeros_like(mask)
        log_prob[:, 0] = np.log(p[template])
        _, gradient = objective(log_prob, log_prob, group_advantage(reward, group), mask)
        logits = np.broadcast_to(theta, (len(group), 1, 3))
        theta = theta - lr * logit_gradient(logits, template[:, None], gradient[:, :1]).sum((0, 1))
        history.append(theta[LONG] - theta[SHORT])
    return history


figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), sharey=True)
ends = {}
for axis, (task, (lengths, right)) in zip(axes, TASKS.items(), strict=True):
    for name, (objective, lr) in OBJECTIVES.items():
        runs = [drift(objective, lr, lengths, right, seed) for seed in SEEDS]
        ends[task, name] = np.array(runs)[:, -1]
        spread(axis, range(STEPS), runs, name)
    axis.set(xlabel="step", title=task)
axes[0].set_ylabel("log p(long) - log p(short)")
axes[0].legend()

# %%
# Under GSPO the long wrong template survives the short one, and the short right one beats the long one. Under LUSPO
# neither drifts further than chance takes it; nor does GSPO where all templates are equally long.

for (task, name), values in ends.items():
    print(f"{task:36s} {name:6s} {values.mean():+.2f}  (seeds {np.round(values, 2)})")
wrong, right, equal = TASKS
assert (ends[wrong, "GSPO"] > 0.5).all(), "the long wrong template gains in every seed"
assert (ends[right, "GSPO"] < -0.5).all(), "the long right template loses in every seed"
for task, name in ((wrong, "LUSPO"), (right, "LUSPO"), (equal, "LUSPO"), (equal, "GSPO")):
    assert abs(ends[task, name]).max() < 0.5 * abs(ends[wrong, "GSPO"]).min(), (task, name)

# %%
# .. claim:: GSPO's objective favours short answers among right ones (and long ones among wrong ones); multiplied by the
#     length it does not.
#     :experiment: a policy over three templates, 32 prompts with 8 answers each, on-policy, five seeds
#     :controls: GSPO; templates of one length
#     :shown: yes, for the weight of tokens: both drifts are there under GSPO in every seed and gone under LUSPO. That
#         answers of large models get longer, and better, is not tried
