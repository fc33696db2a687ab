r"""Double gradient projection (DGP): robustness that later tasks leave alone.

A defence makes the loss flat in the input, and later tasks bend it again. To keep it, updates are projected so that for
n stored samples of old tasks both the layers' outputs and the gradients by the input stay what they are. With samples
as rows, :math:`X^{l+1} = \sigma(X^l W^l)`, and the Jacobians of each layer's input by the network's,

.. math::
    :label: robust-continual-jacobian

    J^{l+1} = (J^l W^l) \circ \sigma'(X^l W^l), \qquad J^1 = I, \qquad J^l \in \mathbb R^{n \times m_1 \times m_l},

an update :math:`\Delta W` of layers from the second on, with

.. math::
    :label: robust-continual-condition

    X^l\, \Delta W^l = 0, \qquad J^l_{s,a}\, \Delta W^l = 0 \text{ for all samples } s \text{ and inputs } a,

changes neither outputs nor input gradients of these samples, exactly, however long it is: all pre-activations and
their Jacobians are the same as before. (The first layer would have to stand still, as :math:`J^1 = I`; each task has
its own.) The full Jacobians have :math:`n m_1` rows. Summed over inputs they have n,

.. math::
    :label: robust-continual-compressed

    \bar J^l = \sum_a J^l_{\cdot, a}, \qquad \bar J^{l+1} = (\bar J^l W^l) \circ \sigma'(X^l W^l), \qquad \bar J^1 = 1,

and keep only the derivative along :math:`(1, \dots, 1)`: a weak guarantee.

What an update must be orthogonal to is collected in a projector :math:`P = B^\top B`, on the span of few directions.
New rows R, of outputs or Jacobians, extend it by the leading right singular vectors of what it does not hold,

.. math::
    :label: robust-continual-basis

    \hat R = R - R P, \qquad P \leftarrow P + \sum_{i \le r} v_i v_i^\top, \qquad
    r = \min \Big\{ r : \|R P\|_F^2 + \sum_{i \le r} s_i^2 \ge \alpha \|R\|_F^2 \Big\},

and every gradient is projected before the step,

.. math::
    :label: robust-continual-projection

    \nabla W^l \leftarrow (I - P_l)\, \nabla W^l.

Outputs alone give gradient projection memory (GPM). The defence that is kept is here a penalty on input gradients,

.. math::
    :label: robust-continual-penalty

    L(\theta) + \lambda\, \frac1N \sum_{i=1}^N \|g_i\|^2, \qquad g_i = \nabla_{x_i} \ell_i(\theta),

where each :math:`\ell_i` is its own sample's loss, not the mean (with gradients of the mean loss the penalty would be
:math:`N^2` times as small), whose gradient is that of L plus :math:`\frac{2\lambda}{N}` times the derivative of
:math:`\sum_i g_i \cdot \nabla_{x_i} \ell_i` with :math:`g_i` held.

Biases are a further column: of ones in :math:`X^l`, of zeros in :math:`J^l`. The activation here is tanh. Directions of
which the rows hold less than a millionth of their norm are rounding, and left out. With
:math:`\alpha = 1` and as many independent rows as inputs of a layer, that layer can learn nothing more. Momentum turns
a projected gradient out of its space: project the step then.

**Where implementations differ.** No public code is known. Where the penalty squares the gradient of a mean loss, and
not of each sample's, it is smaller by the square of the number of samples; momentum after the projection turns steps
out of the subspace.

**Provenance.** The recursion, the conditions, the compression and the threshold are confirmed by published reviews,
which name the paper's equations; formulas are derived from these and checked here. The threshold's value is not known.

Ru et al., *Maintaining Adversarial Robustness in Continuous Learning*, 2024, arXiv:2402.11196.
"""

from trref.backend import xp
from trref.problems.input_curved import InputCurved
from trref.signature import (
    D,
    Fraction,
    H,
    M,
    N,
    NonNegativeFloat,
    P,
    Real,
    Scalar,
    checked,
)


@checked
def layer(inputs: Real[N, M], W: Real[M, H]) -> Real[N, H]:
    """One layer of the network: the inputs of the next.

    Parameters
    ----------
    inputs
        Of this layer, a sample a row.
    W
        Its weights.
    """
    return xp.tanh(inputs @ W)


@checked
def layer_jacobian(
    jacobian: Real[N, D, M], inputs: Real[N, M], W: Real[M, H]
) -> Real[N, D, H]:
    """Each sample's Jacobian of the next layer's inputs by those of the network.

    Parameters
    ----------
    jacobian
        Of this layer's inputs; the identity for the first layer.
    """
    slope = 1 - layer.unchecked(inputs, W) ** 2
    return (jacobian @ W) * slope[:, None]  # eq. robust-continual-jacobian


@checked
def compressed_jacobian(
    tangent: Real[N, M], inputs: Real[N, M], W: Real[M, H]
) -> Real[N, H]:
    """The same, summed over the network's inputs.

    Parameters
    ----------
    tangent
        Summed Jacobians of this layer's inputs; 1 for the first layer.
    """
    slope = 1 - layer.unchecked(inputs, W) ** 2
    return (tangent @ W) * slope  # eq. robust-continual-compressed


@checked
def extended_projector(
    projector: Real[M, M], rows: Real[N, M], *, energy: Fraction
) -> Real[M, M]:
    """A projector that holds new rows, too.

    Parameters
    ----------
    projector
        On what is to be kept so far; 0 at first.
    rows
        Outputs or Jacobians, a layer's inputs long.
    energy
        The share of their squares that it is to hold.
    """
    # eq. robust-continual-basis
    held = rows @ projector
    _, s, V = xp.linalg.svd(rows - held, full_matrices=False)
    total = (rows * rows).sum()
    before = (held * held).sum() + xp.cumsum(s * s) - s * s
    real = s > 1e-6 * xp.sqrt(total)
    kept = V * ((before < energy * total) & real)[:, None]
    return projector + kept.T @ kept


@checked
def projected_gradient(gradient: Real[M, H], projector: Real[M, M]) -> Real[M, H]:
    """A gradient without what would change anything that is to be kept.

    Parameters
    ----------
    gradient
        Of a layer's weights.
    """
    return gradient - projector @ gradient  # eq. robust-continual-projection


@checked
def penalised_objective(
    loss: InputCurved, theta: Real[P], *, weight: NonNegativeFloat
) -> tuple[Scalar, Real[P]]:
    """The loss and the mean square of its gradients by the inputs.

    Parameters
    ----------
    loss
        With gradients by the inputs, as
        `trref.problems.input_curved.InputCurvedClassifier`.
    weight
        Of the penalty.
    """
    value, gradient = loss(theta)
    g = loss.input_gradients(theta)
    # eq. robust-continual-penalty
    share = weight / len(loss)
    bent = loss.input_product(theta, g)
    return value + share * (g * g).sum(), gradient + 2 * share * bent


@checked
def change(inputs: Real[N, M], update: Real[M, H]) -> Real[N, H]:
    """What an update changes of a layer's pre-activations, or of their Jacobians.

    Parameters
    ----------
    update
        Of the layer's weights.
    """
    return inputs @ update  # eq. robust-continual-condition
