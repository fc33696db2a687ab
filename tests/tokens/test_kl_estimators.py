"""The table of values and gradients of the estimators, by enumeration of the vocabulary."""

import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.stats import entropy

from tests.tokens.batches import token_batch
from trref.catalog import find
from trref.tokens.grpo import grpo
from trref.tokens.kl_estimators import grpo_with_kl, kl_estimate, kl_in_loss, kl_in_reward, kl_off_policy

V = 6


def _policies(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return [log_softmax(scale * rng.standard_normal(V)) for _ in range(3)]


def _kl(a, b):
    return entropy(np.exp(a), np.exp(b))


def _gradient_of_reverse(log_p, log_r):
    """d KL(p ‖ r) / d logits of p."""
    return np.exp(log_p) * (log_p - log_r - _kl(log_p, log_r))


def _gradient_of_forward(log_p, log_r):
    """d KL(r ‖ p) / d logits of p."""
    return np.exp(log_p) - np.exp(log_r)


def _mean(weights, coefficient, log_p):
    """Mean over tokens drawn with `weights` of coefficient times the score."""
    return weights @ (coefficient[:, None] * (np.eye(V) - np.exp(log_p)))


@pytest.mark.parametrize("seed", range(5))
def test_values_on_policy(seed):
    log_p, log_r, _ = _policies(seed)
    mean = {k: np.exp(log_p) @ kl_estimate(log_p, log_r, k)[0] for k in ("k1", "k2", "k3")}
    true = _kl(log_p, log_r)
    assert mean["k1"] == pytest.approx(true, rel=1e-12) and mean["k3"] == pytest.approx(true, rel=1e-12)
    assert abs(mean["k2"] - true) > 1e-3 * true


def test_k2_is_right_to_second_order():
    log_p, direction, _ = _policies(7)
    errors = []
    for h in (1e-2, 1e-3):
        log_r = log_softmax(log_p + h * direction)
        errors.append(abs(np.exp(log_p) @ kl_estimate(log_p, log_r, "k2")[0] / _kl(log_p, log_r) - 1))
    assert errors[0] < 1e-3 and errors[1] == pytest.approx(errors[0] / 10, rel=0.2)


@pytest.mark.parametrize("seed", range(5))
def test_gradients_on_policy(seed):
    """In the loss: 0, the reverse divergence, the forward one."""
    log_p, log_r, _ = _policies(seed)
    mean = {k: _mean(np.exp(log_p), kl_estimate(log_p, log_r, k)[1], log_p) for k in ("k1", "k2", "k3")}
    reverse, forward = _gradient_of_reverse(log_p, log_r), _gradient_of_forward(log_p, log_r)
    assert np.allclose(mean["k1"], 0, atol=1e-14, rtol=1e-9)
    assert np.allclose(mean["k2"], reverse, atol=1e-14, rtol=1e-9)
    assert np.allclose(mean["k3"], forward, atol=1e-14, rtol=1e-9)
    assert np.linalg.norm(reverse - forward) > 0.05 * np.linalg.norm(reverse)


@pytest.mark.parametrize("seed", range(5))
def test_gradients_in_the_reward(seed):
    log_p, log_r, _ = _policies(seed)
    charge = {k: kl_estimate(log_p, log_r, k)[0] for k in ("k1", "k2", "k3")}
    reverse = _gradient_of_reverse(log_p, log_r)
    assert np.allclose(_mean(np.exp(log_p), charge["k1"], log_p), reverse, atol=1e-14, rtol=1e-9)
    for k in ("k2", "k3"):
        assert np.linalg.norm(_mean(np.exp(log_p), charge[k], log_p) - reverse) > 0.05 * np.linalg.norm(reverse)


@pytest.mark.parametrize("seed", range(5))
def test_off_policy_only_the_corrected_form_is_right(seed):
    log_p, log_r, log_old = _policies(seed)
    old, one = np.exp(log_old), np.ones((V, 1))
    values, coefficients, plain = [], [], kl_estimate(log_p, log_r, "k3")
    for a in range(V):  # one token a call: the mean over tokens is the token
        value, gradient = kl_off_policy(
            *(x[a : a + 1, None] for x in (log_p, log_old)), one[:1], log_r[a : a + 1, None]
        )
        values.append(float(value))
        coefficients.append(float(gradient[0, 0]))
    assert old @ values == pytest.approx(_kl(log_p, log_r), rel=1e-12)
    reverse = _gradient_of_reverse(log_p, log_r)
    assert np.allclose(_mean(old, np.array(coefficients), log_p), reverse, atol=1e-13, rtol=1e-9)
    assert abs(old @ plain[0] - _kl(log_p, log_r)) > 1e-3
    for right in (reverse, _gradient_of_forward(log_p, log_r)):
        assert np.linalg.norm(_mean(old, plain[1], log_p) - right) > 0.05 * np.linalg.norm(right)


def _batch(seed):
    ref, log_prob, _, mask = token_batch(seed, spread=0.7)
    return log_prob, mask, ref


def test_the_charge_is_checked():
    with pytest.raises(ValueError, match="charge must have shape"):
        kl_in_reward(*_batch(0), charge=np.zeros(5))


def test_on_policy_the_correction_leaves_the_value():
    log_prob, mask, ref = _batch(1)
    corrected = kl_off_policy(log_prob, log_prob, mask, ref)
    assert corrected[0] == pytest.approx(kl_in_loss(log_prob, mask, ref)[0], rel=1e-13)


def test_k3_is_never_negative():
    d = np.concatenate([np.linspace(-30, 30, 2001), np.linspace(-1e-7, 1e-7, 2001)])
    assert (kl_estimate(np.zeros_like(d), d, "k3")[0] >= 0).all()


def test_the_penalty_is_a_sum():
    log_prob, mask, ref = _batch(2)
    advantage, old = np.linspace(-1, 1, 8), log_prob - 0.1
    with_kl = grpo_with_kl(log_prob, old, advantage, mask, ref, kl_weight=0.3)
    loss, gradient = grpo(log_prob, old, advantage, mask)
    k = np.exp(ref - log_prob) - (ref - log_prob) - 1
    assert with_kl[0] == pytest.approx(loss + 0.3 * ((mask * k).sum(1) / mask.sum(1)).mean(), rel=1e-12)
    per_answer = mask / (8 * mask.sum(1))[:, None]
    assert np.allclose(with_kl[1], gradient + 0.3 * per_answer * (1 - np.exp(ref - log_prob)), rtol=1e-12)


def test_deviations_where_they_agree():
    by_name = {d.name: d.f for d in find("kl_estimators.kl_in_loss").deviations}
    batch = _batch(3)
    clamped, straight = by_name["k3 clamped to ±10"](*batch), by_name["value of k3, gradient of k2"](*batch)
    ours, k2 = kl_in_loss(*batch), kl_in_loss(*batch, estimator="k2")
    assert np.allclose(clamped[1], ours[1], rtol=1e-12) and clamped[0] == pytest.approx(ours[0])
    assert straight[0] == pytest.approx(ours[0]) and np.allclose(straight[1], k2[1], rtol=1e-12)
    far = np.full((1, 1), -5.0), np.ones((1, 1)), np.zeros((1, 1))
    assert by_name["k3 clamped to ±10"](*far) == (10.0, 0.0) and kl_in_loss(*far)[0] > 100
