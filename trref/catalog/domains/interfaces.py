"""Where the examples of losses come from that are one a domain."""

from trref.backend import xp
from trref.catalog.record import Interface
from trref.problems.domains import DomainLosses

__all__ = ["DOMAIN_LOSSES"]


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
    "domain losses",
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
