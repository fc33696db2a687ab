"""Each sample's own gradient of a perceptron, from one forward and one backward pass.

The gradient of a layer's weights is an outer product a sample, input times delta; summed over samples it is
`trref.nn.mlp.gradient`. Its norm needs no outer product: ``|h|² |δ|²`` for the weights and ``|δ|²`` for the biases.

For data_diet and influence_scores (norms), diff2 and gradient_inversion (a message a sample), trust_region_continual
(Fisher matrices), sgd_generalization and dynamical_stability (second moments of the gradients).
"""

from trref.backend import xp
from trref.nn import mlp

__all__ = ["gradients", "norms"]


def gradients(cache, cotangent):
    """Return each sample's gradient, (N, P); of several networks (S, N, P).

    Parameters
    ----------
    cache : trref.nn.mlp.Cache
    cotangent : array (N, sizes[-1])
        Row i is the derivative of the i-th sample's loss by its output (of the loss, not of the loss over N).
    """
    parts = []
    for h, delta in zip(cache.inputs, mlp.deltas(cache, cotangent), strict=True):
        outer = h[..., :, None] * delta[..., None, :]
        parts += [outer.reshape(*delta.shape[:-1], -1), delta]
    return xp.concatenate(parts, axis=-1)


def norms(cache, cotangent):
    """Return the Euclidean norm of each sample's gradient, (N,), without forming it; arguments as in `gradients`."""
    pairs = zip(cache.inputs, mlp.deltas(cache, cotangent), strict=True)
    return xp.sqrt(
        sum((delta * delta).sum(-1) * ((h * h).sum(-1) + 1) for h, delta in pairs)
    )
