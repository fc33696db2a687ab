"""
How far is far? Seven divergences between policies
==================================================

A trust region is a ball, and the divergence decides its shape. We draw the balls, move a little mass to a rare and to a
frequent token, and look at what a sample tells about each divergence.
"""

# %%
# Balls around a policy near a corner
# -----------------------------------
# Three tokens with old probabilities 0.8, 0.17 and 0.03. Each contour is where the divergence has the same value as
# after doubling the rarest token at the expense of the others.

import numpy as np
from scipy.special import log_softmax

from trref.experiments.figures import COLOURS, use_style
from trref.tokens.f_divergences import CURVATURE, DIVERGENCES, divergence_rows, generator, textbook_generator
from trref.tokens.kl_estimators import kl_estimate

plt = use_style()
q = np.array([0.8, 0.17, 0.03])
side = np.linspace(0.0, 1, 401)[1:-1]
x, y = np.meshgrid(side, side)  # probabilities of the second and the third token
inside = x + y < 0.999
p = np.stack([np.where(inside, 1 - x - y, 0.5), x, y], -1)
log_p, log_q = np.log(p / p.sum(-1, keepdims=True)), np.log(q)
doubled = np.array([0.8 * 0.94 / 0.97, 0.17 * 0.94 / 0.97, 0.06])
figure, axes = plt.subplots(1, 2, figsize=(9, 4))
for kind, colour in zip(DIVERGENCES, COLOURS, strict=True):
    value = np.where(inside, divergence_rows(log_p, np.broadcast_to(log_q, log_p.shape), kind)[0], np.nan)
    level = float(divergence_rows(np.log(doubled), log_q, kind)[0])
    axes[0].contour(x, y, value, levels=[level], colors=[colour])
    axes[0].plot([], [], color=colour, label=kind.replace("_", " "))
axes[0].plot(*q[1:], "o", color=COLOURS[-1], markersize=4)
axes[0].set(xlabel="probability of token 2 (old: 0.17)", ylabel="probability of token 3 (old: 0.03)")
axes[0].set(xlim=(0.08, 0.27), ylim=(0.0, 0.11), title="balls through 'token 3 doubled'")
axes[0].legend(fontsize=8, loc="upper right")

# %%
# The same mass on a rare and on a frequent token
# -----------------------------------------------
# A vocabulary of 1000 tokens with Zipf probabilities. We move 0.01 of probability onto one token, from all others in
# proportion. Total variation sees the same step wherever the token stands; a ratio or a chi-square does not.

V = 1000
zipf = 1 / np.arange(1, V + 1)
zipf /= zipf.sum()


def moved(token, mass=0.01):
    new = zipf * (1 - mass / (1 - zipf[token]))
    new[token] = zipf[token] + mass
    return new


ranks = np.unique(np.geomspace(1, V, 40).astype(int)) - 1
table = {kind: [] for kind in DIVERGENCES}
for token in ranks:
    for kind in DIVERGENCES:
        table[kind].append(float(divergence_rows(np.log(moved(token)), np.log(zipf), kind)[0]))
for kind, colour in zip(DIVERGENCES, COLOURS, strict=True):
    axes[1].loglog(ranks + 1, table[kind], color=colour, label=kind)
axes[1].loglog(ranks + 1, 0.01 / zipf[ranks], color="#7d8590", linestyle=":", label="ratio - 1")
axes[1].set(xlabel="rank of the token that gains 0.01", ylabel="divergence", title="0.01 of mass, moved")
axes[1].legend(fontsize=7)

frequent, rare = 0, V - 1
print(f"{'':18s}{'onto rank 1':>14s}{'onto rank 1000':>16s}{'quotient':>10s}")
quotient = {}
for kind in DIVERGENCES:
    first, last = (float(divergence_rows(np.log(moved(t)), np.log(zipf), kind)[0]) for t in (frequent, rare))
    quotient[kind] = last / first
    print(f"{kind:18s}{first:14.3g}{last:16.3g}{quotient[kind]:10.1f}")
print(f"{'ratio':18s}{moved(0)[0] / zipf[0]:14.3g}{moved(rare)[rare] / zipf[rare]:16.3g}")
assert abs(quotient["total_variation"] - 1) < 1e-9, "total variation: the same"
assert quotient["pearson"] > 500 and moved(rare)[rare] / zipf[rare] > 70, "chi-square and ratio: another world"
assert min(quotient, key=quotient.get) == "total_variation", "all others weigh the rare token more"

# %%
# What one sampled token tells
# ----------------------------
# On tokens of the old policy the mean of :math:`f(u)` is exact for every divergence; the generator with slope 0 at
# :math:`u = 1` is never negative, and here it also has the smaller deviation. On tokens of the new policy
# :math:`k_1` and :math:`k_3` have the right mean.

rng = np.random.default_rng(1)
log_p, log_q = log_softmax(0.7 * rng.standard_normal(1000)), log_softmax(0.7 * rng.standard_normal(1000))
samples = 40_000
from_q, from_p = (rng.choice(1000, samples, p=np.exp(l)) for l in (log_q, log_p))
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
u = (log_p - log_q)[from_q]
exact = float(divergence_rows(log_p, log_q, "reverse_kl")[0])
bins = np.linspace(-1, 4, 120)
for name, terms in {
    "u log u": textbook_generator(u, "reverse_kl")[0],
    "u log u - (u - 1)": generator(u, "reverse_kl")[0],
}.items():
    axes[0].hist(terms, bins, alpha=0.55, label=f"{name}: deviation {terms.std():.2f}")
    assert abs(terms.mean() - exact) < 4 * terms.std() / samples**0.5, "unbiased"
calm, plain = generator(u, "reverse_kl")[0].std(), textbook_generator(u, "reverse_kl")[0].std()
assert calm < plain, "the generator of slope 0 scatters less"
axes[0].set(xlabel="estimate from one token", ylabel="count", title=f"tokens of q; KL = {exact:.2f}")
for kind in ("k1", "k2", "k3"):
    terms = kl_estimate(log_p[from_p], log_q[from_p], kind)[0]
    axes[1].hist(terms, bins, histtype="step", linewidth=1.6, label=f"{kind}: {terms.mean():.2f} ± {terms.std():.2f}")
axes[1].set(xlabel="estimate from one token", title="tokens of p", yscale="log")
for axis in axes:
    axis.axvline(exact, color="#7d8590", linestyle=":")
    axis.legend(fontsize=8)

# %%
# Small steps are all alike
# -------------------------
# Near the old policy every one of them but total variation is a multiple of chi-square: which divergence one takes
# matters only when policies have moved.

step = rng.standard_normal(1000)
figure, axis = plt.subplots()
sizes = np.geomspace(1e-3, 3, 30)
for kind, colour in zip(CURVATURE, COLOURS, strict=False):
    near = [log_softmax(log_q + h * step) for h in sizes]
    ratio = [
        divergence_rows(l, log_q, kind)[0] / (CURVATURE[kind] * divergence_rows(l, log_q, "pearson")[0]) for l in near
    ]
    axis.semilogx(sizes, ratio, label=kind, color=colour)
    assert abs(ratio[0] - 1) < 0.01, "small steps: a multiple of chi-square"
    assert kind == "pearson" or abs(ratio[-1] - 1) > 0.2, "large steps: not"
axis.set(xlabel="size of the step in the logits", ylabel="divergence / (its multiple of chi-square)", ylim=(0, 2))
axis.legend(fontsize=8)

# %%
# .. claim:: Total variation treats rare and frequent tokens alike; ratios and chi-square do not. For small steps all
#     smooth divergences are multiples of one another.
#     :experiment: exact rows over a Zipf vocabulary of 1000; 40,000 sampled tokens of one pair of policies
#     :controls: seven divergences and the ratio, on the same 0.01 of mass
#     :shown: yes: moved onto the rarest token instead of the likeliest it is the same step for total variation,
#         hundreds of times larger for chi-square
