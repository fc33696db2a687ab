"""How many inputs a classifier still gets right under attack.

For regional_adversarial_training, level_set_traversal, attribution_protection, compressed_trust and robust_continual.
"""

import numpy as np

from trref.backend import xp

__all__ = ["robust_accuracy"]


def robust_accuracy(rows, x, attack, *, radius, restarts=1, low=0.0, high=1.0, seed=0):
    """Return the share of inputs that stay right in all restarts of an attack, and unattacked.

    Parameters
    ----------
    rows : trref.problems.rows.RowLoss
        The network, and the labels of the inputs.
    x : array (N, D)
        Within the box.
    attack : callable
        ``attack(score_and_grad, x, start) -> x'``, such as projected gradient ascent; `start` lies in the ball.
    radius : float
        Of the ball of the largest change of a pixel, from which starts are drawn. What leaves it is an error.
    restarts : int
    low, high : float
        The box.
    seed : int

    Returns
    -------
    float
    """
    rng, right = np.random.default_rng(seed), rows.logits(x).argmax(1) == rows.labels
    for _ in range(restarts):
        start = xp.clip(
            x + radius * xp.asarray(rng.uniform(-1, 1, x.shape), dtype=x.dtype),
            low,
            high,
        )
        moved = attack(rows, x, start)
        if not float(abs(moved - x).max()) <= radius * (1 + 1e-6):
            raise ValueError(f"the attack must stay within the radius {radius} of x")
        right = right & (rows.logits(moved).argmax(1) == rows.labels)
    return float(right.mean())
