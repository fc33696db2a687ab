"""Two interleaved half circles in the plane, rotated or not: a source and a target domain (host).

For sdat (source and rotated target) and dual_adversarial_jem (classes of an energy-based model).
"""

import numpy as np

__all__ = ["two_moons"]


def two_moons(rng, points, *, angle=0.0, noise=0.1):
    """Draw points (N, 2) on two half circles around the origin, and their labels (N,), 0 above and 1 below.

    The circles have radius 1; their centres are 1 apart to the right and ½ downwards, and the middle of all points is
    put at the origin before the rotation.

    Parameters
    ----------
    rng : numpy.random.Generator
    points : int
        N; half of them, rounded up, in the upper moon.
    angle : float
        Of the rotation about the origin, in degrees, counter-clockwise.
    noise : float
        Standard deviation added to both coordinates.
    """
    labels = np.arange(points) % 2
    t = np.pi * rng.random(points)
    sign = 1 - 2 * labels
    X = np.stack(
        [sign * (np.cos(t) - 0.5), sign * (np.sin(t) - 0.25)], 1
    ) + noise * rng.standard_normal((points, 2))
    turn = np.deg2rad(angle)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return X @ rotation, labels
