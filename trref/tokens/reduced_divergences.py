r"""Divergences from few numbers: one token against the rest, or the top-K tokens and the rest.

Keeping two whole rows of a vocabulary in memory is dear, so trust-region methods often merge tokens into cells and
measure an f-divergence between the merged distributions. With only the probabilities of the sampled token a,

.. math::
    :label: reduced-divergences-binary

    D^{bin} = q_a f\Big(\frac{p_a}{q_a}\Big) + (1 - q_a) f\Big(\frac{1 - p_a}{1 - q_a}\Big), \qquad
    \frac{\partial D^{bin}}{\partial \log p_a} = p_a \Big[ f'\Big(\frac{p_a}{q_a}\Big)
    - f'\Big(\frac{1 - p_a}{1 - q_a}\Big) \Big]

which for total variation is :math:`|p_a - q_a|`. With the K tokens S that q finds likeliest, the sampled one among
them,

.. math::
    :label: reduced-divergences-top-k

    D^{K} = \sum_{k \in S} q_k f(u_k) + q_{\bar S}\, f(u_{\bar S}), \qquad
    u_{\bar S} = \frac{p_{\bar S}}{q_{\bar S}} = \frac{\sum_{k \notin S} p_k}{\sum_{k \notin S} q_k}

.. math::
    :label: reduced-divergences-gradient

    \frac{\partial D^{K}}{\partial z} = p \odot (g - \langle p, g \rangle), \qquad
    g_k = f'(u_k) \text{ for } k \in S, \quad g_k = f'(u_{\bar S}) \text{ elsewhere}

Merging cells never increases a divergence: :math:`D^{bin} \le D^K \le D`. Neither is an estimate of the full one: even
the mean of :math:`D^{bin}` over tokens from q is only a bound from below. The generators are those of
:mod:`trref.tokens.f_divergences`; S is held constant.

**Where implementations differ.** :math:`\log(1 - p)` near :math:`p = 1` is capped at :math:`1 - p = 10^{-7}`, as TRL
did; verl adds 1e-8 inside the logarithm instead. The rest of the vocabulary is summed here, not taken as one minus the
sum, which single precision would lose.

**Provenance.** Confirmed: the reductions in the code of DPPO (sail-sg/Stable-RL, and TRL's trainer before its removal).
The gradients and the inequality are derived and checked.

Csiszár, *Information-type measures of difference of probability distributions*, Studia Sci. Math. Hungar. 2, 1967.
"""

from trref import validate
from trref.backend import xp
from trref.catalog import Limit, Method, Objective
from trref.nn.heads import log_softmax, one_hot
from trref.tokens.deviations import reduced_divergences as deviations
from trref.tokens.f_divergences import DIVERGENCES, generator, near
from trref.tokens.interfaces import full_distribution, token_objective
from trref.tokens.terms import token_weights

__all__ = ["binary_divergence", "binary_rows", "top_k_divergence", "top_k_mask", "top_k_rows"]

SAMPLES = token_objective(without=("advantage",))
ROWS = full_distribution(without=("advantage",))
REST = 1e-7  # smallest probability of "any other token"


def binary_rows(log_prob, old_log_prob, kind):
    """Building block, unchecked: the binary divergence of each token and its derivative with respect to `log_prob`."""
    # eq. reduced-divergences-binary
    rest, old_rest = -xp.expm1(log_prob), xp.maximum(-xp.expm1(old_log_prob), REST)
    token, d_token = generator(log_prob - old_log_prob, kind)
    others, d_others = generator(xp.log(xp.maximum(rest, REST)) - xp.log(old_rest), kind)
    p, q = xp.exp(log_prob), xp.exp(old_log_prob)
    return q * token + old_rest * others, p * (d_token - d_others * (rest > REST))


def binary_divergence(log_prob, old_log_prob, mask, *, kind="total_variation"):
    """Mean over tokens of the divergence with two cells: the sampled token, and any other.

    Parameters
    ----------
    log_prob, old_log_prob : array (B, T)
        Of the sampled tokens, under p, which is differentiated, and under q.
    mask : array (B, T), 0 or 1
    kind : {"reverse_kl", "forward_kl", "total_variation", "pearson", "neyman", "jensen_shannon", "hellinger"}

    Returns
    -------
    loss : scalar array
    gradient : array (B, T)
        With respect to `log_prob`; where 1 - p is below 1e-7 the second cell is a constant.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities more than 30 apart, an unknown kind.
    """
    validate.inputs(SAMPLES.inputs, log_prob, old_log_prob, mask)
    validate.choice(DIVERGENCES, kind=kind)
    value, derivative = binary_rows(log_prob, old_log_prob, kind)
    w = token_weights(mask, "token_mean")
    return (w * value).sum(), w * derivative


def top_k_mask(log_q, actions, K):
    """Building block, unchecked: 1 (…, V) on the K likeliest tokens of q; a sampled token beyond replaces the last.

    Of equally likely tokens the first counts as likelier.
    """
    rank = xp.argsort(xp.argsort(-log_q, axis=-1, kind="stable"), axis=-1, kind="stable")
    action = one_hot(actions, log_q.shape[-1], log_q.dtype)
    beyond = (rank * action).sum(-1, keepdims=True) >= K
    return xp.maximum((rank < xp.where(beyond, K - 1, K)).astype(log_q.dtype), action)


def top_k_rows(log_p, log_q, keep, kind):
    """Building block, unchecked: each row's divergence over the kept cells and the rest; its gradient in the logits."""
    p, q, tiny = xp.exp(log_p), xp.exp(log_q), float(xp.finfo(log_p.dtype).tiny)
    p_rest, q_rest = ((1 - keep) * p).sum(-1, keepdims=True), ((1 - keep) * q).sum(-1, keepdims=True)
    log_u_rest = xp.log(xp.maximum(p_rest, tiny)) - xp.log(xp.maximum(q_rest, tiny))
    f, g = generator(log_p - log_q, kind)
    f_rest, g_rest = generator(log_u_rest, kind)
    value = (keep * q * f).sum(-1) + (q_rest * f_rest)[..., 0]  # eq. reduced-divergences-top-k
    g = keep * g + (1 - keep) * g_rest
    return value, p * (g - (p * g).sum(-1, keepdims=True))  # eq. reduced-divergences-gradient


def top_k_divergence(logits, old_logits, actions, mask, *, K=20, kind="total_variation"):
    """Mean over tokens of the divergence with K + 1 cells.

    Parameters
    ----------
    logits, old_logits : array (B, T, V)
        Of p, which is differentiated, and of q.
    actions : array (B, T), integer below V
        The sampled tokens, always among the cells.
    mask : array (B, T), 0 or 1
    K : int
        At least 1; from V on, the full divergence.
    kind : {"reverse_kl", "forward_kl", "total_variation", "pearson", "neyman", "jensen_shannon", "hellinger"}

    Returns
    -------
    loss : scalar array
    gradient : array (B, T, V)
        With respect to `logits`, the cells held constant.

    Raises
    ------
    ValueError
        As `binary_divergence`; actions out of range, K below 1.
    """
    validate.integer("[1, inf)", K=K)
    validate.choice(DIVERGENCES, kind=kind)
    _, flags = validate.deferred(ROWS.inputs, logits, old_logits, actions, mask)
    known = (lambda: (actions < logits.shape[-1]).all(), "actions must be below the last length of logits")
    validate.require(*flags, known, near(logits, old_logits))
    log_p, log_q = log_softmax(logits), log_softmax(old_logits)
    value, gradient = top_k_rows(log_p, log_q, top_k_mask(log_q, actions, K), kind)
    w = token_weights(mask, "token_mean")
    return (w * value).sum(), w[..., None] * gradient


EACH = {kind: {"kind": kind} for kind in DIVERGENCES if kind not in ("total_variation", "forward_kl")}
APART = ("a row without tokens", "certain and all but impossible tokens", "two tokens to choose from")
RATIOS = ("on the clip bounds", "on-policy", "a row without tokens", "one token", "far off policy")


def _certain():
    """Surer than 1e-7, and near it, from a policy that was not."""
    log_prob, old = xp.array([[0.0, -1e-9, -1e-8, -0.25]]), xp.array([[-0.25, -0.5, -1.0, -1e-9]])
    return {"log_prob": log_prob, "old_log_prob": old, "mask": xp.ones((1, 4))}


METHOD = Method(
    key="csiszar1967information",
    provenance="confirmed",
    functions=(
        Objective(
            f=binary_divergence,
            interface=SAMPLES,
            edges={**{name: SAMPLES.edges[name] for name in RATIOS}, "certain tokens": _certain},
            wrt="log_prob",
            settings={"default": {}, **EACH, "probe": {"kind": "forward_kl"}},
            deviations=(deviations.INSIDE_THE_LOGARITHM,),
        ),
        Objective(
            f=top_k_divergence,
            interface=ROWS,
            edges={name: ROWS.edges[name] for name in APART},  # at the minimum rounding is all
            wrt="logits",
            settings={
                "default": {},
                "K = 2": {"K": 2},
                **{f"{kind}, K = 2": {"K": 2, **hyper} for kind, hyper in EACH.items()},
                "probe": {"K": 3, "kind": "forward_kl"},
            },
            limits=tuple(
                Limit(to="f_divergences.divergence", hyper={"K": 1000, "kind": kind}, to_hyper={"kind": kind})
                for kind in DIVERGENCES
            ),
        ),
    ),
)
