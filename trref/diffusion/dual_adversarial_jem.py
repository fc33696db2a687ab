r"""Dual adversarial training: one classifier that resists attacks and generates, trained by attacks of two kinds.

The logits of a classifier define an energy, and so a density without its constant (JEM):

.. math::
    :label: dual-adversarial-jem-energy

    E(x) = -s(x), \qquad s(x) = \log \sum_y e^{f_y(x)}, \qquad \frac{\partial s}{\partial f} = p(\cdot | x) .

Its likelihood would need samples of the model itself. Here the energy is trained to tell data from *contrastive*
samples instead, which are made of unrelated ones by T normalised steps up the logit of a label (or up s),

.. math::
    :label: dual-adversarial-jem-generate

    x \leftarrow \Pi_{[l, h]} \Big( x + \eta\, \frac{g}{\|g\| + 10^{-10}} \Big), \qquad g = \nabla_x f_y(x),

without a bound on how far they go. Both are judged by binary cross-entropy, on N data and M contrastive samples, which
count as constants:

.. math::
    :label: dual-adversarial-jem-contrast

    L_{gen} = \frac{1}{N + M} \Big[ \sum_i \mathrm{softplus}(-s(x_i)) + \sum_j \mathrm{softplus}(s(\tilde x_j)) \Big],

.. math::
    :label: dual-adversarial-jem-gradient

    \frac{\partial L_{gen}}{\partial f(x_i)} = -\frac{\mathrm{sigmoid}(-s(x_i))}{N + M}\, p(\cdot | x_i), \qquad
    \frac{\partial L_{gen}}{\partial f(\tilde x_j)} = \frac{\mathrm{sigmoid}(s(\tilde x_j))}{N + M}\,
    p(\cdot | \tilde x_j) .

The likelihood's gradient has weights of 1 in the place of the sigmoids: here what is told apart well stops pushing,
which keeps the energy from running away. The classes are learned on attacked data, steps up the cross-entropy that
stay in a ball:

.. math::
    :label: dual-adversarial-jem-attack

    x' \leftarrow \Pi_{[l, h]}
    \Big( x + \Pi_{\|\cdot\| \le r} \Big( x' - x + \eta\, \frac{g}{\|g\| + 10^{-10}} \Big) \Big), \qquad
    g = \nabla_x \big( - \log p(y | x') \big),

.. math::
    :label: dual-adversarial-jem-loss

    L = L_{gen} + \frac1N \sum_i - \log p(y_i | x'_i) .

T starts at 0 and grows by 1 whenever contrastive samples have become easy to tell: when the share of pairs in which the
datum has the higher score,

.. math::
    :label: dual-adversarial-jem-separation

    A = \frac{1}{NM} \sum_{ij} [s(x_i) > s(\tilde x_j)] + \tfrac12 [s(x_i) = s(\tilde x_j)],

reaches a threshold :math:`\tau` on average over W rounds, which are counted anew after each increase:

.. math::
    :label: dual-adversarial-jem-schedule

    T_{k+1} = \min(T_k + 1,\; T_{max}) \ \text{ if } \ k - k_{last} \ge W \ \text{ and } \
    \frac1W \sum_{j=k-W+1}^{k} A_j \ge \tau, \qquad T_{k+1} = T_k \ \text{ else, }

with :math:`k_{last}` the round of the last increase. Samples are made afterwards by the same steps, and so are
counterfactuals, from a datum towards another class. They are modes and ridges, not draws from the density. For
contrastive samples of a fixed density q the minimum of :math:`L_{gen}` is :math:`s = \log p_{data}/q` (with N = M), no
log-density. Without steps the method is adversarial training with a detector of unrelated data; without :math:`L_{gen}`
it is adversarial training. Where the gradient is 0 a point rests.

===================  ============
:math:`r`            `radius`
:math:`\eta`         `lr`
T                    `steps`
:math:`l, h`         `low, high`
:math:`\tau`         `threshold`
W                    `window`
:math:`T_{max}`      `most`
===================  ============

**Where implementations differ.** The authors' projection into the ball is PyTorch's ``renorm``, which ends about
:math:`10^{-7}` inside. Their schedule takes A of the logits of labels, not of s (``by="label"``), also where the loss
is that of s. An optional penalty on :math:`\|\nabla_x s\|^2`, of weight 0 in their settings, is not here.

**Provenance.** Partly: losses, attacks, schedule and constants in the authors' code (xuwangyin/DAT, fb2ffc7); the
paper's text was not read. Gradients and the minimum derived here.

Yin et al., *Joint Discriminative-Generative Modeling via Dual Adversarial Training*, 2025, arXiv:2510.13872.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from trref import validate
from trref.adversarial.pgd import in_the_box
from trref.backend import xp
from trref.problems.protocols import ClassifyingLoss
from trref.signature import (
    D,
    FiniteFloat,
    Fraction,
    Index,
    K,
    M,
    N,
    NonNegativeFloat,
    NonNegativeInt,
    P,
    PositiveFloat,
    PositiveInt,
    Prob,
    Real,
    Scalar,
    checked,
)


class ContrastGradients(NamedTuple):
    """Derivatives by the logits of the data and of the contrastive samples."""

    real: Real[N, K]
    contrastive: Real[M, K]


def _log_sum(logits):
    """s and p: the log-sum of exponentials of each row, and its derivative."""
    top = logits.max(1, keepdims=True)
    e = xp.exp(logits - top)
    total = e.sum(1)
    return top[:, 0] + xp.log(total), e / total[:, None]


@checked
def energy(logits: Real[N, K]) -> tuple[Scalar, Real[N, K]]:
    """Mean energy of some samples, and its derivative by their logits.

    Parameters
    ----------
    logits
        Of the classes.
    """
    s, p = _log_sum(logits)
    N = len(logits)
    return -s.sum() / N, -p / N  # eq. dual-adversarial-jem-energy


def _softplus_and_slope(a):
    """Of large numbers, too: log(1 + e^a) and its derivative."""
    e = xp.exp(-abs(a))
    return xp.maximum(a, 0) + xp.log1p(e), xp.where(a > 0, 1, e) / (1 + e)


@checked
def contrast(
    real: Real[N, K], contrastive: Real[M, K]
) -> tuple[Scalar, ContrastGradients]:
    """Binary cross-entropy of data against contrastive samples, by the logits' energy.

    Parameters
    ----------
    real
        Logits of the data.
    contrastive
        Logits of the contrastive samples.

    Returns
    -------
    loss
    gradient
        With respect to `real` and `contrastive`.
    """
    total = len(real) + len(contrastive)
    (s, p), (s_, p_) = _log_sum(real), _log_sum(contrastive)
    missed, up = _softplus_and_slope(-s)
    taken, down = _softplus_and_slope(s_)
    # eq. dual-adversarial-jem-contrast
    loss = (missed.sum() + taken.sum()) / total

    # eq. dual-adversarial-jem-gradient
    gradients = ContrastGradients(-up[:, None] * p / total, down[:, None] * p_ / total)

    return loss, gradients


def _up(score_and_grad, x, lr):
    g = validate.rows(score_and_grad, x)[1]
    return x + lr * g / (xp.sqrt((g * g).sum(1)) + 1e-10)[:, None]


@checked(also=in_the_box)
def generate(
    score_and_grad: Callable,
    x: Real[N, D],
    *,
    steps: NonNegativeInt = 40,
    lr: PositiveFloat = 0.1,
    low: FiniteFloat = 0.0,
    high: FiniteFloat = 1.0,
) -> Real[N, D]:
    """Normalised steps up a score, within the box alone.

    Parameters
    ----------
    score_and_grad
        ``score_and_grad(x) -> (values (N,), gradients (N, D))``, such as `trref.problems.rows.RowScore`, the logit of a
        label.
    x
        Where to start: samples that are no data, or data of another class.
    lr
        Length of a step.
    low, high
        The range of a coordinate.
    """
    x = xp.array(x)
    for _ in range(steps):
        x = xp.clip(
            _up(score_and_grad, x, lr), low, high
        )  # eq. dual-adversarial-jem-generate
    return x


@checked(also=in_the_box)
def attack(
    score_and_grad: Callable,
    x: Real[N, D],
    *,
    radius: NonNegativeFloat = 0.5,
    steps: NonNegativeInt = 10,
    lr: PositiveFloat = 0.1,
    low: FiniteFloat = 0.0,
    high: FiniteFloat = 1.0,
) -> Real[N, D]:
    """Normalised steps up a loss, within a ball around x and the box.

    Parameters
    ----------
    score_and_grad
        Such as `trref.problems.rows.RowLoss`, the cross-entropy.
    x
        Data, one a row.
    """
    point = xp.array(x)
    for _ in range(steps):
        # eq. dual-adversarial-jem-attack
        moved = _up(score_and_grad, point, lr) - x
        length = xp.sqrt((moved * moved).sum(1))[:, None]
        moved = moved * (radius / xp.maximum(length, radius) if radius else 0.0)
        point = xp.clip(x + moved, low, high)

    return point


@checked(
    also=lambda real, contrastive, labels, targets, **_: [
        validate.labels(labels, real.shape[1]),
        validate.labels(targets, real.shape[1], "targets"),
    ]
)
def separation(
    real: Real[N, K],
    contrastive: Real[M, K],
    labels: Index[N],
    targets: Index[M],
    *,
    by: Literal["density", "label"] = "density",
) -> Scalar:
    """Share of pairs in which the datum has the higher score; ties count one half.

    Parameters
    ----------
    labels
        Classes of the data.
    targets
        Classes whose logits the contrastive samples have climbed.
    by
        Whether the score is s, or the logit of the label.
    """
    if by == "density":
        a, b = _log_sum(real)[0], _log_sum(contrastive)[0]
    else:
        a = real[xp.arange(len(real)), labels]
        b = contrastive[xp.arange(len(contrastive)), targets]
    # eq. dual-adversarial-jem-separation
    higher = (a[:, None] > b).astype(real.dtype) + (a[:, None] == b) / 2
    return higher.mean().astype(real.dtype)


@checked
def step_schedule(
    share: Prob[K],
    *,
    threshold: Fraction = 0.8,
    window: PositiveInt = 8,
    most: NonNegativeInt = 40,
) -> Index[K]:
    """How many steps contrastive samples take after each round of training, from 0 on.

    Parameters
    ----------
    share
        The `separation` in each round, in order.
    threshold
        On average, from which on samples take one step more.
    window
        Rounds that are averaged; they begin anew after each increase.
    most
        Steps that are not exceeded.
    """
    # eq. dual-adversarial-jem-schedule
    steps = since = xp.zeros_like(share[0], dtype=int)
    schedule = []
    for k in range(len(share)):
        since = since + 1
        mean = share[max(k + 1 - window, 0) : k + 1].sum() / window
        up = (since >= window) & (mean >= threshold) & (steps < most)
        steps, since = steps + up, xp.where(up, 0, since)
        schedule.append(steps)
    return xp.stack(schedule)


def _logits(name, problem, theta, rows):
    logits = problem.logits(theta)
    validate.array(f"the result of {name}", logits)
    shape = (rows, *logits.shape[1:2])
    return validate.returned(name, logits, shape, finite=True)


def _a_row_a_datum(problem, attacked, **_):
    """Attacked data that are not as many as the data."""
    if attacked.shape != problem.X.shape:
        raise ValueError(
            f"attacked must have shape {tuple(problem.X.shape)}, as the data of problem, not {tuple(attacked.shape)}"
        )
    return []


@checked(also=_a_row_a_datum)
def dual_adversarial_loss(
    problem: ClassifyingLoss,
    theta: Real[P],
    contrastive: Real[M, D],
    attacked: Real[N, D],
) -> tuple[Scalar, Real[P]]:
    """The two losses of one classifier, at samples that were made before and count as constants.

    Parameters
    ----------
    problem
        The data, their classes and the network.
    contrastive
        From `generate`.
    attacked
        From `attack`, with the data's classes.

    Returns
    -------
    loss
    gradient
        With respect to `theta`.
    """
    other, moved = problem.at(contrastive), problem.at(attacked)
    logits = _logits("problem.logits", problem, theta, len(problem.X))
    others = _logits("problem.logits", other, theta, len(contrastive))
    generative, d_logits = contrast.unchecked(logits, others)
    pulls = (
        problem.logits_vjp(theta, d_logits.real),
        other.logits_vjp(theta, d_logits.contrastive),
    )
    for pull in pulls:
        validate.returned("problem.logits_vjp", pull, theta.shape, finite=True)
    classes, d_classes = validate.loss_and_grad(moved, theta, "problem", finite=True)
    # eq. dual-adversarial-jem-loss
    return generative + classes, pulls[0] + pulls[1] + d_classes
