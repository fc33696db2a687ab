r"""Generalised advantage estimation.

An exponentially weighted average of k-step advantage estimates trades bias (from a wrong value function) against
variance (from long sums of rewards). It is the :math:`\gamma\lambda`-discounted sum of temporal-difference residuals

.. math::
    :label: gae-residual

    \delta_t = r_t + \gamma\,(1 - d_t)\,V(s'_t) - V(s_t),

.. math::
    :label: gae-recursion

    \hat A_t = \delta_t + \gamma\lambda\,(1 - c_t)\,\hat A_{t+1}, \qquad \hat A_T = 0,

where :math:`s'_t` is the state that followed :math:`a_t`, before any reset. :math:`d_t = 1` if it is terminal
(*terminated*: the future is worth nothing), and :math:`c_t = 1` if the episode ended there for any reason, a time
limit included (*truncated*: the future is worth :math:`V(s'_t)`, but the next row belongs to another episode).

.. math::
    :label: gae-return

    G^\lambda_t = \hat A_t + V(s_t)

is the target for the value function, and with the scores :math:`\nabla\log\pi` of N trajectories

.. math::
    :label: gae-gradient

    \hat g = \frac1N \sum_n \sum_t \omega^t\, \nabla\log\pi(a_t|s_t)\, \hat A_t

estimates the policy gradient. :math:`\omega = \gamma` gives that of the discounted return; practice takes
:math:`\omega = 1`.

The residual is also the reward shaped by the potential :math:`V`: the estimate is the discounted return of the shaped
reward, with :math:`\gamma\lambda` for a discount. What that cuts off shows in the *response* of rewards to an action,

.. math::
    :label: gae-response

    \chi(l; s, a) = E[\tilde r_{t+l} \mid s_t = s, a_t = a] - E[\tilde r_{t+l} \mid s_t = s], \qquad
    \tilde r_t = r_t + \gamma V(s_{t+1}) - V(s_t),

for :math:`\sum_l \gamma^l \chi(l; s, a)` is the advantage whatever the potential is. With :math:`V = 0` the response
lasts as long as the process remembers, and a discount of :math:`\gamma\lambda` ignores what comes much later than
:math:`1/(1 - \gamma\lambda)` steps; with the true values all of it comes at once.

The paper fits the value function in a trust region of its own (:mod:`trref.policy.value_trust_region`), after the
advantages have been computed: fitted before, the residuals would tend to zero.

**Where implementations differ.** Some merge termination and truncation, and so teach the value function that a time
limit is a failure. A flag may mean "this transition ended the episode" (as here) or "an episode starts here"; the two
are one row apart. Stable-Baselines3 adds :math:`\gamma V` of the last state to the reward of a truncated episode, which
comes to the same as here. Targets of the value function are rewards-to-go in the paper and in Spinning Up.

**Provenance.** Confirmed by five public implementations (baselines, Spinning Up, Stable-Baselines3, CleanRL, rlax); the
view as shaping and the response from memory of the paper, checked.
The published truncated formula prints the last exponent as :math:`T-t+1`; the recursion gives :math:`T-t-1`.

Schulman, Moritz, Levine, Jordan and Abbeel, *High-Dimensional Continuous Control Using Generalized Advantage
Estimation*, 2015, arXiv:1506.02438.
"""

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Limit, Method
from trref.policy import _gae_cases as cases
from trref.policy import deviations

__all__ = ["gae", "lambda_return", "policy_gradient_estimate", "response", "td_residuals"]


def td_residuals(reward, value, next_value, terminated, *, gamma=0.99):
    """Temporal-difference residuals; the same as the reward shaped by the potential `value`.

    Parameters
    ----------
    reward, value, next_value, terminated, gamma
        As in `gae`.

    Returns
    -------
    array (T, …)

    Raises
    ------
    ValueError
        As in `gae`.
    """
    validate.inputs(cases.RESIDUAL_INPUTS, reward, value, next_value, terminated)
    validate.interval("[0, 1]", gamma=gamma)
    return _residuals(reward, value, next_value, terminated, gamma)


def _residuals(reward, value, next_value, terminated, gamma):
    return reward + gamma * (1 - terminated) * next_value - value  # eq. gae-residual


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
    validate.inputs(cases.INPUTS, reward, value, next_value, terminated, truncated)
    validate.interval("[0, 1]", gamma=gamma, lam=lam)
    delta = _residuals(reward, value, next_value, terminated, gamma)
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


def policy_gradient_estimate(score, advantage, *, discount=1.0):
    """Estimate of the policy gradient from N trajectories of T steps.

    Parameters
    ----------
    score : array (T, N, P)
        Gradients of the log-probabilities of the actions taken.
    advantage : array (T, N)
        Held constant.
    discount : float
        Weight of a step relative to the one before, in [0, 1]: gamma for the gradient of the discounted return, 1 in
        practice.

    Returns
    -------
    array (P,)

    Raises
    ------
    ValueError
        Shapes that do not fit, values that are not finite, discount outside [0, 1].
    """
    sizes = validate.inputs(cases.GRADIENT_INPUTS, score, advantage)
    validate.interval("[0, 1]", discount=discount)
    weight = xp.asarray([discount**t for t in range(sizes["T"])], dtype=advantage.dtype)
    return ((weight[:, None] * advantage)[..., None] * score).sum((0, 1)) / sizes["N"]  # eq. gae-gradient


def response(policy, value, mdp, *, steps=10):
    """How an action changes the expected rewards of the steps that follow, exactly, in a known decision process.

    Parameters
    ----------
    policy : array (S, A)
        Probabilities of the actions; each row sums to 1.
    value : array (S,)
        The potential that shapes the rewards; zeros for the rewards as they are.
    mdp : callable
        A `trref.problems.mdp.TabularMDP`.
    steps : int
        How many to look ahead, that of the action included; at least 1.

    Returns
    -------
    array (steps, S, A)

    Raises
    ------
    ValueError
        Shapes that do not fit, values that are not finite, probabilities outside [0, 1].
    """
    validate.inputs(cases.RESPONSE_INPUTS, policy, value, mdp)
    validate.integer("[1, inf)", steps=steps)
    if policy.shape != mdp.reward.shape:
        raise ValueError(f"policy must have shape {tuple(mdp.reward.shape)}, as the mdp, not {tuple(policy.shape)}")
    shaped = mdp.reward + mdp.gamma * (mdp.transition * value).sum(2) - value[:, None]
    rows = []
    for _ in range(steps):
        expected = (policy * shaped).sum(1)
        rows.append(shaped - expected[:, None])  # eq. gae-response
        shaped = (mdp.transition * expected).sum(2)  # of one step later, given state and action
    return xp.stack(rows)


def _no_value_function(inputs):
    """no value function"""
    return {**inputs, "value": xp.zeros_like(inputs["value"])}


METHOD = Method(
    key="schulman2015high",
    provenance={"confirmed": ("residual", "recursion", "return", "gradient"), "partly": ("response",)},
    functions=(
        Estimator(
            f=td_residuals,
            inputs=cases.RESIDUAL_INPUTS,
            example=lambda rng, size: cases.residual_inputs(cases.example(rng, size)),
            edges={name: lambda make=make: cases.residual_inputs(make()) for name, make in cases.EDGES.items()},
            settings={"default": {}, "probe": {"gamma": 0.9}},
            brute_force=cases.residuals_by_rows,
        ),
        Estimator(
            f=gae,
            inputs=cases.INPUTS,
            example=cases.example,
            edges=cases.EDGES,
            settings={
                "default": {},
                "one step": {"lam": 0.0},
                "Monte Carlo": {"lam": 1.0},
                "undiscounted": {"gamma": 1.0},
                "probe": cases.PROBE,
            },
            limits=(Limit("gae.td_residuals", {"lam": 0.0}),),
            deviations=(
                deviations.GAE_TRUNCATION_AS_TERMINATION,
                deviations.GAE_BOOTSTRAPS_THE_LAST_STEP,
                deviations.GAE_FLAGS_OF_THE_NEXT_ROW,
            ),
            brute_force=cases.brute_force,
        ),
        Estimator(
            f=lambda_return,
            inputs=cases.INPUTS,
            example=cases.example,
            edges=cases.EDGES,
            settings={"default": {}, "probe": cases.PROBE},
            limits=(Limit("gae.gae", {}, where=_no_value_function),),
            deviations=(deviations.RETURN_MONTE_CARLO,),
            brute_force=cases.brute_force_return,
        ),
        Estimator(
            f=policy_gradient_estimate,
            inputs=cases.GRADIENT_INPUTS,
            example=cases.gradient_example,
            edges={"one step": lambda: {"score": xp.ones((1, 1, 2)), "advantage": xp.array([[-0.5]])}},
            settings={"default": {}, "probe": {"discount": 0.9}},
            brute_force=cases.gradient_by_loops,
        ),
        Estimator(
            f=response,
            inputs=cases.RESPONSE_INPUTS,
            example=cases.response_example,
            edges=cases.RESPONSE_EDGES,
            settings={"default": {}, "probe": {"steps": 3}},
            brute_force=cases.response_by_walking,
        ),
    ),
)
