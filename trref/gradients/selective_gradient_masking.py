r"""Selective gradient masking (SGTM): a block of parameters that learns what may have to go.

Some of the hidden units of a network are reserved for a capability that is to be removable. The block is their
incoming weights, their biases and their outgoing weights; everything else is the rest, the output's bias included. With
the mask m, 1 on reserved units,

.. math::
    :label: selective-gradient-masking-forward

    h = \tanh(x W_1 + b_1), \qquad z = (\mu \circ h)\, W_2 + b_2, \qquad
    \mu = \begin{cases} 1 & \text{by default and on forget data} \\ 1 - m & \text{on retain data.} \end{cases}

Data that are known to hold the capability (*forget*) move the block alone; data that are known to be harmless
(*retain*) run without the block, so that they cannot move it; all others (*default*) train everything:

.. math::
    :label: selective-gradient-masking-gradient

    g_{\text{rest}} \leftarrow 0 \text{ on forget data.}

Once the block has the capability, data that hold it without being known to tend to be absorbed there, too. After
training the block is set to 0,

.. math::
    :label: selective-gradient-masking-ablate

    \theta_{\text{block}} \leftarrow 0,

which gives the network that retain data saw. So that a mere shift of the classes' frequencies is not taken for
removal, the output's bias c may be trained anew, on weighted samples of both kinds:

.. math::
    :label: selective-gradient-masking-calibrate

    \min_c\; \frac{1}{\sum_i w_i} \sum_i w_i\, \bigl(-\log \operatorname{softmax}(z_i + c)_{y_i}\bigr)

The masked gradient is the gradient of no loss of :math:`\theta`. It is that of the loss in which the rest is held
constant: its entries on the block are the true partial derivatives. Two older ways are here for comparison. *Gradient
routing* stops the gradient at the pre-activations of the other units,

.. math::
    :label: selective-gradient-masking-routed

    \partial L / \partial a_j := 0 \text{ for units } j \text{ that are not reserved, on forget data,}

so that their outgoing weights and the output's bias still learn. *Activation masking* runs forget data through the
reserved units alone, :math:`\mu = m`.

Without reserved units forget data do nothing, which is data filtering. The mask acts on h, not on the pre-activation:
the two are the same only where the activation of 0 is 0. An optimiser must keep the rest still as well: momentum and
weight decay move entries whose gradient is 0.

**Where implementations differ.** The authors' description says that on retain data the block's gradients are zeroed
after a pass through all units; their code switches the block off in the forward pass, as here.

**Provenance.** Masks, modes, ablation and calibration are confirmed in the authors' code; the notation and the reading
as a loss with a held part are of this module.

Shilov et al., *Beyond Data Filtering: Knowledge Localization for Capability Removal in LLMs*, 2025, arXiv:2512.05648.
"""

from typing import Literal

from trref import validate
from trref.backend import xp
from trref.nn import flat, mlp
from trref.nn.heads import log_softmax, one_hot
from trref.nn.losses import softmax_cross_entropy
from trref.signature import (
    D,
    H,
    Index,
    K,
    Mask,
    N,
    NonNegative,
    P,
    PositiveInt,
    Real,
    Scalar,
    checked,
)


@checked
def block(reserved: Mask[H], *, inputs: PositiveInt, classes: PositiveInt) -> Mask[P]:
    """Which parameters belong to reserved units.

    Parameters
    ----------
    reserved
        1 on the hidden units that are reserved.
    inputs, classes
        Lengths of the input and of the output.

    Returns
    -------
    block
        1 on these units' weights and biases, in the order W1, b1, W2, b2.
    """
    zeros = [xp.zeros(shape, dtype=reserved.dtype) for shape in ((inputs, 1), classes)]
    into, out = zeros[0] + reserved, reserved[:, None] + zeros[1]
    return flat.join([into, reserved, out, zeros[1]])


def _a_network(theta, X, labels, reserved, **_):
    """Parameters that are not those of a network, or labels that it does not have."""
    K = _classes(theta, X, reserved)
    if K < 1 or theta.shape != (mlp.size((X.shape[1], len(reserved), K)),):
        raise ValueError(
            f"theta must be the parameters of a network with {X.shape[1]} inputs and "
            f"{len(reserved)} hidden units, not {len(theta)} numbers"
        )
    return [validate.labels(labels, K)]


def _classes(theta, X, reserved):
    H = len(reserved)
    return (len(theta) - H * (X.shape[1] + 1)) // (H + 1)


@checked
def held_parameters(theta: Real[P]) -> Real[P]:
    """What the rest of the parameters is held at: where they are."""
    return theta.copy()


@checked(also=_a_network)
def masked_objective(
    theta: Real[P],
    X: Real[N, D],
    labels: Index[N],
    reserved: Mask[H],
    *,
    mode: Literal["default", "forget", "retain", "reserved alone"] = "default",
    held: Real[P] | None = None,
) -> tuple[Scalar, Real[P]]:
    """The mean cross-entropy in one of the modes.

    Parameters
    ----------
    theta
        A network with one hidden layer of H units.
    X
        Inputs, a row each.
    labels
        Class of each row.
    mode
        What is known of the data; ``"reserved alone"`` is activation masking on
        forget data.
    held
        Values of the parameters outside the block, held constant on forget data; the
        current ones if None.
    """
    K = _classes(theta, X, reserved)
    own = block.unchecked(reserved, inputs=X.shape[1], classes=K)
    forget = mode == "forget"
    held = theta if held is None else held
    moved = xp.where(own > 0, theta, held) if forget else theta
    W1, b1, W2, b2 = _parts(moved, X, reserved, K)
    # eq. selective-gradient-masking-forward
    on = {"retain": 1 - reserved, "reserved alone": reserved}.get(mode, 1)
    h = xp.tanh(X @ W1 + b1)
    value, error = softmax_cross_entropy(on * h @ W2 + b2, labels)

    inner = on * (error @ W2.T) * (1 - h * h)
    g = _joined(X, inner, on * h, error)
    # eq. selective-gradient-masking-gradient
    return value, own * g if forget else g


def _parts(theta, X, reserved, K):
    D, H = X.shape[1], len(reserved)
    return flat.split(theta, ((D, H), (H,), (H, K), (K,)))


def _joined(X, inner, h, error):
    return flat.join([X.T @ inner, inner.sum(0), h.T @ error, error.sum(0)])


@checked(also=_a_network)
def held_activation(
    theta: Real[P], X: Real[N, D], labels: Index[N], reserved: Mask[H]
) -> Real[N, H]:
    """The pre-activations of all units, for the gradient to stop at."""
    W1, b1, *_ = _parts(theta, X, reserved, _classes(theta, X, reserved))
    return X @ W1 + b1


@checked(also=_a_network)
def routed_objective(
    theta: Real[P],
    X: Real[N, D],
    labels: Index[N],
    reserved: Mask[H],
    *,
    held: Real[N, H] | None = None,
) -> tuple[Scalar, Real[P]]:
    """The mean cross-entropy on forget data, by gradient routing.

    Parameters
    ----------
    held
        Pre-activations of the units, held constant where they are not reserved; the
        `held_activation` if None.
    """
    W1, b1, W2, b2 = _parts(theta, X, reserved, _classes(theta, X, reserved))
    a = X @ W1 + b1
    h = xp.tanh(a if held is None else xp.where(reserved > 0, a, held))
    value, error = softmax_cross_entropy(h @ W2 + b2, labels)
    # eq. selective-gradient-masking-routed
    inner = reserved * (error @ W2.T) * (1 - h * h)
    return value, _joined(X, inner, h, error)


@checked
def ablate(theta: Real[P], block: Mask[P]) -> Real[P]:
    """The parameters without the block.

    Parameters
    ----------
    block
        1 on the parameters of reserved units, from `block`.
    """
    return theta * (1 - block)  # eq. selective-gradient-masking-ablate


def _weights_and_labels(bias, labels, weight, **_):
    """A class that there is not, or weights that are all 0."""
    return [
        validate.labels(labels, len(bias)),
        (lambda: weight.sum() > 0, "weight must not be 0 everywhere"),
    ]


@checked(also=_weights_and_labels)
def calibrate(
    bias: Real[K], logits: Real[N, K], labels: Index[N], weight: NonNegative[N]
) -> tuple[Scalar, Real[K]]:
    """The weighted cross-entropy of logits with another bias.

    Parameters
    ----------
    bias
        Added to the logits; what is trained.
    logits
        Of the network without the block.
    """
    log_p = log_softmax(logits + bias)
    y = one_hot(labels, len(bias), log_p.dtype)
    share = weight / weight.sum()
    # eq. selective-gradient-masking-calibrate
    return -(share * (y * log_p).sum(1)).sum(), share @ (xp.exp(log_p) - y)
