r"""The gate of MASPO: how far a token may move before it fades, by its probability and its advantage.

A token that has moved the way its advantage says fades out under a Gaussian in the ratio :math:`\rho`, whose width
depends on two things. Moving a rare token moves little mass, so its width is larger:

.. math::
    :label: maspo-gate-mass

    \sigma^{mass}_{i,t} = \mathrm{clip}\big( \sigma\, (\pi^{old}_{i,t})^{-\alpha},\; \sigma,\; \sigma_{high} \big)

A right answer deserves more trust the larger its advantage, a wrong one less, because it does not say which of its
tokens was to blame:

.. math::
    :label: maspo-gate-risk

    \sigma^{risk}_i = \mathrm{clip}(1 + \beta_+ |\hat A_i|,\; a_l,\; a_h) \ \text{ for } \hat A_i > 0, \qquad
    \sigma^{risk}_i = \mathrm{clip}\Big( \frac{1}{1 + \beta_- |\hat A_i|},\; a_l,\; a_h \Big)
    \ \text{ for } \hat A_i < 0

.. math::
    :label: maspo-gate-gate

    F_{i,t} = \exp\Big( -\frac{(\rho_{i,t} - 1)^2}{2 s_{i,t}^2} \Big) \ \text{ where } \hat A_i (\rho_{i,t} - 1) > 0,
    \qquad F_{i,t} = 1 \ \text{ elsewhere}, \qquad s_{i,t} = \sigma^{mass}_{i,t}\, \sigma^{risk}_i

The gate is one half at the distance

.. math::
    :label: maspo-gate-half

    |\rho_{i,t} - 1| = s_{i,t} \sqrt{2 \log 2}

from 1, that is, after a shift in probability proportional to :math:`(\pi^{old})^{1-\alpha}`: for :math:`\alpha = 0` a
region of ratios, for :math:`\alpha = 1` one of shifts. With the default width of 1 a sure token is half gated at a
ratio of 2.2, one of probability 0.01 at 5.7: next to a clip at 1.2 that is hardly a trust region.

**Where implementations differ.** The README's "beta_high" and "beta_low" are the code's "beta_pos" and "beta_neg". In
both a negative advantage enters with its sign, as :math:`1 - \beta_- \hat A_i`. Advantages are taken to be
standardised. The power is computed in logarithms here, so that no old probability underflows.

**Provenance.** Confirmed: formulas, limits and defaults by the authors' README and code (VenomRose-Juri/MASPO-RL,
verl/trainer/ppo/core_algos.py). Derived here and checked: the distance of one half.

Fu et al., *MASPO: Unifying Gradient Utilization, Probability Mass, and Signal Reliability for Robust and
Sample-Efficient LLM Reasoning*, 2026, arXiv:2602.17550.
"""

import math

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Method
from trref.tokens.interfaces import token_objective

__all__ = ["gate_rows", "gate_width", "gaussian_gate", "half_gate_distance", "mass_width", "risk_width"]

OLD = token_objective(without=("log_prob", "advantage", "mask"))
SIGNAL = token_objective(without=("log_prob", "old_log_prob", "mask"))
WIDTH = token_objective(without=("log_prob", "mask"))
GATE = token_objective(without=("mask",))


def _mass_width(old_log_prob, sigma, alpha, sigma_high):
    # eq. maspo-gate-mass
    growth = xp.clip(-alpha * old_log_prob, 0.0, math.log(sigma_high / sigma))
    return sigma * xp.exp(growth)


def _risk_width(advantage, beta_pos, beta_neg, width_low, width_high):
    size = abs(advantage)
    risk = xp.where(advantage < 0, 1 / (1 + beta_neg * size), 1 + beta_pos * size)
    return xp.clip(risk, width_low, width_high)  # eq. maspo-gate-risk


def _check_mass(sigma, alpha, sigma_high):
    validate.interval("[1e-3, inf)", sigma=sigma)
    validate.interval("[0, inf)", alpha=alpha)
    validate.interval(f"[{sigma}, inf)", sigma_high=sigma_high)


def _check_risk(beta_pos, beta_neg, width_low, width_high):
    validate.interval("[0, inf)", beta_pos=beta_pos, beta_neg=beta_neg)
    validate.interval("[1e-3, inf)", width_low=width_low)
    validate.interval(f"[{width_low}, inf)", width_high=width_high)


def mass_width(old_log_prob, *, sigma=1.0, alpha=0.3, sigma_high=10.0):
    """Width of the gate by the old probability of the token: from `sigma` for a sure token to `sigma_high`.

    Parameters
    ----------
    old_log_prob : array (B, T)
        Log-probabilities of the tokens under the sampling policy.
    sigma, sigma_high : float
        Smallest and largest width, at least 1e-3.
    alpha : float
        Exponent, in [0, inf); 0.5 for small models in the paper.

    Returns
    -------
    array (B, T)

    Raises
    ------
    ValueError
        A wrong shape, values that are not finite, numbers out of range.
    """
    validate.inputs(OLD.inputs, old_log_prob)
    _check_mass(sigma, alpha, sigma_high)
    return _mass_width(old_log_prob, sigma, alpha, sigma_high)


def risk_width(advantage, *, beta_pos=0.03, beta_neg=0.03, width_low=0.1, width_high=10.0):
    """Factor on the width by the advantage, which is taken to be of order 1; 1 where the advantage is 0.

    Parameters
    ----------
    advantage : array (B,) or (B, T)
    beta_pos, beta_neg : float
        How fast it grows with positive, and falls with negative advantages, in [0, inf).
    width_low, width_high : float
        Its limits, at least 1e-3.

    Returns
    -------
    array (B,) or (B, T)

    Raises
    ------
    ValueError
        A wrong shape, values that are not finite, numbers out of range.
    """
    validate.inputs(SIGNAL.inputs, advantage)
    _check_risk(beta_pos, beta_neg, width_low, width_high)
    return _risk_width(advantage, beta_pos, beta_neg, width_low, width_high)


def gate_width(old_log_prob, advantage, sigma, alpha, sigma_high, beta_pos, beta_neg, width_low, width_high):
    """Building block, inputs unchecked: check the numbers and return the product of both widths, (B, T)."""
    _check_mass(sigma, alpha, sigma_high)
    _check_risk(beta_pos, beta_neg, width_low, width_high)
    A = advantage[:, None] if advantage.ndim == 1 else advantage
    risk = _risk_width(A, beta_pos, beta_neg, width_low, width_high)
    return _mass_width(old_log_prob, sigma, alpha, sigma_high) * risk


def gate_rows(log_prob, old_log_prob, advantage, width):
    """Building block, unchecked: the gate, where it applies, and ratio - 1, each (B, T)."""
    A = advantage[:, None] if advantage.ndim == 1 else advantage
    moved = xp.expm1(log_prob - old_log_prob)
    away = ((A > 0) & (moved > 0)) | ((A < 0) & (moved < 0))
    return xp.where(away, xp.exp(-((moved / width) ** 2) / 2), 1), away, moved  # eq. maspo-gate-gate


def gaussian_gate(
    log_prob,
    old_log_prob,
    advantage,
    *,
    sigma=1.0,
    alpha=0.3,
    sigma_high=10.0,
    beta_pos=0.03,
    beta_neg=0.03,
    width_low=0.1,
    width_high=10.0,
):
    """Gate of each token: 1 where it returns to the old policy, less the further it has moved away.

    Parameters
    ----------
    log_prob, old_log_prob : array (B, T)
        Log-probabilities of the tokens, under the current and the sampling policy.
    advantage : array (B,) or (B, T)
    sigma, alpha, sigma_high
        As in `mass_width`.
    beta_pos, beta_neg, width_low, width_high
        As in `risk_width`.

    Returns
    -------
    array (B, T), in [0, 1]

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities more than 30 apart, numbers out of range.
    """
    validate.inputs(GATE.inputs, log_prob, old_log_prob, advantage)
    width = gate_width(old_log_prob, advantage, sigma, alpha, sigma_high, beta_pos, beta_neg, width_low, width_high)
    return gate_rows(log_prob, old_log_prob, advantage, width)[0]


def half_gate_distance(
    old_log_prob,
    advantage,
    *,
    sigma=1.0,
    alpha=0.3,
    sigma_high=10.0,
    beta_pos=0.03,
    beta_neg=0.03,
    width_low=0.1,
    width_high=10.0,
):
    """How far from 1 the ratio is when the gate is one half; times the old probability, the shift in probability.

    Parameters
    ----------
    old_log_prob, advantage, sigma, alpha, sigma_high, beta_pos, beta_neg, width_low, width_high
        As in `gaussian_gate`.

    Returns
    -------
    array (B, T)

    Raises
    ------
    ValueError
        As `gaussian_gate`.
    """
    validate.inputs(WIDTH.inputs, old_log_prob, advantage)
    width = gate_width(old_log_prob, advantage, sigma, alpha, sigma_high, beta_pos, beta_neg, width_low, width_high)
    return math.sqrt(2 * math.log(2)) * width  # eq. maspo-gate-half


def _mass_by_cases(old_log_prob, *, sigma=1.0, alpha=0.3, sigma_high=10.0):
    p = [math.exp(min(x, 0.0)) for x in old_log_prob.ravel().tolist()]
    width = [min(sigma / q**alpha, sigma_high) for q in p]
    return xp.array(width).reshape(old_log_prob.shape)


def _risk_by_cases(advantage, *, beta_pos=0.03, beta_neg=0.03, width_low=0.1, width_high=10.0):
    width = [1 + beta_pos * A if A > 0 else 1 / (1 - beta_neg * A) for A in advantage.ravel().tolist()]
    return xp.array([min(max(w, width_low), width_high) for w in width]).reshape(advantage.shape)


def _width_by_cases(old_log_prob, advantage, *, sigma=1.0, alpha=0.3, sigma_high=10.0, **risk):
    mass = _mass_by_cases(old_log_prob, sigma=sigma, alpha=alpha, sigma_high=sigma_high)
    return mass * _risk_by_cases(advantage, **risk).reshape(len(mass), -1)


def _half_by_cases(old_log_prob, advantage, **widths):
    return 1.1774100225154747 * _width_by_cases(old_log_prob, advantage, **widths)


def _gate_by_cases(log_prob, old_log_prob, advantage, **widths):
    width = _width_by_cases(old_log_prob, advantage, **widths)
    A = advantage.reshape(len(width), -1) + 0 * width
    F = xp.ones_like(width)
    for b, t in xp.ndindex(*width.shape):
        ratio = math.exp(log_prob[b, t] - old_log_prob[b, t])
        if (A[b, t] > 0 and ratio > 1) or (A[b, t] < 0 and ratio < 1):
            F[b, t] = math.exp(-((ratio - 1) ** 2) / (2 * width[b, t] ** 2))
    return F


PROBE = {
    "sigma": 0.6,
    "alpha": 0.7,
    "sigma_high": 2.5,
    "beta_pos": 0.4,
    "beta_neg": 0.7,
    "width_low": 0.35,
    "width_high": 1.6,
}
SETTINGS = {"default": {}, "small models": {"alpha": 0.5}, "narrow": {"sigma": 0.2}, "probe": PROBE}
METHOD = Method(
    title="MASPO: Mass-Adaptive Soft Policy Optimization, the gate",
    key="fu2026maspo",
    arxiv="2602.17550",
    provenance={"confirmed": ("mass", "risk", "gate"), "reconstructed": ("half",)},
    functions=(
        Estimator(
            f=mass_width,
            interface=OLD,
            settings={
                "default": {},
                "small models": {"alpha": 0.5},
                "probe": {"sigma": 0.6, "alpha": 0.7, "sigma_high": 2.5},
            },
            brute_force=_mass_by_cases,
        ),
        Estimator(
            f=risk_width,
            interface=SIGNAL,
            settings={
                "default": {},
                "probe": {"beta_pos": 0.4, "beta_neg": 0.7, "width_low": 0.35, "width_high": 1.6},
            },
            brute_force=_risk_by_cases,
        ),
        Estimator(f=gaussian_gate, interface=GATE, settings=SETTINGS, brute_force=_gate_by_cases),
        Estimator(f=half_gate_distance, interface=WIDTH, settings=SETTINGS, brute_force=_half_by_cases),
    ),
)
