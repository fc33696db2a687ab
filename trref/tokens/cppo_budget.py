r"""The prefix budget of CPPO: what the divergences of an answer's tokens may add up to.

A change before token t shifts the T - t tokens after it (:mod:`trref.tokens.cppo_bound`). CPPO therefore weights
divergences by position,

.. math::
    :label: cppo-budget-weight

    w_t = 1 - \frac{1 - w_{min}}{T - 1}\,(t - 1), \qquad t = 1, \dots, T

and keeps an account of them, whose threshold for the next token is

.. math::
    :label: cppo-budget-threshold

    c_t = \min\big\{ \delta,\; \delta + \delta_b W_{t-1} - S_{t-1} \big\}, \qquad
    S_t = \sum_{j \le t} w_j D_j, \quad W_t = \sum_{j \le t} w_j

The sums run over all tokens of the answer, masked out or not. As the first token always has :math:`c_1 = \delta`, the
rule keeps :math:`S_m \le \delta + \delta_b W_{m-1}`, a little less than the bound asks. The budget is a number or, for
base models, one for each answer, from the ninth decile of its divergences:

.. math::
    :label: cppo-budget-dynamic

    \delta_b = \mathrm{clip}\big( P_{90}(D_1, \dots, D_T),\; b,\; 2b \big)

**Where implementations differ.** UniRL always takes the dynamic budget. Its description says that the allowance on D
shrinks along the answer; in its code and in the paper it widens, from :math:`\delta` to :math:`\delta / w_{min}`.

**Provenance.** Confirmed: by the paper's text and UniRL's code (Tencent-Hunyuan/UniRL, unirl/algorithms/cppo.py).

Mao et al., *Beyond Uniform Token-Level Trust Region in LLM Reinforcement Learning*, 2026, arXiv:2606.10968.
"""

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Method
from trref.tokens.interfaces import token_objective

__all__ = [
    "BUDGETS",
    "check_budget",
    "dynamic_budget",
    "position_weight",
    "prefix_threshold",
    "spent_and_threshold",
]

BUDGETS = ("fixed", "dynamic")
TOKENS = token_objective(without=("log_prob", "old_log_prob", "advantage"))
DRIFT = token_objective("divergence", without=("log_prob", "old_log_prob", "advantage"))


def _position_weight(mask, w_min):
    before, length = xp.cumsum(mask, axis=1) - mask, mask.sum(1, keepdims=True)
    return mask * (1 - (1 - w_min) * before / xp.maximum(length - 1, 1))  # eq. cppo-budget-weight


def position_weight(mask, *, w_min=0.8):
    """Weight of each token's divergence: 1 at the first token of an answer, `w_min` at the last.

    Parameters
    ----------
    mask : array (B, T), 0 or 1
        The tokens of the answers.
    w_min : float
        In (0, 1].

    Returns
    -------
    array (B, T)
        0 where the mask is 0.

    Raises
    ------
    ValueError
        A wrong shape, a mask that is not 0 or 1, `w_min` out of range.
    """
    validate.inputs(TOKENS.inputs, mask)
    validate.interval("(0, 1]", w_min=w_min)
    return _position_weight(mask, w_min)


def _dynamic_budget(mask, divergence, smallest):
    # eq. cppo-budget-dynamic
    largest_first = xp.flip(xp.sort(mask * divergence, axis=1), 1)  # the zeros of the padding stand last
    place = 0.1 * (mask.sum(1, keepdims=True) - 1)  # of the ninth decile, from the largest, between two neighbours
    share = xp.maximum(1 - abs(xp.arange(mask.shape[1], dtype=mask.dtype) - place), 0)
    decile = (share * largest_first).sum(1, keepdims=True)

    return xp.clip(decile, smallest, 2 * smallest)


def dynamic_budget(mask, divergence, *, smallest=0.02):
    """Prefix budget of each answer: the ninth decile of its divergences, between `smallest` and twice that.

    Parameters
    ----------
    mask : array (B, T), 0 or 1
    divergence : array (B, T)
        Of the policy from the sampling one, before each token; at least 0.
    smallest : float
        In [0, inf).

    Returns
    -------
    array (B,)

    Raises
    ------
    ValueError
        Shapes that differ, values that are negative or not finite, numbers out of range.
    """
    validate.inputs(DRIFT.inputs, mask, divergence)
    validate.interval("[0, inf)", smallest=smallest)
    return _dynamic_budget(mask, divergence, smallest)[:, 0]


def check_budget(delta, delta_b, w_min, budget):
    """Building block: raise ValueError for numbers out of range, or an unknown budget."""
    validate.interval("[0, inf)", delta=delta, delta_b=delta_b)
    validate.interval("(0, 1]", w_min=w_min)
    validate.choice(BUDGETS, budget=budget)


def spent_and_threshold(mask, divergence, delta, delta_b, w_min, budget):
    """Building block, unchecked: the weighted divergence of each token and its threshold, each (B, T)."""
    w = _position_weight(mask, w_min)
    Z = w * divergence
    S, W = xp.cumsum(Z, axis=1) - Z, xp.cumsum(w, axis=1) - w
    each = _dynamic_budget(mask, divergence, delta_b) if budget == "dynamic" else delta_b
    return Z, xp.minimum(delta, delta + each * W - S)  # eq. cppo-budget-threshold


def prefix_threshold(mask, divergence, *, delta=0.15, delta_b=0.015, w_min=0.8, budget="fixed"):
    """Threshold for the weighted divergence of each token, by what its prefix has spent.

    Parameters
    ----------
    mask, divergence
        As in `dynamic_budget`.
    delta : float
        Largest threshold, in [0, inf); in the paper 0.2 for a mixture of experts, 0.1 for Kullback-Leibler.
    delta_b : float
        Budget of the prefix's mean, in [0, inf), or the smallest dynamic one; 0.002 for Kullback-Leibler.
    w_min : float
        As in `position_weight`.
    budget : {"fixed", "dynamic"}
        The same for all answers, or that of `dynamic_budget`.

    Returns
    -------
    array (B, T)
        Below 0 where the prefix has overspent by more than `delta`.

    Raises
    ------
    ValueError
        As `dynamic_budget`; an unknown budget.
    """
    validate.inputs(DRIFT.inputs, mask, divergence)
    check_budget(delta, delta_b, w_min, budget)
    return spent_and_threshold(mask, divergence, delta, delta_b, w_min, budget)[1]


def _weight_by_position(mask, *, w_min=0.8):
    result = xp.zeros_like(mask)
    for b, row in enumerate(mask.tolist()):
        tokens = [t for t, m in enumerate(row) if m]
        for i, t in enumerate(tokens):
            result[b, t] = 1.0 if len(tokens) == 1 else 1 - (1 - w_min) * i / (len(tokens) - 1)
    return result


def _budget_by_quantile(mask, divergence, *, smallest=0.02):
    rows = [d[m > 0] for m, d in zip(mask, divergence, strict=True)]
    decile = [float(xp.quantile(d, 0.9)) if len(d) else 0.0 for d in rows]
    return xp.array([min(max(q, smallest), 2 * smallest) for q in decile])


def _threshold_by_loop(mask, divergence, *, delta=0.15, delta_b=0.015, w_min=0.8, budget="fixed"):
    w, c = _weight_by_position(mask, w_min=w_min), xp.zeros_like(mask)
    budgets = _budget_by_quantile(mask, divergence, smallest=delta_b).tolist()
    for b in range(mask.shape[0]):
        S = W = 0.0
        for t in range(mask.shape[1]):
            c[b, t] = min(delta, delta + (delta_b if budget == "fixed" else budgets[b]) * W - S)
            S, W = S + float(w[b, t] * divergence[b, t]), W + float(w[b, t])
    return c


PROBE = {"delta": 0.07, "delta_b": 0.03, "w_min": 0.45, "budget": "dynamic"}
SETTINGS = {
    "default": {},
    "dynamic budget": {"delta_b": 0.02, "budget": "dynamic"},
    "Kullback-Leibler": {"delta": 0.1, "delta_b": 0.002},
    "probe": PROBE,
}


def _twelve_tokens():
    """The decile lies between the tenth and the eleventh of twelve divergences, away from the largest."""
    divergence = xp.array([[0.025, 0.2, 0.03] + [0.001] * 9])
    return {"mask": xp.ones_like(divergence), "divergence": divergence}


EDGES = {**DRIFT.edges, "twelve tokens": _twelve_tokens}
METHOD = Method(
    key="mao2026cppo",
    provenance="confirmed",
    functions=(
        Estimator(
            f=position_weight,
            interface=TOKENS,
            settings={"default": {}, "probe": {"w_min": 0.45}},
            brute_force=_weight_by_position,
        ),
        Estimator(
            f=dynamic_budget,
            interface=DRIFT,
            edges=EDGES,
            settings={"default": {}, "probe": {"smallest": 0.07}},
            brute_force=_budget_by_quantile,
        ),
        Estimator(f=prefix_threshold, interface=DRIFT, edges=EDGES, settings=SETTINGS, brute_force=_threshold_by_loop),
    ),
)
