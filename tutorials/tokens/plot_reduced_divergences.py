"""
How much of a divergence do a few tokens see?
=============================================

Trust-region methods that can't afford whole rows of a vocabulary use the sampled token alone, or the twenty likeliest.
Merging tokens never increases a divergence; how much it loses depends on the divergence, and on where policies moved.
"""

# %%
# Zipf policies that drift
# ------------------------
# A vocabulary of 500 tokens with Zipf probabilities, and a new policy whose logits moved by independent noise. We
# compare the full divergence with the top-K one, and with the mean of the binary one over tokens of the old policy.

import numpy as np
from scipy.special import log_softmax

from trref.experiments.figures import COLOURS, use_style
from trref.tokens.f_divergences import divergence_rows
from trref.tokens.reduced_divergences import binary_rows, top_k_mask, top_k_rows

plt = use_style()
V, N = 500, 40
rng = np.random.default_rng(0)
log_q = np.broadcast_to(log_softmax(-np.log(np.arange(1.0, V + 1))), (N, V))
log_p = log_softmax(log_q + 0.5 * rng.standard_normal((N, V)), -1)
drawn = np.array([rng.choice(V, p=np.exp(log_q[0])) for _ in range(N)])
KINDS, KS = (
    ("total_variation", "forward_kl", "pearson"),
    np.array([1, 2, 3, 5, 8, 13, 20, 33, 50, 80, 120, 180, 270, 400, 500]),
)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.8))
seen = {}
for kind, colour in zip(KINDS, COLOURS, strict=False):
    full = divergence_rows(log_p, log_q, kind)[0]
    kept = np.array([top_k_rows(log_p, log_q, top_k_mask(log_q, drawn, int(K)), kind)[0] / full for K in KS])
    binary = (np.exp(log_q) * binary_rows(log_p, log_q, kind)[0]).sum(1) / full
    seen[kind] = dict(zip(KS.tolist(), kept.mean(1), strict=True)) | {"binary": binary.mean()}
    axes[0].semilogx(KS, kept.mean(1), color=colour, label=kind.replace("_", " "))
    axes[0].axhline(binary.mean(), color=colour, linestyle=":")
    assert (kept <= 1 + 1e-12).all() and np.allclose(kept[-1], 1), "never more than the full one, all of it at K = V"
    assert (np.diff(kept, axis=0)[1:] > -0.2).all(), "more tokens see more, but for the sampled one"
axes[0].set(xlabel="K", ylabel="share of the full divergence", title="noise on all logits (dotted: binary, mean)")
axes[0].legend(fontsize=8)

# %%
# Mass that moves in the tail
# ---------------------------
# Now the policy shifts mass *between* tokens of the tail only, past rank 100: the merged cell does not change, and the
# reductions see nothing until K reaches it.

tail = np.where(np.arange(V) >= 100, rng.choice((-1.5, 1.5), V), 0.0)
moved = log_softmax(log_q[0] + tail)
q, p = np.exp(log_q[0]), np.exp(moved)
p[100:] *= q[100:].sum() / p[100:].sum()  # the mass of the tail is kept
p[:100] = q[:100]
log_tail = np.log(p)[None]
for kind, colour in zip(KINDS, COLOURS, strict=False):
    full = divergence_rows(log_tail, log_q[:1], kind)[0]
    action = np.array([0])
    kept = [top_k_rows(log_tail, log_q[:1], top_k_mask(log_q[:1], action, int(K)), kind)[0] / full for K in KS]
    axes[1].semilogx(KS, np.ravel(kept), color=colour, label=kind.replace("_", " "))
    blind = float(np.ravel(kept)[KS < 100].max())
    assert blind < 1e-9, "what happens within the merged cell is not seen"
axes[1].set(xlabel="K", ylabel="share of the full divergence", title="mass moved beyond rank 100")
axes[1].legend(fontsize=8)

print(f"{'':18s}{'binary, mean':>14s}{'K = 1':>10s}{'K = 20':>10s}")
for kind, values in seen.items():
    print(f"{kind:18s}{values['binary']:14.2f}{values[1]:10.2f}{values[20]:10.2f}")
for kind in KINDS:
    assert seen[kind]["binary"] < 0.1, "one token sees a few per cent of what moved"
    assert 0.4 < seen[kind][20] < 0.65, "twenty see about half"

# %%
# .. claim:: The sampled token, or the twenty likeliest, capture what matters of the full divergence at a fraction of
#     the cost.
#     :experiment: 40 policies with noise on all logits of a Zipf vocabulary of 500; mass moved within the tail of one
#     :controls: the full divergence
#     :shown: in part: both are lower bounds; twenty tokens see about half of it, the sampled one a few per cent, and
#         neither sees mass that moves within the tail
