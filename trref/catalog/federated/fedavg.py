"""What is known of `trref.federated.fedavg`."""

import math

from trref.backend import xp
from trref.catalog import Deviation, Estimator, Method
from trref.catalog.federated.interfaces import MESSAGES
from trref.federated.fedavg import average, objective


def _many_clients(rng, size):
    counts = rng.integers(1, 500, size).astype(float)
    return {"losses": rng.exponential(1.0, size), "counts": counts}


def _mean_over_samples(rows, counts):
    """Every client counted once a sample."""
    n = math.fsum(counts.tolist())
    columns = rows.reshape(len(counts), -1).T.tolist()
    weights = counts.tolist()
    each = [math.fsum(w * x for w, x in zip(weights, c, strict=True)) for c in columns]
    return xp.array(each).reshape(rows.shape[1:]) / n


def _equal_weights(thetas, counts):
    return thetas.mean(0)


METHOD = Method(
    key="mcmahan2016communication",
    provenance="partly",
    functions=(
        Estimator(
            f=average,
            interface=MESSAGES,
            brute_force=lambda thetas, counts: _mean_over_samples(thetas, counts),
            deviations=(
                Deviation(
                    "equal weights",
                    _equal_weights,
                    seen_in="AshwinRJ/Federated-Learning-PyTorch src/utils.py (023738d), average_weights",
                    computes="the mean over clients, whatever they hold",
                ),
            ),
        ),
        Estimator(
            f=objective,
            example=_many_clients,
            edges={
                "one of them exploded": lambda: {
                    "losses": xp.array([0.2, 1e6, 0.3]),
                    "counts": xp.array([1.0, 20.0, 4.0]),
                }
            },
            brute_force=lambda losses, counts: _mean_over_samples(losses, counts),
        ),
    ),
)
