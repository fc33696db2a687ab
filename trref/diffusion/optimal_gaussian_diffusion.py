r"""Optimal Gaussian diffusion: a short diffusion from the best Gaussian, and guidance on the clean estimate.

A diffusion that stops early, at a time T at which :math:`\bar\alpha_T` is well above 0, needs few steps; but then its
end is not white noise. Start from the best Gaussian instead, which a cheap predictor's mean :math:`\mu` and spread
give. The noise has the data's own standard deviation :math:`\sigma`, an entry each,

.. math::
    :label: optimal-gaussian-diffusion-forward

    x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1-\bar\alpha_t}\; \sigma \odot \varepsilon

and everything carries the factor :math:`\sigma`: a network learns the scaled noise,

.. math::
    :label: optimal-gaussian-diffusion-loss

    L = \frac1N \sum_n \| \sigma \odot \varepsilon_n - g_n \|^2, \qquad
    g^* = -\sqrt{1-\bar\alpha}\; \sigma^2 \odot \nabla\log q_t .

The Gaussian with the least divergence from :math:`x_T`, KL(:math:`q_T` ‖ Gaussian), has its moments,

.. math::
    :label: optimal-gaussian-diffusion-prior

    E[x_T] = \sqrt{\bar\alpha_T}\,\mu, \qquad
    \mathrm{Cov}[x_T] = \bar\alpha_T\, \Sigma + (1-\bar\alpha_T)\, \mathrm{diag}(\sigma^2),

and the best one with independent entries its mean and variances. With :math:`\sigma^2 = \mathrm{diag}\,\Sigma` the
variances are :math:`\sigma^2` at every T. So the start is

.. math::
    :label: optimal-gaussian-diffusion-start

    x_T = \sqrt{\bar\alpha_T}\,\mu + \sigma \odot \varepsilon

with a factor of 1, not :math:`\sqrt{1-\bar\alpha_T}`, before the noise. What any other Gaussian N of that kind
wastes is

.. math:: \mathrm{KL}(q_T \| N) - \mathrm{KL}(q_T \| p^*) = \mathrm{KL}(p^* \| N).

A step to the smaller time s is DDIM's or DDPM's, with scaled noise and scaled fresh noise,

.. math::
    :label: optimal-gaussian-diffusion-step

    \hat x_0 = \frac{x_t - \sqrt{1-\bar\alpha_t}\; g}{\sqrt{\bar\alpha_t}}, \qquad
    x_s = \sqrt{\bar\alpha_s}\, \hat x_0 + \sqrt{1 - \bar\alpha_s - \tilde\sigma^2}\; g + \tilde\sigma\, \sigma \odot z

with DDIM's :math:`\tilde\sigma`.

**Guidance on the estimated clean manifold (ECM)** moves the estimate against the gradient of a cost taken there, entry
by entry within a bound, and keeps :math:`g`; with a reference (ECMR) the estimate is first replaced by the best of some
given modes where that costs less:

.. math::
    :label: optimal-gaussian-diffusion-ecm

    \hat x_0' = \hat x_0 - \mathrm{clip}\big( \eta\, \nabla c(\hat x_0), -b, b \big), \qquad
    x_s = \sqrt{\bar\alpha_s}\, \hat x_0' + \sqrt{1-\bar\alpha_s}\; g

.. math::
    :label: optimal-gaussian-diffusion-ecmr

    \hat x_0 \leftarrow m^*, \ \text{ if } c(\hat x_0) > c(m^*), \qquad m^* = \arg\min_m c(m)

A goal for what is decoded linearly, such as a trajectory's end from its principal components, costs

.. math::
    :label: optimal-gaussian-diffusion-goal

    c(x_0) = \frac1M \| p - \mathrm{goal} \|^2, \quad p = P x_0 + o, \qquad
    \nabla c = \frac2M P^\top (p - \mathrm{goal}) .

The gradient through the model, which this avoids, is

.. math::
    :label: optimal-gaussian-diffusion-full

    \nabla_x\, c(\hat x_0(x)) = \frac1{\sqrt{\bar\alpha}} \Big( \nabla c - \sqrt{1-\bar\alpha}\;
    \Big( \frac{\partial g}{\partial x} \Big)^{\!\top} \nabla c \Big) = J^\top \nabla c, \qquad
    J = \frac1{\sqrt{\bar\alpha}} \big( I + (1-\bar\alpha)\, \mathrm{diag}(\sigma^2)\, \nabla^2 \log q_t \big),

the second form for the exact :math:`g^*`; ECM puts a multiple of the identity in the place of J.

Gaussian data with independent entries are sampled exactly for any T, up to the steps: with
:math:`\bar\alpha = \cos^2 a`, one of DDIM's multiplies the spread by :math:`\cos(a_t - a_s)`. Modes that the Gaussian
does not tell apart need a time in which they can part. A mode that costs as much as the estimate does not replace it.

===============  ============================
:math:`\eta`     `lr`
:math:`b`        `bound`
:math:`g`        `predicted`
===============  ============================

**Where implementations differ.** The authors' loss is a mean over entries, too; a variant of theirs weighs entries by
:math:`1/\sigma^2`, adds :math:`(1-\sqrt{\bar\alpha})\,\mu` to the noise, so that all means are :math:`\mu`, and yet
starts from that shift alone. Their guidance follows the gradient of the *mean* cost of a batch, so that the step
depends on how many samples are drawn; their step of 10 and bound of 1 are meant for that.

**Provenance.** Confirmed by the authors' code: noise, loss, start, step, ECM, ECMR, goal. That the prior is optimised
for a small time is in the abstract; its optimality, the split of the divergence and J are derived here and checked. The
paper's text was not read. The authors take the spread of marginal predictions plus 0.3 for :math:`\sigma`, which may
not be 0.

Wang, Tang, Sun, Rossi, Xie, Peng, Hannagan, Sabatini, Poerio, Tomizuka and Zhan, *Optimizing Diffusion Models for Joint
Trajectory Prediction and Controllable Generation*, 2024, arXiv:2408.00766.
"""

import math
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

from trref import validate
from trref.backend import xp
from trref.diffusion.score_models import denoise, renoise
from trref.diffusion.terms import predicted as _predicted
from trref.diffusion.terms import pulled, to_less_noise
from trref.problems.protocols import DenoisingModel
from trref.signature import (
    D,
    Fraction,
    K,
    M,
    N,
    NonNegativeFloat,
    OpenFraction,
    Positive,
    PositiveFloat,
    Real,
    Scalar,
    checked,
)

Level = Annotated[float, "(0, 1]"]


class Prior(NamedTuple):
    """Moments of a Gaussian."""

    mean: Real[D]
    covariance: Real[D, D]


@checked
def ogd_forward(
    x0: Real[N, D], noise: Real[N, D], sigma: Positive[D], *, alpha_bar: Fraction = 0.5
) -> Real[N, D]:
    """Noisy data.

    Parameters
    ----------
    x0
        Data.
    noise
        Standard normal.
    sigma
        Standard deviation of the noise in each entry: that of the data.
    alpha_bar
        Squared signal level.
    """
    # eq. optimal-gaussian-diffusion-forward
    return math.sqrt(alpha_bar) * x0 + math.sqrt(1 - alpha_bar) * sigma * noise


@checked
def ogd_loss(
    predicted: Real[N, D], noise: Real[N, D], sigma: Positive[D]
) -> tuple[Scalar, Real[N, D]]:
    """Squared error of predicted scaled noise: a sum over entries, a mean over examples.

    Parameters
    ----------
    predicted
        The model's output at the noisy data.
    """
    N = len(noise)
    error = predicted - sigma * noise
    # eq. optimal-gaussian-diffusion-loss
    return (error * error).sum() / N, 2 * error / N


@checked
def ogd_prior(
    mean: Real[D],
    covariance: Real[D, D],
    sigma: Positive[D],
    *,
    alpha_bar: Fraction = 0.5,
    form: Literal["full", "diagonal"] = "full",
) -> Prior:
    """The best Gaussian for the end of the diffusion.

    Parameters
    ----------
    mean, covariance
        Of the data.
    form
        Any Gaussian, or the best one with independent entries.
    """
    # eq. optimal-gaussian-diffusion-prior
    spread = alpha_bar * covariance + (1 - alpha_bar) * xp.diag(sigma**2)
    if form == "diagonal":
        spread = xp.diag(xp.diag(spread))
    return Prior(math.sqrt(alpha_bar) * mean, spread)


@checked
def ogd_start(
    noise: Real[N, D], mean: Real[D], sigma: Positive[D], *, alpha_bar: Fraction = 0.5
) -> Real[N, D]:
    """Where sampling starts: the best Gaussian if sigma is the data's standard deviation.

    Parameters
    ----------
    mean
        Of the data, or a cheap prediction of it.
    """
    # eq. optimal-gaussian-diffusion-start
    return math.sqrt(alpha_bar) * mean + sigma * noise


@checked(also=to_less_noise)
def ogd_step(
    x: Real[N, D],
    predicted: Real[N, D],
    z: Real[N, D],
    sigma: Positive[D],
    *,
    alpha_bar: OpenFraction = 0.5,
    next_alpha_bar: Level = 0.8,
    eta: Fraction = 0.0,
) -> Real[N, D]:
    """Take one step towards the data.

    Parameters
    ----------
    x
        Where it is.
    predicted
        The model's scaled noise in `x`.
    z
        Fresh standard normal noise; without effect for eta 0.
    alpha_bar, next_alpha_bar
        Squared signal level now and after the step, the second not below the first; 1 for the estimate of the data.
    eta
        0 for DDIM, 1 for DDPM with the posterior variance.
    """
    # eq. optimal-gaussian-diffusion-step
    x0 = denoise.unchecked(x, predicted, alpha_bar=alpha_bar)
    levels = {"alpha_bar": alpha_bar, "next_alpha_bar": next_alpha_bar}
    return renoise.unchecked(x0, predicted, sigma * z, **levels, eta=eta)


def _moved(x0, gradient, predicted, lr, bound, s):
    # eq. optimal-gaussian-diffusion-ecm
    x0 = x0 - xp.clip(lr * gradient, -bound, bound)
    return math.sqrt(s) * x0 + math.sqrt(1 - s) * predicted


@checked(also=to_less_noise)
def ecm_step(
    cost: Callable,
    x: Real[N, D],
    predicted: Real[N, D],
    *,
    alpha_bar: OpenFraction = 0.5,
    next_alpha_bar: Level = 0.8,
    lr: NonNegativeFloat = 10.0,
    bound: PositiveFloat = 1.0,
) -> Real[N, D]:
    """Take one deterministic step that lowers a cost of the data.

    Parameters
    ----------
    cost
        ``cost(x0 (N, D)) -> (costs (N,), gradients (N, D))``, a cost a row.
    lr
        Of the gradient at the estimate; 0 for no guidance.
    bound
        How far an entry of the estimate moves at most.

    Raises
    ------
    ValueError
        A `cost` whose results have other shapes or are not finite.
    """
    x0 = denoise.unchecked(x, predicted, alpha_bar=alpha_bar)
    _, gradient = validate.rows(cost, x0, "cost")
    return _moved(x0, gradient, predicted, lr, bound, next_alpha_bar)


@checked(also=to_less_noise)
def ecmr_step(
    cost: Callable,
    x: Real[N, D],
    predicted: Real[N, D],
    modes: Real[K, D],
    *,
    alpha_bar: OpenFraction = 0.5,
    next_alpha_bar: Level = 0.8,
    lr: NonNegativeFloat = 10.0,
    bound: PositiveFloat = 1.0,
) -> Real[N, D]:
    """Take one such step from the best of some modes, where that costs less than the estimate.

    Parameters
    ----------
    modes
        Such as the predictions of a cheap model; of equal costs the first counts.
    bound
        How far an entry of the estimate, or of the mode, moves at most.

    Raises
    ------
    ValueError
        A `cost` whose results have other shapes or are not finite.
    """
    x0 = denoise.unchecked(x, predicted, alpha_bar=alpha_bar)
    # eq. optimal-gaussian-diffusion-ecmr
    costs, gradient = validate.rows(cost, x0, "cost")
    of_modes, slopes = validate.rows(cost, modes, "cost")
    best = of_modes.argmin()
    worse = (costs > of_modes[best])[:, None]
    x0 = xp.where(worse, modes[best], x0)
    gradient = xp.where(worse, slopes[best], gradient)

    return _moved(x0, gradient, predicted, lr, bound, next_alpha_bar)


@checked
def goal_cost(
    x0: Real[N, D], decoder: Real[M, D], offset: Real[M], goal: Real[M]
) -> tuple[Scalar, Real[N, D]]:
    """Squared distances of what is decoded from a goal, added up over the rows.

    Parameters
    ----------
    x0
        Data, or estimates of them.
    decoder, offset
        Of M numbers, linear in the data.
    goal
        Where these should be.
    """
    M = len(goal)
    r = x0 @ decoder.T + offset - goal
    # eq. optimal-gaussian-diffusion-goal
    return (r * r).sum() / M, 2 / M * r @ decoder


@checked
def full_guidance(
    model: DenoisingModel,
    cost: Callable,
    x: Real[N, D],
    *,
    time: Fraction = 0.5,
    alpha_bar: OpenFraction = 0.5,
) -> tuple[Scalar, Real[N, D]]:
    """Costs of the estimates, added up over the rows, and the gradient through the model.

    Parameters
    ----------
    model
        The scaled noise, at points (N, D) and noise times (N,).
    cost
        ``cost(x0 (N, D)) -> (costs (N,), gradients (N, D))``, a cost a row.
    x
        Noisy data.
    time
        Their noise time.

    Raises
    ------
    ValueError
        A `model`, `cost` or derivative whose result has another shape or is not finite.
    """
    g = _predicted(model, x, time)
    x0 = denoise.unchecked(x, g, alpha_bar=alpha_bar)
    costs, v = validate.rows(cost, x0, "cost")
    # eq. optimal-gaussian-diffusion-full
    through = math.sqrt(1 - alpha_bar) * pulled(model, x, time, v)
    return costs.sum(), (v - through) / math.sqrt(alpha_bar)
