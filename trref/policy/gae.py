r"""Generalised advantage estimation.

An exponentially weighted average of k-step advantage estimates trades bias (from a wrong value function) against
variance (from long sums of rewards). It is the :math:`\gamma\lambda`-discounted sum of temporal-difference residuals,

.. math::
    :label: gae-residual

    \delta_t = r_t + \gamma\,(1 - d_t)\,V(s'_t) - V(s_t)

.. math::
    :label: gae-recursion

    \hat A_t = \delta_t + \gamma\lambda\,(1 - c_t)\,\hat A_{t+1}, \qquad \hat A_T = 0,

where :math:`s'_t` is the state that followed :math:`a_t`, before any reset. :math:`d_t = 1` if it is terminal
(*terminated*: the future is worth nothing), and :math:`c_t = 1` if the episode ended there for any reason, a time
limit included (*truncated*: the future is worth :math:`V(s'_t)`, but the next row belongs to another episode).

.. math::
    :label: gae-return

    G^\lambda_t = \hat A_t + V(s_t)

is the target for the value function.

**Where implementations differ.** Some merge termination and truncation, and so teach the value function that a time
limit is a failure. A flag may mean "this transition ended the episode" (as here) or "an episode starts here"; the two
are one row apart.

**Provenance.** Confirmed by five public implementations (baselines, Spinning Up, Stable-Baselines3, CleanRL, rlax).
The published truncated formula prints the last exponent as :math:`T-t+1`; the recursion gives :math:`T-t-1`.

Schulman, Moritz, Levine, Jordan and Abbeel, *High-Dimensional Continuous Control Using Generalized Advantage
Estimation*, 2015, arXiv:1506.02438.
"""

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Input, Method
from trref.policy import deviations

__all__ = ["gae", "lambda_return"]

SHAPE = "T ..."
INPUTS = {
    "reward": Input(SHAPE),
    "value": Input(SHAPE),
    "next_value": Input(SHAPE),
    "terminated": Input(SHAPE, "mask"),
    "truncated": Input(SHAPE, "mask"),
}


def gae(reward, value, next_value, terminated, truncated, *, gamma=0.99, lam=0.95):
    """Generalised advantage estimates of a segment of T steps, for one environment (T,) or many (T, N).

    Parameters
    ----------
    reward, value : array (T, …)
        Reward of step t, and value of the state in which it was taken.
    next_value : array (T, …)
        Value of the state that followed, before any reset.
    terminated, truncated : array (T, …), 0 or 1
        Whether that state is terminal; whether the episode was cut there although it is not.
    gamma, lam : float
        Discount and decay, in [0, 1].

    Returns
    -------
    array (T, …)

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, flags other than 0 and 1, gamma or lam outside [0, 1].
    """
    validate.inputs(INPUTS, reward, value, next_value, terminated, truncated)
    validate.interval("[0, 1]", gamma=gamma, lam=lam)
    delta = reward + gamma * (1 - terminated) * next_value - value  # eq. gae-residual
    decay = gamma * lam * (1 - xp.maximum(terminated, truncated))

    # eq. gae-recursion
    advantage = xp.empty_like(delta)
    advantage[-1] = delta[-1]
    for t in range(len(delta) - 2, -1, -1):
        advantage[t] = delta[t] + decay[t] * advantage[t + 1]

    return advantage


def lambda_return(reward, value, next_value, terminated, truncated, *, gamma=0.99, lam=0.95):
    """Targets for the value function: advantage estimate plus value.

    Parameters
    ----------
    reward, value, next_value, terminated, truncated, gamma, lam
        As in `gae`.

    Returns
    -------
    array (T, …)

    Raises
    ------
    ValueError
        As in `gae`.
    """
    advantage = gae(reward, value, next_value, terminated, truncated, gamma=gamma, lam=lam)
    return advantage + value  # eq. gae-return


def _example(rng, size):
    shape = (size, 3) if rng.random() < 0.5 else (size,)
    scale = rng.choice((0.05, 0.4, 1.5))
    terminated = (rng.random(shape) < 0.15).astype(float)
    truncated = (1 - terminated) * (rng.random(shape) < 0.15)
    reward, value, final = scale * rng.standard_normal(shape), rng.standard_normal(shape), rng.standard_normal(shape)
    return _segment(reward, value, final, terminated, truncated)


def _segment(reward, value, final, terminated, truncated):
    """Inside an episode the next value is the next row's; where it ends it is that of its final state."""
    inside = 1 - xp.maximum(terminated, truncated)
    inside[-1] = 0
    next_value = xp.where(inside == 1, xp.concatenate([value[1:], value[:1]]), final)
    return dict(reward=reward, value=value, next_value=next_value, terminated=terminated, truncated=truncated)


def _edge(terminated, truncated):
    t = xp.arange(1.0, len(terminated) + 1)
    return _segment(1 / t, t - 2, 0.5 * t, xp.array(terminated, dtype=float), xp.array(truncated, dtype=float))


EDGES = {
    "ends on the last step": lambda: _edge([0, 0, 0, 1], [0, 0, 0, 0]),
    "cut on the last step": lambda: _edge([0, 0, 0, 0], [0, 0, 0, 1]),
    "every step ends": lambda: _edge([1, 1, 1], [0, 0, 0]),
    "every step is cut": lambda: _edge([0, 0, 0], [1, 1, 1]),
    "terminal at the time limit": lambda: _edge([0, 1, 0], [0, 1, 0]),
    "one step": lambda: _edge([0], [0]),
}


def _brute_force(reward, value, next_value, terminated, truncated, *, gamma=0.99, lam=0.95):
    """The weighted average of k-step estimates, written out: sums instead of the recursion."""
    if reward.ndim == 2:
        columns = [
            _brute_force(*(x[:, i] for x in (reward, value, next_value, terminated, truncated)), gamma=gamma, lam=lam)
            for i in range(reward.shape[1])
        ]
        return xp.stack(columns, axis=1)
    T = len(reward)
    result = xp.zeros(T)
    for t in range(T):
        end = next((s for s in range(t, T) if terminated[s] or truncated[s]), T - 1)
        n = end - t + 1
        for k in range(1, n + 1):
            last = t + k - 1
            estimate = sum(gamma**l * reward[t + l] for l in range(k)) - value[t]
            bootstrap = (1 - terminated[last]) * next_value[last] if k == n else value[t + k]
            estimate += gamma**k * bootstrap
            weight = lam ** (n - 1) if k == n else (1 - lam) * lam ** (k - 1)
            result[t] += weight * estimate
    return result


def _brute_force_return(reward, value, next_value, terminated, truncated, *, gamma=0.99, lam=0.95):
    """The recursion of lambda-returns: G_t = r_t + gamma ((1 - lam) V(s_{t+1}) + lam G_{t+1}) inside an episode."""
    G = xp.zeros_like(reward)
    for t in range(len(reward) - 1, -1, -1):
        ended = xp.maximum(terminated[t], truncated[t]) if t + 1 < len(reward) else xp.ones_like(reward[t])
        later = G[t + 1] if t + 1 < len(reward) else 0
        bootstrap = (1 - terminated[t]) * next_value[t]
        G[t] = reward[t] + gamma * (ended * bootstrap + (1 - ended) * ((1 - lam) * next_value[t] + lam * later))
    return G


PROBE = {"gamma": 0.9, "lam": 0.6}
METHOD = Method(
    title="High-Dimensional Continuous Control Using Generalized Advantage Estimation",
    key="schulman2015high",
    arxiv="1506.02438",
    provenance="confirmed",
    functions=(
        Estimator(
            f=gae,
            inputs=INPUTS,
            example=_example,
            edges=EDGES,
            settings={
                "default": {},
                "one step": {"lam": 0.0},
                "Monte Carlo": {"lam": 1.0},
                "undiscounted": {"gamma": 1.0},
                "probe": PROBE,
            },
            deviations=(deviations.GAE_TRUNCATION_AS_TERMINATION,),
            brute_force=_brute_force,
        ),
        Estimator(
            f=lambda_return,
            inputs=INPUTS,
            example=_example,
            edges=EDGES,
            settings={"default": {}, "probe": PROBE},
            brute_force=_brute_force_return,
        ),
    ),
)
