"""The summary's example, the symmetries of trust, its holes, and the linear autoencoder as principal components."""

import numpy as np
import pytest

from trref.federated.fedagain import (
    aggregate,
    anomaly_scores,
    autoencoder_loss,
    divergences,
    reconstruction_errors,
    trust_weights,
)

ERRORS, FAR = np.array([0.15, 0.4, 0.7]), np.array([0.2, 0.6, 0.3])


def test_the_published_example():
    assert np.allclose(1 / (ERRORS * FAR + 1e-4), [33.22, 4.16, 4.76], atol=0.01, rtol=1e-9)
    assert np.allclose(trust_weights(ERRORS, FAR), [0.788, 0.099, 0.113], atol=5e-4, rtol=1e-9)


def test_parts_alone():
    w = trust_weights(ERRORS, FAR, signals="error", eps=1e-12)
    assert np.allclose(w, (1 / ERRORS) / (1 / ERRORS).sum(), rtol=1e-9)
    w = trust_weights(ERRORS, FAR, signals="divergence", eps=1e-12)
    assert np.allclose(w, (1 / FAR) / (1 / FAR).sum(), rtol=1e-9)
    assert np.allclose(trust_weights(ERRORS, FAR, signals="none"), 1 / 3, rtol=1e-9)


def test_order_units_and_large_eps():
    order = np.array([2, 0, 1])
    assert np.allclose(trust_weights(ERRORS[order], FAR[order]), trust_weights(ERRORS, FAR)[order], rtol=1e-9)
    tiny = {"eps": 1e-15}
    assert np.allclose(trust_weights(7 * ERRORS, FAR, **tiny), trust_weights(ERRORS, 0.1 * FAR, **tiny), rtol=1e-10)
    assert np.allclose(trust_weights(ERRORS, FAR, eps=1e12), 1 / 3, rtol=1e-9)
    two = trust_weights(ERRORS[:2], FAR[:2], **tiny)
    assert two[0] / two[1] == pytest.approx(0.4 * 0.6 / (0.15 * 0.2))


def test_sensitivity():
    """By a client's error, trust falls by share · (1 - share) · divergence · weight."""
    share, step = trust_weights(ERRORS, FAR)[0], 1e-6
    ends = [trust_weights(ERRORS + s * np.eye(3)[0], FAR)[0] for s in (step, -step)]
    weight = 1 / (0.15 * 0.2 + 1e-4)
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(-share * (1 - share) * 0.2 * weight, rel=1e-6)


def test_the_free_rider_is_trusted_almost_alone():
    thetas = np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 3.0]])
    theta = thetas[0]
    far = divergences(thetas, theta)
    assert np.allclose(far, [0, np.sqrt(2), np.sqrt(5)], rtol=1e-9)
    assert trust_weights(np.ones(3), far)[0] > 0.999
    assert np.allclose(aggregate(thetas, theta, np.ones(3)), theta, atol=3e-4, rtol=1e-9)


def test_errors_and_scores_by_hand():
    X = np.array([[1.0, 0.0], [0.0, 2.0]])
    reconstructed = np.stack([X, X + np.array([[3.0, 4.0], [0.0, 1.0]])])
    assert np.allclose(anomaly_scores(X, reconstructed[1]), [25, 1], rtol=1e-9)
    assert np.allclose(reconstruction_errors(X, reconstructed), [0, 13], rtol=1e-9)


def test_a_nearly_linear_autoencoder_does_no_better_than_principal_components():
    """tanh of tiny pre-activations is linear; at the components the loss is the rest of the variance, and flat."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 5)) * np.array([3.0, 2.0, 1.0, 0.5, 0.2])
    X -= X.mean(0)
    _, s, V = np.linalg.svd(X, full_matrices=False)
    small = 1e-4
    value, gradient = autoencoder_loss(small * V[:2].T, np.zeros(2), V[:2] / small, np.zeros(5), X)
    assert value == pytest.approx((s[2:] ** 2).sum() / 200, rel=1e-5)
    assert max(abs(gradient.W2).max(), abs(gradient.b2).max(), small * abs(gradient.W1).max()) < 1e-4


def test_bad_input():
    with pytest.raises(ValueError, match="errors must be non-negative"):
        trust_weights(-ERRORS, FAR)
    with pytest.raises(ValueError, match="signals"):
        trust_weights(ERRORS, FAR, signals="all")
