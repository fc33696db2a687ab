r"""The bound behind CPPO: what a token surrogate does not see grows with early changes and with drift.

For an answer of T tokens from the sampling policy :math:`\mu`, with token ratios :math:`\rho_t`, the ratio of the whole
answer is what the token surrogate sees and a residual that it does not:

.. math::
    :label: cppo-bound-residual

    \prod_t \rho_t - 1 = \sum_t (\rho_t - 1) - \sum_t (\rho_t - 1) (1 - \rho_{t+1:T})

so that :math:`J(\pi) - J(\mu) = L' - \Delta`, the means of both terms times the reward. With :math:`|R| \le \xi`, the
mean total variation :math:`u_t` before token t and its largest value :math:`\ell_t`,

.. math::
    :label: cppo-bound-bound

    |\Delta| \le 4 \xi \sum_{t<T} u_t \sum_{j>t} \ell_j \le 4 \xi\, \bar\ell \sum_{t<T} (T - t)\, u_t

A change early in an answer counts T - t times.

If :math:`w_t D_t \le c_t`, every prefix keeps :math:`\sum_{t \le m} w_t D_t \le \delta_b \sum_{t \le m} w_t`, and
:math:`(T - t)/w_t` does not rise, then

.. math::
    :label: cppo-bound-theorem

    J(\pi) - J(\mu) \ge L' - 2 \xi\, T (T - 1)\, \bar\ell\, \delta_b, \qquad \bar\ell = \max_t \frac{c_t}{w_t}

A uniform threshold has :math:`\delta^2` for :math:`\bar\ell \delta_b`. The condition allows the falling weights, and
constant or rising ones as well; it does not single them out.

**Where implementations differ.** Nobody computes the residual in training; the rule that follows from the bound is
:mod:`trref.tokens.cppo_budget`, whose first threshold is weaker than the theorem's condition.

**Provenance.** Confirmed: by the paper's text; the identity, both bounds and the theorem are checked by enumeration.

Mao et al., *Beyond Uniform Token-Level Trust Region in LLM Reinforcement Learning*, 2026, arXiv:2606.10968.
"""

from typing import Any, NamedTuple

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Input, Method
from trref.tokens.interfaces import token_objective

__all__ = ["Parts", "improvement_penalty", "parts_of_the_ratio", "residual_bound"]

RATIOS = token_objective(without=("advantage",))
VARIATION = {"mean_variation": Input("T", "prob"), "largest_variation": Input("T", "prob")}
RULE = {"weight": Input("T", "prob"), "threshold": Input("T", "prob")}


class Parts(NamedTuple):
    """Of each answer, (B,): the surrogate and the residual; their difference is the answer's ratio minus 1."""

    surrogate: Any
    residual: Any


def parts_of_the_ratio(log_prob, old_log_prob, mask):
    """Split the ratio of each answer into what a token surrogate sees and the residual.

    Parameters
    ----------
    log_prob, old_log_prob : array (B, T)
        Log-probabilities of the tokens, under the current and the sampling policy.
    mask : array (B, T), 0 or 1
        The tokens of the answers, which together differ by at most 100 in log-probability.

    Returns
    -------
    Parts
        Fields surrogate, residual.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities too far apart.
    """
    _, flags = validate.deferred(RATIOS.inputs, log_prob, old_log_prob, mask)
    bound = 100.0 if log_prob.dtype.itemsize == 8 else 80.0
    near = (
        lambda: (abs(mask * (log_prob - old_log_prob)).sum(1) <= bound).all(),
        f"log_prob must be within {bound:g} of old_log_prob in all tokens of an answer",
    )
    validate.require(*flags, near)
    d = mask * (log_prob - old_log_prob)
    # eq. cppo-bound-residual
    moved, later = xp.expm1(d), xp.cumsum(d[:, ::-1], axis=1)[:, ::-1] - d
    return Parts(moved.sum(1), -(moved * xp.expm1(later)).sum(1))


def residual_bound(mean_variation, largest_variation, *, reward_bound=1.0):
    """Bounds of the residual times the reward: by each position's largest total variation, and by the largest of all.

    Parameters
    ----------
    mean_variation, largest_variation : array (T,)
        Mean and largest total variation of the policy from the sampling one before the t-th token.
    reward_bound : float
        Largest absolute reward, in (0, inf).

    Returns
    -------
    array (2,)

    Raises
    ------
    ValueError
        Shapes that differ, values outside [0, 1], `reward_bound` not positive.
    """
    validate.inputs(VARIATION, mean_variation, largest_variation)
    validate.interval("(0, inf)", reward_bound=reward_bound)
    # eq. cppo-bound-bound
    T = len(mean_variation)
    after = xp.cumsum(largest_variation[::-1])[::-1] - largest_variation
    uniform = largest_variation.max() * xp.asarray(range(T - 1, -1, -1), dtype=mean_variation.dtype)
    return 4 * reward_bound * xp.stack([(mean_variation * after).sum(), (mean_variation * uniform).sum()])


def improvement_penalty(weight, threshold, *, budget=0.015, reward_bound=1.0):
    """What the theorem takes off the surrogate: the improvement is at least the surrogate minus this.

    Parameters
    ----------
    weight, threshold : array (T,), in [1e-6, 1] and [0, 1]
        w and c of each position, where (T - t) / w does not rise.
    budget : float
        Largest weighted mean of the divergences over any prefix, in [0, 1].
    reward_bound : float
        Largest absolute reward, in (0, inf).

    Returns
    -------
    scalar array

    Raises
    ------
    ValueError
        Shapes that differ, numbers out of range, (T - t) / weight that rises.
    """
    sizes, flags = validate.deferred(RULE, weight, threshold)
    T = sizes["T"]
    left = xp.asarray(range(T - 1, -1, -1), dtype=weight.dtype)

    def falls():
        return (left[1:] * weight[:-1] <= left[:-1] * weight[1:] * (1 + 1e-6)).all()

    validate.require(
        *flags,
        (lambda: (weight >= 1e-6).all(), "weight must be at least 1e-6"),
        (falls, "weight must not fall faster than the number of tokens left"),
    )
    validate.interval("[0, 1]", budget=budget)
    validate.interval("(0, inf)", reward_bound=reward_bound)
    return 2 * reward_bound * T * (T - 1) * budget * (threshold / weight).max()  # eq. cppo-bound-theorem


def _parts_by_loops(log_prob, old_log_prob, mask):
    ratio, parts = xp.exp(log_prob - old_log_prob), xp.zeros((2, len(mask)))
    for b, row in enumerate(ratio):
        rho = [float(r) for r, m in zip(row, mask[b], strict=True) if m]
        for t, r in enumerate(rho):
            rest = 1.0
            for later in rho[t + 1 :]:
                rest *= later
            parts[:, b] += [r - 1, (r - 1) * (1 - rest)]
    return parts


def _bound_by_loops(mean_variation, largest_variation, *, reward_bound=1.0):
    T, worst = len(mean_variation), float(largest_variation.max())
    pairs = [(t, j) for t in range(T) for j in range(t + 1, T)]
    tight = sum(float(mean_variation[t] * largest_variation[j]) for t, j in pairs)
    return [4 * reward_bound * tight, 4 * reward_bound * sum(float(mean_variation[t]) * worst for t, _ in pairs)]


def _variation(rng, size):
    largest = float(rng.choice((0.05, 0.3, 1.0))) * rng.random(size)
    return {"mean_variation": largest * rng.random(size), "largest_variation": largest}


def _penalty_by_loop(weight, threshold, *, budget=0.015, reward_bound=1.0):
    largest = max(c / w for c, w in zip(threshold.tolist(), weight.tolist(), strict=True))
    return reward_bound * budget * largest * sum(4 * j for j in range(len(weight)))


def _rule(rng, size):
    w_min, delta = float(rng.choice((0.3, 0.8))), float(rng.choice((0.02, 0.15)))
    weight = 1 - (1 - w_min) * xp.arange(size) / max(size - 1, 1)
    return {"weight": weight, "threshold": delta * rng.random(size)}


METHOD = Method(
    key="mao2026cppo",
    provenance="confirmed",
    functions=(
        Estimator(
            f=parts_of_the_ratio,
            interface=RATIOS,
            edges={k: e for k, e in RATIOS.edges.items() if k != "far off policy"},
            brute_force=_parts_by_loops,
        ),
        Estimator(
            f=residual_bound,
            inputs=VARIATION,
            example=_variation,
            edges={
                "one token": lambda: {"mean_variation": xp.array([0.1]), "largest_variation": xp.array([0.3])},
                "no change": lambda: {"mean_variation": xp.zeros(3), "largest_variation": xp.zeros(3)},
                "disjoint": lambda: {"mean_variation": xp.ones(3), "largest_variation": xp.ones(3)},
            },
            settings={"default": {}, "probe": {"reward_bound": 2.5}},
            brute_force=_bound_by_loops,
        ),
        Estimator(
            f=improvement_penalty,
            inputs=RULE,
            example=_rule,
            edges={
                "one token": lambda: {"weight": xp.ones(1), "threshold": xp.full(1, 0.15)},
                "equal weights": lambda: {"weight": xp.ones(4), "threshold": xp.full(4, 0.15)},
                "nothing allowed": lambda: {"weight": xp.ones(3), "threshold": xp.zeros(3)},
            },
            settings={"default": {}, "probe": {"budget": 0.3, "reward_bound": 2.5}},
            brute_force=_penalty_by_loop,
        ),
    ),
)
