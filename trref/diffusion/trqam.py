r"""TRQAM: a flow policy follows its critic by regression, so that no gradient passes through its sampler.

A flow's velocity :math:`v`, of noise time as everywhere here, was trained on data, and a critic :math:`Q` says which
samples are good. What is wanted is the base law tilted by the critic, :math:`p^* \propto p_0\, e^{Q/\lambda}`. Trust
Region Q Adjoint Matching reads that as optimal control of a path with noise, and regresses the velocity on what the
control should be. The temperature :math:`\lambda` is moved by a trust region
(:mod:`trref.diffusion.trust_region_temperature`); with a fixed one it is QAM.

Paths go through noise times :math:`u_0 = 1 > \dots > u_K = 0`, and :math:`\delta_k = u_k - u_{k+1}`. Their noise is so
strong that the end does not remember the start: with the rate

.. math::
    :label: trqam-rate

    g_k^2 = \frac{2\,(u_k + \delta_k)}{1 - u_{k+1}}

a step of the policy is

.. math::
    :label: trqam-step

    x_{k+1} = x_k - \delta_k \Big( 2 v_\theta(x_k, u_k) + \frac{x_k}{1 - u_{k+1}} \Big) + \sqrt{\delta_k}\, g_k\, z_k,
    \qquad z_k \sim N(0, I),

and the last one follows the base without noise,

.. math::
    :label: trqam-path

    x_0 \sim N(0, I), \qquad x_K = x_{K-1} - \delta_{K-1}\, v_{base}(x_{K-1}, u_{K-1}) .

In the limit of short steps that is the reverse of the process that turns data into noise: drift and :math:`g^2 =
2u/(1-u)` are those of :mod:`trref.diffusion.probability_flow` with a churn of 1, and the offsets keep them finite at
:math:`u = 1`. The first step forgets its start altogether, but for what the velocity says there.

The adjoint carries the critic's slope back through the *base*, whatever the policy and the temperature are,

.. math::
    :label: trqam-adjoint

    a_K = -\nabla Q(x_K), \qquad a_k = a_{k+1} - \delta_k\, \Big( 2\, \frac{\partial v_{base}}{\partial x}(x_k, u_k)
    + \frac{I}{1 - u_{k+1}} \Big)^{\!\top} a_{k+1} .

For N paths, with states, adjoints and temperature held constant, the loss and its gradient are

.. math::
    :label: trqam-objective

    L = \frac1N \sum_n \sum_k \|r_{kn}\|^2, \qquad
    r_{kn} = -\frac{2}{\sigma_k} (v_{kn} - v_{base,kn}) + \sigma_k a_{kn}, \qquad \sigma_k = \frac{g_k}{\sqrt\lambda}

.. math::
    :label: trqam-gradient

    \frac{\partial L}{\partial v_{kn}} = -\frac{4}{N \sigma_k}\, r_{kn},

which is 0 at :math:`v = v_{base} + g_k^2 a / (2\lambda)`. The sum is over steps whatever their lengths. The critic
learns from the policy's own actions, with a spread of E critics that counts against them:

.. math::
    :label: trqam-target

    y = R + \gamma^H (1 - d)\, \big[ \mathrm{mean}_e\, Q'_e - \rho\, \mathrm{std}_e\, Q'_e \big],

where :math:`R` is the (discounted) reward of the H actions of a chunk, :math:`d` says whether the episode ended, and
the deviation divides by E.

====================  =============
:math:`v_\theta`      `policy`
:math:`v_{base}`      `model`
:math:`\lambda`       `temperature`
:math:`\nabla Q`      `slope`
:math:`\rho`          `pessimism`
:math:`H`             `horizon`
====================  =============

The paper counts time from the noise: its :math:`t` is :math:`1 - u` and its velocity :math:`-v`. The last step has the
Jacobian of the base's flow, :math:`I - \delta\, \partial v`, and not that of :eq:`trqam-adjoint`; so the adjoint is the
derivative of the base's noisy steps, up to the last, and the difference vanishes with the step. The loss counts the
last step too, though paths follow the base there. The critic sees actions clipped to [-1, 1]: beyond, its slope
is 0.

**Where implementations differ.** The authors' code (yonghdong/trqam) takes the Jacobian of the adjoint at the time
after the step, :math:`u_{k+1}`, in the states before it, multiplies its :math:`\lambda` by 3 wherever it is used, seeds
start and noise of a path by one key, and keeps training the base on data: a slow average of that is the reference.

**Provenance.** Paths, adjoint, loss, the critic's target and all defaults confirmed in the authors' released agent;
that control and tilted law belong together follows Domingo-Enrich et al. 2024 (arXiv:2409.08861). The gradient is
derived and checked.

Dong et al., *Trust Region Q Adjoint Matching*, 2026, arXiv:2605.27079.
"""

from collections.abc import Callable

from trref import validate
from trref.backend import xp
from trref.diffusion.terms import falling_times, pulled, towards_the_data
from trref.problems.protocols import DenoisingModel
from trref.signature import (
    K1,
    Binary,
    D,
    E,
    Fraction,
    K,
    N,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    PositiveInt,
    Prob,
    Real,
    Scalar,
    checked,
)


@checked(also=towards_the_data)
def memoryless_rate(u: Prob[N], next_u: Prob[N]) -> Positive[N]:
    """Squared noise of each step, a unit of time.

    Parameters
    ----------
    u, next_u
        Noise time before and after each step: 0 data, 1 noise.
    """
    return 2 * (2 * u - next_u) / (1 - next_u)  # eq. trqam-rate


@checked(also=towards_the_data)
def memoryless_step(
    x: Real[N, D],
    velocity: Real[N, D],
    z: Real[N, D],
    u: Prob[N],
    next_u: Prob[N],
) -> Real[N, D]:
    """Take one step each, with given noise.

    Parameters
    ----------
    x
        Where each step begins.
    velocity
        Of noise time, noise - data: what the model says at `x` and `u`.
    z
        Standard normal noise.
    """
    # eq. trqam-step
    delta = u - next_u
    drift = 2 * velocity + x / (1 - next_u)[:, None]
    spread = xp.sqrt(delta * memoryless_rate.unchecked(u, next_u))
    return x - delta[:, None] * drift + spread[:, None] * z


def _asked(name, model, x, u):
    """What a model says, which must be like x."""
    velocity = validate.returned(name, model(x, u), x.shape, finite=True)
    if velocity.dtype != x.dtype:
        raise TypeError(f"{name} returns {velocity.dtype} at {x.dtype} points")
    return velocity


@checked(also=falling_times)
def memoryless_path(
    policy: Callable, model: Callable, z: Real[K, N, D], times: Prob[K1]
) -> Real[K1, N, D]:
    """Follow the policy from noise to data, with given noise.

    Parameters
    ----------
    policy
        ``policy(x (N, D), t (N,)) -> (N, D)``: the velocity at noise time t that is trained.
    model
        The velocity of the base, called alike.
    z
        Where the paths begin, and the noise of each step but the last.
    times
        Noise times of the path, from noise to data.
    """
    path, u = [z[0]], xp.zeros_like(z[0, :, 0]) + times[:, None]
    for k in range(len(z) - 1):
        v = _asked("policy", policy, path[-1], u[k])
        path.append(memoryless_step.unchecked(path[-1], v, z[k + 1], u[k], u[k + 1]))
    # eq. trqam-path
    v = _asked("model", model, path[-1], u[-2])
    path.append(path[-1] - (times[-2] - times[-1]) * v)
    return xp.stack(path)


@checked(also=falling_times)
def lean_adjoint(
    model: DenoisingModel, path: Real[K1, N, D], slope: Real[N, D], times: Prob[K1]
) -> Real[K, N, D]:
    """Return the adjoint at the beginning of each step.

    Parameters
    ----------
    model
        The velocity of the base, with its derivative, such as `trref.problems.mixtures.MixtureVelocity`.
    path
        States at all times.
    slope
        Gradient of the critic at the end of each path.
    """
    a, adjoints = -slope, []
    # eq. trqam-adjoint
    for k in reversed(range(len(times) - 1)):
        delta = times[k] - times[k + 1]
        pull = 2 * pulled(model, path[k], times[k], a) + a / (1 - times[k + 1])
        a = a - delta * pull
        adjoints.append(a)
    return xp.stack(adjoints[::-1])


@checked(also=falling_times)
def adjoint_matching(
    velocity: Real[K, N, D],
    base_velocity: Real[K, N, D],
    adjoint: Real[K, N, D],
    times: Prob[K1],
    *,
    temperature: PositiveFloat = 1.0,
) -> tuple[Scalar, Real[K, N, D]]:
    """Mean squared distance of the velocity from what the adjoint asks for.

    Parameters
    ----------
    velocity, base_velocity
        Of policy and base, at the beginning of each step.
    adjoint
        There, as `lean_adjoint` gives it.
    temperature
        How much of the critic is worth one nat of divergence from the base.
    """
    N = velocity.shape[1]
    rate = memoryless_rate.unchecked(times[:-1], times[1:])
    sigma = xp.sqrt(rate / temperature)[:, None, None]
    # eq. trqam-objective
    r = sigma * adjoint - 2 / sigma * (velocity - base_velocity)
    L = (r * r).sum() / N
    dL = -4 / (N * sigma) * r  # eq. trqam-gradient
    return L, dL


@checked
def pessimistic_target(
    reward: Real[N],
    done: Binary[N],
    next_values: Real[E, N],
    *,
    pessimism: NonNegativeFloat = 0.5,
    discount: Fraction = 0.995,
    horizon: PositiveInt = 1,
) -> Real[N]:
    """What the critics are to predict.

    Parameters
    ----------
    reward
        Of the actions of a chunk.
    done
        1 where the episode ended with it.
    next_values
        Of each target critic, at the policy's next action.
    pessimism
        How much a deviation between critics counts against the action.
    horizon
        How many actions a chunk has.
    """
    mean = next_values.mean(0)
    spread = xp.sqrt(((next_values - mean) ** 2).mean(0))
    # eq. trqam-target
    return reward + discount**horizon * (1 - done) * (mean - pessimism * spread)
