r"""GIRL: what imagination in a learnt model may be worth, and a radius on how far the model may drift.

Let :math:`\hat P` be a model of a process P. The return of a policy in both differs by exactly

.. math::
    :label: girl-gap

    \eta_P(\pi) - \eta_{\hat P}(\pi) = \gamma \sum_{s,a} \rho^P_\pi(s, a)\, \Big( E_{P(\cdot|s,a)} -
    E_{\hat P(\cdot|s,a)} \Big) \hat V_\pi

with the visits of the process, unnormalised, and the *model's* value function. So it is at most

.. math::
    :label: girl-bounds

    \gamma\, \mathrm{span}(\hat V) \sum_{s,a} \rho^P_\pi\, D_{TV}, \qquad
    \gamma\, \mathrm{span}(\hat V) \sum_{s,a} \rho^P_\pi \sqrt{\tfrac12 D_{KL}(P \| \hat P)}, \qquad
    \frac{2 \gamma R_{\max}}{(1-\gamma)^2} \max_{s,a} D_{TV}

where the first two look at how far values reach and not at the horizon: as :math:`\gamma \to 1` they stay informative,
where the third, classical one does not. GIRL limits the drift with two devices. The transition's mean is moved by a
frozen embedding c of the observation, through a gate,

.. math::
    :label: girl-gate

    \mu_p = \mu_h + \sigma(G [h; c] + b) \odot U c,

through which a derivative :math:`d` in :math:`\mu_p` comes back, with the opening :math:`s = \sigma(\cdot)`, as

.. math::
    :label: girl-gate-gradient

    \frac{\partial}{\partial U} = (s \odot d)\, c^\top, \qquad g = d \odot U c \odot s\, (1 - s), \qquad
    \frac{\partial}{\partial G} = g\, [h; c]^\top, \quad \frac{\partial}{\partial b} = g, \quad
    \frac{\partial}{\partial [h; c]} = G^\top g,

a sum over samples where a parameter is shared, and :math:`U^\top (s \odot d)` more in c. The latent state must be able
to tell the embedding,

.. math::
    :label: girl-grounding

    L_{cm} = \frac1N \sum_n \| c_n - z_n W \|^2, \qquad \frac{\partial L_{cm}}{\partial z} = -\frac2N (c - z W) W^\top,
    \qquad \frac{\partial L_{cm}}{\partial W} = -\frac2N z^\top (c - z W),

with c constant; and the divergence of the posterior q from the prior p is held to a radius :math:`\delta`,

.. math::
    :label: girl-objective

    L = \frac1N \sum_n \Big[ \frac{\|x_n - y_n\|^2}{2} + \beta \big( D_{KL}(q_n \| p_n) - \delta \big) \Big]
    + \mu\, L_{cm},

with the reconstruction y of the observation x, whose multiplier follows its own gradient,

.. math::
    :label: girl-multiplier

    \log\beta \leftarrow \log\beta + \alpha\, \big( \bar D_{KL} - \delta \big) .

The radius widens where there is something to learn, by the disagreement of K Gaussian models of the next latent state,

.. math::
    :label: girl-information

    \mathrm{EIG} = \sum_i \Big[ \frac12 \log \bar\sigma_i^2 - \frac1K \sum_k \log \sigma_{ki} \Big], \qquad
    \bar\sigma_i^2 = \mathrm{Var}_k(\mu_{ki}) + \frac1K \sum_k \sigma_{ki}^2,

(the entropy of the mixture, with its moments matched, less the mean entropy: never negative, and 0 where all agree)
and shrinks where imagination has promised too much,

.. math::
    :label: girl-radius

    \delta \leftarrow \mathrm{clip}\Big( \delta + \eta \big( \mathrm{EIG} - \kappa\, \mathrm{RPL} \big),
    \delta_{\min}, \delta_{\max} \Big), \qquad \mathrm{RPL} = \max\Big( 0, \frac{\hat J - J}{|J| + \varepsilon} \Big) .

===========================  ===========================================
:math:`h,\ c`                `features`, `embedding`
:math:`\mu_h`                `base_mean`
:math:`G,\ b,\ U`            `gate`, `gate_bias`, `projection`
:math:`\alpha,\ \eta`        `lr`
:math:`\hat J,\ J`           `imagined_return`, `real_return`
:math:`\kappa`               `loss_weight`
===========================  ===========================================

The weight :math:`\mu` of the grounding is 0.1; the sum is left to the caller, as is a head of rewards, which is one
more column of the observation. With the gate shut the prior is the base's. A process that is its own model has a gap of
0, and bounds of 0.

**Where implementations differ.** No code is public.

**Provenance.** The gap and its bounds are standard, and were derived and checked here. Everything from the gate on is
**reconstructed** from descriptions in words of two independent notes (a gated residual in the prior's mean, a squared
distance to a frozen embedding with weight 0.1, a multiplier on the mean divergence, a radius that information moves up
and lost performance down): no equation of the paper was seen. Its defaults for the radius' steps are choices.

Hiremath, *GIRL: Generative Imagination Reinforcement Learning via Information-Theoretic Hallucination Control*, 2026,
arXiv:2604.07426.
"""

from typing import NamedTuple

from trref import validate
from trref.backend import xp
from trref.nn.heads import GaussianGradient, gaussian_kl, log_softmax
from trref.problems.mdp import evaluate
from trref.problems.protocols import DecisionProcess
from trref.signature import (
    A,
    D,
    H,
    K,
    M,
    N,
    NonNegative,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Real,
    S,
    Scalar,
    checked,
)


class Bounds(NamedTuple):
    """By total variation and the span of the model's values, by Pinsker's inequality, and the classical one."""

    variation: Scalar
    pinsker: Scalar
    classical: Scalar


class GateGradient(NamedTuple):
    """Derivatives with respect to what the dynamics say, the features, and the parameters of the gate."""

    base_mean: Real[N, D]
    features: Real[N, H]
    projection: Real[M, D]
    gate: Real[D, K]
    gate_bias: Real[D]


class GroundingGradient(NamedTuple):
    """Derivatives with respect to the latent states and the projector."""

    latent: Real[N, D]
    projector: Real[D, M]


class WorldModelGradient(NamedTuple):
    """Derivatives with respect to reconstruction, posterior and prior."""

    reconstruction: Real[N, M]
    mean: Real[N, D]
    log_std: Real[N, D]
    prior_mean: Real[N, D]
    prior_log_std: Real[N, D]


def _alike(logits, mdp, model, **_):
    """Process and model of other shapes or discounts."""
    if mdp.transition.shape != model.transition.shape or mdp.gamma != model.gamma:
        raise ValueError("model must have the shapes and the discount of mdp")
    return []


def _differences(logits, mdp, model):
    """The policy's visits of pairs in the process, the model's values, and both transitions."""
    policy = xp.exp(log_softmax(logits))
    visits = evaluate(mdp, policy).visits[:, None] * policy
    value = evaluate(model, policy, "model").value
    return visits, value, mdp.transition, model.transition


@checked(also=_alike)
def value_gap(
    logits: Real[S, A], mdp: DecisionProcess, model: DecisionProcess
) -> Scalar:
    """Return of the policy in the process less that in the model.

    Parameters
    ----------
    logits
        Of the policy.
    model
        Of the same rewards and the same start, with other transitions.
    """
    visits, value, P, model_P = _differences(logits, mdp, model)
    surprise = ((P - model_P) * value).sum(2)
    return mdp.gamma * (visits * surprise).sum()  # eq. girl-gap


@checked(also=_alike)
def gap_bounds(
    logits: Real[S, A], mdp: DecisionProcess, model: DecisionProcess
) -> Bounds:
    """What the size of the gap cannot exceed."""
    visits, value, P, model_P = _differences(logits, mdp, model)
    variation = abs(P - model_P).sum(2) / 2
    tiny = float(xp.finfo(P.dtype).tiny)
    log_ratio = xp.log(xp.maximum(P, tiny)) - xp.log(xp.maximum(model_P, tiny))
    kl = xp.maximum((P * log_ratio).sum(2), 0)
    # eq. girl-bounds
    reach = mdp.gamma * (value.max() - value.min())
    largest = abs(mdp.reward).max()
    classical = 2 * mdp.gamma * largest / (1 - mdp.gamma) ** 2 * variation.max()
    return Bounds(
        reach * (visits * variation).sum(),
        reach * (visits * xp.sqrt(kl / 2)).sum(),
        classical,
    )


def _gate_fits(embedding, features, gate, **_):
    """A gate that does not take features and embedding side by side."""
    width = features.shape[1] + embedding.shape[1]
    if gate.shape[1] != width:
        raise ValueError(f"gate must have {width} columns, not {gate.shape[1]}")
    return []


@checked(also=_gate_fits)
def gated_prior_mean(
    embedding: Real[N, M],
    base_mean: Real[N, D],
    features: Real[N, H],
    projection: Real[M, D],
    gate: Real[D, K],
    gate_bias: Real[D],
) -> Real[N, D]:
    """Mean of the prior, moved by the embedding through a gate.

    Parameters
    ----------
    embedding
        Of the observation, frozen.
    base_mean
        What the dynamics say without it.
    features
        Of latent state and action.
    projection
        From the embedding to the latent state.
    gate, gate_bias
        Of the features and the embedding, side by side.
    """
    s = _open(embedding, features, gate, gate_bias)
    return base_mean + s * (embedding @ projection)  # eq. girl-gate


def _open(embedding, features, gate, gate_bias):
    """How far the gate is open."""
    x = xp.concatenate([features, embedding], axis=1) @ gate.T + gate_bias
    return (1 + xp.tanh(x / 2)) / 2


@checked(also=_gate_fits)
def gated_prior_jvp(
    embedding: Real[N, M],
    base_mean: Real[N, D],
    features: Real[N, H],
    projection: Real[M, D],
    gate: Real[D, K],
    gate_bias: Real[D],
    tangent: Real[N, M],
) -> Real[N, D]:
    """Tangent of the mean.

    Parameters
    ----------
    tangent
        Of the embedding.
    """
    s = _open(embedding, features, gate, gate_bias)
    opened = s * (1 - s) * (tangent @ gate[:, features.shape[1] :].T)
    return opened * (embedding @ projection) + s * (tangent @ projection)


def _pulled(embedding, features, projection, gate, gate_bias, cotangent):
    """How far the gate is open, what comes through it, and the cotangent before its logistic function."""
    s, moved = _open(embedding, features, gate, gate_bias), embedding @ projection
    return s, moved, cotangent * moved * s * (1 - s)  # eq. girl-gate-gradient


@checked(also=_gate_fits)
def gated_prior_vjp(
    embedding: Real[N, M],
    base_mean: Real[N, D],
    features: Real[N, H],
    projection: Real[M, D],
    gate: Real[D, K],
    gate_bias: Real[D],
    cotangent: Real[N, D],
) -> Real[N, M]:
    """Pull a cotangent of the mean back to the embedding.

    Parameters
    ----------
    cotangent
        Of the mean.
    """
    s, _, at_gate = _pulled(embedding, features, projection, gate, gate_bias, cotangent)
    return (cotangent * s) @ projection.T + at_gate @ gate[:, features.shape[1] :]


@checked(also=_gate_fits)
def gated_prior_pull(
    embedding: Real[N, M],
    base_mean: Real[N, D],
    features: Real[N, H],
    projection: Real[M, D],
    gate: Real[D, K],
    gate_bias: Real[D],
    cotangent: Real[N, D],
) -> tuple[Scalar, GateGradient]:
    """Product of the mean with a constant cotangent, and the cotangent pulled back to all but the embedding.

    Parameters
    ----------
    cotangent
        Such as the derivative of `world_model_loss` in the prior's mean.
    """
    s, moved, at_gate = _pulled(
        embedding, features, projection, gate, gate_bias, cotangent
    )
    # eq. girl-gate-gradient
    gradient = GateGradient(
        cotangent.copy(),
        at_gate @ gate[:, : features.shape[1]],
        embedding.T @ (s * cotangent),
        at_gate.T @ xp.concatenate([features, embedding], axis=1),
        at_gate.sum(0),
    )
    return (cotangent * (base_mean + s * moved)).sum(), gradient


@checked
def grounding_loss(
    latent: Real[N, D], projector: Real[D, M], embedding: Real[N, M]
) -> tuple[Scalar, GroundingGradient]:
    """How badly the latent states tell the embedding.

    Parameters
    ----------
    latent
        Latent states.
    projector
        From latent states to embeddings, linear.
    embedding
        Of the observation, frozen.
    """
    miss, N = embedding - latent @ projector, len(latent)
    # eq. girl-grounding
    gradient = GroundingGradient(-2 / N * miss @ projector.T, -2 / N * latent.T @ miss)
    return (miss**2).sum() / N, gradient


@checked(also=validate.moderate_spread)
def world_model_loss(
    reconstruction: Real[N, M],
    mean: Real[N, D],
    log_std: Real[N, D],
    prior_mean: Real[N, D],
    prior_log_std: Real[N, D],
    observation: Real[N, M],
    *,
    beta: PositiveFloat = 1.0,
    radius: NonNegativeFloat = 1.0,
) -> tuple[Scalar, WorldModelGradient]:
    """Loss of the world model without the grounding: reconstruction, and the divergence less its radius.

    Parameters
    ----------
    reconstruction
        Of the observations.
    mean, log_std
        Of the posterior.
    prior_mean, prior_log_std
        Of the prior.
    observation
        What was seen.
    beta
        Multiplier of the divergence.
    radius
        Divergence that is allowed.
    """
    N, miss = len(mean), reconstruction - observation
    kl, q, p = gaussian_kl(mean, log_std, prior_mean, prior_log_std)
    # eq. girl-objective
    L = (miss**2).sum() / 2 + beta * (kl - radius).sum()
    posterior, prior = (GaussianGradient(*(beta * g / N for g in x)) for x in (q, p))
    return L / N, WorldModelGradient(miss / N, *posterior, *prior)


@checked
def update_multiplier(
    beta: Positive[()],
    kl: NonNegative[N],
    *,
    radius: NonNegativeFloat = 1.0,
    lr: PositiveFloat = 0.01,
) -> Positive[()]:
    """The multiplier after a step.

    Parameters
    ----------
    beta
        Before it.
    kl
        Divergence of each posterior from its prior.

    Returns
    -------
    beta
        Within 1e-10 and 1e10.
    """
    # eq. girl-multiplier
    moved = beta * xp.exp(xp.minimum(lr * (kl.mean() - radius), 20))
    return xp.asarray(xp.clip(moved, 1e-10, 1e10))


@checked(also=validate.moderate_spread)
def information_gain(means: Real[K, N, D], log_stds: Real[K, N, D]) -> NonNegative[N]:
    """What seeing the next latent state would tell of which model is right.

    Parameters
    ----------
    means, log_stds
        Of K models.
    """
    spread = ((means - means.mean(0)) ** 2).mean(0)
    # eq. girl-information
    scaled = xp.exp(2 * (log_stds - log_stds.mean(0))).mean(0)
    within = spread * xp.exp(-2 * log_stds.mean(0))
    return xp.maximum(xp.log(scaled + within).sum(1) / 2, 0)


@checked
def adapt_radius(
    radius: NonNegative[()],
    information: NonNegative[N],
    imagined_return: Real[N],
    real_return: Real[N],
    *,
    lr: PositiveFloat = 0.1,
    loss_weight: NonNegativeFloat = 1.0,
    smallest: PositiveFloat = 0.1,
    largest: PositiveFloat = 10.0,
    eps: PositiveFloat = 1e-6,
) -> NonNegative[()]:
    """The radius after an epoch.

    Parameters
    ----------
    radius
        Before it.
    information
        As of `information_gain`.
    imagined_return, real_return
        Of the same starts.
    loss_weight
        Of the promised but missing returns.
    smallest, largest
        Bounds of the radius.
    eps
        Added to the size of the mean real return.
    """
    if smallest > largest:
        raise ValueError(
            f"smallest must not be above largest, {largest}, but is {smallest}"
        )
    J, imagined = real_return.mean(), imagined_return.mean()
    lost = xp.maximum((imagined - J) / (abs(J) + eps), 0)
    # eq. girl-radius
    moved = radius + lr * (information.mean() - loss_weight * lost)
    return xp.asarray(xp.clip(moved, smallest, largest))
