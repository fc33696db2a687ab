r"""Monotonic policy improvement: the exact change of the return, its surrogate, the lower bound, and its algorithm.

With the discounted visits :math:`\rho_\pi(s) = \sum_t \gamma^t P(s_t = s)` and the advantages :math:`A_\pi`, the return
of a new policy is exactly

.. math::
    :label: trpo-improvement-difference

    \eta(\tilde\pi) = \eta(\pi) + \sum_s \rho_{\tilde\pi}(s) \sum_a \tilde\pi(a|s) A_\pi(s, a).

Visits of the new policy are hard to come by. With those of the old one in their place the *surrogate*

.. math::
    :label: trpo-improvement-surrogate

    L_\pi(\tilde\pi) = \eta(\pi) + \sum_s \rho_\pi(s) \sum_a \tilde\pi(a|s) A_\pi(s, a)

agrees with the return to first order at :math:`\tilde\pi = \pi`; for a table of logits both have the derivative

.. math::
    :label: trpo-improvement-gradient

    \frac{\partial\eta}{\partial\theta_{sa}} = \rho_\pi(s)\, \pi(a|s)\, A_\pi(s, a)

there. How far they part is bounded: with :math:`\epsilon = \max_{s,a} |A_\pi|` and
:math:`C = 4\epsilon\gamma/(1-\gamma)^2`,

.. math::
    :label: trpo-improvement-tv-bound

    \eta(\tilde\pi) \ge L_\pi(\tilde\pi) - C \alpha^2, \qquad
    \alpha = \max_s \tfrac12 \|\pi(\cdot|s) - \tilde\pi(\cdot|s)\|_1

.. math::
    :label: trpo-improvement-kl-bound

    \eta(\tilde\pi) \ge L_\pi(\tilde\pi) - C \max_s D_{KL}\big(\pi(\cdot|s) \,\|\, \tilde\pi(\cdot|s)\big).

Maximising the second bound again and again is the paper's Algorithm 1, whose return never falls. The maximum is known
almost in closed form: with a divergence of :math:`\kappa` in every state,

.. math::
    :label: trpo-improvement-step

    \tilde\pi(a|s) = \frac{\lambda_s\, \pi(a|s)}{\nu_s - A_\pi(s, a)}, \qquad \sum_s \rho_\pi(s)\, \lambda_s = C,

where :math:`\lambda_s` makes the probabilities sum to 1, :math:`\nu_s > \max_a A_\pi(s, a)` makes the divergence
:math:`\kappa`, and :math:`\kappa` makes the second equation hold.

===================  =====================================
:math:`\tilde\pi`     softmax of `logits`
:math:`\pi`           softmax of `old_logits`
:math:`\eta`          the `expected_return`
:math:`\gamma`        ``mdp.gamma``
===================  =====================================

Where no action matters all advantages are zero, and so is :math:`C`: the policy stays.

**Where implementations differ.** None that we know implements Algorithm 1: the constant makes its steps tiny. For
mixtures :math:`(1-\alpha)\pi + \alpha\pi'` an older bound has the constant :math:`2\epsilon\gamma/(1-\gamma)^2` with
:math:`\epsilon = \max_s |E_{a\sim\pi'} A_\pi|`.

**Provenance.** Confirmed in the paper's text, but for the solution of Algorithm 1's maximisation, which is derived here
from its optimality conditions.

Schulman, Levine, Moritz, Jordan and Abbeel, *Trust Region Policy Optimization*, 2015, arXiv:1502.05477.
"""

from typing import Literal, NamedTuple

from trref.backend import xp
from trref.nn.heads import log_softmax
from trref.problems.mdp import evaluate
from trref.problems.protocols import DecisionProcess
from trref.signature import A, PositiveInt, Real, S, Scalar, checked


class PolicyIteration(NamedTuple):
    """The last logits; the return of every policy, and the bound that each new one had."""

    logits: Real[S, A]
    returns: list[float]
    bounds: list[float]
    iterations: int
    converged: bool


@checked
def expected_return(
    logits: Real[S, A], mdp: DecisionProcess
) -> tuple[Scalar, Real[S, A]]:
    """Exact return of a table of logits, as a loss."""
    policy = xp.exp(log_softmax(logits))
    worth = evaluate(mdp, policy)
    dJ = (
        worth.visits[:, None] * policy * worth.advantage
    )  # eq. trpo-improvement-gradient
    return -worth.expected_return, -dJ


@checked
def performance_difference(
    logits: Real[S, A], old_logits: Real[S, A], mdp: DecisionProcess
) -> Scalar:
    """Return of a policy from another one's advantages and its own visits."""
    new = xp.exp(log_softmax(logits))
    old = evaluate(mdp, xp.exp(log_softmax(old_logits)))
    visits = evaluate(mdp, new).visits
    # eq. trpo-improvement-difference
    return old.expected_return + (visits[:, None] * new * old.advantage).sum()


@checked
def surrogate_return(
    logits: Real[S, A], old_logits: Real[S, A], mdp: DecisionProcess
) -> tuple[Scalar, Real[S, A]]:
    """First-order surrogate of the return, as a loss."""
    new = xp.exp(log_softmax(logits))
    old = evaluate(mdp, xp.exp(log_softmax(old_logits)))
    gain = (new * old.advantage).sum(1, keepdims=True)
    # eq. trpo-improvement-surrogate
    L = old.expected_return + (old.visits[:, None] * gain).sum()
    dL = old.visits[:, None] * new * (old.advantage - gain)
    return -L, -dL


@checked
def lower_bound(
    logits: Real[S, A],
    old_logits: Real[S, A],
    mdp: DecisionProcess,
    *,
    divergence: Literal["kl", "tv"] = "kl",
) -> Scalar:
    """What the new policy's return cannot fall below.

    Parameters
    ----------
    divergence
        The penalty: the largest KL divergence, or the largest squared total-variation distance (tighter).
    """
    log_new, log_old = log_softmax(logits), log_softmax(old_logits)
    new, old = xp.exp(log_new), xp.exp(log_old)
    worth = evaluate(mdp, old)
    gain = (worth.visits[:, None] * new * worth.advantage).sum()
    L = worth.expected_return + gain
    C = 4 * abs(worth.advantage).max() * mdp.gamma / (1 - mdp.gamma) ** 2
    if divergence == "tv":
        alpha = abs(new - old).sum(1).max() / 2
        return L - C * alpha**2  # eq. trpo-improvement-tv-bound
    # eq. trpo-improvement-kl-bound
    return L - C * (old * (log_old - log_new)).sum(1).max()


@checked
def theoretical_policy_iteration(
    logits: Real[S, A], mdp: DecisionProcess, *, iterations: PositiveInt = 1
) -> PolicyIteration:
    """Policy iteration that maximises the lower bound with the KL penalty: the paper's Algorithm 1.

    Parameters
    ----------
    iterations
        How often the bound is maximised.

    Returns
    -------
    PolicyIteration
        `converged` says that no return was below its bound, nor a bound below the return before it.
    """
    log_policy, returns, bounds = log_softmax(logits), [], []
    for _ in range(iterations):
        improved = _maximise_bound(log_policy, mdp)
        returns.append(float(evaluate(mdp, xp.exp(log_policy)).expected_return))
        bounds.append(float(lower_bound.unchecked(improved, log_policy, mdp)))
        log_policy = improved
    returns.append(float(evaluate(mdp, xp.exp(log_policy)).expected_return))

    rounding = 64 * float(xp.finfo(logits.dtype).eps)
    slack = rounding * float(abs(mdp.reward).max()) / (1 - mdp.gamma) ** 2
    steps = zip(returns[:-1], bounds, returns[1:], strict=True)
    monotone = all(a <= m + slack and m <= b + slack for a, m, b in steps)
    return PolicyIteration(log_policy, returns, bounds, iterations, monotone)


def _maximise_bound(log_policy, mdp):
    """Return the log-probabilities that maximise the surrogate minus C times the largest divergence."""
    policy = xp.exp(log_policy)
    worth = evaluate(mdp, policy)
    epsilon = abs(worth.advantage).max()
    A = worth.advantage / xp.maximum(epsilon, float(xp.finfo(policy.dtype).tiny))
    C = 4 * mdp.gamma / (1 - mdp.gamma) ** 2  # in units of epsilon
    log_kappa = 0.0
    for _ in range(
        12
    ):  # for a small divergence lambda is the deviation of A over sqrt(2 kappa)
        gap = _gap(policy, A, log_kappa)
        lam = 1 / (policy / gap).sum(1, keepdims=True)
        log_kappa = log_kappa + 2 * xp.log((worth.visits * lam[:, 0]).sum() / C)
    return log_policy + xp.log(lam) - xp.log(gap)  # eq. trpo-improvement-step


def _gap(policy, A, log_kappa):
    """Find ``nu - A`` (S, A) with nu above the largest A by bisection: KL(policy‖policy λ / (nu - A)) is kappa."""
    below = A.max(1, keepdims=True) - A
    low, high = (
        xp.full_like(below[:, :1], log_gap) for log_gap in (-30.0, 15.0)
    )  # of the best action's gap
    for _ in range(42):
        middle = (low + high) / 2
        gap = xp.exp(middle) + below
        x = gap * (policy / gap).sum(1, keepdims=True) - 1
        # KL = sum p log(1 + x); the second term sums to 0 and keeps the first from cancelling
        kl = (policy * (xp.log1p(x) - x / (1 + x))).sum(1, keepdims=True)
        beyond = xp.log(xp.maximum(kl, 1e-30)) > log_kappa
        low, high = xp.where(beyond, middle, low), xp.where(beyond, high, middle)
    return xp.exp(high) + below
