"""Scores by hand, bounds, and the lengths of gradients layer by layer."""

import numpy as np
import pytest

from trref.datasampling.data_diet import (
    error_norms,
    forgetting_counts,
    gradient_norms,
    keep,
    last_layer_norms,
    margins,
)
from trref.nn import mlp
from trref.problems.networks import ClassifierLoss


def _logits(*probabilities):
    return np.log(np.array(probabilities))[None]


def test_numbers_by_hand():
    """p = (0.5, 0.3, 0.2): of class 1 the error is (0.5, -0.7, 0.2), the margins 0.2 and 0.2 - 0.1."""
    z, y = _logits([0.5, 0.3, 0.2]), np.array([1])
    assert error_norms(z, y) == pytest.approx([np.sqrt(0.78)])
    assert error_norms(z, y, norm="l1") == pytest.approx([1.4])
    assert margins(z, y) == pytest.approx([0.2]) and margins(z, y, kind="sum") == pytest.approx([0.1])
    assert last_layer_norms(z, y, np.array([[[2.0, 2.0]]])) == pytest.approx([3 * np.sqrt(0.78)])


def test_bounds_of_the_error():
    """0 if certain and right, sqrt 2 if certain and wrong, sqrt(1 - 1/K) if undecided; sqrt 2 |1 - p| of two."""
    certain = np.array([[[800.0, 0.0, 0.0]] * 2])
    assert np.allclose(error_norms(certain, np.array([0, 2])), [0, np.sqrt(2)], rtol=1e-15, atol=0)
    assert error_norms(np.zeros((1, 1, 5)), np.array([3])) == pytest.approx([np.sqrt(0.8)])
    assert error_norms(_logits([0.9, 0.1]), np.array([1])) == pytest.approx([np.sqrt(2) * 0.9])


def _network(seed=0, sizes=(4, 6, 5, 3)):
    rng = np.random.default_rng(seed)
    loss = ClassifierLoss(rng.standard_normal((12, sizes[0])), rng.integers(0, sizes[-1], 12), sizes)
    return loss, 1.5 * mlp.init(rng, sizes)


def test_layers_add_up_to_the_gradient():
    """The last layer's delta is p - y; those before it are pulled back by hand, through tanh' = 1 - h²."""
    loss, theta = _network()
    (W1, b1), (W2, b2), (W3, b3) = mlp.unpack(theta, loss.sizes)
    h1 = np.tanh(loss.X @ W1 + b1)
    h2 = np.tanh(h1 @ W2 + b2)
    z = h2 @ W3 + b3
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    d3 = p - np.eye(3)[loss.labels]
    d2 = (d3 @ W3.T) * (1 - h2**2)
    d1 = (d2 @ W2.T) * (1 - h1**2)
    layer = lambda d, h: (d**2).sum(1) * ((h**2).sum(1) + 1)  # noqa: E731
    squares = gradient_norms(loss, theta[None]) ** 2
    assert np.allclose(squares, layer(d1, loss.X) + layer(d2, h1) + layer(d3, h2), rtol=1e-12)
    assert np.allclose(last_layer_norms(z[None], loss.labels, h2[None]) ** 2, layer(d3, h2), rtol=1e-12)


def test_gradients_against_differences():
    """The length of one example's gradient, entry by entry from its loss."""
    loss, theta = _network(1, (2, 3, 2))
    one, step = loss.on(slice(4, 5)), 1e-6
    slopes = [(one(theta + step * e)[0] - one(theta - step * e)[0]) / (2 * step) for e in np.eye(len(theta))]
    assert gradient_norms(loss, theta[None])[4] == pytest.approx(np.linalg.norm(slopes), rel=1e-7)


def test_a_step_on_one_example_moves_others_by_no_more_than_the_product():
    loss, theta = _network(2)
    _, gradients = loss.each(theta)
    lengths = gradient_norms(loss, theta[None])
    assert (abs(gradients @ gradients.T) <= np.outer(lengths, lengths) * (1 + 1e-12)).all()


def test_runs_are_averaged():
    loss, theta = _network(3)
    thetas = np.stack([theta, 2 * theta, -theta])
    each = [gradient_norms(loss, one[None]) for one in thetas]
    assert np.allclose(gradient_norms(loss, thetas), np.mean(each, 0), rtol=1e-14)


def test_without_an_output_layer_the_length_of_features_decides():
    """Nothing of the labels is left: the score is sqrt(1 - 1/K) sqrt(|h|² + 1)."""
    loss, theta = _network(4)
    theta[-18:] = 0  # 5 x 3 weights and 3 biases
    (W1, b1), (W2, b2), _ = mlp.unpack(theta, loss.sizes)
    h = np.tanh(np.tanh(loss.X @ W1 + b1) @ W2 + b2)
    expected = np.sqrt(2 / 3) * np.sqrt((h**2).sum(1) + 1)
    assert np.allclose(gradient_norms(loss, theta[None]), expected, rtol=1e-13)


def test_forgetting_by_hand():
    correct = np.array([[1, 0, 0, 1], [0, 0, 1, 1], [1, 0, 0, 1], [0, 0, 0, 1.0]])
    assert np.array_equal(forgetting_counts(correct), [2, 4, 1, 0])


def test_windows_by_hand():
    scores = np.array([0.1, 0.9, 0.5, 0.7])
    assert np.array_equal(keep(scores), [0, 1, 0, 1])
    assert np.array_equal(keep(scores, share=0.5, drop=0.25), [0, 0, 1, 1])
    assert np.array_equal(keep(scores, share=0.75, drop=0.9), [1, 0, 1, 1])  # moved back into the data
    assert np.array_equal(keep(scores, share=0.0), [0, 1, 0, 0])
    assert np.array_equal(keep(np.zeros(4)), [0, 0, 1, 1])  # of equal scores the later counts as the higher


def test_the_order_of_examples_does_not_matter():
    rng = np.random.default_rng(5)
    scores, order = rng.standard_normal(30), rng.permutation(30)
    assert np.array_equal(keep(scores[order], drop=0.1), keep(scores, drop=0.1)[order])


def test_bad_input():
    with pytest.raises(ValueError, match="labels"):
        error_norms(np.zeros((1, 2, 3)), np.array([0, 3]))
    with pytest.raises(ValueError, match="share must lie in"):
        keep(np.ones(3), share=1.5)
    _, theta = _network()
    with pytest.raises(TypeError, match="each"):
        gradient_norms(lambda theta: theta, theta[None])

    class Wrong:
        def __init__(self, result):
            self.result = result

        def __len__(self):
            return 2

        def __call__(self, theta):
            return self.result

        each = __call__

        def on(self, rows):
            return self

    for result, error, words in (
        (np.ones(2), TypeError, "a tuple"),
        ((np.ones(3), np.ones((2, 1))), ValueError, r"losses of shape \(2,\)"),
        ((np.ones(2), np.ones((2, 3))), ValueError, r"gradients of shape \(2, 1\)"),
        ((np.ones(2), np.ones((2, 1), np.float32)), TypeError, "float32"),
        ((np.ones(2), np.full((2, 1), np.inf)), ValueError, "finite"),
    ):
        with pytest.raises(error, match=words):
            gradient_norms(Wrong(result), np.ones((1, 1)))
