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

from trref import validate
from trref.backend import xp
from trref.catalog import Input, Method, Objective, Transform

__all__ = ["convert_prediction", "flow_matching", "noise_matching"]

PREDICTIONS = ("data", "noise", "score", "velocity")
NOISE = {"predicted": Input("N D"), "noise": Input("N D"), "weight": Input("N", "nonnegative")}
FLOW = {"predicted": Input("N D"), "data": Input("N D"), "noise": Input("N D"), "weight": Input("N", "nonnegative")}
CONVERSION = {"prediction": Input("N D"), "x": Input("N D")}


def _weighted_squares(error, weight):
    N = len(weight)
    return (weight * (error * error).sum(1)).sum() / N, 2 * weight[:, None] * error / N


def noise_matching(predicted, noise, weight):
    """Weighted squared error of predicted noise.

    Parameters
    ----------
    predicted, noise : array (N, D)
        The model's output at the noisy data, and the noise in them.
    weight : array (N,)
        Non-negative; 1 in DDPM. With ``1/sigma²`` it is the error of the score.

    Returns
    -------
    loss : scalar array
        A sum over entries, a mean over examples.
    gradient : array (N, D)
        With respect to `predicted`.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, negative weights.
    """
    validate.inputs(NOISE, predicted, noise, weight)
    return _weighted_squares(predicted - noise, weight)  # eq. score-matching-noise


def flow_matching(predicted, data, noise, weight, *, alpha_rate=-1.0, sigma_rate=1.0):
    """Weighted squared error of a predicted velocity.

    Parameters
    ----------
    predicted, data, noise : array (N, D)
        The model's output at the mixtures of data and noise, and both of them.
    weight : array (N,)
        Non-negative.
    alpha_rate, sigma_rate : float
        Derivatives of alpha and sigma in the time of the path.

    Returns
    -------
    loss : scalar array
    gradient : array (N, D)
        With respect to `predicted`.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, negative weights.
    """
    validate.inputs(FLOW, predicted, data, noise, weight)
    validate.interval("(-inf, inf)", alpha_rate=alpha_rate, sigma_rate=sigma_rate)
    target = alpha_rate * data + sigma_rate * noise
    return _weighted_squares(predicted - target, weight)  # eq. score-matching-flow


def convert_prediction(
    prediction, x, *, given="noise", wanted="data", alpha=0.8, sigma=0.6, alpha_rate=-1.0, sigma_rate=1.0
):
    """Turn one kind of prediction into another.

    Parameters
    ----------
    prediction, x : array (N, D)
        The prediction at the noisy data `x`.
    given, wanted : {"data", "noise", "score", "velocity"}
    alpha, sigma : float
        Levels of signal and noise, in (0, inf).
    alpha_rate, sigma_rate : float
        Their derivatives in the time of the path; of use for the velocity only. Then
        ``alpha_rate sigma - sigma_rate alpha`` must not be 0.

    Returns
    -------
    array (N, D)

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite or out of range, a path on which the velocity tells nothing.
    """
    validate.inputs(CONVERSION, prediction, x)
    validate.choice(PREDICTIONS, given=given, wanted=wanted)
    validate.interval("(0, inf)", alpha=alpha, sigma=sigma)
    validate.interval("(-inf, inf)", alpha_rate=alpha_rate, sigma_rate=sigma_rate)
    turn = alpha_rate - sigma_rate * alpha / sigma
    if given == "velocity" and turn == 0:
        raise ValueError("alpha_rate sigma must differ from sigma_rate alpha: the velocity says nothing of the data")
    # eq. score-matching-conversion
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


def _conversion_jvp(prediction, x, tangent, **hyper):
    """Affine in the prediction: a scale, the same for jvp and vjp."""
    zero = xp.zeros_like(tangent)
    return convert_prediction(tangent, zero, **hyper)


def _conversion_vjp(prediction, x, cotangent, **hyper):
    return _conversion_jvp(prediction, x, cotangent, **hyper)


def _example(rng, size):
    noise = rng.standard_normal((size, 2))
    predicted = noise + rng.choice((0.05, 0.4, 1.5)) * rng.standard_normal((size, 2))
    return {"predicted": predicted, "noise": noise, "weight": rng.exponential(1.0, size)}


def _flow_example(rng, size):
    batch = _example(rng, size)
    return {"predicted": batch["predicted"], "data": rng.standard_normal((size, 2)), **batch}


def _edge(weight):
    rows = xp.array([[1.0, -2.0], [0.5, 0.0]])
    return {"predicted": rows, "noise": 0.5 * rows, "weight": xp.array(weight)}


def _flow_edge(weight):
    batch = _edge(weight)
    return {"predicted": batch["predicted"], "data": -batch["noise"], **batch}


WEIGHTS = {"a weight of zero": [0.0, 2.0], "no weight": [0.0, 0.0]}
METHOD = Method(
    key="vincent2011connection",
    provenance="partly",
    functions=(
        Objective(
            f=noise_matching,
            inputs=NOISE,
            example=_example,
            edges={name: lambda w=w: _edge(w) for name, w in WEIGHTS.items()},
            wrt="predicted",
        ),
        Objective(
            f=flow_matching,
            inputs=FLOW,
            example=_flow_example,
            edges={name: lambda w=w: _flow_edge(w) for name, w in WEIGHTS.items()},
            wrt="predicted",
            settings={"default": {}, "probe": {"alpha_rate": -0.7, "sigma_rate": 1.6}},
        ),
        Transform(
            f=convert_prediction,
            inputs=CONVERSION,
            example=lambda rng, size: {name: rng.standard_normal((size, 2)) for name in CONVERSION},
            wrt="prediction",
            jvp=_conversion_jvp,
            vjp=_conversion_vjp,
            settings={
                "default": {},
                **{
                    f"{a} to {b}": {"given": a, "wanted": b, "sigma_rate": 1.6}
                    for a in PREDICTIONS
                    for b in PREDICTIONS
                    if a != b
                },
                "probe": {
                    "given": "velocity",
                    "wanted": "score",
                    "alpha": 0.4,
                    "sigma": 1.7,
                    "alpha_rate": -0.3,
                    "sigma_rate": 2.1,
                },
            },
        ),
    ),
)
