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

from trref.backend import xp
from trref.nn.heads import log_softmax, one_hot
from trref.signature import (
    B,
    Index,
    Lead,
    LogProb,
    Mask,
    PositiveInt,
    Real,
    Scalar,
    T,
    V,
    checked,
)
from trref.tokens.f_divergences import Divergence, generator
from trref.tokens.terms import near_and_known, token_mean

REST = 1e-7  # smallest probability of "any other token"


@checked
def binary_rows(
    log_prob: LogProb[Lead], old_log_prob: LogProb[Lead], kind: Divergence
) -> tuple[Real[Lead], Real[Lead]]:
    """Binary divergence of each token, and its derivative with respect to `log_prob`.

    Parameters
    ----------
    kind
        Which divergence.

    Returns
    -------
    value
    derivative
    """
    # eq. reduced-divergences-binary
    rest, old_rest = -xp.expm1(log_prob), xp.maximum(-xp.expm1(old_log_prob), REST)
    token, d_token = generator.unchecked(log_prob - old_log_prob, kind)
    log_u_rest = xp.log(xp.maximum(rest, REST)) - xp.log(old_rest)
    others, d_others = generator.unchecked(log_u_rest, kind)
    p, q = xp.exp(log_prob), xp.exp(old_log_prob)
    return q * token + old_rest * others, p * (d_token - d_others * (rest > REST))


@checked
def binary_divergence(
    log_prob: LogProb[B, T],
    old_log_prob: LogProb[B, T],
    mask: Mask[B, T],
    *,
    kind: Divergence = "total_variation",
) -> tuple[Scalar, Real[B, T]]:
    """Mean over tokens of the divergence with two cells: the sampled token, and any other.

    Returns
    -------
    loss
    gradient
        Where 1 - p is below 1e-7 the second cell is a constant.
    """
    value, derivative = binary_rows.unchecked(log_prob, old_log_prob, kind)
    w = token_mean(mask)
    return (w * value).sum(), w * derivative


@checked
def top_k_mask(
    log_q: Real[Lead, V], actions: Index[Lead], K: PositiveInt
) -> Mask[Lead, V]:
    """1 on the K likeliest tokens of q; a sampled token beyond replaces the last.

    Of equally likely tokens the first counts as likelier.

    Parameters
    ----------
    log_q
        Log-probabilities, or logits.
    K
        How many tokens have cells of their own; from V on, all.
    """
    order = xp.argsort(-log_q, axis=-1, kind="stable")
    rank = xp.argsort(order, axis=-1, kind="stable")
    action = one_hot(actions, log_q.shape[-1], log_q.dtype)
    beyond = (rank * action).sum(-1, keepdims=True) >= K
    return xp.maximum((rank < xp.where(beyond, K - 1, K)).astype(log_q.dtype), action)


@checked
def top_k_rows(
    log_p: LogProb[Lead, V],
    log_q: LogProb[Lead, V],
    keep: Mask[Lead, V],
    kind: Divergence,
) -> tuple[Real[Lead], Real[Lead, V]]:
    """Divergence of each row over the kept cells and the rest, and its gradient.

    Parameters
    ----------
    log_p
        Of normalised rows, as is `log_q`.
    keep
        1 on the tokens that have cells of their own.

    Returns
    -------
    value
    gradient
        With respect to the logits of p, the cells held constant.
    """
    p, q, tiny = xp.exp(log_p), xp.exp(log_q), float(xp.finfo(log_p.dtype).tiny)
    p_rest, q_rest = (((1 - keep) * x).sum(-1, keepdims=True) for x in (p, q))
    log_u_rest = xp.log(xp.maximum(p_rest, tiny)) - xp.log(xp.maximum(q_rest, tiny))
    f, g = generator.unchecked(log_p - log_q, kind)
    f_rest, g_rest = generator.unchecked(log_u_rest, kind)
    # eq. reduced-divergences-top-k
    value = (keep * q * f).sum(-1) + (q_rest * f_rest)[..., 0]
    g = keep * g + (1 - keep) * g_rest
    # eq. reduced-divergences-gradient
    return value, p * (g - (p * g).sum(-1, keepdims=True))


@checked(also=near_and_known)
def top_k_divergence(
    logits: Real[B, T, V],
    old_logits: Real[B, T, V],
    actions: Index[B, T],
    mask: Mask[B, T],
    *,
    K: PositiveInt = 20,
    kind: Divergence = "total_variation",
) -> tuple[Scalar, Real[B, T, V]]:
    """Mean over tokens of the divergence with K + 1 cells, which are held constant.

    Parameters
    ----------
    actions
        Always among the cells.
    """
    log_p, log_q = log_softmax(logits), log_softmax(old_logits)
    keep = top_k_mask.unchecked(log_q, actions, K)
    value, gradient = top_k_rows.unchecked(log_p, log_q, keep, kind)
    w = token_mean(mask)
    return (w * value).sum(), w[..., None] * gradient
