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

The paper fits the value function in a trust region of its own (:mod:`trref.policy.gae_value_trust_region`), after the
advantages have been computed: fitted before, the residuals would tend to zero.

==================  ==============================================
:math:`\gamma`      `gamma`
:math:`\lambda`     `lam`
:math:`\omega`      `discount`
:math:`d_t`         `terminated`
:math:`c_t`         the larger of `terminated` and `truncated`
:math:`\chi(l)`     row l of the `response`
==================  ==============================================

A step that is both terminated and truncated counts as terminated. What follows the last row counts as cut off there.

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

from trref.backend import xp
from trref.problems.protocols import DecisionProcess
from trref.signature import (
    A,
    Fraction,
    Lead,
    M,
    Mask,
    N,
    P,
    PositiveInt,
    Real,
    S,
    Simplex,
    T,
    checked,
)


@checked
def td_residuals(
    reward: Real[T, Lead],
    value: Real[T, Lead],
    next_value: Real[T, Lead],
    terminated: Mask[T, Lead],
    *,
    gamma: Fraction = 0.99,
) -> Real[T, Lead]:
    """Temporal-difference residuals; the same as the reward shaped by the potential `value`.

    Parameters
    ----------
    gamma
        The discount.
    """
    return reward + gamma * (1 - terminated) * next_value - value  # eq. gae-residual


@checked
def gae(
    reward: Real[T, Lead],
    value: Real[T, Lead],
    next_value: Real[T, Lead],
    terminated: Mask[T, Lead],
    truncated: Mask[T, Lead],
    *,
    gamma: Fraction = 0.99,
    lam: Fraction = 0.95,
) -> Real[T, Lead]:
    """Generalised advantage estimates of a segment of T steps, for one environment (T,) or many (T, N).

    Parameters
    ----------
    lam
        Weight of an estimate that looks one step further.
    """
    delta = td_residuals.unchecked(reward, value, next_value, terminated, gamma=gamma)
    decay = gamma * lam * (1 - xp.maximum(terminated, truncated))

    # eq. gae-recursion
    advantage = xp.empty_like(delta)
    advantage[-1] = delta[-1]
    for t in range(len(delta) - 2, -1, -1):
        advantage[t] = delta[t] + decay[t] * advantage[t + 1]

    return advantage


@checked
def lambda_return(
    reward: Real[T, Lead],
    value: Real[T, Lead],
    next_value: Real[T, Lead],
    terminated: Mask[T, Lead],
    truncated: Mask[T, Lead],
    *,
    gamma: Fraction = 0.99,
    lam: Fraction = 0.95,
) -> Real[T, Lead]:
    """Targets for the value function: advantage estimate plus value."""
    advantage = gae.unchecked(
        reward, value, next_value, terminated, truncated, gamma=gamma, lam=lam
    )
    return advantage + value  # eq. gae-return


@checked
def policy_gradient_estimate(
    score: Real[T, N, P], advantage: Real[T, N], *, discount: Fraction = 1.0
) -> Real[P]:
    """Estimate of the policy gradient from N trajectories of T steps.

    Parameters
    ----------
    score
        Gradients of the log-probabilities of the actions taken.
    discount
        gamma for the gradient of the discounted return, 1 in practice.
    """
    T, N = advantage.shape
    weight = xp.asarray([discount**t for t in range(T)], dtype=advantage.dtype)
    term = (weight[:, None] * advantage)[..., None] * score
    return term.sum((0, 1)) / N  # eq. gae-gradient


def _of_the_process(action_prob, mdp, **_):
    """Probabilities of other states or actions than the process has."""
    S, A = mdp.reward.shape
    if action_prob.shape != (S, A):
        raise ValueError(
            f"action_prob must have shape {(S, A)}, as the mdp, not {action_prob.shape}"
        )
    return []


@checked(also=_of_the_process)
def response(
    action_prob: Simplex[S, A],
    value: Real[S],
    mdp: DecisionProcess,
    *,
    steps: PositiveInt = 10,
) -> Real[M, S, A]:
    """How an action changes the expected rewards of the steps that follow, exactly, in a known decision process.

    Parameters
    ----------
    action_prob
        The policy: probabilities of the actions in each state.
    value
        It is the potential that shapes the rewards; zeros leave them as they are.
    steps
        That of the action is the first.

    Returns
    -------
    response
        For each of the steps, each state and each action in it.
    """
    # of each state and action: the reward, and the discounted value that comes after it
    later = mdp.gamma * (mdp.transition * value).sum(2)
    shaped = mdp.reward + later - value[:, None]
    rows = []
    for _ in range(steps):
        expected = (action_prob * shaped).sum(1)
        rows.append(shaped - expected[:, None])  # eq. gae-response
        # of one step later, given state and action
        shaped = (mdp.transition * expected).sum(2)
    return xp.stack(rows)
