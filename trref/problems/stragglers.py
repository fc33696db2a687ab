"""Workers that are slow in bursts (host).

For sequential_gradient_coding.
"""

import numpy as np

__all__ = ["gilbert_elliott"]


def gilbert_elliott(rng, rounds, workers, *, enter, leave):
    """Return who straggles when, (rounds, workers): a chain of two states for each worker, not straggling at first.

    Parameters
    ----------
    rng : numpy.random.Generator
    rounds, workers : int
    enter, leave : float
        Probabilities of beginning to straggle, and of ceasing to.
    """
    now, rows = np.zeros(workers, bool), []
    for _ in range(rounds):
        draw = rng.random(workers)
        now = np.where(now, draw >= leave, draw < enter)
        rows.append(now)
    return np.array(rows, float).reshape(rounds, workers)
