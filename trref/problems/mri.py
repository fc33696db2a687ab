"""A phantom for quantitative magnetic resonance imaging: maps, coils, masks of lines, and a smoother as prior (host).

Maps are three images in one flat vector: the two parts of the magnetisation, and the rate. For nlcg_net.
"""

import dataclasses

import numpy as np

from trref.backend import xp

__all__ = ["MapSmoother", "coil_maps", "line_masks", "phantom"]


def phantom(size):
    """Return maps (3, size, size) of three ellipses: magnetisation (real, imaginary) and rate; 0 and 1 outside."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    magnitude, phase, rate = (
        np.zeros((size, size)),
        0.5 * x + 0.3 * y,
        np.ones((size, size)),
    )
    for cx, cy, a, b, m, r in (
        (0.0, 0.0, 0.8, 0.9, 1.0, 1.0),
        (-0.3, 0.1, 0.25, 0.4, 0.7, 2.0),
        (0.35, -0.2, 0.2, 0.3, 1.2, 0.5),
    ):
        inside = ((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 < 1
        magnitude[inside], rate[inside] = m, r
    return np.stack([magnitude * np.cos(phase), magnitude * np.sin(phase), rate])


def coil_maps(size, coils=4):
    """Return real and imaginary parts (coils, size, size) of smooth sensitivities whose squares sum to 1."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    angles = 2 * np.pi * np.arange(coils) / coils
    distance = [(x - np.cos(t)) ** 2 + (y - np.sin(t)) ** 2 for t in angles]
    maps = np.stack(
        [np.exp(-d / 2 + 1j * t * x) for d, t in zip(distance, angles, strict=True)]
    )
    maps /= np.sqrt((abs(maps) ** 2).sum(0))
    return maps.real, maps.imag


def line_masks(rng, times, size, acceleration):
    """Draw masks (times, size, size) of whole lines, one in `acceleration`, other ones at each time; line 0 always."""
    masks = np.zeros((times, size, size))
    for mask in masks:
        lines = 1 + rng.choice(size - 1, size // acceleration - 1, replace=False)
        mask[np.append(lines, 0)] = 1
    return masks


@dataclasses.dataclass(frozen=True)
class MapSmoother:
    """Means of neighbours with weights ¼, ½, ¼ along rows and columns of each map; edges are their own neighbours."""

    rows: int
    columns: int

    def __call__(self, maps):
        """Return smoothed maps (3 rows columns,)."""
        if maps.shape != (3 * self.rows * self.columns,):
            raise ValueError(
                f"maps must have shape ({3 * self.rows * self.columns},), not {tuple(maps.shape)}"
            )
        images = maps.reshape(3, self.rows, self.columns)
        for axis in (1, 2):
            n = images.shape[axis]
            before = xp.take(images, xp.maximum(xp.arange(n) - 1, 0), axis=axis)
            after = xp.take(images, xp.minimum(xp.arange(n) + 1, n - 1), axis=axis)
            images = (before + 2 * images + after) / 4
        return images.ravel()
