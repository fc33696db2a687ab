"""Scores by hand, the gradient from differences, the bound on random heads, the cases in which the score fails."""

import numpy as np
import pytest
from scipy import special

from trref.shift.gdscore import gdscore, head_gradient, loss_bound, lp_size, pseudo_labels


def test_labels_by_hand():
    P = np.array([[0.1, 0.6, 0.3], [0.4, 0.3, 0.3], [0.5, 0.2, 0.3]])
    assert np.array_equal(pseudo_labels(P, np.array([0.0, 0.7, 0.99])), [1, 2, 0])


def test_sizes_by_hand():
    """(sqrt 1 + sqrt 4)² = 9."""
    assert lp_size(np.array([[1.0, -4.0]]), p=0.5) == pytest.approx(9.0)
    G = np.random.default_rng(0).standard_normal((4, 3))
    assert lp_size(G, p=2.0) == pytest.approx(np.linalg.norm(G.ravel()))
    by_logs = np.exp(special.logsumexp(0.3 * np.log(abs(G))) / 0.3)
    assert lp_size(G) == pytest.approx(by_logs, rel=1e-12)


def _outputs(seed=1, N=12, D=4, C=3, scale=1.0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((N, D)), scale * rng.standard_normal((D, C)), rng.standard_normal(C), rng.random(N)


def _loss(z, W, b, y):
    return -special.log_softmax(z @ W + b, 1)[np.arange(len(y)), y].mean()


def test_the_gradient_against_differences():
    z, W, b, u = _outputs()
    P = special.softmax(z @ W + b, 1)
    y = pseudo_labels(P, u)
    G, step = head_gradient(z, P, y), 1e-6
    for j, c in np.ndindex(W.shape):
        e = np.zeros_like(W)
        e[j, c] = step
        slope = (_loss(z, W + e, b, y) - _loss(z, W - e, b, y)) / (2 * step)
        assert G[j, c] == pytest.approx(slope, abs=1e-8)


def test_of_one_sample_the_size_is_a_product():
    z, W, b, _ = _outputs(2, N=1)
    P = special.softmax(z @ W + b, 1)
    off = P - np.eye(3)[P.argmax(1)]
    for p in (0.3, 1.0, 2.0):
        expected = lp_size(z, p=p) * lp_size(off, p=p)
        assert gdscore(z, W, b, np.zeros(1), tau=0.0, p=p) == pytest.approx(float(expected))
    assert abs(off).sum() == pytest.approx(2 * (1 - P.max()))  # with the network's own label


def test_batches_of_one_and_of_all():
    z, W, b, u = _outputs(3)
    each = [float(gdscore(z[i : i + 1], W, b, u[i : i + 1])) for i in range(12)]
    assert gdscore(z, W, b, u, batch=1) == pytest.approx(np.mean(each))
    P = special.softmax(z @ W + b, 1)
    assert gdscore(z, W, b, u) == pytest.approx(float(lp_size(head_gradient(z, P, pseudo_labels(P, u)))))
    halves = [float(gdscore(z[rows], W, b, u[rows])) for rows in (slice(0, 8), slice(8, 12))]
    assert gdscore(z, W, b, u, batch=8) == pytest.approx(np.mean(halves))  # not weighted by their sizes


def test_a_change_of_the_loss_is_bounded():
    """Convex in the head: no violation for four exponents in 200 pairs."""
    rng = np.random.default_rng(4)
    z, y = rng.standard_normal((20, 4)), rng.integers(0, 3, 20)
    at = lambda W: head_gradient(z, special.softmax(z @ W, 1), y)  # noqa: E731
    for _ in range(200):
        W, V = 2 * rng.standard_normal((2, 4, 3))
        change = abs(_loss(z, W, 0, y) - _loss(z, V, 0, y))
        for p in (1.1, 1.5, 2.0, 4.0):
            assert change <= loss_bound(at(W), at(V), W - V, p=p) * (1 + 1e-12)


def test_below_1_there_is_no_bound():
    """The step's exponent has no conjugate: with p = 0.3 as exponent of both the inequality fails at once."""
    G, step = np.array([[1.0, 1.0]]), np.array([[1.0, 1.0]])
    assert (G * step).sum() <= loss_bound(G, G, step, p=2.0) * (1 + 1e-12)
    with pytest.raises(ValueError, match="p must lie in"):
        loss_bound(G, G, step, p=0.3)


def test_a_certain_network_has_score_0_whatever_its_accuracy():
    z = np.random.default_rng(5).standard_normal((6, 2))
    W = 1e4 * np.array([[1.0, -1.0], [0.3, -0.3]])
    assert gdscore(z, W, np.zeros(2), np.zeros(6)) == 0


def test_random_labels_have_the_gradient_of_the_uniform_target_on_average():
    z, W, b, _ = _outputs(6, N=5)
    P, rng = special.softmax(z @ W + b, 1), np.random.default_rng(7)
    draws = np.stack([head_gradient(z, P, pseudo_labels(P, rng.random(5), tau=1.0)) for _ in range(4000)])
    error = draws.std(0) / np.sqrt(4000)
    assert (abs(draws.mean(0) - z.T @ (P - 1 / 3) / 5) < 5 * error).all()


def test_features_twice_as_long_with_the_same_probabilities():
    z, W, b, u = _outputs(8)
    assert gdscore(2 * z, W / 2, b, u) == pytest.approx(2 * float(gdscore(z, W, b, u)))


def test_bad_input():
    with pytest.raises(ValueError, match="uniform must be less than 1"):
        pseudo_labels(np.ones((1, 1)), np.ones(1))
    with pytest.raises(ValueError, match="labels"):
        head_gradient(np.ones((1, 2)), np.ones((1, 1)), np.array([1]))
