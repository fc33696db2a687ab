r"""f-divergences of a softmax policy: from a fixed one, exactly or from samples, with logit gradients.

Trust regions of language models differ in how they measure the distance of the policy :math:`p = \mathrm{softmax}(z)`
from an old, sampling or reference policy :math:`q`. With :math:`u = p/q` and a convex :math:`f`, :math:`f(1) = 0`,

.. math::
    :label: f-divergences-value

    D_f = \sum_k q_k\, f(u_k), \qquad
    \frac{\partial D_f}{\partial z} = p \odot \big( f'(u) - \langle p, f'(u) \rangle \big)

where :math:`q` is a constant. Adding a multiple of :math:`u - 1` to :math:`f` changes nothing in the sum; the module
takes the generator with :math:`f'(1) = 0`, whose terms are all non-negative:

.. math::
    :label: f-divergences-generators

    \begin{array}{lll}
    \text{reverse\_kl} & KL(p\|q) & u \log u - (u - 1) \\
    \text{forward\_kl} & KL(q\|p) & (u - 1) - \log u \\
    \text{total\_variation} & \tfrac12 \sum |p - q| & \tfrac12 |u - 1| \\
    \text{pearson} & \chi^2(p\|q) = \sum (p - q)^2 / q & (u - 1)^2 \\
    \text{neyman} & \chi^2(q\|p) = \sum (p - q)^2 / p & (u - 1)^2 / u \\
    \text{jensen\_shannon} & \tfrac12 KL(p\|m) + \tfrac12 KL(q\|m) &
        \tfrac12 \big[ u \log u - (u + 1) \log \tfrac{u + 1}2 \big] \\
    \text{hellinger} & 1 - \sum \sqrt{p q} & \tfrac12 (\sqrt u - 1)^2
    \end{array}

with :math:`m = (p + q)/2`. *Reverse* means that the policy in training comes first. On tokens drawn from :math:`q`,

.. math::
    :label: f-divergences-estimate

    \hat D = \sum_{i,t} w_{i,t}\, f(u_{i,t}), \qquad
    \frac{\partial \hat D}{\partial \log p_{i,t}} = w_{i,t}\, u_{i,t} f'(u_{i,t})

are unbiased, value and gradient, because the law of the tokens does not depend on :math:`z`. (On tokens from :math:`p`
it does: see :mod:`trref.tokens.kl_estimators`.) The textbook generators of three of them,

.. math::
    :label: f-divergences-textbook

    u \log u \ \text{(reverse\_kl)}, \qquad -\log u \ \text{(forward\_kl)}, \qquad 1 - \sqrt u \ \text{(hellinger)},

differ from those above by a multiple of :math:`u - 1`: they have the same mean, and may be negative.

**Where implementations differ.** "Reverse" and "forward" are used both ways. verl adds 1e-8 inside logarithms, which
changes values near probability 0 and 1. A ratio :math:`p/q` of underflowed probabilities is NaN; here all is computed
from differences of log-probabilities. At ties total variation has no derivative: the sign of 0 is taken as 0.

**Provenance.** Confirmed: standard identities; gradients and inequalities are derived and checked.

Csiszár, *Information-type measures of difference of probability distributions*, Studia Sci. Math. Hungar. 2, 1967.
"""

from typing import Literal, get_args

from trref.backend import xp
from trref.nn.heads import log_softmax
from trref.signature import (
    B,
    Lead,
    LogProb,
    Mask,
    Real,
    Scalar,
    T,
    V,
    checked,
)
from trref.tokens.terms import near, token_mean

Divergence = Literal[
    "reverse_kl",
    "forward_kl",
    "total_variation",
    "pearson",
    "neyman",
    "jensen_shannon",
    "hellinger",
]
DIVERGENCES = get_args(Divergence)
CURVATURE = {
    "reverse_kl": 1 / 2,
    "forward_kl": 1 / 2,
    "pearson": 1.0,
    "neyman": 1.0,
    "jensen_shannon": 1 / 8,
    "hellinger": 1 / 8,
}
"""Half the second derivative of f at 1: near p = q, each divergence is this multiple of chi-square."""


@checked
def generator(log_u: Real[Lead], kind: Divergence) -> tuple[Real[Lead], Real[Lead]]:
    """f(u) and f'(u) of the generator with f(1) = f'(1) = 0.

    Parameters
    ----------
    log_u
        Logarithms of u.
    kind
        Which divergence.

    Returns
    -------
    value
    derivative
    """
    # eq. f-divergences-generators
    growth = xp.expm1(log_u)  # u - 1, exact near 1
    if kind == "reverse_kl":
        return xp.exp(log_u) * log_u - growth, log_u
    if kind == "forward_kl":
        return growth - log_u, -xp.expm1(-log_u)
    if kind == "total_variation":
        return abs(growth) / 2, xp.sign(growth) / 2
    if kind == "pearson":
        return growth**2, 2 * growth
    if kind == "neyman":
        return growth * -xp.expm1(-log_u), -xp.expm1(-2 * log_u)
    if kind == "jensen_shannon":
        log_middle = xp.log1p(growth / 2)  # log (u + 1)/2
        value = (xp.exp(log_u) * log_u - (2 + growth) * log_middle) / 2
        return value, (log_u - log_middle) / 2
    return xp.expm1(log_u / 2) ** 2 / 2, -xp.expm1(-log_u / 2) / 2


@checked
def textbook_generator(
    log_u: Real[Lead], kind: Divergence
) -> tuple[Real[Lead], Real[Lead]]:
    """f(u) and f'(u) of the customary generator, whose slope at 1 need not be 0.

    Returns
    -------
    value
    derivative
    """
    # eq. f-divergences-textbook
    if kind == "reverse_kl":
        return xp.exp(log_u) * log_u, log_u + 1
    if kind == "forward_kl":
        return -log_u, -xp.exp(-log_u)
    if kind == "hellinger":
        return -xp.expm1(log_u / 2), -xp.exp(-log_u / 2) / 2
    return generator.unchecked(log_u, kind)


@checked
def divergence_rows(
    log_p: LogProb[Lead, V], log_q: LogProb[Lead, V], kind: Divergence
) -> tuple[Real[Lead], Real[Lead, V]]:
    """Divergence of each row p from q, and its gradient.

    Parameters
    ----------
    log_p, log_q
        Of normalised rows.

    Returns
    -------
    value
    gradient
        With respect to the logits of p: each row sums to 0.
    """
    f, g = generator.unchecked(log_p - log_q, kind)
    p = xp.exp(log_p)
    value = (xp.exp(log_q) * f).sum(-1)
    # eq. f-divergences-value
    return value, p * (g - (p * g).sum(-1, keepdims=True))


@checked(also=near)
def divergence(
    logits: Real[B, T, V],
    old_logits: Real[B, T, V],
    mask: Mask[B, T],
    *,
    kind: Divergence = "reverse_kl",
) -> tuple[Scalar, Real[B, T, V]]:
    """Mean over tokens of the divergence of the policy from the old one."""
    value, gradient = divergence_rows.unchecked(
        log_softmax(logits), log_softmax(old_logits), kind
    )
    w = token_mean(mask)
    return (w * value).sum(), w[..., None] * gradient


@checked
def divergence_from_samples(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    mask: Mask[B, T],
    *,
    kind: Divergence = "reverse_kl",
    form: Literal["nonnegative", "textbook"] = "nonnegative",
) -> tuple[Scalar, Real[B, T]]:
    """Unbiased estimate of the same mean from tokens that the old policy drew.

    Parameters
    ----------
    form
        Which generator: the mean is the same.
    """
    w, log_u = token_mean(mask), log_prob - old_log_prob
    chosen = generator if form == "nonnegative" else textbook_generator
    f, g = chosen.unchecked(log_u, kind)
    return (w * f).sum(), w * xp.exp(log_u) * g  # eq. f-divergences-estimate
