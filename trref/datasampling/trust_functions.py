r"""Trust functions: which labels of a weak teacher to believe.

A weak teacher labels data for a strong student. A small network reads the teacher's hidden state u and predicts whether
its label is right. It learns where the truth is known, the targets being

.. math::
    :label: trust-functions-target

    t_i = [\hat y_i = y_i],

and is used where it is not: the student sees only what is trusted most.

The network normalises by the root mean square, with gains :math:`\gamma`,

.. math::
    :label: trust-functions-norm

    n(u) = \gamma \circ \frac{u}{r}, \qquad r = \sqrt{\tfrac1d \textstyle\sum_j u_j^2 + \epsilon},

passes blocks with a gate, :math:`\text{silu}(a) = a\, \sigma(a)`, each beside the identity,

.. math::
    :label: trust-functions-block

    u' = u + \big[\text{silu}(n(u) A) \circ (n(u) B)\big] C,

and ends in a logit s, whose sigmoid is the trust :math:`\tau`:

.. math::
    :label: trust-functions-head

    s = n(u')^\top w + c, \qquad \tau = \sigma(s)

Right and wrong labels weigh alike in the loss, however rare the one or the other:

.. math::
    :label: trust-functions-loss

    L = \frac{\sum_i w_i \big[\log(1 + e^{s_i}) - t_i s_i\big]}{\sum_i w_i}, \qquad
    w_i = \frac{1}{2\, \text{freq}(t_i)}

.. math::
    :label: trust-functions-loss-gradient

    \frac{\partial L}{\partial s_i} = \frac{w_i\, (\sigma(s_i) - t_i)}{\sum_j w_j}

Through a block, with the cotangent :math:`g` of :math:`u'`, :math:`a = n A`, :math:`b = n B` and
:math:`h = g\, C^\top`:

.. math::
    :label: trust-functions-block-gradient

    \bar n = (h \circ b \circ \text{silu}'(a)) A^\top + (h \circ \text{silu}(a)) B^\top,
    \qquad \bar u = g + n'(u)^\top \bar n

So :math:`\tau` is calibrated to a world in which half of the labels are right: with a constant input the best s is 0,
whatever the rate. At a rate :math:`\pi` it becomes a probability by a shift,

.. math::
    :label: trust-functions-shift

    s \leftarrow s + \log \frac{\pi}{1 - \pi}.

The most trusted share is kept, of all data or of each class by itself, for one threshold may drop whole classes:

.. math::
    :label: trust-functions-select

    \{i : \text{rank}(\tau_i) < m\}

Of equal ones the earlier is kept. Several figures judge the result. *Purity* is the share of right labels among those
kept; the calibration error compares trust and truth in bins b of equal width,

.. math::
    :label: trust-functions-calibration

    \text{ECE} = \sum_b \frac{|b|}{N}\,
    \Big|\frac{1}{|b|} \sum_{i \in b} t_i - \frac{1}{|b|} \sum_{i \in b} \tau_i\Big|, \qquad
    \text{Brier} = \frac1N \sum_i (\tau_i - t_i)^2

and *recovery* says how much of the way from a base to a student with true labels is made, in per cent:

.. math::
    :label: trust-functions-recovery

    R = 100\, \frac{\text{acc} - \text{acc}_{\text{base}}}{\text{acc}_{\text{true}} - \text{acc}_{\text{base}}}

Where all targets are equal all weights are. A bin includes its lower end, the last one both ends.

**Where implementations differ.** A mean without weights is what a loss does that is told nothing of classes: then trust
is calibrated to the rate of the source data.

**Provenance.** Partly: the pipeline, the kind of network, the weights, the selection and the figures are confirmed by
published notes on the paper; widths and thresholds are not known. The equations of the blocks are their usual forms,
and the gradients are derived and checked here. Dropout and stochastic depth are left out.

Uzunoglu and co-authors, *Trust Functions: Near-Lossless Weak-to-Strong Generalization by Learning When to Trust the
Weak Teacher*, 2026, arXiv:2606.01000.
"""

import math
from typing import Literal, NamedTuple

from trref.backend import special, xp
from trref.nn import norm
from trref.nn.losses import binary_cross_entropy
from trref.signature import (
    Binary,
    D,
    Fraction,
    H,
    Index,
    L,
    N,
    OpenFraction,
    PositiveFloat,
    PositiveInt,
    Prob,
    Real,
    Scalar,
    checked,
)


class Gradient(NamedTuple):
    """Derivatives by the parameters of the network."""

    gains: Real[L, D]
    A: Real[L, D, H]
    B: Real[L, D, H]
    C: Real[L, H, D]
    last_gain: Real[D]
    w: Real[D]
    c: Scalar


@checked
def correctness(
    answers: Index[N],
    labels: Index[N],
    *,
    dtype: Literal["float64", "float32"] = "float64",
) -> Binary[N]:
    """1 where the teacher is right.

    Parameters
    ----------
    answers
        The teacher's.
    labels
        The truth.
    """
    return (answers == labels).astype(dtype)  # eq. trust-functions-target


@checked
def trust_logits(
    hidden: Real[N, D],
    gains: Real[L, D],
    A: Real[L, D, H],
    B: Real[L, D, H],
    C: Real[L, H, D],
    last_gain: Real[D],
    w: Real[D],
    c: Scalar,
    *,
    eps: PositiveFloat = 1e-6,
) -> Real[N]:
    """Logits of the trust in each label.

    Parameters
    ----------
    hidden
        The teacher's hidden states.
    gains
        Of the normalisation before each of L blocks.
    A, B, C
        The blocks' matrices: gate, value, and back.
    last_gain
        Of the normalisation before the head.
    w, c
        The head.
    eps
        Added to the mean square.
    """
    return _forward(hidden, gains, A, B, C, last_gain, w, c, eps)[0]


def _forward(u, gains, A, B, C, last_gain, w, c, eps):
    """The logits, and the inputs of all blocks and of the head."""
    inputs = [u]
    for gain, Al, Bl, Cl in zip(gains, A, B, C, strict=True):
        n = norm.rms_norm(u, gain, eps=eps)  # eq. trust-functions-norm
        gate = n @ Al
        # eq. trust-functions-block
        u = u + (gate * special.expit(gate) * (n @ Bl)) @ Cl
        inputs.append(u)
    s = norm.rms_norm(u, last_gain, eps=eps) @ w + c  # eq. trust-functions-head
    return s, inputs


@checked
def balanced_loss(logits: Real[N], targets: Binary[N]) -> tuple[Scalar, Real[N]]:
    """Cross-entropy in which right and wrong labels weigh alike.

    Parameters
    ----------
    logits
        Of the trust.
    targets
        1 where the label is right.
    """
    rate = targets.mean()
    # eq. trust-functions-loss, trust-functions-loss-gradient
    frequency = xp.where(targets == 1, rate, 1 - rate)
    return binary_cross_entropy(logits, targets, 1 / (2 * frequency))


@checked
def trust_objective(
    hidden: Real[N, D],
    targets: Binary[N],
    gains: Real[L, D],
    A: Real[L, D, H],
    B: Real[L, D, H],
    C: Real[L, H, D],
    last_gain: Real[D],
    w: Real[D],
    c: Scalar,
    *,
    eps: PositiveFloat = 1e-6,
) -> tuple[Scalar, Gradient]:
    """The balanced loss of the network, and its gradient.

    Returns
    -------
    loss
    gradient
        With respect to `gains`, `A`, `B`, `C`, `last_gain`, `w` and `c`.
    """
    s, inputs = _forward(hidden, gains, A, B, C, last_gain, w, c, eps)
    value, ds = balanced_loss.unchecked(s, targets)
    top = inputs.pop()
    n = norm.rms_norm(top, last_gain, eps=eps)
    g, d_last = norm.rms_norm_vjp(top, last_gain, ds[:, None] * w, eps=eps)
    blocks = []
    # eq. trust-functions-block-gradient
    for u, gain, Al, Bl, Cl in reversed(list(zip(inputs, gains, A, B, C, strict=True))):
        m = norm.rms_norm(u, gain, eps=eps)
        a, b, h = m @ Al, m @ Bl, g @ Cl.T
        p = special.expit(a)
        da, db = h * b * p * (1 + a * (1 - p)), h * a * p
        du, d_gain = norm.rms_norm_vjp(u, gain, da @ Al.T + db @ Bl.T, eps=eps)
        blocks.append((d_gain, m.T @ da, m.T @ db, (a * p * b).T @ g))
        g = g + du

    gains, dA, dB, dC = (xp.stack(part) for part in zip(*reversed(blocks), strict=True))
    return value, Gradient(gains, dA, dB, dC, d_last, n.T @ ds, ds.sum())


@checked
def calibration_shift(logits: Real[N], *, prior: OpenFraction) -> Real[N]:
    """Logits for a world in which labels are right at another rate than a half.

    Parameters
    ----------
    prior
        That rate.
    """
    return logits + math.log(prior / (1 - prior))  # eq. trust-functions-shift


@checked
def select(
    trust: Real[N], group: Index[N] | None = None, *, share: Fraction = 0.5
) -> Binary[N]:
    """1 for the most trusted, of all or of each group.

    Parameters
    ----------
    trust
        High where a label is to be believed: the logits will do.
    group
        The class that the teacher answers; all together if None.
    share
        How many are kept, at least one.
    """
    N = len(trust)
    group = xp.zeros(N) if group is None else group
    same = group[:, None] == group
    place = xp.arange(N)
    ahead = (trust > trust[:, None]) | (
        (trust == trust[:, None]) & (place < place[:, None])
    )
    rank = (same & ahead).sum(1)
    m = xp.maximum(xp.rint(share * same.sum(1)), 1)
    return (rank < m).astype(trust.dtype)  # eq. trust-functions-select


@checked
def calibration_error(
    trust: Prob[N], targets: Binary[N], *, bins: PositiveInt = 10
) -> tuple[Scalar, Scalar]:
    """Two figures of how well trust is a probability.

    Parameters
    ----------
    trust
        Probabilities that the labels are right.
    bins
        Of equal width.

    Returns
    -------
    error
        The expected calibration error.
    brier
        The mean squared difference.
    """
    where = xp.minimum(xp.floor(trust * bins), bins - 1)
    inside = (where == xp.arange(bins, dtype=trust.dtype)[:, None]).astype(trust.dtype)
    # eq. trust-functions-calibration
    error = abs(inside @ (targets - trust)).sum() / len(trust)
    brier = ((trust - targets) ** 2).mean()

    return error, brier


def _some_way(base, ceiling, **_):
    """A base that is as good as the truth."""
    return [(lambda: (base != ceiling).all(), "base and ceiling must differ")]


@checked(also=_some_way)
def recovery(accuracy: Prob[N], base: Prob[N], ceiling: Prob[N]) -> Real[N]:
    """How much of the way from a base to the truth is made, in per cent; more than 100 is possible.

    Parameters
    ----------
    accuracy
        Of the student in each of N runs.
    base
        Of a student without the weak labels.
    ceiling
        Of a student with true labels.
    """
    # eq. trust-functions-recovery
    return 100 * (accuracy - base) / (ceiling - base)
