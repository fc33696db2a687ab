"""Theorems and limits of psft."""

import math

import numpy as np
import pytest

from trref.distillation.psft import clipped_share, fewest_anchors, psft, sft

OLD = np.log([[0.5, 0.1, 0.25], [0.2, 0.4, 0.3]])
MASK = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])


def _batch(seed, B=6, T=5, spread=0.4):
    rng = np.random.default_rng(seed)
    old = -0.05 - rng.exponential(1.5, (B, T))
    return old + spread * rng.standard_normal((B, T)), old, (rng.random((B, T)) < 0.7).astype(float)


def _softmax(z):
    p = np.exp(z - z.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def test_numbers_by_hand():
    """Ratios 1.25, 1.5 (stopped) and 0.5 on three tokens: -(1.25 + 1.28 + 0.5)/3."""
    log_prob = OLD + np.log([[1.25, 1.5, 9.0], [0.5, 7.0, 3.0]])
    loss, gradient = psft(log_prob, OLD, MASK)
    assert loss == pytest.approx(-3.03 / 3)
    assert gradient == pytest.approx(np.array([[-1.25 / 3, 0, 0], [-0.5 / 3, 0, 0]]))
    assert clipped_share(log_prob, OLD, MASK) == pytest.approx(1 / 3)


def test_supervised_fine_tuning_by_hand():
    """-(log 0.5 + log 0.1 + log 0.2)/3 = log(100)/3."""
    loss, gradient = sft(OLD, MASK)
    assert loss == pytest.approx(math.log(100) / 3) and np.array_equal(gradient, -MASK / 3)


def test_the_bound_itself_still_pulls():
    """exp(log 2) is exactly 2: on the bound the derivative is the ratio's, and no token counts as stopped."""
    log_prob, old = np.array([[math.log(2.0)]]) - 1.0, np.array([[-1.0]])
    ratio = math.exp(float(log_prob[0, 0]) + 1.0)
    at = ratio - 1.0
    assert psft(log_prob, old, np.ones((1, 1)), clip_high=at)[1] == pytest.approx(-ratio)
    assert clipped_share(log_prob, old, np.ones((1, 1)), clip_high=at) == 0
    below = at - 1e-9
    assert psft(log_prob, old, np.ones((1, 1)), clip_high=below)[1] == 0
    assert clipped_share(log_prob, old, np.ones((1, 1)), clip_high=below) == 1


def test_the_lower_bound_never_acts():
    """PPO's minimum with both bounds, written out with any lower one, is the minimum with the upper one."""
    log_prob, old, mask = _batch(0, spread=1.5)
    ratio = np.exp(log_prob - old)
    for low in (0.01, 0.2, 0.9):
        both = np.minimum(ratio, np.clip(ratio, 1 - low, 1.28))
        assert psft(log_prob, old, mask)[0] == pytest.approx(-both[mask == 1].mean())


@pytest.mark.parametrize("clip_high", [1e-3, 0.28, 5.0])
def test_the_first_update_of_a_batch_is_supervised_fine_tuning(clip_high):
    _, old, mask = _batch(1)
    assert np.array_equal(psft(old, old, mask, clip_high=clip_high)[1], sft(old, mask)[1])


def test_without_a_bound_a_token_counts_by_its_ratio():
    log_prob, old, mask = _batch(2)
    loss, gradient = psft(log_prob, old, mask, clip_high=1e6)
    ratio = np.exp(log_prob - old)
    assert loss == pytest.approx(-ratio[mask == 1].mean())
    assert np.allclose(gradient, ratio * sft(log_prob, mask)[1], rtol=1e-9, atol=1e-12)


def test_all_stopped_or_none_there():
    _, old, mask = _batch(3)
    loss, gradient = psft(old + 0.3, old, mask)
    assert (
        loss == pytest.approx(-1.28) and not gradient.any() and clipped_share(old + 0.3, old, mask) == pytest.approx(1)
    )
    for value in (psft(old, old, 0 * mask), sft(old, 0 * mask)):
        assert value[0] == 0 and not value[1].any()
    assert clipped_share(old + 0.3, old, 0 * mask) == 0


def test_the_gradient_by_the_logits():
    """Taken to logits by the chain rule it is -r 1[r ≤ 1 + ε] (e_y - q) / M: by differences, row by row."""
    rng = np.random.default_rng(4)
    z, z_old, y = rng.standard_normal((5, 4)), rng.standard_normal((5, 4)), rng.integers(0, 4, 5)
    rows = np.arange(5)

    def loss(z):
        log_prob, old = (np.log(_softmax(logits))[rows, y][None] for logits in (z, z_old))
        return psft(log_prob, old, np.ones((1, 5)))

    q = _softmax(z)
    ratio = (q / _softmax(z_old))[rows, y]
    assert (ratio > 1.28).any() and (ratio < 1.28).any()
    by_hand = -(ratio * (ratio < 1.28))[:, None] * (np.eye(4)[y] - q) / 5
    assert np.allclose(loss(z)[1].T * (np.eye(4)[y] - q), by_hand, rtol=1e-9, atol=1e-12)
    for i in range(5):
        for j in range(4):
            step = np.zeros_like(z)
            step[i, j] = 1e-6
            assert (loss(z + step)[0] - loss(z - step)[0]) / 2e-6 == pytest.approx(by_hand[i, j], abs=1e-8)


def test_a_probable_token_never_stops():
    """Above 1/1.28 = 0.78125 no probability is 1.28 times as large."""
    old = np.log([[0.79, 0.95, 1.0]])
    assert clipped_share(np.zeros((1, 3)), old, np.ones((1, 3))) == 0
    assert clipped_share(np.zeros((1, 1)), np.log([[0.78]]), np.ones((1, 1))) == 1


def test_anchors_by_hand():
    """From 0.1 to 0.8 with doubling: 3. A token that falls needs none."""
    new, old = np.log([[0.8, 0.1, 0.3]]), np.log([[0.1, 0.2, 0.3]])
    assert fewest_anchors(new, old, clip_high=1.0) == pytest.approx(np.array([[3.0, 0, 0]]))


def test_the_number_of_anchors_is_met():
    """One softmax, small steps: a token ends just above the bound of its anchor, and it takes the fewest."""
    y, target, bound = 2, 0.6, 0.28
    z, anchors = np.array([2.0, 0.0, -1.0]), 0
    start = np.log(_softmax(z)[y])
    while _softmax(z)[y] < target:
        old, anchors = np.log(_softmax(z)[y]).reshape(1, 1), anchors + 1
        pull = -1.0
        while pull:
            q = _softmax(z)
            pull = psft(np.log(q[y]).reshape(1, 1), old, np.ones((1, 1)), clip_high=bound)[1][0, 0]
            z = z - 0.004 * pull * (np.eye(3)[y] - q)
        assert np.log(_softmax(z)[y]) - old[0, 0] < math.log1p(bound) + 0.01
    fewest = fewest_anchors(np.array([[math.log(target)]]), start.reshape(1, 1), clip_high=bound)[0, 0]
    assert anchors == math.ceil(fewest) > 5


def test_refused():
    log_prob, old, mask = _batch(5)
    with pytest.raises(ValueError, match="clip_high"):
        psft(log_prob, old, mask, clip_high=0.0)
    with pytest.raises(ValueError, match="mask"):
        psft(log_prob, old, 0.5 * mask)
    with pytest.raises(ValueError, match="old_log_prob"):
        psft(log_prob, old[:, :2], mask)
