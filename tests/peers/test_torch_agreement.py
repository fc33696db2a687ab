"""The filter of gradients against the same loop over gradients and cosines from PyTorch."""

import importlib.util

import numpy as np
import pytest

from tests.peers import trainers
from trref.gradients.gradient_agreement_filtering import filtered_mean
from trref.nn import mlp
from trref.problems.networks import random_classifier

torch = pytest.importorskip("torch")
F = torch.nn.functional
pytestmark = pytest.mark.peer


def _gradient(theta, X, labels):
    """Of a perceptron 3-4-3 with tanh, all parameters in one vector: W, b, W, b."""
    theta = torch.tensor(theta, requires_grad=True)
    W1, b1, W2, b2 = torch.split(theta, [12, 4, 12, 3])
    hidden = torch.tanh(torch.tensor(X) @ W1.reshape(3, 4) + b1)
    F.cross_entropy(hidden @ W2.reshape(4, 3) + b2, torch.tensor(labels)).backward()
    return theta.grad


def test_gradients_of_small_batches():
    seen = set()
    for seed in range(6):
        rng = np.random.default_rng(seed)
        loss = random_classifier(rng, points=20)
        theta = mlp.init(rng, loss.sizes)
        batches = [slice(k, k + 4) for k in range(0, 20, 4)]
        theirs = [_gradient(theta, loss.X[b], loss.labels[b]) for b in batches]
        kept = [theirs[0]]
        for g in theirs[1:]:
            if 1 - F.cosine_similarity(sum(kept), g, dim=0) <= 0.8:
                kept.append(g)
        expected = sum(kept) / len(kept) if len(kept) > 1 else torch.zeros_like(kept[0])
        ours = filtered_mean(np.stack([loss.on(b)(theta)[1] for b in batches]), tau=0.8)
        assert np.allclose(ours.direction, expected.numpy(), rtol=0, atol=1e-14)
        assert ours.accepted.sum() == len(kept)
        seen.add(len(kept))
    assert len(seen) > 1


@pytest.mark.parametrize("tau", [0.7, 0.9, 1.0, 1.3])
def test_a_pair_by_the_authors_package(tau):
    name = "gradient_agreement_filtering"
    path = trainers.FOLDER / f"{name}.py"
    if not path.is_file():
        pytest.skip(f"no files of {name} in {trainers.FOLDER}: tools/test.py --peers")
    spec = importlib.util.spec_from_file_location(name, path)
    package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    rng, taken = np.random.default_rng(0), []
    for _ in range(40):
        pair = rng.standard_normal((2, 5))
        layers = [[torch.tensor(g[:2]), torch.tensor(g[2:])] for g in pair]
        theirs, distance = package._filter_gradients_cosine_sim(*layers, tau)
        ours = filtered_mean(pair, tau=tau)
        assert ours.distances[1] == pytest.approx(distance, rel=1e-12)
        assert ours.accepted[1] == (theirs is not None)
        expected = np.zeros(5) if theirs is None else torch.cat(theirs).numpy()
        assert np.allclose(ours.direction, expected, rtol=1e-13, atol=1e-15)
        taken.append(theirs is not None)
    assert 0 < sum(taken) < 40
