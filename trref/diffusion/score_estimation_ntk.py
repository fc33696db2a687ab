r"""Score estimation as regression with noisy labels, and where its error comes from.

Noisy data :math:`x_t = \alpha x_0 + \sqrt h\,\varepsilon` with :math:`h = 1 - \alpha^2` solve
:math:`\mathrm dX = -\tfrac12 g X\,\mathrm dt + \sqrt g\,\mathrm dB`. Write the score as an affine function of a
denoiser,

.. math::
    :label: score-estimation-ntk-score

    s(t, x) = \frac{\alpha f(t, x) - x}h ,

and denoising score matching with the weight :math:`h^2/\alpha^2` is least squares of f on the clean sample, point by
point:

.. math::
    :label: score-estimation-ntk-loss

    L = \frac1N \sum_n \frac{h_n^2}{\alpha_n^2}
    \Big\| s_n - \frac{\alpha_n x_{0,n} - x_n}{h_n} \Big\|^2 = \frac1N \sum_n \| f_n - x_{0,n} \|^2 .

The best f is :math:`f_* = E[x_0|x_t]`, and the labels are noisy: their spread around it, the trace of the posterior
covariance, stays. It grows with the time. Data are bounded, and a prediction may be projected on their ball,

.. math::
    :label: score-estimation-ntk-truncate

    f \leftarrow f\, \min\Big( 1, \frac R{\|f\|} \Big) .

A wide network (:mod:`trref.diffusion.two_layer`) follows gradient descent with a kernel
(:mod:`trref.diffusion.tangent_kernel`), :math:`f_k[Y]` after k steps on labels Y. With labels :math:`f_* + \varepsilon`
and a function :math:`f_{\mathcal H}` that the kernel can represent, its error splits into

.. math::
    :label: score-estimation-ntk-split

    f_{net} - f_* = \underbrace{f_{net} - f_k[f_* + \varepsilon]}_{\text{coupling}} +
    \underbrace{f_k[f_* - f_{\mathcal H}]}_{\text{label mismatch}} +
    \underbrace{f_k[f_{\mathcal H} + \varepsilon] - f_{\mathcal H}}_{\text{early stopping}} +
    \underbrace{f_{\mathcal H} - f_*}_{\text{approximation}} .

The coupling falls with the width, the third term falls with k and rises again where the noise is learned; the second is
written by the linearity of :math:`f_k` in the labels. As :math:`t \to 0` the score divides the denoiser's error by h:
the weight hides this.

**Where implementations differ.** Trainers weigh by what suits samples; most predict the noise, the weight
:math:`h`. No code of the authors was found.

**Provenance.** Partly: regression with noisy labels by a parametric form, the four sources of error and early stopping
stand in the abstract and in reviews of the paper; which difference bears which name, and all formulas, are from memory
or reconstructed, and checked. Rates and constants of the theorems are not here.

Han, Razaviyayn and Xu, *Neural Network-Based Score Estimation in Diffusion Models: Optimization and Generalization*,
2024, arXiv:2401.15604.
"""

from typing import NamedTuple

from trref.backend import linalg, xp
from trref.diffusion.tangent_kernel import kernel_descent
from trref.signature import (
    D,
    N,
    NonNegativeInt,
    Positive,
    PositiveFloat,
    Q,
    Real,
    Scalar,
    checked,
)


class Errors(NamedTuple):
    """Where the error of a trained network comes from, at the queries."""

    coupling: Real[Q, D]
    label_mismatch: Real[Q, D]
    early_stopping: Real[Q, D]
    approximation: Real[Q, D]


def _noisy(alpha, **_):
    """A signal level of 1 or more, where there is no noise, or one below 1e-8, where there is nothing else."""
    return [
        (lambda: (alpha < 1).all(), "alpha must be below 1"),
        (lambda: (alpha >= 1e-8).all(), "alpha must be at least 1e-8"),
    ]


@checked(also=_noisy)
def parametric_score(
    prediction: Real[N, D], x: Real[N, D], alpha: Positive[N]
) -> Real[N, D]:
    """The score that belongs to a prediction of the data.

    Parameters
    ----------
    prediction
        Of the data at `x`.
    x
        Noisy data.
    alpha
        Signal level of each row, below 1.
    """
    alpha = alpha[:, None]
    # eq. score-estimation-ntk-score
    return (alpha * prediction - x) / ((1 - alpha) * (1 + alpha))


@checked(also=_noisy)
def score_loss(
    score: Real[N, D], x0: Real[N, D], x: Real[N, D], alpha: Positive[N]
) -> tuple[Scalar, Real[N, D]]:
    """Weighted denoising score matching: a sum over entries, a mean over examples.

    Parameters
    ----------
    score
        The model's score at the noisy data.
    x0
        Data.
    x
        The same with noise.
    """
    N, alpha = len(x), alpha[:, None]
    h = (1 - alpha) * (1 + alpha)
    # eq. score-estimation-ntk-loss
    error = (h * score + x) / alpha - x0
    return (error * error).sum() / N, 2 * h / alpha * error / N


@checked
def truncate(prediction: Real[N, D], *, radius: PositiveFloat = 1.0) -> Real[N, D]:
    """Project predictions of the data on the ball that holds the data.

    Parameters
    ----------
    prediction
        Of the data.
    """
    size = linalg.norm(prediction, axis=1, keepdims=True)
    # eq. score-estimation-ntk-truncate
    return prediction * (radius / xp.maximum(size, radius))


@checked
def error_split(
    predicted: Real[Q, D],
    kernel: Real[N, N],
    query_kernel: Real[Q, N],
    Y: Real[N, D],
    target: Real[N, D],
    fit: Real[N, D],
    query_target: Real[Q, D],
    query_fit: Real[Q, D],
    *,
    lr: PositiveFloat = 0.01,
    steps: NonNegativeInt = 100,
) -> Errors:
    """Split the error of a network after some steps into four parts, which add up to it.

    Parameters
    ----------
    predicted
        By the network, at the queries.
    kernel, query_kernel
        Of the training inputs, and from queries to them.
    Y
        Labels: the clean samples.
    target, query_target
        The best denoiser at the training inputs and at the queries.
    fit, query_fit
        A function that the kernel can represent, there.
    lr
        Step of the summed loss.

    Raises
    ------
    ValueError
        An `lr` that is too large for the kernel; a `kernel` that is not symmetric and positive semi-definite.
    """

    def learned(labels):
        return kernel_descent(kernel, query_kernel, labels, lr=lr, steps=steps)

    # eq. score-estimation-ntk-split
    return Errors(
        predicted - learned(Y),
        learned(target - fit),
        learned(fit + Y - target) - query_fit,
        query_fit - query_target,
    )
