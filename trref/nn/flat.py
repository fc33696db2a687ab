"""Parameters of any model as one flat vector: what `trref.nn.mlp` does for perceptrons, for lists of any shapes.

For trust_functions (SwiGLU blocks), trust_vl (attention heads), normgrad and gamed_snake (convolutions), rnn_gradients
and fedclean (a variational autoencoder): each names its shapes once, and its objective takes and returns one vector.
"""

import math

from trref.backend import xp

__all__ = ["join", "size", "split"]


def size(shapes):
    """Return the number of entries of arrays of these shapes together; ``()`` is a scalar."""
    return sum(math.prod(shape) for shape in shapes)


def split(theta, shapes):
    """Cut a vector into views of these shapes, in their order.

    Parameters
    ----------
    theta : array (P,)
    shapes : sequence of tuple of int

    Returns
    -------
    list of array

    Raises
    ------
    ValueError
        `theta` does not have the length that `shapes` ask for.
    """
    if theta.shape != (size(shapes),):
        raise ValueError(
            f"theta must have shape ({size(shapes)},) for these shapes, not {tuple(theta.shape)}"
        )
    parts, start = [], 0
    for shape in shapes:
        end = start + math.prod(shape)
        parts.append(theta[start:end].reshape(shape))
        start = end
    return parts


def join(arrays):
    """Return the arrays' entries as one vector, in order: the inverse of `split`."""
    return xp.concatenate([array.ravel() for array in arrays])
