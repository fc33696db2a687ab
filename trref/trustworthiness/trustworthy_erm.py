r"""Trustworthy ERM: robustness, reweighting and invariance as switches of one objective.

Plain empirical risk minimisation uses every feature that predicts, causal or not:

.. math::
    :label: trustworthy-erm-plain

    \min_\theta \sum_i p_i\, \ell_i(\theta), \qquad
    \ell_i = \log(1 + e^{-m_i}), \quad m_i = \pm_i\, \theta^\top x_i

for a linear classifier with :math:`\pm_i = 2 y_i - 1`. Most methods of trustworthy learning change the data, the
weights or the use of a nuisance. With all of it,

.. math::
    :label: trustworthy-erm-master

    \min_\theta\ \max_{q \in \mathcal Q} \sum_i q_i \max_{a \in \mathcal A} \ell(f_\theta(a(x_i)), y_i)
    + \frac\mu2 \|\theta\|^2 .

The worst of the data within :math:`\|\delta\|_\infty \le \rho`, on the features that an adversary may move, is known:

.. math::
    :label: trustworthy-erm-worst

    \max_\delta \ell(\theta^\top (x_i + \delta), y_i) = \log\big( 1 + e^{-m_i + \rho \|\theta_{mov}\|_1} \big), \qquad
    \delta^\star_i = -\rho\, \pm_i\, \text{sgn}(\theta_{mov}),

the worst of the weights :math:`\mathcal Q` is :mod:`trref.trustworthiness.robust_reweighting`, and by Danskin's theorem
the gradient is that of the inner loss at both maximisers,

.. math::
    :label: trustworthy-erm-gradient

    \nabla_\theta = -\sum_i q^\star_i\, \sigma(-\tilde m_i) \big( \pm_i x_i - \rho\, \text{sgn}(\theta_{mov}) \big)
    + \mu\, \theta, \qquad \tilde m_i = m_i - \rho \|\theta_{mov}\|_1 .

Weights that are fixed (by groups, by :math:`P(y)P(s)/P(y,s)`, by the density of a target) are the :math:`p_i`; those
of group DRO are stepped between the gradients. **Invariance** asks an adversary d to tell domains g apart from the
representation h,

.. math::
    :label: trustworthy-erm-encoder

    \min_{h, v} \max_u \frac1n \sum_i \text{CE}(v^\top h_i, y_i) - \lambda\, \frac1n \sum_i \text{CE}(u^\top h_i, g_i),
    \qquad h_i = W^\top x_i,

.. math::
    :label: trustworthy-erm-adversary

    \min_u \frac1n \sum_i \text{CE}(u^\top h_i, g_i),

two objectives, each with the other's parameters held: the encoder receives :math:`-\lambda` times the adversary's
gradient, which is gradient reversal. Or a penalty on what differs between domains is added
(:mod:`trref.domains.domain_penalties`),

.. math::
    :label: trustworthy-erm-invariance

    \min_\Theta \frac1E \sum_e L_e + \lambda\, \text{IRM or V-REx} .

**Interpretation** is the same mathematics with the data free: the attack's gradient is a saliency map,

.. math::
    :label: trustworthy-erm-saliency

    \nabla_x \ell_i = -\sigma(-m_i)\, \pm_i\, \theta,

and the largest change that blanking k features can make is a search over masks,

.. math::
    :label: trustworthy-erm-masking

    \max_{|M| \le k} \Big| \sum_{j \in M} \theta_j x_{ij} \Big| .

**Large models** are tuned by the same ERM with other variables free: a low-rank change :math:`W_0 + B A` of a matrix,
with G the gradient by the matrix,

.. math::
    :label: trustworthy-erm-low-rank

    \partial B = G A^\top, \qquad \partial A = B^\top G,

a prefix of the input (a prompt), or a policy near its start,

.. math::
    :label: trustworthy-erm-tilted

    \max_\pi E_\pi r - \beta\, \text{KL}(\pi \| \pi_0) = \beta \log E_{\pi_0} e^{r/\beta}, \qquad
    \pi^\star \propto \pi_0\, e^{r / \beta},

the mirror image of the penalised worst case: there the data tilts towards losses, here the policy towards rewards.

Of a weight of exactly 0 the sign is 0: the kink's gradient in the middle. Where losses tie, the maximiser is not
unique.

**Where implementations differ.** "Worst case" names three sets: perturbations, samples and groups; the adversary's
reach :math:`\rho`, the ball of weights and the groups' step are three numbers here. In adversarial training across
domains :math:`\lambda` mostly follows a schedule from 0, and groups' weights are stepped on the losses of the very
batch.

**Provenance.** Reconstructed throughout: the abstract and an essay of the third author were read, which say the roles
of the parts in words; the survey's numbered equations were not seen. Everything is standard and re-derived here.

Liu, Chaudhary and Wang, *Towards Trustworthy and Aligned Machine Learning: A Data-centric Survey with Causality
Perspectives*, 2023, arXiv:2307.16851.
"""

from typing import Annotated, Literal, NamedTuple

from trref.backend import special, xp
from trref.domains.domain_penalties import irm, vrex
from trref.domains.terms import (
    HeadGradient,
    classes_there_are,
    cross_entropies,
    excess,
    probabilities,
)
from trref.nn.losses import binary_cross_entropy
from trref.signature import (
    Binary,
    D,
    E,
    Index,
    K,
    M,
    Mask,
    N,
    NonNegative,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    R,
    Real,
    Scalar,
    Simplex,
    checked,
)
from trref.trustworthiness.robust_reweighting import (
    chi_square_ball,
    cvar,
    kl_ball,
    kl_penalty,
)


class EncoderGradient(NamedTuple):
    """Derivatives by the encoder and by the head of the labels."""

    encoder: Real[D, K]
    head: Real[K]


class LowRank(NamedTuple):
    """Derivatives by the two factors of a change B A."""

    B: Real[M, R]
    A: Real[R, N]


class Tilted(NamedTuple):
    """The best policy, and its reward less its penalty."""

    policy: Simplex[K]
    value: Scalar


@checked
def master_objective(
    theta: Real[D],
    X: Real[N, D],
    labels: Binary[N],
    weights: Simplex[N] | None = None,
    movable: Mask[D] | None = None,
    *,
    rho: NonNegativeFloat = 0.0,
    reweighting: Literal[
        "given", "cvar", "kl_penalty", "kl_ball", "chi_square_ball"
    ] = "given",
    level: Annotated[float, "(0, 1]"] = 0.1,
    kl_weight: Annotated[float, "[1e-6, 1e6]"] = 1.0,
    radius: PositiveFloat = 0.1,
    l2_weight: NonNegativeFloat = 0.0,
) -> tuple[Scalar, Real[D]]:
    """Logistic loss at the worst data within reach, under the worst weights of a set.

    Parameters
    ----------
    theta
        The weights of a linear classifier.
    X
        The data.
    labels
        0 or 1.
    weights
        Of the samples; equal ones if None.
    movable
        1 where an adversary may move a feature; everywhere if None.
    rho
        How far it may move each.
    reweighting
        The set of weights around the given ones.
    level
        Of the conditional value at risk.
    radius
        Of the ball of weights.
    l2_weight
        Weight of half the squared norm of `theta`.
    """
    sign = 2 * labels - 1
    free = xp.sign(theta) if movable is None else xp.sign(theta) * movable
    # eq. trustworthy-erm-worst
    margins = sign * (X @ theta) - rho * (free @ theta)

    losses = xp.logaddexp(-margins, xp.zeros_like(margins))  # eq. trustworthy-erm-plain
    value, q = _worst(losses, weights, reweighting, level, kl_weight, radius)
    # eq. trustworthy-erm-master
    value = value + l2_weight / 2 * (theta @ theta)

    # eq. trustworthy-erm-gradient
    pull = q * special.expit(-margins)
    slope = -(pull * sign) @ X + rho * pull.sum() * free
    return value, slope + l2_weight * theta


def _worst(losses, weights, reweighting, level, kl_weight, radius):
    """The robust loss and its weights."""
    if reweighting == "given":
        q = xp.ones_like(losses) / len(losses) if weights is None else weights
        return q @ losses, q
    if reweighting == "cvar":
        return cvar.unchecked(losses, weights, level=level)
    if reweighting == "kl_penalty":
        return kl_penalty.unchecked(losses, weights, kl_weight=kl_weight)
    if reweighting == "kl_ball":
        return kl_ball.unchecked(losses, weights, radius=radius)
    return chi_square_ball.unchecked(losses, weights, radius=radius)


@checked
def encoder_objective(
    encoder: Real[D, K],
    head: Real[K],
    adversary: Real[K],
    X: Real[N, D],
    labels: Binary[N],
    domain: Binary[N],
    *,
    adversary_weight: NonNegativeFloat = 1.0,
) -> tuple[Scalar, EncoderGradient]:
    """Loss of the labels, less that of an adversary who is held.

    Parameters
    ----------
    encoder
        From the data to K features.
    head
        From these to the label's logit.
    adversary
        From these to the domain's logit.
    domain
        0 or 1.
    adversary_weight
        How much the encoder gains from confusing it.
    """
    h = X @ encoder
    loss, slope = binary_cross_entropy(h @ head, labels)
    other, reverse = binary_cross_entropy(h @ adversary, domain)
    # eq. trustworthy-erm-encoder
    value = loss - adversary_weight * other
    d_h = slope[:, None] * head - adversary_weight * reverse[:, None] * adversary
    return value, EncoderGradient(X.T @ d_h, slope @ h)


@checked
def adversary_objective(
    adversary: Real[K], encoder: Real[D, K], X: Real[N, D], domain: Binary[N]
) -> tuple[Scalar, Real[K]]:
    """Loss of an adversary who tells the domains apart, the encoder held."""
    h = X @ encoder
    # eq. trustworthy-erm-adversary
    loss, slope = binary_cross_entropy(h @ adversary, domain)
    return loss, slope @ h


@checked(also=classes_there_are)
def invariant_objective(
    theta: Real[D, K],
    features: Real[E, N, D],
    labels: Index[E, N],
    *,
    penalty: Literal["irm", "vrex"] = "irm",
    penalty_weight: NonNegativeFloat = 1.0,
) -> tuple[Scalar, HeadGradient]:
    """Mean loss of all domains, and a penalty on what differs between them.

    Parameters
    ----------
    theta
        The head: D features to K classes.
    features
        Of N rows in each of E domains.
    labels
        Class of each row.
    penalty
        What must not differ: the best scale of the head, or the loss.
    penalty_weight
        Of the penalty.

    Returns
    -------
    loss
    gradient
        With respect to `theta` and `features`.
    """
    E, n, _ = features.shape
    loss = cross_entropies(theta, features, labels).mean()
    error = excess(probabilities(theta, features), labels) / (E * n)
    differs = irm.unchecked if penalty == "irm" else vrex.unchecked
    extra, by = differs(theta, features, labels)
    # eq. trustworthy-erm-invariance
    d_theta = (xp.swapaxes(features, 1, 2) @ error).sum(0) + penalty_weight * by.theta
    d_features = error @ theta.T + penalty_weight * by.features
    return loss + penalty_weight * extra, HeadGradient(d_theta, d_features)


@checked
def saliency(theta: Real[D], X: Real[N, D], labels: Binary[N]) -> Real[N, D]:
    """Gradient of each loss by its data."""
    sign = 2 * labels - 1
    # eq. trustworthy-erm-saliency
    return -(special.expit(-sign * (X @ theta)) * sign)[:, None] * theta


@checked
def masking_effect(
    theta: Real[D], X: Real[N, D], *, features: PositiveInt = 1
) -> NonNegative[N]:
    """Largest change of the output by blanking some features.

    Parameters
    ----------
    features
        How many may be blanked.
    """
    parts = xp.sort(X * theta, axis=1)
    # eq. trustworthy-erm-masking
    lowest = xp.minimum(parts[:, :features], 0).sum(1)
    highest = xp.maximum(parts[:, -features:], 0).sum(1)
    return xp.maximum(-lowest, highest)


@checked
def low_rank_gradient(G: Real[M, N], B: Real[M, R], A: Real[R, N]) -> LowRank:
    """Derivatives by the factors of a low-rank change of a matrix.

    Parameters
    ----------
    G
        The derivative by the matrix.
    B, A
        The factors.
    """
    return LowRank(G @ A.T, B.T @ G)  # eq. trustworthy-erm-low-rank


@checked
def tilted_policy(
    policy: Simplex[K],
    reward: Real[K],
    *,
    kl_weight: Annotated[float, "[1e-6, 1e6]"] = 1.0,
) -> Tilted:
    """Best policy near a given one.

    Parameters
    ----------
    policy
        The start.
    reward
        Of each action.
    """
    # eq. trustworthy-erm-tilted
    value, best = kl_penalty.unchecked(reward, policy, kl_weight=kl_weight)
    return Tilted(best, value)
