r"""Tweedie's formula of second order: how uncertain a denoiser is, from the derivative of the score.

Data and noise are mixed, :math:`x = \alpha x_0 + \sigma\varepsilon` with :math:`\varepsilon \sim N(0, I)`. Whatever the
law of the data, its posterior given x has the mean

.. math::

    \hat x_0 = E[x_0|x] = \frac{x + \sigma^2 \nabla\log p(x)}{\alpha}

(Tweedie's formula; `trref.diffusion.score_matching.convert_prediction` turns a score into it), and one derivative more
gives its covariance. Because :math:`\log p` is, up to the Gaussian of the noise, the logarithm of a generating function
of :math:`x_0` at :math:`\alpha x/\sigma^2`,

.. math::
    :label: tweedie-covariance

    \mathrm{Cov}[x_0|x] = \frac{\sigma^2}{\alpha^2}\, \big( I + \sigma^2\, \nabla\nabla^\top \log p(x) \big),

which is how the denoiser moves with the point, up to a scale:

.. math::
    :label: tweedie-jacobian

    \frac{\partial\hat x_0}{\partial x} = \frac1\alpha \big( I + \sigma^2\, \nabla\nabla^\top \log p(x) \big)
    = \frac{\alpha}{\sigma^2}\, \mathrm{Cov}[x_0|x].

So the derivative of an exact denoiser is symmetric and positive semidefinite, a gradient through it is damped where
the data are certain, and a learned model whose derivative is neither is no denoiser of any law.

**Where implementations differ.** Full covariances are too large for images. Analytic-DPM takes one number for all
entries and points, the mean of the diagonal; it is the best of its kind, and knows no direction.

**Provenance.** Standard formulas from memory, checked on Gaussian mixtures by conditioning each component.

Efron, *Tweedie's Formula and Selection Bias*, Journal of the American Statistical Association, 2011.
"""

from trref.backend import xp
from trref.signature import D, N, PositiveFloat, Real, checked


def _shrunk(score_jacobian, sigma):
    """I + sigma² times the derivative of the score."""
    D = len(score_jacobian[0])
    eye = xp.eye(D, dtype=score_jacobian.dtype)
    return eye + sigma**2 * score_jacobian


@checked
def posterior_covariance(
    score_jacobian: Real[N, D, D],
    *,
    alpha: PositiveFloat = 0.8,
    sigma: PositiveFloat = 0.6,
) -> Real[N, D, D]:
    """Return the covariance of the data, given the noisy point.

    Parameters
    ----------
    score_jacobian
        Second derivatives of the noisy log-density.
    alpha, sigma
        Levels of signal and noise.
    """
    # eq. tweedie-covariance
    return sigma**2 / alpha**2 * _shrunk(score_jacobian, sigma)


@checked
def denoiser_jacobian(
    score_jacobian: Real[N, D, D],
    *,
    alpha: PositiveFloat = 0.8,
    sigma: PositiveFloat = 0.6,
) -> Real[N, D, D]:
    """Return the derivative of the posterior mean by the noisy point."""
    # eq. tweedie-jacobian
    return _shrunk(score_jacobian, sigma) / alpha
