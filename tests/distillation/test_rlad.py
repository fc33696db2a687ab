"""Theorems and limits of rlad."""

import math

import numpy as np
import pytest

from trref.distillation.rlad import active_share, log_ratio, rlad, rlad_with_kl, vetoed
from trref.tokens.grpo import grpo
from trref.tokens.kl_estimators import grpo_with_kl

ONE = np.ones((1, 1))


def _batch(seed, B=8, T=5, spread=0.4):
    rng = np.random.default_rng(seed)
    old = -0.05 - rng.exponential(1.5, (B, T))
    near = [-abs(old + spread * rng.standard_normal((B, T))) for _ in range(2)]
    mask = (np.arange(T) < rng.integers(1, T + 1, (B, 1))).astype(float)
    return near[0], old, near[1], rng.standard_normal(B), mask


def _softmax(z):
    p = np.exp(z - z.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def _log(*values):
    return (np.log([[v]]) for v in values)


def test_numbers_by_hand():
    """Half to the old policy, half to the teacher: sqrt(0.6/0.5 * 0.6/0.4) = sqrt(1.8), above 1.28."""
    new, old, teacher = _log(0.6, 0.5, 0.4)
    assert log_ratio(new, old, teacher) == pytest.approx(math.log(1.8) / 2)
    loss, gradient = rlad(new, old, teacher, np.array([2.0]), ONE)
    assert loss == pytest.approx(-2.56) and gradient == 0
    loss, gradient = rlad(new, old, teacher, np.array([-2.0]), ONE)
    assert loss == pytest.approx(2 * math.sqrt(1.8)) and gradient == pytest.approx(2 * math.sqrt(1.8))


def test_the_clamp_by_hand():
    """A teacher at e⁻³ of the policy counts as one at e⁻¹, and half of the derivative is gone."""
    new, old, teacher = np.full((1, 1), -1.0), np.full((1, 1), -1.0), np.full((1, 1), -4.0)
    assert log_ratio(new, old, teacher) == 0.5
    assert log_ratio(new, old, teacher, teacher_clip=9.0) == 1.5
    gradient = rlad(new, old, teacher, np.array([-1.0]), ONE)[1]
    assert gradient == pytest.approx(0.5 * math.exp(0.5))
    assert rlad(new, old, teacher, np.array([-1.0]), ONE, teacher_clip=9.0)[1] == pytest.approx(math.exp(1.5))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_the_clipped_loss_with_the_mixture_in_the_place_of_the_old_policy(share):
    """PPO's loss as everybody writes it; the mixture is no distribution, and need not be."""
    new, old, teacher, A, mask = _batch(0, spread=0.8)
    ours = rlad(new, old, teacher, A, mask, old_share=share, teacher_clip=1e9, clip_low=0.2, clip_high=0.2)
    theirs = grpo(new, share * old + (1 - share) * teacher, A, mask)
    assert ours[0] == pytest.approx(float(theirs[0]))
    assert np.allclose(ours[1], theirs[1], rtol=1e-12, atol=1e-15)


def test_at_one_it_is_grpo_whatever_the_teacher_says():
    new, old, _, A, mask = _batch(1)
    values = [
        rlad(new, old, teacher, A, mask, old_share=1.0, clip_low=0.2, clip_high=0.2) for teacher in (old, old - 3, new)
    ]
    theirs = grpo(new, old, A, mask)
    for loss, gradient in values:
        assert loss == pytest.approx(float(theirs[0])) and np.allclose(gradient, theirs[1], rtol=1e-12, atol=0)


def test_the_baseline_is_a_penalty_towards_the_teacher():
    new, old, teacher, A, mask = _batch(2)
    ours = rlad_with_kl(
        new, old, old, teacher, A, mask, old_share=1.0, clip_low=0.2, clip_high=0.2, kl_weight=0.3, estimator="k3"
    )
    theirs = grpo_with_kl(new, old, A, mask, teacher, kl_weight=0.3)
    assert ours[0] == pytest.approx(float(theirs[0])) and np.allclose(ours[1], theirs[1], rtol=1e-12, atol=1e-15)


def test_the_gradient_by_the_logits():
    """A r (α + (1-α) 1[inside]) (e_y - q), by differences."""
    rng = np.random.default_rng(3)
    z, z_old, z_teacher, y = *rng.standard_normal((3, 12, 4)), rng.integers(0, 4, 12)
    A, rows = rng.standard_normal(12), np.arange(12)
    old, teacher = (np.log(_softmax(logits))[rows, y][:, None] for logits in (z_old, z_teacher))

    def loss(z):
        return rlad(np.log(_softmax(z))[rows, y][:, None], old, teacher, A, np.ones((12, 1)))

    by_hand = loss(z)[1] * (np.eye(4)[y] - _softmax(z))
    assert 4 <= by_hand.any(1).sum() < 12
    for i in range(12):
        for j in range(4):
            step = np.zeros_like(z)
            step[i, j] = 1e-6
            assert (loss(z + step)[0] - loss(z - step)[0]) / 2e-6 == pytest.approx(by_hand[i, j], abs=1e-8)


@pytest.mark.parametrize("clamp", [0.3, 1.0, 1e9])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_veto_is_where_the_first_gradient_vanishes(share, clamp):
    _, old, teacher, A, _ = _batch(4, B=40, spread=1.2)
    hyper = {"old_share": share, "teacher_clip": clamp}
    mask = np.ones_like(old)
    gradient = rlad(old, old, teacher, A, mask, **hyper)[1]
    assert np.array_equal(vetoed(old, teacher, A, mask, **hyper) == 1, gradient == 0)


def test_from_which_share_on_the_clamped_teacher_cannot_veto():
    """(1 - α) > log 1.28 below 0.7531, (1 - α) > -log 0.8 below 0.7769: whatever the teacher says."""
    old, teacher = np.full((1, 2), -3.0), np.array([[-25.0, 0.0]])
    for share, up, down in ((0.753, 1, 1), (0.7535, 0, 1), (0.7765, 0, 1), (0.777, 0, 0)):
        mask = np.ones((1, 2))
        assert vetoed(old, teacher, np.array([[1.0, 1.0]]), mask, old_share=share).tolist() == [[up, 0]]
        assert vetoed(old, teacher, np.array([[-1.0, -1.0]]), mask, old_share=share).tolist() == [[0, down]]


def test_a_push_ends_at_the_band_around_the_teacher():
    """Pushed up at each step, with a new anchor each time: 1.28 to the power of two times the teacher's 0.3."""
    z, teacher = np.zeros(5), np.full((1, 1), math.log(0.3))
    for _ in range(4000):
        q = _softmax(z)
        old = np.log(q[:1]).reshape(1, 1)
        pull = rlad(old, old, teacher, np.array([1.0]), ONE)[1][0, 0]
        z = z - 0.01 * pull * (np.eye(5)[0] - q)
    assert _softmax(z)[0] == pytest.approx(0.3 * 1.28**2, abs=0.005) and pull == 0


def test_shares_by_hand():
    """Two up and liked, of which one is beyond 1.28; one up and disliked, stopped; one down and liked, pushed."""
    old = np.full((1, 4), -1.0)
    new = np.array([[-1.0, -0.3, -0.5, -1.0]])
    teacher = np.array([[-0.9, -0.9, -1.2, -0.9]])
    shares = active_share(new, old, teacher, np.array([[1.0, 1.0, 1.0, -1.0]]), np.ones((1, 4)))
    assert [float(s) for s in shares] == [0.5, 0.0, 1.0, 0.0]


def test_nothing_there():
    new, old, teacher, A, mask = _batch(5)
    loss, gradient = rlad(new, old, teacher, A, 0 * mask)
    assert loss == 0 and not gradient.any()
    loss, gradient = rlad(new, old, teacher, 0 * A, mask)
    assert loss == 0 and not gradient.any(), "a group of equal rewards is not pushed by the teacher either"
    assert not vetoed(old, teacher, A, 0 * mask).any()


def test_refused():
    new, old, teacher, A, mask = _batch(6)
    with pytest.raises(ValueError, match="old_share"):
        rlad(new, old, teacher, A, mask, old_share=1.5)
    with pytest.raises(ValueError, match="clip_low"):
        rlad(new, old, teacher, A, mask, clip_low=1.0)
    with pytest.raises(ValueError, match="teacher_log_prob"):
        rlad(new, old, teacher[:, :2], A, mask)
