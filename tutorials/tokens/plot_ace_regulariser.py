"""
What a penalty on confident errors descends
===========================================

ACE multiplies the advantages of wrong answers by a factor. Theory says that this is gradient descent on a penalty for
wrong answers that have become likelier than under the reference, up to a residual. We add the parts up, watch the
residual vanish for long answers, and compare samples with the exact update.
"""

# %%
# The parts, answer by answer
# ---------------------------
# One prompt with eight answers; four are wrong, and training has raised two of them and lowered the other two.

import numpy as np

from trref.experiments.figures import COLOURS, use_style
from trref.nn.heads import log_softmax
from trref.tokens.ace import ace
from trref.tokens.ace_regulariser import decomposition, selective_regulariser
from trref.tokens.terms import logit_gradient

plt = use_style()
rng = np.random.default_rng(0)
reference = 0.5 * rng.standard_normal((1, 8))
wrong = np.array([[1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]])
logits = reference + np.array([[1.8, 0.8, -0.8, -1.8, 0.5, 0.0, 0.0, -0.5]])
parts = decomposition(logits, reference, wrong)
figure, axes = plt.subplots(1, 3, figsize=(12, 3.6))
bars = {"ACE adds": parts.extra, "descent on R": -parts.regulariser, "residual": parts.residual}
for i, (name, values) in enumerate(bars.items()):
    axes[0].bar(np.arange(8) + 0.27 * (i - 1), values[0], 0.27, label=name)
axes[0].set(xlabel="answer (0 to 3 are wrong)", ylabel="update of its logit", title="adds up, answer by answer")
axes[0].legend()
assert np.allclose(parts.extra, -parts.regulariser + parts.residual, atol=1e-15), (
    "extra update = minus regulariser plus residual"
)
assert parts.extra[0, 0] < 3 * parts.extra[0, 1:].min() < 0, "the wrong answer that grew most is hit by far the hardest"

# %%
# The residual
# ------------
# With the log-ratio divided by the length T its weight is at most 1/T.

lengths, share, cosine = np.array([1, 2, 5, 10, 20, 50, 100]), [], []
for length in lengths:
    parts = decomposition(logits, reference, wrong, length=float(length))
    share.append(np.linalg.norm(parts.residual) / np.linalg.norm(parts.regulariser))
    cosine.append(
        -(parts.extra * parts.regulariser).sum() / np.linalg.norm(parts.extra) / np.linalg.norm(parts.regulariser)
    )
axes[1].loglog(lengths, share, "o-", label="residual / gradient of R")
axes[1].loglog(lengths, share[-1] * lengths[-1] / lengths, color=COLOURS[-1], linestyle=":", label="1/T")
axes[1].loglog(lengths, 1 - np.array(cosine), "s-", label="1 - cosine of the update and descent")
axes[1].set(xlabel="length T", title="small for long answers")
axes[1].legend(fontsize=8)
assert abs(share[-1] * lengths[-1] / (share[-2] * lengths[-2]) - 1) < 0.05, "it falls as 1/T"
assert min(cosine) > 0.9, "and even at length 1 the update descends R"

# %%
# From samples
# ------------
# The difference between ACE's update and that of the method underneath, on n sampled answers, converges to what the
# theorem says at the usual rate.

exact, log_p, log_q = decomposition(logits, reference, wrong).extra[0], log_softmax(logits), log_softmax(reference)
sizes, errors = np.array([100, 1000, 10_000, 100_000]), []
for n in sizes:
    deviations = []
    for seed in range(5):
        y = np.random.default_rng(seed).choice(8, n, p=np.exp(log_p[0]))[:, None]
        batch = log_p[0, y], log_p[0, y], -wrong[0, y[:, 0]], np.ones((n, 1)), log_q[0, y]
        added = ace(*batch, alpha=0.0)[1] - ace(*batch)[1]
        update = logit_gradient(np.broadcast_to(logits, (n, 1, 8)), y, added).sum((0, 1))
        deviations.append(np.linalg.norm(update - exact) / np.linalg.norm(exact))
    errors.append(deviations)
errors = np.array(errors)
axes[2].loglog(sizes, errors, "o", color=COLOURS[0])
axes[2].loglog(
    sizes, errors.mean(1)[0] * np.sqrt(sizes[0] / sizes), color=COLOURS[-1], linestyle=":", label="$n^{-1/2}$"
)
axes[2].set(xlabel="sampled answers n", ylabel="relative error of the update", title="samples agree")
axes[2].legend()
slope = np.polyfit(np.log(sizes), np.log(errors.mean(1)), 1)[0]
print(f"rate of the sampled update: n^{slope:.2f}")
assert abs(slope + 0.5) < 0.12 and errors[-1].max() < 0.03, "the error falls with the square root of the answers"

# %%
# Descending
# ----------
# Following nothing but ACE's addition lowers the penalty, though it is not its gradient.

z, values = logits, []
for _ in range(60):
    values.append(float(selective_regulariser(z, reference, wrong)[0]))
    z = z + decomposition(z, reference, wrong).extra
assert (np.diff(values) < 0).all() and values[-1] < 0.25 * values[0], "the step descends the penalty, all the way"
print(f"the penalty falls from {values[0]:.2f} to {values[-1]:.2f}")

# %%
# .. claim:: ACE's update is descent on a penalty for overconfident errors, plus a residual that moderates it.
#     :experiment: exact enumeration of a policy over eight answers; samples of up to 100,000 answers, 5 seeds
#     :controls: the update of the method underneath, on the same samples
#     :shown: yes: an identity; the residual falls as 1/T
