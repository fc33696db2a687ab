r"""TROLL: project each token's distribution onto a KL ball, and differentiate through the projection.

What differs from GRPO: no clip. Where the new distribution :math:`p` of a token is further than :math:`\varepsilon`
from the old one :math:`q`, the ratio is that of its projection :math:`\tilde\pi` onto the ball
:math:`KL(\cdot \| q) \le \varepsilon` (:mod:`trref.tokens.kl_projection`), and the gradient goes through the
projection. A second term pulls the raw policy to its own projection, which is held constant:

.. math::
    :label: troll-objective

    J = \frac1{\sum |y_j|} \sum_{i,t} m_{i,t} \Big[ \frac{\tilde\pi(y)}{q(y)}\, \hat A
    - \alpha\, KL\big(p \,\|\, \mathrm{sg}[\tilde\pi]\big) \Big]

.. math::
    :label: troll-parts

    v = \frac{\tilde\pi(y)}{q(y)} \hat A\, (e_y - \tilde\pi), \qquad
    \frac{\partial KL(p \| \mathrm{sg}[\tilde\pi])}{\partial z}
    = p \odot \Big( \log \frac p{\tilde\pi} - KL(p \| \tilde\pi) \Big)

At scale only the likely tokens of a row are kept: :mod:`trref.tokens.troll_sparse`.

**Where implementations differ.** A public port (the TRPL loss of a prime-rl fork) detaches the projected ratio and
takes the gradient of the raw log-probability. Holding :math:`\eta` constant drops the second term of the gradient, and
is biased. A public note exchanges old and new in the projection: then :math:`\eta \to \infty` gives the new policy. The
projection is continuous at the ball's surface, its gradient is not.

**Provenance.** Confirmed by the authors' project page: projection, root, objective, defaults. The closed-form gradient
is derived here (the page mentions one without printing it) and checked.

Becker, Freymuth et al., *TROLL: Trust Regions improve Reinforcement Learning for Large Language Models*, 2025,
arXiv:2510.03817.
"""

from trref import validate
from trref.backend import xp
from trref.catalog import Input, Limit, Method, Objective
from trref.nn.heads import log_softmax, one_hot
from trref.tokens.deviations import troll as deviations
from trref.tokens.interfaces import FULL_DISTRIBUTION
from trref.tokens.kl_projection import project_kl, project_rows, pull_back
from trref.tokens.terms import near, token_weights

__all__ = ["row_terms", "troll"]

WITH_TARGET = {**FULL_DISTRIBUTION.inputs, "projection": Input("B T V", optional=True)}


def row_terms(log_p, log_q, e, A, radius, alpha, projection=None):
    """Building block, unchecked: each row's term of the objective, and its derivative in the logits of p.

    Parameters
    ----------
    log_p, log_q : array (B, T, V)
    e : array (B, T, V)
        1 on the sampled token, else 0.
    A : array (B, T) or (B, 1)
    radius, alpha, projection
        As in `troll`.

    Returns
    -------
    term : array (B, T)
        To maximise.
    derivative : array (B, T, V)
    """
    projected = project_rows(log_p, log_q, radius)
    target = projected.log_prob if projection is None else projection
    ratio = xp.exp(((projected.log_prob - log_q) * e).sum(-1))
    p, gap = xp.exp(log_p), log_p - target
    kl = (p * gap).sum(-1)
    # eq. troll-parts
    v = (ratio * A)[..., None] * (e - xp.exp(projected.log_prob))
    derivative = pull_back(log_p, log_q, projected, v) - alpha * p * (gap - kl[..., None])

    return ratio * A - alpha * kl, derivative


def troll(logits, old_logits, actions, advantage, mask, *, radius=0.05, alpha=1.0, projection=None):
    """TROLL loss: the mean over all tokens.

    Parameters
    ----------
    logits, old_logits : array (B, T, V)
        Of the current and the sampling policy.
    actions : array (B, T), integer below V
        The tokens.
    advantage : array (B,) or (B, T)
        As of `trref.tokens.grpo.group_advantage`.
    mask : array (B, T), 0 or 1
    radius : float
        Of the trust region, in nats, in (0, inf).
    alpha : float
        Weight of the pull to the projection, in [0, inf).
    projection : array (B, T, V), optional
        Log-probabilities that the policy is pulled to, held constant; those of `project_kl` if not given.

    Returns
    -------
    loss : scalar array
        To minimise.
    gradient : array (B, T, V)
        With respect to `logits`; exactly 0 where the mask is 0.

    Raises
    ------
    ValueError
        Shapes that differ, values that are not finite, log-probabilities more than 30 apart, actions or numbers out of
        range.
    """
    _, flags = validate.deferred(WITH_TARGET, logits, old_logits, actions, advantage, mask, projection)
    known = (lambda: (actions < logits.shape[-1]).all(), "actions must be below the last length of logits")
    validate.require(*flags, known, *near(logits, old_logits))
    validate.interval("(0, inf)", radius=radius)
    validate.interval("[0, inf)", alpha=alpha)
    A = advantage[:, None] if advantage.ndim == 1 else advantage
    w, e = token_weights(mask, "token_mean"), one_hot(actions, logits.shape[-1], logits.dtype)
    terms, derivative = row_terms(log_softmax(logits), log_softmax(old_logits), e, A, radius, alpha, projection)
    return -(w * terms).sum(), -w[..., None] * derivative  # eq. troll-objective


def _on_policy(inputs):
    """the policies are equal"""
    return {**inputs, "logits": inputs["old_logits"]}


METHOD = Method(
    key="becker2025troll",
    provenance={"confirmed": ("objective",), "reconstructed": ("parts",)},
    functions=(
        Objective(
            f=troll,
            interface=FULL_DISTRIBUTION,
            wrt="logits",
            stopped={"projection": project_kl},
            settings={"default": {}, "probe": {"radius": 0.3, "alpha": 0.4}},
            limits=(
                Limit("tre.tre", {"radius": 100.0}, {"clip": 1e14, "coefficient": 0.0}),
                Limit("tre.tre", {}, {"coefficient": 0.0}, where=_on_policy),
            ),
            deviations=(deviations.MULTIPLIER_CONSTANT, deviations.PROJECTED_RATIO_DETACHED),
        ),
    ),
)
