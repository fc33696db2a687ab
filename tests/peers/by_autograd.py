"""What the comparisons with torch's autograd share."""

import inspect

import numpy as np

from tests.tokens.batches import token_batch

__all__ = ["close", "compare", "seq_mean", "token_data", "token_mean"]


def token_data(seed, *, B=12, T=8, spread=0.5):
    """Everything that token objectives take, by name: three prompts of four answers each, each a domain of its own."""
    log_prob, old_log_prob, advantage, mask = token_batch(seed, B=B, T=T, spread=spread)
    rng, prompt = np.random.default_rng(seed), np.repeat([0, 1, 2], B // 3)
    ref_log_prob, behavior_log_prob = (old_log_prob + spread * rng.standard_normal((B, T)) for _ in range(2))
    return {
        "log_prob": -abs(log_prob),
        "old_log_prob": old_log_prob,
        "ref_log_prob": ref_log_prob,
        "behavior_log_prob": behavior_log_prob,
        "version": rng.integers(0, 7, (B, T)),
        "advantage": advantage,
        "mask": mask,
        "group": prompt,
        "domain": prompt,
        "reward": (rng.random(B) < 0.4).astype(float),
        "answer": rng.integers(0, 3, B),
        "divergence": rng.exponential(0.1, (B, T)),
    }


def seq_mean(term, x):
    """The mean over answers of the mean over an answer's tokens."""
    return ((term * x["mask"]).sum(-1) / x["mask"].sum(-1).clamp(min=1)).mean()


def token_mean(term, x):
    """The mean over all tokens."""
    return (term * x["mask"]).sum() / x["mask"].sum().clamp(min=1)


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
