"""Splits of labelled data, on the host: over clients, by classes, by permuted pixels, and with wrong labels.

A split over clients is a client a row (``group``); a split into parts is a list of row numbers.

For fedagain, fedclean, fedimpro, diff2 and fsgld (clients); trust_region_continual and robust_continual (tasks);
data_diet, influence_scores and tram (wrong labels); geometric_unlearning and selective_gradient_masking (a class to
forget).
"""

from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "NoisyLabels",
    "by_class",
    "dirichlet_split",
    "forget_class",
    "noisy_labels",
    "permuted_pixels",
]


class NoisyLabels(NamedTuple):
    """Labels (N,), and whether each differs from the one before (N,)."""

    labels: Any
    changed: Any


def dirichlet_split(rng, labels, clients, concentration, *, tries=1000):
    """Return a client a row (N,): each class is shared out by proportions from a symmetric Dirichlet distribution.

    Draws until every client has a row.

    Parameters
    ----------
    rng : numpy.random.Generator
    labels : integer array (N,)
    clients : int
    concentration : float
        Small values give each client few classes, large ones the same mixture.
    tries : int

    Raises
    ------
    ValueError
        Fewer rows than clients; or some client was left without a row in all of `tries` splits.
    """
    labels = np.asarray(labels)
    if len(labels) < clients:
        raise ValueError(
            f"labels must have at least a row for each of {clients} clients, not {len(labels)}"
        )
    for _ in range(tries):
        group = np.empty(len(labels), dtype=int)
        for c in np.unique(labels):
            rows = rng.permutation(np.flatnonzero(labels == c))
            shares = rng.dirichlet(np.full(clients, concentration))
            group[rows] = (
                np.arange(len(rows))[:, None] + 0.5 > np.cumsum(shares)[:-1] * len(rows)
            ).sum(1)
        if len(np.unique(group)) == clients:
            return group
    raise ValueError(
        f"concentration {concentration} left a client without rows in {tries} splits"
    )


def by_class(labels, parts):
    """Return the row numbers of each part: ``by_class(labels, [(0, 1), (2, 3)])`` for two tasks of two classes."""
    return [np.flatnonzero(np.isin(labels, list(part))) for part in parts]


def forget_class(labels, forgotten):
    """Return the row numbers to retain, and those of the class that is to be forgotten."""
    return tuple(by_class(labels, [set(np.unique(labels)) - {forgotten}, {forgotten}]))


def permuted_pixels(rng, X, tasks):
    """Return the images X (N, D) once a task, (T, N, D): the first as they are, the others with permuted columns."""
    D = X.shape[1]
    orders = [np.arange(D), *(rng.permutation(D) for _ in range(tasks - 1))]
    return np.stack([X[:, order] for order in orders])


def noisy_labels(rng, labels, share, classes):
    """Replace labels, each with probability `share`, by uniformly random ones of all classes.

    A random label may be the old one: of `share` 0.3 and ten classes, 27 % of the labels change.

    Returns
    -------
    NoisyLabels
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie in [0, 1], not {share}")
    labels = np.asarray(labels)
    noisy = np.where(
        rng.random(len(labels)) < share, rng.integers(0, classes, len(labels)), labels
    )
    return NoisyLabels(noisy, noisy != labels)
