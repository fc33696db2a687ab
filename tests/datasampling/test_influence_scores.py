"""Scores by hand, first-order changes of a loss, the information of a perfect model, the law of drawing."""

import itertools

import numpy as np
import pytest
from scipy import special, stats

from trref.datasampling import data_diet
from trref.datasampling.influence_scores import (
    drawn,
    gradient_variances,
    influence,
    linear_probabilities,
    normalised,
    null_log_probs,
    overlap,
    pointwise_information,
    self_influence,
    softmax_probabilities,
)
from trref.nn import mlp
from trref.problems.networks import ClassifierLoss
from trref.problems.rows import RowScore


def test_variances_by_hand():
    """Entries 1, 3 and 0, 0: squares about the mean 2 and 0, over root 2 or 2, and the mean over two entries."""
    gradients = np.array([[[1.0, 0.0]], [[3.0, 0.0]]])
    assert gradient_variances(gradients) == pytest.approx([1 / np.sqrt(2)])
    assert gradient_variances(gradients, scale="variance") == pytest.approx([0.5])


def test_variances_of_a_network():
    """Gradients of one hidden layer by hand; logits scaled by 3 give 9 times the score, a common constant nothing."""
    rng, sizes = np.random.default_rng(0), (4, 6, 3)
    X, y = rng.standard_normal((9, 4)), rng.integers(0, 3, 9)
    thetas = [mlp.init(rng, sizes) for _ in range(5)]
    G, tripled = [], []
    for theta in thetas:
        (W, b), (V, _) = mlp.unpack(theta, sizes)
        slope = 1 - np.tanh(X @ W + b) ** 2
        G.append((slope * V[:, y].T) @ W.T)
        more = theta.copy()
        more[-21:] *= 3
        more[-3:] += 5
        tripled.append(RowScore(more, y, sizes)(X)[1])
    ours = gradient_variances(np.stack([RowScore(theta, y, sizes)(X)[1] for theta in thetas]))
    assert np.allclose(ours, np.sqrt(5) * np.var(G, axis=0).mean(1), rtol=1e-12)
    assert np.allclose(gradient_variances(np.stack(tripled)), 9 * ours, rtol=1e-12)


def test_of_a_linear_model_nothing_is_left():
    """Its gradient does not depend on the input: within a class all scores agree, and 0/0 is 0."""
    rng, y = np.random.default_rng(1), np.array([0, 1, 2, 0, 1, 2, 0])
    scores = gradient_variances(rng.standard_normal((4, 3, 5))[:, y])
    assert np.array_equal(normalised(scores, y), np.zeros(7))


def test_within_classes_mean_0_and_deviation_1():
    rng, y = np.random.default_rng(2), np.repeat([0, 1], [6, 9])
    scores = rng.standard_normal(15) + 4 * y
    z = normalised(scores, y)
    for c in (0, 1):
        assert np.allclose(z[y == c], stats.zscore(scores[y == c]), rtol=1e-12)
    assert np.allclose(normalised(scores), stats.zscore(scores), rtol=1e-12)


def _gradients(seed=3):
    rng, sizes = np.random.default_rng(seed), (4, 5, 3)
    loss = ClassifierLoss(rng.standard_normal((10, 4)), rng.integers(0, 3, 10), sizes)
    thetas = np.stack([1.5 * mlp.init(rng, sizes) for _ in range(3)])
    return loss, thetas, np.stack([loss.each(theta)[1] for theta in thetas])


def test_influence_is_a_gram_matrix():
    _, _, G = _gradients()
    lrs = np.array([0.1, 0.05, 0.2])
    I = influence(G, G, lrs)
    assert np.allclose(I, I.T, rtol=1e-12) and np.linalg.eigvalsh(I).min() > -1e-12 * I.max()
    assert np.allclose(np.diag(I), self_influence(G, lrs), rtol=1e-12)


def test_a_step_on_one_example_moves_another_by_its_influence():
    """The loss falls by lr times the inner product, with a remainder of second order."""
    loss, thetas, G = _gradients(4)
    remainder = []
    for lr in (1e-3, 1e-4):
        moved = loss.each(thetas[0] - lr * G[0, 2])[0]
        fall = influence(G[:1], G[:1], np.array([lr]))[:, 2]
        remainder.append(np.linalg.norm(loss.each(thetas[0])[0] - moved - fall))
    assert remainder[0] / remainder[1] == pytest.approx(100, rel=0.05)


def test_self_influence_at_one_checkpoint_is_a_squared_gradient_norm():
    loss, thetas, G = _gradients(5)
    assert np.allclose(self_influence(G[:1], np.ones(1)), data_diet.gradient_norms(loss, thetas[:1]) ** 2, rtol=1e-9)


def test_information_is_entropy_less_cross_entropy():
    y = np.array([0, 0, 1, 2, 2, 2, 2, 1])
    null = null_log_probs(y)
    assert np.allclose(np.exp(null), [0.25] * 3 + [0.5] * 4 + [0.25], rtol=1e-9)
    log_prob = np.log(np.random.default_rng(6).uniform(0.2, 0.9, 8))
    expected = stats.entropy([2, 2, 4], base=2) + log_prob.mean() / np.log(2)
    assert pointwise_information(log_prob, null).mean() == pytest.approx(expected)
    assert pointwise_information(np.zeros(8), null)[0] == pytest.approx(2.0)  # a certain model, one class of four


def test_probabilities():
    scores = np.random.default_rng(7).standard_normal(9)
    assert np.allclose(softmax_probabilities(scores), special.softmax(scores + 3), rtol=1e-13)
    assert np.allclose(linear_probabilities(np.array([1.0, 2.0, 3.0]), floor=0.5), np.array([2, 3, 4]) / 9, rtol=1e-9)
    assert np.allclose(linear_probabilities(np.ones(4)), 0.25, rtol=1e-9)


def test_drawing_has_the_law_of_one_after_the_other():
    """Of 4, two are drawn: each pair has the probability of its two orders; 40,000 draws, 5 standard errors."""
    weights, rng, draws = np.array([1.0, 2.0, 3.0, 6.0]), np.random.default_rng(8), 40_000
    taken = np.stack([drawn(weights, rng.random(4), share=0.5) for _ in range(draws)])
    p = weights / weights.sum()
    for i, j in itertools.combinations(range(4), 2):
        expected = p[i] * p[j] / (1 - p[i]) + p[j] * p[i] / (1 - p[j])
        found = (taken[:, i] * taken[:, j]).mean()
        assert abs(found - expected) < 5 * np.sqrt(expected * (1 - expected) / draws)


def test_overlap_by_hand():
    assert overlap(np.array([1.0, 1, 1, 0]), np.array([0.0, 1, 1, 1])) == pytest.approx(0.5)


def test_bad_input():
    with pytest.raises(ValueError, match="uniform must be at most 1"):
        drawn(np.ones(2), np.array([0.5, 1.1]))
    with pytest.raises(ValueError, match="lrs"):
        self_influence(np.ones((2, 1, 1)), np.array([0.1, 0.0]))
