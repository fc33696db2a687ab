r"""Denoising score matching: learning a score by predicting the noise, and what such a prediction can be turned into.

Data and noise are mixed, :math:`x = \alpha x_0 + \sigma\varepsilon` with :math:`\varepsilon \sim N(0, I)`. A model that
predicts the noise by weighted least squares

.. math::
    :label: score-matching-noise

    L = \frac1N \sum_n w_n\, \| \hat\varepsilon_n - \varepsilon_n \|^2

learns its conditional mean, and so the score of noisy data: :math:`E[\varepsilon|x] = -\sigma\nabla\log p(x)`.
With :math:`\hat s = -\hat\varepsilon/\sigma` the loss differs from the score's own squared error by a constant only,

.. math::

    E\Big\| \hat s + \frac{\varepsilon}{\sigma} \Big\|^2 = E\| \hat s - \nabla\log p \|^2 + C, \qquad
    C = \frac{d}{\sigma^2} - E\|\nabla\log p\|^2.

Flow matching asks for the velocity of the path instead:

.. math::
    :label: score-matching-flow

    L = \frac1N \sum_n w_n\, \| \hat v_n - (\dot\alpha x_{0,n} + \dot\sigma \varepsilon_n) \|^2

At a fixed :math:`x` the four predictions, of data, noise, score and velocity, are affine functions of each other:

.. math::
    :label: score-matching-conversion

    \hat x_0 = \frac{x - \sigma\hat\varepsilon}{\alpha} = \frac{x + \sigma^2 \hat s}{\alpha}, \qquad
    \hat v = \dot\alpha \hat x_0 + \dot\sigma\hat\varepsilon

(the second is Tweedie's formula). The default rates are those of the straight path, :math:`\alpha = 1 - u` and
:math:`\sigma = u`, with velocity :math:`\varepsilon - x_0`.

**Where implementations differ.** Which of the four is predicted changes the weighting of the noise levels, and with it
what a model of limited size learns; norms, clipping and projections do not commute with the conversions. Some average
over entries rather than examples, a factor of :math:`1/d`. "Data time" runs from noise to data and turns the velocity
round.

**Provenance.** Standard formulas from memory, checked on Gaussian mixtures whose score is known.

Vincent, *A Connection Between Score Matching and Denoising Autoencoders*, 2011; Ho, Jain and Abbeel, *Denoising
Diffusion Probabilistic Models*, 2020; Lipman et al., *Flow Matching for Generative Modeling*, 2023.
"""

from typing import Literal

from trref.signature import (
    D,
    FiniteFloat,
    N,
    NonNegative,
    PositiveFloat,
    Real,
    Scalar,
    checked,
)

Prediction = Literal["data", "noise", "score", "velocity"]


def _weighted_squares(error, weight):
    N = len(weight)
    return (weight * (error * error).sum(1)).sum() / N, 2 * weight[:, None] * error / N


@checked
def noise_matching(
    predicted: Real[N, D], noise: Real[N, D], weight: NonNegative[N]
) -> tuple[Scalar, Real[N, D]]:
    """Weighted squared error of predicted noise: a sum over entries, a mean over examples.

    Parameters
    ----------
    predicted
        The model's output at the noisy data.
    noise
        What is in the noisy data.
    weight
        1 in DDPM. With ``1/sigma²`` it is the error of the score.
    """
    return _weighted_squares(predicted - noise, weight)  # eq. score-matching-noise


@checked
def flow_matching(
    predicted: Real[N, D],
    data: Real[N, D],
    noise: Real[N, D],
    weight: NonNegative[N],
    *,
    alpha_rate: FiniteFloat = -1.0,
    sigma_rate: FiniteFloat = 1.0,
) -> tuple[Scalar, Real[N, D]]:
    """Weighted squared error of a predicted velocity.

    Parameters
    ----------
    data
        What the noise was mixed with.
    alpha_rate, sigma_rate
        Derivatives of alpha and sigma in the time of the path.
    """
    target = alpha_rate * data + sigma_rate * noise
    return _weighted_squares(predicted - target, weight)  # eq. score-matching-flow


def _telling(given, alpha, sigma, alpha_rate, sigma_rate, **_):
    """A velocity that says nothing of the data: alpha_rate sigma = sigma_rate alpha."""
    if given == "velocity" and alpha_rate == sigma_rate * alpha / sigma:
        raise ValueError(
            "alpha_rate sigma must differ from sigma_rate alpha: the velocity says nothing of the data"
        )
    return []


@checked(also=_telling)
def convert_prediction(
    prediction: Real[N, D],
    x: Real[N, D],
    *,
    given: Prediction = "noise",
    wanted: Prediction = "data",
    alpha: PositiveFloat = 0.8,
    sigma: PositiveFloat = 0.6,
    alpha_rate: FiniteFloat = -1.0,
    sigma_rate: FiniteFloat = 1.0,
) -> Real[N, D]:
    """Turn one kind of prediction into another.

    Parameters
    ----------
    prediction
        At the noisy data.
    x
        The noisy data.
    given, wanted
        Kinds of prediction.
    alpha, sigma
        Levels of signal and noise.
    alpha_rate, sigma_rate
        Of use for the velocity only.
    """
    # eq. score-matching-conversion
    turn = alpha_rate - sigma_rate * alpha / sigma
    x0 = {
        "data": lambda: prediction,
        "noise": lambda: (x - sigma * prediction) / alpha,
        "score": lambda: (x + sigma**2 * prediction) / alpha,
        "velocity": lambda: (prediction - sigma_rate / sigma * x) / turn,
    }[given]()
    noise = (x - alpha * x0) / sigma
    return {
        "data": x0.copy,
        "noise": lambda: noise,
        "score": lambda: -noise / sigma,
        "velocity": lambda: alpha_rate * x0 + sigma_rate * noise,
    }[wanted]()
