r"""Histogram loss: a value is learnt as a distribution over bins, its target spread by a Gaussian.

The critic of Hyper++ does not regress. Its range :math:`[a, b]` has m bins with the edges :math:`e_0 = a, \dots, e_m =
b` at equal distances, and a target t becomes the mass of a normal law of mean t and standard deviation :math:`\sigma`
in each, normalised over the range:

.. math::
    :label: histogram-loss-targets

    p_j = \frac{\Phi\big( \frac{e_{j+1} - t}\sigma \big) - \Phi\big( \frac{e_j - t}\sigma \big)}{\Phi\big( \frac{e_m -
    t}\sigma \big) - \Phi\big( \frac{e_0 - t}\sigma \big)}, \qquad \sigma = 0.75\, \frac{b - a}m

A target outside the range is moved to its end. The loss is a cross-entropy, with the gradient softmax less target:

.. math::
    :label: histogram-loss-loss

    L = - \frac1N \sum_i \sum_j p_{ij} \log \mathrm{softmax}(z_i)_j

and what is read off is the mean of the bins' centres:

.. math::
    :label: histogram-loss-value

    \hat V = \sum_j \mathrm{softmax}(z)_j\, \frac{e_j + e_{j+1}}2

A gradient is never larger than :math:`\sqrt 2/N`, however far off the value is; this is what steadies training. Well
inside the range the mean of the target is t again, up to 5e-6 of a bin; at its ends the missing half of the Gaussian
pulls it in, by 0.27 at the end of the default range.

================  =====================
:math:`a, b`      ``low``, ``high``
:math:`t`         ``value_target``
:math:`m`         ``bins``
:math:`0.75`      ``ratio``
================  =====================

**Where implementations differ.** The listing in Farebrother et al. does not move targets that lie outside the range:
what is left of their mass in it is spread over the last bins, and far outside it is 0/0.

**Provenance.** Confirmed by the authors' code (Probabilistic-and-Interactive-ML/hyper-rl, hl_gauss.py), which follows
Farebrother et al., *Stop Regressing*, arXiv:2403.03950.

Klein et al., *Understanding and Improving Hyperbolic Deep Reinforcement Learning*, 2025, arXiv:2512.14202.
"""

from typing import Annotated

from trref.backend import special, xp
from trref.nn.heads import log_softmax
from trref.signature import (
    FiniteFloat,
    K,
    N,
    PositiveInt,
    Real,
    Scalar,
    Simplex,
    checked,
)

Ratio = Annotated[float, "[0.001, 1000]"]


def _range(low, high, **_):
    """A range that is empty."""
    if not low < high:
        raise ValueError(f"low must be less than high = {high}, not {low}")
    return []


@checked(also=_range)
def histogram_targets(
    value_target: Real[N],
    *,
    bins: PositiveInt = 51,
    low: FiniteFloat = -10.0,
    high: FiniteFloat = 10.0,
    ratio: Ratio = 0.75,
) -> Simplex[N, K]:
    """Distribution of each target over the bins.

    Parameters
    ----------
    bins
        How many.
    low, high
        The range.
    ratio
        The Gaussian's standard deviation, in widths of a bin.
    """
    return _targets(value_target, bins, low, high, ratio)


def _targets(t, bins, low, high, ratio):
    t = xp.clip(t, low, high)[:, None]
    width = (high - low) / bins
    edges = low + width * xp.arange(bins + 1, dtype=t.dtype)
    # eq. histogram-loss-targets
    below = special.ndtr((edges - t) / (ratio * width))
    return (below[:, 1:] - below[:, :-1]) / (below[:, -1:] - below[:, :1])


@checked(also=_range)
def histogram_loss(
    logits: Real[N, K],
    value_target: Real[N],
    *,
    low: FiniteFloat = -10.0,
    high: FiniteFloat = 10.0,
    ratio: Ratio = 0.75,
) -> tuple[Scalar, Real[N, K]]:
    """Mean cross-entropy of the bins' logits and the targets' distributions.

    Parameters
    ----------
    logits
        Of the bins.
    """
    N, K = logits.shape
    p, log_q = _targets(value_target, K, low, high, ratio), log_softmax(logits)
    # eq. histogram-loss-loss
    return -(p * log_q).sum() / N, (xp.exp(log_q) - p) / N


@checked(also=_range)
def histogram_value(
    logits: Real[N, K], *, low: FiniteFloat = -10.0, high: FiniteFloat = 10.0
) -> Real[N]:
    """Value that the bins' logits stand for.

    Parameters
    ----------
    logits
        Of the bins.
    """
    K = logits.shape[1]
    width = (high - low) / K
    centres = low + width * (xp.arange(K, dtype=logits.dtype) + 0.5)
    return xp.exp(log_softmax(logits)) @ centres  # eq. histogram-loss-value
