"""Federated averaging against the aggregation of Flower's strategies."""

import numpy as np
import pytest

from tests.peers import trainers
from trref.federated.fedavg import average, objective
from trref.federated.fedclean import aggregate

pytestmark = pytest.mark.peer


@pytest.fixture
def flower():
    if trainers.absent("flwr"):
        pytest.skip(f"no files of flwr in {trainers.FOLDER}: tools/test.py --peers")
    return trainers.load("flwr.server.strategy.aggregate")


@pytest.mark.parametrize("seed", range(5))
def test_the_average_of_layers_and_of_losses(flower, seed):
    rng = np.random.default_rng(seed)
    counts, thetas = rng.integers(1, 400, 4), rng.standard_normal((4, 7))
    results = [([t[:6].reshape(2, 3), t[6:]], int(n)) for t, n in zip(thetas, counts, strict=True)]
    theirs = np.concatenate([layer.ravel() for layer in flower.aggregate(results)])
    assert np.allclose(average(thetas, counts.astype(float)), theirs, rtol=1e-13, atol=1e-14)
    losses = rng.exponential(1.0, 4)
    theirs = flower.weighted_loss_avg([(int(n), float(x)) for n, x in zip(counts, losses, strict=True)])
    assert objective(losses, counts.astype(float)) == pytest.approx(theirs, rel=1e-13)

    kept = np.array([0, 1, 3])
    theirs = np.concatenate([layer.ravel() for layer in flower.aggregate([results[k] for k in kept])])
    errors = np.array([0.1, 0.2, 5.0, 0.15])
    assert np.allclose(aggregate(thetas, counts.astype(float), errors), theirs, rtol=1e-13, atol=1e-14)
