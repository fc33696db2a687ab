"""Where the examples come from of losses that are one a domain, and of heads on features of several domains."""

from trref.backend import xp
from trref.catalog.record import Interface
from trref.problems.domains import DomainLosses

__all__ = ["DOMAIN_HEAD", "DOMAIN_LOSSES"]


def _example(rng, size):
    """Two to four domains of some rows, with features of norm about 1; mostly each has a step, in some order."""
    E, N, D, K = int(rng.integers(2, 5)), size, *map(int, rng.integers(2, 4, 2))
    features = rng.standard_normal((E, N, D)) / D**0.5
    features = features + 0.5 * rng.standard_normal((E, 1, D))
    steps = rng.permutation(E)[: max(1, E - int(rng.integers(0, 2)))]
    losses = DomainLosses(features, rng.integers(0, K, (E, N)), K)
    theta = rng.choice((0.1, 1.0, 3.0)) * rng.standard_normal(D * K)
    return {"losses_and_grads": losses, "theta": theta, "order": steps}


def _domains(E, labels, theta, order):
    """Domains of three rows: each has the waves of its number, or all the same ones."""
    features = xp.sin(1 + xp.arange(6.0 * E)).reshape(E, 3, 2)
    losses = DomainLosses(features, xp.array([labels] * E), 2)
    arrays = {"theta": xp.array(theta), "order": xp.array(order)}
    return {"losses_and_grads": losses, **arrays}


def _identical():
    arguments = _domains(3, [0, 1, 1], [0.5, -1.0, 2.0, 0.3], [2, 0, 1])
    features = xp.zeros((3, 3, 2)) + arguments["losses_and_grads"].features[:1]
    losses = DomainLosses(features, arguments["losses_and_grads"].labels, 2)
    return {**arguments, "losses_and_grads": losses}


DOMAIN_LOSSES = Interface(
    "domain_losses",
    example=_example,
    edges={
        "one domain": lambda: _domains(1, [1, 0, 1], [1.0, -0.5, 0.2, 0.4], [0]),
        "identical domains": _identical,
        "the start is 0": lambda: _domains(2, [0, 1, 1], [0.0] * 4, [1, 0]),
        "one class": lambda: _domains(2, [1, 1, 1], [0.3, 1.0, -2.0, 0.5], [0, 1]),
        "a domain twice": lambda: _domains(
            2, [0, 1, 0], [2.0, 1.0, -1.0, 0.5], [1, 0, 1, 1]
        ),
    },
)
"""``f(losses_and_grads, theta (P), order (T), …)``, of softmax classifiers."""


def _head_example(rng, size):
    """Two to four domains whose features, of norm about 1, end in a constant, under heads of several scales."""
    E, N, D, K = int(rng.integers(2, 5)), size, *map(int, rng.integers(2, 5, 2))
    features = (
        rng.standard_normal((E, N, D)) + 0.5 * rng.standard_normal((E, 1, D))
    ) / D**0.5
    features[..., -1] = 1.0
    return {
        "theta": rng.choice((0.1, 1.0, 3.0)) * rng.standard_normal((D, K)),
        "features": features,
        "labels": rng.integers(0, K, (E, N)),
        "V": rng.standard_normal((E, D, K)),
        "probes": rng.choice([-1.0, 1.0], (int(rng.integers(1, 6)), D, K)),
    }


def _head(E, labels, theta):
    """Domains of three rows in two features: waves."""
    theta = xp.array(theta)
    features = xp.sin(1 + xp.arange(6.0 * E)).reshape(E, 3, 2)
    return {
        "theta": theta,
        "features": features,
        "labels": xp.array([labels] * E),
        "V": xp.cos(xp.arange(4.0 * E)).reshape(E, 2, 2),
        "probes": xp.array([[[1.0, -1.0], [-1.0, -1.0]]]),
    }


def _first_rows(n):
    arguments = _head(3, [0, 1, 1], [[0.5, -1.0], [2.0, 0.3]])
    features, labels = arguments["features"][:, :n], arguments["labels"][:, :n]
    return {**arguments, "features": features, "labels": labels}


def _same_domains():
    arguments = _head(2, [0, 1, 1], [[0.5, -1.0], [2.0, 0.3]])
    return {**arguments, "features": xp.zeros((2, 3, 2)) + arguments["features"][:1]}


DOMAIN_HEAD = Interface(
    "domain_head",
    example=_head_example,
    edges={
        "one domain": lambda: _head(1, [1, 0, 1], [[1.0, -0.5], [0.2, 0.4]]),
        "identical domains": _same_domains,
        "the head is 0": lambda: _head(2, [0, 1, 1], [[0.0, 0.0], [0.0, 0.0]]),
        "one class": lambda: _head(2, [1, 1, 1], [[1.3, -1.0], [-2.0, 0.5]]),
        "one row a domain": lambda: _first_rows(1),
        "two rows a domain": lambda: _first_rows(2),
        "nearly sure": lambda: _head(2, [0, 1, 0], [[9.0, -9.0], [3.0, 1.0]]),
    },
)
"""``f(theta (D, K), features (E, N, D), labels (E, N), …)``, with V (E, D, K) and probes (R, D, K) where asked for."""
