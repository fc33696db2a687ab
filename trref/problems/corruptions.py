"""Corruptions of 8 × 8 images, rows of 64 pixels in [0, 1], in eight kinds and any severity.

For fedagain (bad clients), cg2a (augmentations of unlike strength), trust_ssl, recap, gdscore and conjnorm (shifted
test sets), trust_functions and trustvlm (blanked pixels).
"""

import numpy as np

from trref import validate
from trref.backend import special, xp

__all__ = ["KINDS", "corrupt", "rotate"]

SIDE = 8
ROWS, COLUMNS = (a.ravel() for a in np.mgrid[:SIDE, :SIDE])


def _noise(X, severity, noise):
    return X + severity * noise


def _blur(X, severity, noise):
    """A Gaussian window with a standard deviation of up to 3 pixels, whose weights sum to 1 at every pixel."""
    square = (ROWS[:, None] - ROWS) ** 2 + (COLUMNS[:, None] - COLUMNS) ** 2
    weights = (
        np.exp(-square / (2 * (3 * severity) ** 2)) if severity else np.eye(SIDE**2)
    )
    return _map(X, weights / weights.sum(1, keepdims=True))


def _contrast(X, severity, noise):
    mean = X.mean(1, keepdims=True)
    return mean + (1 - severity) * (X - mean)


def _invert(X, severity, noise):
    return (1 - severity) * X + severity * (1 - X)


def _occlusion(X, severity, noise):
    """A black square around the pixel of largest noise, up to the whole image."""
    centre = noise.argmax(1)[:, None]
    rows, columns = xp.asarray(ROWS), xp.asarray(COLUMNS)
    away = xp.maximum(abs(rows - centre // SIDE), abs(columns - centre % SIDE))
    return X * (away >= severity * SIDE)


def _shift(X, severity, noise):
    """To the right, by up to 4 pixels."""
    return _map(X, _interpolated(ROWS, COLUMNS - 4 * severity))


def _rotation(X, severity, noise):
    """Counter-clockwise, by up to 90 degrees."""
    return rotate(X, 90 * severity)


def _blank(X, severity, noise):
    """Pixels set to 0, each with probability `severity`."""
    return X * (special.ndtr(noise) >= severity)


def _interpolated(rows, columns):
    """Return the matrix (64, 64) that reads an image at these positions, bilinearly, with 0 outside."""
    row = np.maximum(1 - abs(rows[:, None] - ROWS), 0)
    return row * np.maximum(1 - abs(columns[:, None] - COLUMNS), 0)


def _map(X, matrix):
    return X @ xp.asarray(matrix.T, dtype=X.dtype)


KINDS = {
    "noise": _noise,
    "blur": _blur,
    "contrast": _contrast,
    "invert": _invert,
    "occlusion": _occlusion,
    "shift": _shift,
    "rotation": _rotation,
    "blank": _blank,
}


def corrupt(X, kind, severity, noise):
    """Return corrupted images.

    Parameters
    ----------
    X : array (N, 64)
    kind : str
        One of `KINDS`. ``"noise"`` adds `severity` times the noise, ``"blur"`` averages over up to 3 pixels,
        ``"contrast"`` goes to the image's mean, ``"invert"`` to its negative, ``"occlusion"`` puts a black square
        somewhere, ``"shift"`` moves up to 4 pixels to the right, ``"rotation"`` turns up to 90 degrees, ``"blank"``
        sets this share of the pixels to 0.
    severity : float
        0, which leaves X as it is, to 1.
    noise : array (N, 64)
        Standard normal; it also says where the square is and which pixels are blank.

    Returns
    -------
    array (N, 64)
    """
    validate.choice(KINDS, kind=kind)
    validate.interval("[0, 1]", severity=severity)
    if X.ndim != 2 or X.shape[1] != SIDE**2 or noise.shape != X.shape:
        raise ValueError(
            f"X and noise must have one shape (N, 64), not {tuple(X.shape)} and {tuple(noise.shape)}"
        )
    return KINDS[kind](X, severity, noise)


def rotate(X, angle):
    """Turn images X (N, 64) about their centre, by degrees counter-clockwise, with black from outside (tram)."""
    turn, middle = np.deg2rad(angle), (SIDE - 1) / 2
    down, right = ROWS - middle, COLUMNS - middle
    rows = np.cos(turn) * down + np.sin(turn) * right
    columns = -np.sin(turn) * down + np.cos(turn) * right
    return _map(X, _interpolated(rows + middle, columns + middle))
