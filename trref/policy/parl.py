r"""PARL: the gradient of a reward that is judged on what its own optimal policy does.

Learning a reward from preferences is a problem on two levels. The upper level scores a reward by how well it explains
preferences; the trajectories that are compared come from the policy that is best for that same reward. Over
trajectories :math:`\tau` of H steps with law :math:`\rho_\theta`, a reward :math:`r_\nu(s, a) = \phi(s, a)^\top \nu`
and a table of logits :math:`\theta`, the lower level is

.. math::
    :label: parl-lower

    V(\nu, \theta) = E_{\tau \sim \rho_\theta} \Big[ \sum_{h < H} \gamma^h r_\nu(s_h, a_h) \Big]
    - \frac\kappa2 \|\theta\|^2, \qquad \theta^*(\nu) = \arg\max_\theta V(\nu, \theta).

With :math:`S_h = \sum_{j \le h} \nabla \log \pi(a_j|s_j)` and :math:`T_h = \sum_{j \le h} \nabla^2 \log \pi(a_j|s_j)`,

.. math::
    :label: parl-lower-gradient

    \nabla_\theta V = E \sum_h \gamma^h r_\nu(s_h, a_h)\, S_h - \kappa\theta,

.. math::
    :label: parl-hessian

    \nabla^2_{\theta\theta} V = E \sum_h \gamma^h r_\nu(s_h, a_h) \big[ S_h S_h^\top + T_h \big] - \kappa I, \qquad
    \nabla^2_{\nu\theta} V = E \sum_h \gamma^h \phi(s_h, a_h)\, S_h^\top .

Of a softmax, :math:`\nabla \log\pi(a|s) = e_a - \pi(\cdot|s)` and
:math:`\nabla^2 \log\pi(a|s) = -(\mathrm{diag}\,\pi - \pi\pi^\top)` in the block of s. The upper level is the expected
log-likelihood of preferences between two trajectories of the policy,

.. math::
    :label: parl-upper

    G(\nu, \theta) = E_{\tau_0, \tau_1 \sim \rho_\theta} \big[ y \log\sigma(\Delta) + (1 - y) \log\sigma(-\Delta) \big],
    \qquad \Delta = R_\nu(\tau_0) - R_\nu(\tau_1), \quad y = \sigma\big( R(\tau_0) - R(\tau_1) \big)

with undiscounted sums :math:`R_\nu` and R of the learnt and the true reward. Its two derivatives are

.. math::
    :label: parl-upper-gradient

    \partial_\nu G = E\big[ (y - \sigma(\Delta)) \big( \nabla R_\nu(\tau_0) - \nabla R_\nu(\tau_1) \big) \big], \qquad
    \partial_\theta G = E\big[ U\, \big( \nabla \log\rho_\theta(\tau_0) + \nabla \log\rho_\theta(\tau_1) \big) \big],

with U what stands in brackets above: the second says how the *data* change. Through the optimum of the lower level both
make the hypergradient

.. math::
    :label: parl-hypergradient

    \frac{d}{d\nu} G(\nu, \theta^*(\nu)) = \partial_\nu G - \nabla^2_{\nu\theta} V\, \big[ \nabla^2_{\theta\theta} V
    \big]^{-1} \partial_\theta G,

of which alternating methods take the first term alone. A-PARL takes K steps on the lower level from where it stands,
and one along the hypergradient:

.. math::
    :label: parl-step

    \theta \leftarrow \theta + \alpha_l \nabla_\theta V \quad (K \text{ times}), \qquad
    \nu \leftarrow \nu + \alpha_u \frac{dG}{d\nu} .

====================  =======================
:math:`\kappa`        `regularisation`
:math:`\phi`          `features`
R                     `true_reward`
:math:`\alpha_l`      `inner_lr`
:math:`\alpha_u`      `lr`
K                     `inner_steps`
====================  =======================

Everything is exact: the trajectories are a table. Without the regularisation, which is added here, a softmax has no
finite optimum and its Hessian is singular along each state's constant.

**Where implementations differ.** No code is public. Alternating preference learning leaves out the second term of the
hypergradient.

**Provenance.** The two levels, and that the upper expectation is over data of the lower optimum, were confirmed in the
abstract; the equations are from memory of the paper, derived again here and checked. The regularisation is ours.

Chakraborty et al., *PARL: A Unified Framework for Policy Alignment in Reinforcement Learning*, 2023, arXiv:2308.02585.
"""

from typing import NamedTuple

from trref.backend import linalg, xp
from trref.nn.heads import log_softmax, one_hot
from trref.problems.protocols import TrajectoryTable
from trref.signature import (
    A,
    D,
    PositiveFloat,
    PositiveInt,
    Real,
    S,
    Scalar,
    checked,
)


class UpperGradient(NamedTuple):
    """Derivatives with respect to the reward's parameters and to the policy's, the latter by way of the data."""

    nu: Real[D]
    theta: Real[S, A]


class Hypergradient(NamedTuple):
    """The whole, and its two terms: direct, and through the lower optimum."""

    total: Real[D]
    direct: Real[D]
    implicit: Real[D]


class Parl(NamedTuple):
    """Parameters of reward and policy, and the upper objective there."""

    nu: Real[D]
    theta: Real[S, A]
    objective: Scalar


def _scores(theta, table):
    """Log-policy gradients of each step (M, H, S A), and the probability of each trajectory (M,)."""
    policy = xp.exp(log_softmax(theta))
    S, A = policy.shape
    here = one_hot(table.states, S, policy.dtype)
    taken = one_hot(table.actions, A, policy.dtype) - policy[table.states]
    scores = (here[..., None] * taken[..., None, :]).reshape(*table.states.shape, S * A)
    return scores, table.probabilities(policy)


def _discounts(table, dtype):
    return xp.asarray([table.gamma**h for h in range(table.states.shape[1])]).astype(
        dtype
    )


def _lower(theta, features, table):
    """What both levels share: S_h (M, H, P), discounted weights (M, H), and the features of each step (M, H, D)."""
    scores, chance = _scores(theta, table)
    weight = chance[:, None] * _discounts(table, theta.dtype)
    return xp.cumsum(scores, axis=1), weight, features[table.states, table.actions]


def _lower_slope(nu, theta, features, table, regularisation):
    """What each step earns (M, H), and the gradient of the lower level."""
    summed, weight, phi = _lower(theta, features, table)
    earned = weight * (phi @ nu)
    # eq. parl-lower-gradient
    dV = (earned[..., None] * summed).sum((0, 1)).reshape(theta.shape)
    return earned, dV - regularisation * theta


@checked
def lower_value(
    theta: Real[S, A],
    nu: Real[D],
    features: Real[S, A, D],
    table: TrajectoryTable,
    *,
    regularisation: PositiveFloat = 0.3,
) -> tuple[Scalar, Real[S, A]]:
    """Minus the regularised return of the policy for the learnt reward.

    Parameters
    ----------
    theta
        Logits of the policy in each state.
    nu
        Weights of the features in the reward.
    features
        Of each state and action.
    table
        All trajectories, as of `trref.problems.trajectories.all_trajectories`.
    regularisation
        Of the squared norm of the logits.
    """
    earned, dV = _lower_slope(nu, theta, features, table, regularisation)
    V = earned.sum() - regularisation / 2 * (theta**2).sum()  # eq. parl-lower
    return -V, -dV


def _pairs(nu, theta, features, true_reward, table):
    """Chances of pairs, what each is worth, the gap to its preference, feature sums, and scores of trajectories."""
    scores, chance = _scores(theta, table)
    total = features[table.states, table.actions].sum(1)
    earned, true = total @ nu, table.returns(true_reward, discounted=False)
    gap = earned[:, None] - earned[None, :]
    y = _sigmoid(true[:, None] - true[None, :])
    # log sigma, from the side where it is safe
    log_likelier = -xp.maximum(-gap, 0) - xp.log1p(xp.exp(-abs(gap)))
    U = y * log_likelier + (1 - y) * log_likelier.T
    return chance, U, y - _sigmoid(gap), total, scores.sum(1)


def _sigmoid(x):
    return (1 + xp.tanh(x / 2)) / 2


def _upper(nu, theta, features, true_reward, table):
    """The upper objective and its two derivatives."""
    chance, U, miss, total, score = _pairs(nu, theta, features, true_reward, table)
    worth = U @ chance
    G = chance @ worth  # eq. parl-upper
    # eq. parl-upper-gradient
    pull = chance * (
        miss @ chance
    )  # antisymmetric in the two trajectories: each counts twice
    d_nu = 2 * pull @ total
    d_theta = 2 * (chance * worth) @ score
    return G, d_nu, d_theta.reshape(theta.shape)


@checked
def upper_objective(
    nu: Real[D],
    theta: Real[S, A],
    features: Real[S, A, D],
    true_reward: Real[S, A],
    table: TrajectoryTable,
) -> tuple[Scalar, UpperGradient]:
    """Minus the expected log-likelihood of preferences between trajectories of the policy.

    Parameters
    ----------
    true_reward
        What the preferences come from.
    """
    G, d_nu, d_theta = _upper(nu, theta, features, true_reward, table)
    return -G, UpperGradient(-d_nu, -d_theta)


@checked
def hypergradient(
    nu: Real[D],
    theta: Real[S, A],
    features: Real[S, A, D],
    true_reward: Real[S, A],
    table: TrajectoryTable,
    *,
    regularisation: PositiveFloat = 0.3,
) -> Hypergradient:
    """Derivative of the upper objective along the lower optimum; of what is to be maximised.

    Parameters
    ----------
    theta
        The lower optimum, or near it.
    """
    _, d_nu, d_theta = _upper(nu, theta, features, true_reward, table)
    # eq. parl-hessian
    summed, weight, phi = _lower(theta, features, table)
    earned = weight * (phi @ nu)
    outer = xp.einsum("mh,mhp,mhq->pq", earned, summed, summed)
    cross = xp.einsum("mh,mhd,mhp->dp", weight, phi, summed)
    policy = xp.exp(log_softmax(theta))
    # how much each state's block of the second derivative counts: rewards still to come at its visits
    to_go = xp.cumsum(earned[:, ::-1], axis=1)[:, ::-1]
    here = one_hot(table.states, len(policy), policy.dtype)
    count = xp.einsum("mh,mhs->s", to_go, here)
    S, A = policy.shape
    block = policy[:, :, None] * (xp.eye(A, dtype=policy.dtype) - policy[:, None, :])
    second = (xp.eye(S, dtype=policy.dtype)[:, None, :, None] * block[:, :, None]) * (
        count[:, None, None, None]
    )
    P = S * A
    H = outer - second.reshape(P, P) - regularisation * xp.eye(P, dtype=policy.dtype)
    # eq. parl-hypergradient
    implicit = -cross @ linalg.solve(H, d_theta.ravel())
    return Hypergradient(d_nu + implicit, d_nu, implicit)


@checked
def a_parl(
    nu: Real[D],
    theta: Real[S, A],
    features: Real[S, A, D],
    true_reward: Real[S, A],
    table: TrajectoryTable,
    *,
    regularisation: PositiveFloat = 0.3,
    lr: PositiveFloat = 0.5,
    inner_lr: PositiveFloat = 0.5,
    inner_steps: PositiveInt = 20,
    steps: PositiveInt = 10,
) -> Parl:
    """Ascend on the upper objective, with steps on the lower level in between.

    Parameters
    ----------
    lr
        Of the reward's parameters.
    inner_lr
        Of the policy's.
    inner_steps
        On the lower level, before each step of the reward.
    """
    # eq. parl-step
    for _ in range(steps):
        for _ in range(inner_steps):
            _, dV = _lower_slope(nu, theta, features, table, regularisation)
            theta = theta + inner_lr * dV
        total = hypergradient.unchecked(
            nu, theta, features, true_reward, table, regularisation=regularisation
        ).total
        nu = nu + lr * total
    return Parl(nu, theta, _upper(nu, theta, features, true_reward, table)[0])
