r"""COUNTERPOL: the smallest change of a policy that gives a chosen return, as an explanation of it.

What would have to change for a policy to earn more, or less? COUNTERPOL lowers the squared gap between the return and
a target, held by the divergence from a reference policy:

.. math::
    :label: counterpol-loss

    L(\theta) = w\, \frac{(\eta(\pi_\theta) - R)^2}{\Delta^2} + k\, \bar D(\pi_{ref}, \pi_\theta), \qquad
    \bar D = \sum_s d_{ref}(s)\, D_{KL}\big( \pi_{ref}(\cdot|s) \,\|\, \pi_\theta(\cdot|s) \big)

where :math:`d_{ref} = (1-\gamma)\, \rho_{ref}` are the reference's visits, which sum to 1, unlike the :math:`\rho_\pi`
in the derivative

.. math::
    :label: counterpol-gradient

    \frac{\partial L}{\partial \theta_{sa}} = \frac{2 w}{\Delta^2} (\eta - R)\, \rho_\pi(s)\, \pi(a|s)\, A_\pi(s, a)
    + k\, d_{ref}(s)\, \big( \pi(a|s) - \pi_{ref}(a|s) \big).

The reference is constant, its visits, too; as an option the divergence has the new policy first. From sampled steps the
authors' gradient is that of

.. math::
    :label: counterpol-sampled

    \frac1N \sum_t \Big[ \frac{2 w}{\Delta^2} (\bar R - R)(\hat Q_t - R) \log\pi_\theta(a_t|s_t)
    - k\, \pi_{ref}(a_t|s_t) \log\pi_\theta(a_t|s_t) \Big]

with the mean return :math:`\bar R` and the undiscounted return to go :math:`\hat Q_t`: the target is the baseline, and
the second term is one action's piece of a cross-entropy.

With a fixed reference the target is missed, by a margin that grows with k. So the reference is *moved*: after every
`every` steps of gradient descent

.. math::
    :label: counterpol-pivot

    \pi_{ref} \leftarrow \pi_\theta,

until the return is within a tolerance. That is a proximal-point iteration; for a target far above the return each step
is one of the penalised surrogate. What it should find, at least nearly, is the change that costs least,

.. math::
    :label: counterpol-minimal

    \min_\pi\, \bar D(\pi_0, \pi) \ \text{ s.t. } \ \eta(\pi) = R: \qquad
    \pi(a|s) = \frac{\pi_0(a|s)}{1 + \lambda\, \frac{\rho_\pi(s)}{d_0(s)}\, A_\pi(s, a)},

a fixed point in which the multiplier :math:`\lambda` makes the return the target. For a small change of the return
:math:`\bar D` is near :math:`(R - \eta)^2 / (2\, g^\top F^{-1} g)`, the same up and down. The difference of the two
policies is the explanation, state by state:

.. math::
    :label: counterpol-explanation

    D_{KL}\big( \pi_0(\cdot|s) \,\|\, \pi(\cdot|s) \big), \qquad d_0(s)\, D_{KL}, \qquad \pi(a|s) - \pi_0(a|s) .

======================  ====================================
:math:`R`               `target`
:math:`\Delta`          `scale`
:math:`w,\ k`           `return_weight`, `kl_weight`
:math:`\pi_{ref}`       softmax of `old_logits`
:math:`\bar R`          `mean_return`
:math:`\hat Q_t`        `q_value`
======================  ====================================

**Where implementations differ.** The authors' code rolls out the likeliest action although its gradient is that of
sampled ones, and its divergence is one term, the reference's probability of its likeliest action times the
log-probability of the policy's own. With w = 1 - k the notebook has k = 0.9, the file of settings values up to 10⁵,
which only fit w = 1.

**Provenance.** Confirmed by the authors' code: the loss, the sampled gradient, the moved reference and the constants.
The exact gradient, the minimal change and its approximation were derived here.

Deshmukh et al., *Counterfactual Explanation Policies in RL*, 2023, arXiv:2307.13192.
"""

import warnings
from typing import Literal, NamedTuple

from trref.backend import xp
from trref.krylov.terms import floats
from trref.nn.heads import categorical_kl, log_softmax
from trref.problems.protocols import DecisionProcess
from trref.signature import (
    A,
    LogProb,
    N,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Real,
    S,
    Scalar,
    checked,
)
from trref.validate import ConvergenceWarning

HALVINGS = 50  # of the interval of the multiplier, in each iteration
WITHIN = (
    0.9  # of the interval in which the multiplier leaves all probabilities positive
)


class Counterfactual(NamedTuple):
    """Logits, the return before each step and at the end, steps taken, and whether the last return is near."""

    logits: Real[S, A]
    returns: list[float]
    iterations: int
    converged: bool


class MinimalChange(NamedTuple):
    """Log-probabilities, the multiplier, the divergence, the returns on the way, and whether it is the solution."""

    log_prob: Real[S, A]
    multiplier: Scalar
    divergence: Scalar
    returns: list[float]
    iterations: int
    converged: bool


class Explanation(NamedTuple):
    """Divergence of each state, the same weighed by the visits, and the change of each action's probability."""

    kl: Real[S]
    importance: Real[S]
    change: Real[S, A]


def _evaluated(logits, mdp):
    """The return, and its derivative in the logits."""
    policy = xp.exp(log_softmax(logits))
    _, advantage, visits, J = mdp(policy)
    return J, visits[:, None] * policy * advantage


def _visits(logits, mdp):
    """How often each state is visited, with sum 1."""
    return (1 - mdp.gamma) * mdp(xp.exp(log_softmax(logits))).visits


@checked
def counterpol_loss(
    logits: Real[S, A],
    old_logits: Real[S, A],
    mdp: DecisionProcess,
    target: Real[()],
    *,
    scale: PositiveFloat = 1.0,
    return_weight: NonNegativeFloat = 0.1,
    kl_weight: NonNegativeFloat = 0.9,
    direction: Literal["ref_new", "new_ref"] = "ref_new",
) -> tuple[Scalar, Real[S, A]]:
    """Squared gap of the return to its target, with the divergence from a reference.

    Parameters
    ----------
    old_logits
        Of the reference.
    target
        The return that is wanted.
    scale
        Range of the returns.
    return_weight
        Of the squared gap.
    direction
        Which of the two policies comes first in the divergence.
    """
    d_ref = _visits(old_logits, mdp)
    J, dJ = _evaluated(logits, mdp)
    gap = (J - target) / scale
    if direction == "ref_new":
        kl, _, d_kl = categorical_kl(old_logits, logits)
    else:
        kl, d_kl, _ = categorical_kl(logits, old_logits)
    # eq. counterpol-loss
    L = return_weight * gap**2 + kl_weight * (d_ref * kl).sum()
    # eq. counterpol-gradient
    pull = 2 * return_weight / scale * gap
    return L, pull * dJ + kl_weight * d_ref[:, None] * d_kl


@checked
def sampled_loss(
    log_prob: LogProb[N],
    ref_log_prob: LogProb[N],
    q_value: Real[N],
    mean_return: Real[()],
    target: Real[()],
    *,
    scale: PositiveFloat = 1.0,
    return_weight: NonNegativeFloat = 0.1,
    kl_weight: NonNegativeFloat = 0.9,
) -> tuple[Scalar, Real[N]]:
    """Surrogate of the gradient from sampled steps.

    Parameters
    ----------
    q_value
        Undiscounted returns to go.
    mean_return
        Of the batch's episodes.

    Returns
    -------
    loss
        Its gradient matters, not its value.
    gradient
    """
    gap = 2 * return_weight / scale**2 * (mean_return - target)
    coefficient = gap * (q_value - target) - kl_weight * xp.exp(ref_log_prob)
    # eq. counterpol-sampled
    slope = coefficient / len(log_prob)
    return (slope * log_prob).sum(), slope


@checked
def counterpol(
    logits: Real[S, A],
    mdp: DecisionProcess,
    target: Real[()],
    *,
    scale: PositiveFloat = 1.0,
    return_weight: NonNegativeFloat = 0.1,
    kl_weight: NonNegativeFloat = 0.9,
    every: PositiveInt = 250,
    lr: PositiveFloat = 0.5,
    tolerance: PositiveFloat = 0.01,
    max_iter: PositiveInt = 5000,
) -> Counterfactual:
    """Descend on the loss, with a reference that is moved, until the return is near its target.

    Parameters
    ----------
    logits
        Of the policy to be explained, the first reference.
    every
        Steps between two moves of the reference.
    tolerance
        Distance from the target at which it ends.

    Warns
    -----
    ConvergenceWarning
        The target is not reached in `max_iter` steps.
    """
    theta, ref, returns, wanted = logits.copy(), logits, [], float(target)
    d_ref = _visits(ref, mdp)
    for step in range(max_iter + 1):
        if step and step % every == 0:
            ref, d_ref = theta, _visits(theta, mdp)  # eq. counterpol-pivot
        J, dJ = _evaluated(theta, mdp)
        returns.append(float(J))
        if abs(returns[-1] - wanted) <= tolerance:
            return Counterfactual(theta, returns, step, True)
        if step < max_iter:
            pull = 2 * return_weight / scale**2 * (J - target)
            held = kl_weight * d_ref[:, None] * categorical_kl(ref, theta)[2]
            theta = theta - lr * (pull * dJ + held)
    warnings.warn(
        f"counterpol: the return is {returns[-1]:.6g} after {max_iter} steps",
        ConvergenceWarning,
        stacklevel=3,
    )
    return Counterfactual(theta, returns, max_iter, False)


@checked
def minimal_change(
    logits: Real[S, A],
    mdp: DecisionProcess,
    target: Real[()],
    *,
    tolerance: PositiveFloat = 1e-10,
    max_iter: PositiveInt = 200,
) -> MinimalChange:
    """Find the policy of the target's return that is nearest to the given one.

    Parameters
    ----------
    logits
        Of the policy to be explained.
    tolerance
        Error of the return, and of the fixed point, at which it ends.

    Warns
    -----
    ConvergenceWarning
        The target is not reached in `max_iter` iterations, as where no policy reaches it.
    """
    log_first = log_softmax(logits)
    first = xp.exp(log_first)
    d = _visits(logits, mdp)
    policy, returns, multiplier = first, [], xp.zeros_like(target)
    rounding = 64 * float(xp.finfo(d.dtype).eps)
    for k in range(max_iter + 1):
        _, advantage, visits, J = mdp(policy)
        pull = (visits / d)[:, None] * advantage
        # how far it is from the return, and from the fixed point
        residual = d[:, None] * (policy - first) + multiplier * (
            visits[:, None] * policy * advantage
        )
        earned, wanted, miss, least, most = floats(
            J, target, abs(residual).max(), pull.min(), pull.max()
        )
        returns.append(earned)
        if max(abs(earned - wanted), miss) <= max(tolerance, rounding * abs(earned)):
            kl = (d * (first * (log_first - xp.log(policy))).sum(1)).sum()
            return MinimalChange(xp.log(policy), multiplier, kl, returns, k, True)
        if k == max_iter or least == most:
            break
        # the multiplier at which the surrogate of the return is the target, by halving
        low, high = xp.full_like(J, -WITHIN / most), xp.full_like(J, -WITHIN / least)
        for _ in range(HALVINGS):
            multiplier = (low + high) / 2
            new = _tilted(first, multiplier * pull)
            too_high = J + (visits[:, None] * new * advantage).sum() > target
            low = xp.where(too_high, multiplier, low)
            high = xp.where(too_high, high, multiplier)
        policy = _tilted(first, multiplier * pull)
    warnings.warn(
        f"minimal_change: the return is {returns[-1]:.6g} after {len(returns) - 1} iterations",
        ConvergenceWarning,
        stacklevel=3,
    )
    kl = (d * (first * (log_first - xp.log(policy))).sum(1)).sum()
    return MinimalChange(
        xp.log(policy), multiplier, kl, returns, len(returns) - 1, False
    )


def _tilted(first, pull):
    """The first policy over 1 + pull, normalised."""
    new = first / (1 + pull)  # eq. counterpol-minimal
    return new / new.sum(1, keepdims=True)


@checked
def explanation(
    logits: Real[S, A], old_logits: Real[S, A], mdp: DecisionProcess
) -> Explanation:
    """What has changed, and where it matters.

    Parameters
    ----------
    logits
        Of the counterfactual policy.
    old_logits
        Of the policy to be explained.
    """
    # eq. counterpol-explanation
    kl = categorical_kl(old_logits, logits)[0]
    change = xp.exp(log_softmax(logits)) - xp.exp(log_softmax(old_logits))
    return Explanation(kl, _visits(old_logits, mdp) * kl, change)
