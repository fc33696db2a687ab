r"""Fibration policy optimisation (FiberPO): gate the drift of the answer, clip the tokens around it.

A token clip does not see that a whole answer drifts; a sequence clip does not see which tokens do. FiberPO splits the
log-ratio of every token into the answer's mean drift and the deviation from it, gates the first, clips the second, and
multiplies the two. With :math:`x_t = \log\pi_t - \log\pi^{old}_t` of an answer of T tokens, drift has two channels,

.. math::
    :label: fiberpo-channels

    \log s^+ = \frac1T \sum_t \max(x_t, 0), \qquad \log s^- = \frac1T \sum_t \max(-x_t, 0)

both divided by T. A channel has a budget C: it first passes, then rolls back, then is switched off,

.. math::
    :label: fiberpo-gate

    g(x, C, T) = \begin{cases} x & |x| \le C \\ \mathrm{sign}(x)(T + 1) C - T x & C < |x| < (1 + \tfrac1T) C \\
    0 & \text{beyond} \end{cases}

continuously, with slopes 1, -T, 0. The base and, with :math:`l_t = 1` where :math:`x_t \ge 0` and -1 elsewhere, the
residual of each token are

.. math::
    :label: fiberpo-base

    b = g(\log s^+, C^+, T) - g(\log s^-, C^-, T)

.. math::
    :label: fiberpo-residual

    e_t = \mathrm{clip}(x_t - l_t \log s^{(l_t)}, \pm\epsilon) - \mathrm{clip}(-l_t \log s^{(-l_t)}, \pm\epsilon)

.. math::
    :label: fiberpo-objective

    J = \frac1B \sum_i \frac1{|y_i|} \sum_t m_{i,t}\, G_{i,t} \hat A_{i,t}, \qquad \log G_{i,t} = b_i + e_{i,t}

Nothing saturated, :math:`\log G_t = x_t` exactly: near the old policy this is the ordinary importance ratio. There is
no minimum as in GRPO. With :math:`I_i = [\,|x_i - l_i \log s^{(l_i)}| < \epsilon]`,
:math:`\tilde I_i = [\log s^{(-l_i)} < \epsilon]` and :math:`g'_\pm` the slopes of the two gates,

.. math::
    :label: fiberpo-jacobian

    \frac{\partial \log G_i}{\partial x_j} = \frac{g'_{l_j}}{T} + I_i \Big( \delta_{ij} - \frac{[l_i = l_j]}T \Big)
    - \tilde I_i \frac{[l_i \ne l_j]}T

within an answer, and 0 between answers. The sums over i cost O(T). How many answers of a batch pass, roll back and are
switched off, channel by channel, is

.. math::
    :label: fiberpo-regimes

    \big[\log s \le C\big], \qquad \big[C < \log s < (1 + \tfrac1T) C\big], \qquad \big[(1 + \tfrac1T) C \le \log s\big]

:math:`C^- < C^+` is recommended, as :math:`\log s^- - \log s^+` estimates a divergence, so that the lower channel
drifts faster; and :math:`\epsilon \ll C^+ + C^-`. The rollback zone has width C/T: for long answers a step can jump
over it.

**Where implementations differ.** A label of 0 at :math:`x_t = 0` would lose gradients on fresh samples. The
reproduction alphadl/FibrationPO clips the mean log-ratio (no channels, no rollback) and takes the residual from the
clipped mean.

**Provenance.** Confirmed: definitions and Jacobian by the full text (version 1). The paper has no training run; its
thresholds are those of figures, the defaults here are of the order of one inner loop's mean :math:`|x|`.

Li, Tsu, Zhang, Xue and He, *Fibration Policy Optimization*, 2026, arXiv:2603.08239.
"""

from trref import validate
from trref.backend import xp
from trref.catalog import Estimator, Limit, Method, Objective
from trref.catalog.tokens.places import REINFORCE_OVER_ANSWERS, one_advantage
from trref.tokens.deviations import fiberpo as deviations
from trref.tokens.interfaces import TOKEN_OBJECTIVE, token_objective
from trref.tokens.terms import token_weights

__all__ = [
    "aggregate_gate",
    "fiber_residual",
    "fiberpo",
    "gate_regimes",
    "residual_pullback",
    "sign_channels",
    "uneven",
]

RATIOS = token_objective(without=("advantage",))


def sign_channels(x, mask):
    """Building block, unchecked: the drift upwards and downwards of each answer, and its length, each (B, 1).

    Parameters
    ----------
    x : array (B, T)
        Log-ratios, 0 where the mask is 0.
    mask : array (B, T), 0 or 1
    """
    T = xp.maximum(mask.sum(1, keepdims=True), 1)
    up, down = (xp.maximum(s, 0).sum(1, keepdims=True) / T for s in (x, -x))  # eq. fiberpo-channels
    return up, down, T


def aggregate_gate(x, C, T):
    """Building block, unchecked: the gated aggregate and its slope; arrays of one shape."""
    # eq. fiberpo-gate
    size = abs(x)
    passes, rolls = size <= C, (C < size) & (size < (1 + 1 / T) * C)
    value = xp.where(passes, x, xp.where(rolls, xp.sign(x) * (T + 1) * C - T * x, 0))
    return value, xp.where(passes, 1, xp.where(rolls, -T, 0))


def fiber_residual(x, up, down, clip):
    """Building block, unchecked: the tokens' residuals (B, T), and where its two parts are not clipped, 0 or 1.

    Parameters
    ----------
    x : array (B, T)
    up, down : array (B, 1)
        As of `sign_channels`.
    clip : float
    """
    # eq. fiberpo-residual
    own = xp.where(x >= 0, x - up, x + down)
    other = xp.where(x >= 0, -down, up)
    value = xp.clip(own, -clip, clip) - xp.clip(other, -clip, clip)
    return value, (abs(own) < clip).astype(x.dtype), (abs(other) < clip).astype(x.dtype)


def residual_pullback(cotangent, x, T, own, other):
    """Building block, unchecked: cotangents of the residuals (B, T), taken to the log-ratios."""
    rises = (x >= 0).astype(x.dtype)

    def of_each_label(values):
        plus, minus = (values * rises).sum(1, keepdims=True), (values * (1 - rises)).sum(1, keepdims=True)
        return xp.where(x >= 0, plus, minus), xp.where(x >= 0, minus, plus)

    same, _ = of_each_label(cotangent * own)
    _, opposite = of_each_label(cotangent * other)
    return cotangent * own - (same + opposite) / T


def fiberpo(log_prob, old_log_prob, advantage, mask, *, budget_up=0.3, budget_down=0.25, clip=0.2):
    """FiberPO loss.

    Parameters
    ----------
    log_prob, old_log_prob : array (B, T)
        Log-probabilities of the tokens, under the current and the sampling policy.
    advantage : array (B,) or (B, T)
        As of `trref.tokens.grpo.group_advantage`.
    mask : array (B, T), 0 or 1
        The tokens of the answers.
    budget_up, budget_down : float
        Of an answer's mean drift in nats: C of the two channels, in (0, inf).
    clip : float
        ε, by which a token's log-ratio may deviate from the drift, in (0, inf).

    Returns
    -------
    loss : scalar array
        To minimise.
    gradient : array (B, T)
        With respect to `log_prob`; exactly 0 where the mask is 0. At a log-ratio of 0, the derivative to the right.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities more than 30 apart, numbers out of range.
    """
    validate.inputs(TOKEN_OBJECTIVE.inputs, log_prob, old_log_prob, advantage, mask)
    validate.interval("(0, inf)", budget_up=budget_up, budget_down=budget_down, clip=clip)
    x = mask * (log_prob - old_log_prob)
    up, down, T = sign_channels(x, mask)
    (base_up, slope_up), (base_down, slope_down) = (
        aggregate_gate(up, budget_up, T),
        aggregate_gate(down, budget_down, T),
    )
    base = base_up - base_down  # eq. fiberpo-base
    residual, own, other = fiber_residual(x, up, down, clip)
    A = advantage[:, None] if advantage.ndim == 1 else advantage
    terms = token_weights(mask, "seq_mean") * xp.exp(base + residual) * A
    J = terms.sum()  # eq. fiberpo-objective

    # eq. fiberpo-jacobian
    through_base = xp.where(x >= 0, slope_up, slope_down) / T * terms.sum(1, keepdims=True)
    gradient = mask * (through_base + residual_pullback(terms, x, T, own, other))
    return -J, -gradient


def gate_regimes(log_prob, old_log_prob, mask, *, budget_up=0.3, budget_down=0.25):
    """Which shares of the answers pass, roll back and are switched off, by channel.

    Parameters
    ----------
    log_prob, old_log_prob, mask, budget_up, budget_down
        As in `fiberpo`.

    Returns
    -------
    array (2, 3)
        First row: the channel upwards.

    Raises
    ------
    ValueError
        As `fiberpo`.
    """
    validate.inputs(RATIOS.inputs, log_prob, old_log_prob, mask)
    validate.interval("(0, inf)", budget_up=budget_up, budget_down=budget_down)
    up, down, T = sign_channels(mask * (log_prob - old_log_prob), mask)
    shares = []
    for drift, C in ((up, budget_up), (down, budget_down)):
        off = drift >= (1 + 1 / T) * C
        shares += [r[:, 0] for r in (drift <= C, (drift > C) & ~off, off)]  # eq. fiberpo-regimes
    return xp.stack(shares).astype(log_prob.dtype).mean(1).reshape(2, 3)


def _regimes_by_loops(log_prob, old_log_prob, mask, *, budget_up=0.3, budget_down=0.25):
    counts = [[0, 0, 0], [0, 0, 0]]
    for row, m in zip((log_prob - old_log_prob).tolist(), mask.tolist(), strict=True):
        x = [v for v, kept in zip(row, m, strict=True) if kept]
        T = max(len(x), 1)
        for channel, (sign, C) in enumerate(((1, budget_up), (-1, budget_down))):
            drift = sum(max(sign * v, 0) for v in x) / T
            counts[channel][0 if drift <= C else 1 if drift < (1 + 1 / T) * C else 2] += 1
    return [[n / len(mask) for n in channel] for channel in counts]


def uneven(edges):
    """Building block: edge cases in which equal answers of opposite advantage don't cancel to rounding errors."""

    def make(edge):
        batch = edge()
        growth = 1 + 0.125 * xp.arange(len(batch["mask"]))
        return {**batch, "advantage": (batch["advantage"].T * growth).T}

    return {name: lambda edge=edge: make(edge) for name, edge in edges.items()}


def _one_advantage_an_answer(inputs):
    """one advantage an answer, no token just at the drift"""
    columns = xp.arange(inputs["mask"].shape[1])
    return {**one_advantage(inputs), "log_prob": inputs["log_prob"] - 0.01 * columns**2}


OPEN = {"budget_up": 1e3, "budget_down": 1e3, "clip": 1e3}
UNCLIPPED = {"clip_low": 1e14, "clip_high": 1e14}
METHOD = Method(
    key="li2026fibration",
    provenance="confirmed",
    functions=(
        Objective(
            f=fiberpo,
            interface=TOKEN_OBJECTIVE,
            edges=uneven(TOKEN_OBJECTIVE.edges),
            wrt="log_prob",
            settings={
                "default": {},
                "of a figure": {"budget_up": 0.12, "budget_down": 0.05, "clip": 0.04},
                "probe": {"budget_up": 0.6, "budget_down": 0.4, "clip": 0.35},
            },
            limits=(
                Limit("grpo.grpo", OPEN, {"clip": 1e14}),
                Limit("gspo.gspo", {**OPEN, "clip": 1e-13}, UNCLIPPED, where=_one_advantage_an_answer),
                REINFORCE_OVER_ANSWERS,
            ),
            deviations=(deviations.BASE_CLIPPED,),
        ),
        Estimator(
            f=gate_regimes,
            interface=RATIOS,
            settings={"default": {}, "probe": {"budget_up": 0.1, "budget_down": 0.05}},
            brute_force=_regimes_by_loops,
        ),
    ),
)
