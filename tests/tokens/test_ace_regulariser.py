"""The decomposition of ACE's expected update, exactly and by sampling."""

import numpy as np
import pytest
from scipy.special import expit
from scipy.special import log_softmax as scipy_log_softmax

from trref.tokens.ace import ace
from trref.tokens.ace_regulariser import decomposition, selective_regulariser
from trref.tokens.terms import logit_gradient


def _policy(seed, N=5, V=7):
    rng = np.random.default_rng(seed)
    reference = rng.standard_normal((N, V))
    wrong = (rng.random((N, V)) < 0.6).astype(float)
    return reference + rng.standard_normal((N, V)), reference, wrong


def test_by_hand():
    """Two answers at 3/4 and 1/4, the reference at 1/2 each, the first wrong: c = log 1.5."""
    logits, reference, wrong = np.log([[0.75, 0.25]]), np.zeros((1, 2)), np.array([[1.0, 0.0]])
    value, gradient = selective_regulariser(logits, reference, wrong)
    assert value == pytest.approx(0.75 * np.log(2.5))
    slope = np.log(2.5) + 1.5 / 2.5
    assert np.allclose(gradient, [[0.75 * 0.25 * slope, -0.75 * 0.25 * slope]], rtol=1e-9)


@pytest.mark.parametrize("length", [1.0, 3.0, 50.0])
def test_the_decomposition_is_an_identity(length):
    extra, regulariser, residual = decomposition(*_policy(0), length=length)
    assert np.allclose(extra, -regulariser + residual, atol=1e-15, rtol=1e-9)
    _, gradient = selective_regulariser(*_policy(0), length=length)
    assert np.allclose(regulariser, 5 * gradient, rtol=1e-12)


@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_the_extra_is_what_ace_adds(alpha):
    """All answers, weighted by their probability, one token each; the advantage of a wrong one is -1."""
    logits, reference, wrong = _policy(1)
    N, V = logits.shape
    actions = np.tile(np.arange(V), N)[:, None]
    z = np.repeat(logits, V, 0)[:, None]
    log_p, log_q = (scipy_log_softmax(x, 1).reshape(-1, 1) for x in (logits, reference))
    A, mask = -wrong.reshape(-1), np.ones((N * V, 1))
    updates = [
        -(N * V) * ace(log_p, log_p, A, mask, log_q, alpha=a)[1] for a in (alpha, 0.0)
    ]  # the loss is a mean over answers
    weighted = (updates[0] - updates[1]) * np.exp(log_p)
    added = logit_gradient(z, actions, weighted)[:, 0].reshape(N, V, V).sum(1)
    assert np.allclose(added, alpha * decomposition(logits, reference, wrong).extra, atol=1e-14, rtol=1e-9)


def test_the_residual_is_small_and_moderates():
    """Its weight is in (0, 1/T): for long answers the update is descent on the regulariser."""
    policy = _policy(2)
    shares = []
    for length in (1.0, 10.0, 100.0):
        extra, regulariser, residual = decomposition(*policy, length=length)
        shares.append(np.linalg.norm(residual) / np.linalg.norm(regulariser))
        assert (np.sum(extra * regulariser, 1) <= 1e-15).all() or length == 1.0
    assert shares[0] > 5 * shares[1] > 25 * shares[2]


def test_likely_wrong_answers_are_pushed_down():
    """Where all answers are wrong, the one that has grown pays for the others."""
    rng = np.random.default_rng(3)
    reference = rng.standard_normal((1, 6))
    logits = reference + np.array([[2.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    extra = decomposition(logits, reference, np.ones((1, 6))).extra[0]
    assert extra[0] < 0 < extra[1:].min()


def test_against_scipy():
    logits, reference, wrong = _policy(4)
    log_p, log_q = scipy_log_softmax(logits, 1), scipy_log_softmax(reference, 1)
    p, c = np.exp(log_p), (log_p - log_q) / 3
    u = wrong * (np.logaddexp(0, c) + expit(c) / 3)
    value, gradient = selective_regulariser(logits, reference, wrong, length=3)
    assert value == pytest.approx((p * wrong * np.logaddexp(0, c)).sum() / 5, rel=1e-13)
    assert np.allclose(gradient, p * (u - (p * u).sum(1, keepdims=True)) / 5, rtol=1e-12)


def test_without_wrong_answers_there_is_nothing():
    logits, reference, _ = _policy(5)
    value, gradient = selective_regulariser(logits, reference, np.zeros((5, 7)))
    assert value == 0 and not gradient.any()
