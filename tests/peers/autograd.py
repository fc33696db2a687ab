"""What the comparisons with torch's autograd share."""

import inspect

import numpy as np

__all__ = ["close", "compare"]


def close(ours, theirs, tolerance=1e-10):
    """Assert that an array is a tensor's, relative to its largest entry or to 1."""
    theirs = theirs.detach().numpy()
    assert np.allclose(ours, theirs, rtol=0, atol=tolerance * max(1.0, abs(theirs).max()))


def compare(ours, hyper, theirs, batch, *, value=True, tolerance=1e-10):
    """Assert that an objective's value and gradient in ``log_prob`` are those of a function of a dict of tensors.

    Parameters
    ----------
    ours : callable
        Gets those entries of `batch` that it names, and `hyper`.
    hyper : dict
    theirs : callable
        ``theirs(tensors) -> loss``.
    batch : dict of array
    value : bool
        Whether the values agree, too: surrogates share a gradient only.
    tolerance : float
    """
    import torch

    tensors = {k: torch.tensor(v) for k, v in batch.items()}
    tensors["log_prob"].requires_grad_()
    loss = theirs(tensors)
    loss.backward()
    result = ours(**{n: batch[n] for n in inspect.signature(ours).parameters if n in batch}, **hyper)
    if value:
        close(result[0], loss, tolerance)
    close(result[1], tensors["log_prob"].grad, tolerance)
