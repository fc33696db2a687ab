r"""Question-aware attention: a few learned queries that read a question first, and the image then.

TRUST-VL's amplifier (QAVA) is a Q-Former: R learned query vectors Q, the tokens T of a question and the patches V of an
image give R vectors that say of the image what the question asks. Everything is normalised per row,

.. math::
    :label: question-attention-norm

    \text{LN}(x) = \gamma \circ \frac{x - \bar x}{\sqrt{\text{var}(x) + \epsilon}} + \beta, \qquad \epsilon = 10^{-12},

and read by attention in H heads of :math:`d = D/H` columns each,

.. math::
    :label: question-attention-heads

    A_h = \text{softmax}\Big( \frac{q_h k_h^\top}{\sqrt d} \Big), \quad
    \text{Attn}(X, Y) = [A_1 v_1, \dots, A_H v_H]\, W_o + b_o, \qquad
    q = X W_q + b_q,\ k = Y W_k + b_k,\ v = Y W_v + b_v,

with minus infinity in place of the score of a key that is masked. The sequence begins as

.. math::
    :label: question-attention-embedded

    S = \text{LN}([Q;\ T + \text{positions}]),

without positions for the queries, and passes layers. In each, queries *and* question tokens read all of both,

.. math::
    :label: question-attention-self

    S \leftarrow \text{LN}\big( S + \text{Attn}(S, S) \big),

in every second layer, from the first on, the query rows alone read the image,

.. math::
    :label: question-attention-cross

    S_Q \leftarrow \text{LN}\big( S_Q + \text{Attn}(S_Q, \text{LN}_v(V)) \big),

and each row goes through a network of one hidden layer, with other weights for query rows than for the question's:

.. math::
    :label: question-attention-feed

    S \leftarrow \text{LN}\big( S + \text{gelu}(S W_1 + b_1)\, W_2 + b_2 \big)

The query rows, in the width of the language model, are the result:

.. math::
    :label: question-attention-output

    Z = S_Q W_{lm} + b_{lm}

Derivatives run backwards through the same steps, with

.. math::
    :label: question-attention-gradient

    d\text{scores} = A \circ \big( dA - \langle dA, A \rangle \big), \qquad
    dx = \tfrac1\sigma \big( g - \bar g - \hat x\, \overline{g \hat x} \big), \quad g = dy \circ \gamma .

The question reaches the result through self-attention only, and patches have no order: permuting them with their mask
changes nothing, permuting queries permutes Z. Queries that are equal at the start stay equal for ever. Without a
question this is a plain Q-Former, blind to what is asked. A question's row sees the image one layer later, through the
queries. Each image must have a patch that is not masked.

``theta`` holds all weights in one vector, in the order of `layout`.

**Where implementations differ.** The authors' code pads images of fewer patches by zero vectors under a mask of ones,
and the vision layer norm makes of such a row its offset: queries read padding. That norm has an epsilon of 1e-5 there.

**Provenance.** Confirmed in the authors' code (YanZehong/TRUST-VL: trustvl_arch.py, multimodal_projector/builder.py,
Qformer.py), with R = 32. Derivatives are standard, derived and checked here.

Yan, Qi, Hsu and Lee, *TRUST-VL: An Explainable News Assistant for General Multimodal Misinformation Detection*, 2025,
arXiv:2509.04448.
"""

from typing import Any, NamedTuple

from trref.backend import xp
from trref.nn import activations, flat
from trref.nn.multihead import (
    MultiHeadWeights,
    affine_vjp,
    multi_head,
    multi_head_vjp,
)
from trref.nn.norm import layer_norm, layer_norm_vjp
from trref.signature import D, H, L, M, Mask, N, P, PositiveInt, Q, R, Real, V, checked

EPS = 1e-12
GELU: Any = activations.ACTIVATIONS["gelu"]


class Amplified(NamedTuple):
    """Derivatives by the queries, the question (of no tokens where there is none), the patches and the weights."""

    queries: Real[R, D]
    question: Real[N, L, D]
    patches: Real[N, P, V]
    theta: Real[Q]


def layout(*, dim, vision, tokens, hidden, layers, width):
    """Return the names and shapes of all weights, in their order in ``theta``.

    Parameters
    ----------
    dim : int
        D, of queries and question.
    vision : int
        V, of patches.
    tokens : int
        L, 0 without a question.
    hidden : int
        Of the networks in the layers.
    layers : int
    width : int
        Of the language model.
    """
    shapes = {"position": (tokens, dim), **_norm("embedding", dim)}
    shapes |= _norm("vision", vision)
    for layer in range(layers):
        shapes |= _reader(f"{layer}.self", dim, dim)
        if layer % 2 == 0:
            shapes |= _reader(f"{layer}.cross", dim, vision)
        for rows in ("query", "text"):
            name = f"{layer}.{rows}"
            shapes |= {f"{name}.W1": (dim, hidden), f"{name}.b1": (hidden,)}
            shapes |= {f"{name}.W2": (hidden, dim), f"{name}.b2": (dim,)}
            shapes |= _norm(name, dim)
    return shapes | {"W_lm": (dim, width), "b_lm": (width,)}


def _norm(name, size):
    return {f"{name}.gain": (size,), f"{name}.bias": (size,)}


def _reader(name, dim, read):
    """An attention block, and the norm after it."""
    sizes = {"query": dim, "key": read, "value": read, "out": dim}
    shapes = {}
    for part, rows in sizes.items():
        shapes |= {f"{name}.W_{part}": (rows, dim), f"{name}.b_{part}": (dim,)}
    return shapes | _norm(name, dim)


def _fits(queries, patches, theta, question, mask, heads, hidden, layers, width, **_):
    """Heads that do not divide D; weights of another size or too large; an image without patches."""
    dim = queries.shape[1]
    if dim % heads:
        raise ValueError(
            f"heads must divide the {dim} columns of queries, not be {heads}"
        )
    shapes = _layout_of(queries, patches, question, hidden, layers, width)
    size = flat.size(list(shapes.values()))
    if len(theta) != size:
        raise ValueError(f"theta must have {size} entries, not {len(theta)}")
    flags = [(lambda: abs(theta).max() <= 1000, "theta must be at most 1000 in size")]
    if mask is not None:
        message = "mask must leave a patch of each image"
        flags.append((lambda: mask.max(1).min() > 0, message))
    return flags


def _layout_of(queries, patches, question, hidden, layers, width):
    return layout(
        dim=queries.shape[1],
        vision=patches.shape[2],
        tokens=0 if question is None else question.shape[1],
        hidden=hidden,
        layers=layers,
        width=width,
    )


def _unpacked(theta, shapes):
    return dict(zip(shapes, flat.split(theta, list(shapes.values())), strict=True))


def _weights(w, name):
    return MultiHeadWeights(*(w[f"{name}.{part}"] for part in MultiHeadWeights._fields))


def _normalised(x, w, name):
    # eq. question-attention-norm
    return layer_norm(x, w[f"{name}.gain"], w[f"{name}.bias"], eps=EPS)


def _sequence(queries, question, w, N):
    """Queries, the same for all images, and the tokens in their places."""
    S = xp.zeros((N, *queries.shape), dtype=queries.dtype) + queries
    if question is None:
        return S
    return xp.concatenate([S, question + w["position"]], axis=1)


def _self_read(S, w, layer, heads):
    """Every row reads all rows, before the norm."""
    # eq. question-attention-self
    read = multi_head(S, S, _weights(w, f"{layer}.self"), heads=heads)[0]
    return S + read


def _run(queries, question, patches, w, mask, heads, layers):
    """The query rows, what went into each step, and the image."""
    R = len(queries)
    S = _sequence(queries, question, w, len(patches))
    image, steps = _normalised(patches, w, "vision"), [S]
    S = _normalised(S, w, "embedding")  # eq. question-attention-embedded
    for layer in range(layers):
        name = f"{layer}.self"
        total = _self_read(S, w, layer, heads)
        steps.append((S, total))
        S = _normalised(total, w, name)
        rows, text = S[:, :R], S[:, R:]

        if layer % 2 == 0:
            name = f"{layer}.cross"
            # eq. question-attention-cross
            read = multi_head(rows, image, _weights(w, name), heads=heads, mask=mask)[0]
            total = rows + read
            steps.append((rows, total))
            rows = _normalised(total, w, name)

        steps.append((rows, text))
        rows, text = _fed(rows, w, f"{layer}.query"), _fed(text, w, f"{layer}.text")
        S = xp.concatenate([rows, text], axis=1)
    return S[:, :R], steps, image


def _fed(x, w, name):
    hidden = x @ w[f"{name}.W1"] + w[f"{name}.b1"]
    out = GELU.value(hidden) @ w[f"{name}.W2"] + w[f"{name}.b2"]
    return _normalised(x + out, w, name)  # eq. question-attention-feed


@checked(also=_fits)
def question_attention(
    queries: Real[R, D],
    patches: Real[N, P, V],
    theta: Real[Q],
    question: Real[N, L, D] | None = None,
    mask: Mask[N, P] | None = None,
    *,
    heads: PositiveInt,
    hidden: PositiveInt,
    layers: PositiveInt,
    width: PositiveInt,
) -> Real[N, R, M]:
    """What the queries make of each image under its question.

    Parameters
    ----------
    queries
        R learned vectors, the same for all images.
    patches
        P patches of each of N images.
    theta
        All weights, in the order of `layout`.
    question
        L tokens for each image; a plain Q-Former if None.
    mask
        0 where a patch is padding.
    heads
        Of attention.
    hidden
        Of the networks in the layers.
    layers
        Every second one, from the first on, reads the image.
    width
        Of the language model.
    """
    shapes = _layout_of(queries, patches, question, hidden, layers, width)
    w = _unpacked(theta, shapes)
    rows = _run(queries, question, patches, w, mask, heads, layers)[0]
    return rows @ w["W_lm"] + w["b_lm"]  # eq. question-attention-output


@checked(also=_fits)
def attention_maps(
    queries: Real[R, D],
    patches: Real[N, P, V],
    theta: Real[Q],
    question: Real[N, L, D] | None = None,
    mask: Mask[N, P] | None = None,
    *,
    heads: PositiveInt,
    hidden: PositiveInt,
    layers: PositiveInt,
    width: PositiveInt,
) -> Real[N, H, R, P]:
    """How much each query looks at each patch, in each head of the first layer."""
    shapes = _layout_of(queries, patches, question, hidden, layers, width)
    w = _unpacked(theta, shapes)
    S = _normalised(_sequence(queries, question, w, len(patches)), w, "embedding")
    S = _normalised(_self_read(S, w, 0, heads), w, "0.self")
    rows = S[:, : len(queries)]
    image = _normalised(patches, w, "vision")
    # eq. question-attention-heads
    return multi_head(rows, image, _weights(w, "0.cross"), heads=heads, mask=mask)[1]


@checked(also=_fits)
def question_attention_vjp(
    queries: Real[R, D],
    patches: Real[N, P, V],
    theta: Real[Q],
    question: Real[N, L, D] | None = None,
    mask: Mask[N, P] | None = None,
    *,
    cotangent: Real[N, R, M],
    heads: PositiveInt,
    hidden: PositiveInt,
    layers: PositiveInt,
    width: PositiveInt,
) -> Amplified:
    """Derivatives of the sum of a cotangent times the result.

    Parameters
    ----------
    cotangent
        Derivatives by the result.
    """
    R = len(queries)
    shapes = _layout_of(queries, patches, question, hidden, layers, width)
    w = _unpacked(theta, shapes)
    d_w = {name: xp.zeros(shape, dtype=theta.dtype) for name, shape in shapes.items()}
    rows, steps, image = _run(queries, question, patches, w, mask, heads, layers)
    d_w["W_lm"], d_w["b_lm"] = affine_vjp(rows, cotangent)
    d_rows, d_image = cotangent @ w["W_lm"].T, xp.zeros_like(image)
    d_text = xp.zeros_like(steps[-1][1])  # nothing reads the last text rows

    # eq. question-attention-gradient
    for layer in reversed(range(layers)):
        rows, text = steps.pop()
        d_rows = _fed_vjp(rows, w, f"{layer}.query", d_rows, d_w)
        d_text = _fed_vjp(text, w, f"{layer}.text", d_text, d_w)
        if layer % 2 == 0:
            name, (rows, total) = f"{layer}.cross", steps.pop()
            d_total = _norm_vjp(total, w, name, d_rows, d_w)
            by = _read_vjp(rows, image, w, name, d_total, d_w, heads, mask)
            d_rows, d_image = d_total + by.x, d_image + by.y
        name, (S, total) = f"{layer}.self", steps.pop()
        d_total = xp.concatenate([d_rows, d_text], axis=1)
        d_total = _norm_vjp(total, w, name, d_total, d_w)
        by = _read_vjp(S, S, w, name, d_total, d_w, heads, None)
        d_S = d_total + by.x + by.y
        d_rows, d_text = d_S[:, :R], d_S[:, R:]

    d_S = _norm_vjp(steps.pop(), w, "embedding", d_S, d_w)
    d_patches = _norm_vjp(patches, w, "vision", d_image, d_w)
    d_question = d_S[:, R:].copy()
    d_w["position"] = d_question.sum(0)
    return Amplified(
        d_S[:, :R].sum(0), d_question, d_patches, flat.join(list(d_w.values()))
    )


def _norm_vjp(x, w, name, cotangent, d_w):
    """Through a layer norm; its weights' derivatives are written down."""
    d_x, d_w[f"{name}.gain"], d_w[f"{name}.bias"] = layer_norm_vjp(
        x, w[f"{name}.gain"], cotangent, eps=EPS
    )
    return d_x


def _fed_vjp(x, w, name, cotangent, d_w):
    """Through a network and its norm."""
    a = x @ w[f"{name}.W1"] + w[f"{name}.b1"]
    h = GELU.value(a)
    out = h @ w[f"{name}.W2"] + w[f"{name}.b2"]
    d_sum = _norm_vjp(x + out, w, name, cotangent, d_w)
    d_a = (d_sum @ w[f"{name}.W2"].T) * GELU.first(a, h)
    d_w[f"{name}.W2"], d_w[f"{name}.b2"] = affine_vjp(h, d_sum)
    d_w[f"{name}.W1"], d_w[f"{name}.b1"] = affine_vjp(x, d_a)
    return d_sum + d_a @ w[f"{name}.W1"].T


def _read_vjp(x, y, w, name, cotangent, d_w, heads, mask):
    """Through attention: by what asks and by what is read."""
    by = multi_head_vjp(x, y, _weights(w, name), cotangent, heads=heads, mask=mask)
    for part, value in by.weights._asdict().items():
        d_w[f"{name}.{part}"] = value
    return by
