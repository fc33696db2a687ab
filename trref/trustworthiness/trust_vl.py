r"""TRUST-VL: one detector for several kinds of misinformation, told by a question what to look for.

News can be false in the image, in the text, or in that both do not belong together. One detector for all of them reads
the image under a question that names the kind: the queries of :mod:`trref.trustworthiness.question_attention`, whose
vectors :math:`Z_i` a language model would read beside the ordinary patches. Here a small head stands for it,

.. math::
    :label: trust-vl-head

    \ell_i = \frac1R \sum_r Z_{ir}\, W_c + b_c,

with the cross-entropy over all questions jointly, a table of learned tokens for each kind k of question,

.. math::
    :label: trust-vl-loss

    L = -\frac1N \sum_i \log \text{softmax}(\ell_i)_{y_i}, \qquad T_i = E_{k_i},

and the derivative by the queries, the table, the attention's weights and the head,

.. math::
    :label: trust-vl-gradient

    d\ell_i = \frac1N (\text{softmax}(\ell_i) - e_{y_i}), \qquad dZ_{ir} = \frac1R\, d\ell_i\, W_c^\top, \qquad
    dE_k = \sum_{i: k_i = k} dT_i .

Judged is the mean over the classes of their harmonic means of precision and recall,

.. math::
    :label: trust-vl-f1

    F_1 = \frac1C \sum_c \frac{2\, \text{TP}_c}{2\, \text{TP}_c + \text{FP}_c + \text{FN}_c},

in which a class that is neither there nor predicted counts 0. A detector that does not see the question gives one
answer to all kinds; the kind that it is told is privileged information, and the general question is the honest test.

``theta`` holds the queries, the table, the attention's weights and the head in one vector, in this order.

**What is outside.** The encoders, the language model and its explanations, the retrieval of evidence, three stages of
training; the gains on manipulated faces are theirs.

**Where implementations differ.** scikit-learn leaves classes out of its mean that neither occur nor are predicted,
unless it is told all labels.

**Provenance.** The question by kind, its place and the scores are confirmed in the authors' code and in a summary of
the paper; the small head is this page's.

Yan, Qi, Hsu and Lee, *TRUST-VL: An Explainable News Assistant for General Multimodal Misinformation Detection*, 2025,
arXiv:2509.04448.
"""

from typing import Literal

from trref import validate
from trref.backend import xp
from trref.nn import flat
from trref.nn.heads import one_hot
from trref.nn.losses import softmax_cross_entropy
from trref.signature import (
    Index,
    Mask,
    N,
    P,
    PositiveInt,
    Q,
    Real,
    Scalar,
    V,
    checked,
)
from trref.trustworthiness.question_attention import (
    layout,
    question_attention,
    question_attention_vjp,
)


def detector_shapes(
    *, vision, dim, queries, tokens, kinds, hidden, layers, width, classes
):
    """Return the shapes of the queries, the table, the attention's weights and the head.

    Parameters
    ----------
    vision, dim, hidden, layers, width : int
        As in `trref.trustworthiness.question_attention.layout`.
    queries, tokens, kinds, classes : int
        R, L, K and C.
    """
    reads = layout(
        dim=dim,
        vision=vision,
        tokens=tokens,
        hidden=hidden,
        layers=layers,
        width=width,
    )
    inner = flat.size(list(reads.values()))
    return [
        (queries, dim),
        (kinds, tokens, dim),
        (inner,),
        (width, classes),
        (classes,),
    ]


def _fits(theta, patches, kind, labels, mask, heads, **sizes):
    """Weights of another number; a kind or a label that there is not; an image without patches."""
    if sizes["dim"] % heads:
        raise ValueError(f"heads must divide dim = {sizes['dim']}, not be {heads}")
    size = flat.size(detector_shapes(vision=patches.shape[2], **sizes))
    if len(theta) != size:
        raise ValueError(f"theta must have {size} entries, not {len(theta)}")
    flags = [
        (lambda: abs(theta).max() <= 1000, "theta must be at most 1000 in size"),
        validate.labels(kind, sizes["kinds"], "kind"),
        validate.labels(labels, sizes["classes"]),
    ]
    if mask is not None:
        message = "mask must leave a patch of each image"
        flags.append((lambda: mask.max(1).min() > 0, message))
    return flags


@checked(also=_fits)
def detector_loss(
    theta: Real[Q],
    patches: Real[N, P, V],
    kind: Index[N],
    labels: Index[N],
    mask: Mask[N, P] | None = None,
    *,
    dim: PositiveInt,
    queries: PositiveInt,
    tokens: PositiveInt,
    kinds: PositiveInt,
    heads: PositiveInt,
    hidden: PositiveInt,
    layers: PositiveInt,
    width: PositiveInt,
    classes: PositiveInt,
) -> tuple[Scalar, Real[Q]]:
    """Cross-entropy of a detector that reads images under questions.

    Parameters
    ----------
    patches
        P patches of each of N images.
    kind
        Of question, for each image.
    labels
        The verdicts.
    mask
        0 where a patch is padding.
    dim
        Length of queries and tokens.
    queries
        How many.
    tokens
        Of a question.
    kinds
        Of questions.
    heads
        Of attention.
    hidden
        Of the networks in the layers.
    layers
        Of the attention.
    width
        Of what it returns.
    classes
        Of verdicts.
    """
    sizes = {"hidden": hidden, "layers": layers, "width": width}
    shapes = detector_shapes(
        vision=patches.shape[2],
        dim=dim,
        queries=queries,
        tokens=tokens,
        kinds=kinds,
        classes=classes,
        **sizes,
    )
    asking, table, inner, W, b = flat.split(theta, shapes)
    question = table[kind]
    Z = question_attention.unchecked(
        asking, patches, inner, question, mask, heads=heads, **sizes
    )
    pooled = Z.mean(1)
    logits = pooled @ W + b  # eq. trust-vl-head
    loss, d_logits = softmax_cross_entropy(logits, labels)  # eq. trust-vl-loss

    # eq. trust-vl-gradient
    d_Z = xp.zeros_like(Z) + (d_logits @ W.T / queries)[:, None]
    by = question_attention_vjp.unchecked(
        asking, patches, inner, question, mask, cotangent=d_Z, heads=heads, **sizes
    )
    member = one_hot(kind, kinds, theta.dtype)
    d_table = xp.einsum("nk,nld->kld", member, by.question)
    parts = [by.queries, d_table, by.theta, pooled.T @ d_logits, d_logits.sum(0)]
    return loss, flat.join(parts)


def _verdicts(predicted, labels, classes, **_):
    """A verdict that there is not."""
    return [
        validate.labels(predicted, classes, "predicted"),
        validate.labels(labels, classes),
    ]


@checked(also=_verdicts)
def macro_f1(
    predicted: Index[N],
    labels: Index[N],
    *,
    classes: PositiveInt,
    dtype: Literal["float64", "float32"] = "float64",
) -> Scalar:
    """Mean over the classes of their F1.

    Parameters
    ----------
    predicted
        The verdicts that are given.
    labels
        The right ones.
    """
    said, true = one_hot(predicted, classes, dtype), one_hot(labels, classes, dtype)
    both = (said * true).sum(0)
    # eq. trust-vl-f1
    return (2 * both / xp.maximum(said.sum(0) + true.sum(0), 1)).mean()
