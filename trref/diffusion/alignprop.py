r"""AlignProp: the gradient of a reward, pushed back through the sampler that made the sample.

A sampler is a recurrent network: noise goes in, the same model :math:`\hat\varepsilon_\theta` is applied K times, data
come out. If the reward :math:`R` of data has a gradient, back-propagation through time gives that of the model. The
chain of DDIM steps, written in its two inputs, is

.. math::
    :label: alignprop-chain

    x_{k+1} = c_k x_k + d_k\, \hat\varepsilon_\theta(x_k, t_k) + \tilde\sigma_k z_k, \qquad
    c_k = \sqrt{\frac{\bar\alpha_{k+1}}{\bar\alpha_k}}, \quad
    d_k = \sqrt{1 - \bar\alpha_{k+1} - \tilde\sigma_k^2} - c_k \sqrt{1 - \bar\alpha_k},

with the noise :math:`\tilde\sigma_k` of :mod:`trref.diffusion.score_models` for :math:`\eta > 0` (the same
:math:`z_k` forwards and backwards) and 0 for :math:`\eta = 0`. What is minimised is one of

.. math::
    :label: alignprop-loss

    L = -\frac1N \sum_n R(x_K^n) \qquad \text{or} \qquad L = \frac1N \sum_n |R(x_K^n) - R^*|,

the second with a target that stops the chase. Backwards, with :math:`\lambda_K = \partial L / \partial x_K`,

.. math::
    :label: alignprop-backward

    \frac{\partial L}{\partial \theta} = \sum_k b_k d_k
    \Big( \frac{\partial \hat\varepsilon_\theta}{\partial \theta} (x_k) \Big)^{\!\top} \lambda_{k+1}, \qquad
    \lambda_k = c_k \lambda_{k+1} + b_k d_k
    \Big( \frac{\partial \hat\varepsilon_\theta}{\partial x} (x_k) \Big)^{\!\top} \lambda_{k+1} .

One product with the Jacobian a step gives both. *Truncation*: :math:`b_k` is 1 where the model's answer is
differentiated and 0 where it counts as a constant. AlignProp keeps the steps from a random one on,

.. math::
    :label: alignprop-truncation

    b_k = [k \ge S], \qquad S \sim U\{0, \dots, K - 1\},

so that :math:`x_S` is a constant. S = 0 is the whole gradient, S = K - 1 that of the last step alone, as reward
feedback learning has it; a random S reaches the early steps now and then. Only states are stored, every m-th of them
(`every`); the others and all activations are computed again on the way back, with the same result.

The control is the policy gradient (DDPO), which needs no gradient of the reward: with the chain's noise as the
exploration, :math:`\mu_k = c_k x_k + d_k \hat\varepsilon_\theta`, and an advantage :math:`A_n` of each path,

.. math::
    :label: alignprop-ddpo

    L = -\frac1N \sum_n A_n \sum_k \log N(x_{k+1}^n;\, \mu_k(x_k^n),\, \tilde\sigma_k^2 I) .

====================  =============================================
:math:`b_k`           `kept`
:math:`R^*`           `target`
====================  =============================================

At :math:`R = R^*` the derivative is taken to be 0. Without a kept step the gradient is 0.

**Where implementations differ.** TRL draws the first kept step anew at every step of the chain, so that steps are kept
or dropped each for itself, and the gradient runs past dropped ones; its loss is 10 less the mean reward, without the
absolute value. The authors' released code draws it by default
from a normal law around step 42 of 50, and never takes the first; it scales the loss by 0.01 and clips the gradient's
norm at 1. The code of DDPO averages the log-density over entries where the density has a sum, which divides the
gradient by their number.

**Provenance.** The chain, the losses and the place of the truncation confirmed by the authors' code
(mihirp1998/AlignProp, b22918a) and TRL; the uniform law from memory of the paper and as an option of that code (there
without 0); the gradient derived here and compared with differences.

Prabhudesai, Goyal, Pathak and Fragkiadaki, *Aligning Text-to-Image Diffusion Models with Reward Backpropagation*, 2023,
arXiv:2310.03739.
"""

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

from trref import validate
from trref.backend import xp
from trref.diffusion.terms import falling_to_the_data
from trref.problems.denoisers import AskedNetwork
from trref.problems.protocols import DenoisingNetwork
from trref.signature import (
    K1,
    Binary,
    D,
    FiniteFloat,
    Fraction,
    K,
    Mask,
    N,
    P,
    PositiveInt,
    Prob,
    Real,
    Rng,
    Scalar,
    checked,
)


def _coefficients(alpha_bar, eta):
    # eq. alignprop-chain
    now, then = alpha_bar[:-1], alpha_bar[1:]
    variance = eta**2 * (1 - then) / (1 - now) * (1 - now / then)
    c = xp.sqrt(then / now)
    d = xp.sqrt(xp.maximum(1 - then - variance, 0)) - c * xp.sqrt(1 - now)
    return c, d, xp.sqrt(variance)


def _stepper(model, theta, z, times, alpha_bar, eta, kept: Any = None, held=None):
    """The chain's step ``(x, k) -> (x, prediction, cache)``."""
    asked = AskedNetwork("model", model)
    c, d, spread = _coefficients(alpha_bar, eta)

    def step(x, k):
        noise, cache = asked.forward(theta, x, times[k])
        if held is not None:
            noise = xp.where(kept[k] > 0, noise, held[k])
        # eq. alignprop-chain
        return c[k] * x + d[k] * noise + spread[k] * z[k], noise, cache

    return step


def _path(model, theta, x, z, times, alpha_bar, eta):
    """All states of the chain, and the predictions on the way."""
    step = _stepper(model, theta, z, times, alpha_bar, eta)
    states, noises = [x], []
    for k in range(len(z)):
        x, noise, _ = step(x, k)
        states.append(x)
        noises.append(noise)
    return xp.stack(states), xp.stack(noises)


@checked(also=falling_to_the_data)
def chain(
    model: DenoisingNetwork,
    theta: Real[P],
    x: Real[N, D],
    z: Real[K, N, D],
    times: Prob[K1],
    alpha_bar: Prob[K1],
    *,
    eta: Fraction = 1.0,
) -> Real[K1, N, D]:
    """All states of a sampler's chain, the noise first.

    Parameters
    ----------
    model
        The noise in x at a noise time, such as `trref.problems.denoisers.TimeNetwork`.
    x
        Noise at the first time.
    z
        Fresh noise of each step.
    times
        Noise times, falling.
    alpha_bar
        The squared signal level at each time.
    eta
        0 for DDIM, 1 for DDPM with the posterior variance.
    """
    return _path(model, theta, x, z, times, alpha_bar, eta)[0]


@checked(also=falling_to_the_data)
def predictions(
    model: DenoisingNetwork,
    theta: Real[P],
    x: Real[N, D],
    z: Real[K, N, D],
    times: Prob[K1],
    alpha_bar: Prob[K1],
    *,
    eta: Fraction = 1.0,
) -> Real[K, N, D]:
    """The noise that the model sees at each step of the chain."""
    return _path(model, theta, x, z, times, alpha_bar, eta)[1]


@checked(also=falling_to_the_data)
def reward_of_chain(
    model: DenoisingNetwork,
    theta: Real[P],
    x: Real[N, D],
    z: Real[K, N, D],
    times: Prob[K1],
    alpha_bar: Prob[K1],
    kept: Mask[K],
    reward: Callable,
    held: Real[K, N, D] | None = None,
    *,
    eta: Fraction = 1.0,
    kind: Literal["reward", "target"] = "reward",
    target: FiniteFloat = 10.0,
    every: PositiveInt = 1,
) -> tuple[Scalar, Real[P]]:
    """Loss of the samples' reward, and its gradient through the kept steps of the chain.

    Parameters
    ----------
    kept
        1 at the steps whose predictions are differentiated.
    reward
        ``reward(x (N, D)) -> (values (N,), gradients (N, D))``, as in `trref.problems.rewards`.
    held
        What is predicted at the steps that are not kept; by default `predictions` at theta.
    kind
        Whether the reward is raised, or its distance from `target` lowered.
    target
        Of the reward; without effect for the first kind.
    every
        How many steps lie between states that are stored.

    Returns
    -------
    loss
    gradient
        With respect to `theta`.
    """
    step = _stepper(model, theta, z, times, alpha_bar, eta, kept, held)
    c, d, _ = _coefficients(alpha_bar, eta)
    asked, steps = AskedNetwork("model", model), len(z)

    stored = [x]
    for k in range(steps):
        x, *_ = step(x, k)
        if (k + 1) % every == 0:
            stored.append(x)

    R, slope = validate.rows(reward, x, "reward")
    N = len(x)
    # eq. alignprop-loss
    if kind == "reward":
        loss, adjoint = -R.sum() / N, -slope / N
    else:
        loss, adjoint = (
            abs(R - target).sum() / N,
            xp.sign(R - target)[:, None] * slope / N,
        )

    gradient = xp.zeros_like(theta)
    for first in reversed(range(0, steps, every)):
        last, x, caches = min(first + every, steps), stored[first // every], []
        for k in range(first, last):
            x, _, cache = step(x, k)
            caches.append(cache)
        for k in reversed(range(first, last)):
            # eq. alignprop-backward
            d_theta, d_x = asked.vjp(caches[k - first], kept[k] * d[k] * adjoint)
            gradient = gradient + d_theta
            adjoint = c[k] * adjoint + d_x

    return loss, gradient


@checked
def sample_truncation(
    rng: Rng,
    *,
    draws: PositiveInt = 1000,
    steps: PositiveInt = 50,
    dtype: str | type = "float64",
) -> Binary[N, K]:
    """Which of `steps` steps to keep, a row a draw: those from a random one on."""
    first = xp.asarray(rng.integers(0, steps, draws))
    # eq. alignprop-truncation
    return (xp.arange(steps) >= first[:, None]).astype(dtype)


def _noisy(times, alpha_bar, **_):
    """Steps without fresh noise: levels that do not rise, or that reach 1."""
    return [
        *falling_to_the_data(times, alpha_bar)[:1],
        (lambda: (alpha_bar[1:] > alpha_bar[:-1]).all(), "alpha_bar must rise"),
        (
            lambda: (alpha_bar[0] > 0) & (alpha_bar[-1] < 1),
            "alpha_bar must lie between 0 and 1",
        ),
    ]


@checked(also=_noisy)
def ddpo(
    model: DenoisingNetwork,
    theta: Real[P],
    path: Real[K1, N, D],
    times: Prob[K1],
    alpha_bar: Prob[K1],
    advantage: Real[N],
    *,
    eta: Annotated[float, "(0, 1]"] = 1.0,
) -> tuple[Scalar, Real[P]]:
    """Policy gradient of sampled paths: the log-density of each, weighted by its advantage.

    Parameters
    ----------
    path
        From `chain`, with the same `eta`.
    advantage
        Such as the reward, less its mean, over its standard deviation.
    """
    asked = AskedNetwork("model", model)
    c, d, spread = _coefficients(alpha_bar, eta)
    _, N, D = path.shape
    weight, loss, gradient = advantage / N, 0.0, xp.zeros_like(theta)
    for k in range(len(path) - 1):
        noise, cache = asked.forward(theta, path[k], times[k])
        off = (path[k + 1] - c[k] * path[k] - d[k] * noise) / spread[k]
        # eq. alignprop-ddpo
        log_density = -(off * off).sum(1) / 2 - D * xp.log(
            math.sqrt(2 * math.pi) * spread[k]
        )
        loss = loss - (weight * log_density).sum()
        slope = -weight[:, None] * off * d[k] / spread[k]
        gradient = gradient + asked.vjp(cache, slope)[0]

    return loss, gradient
