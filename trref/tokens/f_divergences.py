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

from trref import validate
from trref.backend import xp
from trref.catalog import Method, Objective
from trref.nn.heads import log_softmax
from trref.tokens.interfaces import full_distribution, token_objective
from trref.tokens.terms import token_weights

__all__ = [
    "CURVATURE",
    "DIVERGENCES",
    "divergence",
    "divergence_from_samples",
    "divergence_rows",
    "generator",
    "textbook_generator",
]

DIVERGENCES = ("reverse_kl", "forward_kl", "total_variation", "pearson", "neyman", "jensen_shannon", "hellinger")
FORMS = ("nonnegative", "textbook")
CURVATURE = {"reverse_kl": 0.5, "forward_kl": 0.5, "pearson": 1.0, "neyman": 1.0, "jensen_shannon": 1 / 8} | {
    "hellinger": 1 / 8
}
"""Half the second derivative of f at 1: near p = q, each divergence is this multiple of chi-square."""

ROWS = full_distribution(without=("actions", "advantage"))
SAMPLES = token_objective(without=("advantage",))


def generator(log_u, kind):
    """Building block, unchecked: f(u) and f'(u) of the generator with f(1) = f'(1) = 0, from log u.

    Parameters
    ----------
    log_u : array (…)
    kind : str
        One of `DIVERGENCES`.

    Returns
    -------
    value, derivative : array (…)
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
        return (xp.exp(log_u) * log_u - (2 + growth) * log_middle) / 2, (log_u - log_middle) / 2
    return xp.expm1(log_u / 2) ** 2 / 2, -xp.expm1(-log_u / 2) / 2


def textbook_generator(log_u, kind):
    """Building block, unchecked: f(u) and f'(u) of the customary generator, whose slope at 1 need not be 0."""
    # eq. f-divergences-textbook
    if kind == "reverse_kl":
        return xp.exp(log_u) * log_u, log_u + 1
    if kind == "forward_kl":
        return -log_u, -xp.exp(-log_u)
    if kind == "hellinger":
        return -xp.expm1(log_u / 2), -xp.exp(-log_u / 2) / 2
    return generator(log_u, kind)


def divergence_rows(log_p, log_q, kind):
    """Building block, unchecked: the divergence of each row and its gradient in the logits of p.

    Parameters
    ----------
    log_p, log_q : array (…, V)
        Normalised log-probabilities.
    kind : str
        One of `DIVERGENCES`.

    Returns
    -------
    value : array (…)
    gradient : array (…, V)
        Each row sums to 0.
    """
    f, g = generator(log_p - log_q, kind)
    p = xp.exp(log_p)
    value = (xp.exp(log_q) * f).sum(-1)
    return value, p * (g - (p * g).sum(-1, keepdims=True))  # eq. f-divergences-value


def divergence(logits, old_logits, mask, *, kind="reverse_kl"):
    """Mean over tokens of the divergence of the policy from the old one.

    Parameters
    ----------
    logits, old_logits : array (B, T, V)
        Of p, which is differentiated, and of q, a constant.
    mask : array (B, T), 0 or 1
    kind : {"reverse_kl", "forward_kl", "total_variation", "pearson", "neyman", "jensen_shannon", "hellinger"}

    Returns
    -------
    loss : scalar array
    gradient : array (B, T, V)
        With respect to `logits`; exactly 0 where the mask is 0.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities more than 30 apart, an unknown kind.
    """
    validate.choice(DIVERGENCES, kind=kind)
    _, flags = validate.deferred(ROWS.inputs, logits, old_logits, mask)
    validate.require(*flags, near(logits, old_logits))
    value, gradient = divergence_rows(log_softmax(logits), log_softmax(old_logits), kind)
    w = token_weights(mask, "token_mean")
    return (w * value).sum(), w[..., None] * gradient


def near(logits, old_logits):
    """For `validate.require`: log-probabilities of one token are a valid pair."""
    bound = validate.LOG_RATIO_BOUND
    return (
        lambda: (abs(log_softmax(logits) - log_softmax(old_logits)) <= bound).all(),
        f"logits must give log-probabilities within {bound:g} of those of old_logits",
    )


def divergence_from_samples(log_prob, old_log_prob, mask, *, kind="reverse_kl", form="nonnegative"):
    """Unbiased estimate of the same mean from tokens that the old policy drew.

    Parameters
    ----------
    log_prob, old_log_prob : array (B, T)
        Of the tokens, under p and under q.
    mask : array (B, T), 0 or 1
    kind : {"reverse_kl", "forward_kl", "total_variation", "pearson", "neyman", "jensen_shannon", "hellinger"}
    form : {"nonnegative", "textbook"}
        Which generator: the mean is the same.

    Returns
    -------
    loss : scalar array
    gradient : array (B, T)
        With respect to `log_prob`.

    Raises
    ------
    ValueError
        As `divergence`.
    """
    validate.inputs(SAMPLES.inputs, log_prob, old_log_prob, mask)
    validate.choice(DIVERGENCES, kind=kind)
    validate.choice(FORMS, form=form)
    w, log_u = token_weights(mask, "token_mean"), log_prob - old_log_prob
    f, g = (generator if form == "nonnegative" else textbook_generator)(log_u, kind)
    return (w * f).sum(), w * xp.exp(log_u) * g  # eq. f-divergences-estimate


APART = ("a row without tokens", "certain and all but impossible tokens", "two tokens to choose from")
RATIOS = ("on the clip bounds", "on-policy", "a row without tokens", "one token", "far off policy")


def _each(*others):
    """A setting for every divergence but the default and `others`."""
    return {kind: {"kind": kind} for kind in DIVERGENCES if kind not in ("reverse_kl", *others)}


METHOD = Method(
    key="csiszar1967information",
    provenance="confirmed",
    functions=(
        Objective(
            f=divergence,
            interface=ROWS,
            edges={name: ROWS.edges[name] for name in APART},  # at the minimum rounding is all
            wrt="logits",
            settings={"default": {}, **_each("neyman"), "probe": {"kind": "neyman"}},
        ),
        Objective(
            f=divergence_from_samples,
            interface=SAMPLES,
            edges={name: SAMPLES.edges[name] for name in (*RATIOS, "certain and all but impossible tokens")},
            wrt="log_prob",
            settings={
                "default": {},
                **_each("pearson"),
                "textbook forward_kl": {"kind": "forward_kl", "form": "textbook"},
                "textbook hellinger": {"kind": "hellinger", "form": "textbook"},
                "textbook reverse_kl": {"form": "textbook"},
                "probe": {"kind": "pearson", "form": "textbook"},
            },
        ),
    ),
)
