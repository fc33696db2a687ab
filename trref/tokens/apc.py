r"""Aggregational policy censoring (APC): a trust region in total variation, written as a clip without constraint.

Given several samples of the same state, TRPO in total variation asks for the ratios r that maximise the surrogate
within a budget and are those of a policy:

.. math::
    :label: apc-trpo

    \max_r \sum_i r_i A_i \quad \text{subject to} \quad \hat D(s) = \frac1{T_s} \sum_{i \in s} |r_i - 1| \le \delta,
    \quad \sum_{i \in s} (r_i - 1) = 0 \ \text{ for each state } s

with :math:`T_s` the number of samples of s. The solution takes :math:`b = T_s \delta / 2` from the smallest advantages
(no more than 1 each, for a ratio is not negative) and gives all of it to the largest one:

.. math::
    :label: apc-solution

    r_{(k)} = 1 - \mathrm{clip}(b - k, 0, 1), \quad k = 0, \dots, T_s - 2, \qquad
    r_{(T_s - 1)} = 1 + \sum_{k} \mathrm{clip}(b - k, 0, 1)

in the order of advantages; the gain per sample is :math:`\delta (A_{max} - A_{min})/2` while :math:`b \le 1`. APC drops
the constraint and clips each ratio by what the others leave of the budget:

.. math::
    :label: apc-objective

    J = \frac1N \sum_i \big[ \mathrm{clip}(r_i - 1, \pm B_i^+) + 1 \big] A_i, \qquad
    B_i = T_s \delta - \sum_{j \in s,\, j \ne i} |r_j - 1|

If the advantages of each state sum to 0, its maximiser over ratios with :math:`\sum_{i \in s} (r_i - 1) = 0` is the
same (without that condition it can be beaten). Where :math:`\hat D(s) \le \delta` nothing is clipped. Beyond, samples
with :math:`B_i > 0` roll back and the others are switched off; with :math:`\sigma_i = \mathrm{sign}(r_i - 1)` and R
those that roll back,

.. math::
    :label: apc-gradient

    \frac{\partial J}{\partial r_j} = \frac1N A_j \ \text{ within the budget}, \qquad
    -\frac{\sigma_j}N \sum_{i \in R,\, i \ne j} \sigma_i A_i \ \text{ beyond}

One sample of a state is PPO's clip without the minimum, at :math:`1 \pm \delta`. In the penalised form of TRPO, whose
value at a budget is :math:`\delta M - \frac{4\gamma}{1-\gamma} \|A\|_\infty\, \delta^2` with M the mean over states of
:math:`(A_{max} - A_{min})/2`, the best budget is

.. math::
    :label: apc-radius

    \delta^* = \frac{(1 - \gamma)\, M}{8 \gamma\, \|A\|_\infty} \le \frac{1 - \gamma}{8 \gamma}

which vanishes as the discount goes to 1.

**Where implementations differ.** :math:`\hat D` has no factor 1/2: the budget bounds twice the total variation. The
paper's main text prints the radius with :math:`(1-\gamma)^2`, its appendix as here. Language models have one sample of
a prefix: there the sum constraint forces r = 1, and APC is a clip by tokens.

**Provenance.** Confirmed: objective, problem and radius by the full text (version 1, appendix). The solution and the
gradient are derived and checked.

Li, Tsu, Zhang, Xue and He, *Fibration Policy Optimization*, 2026, arXiv:2603.08239.
"""

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Input, Limit, Method, Objective

__all__ = ["apc", "penalised_radius", "trpo_radius", "tv_trpo_sample"]

SAMPLES = {"ratio": Input("N", "nonnegative"), "advantage": Input("N"), "state": Input("N", "index")}
STATES = {"advantage": Input("N"), "state": Input("N", "index")}


def _same(state, dtype):
    return (state[:, None] == state[None, :]).astype(dtype)


def apc(ratio, advantage, state, *, delta):
    """APC loss.

    Parameters
    ----------
    ratio : array (N,)
        New over old probability of the sampled actions, at least 0.
    advantage : array (N,)
    state : array (N,), integer
        Where the action was taken: any non-negative numbers.
    delta : float
        Budget of a state, in (0, inf).

    Returns
    -------
    loss : scalar array
        To minimise.
    gradient : array (N,)
        With respect to `ratio`.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, negative ratios, `delta` not positive.
    """
    N = validate.inputs(SAMPLES, ratio, advantage, state)["N"]
    validate.interval("(0, inf)", delta=delta)
    same, size, sign = _same(state, ratio.dtype), abs(ratio - 1), xp.sign(ratio - 1)
    count, total = same.sum(1), same @ size
    B = xp.maximum(count * delta - (total - size), 0)
    J = ((xp.clip(ratio - 1, -B, B) + 1) * advantage).sum() / N  # eq. apc-objective

    # eq. apc-gradient
    within = total <= count * delta
    rolling = sign * advantage * (B > 0)
    gradient = xp.where(within, advantage, -sign * (same @ rolling - rolling)) / N
    return -J, -gradient


def tv_trpo_sample(advantage, state, *, delta):
    """Ratios that solve TRPO in total variation on samples.

    Parameters
    ----------
    advantage : array (N,)
    state : array (N,), integer
    delta : float
        Budget of a state, in (0, inf).

    Returns
    -------
    array (N,)
        1 where a state has one sample.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, `delta` not positive.
    """
    validate.inputs(STATES, advantage, state)
    validate.interval("(0, inf)", delta=delta)
    same, i = _same(state, advantage.dtype), xp.arange(len(state))
    smaller = advantage[None, :] < advantage[:, None]
    earlier = (advantage[None, :] == advantage[:, None]) & (i[None, :] < i[:, None])
    rank, count = (same * (smaller | earlier)).sum(1), same.sum(1)
    # eq. apc-trpo, apc-solution
    largest = rank == count - 1
    taken = xp.where(largest, 0, xp.clip(count * delta / 2 - rank, 0, 1))
    return 1 - taken + xp.where(largest, same @ taken, 0)


def penalised_radius(advantage, state, *, gamma):
    """Best budget of the penalised form of TRPO in total variation.

    Parameters
    ----------
    advantage : array (N,)
    state : array (N,), integer
    gamma : float
        Discount, in (0, 1).

    Returns
    -------
    scalar array
        0 if all advantages are.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, `gamma` out of range.
    """
    validate.inputs(STATES, advantage, state)
    validate.interval("(0, 1)", gamma=gamma)
    same = _same(state, advantage.dtype)
    rows = same * (advantage[None, :] - advantage[:, None])
    half = (rows.max(1) - rows.min(1)) / 2
    weight = 1 / same.sum(1)  # each state counts once
    M, largest = (weight * half).sum() / weight.sum(), abs(advantage).max()
    return trpo_radius(gamma) * M / xp.where(largest > 0, largest, 1)  # eq. apc-radius


def trpo_radius(gamma):
    """Largest value that `penalised_radius` can have, a float: 0 at a discount of 1."""
    return (1 - gamma) / (8 * gamma)


def _example(rng, size):
    state = rng.integers(0, max(1, size // 4), size)
    spread = float(rng.choice((0.02, 0.2, 0.8)))
    return {
        "ratio": xp.exp(spread * rng.standard_normal(size)),
        "advantage": rng.standard_normal(size),
        "state": state + 3,
    }


def _edge(ratio, advantage, state):
    return {"ratio": xp.array(ratio), "advantage": xp.array(advantage), "state": xp.array(state)}


EDGES = {
    "on the budget": lambda: _edge([1.25, 0.75, 1.25, 0.75], [1.0, -1.0, 0.5, -0.5], [0, 0, 0, 0]),
    "rollback": lambda: _edge([1.4, 0.8, 0.9, 1.1], [1.0, -1.0, 0.5, -0.5], [0, 0, 0, 0]),
    "one sample a state": lambda: _edge([1.5, 0.6, 1.1], [1.0, 1.0, -1.0], [4, 2, 7]),
    "switched off": lambda: _edge([3.0, 0.1, 2.5, 0.2], [1.0, -1.0, 0.3, 0.7], [0, 0, 1, 1]),
    "on-policy": lambda: _edge([1.0, 1.0, 1.0], [1.0, -2.0, 1.0], [0, 0, 0]),
    "equal advantages": lambda: _edge([1.1, 0.9, 1.0], [0.5, 0.5, 0.5], [0, 0, 0]),
    "small advantages": lambda: _edge([1.1, 0.9, 1.05], [0.3, -0.2, 0.1], [0, 0, 0]),
    "no advantages": lambda: _edge([1.1, 0.9], [0.0, 0.0], [0, 1]),
    "one sample": lambda: _edge([1.1], [0.4], [0]),
}


def _states(example):
    return {name: example[name] for name in STATES}


def _solution_by_loops(advantage, state, *, delta):
    ratio = [1.0] * len(state)
    for s in set(state.tolist()):
        order = sorted((i for i in range(len(state)) if state[i] == s), key=lambda i: float(advantage[i]))
        budget = len(order) * delta / 2
        for i in order[:-1]:
            taken = min(budget, 1.0)
            ratio[i] -= taken
            ratio[order[-1]] += taken
            budget -= taken
    return ratio


def _radius_by_loops(advantage, state, *, gamma):
    rows = [[float(a) for a, t in zip(advantage, state, strict=True) if t == s] for s in set(state.tolist())]
    M = sum((max(row) - min(row)) / 2 for row in rows) / len(rows)
    return (1 - gamma) * M / (8 * gamma * (max(abs(float(a)) for a in advantage) or 1.0))


ON_STATES = {
    "inputs": STATES,
    "example": lambda rng, size: _states(_example(rng, size)),
    "edges": {name: lambda edge=edge: _states(edge()) for name, edge in EDGES.items()},
}


def _fresh(inputs):
    """the ratios are 1, and the samples answers of one token"""
    ones = xp.ones_like(inputs["ratio"])
    answers = {"log_prob": 0 * ones[:, None], "advantage": inputs["advantage"], "mask": ones[:, None]}
    return {**inputs, "ratio": ones}, answers


METHOD = Method(
    key="li2026fibration",
    provenance="confirmed",
    functions=(
        Objective(
            f=apc,
            inputs=SAMPLES,
            example=_example,
            edges=EDGES,
            wrt="ratio",
            settings={"default": {"delta": 0.25}, "tight": {"delta": 0.03}, "probe": {"delta": 0.6}},
            limits=(Limit("reinforce.reinforce", {"delta": 0.25}, where=_fresh, gradient_only=True),),
        ),
        Estimator(
            f=tv_trpo_sample,
            **ON_STATES,
            settings={"default": {"delta": 0.25}, "probe": {"delta": 1.3}},
            brute_force=_solution_by_loops,
        ),
        Estimator(
            f=penalised_radius,
            **ON_STATES,
            settings={"default": {"gamma": 0.99}, "probe": {"gamma": 0.6}},
            brute_force=_radius_by_loops,
        ),
    ),
)
