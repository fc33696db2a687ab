"""The smoothed ratio: what it does to distances, and what it does not do to the direction of the gradient."""

import numpy as np
import pytest
from scipy.spatial.distance import cityblock
from scipy.special import log_softmax, rel_entr

from tests.tokens.batches import token_batch
from trref.catalog import find
from trref.experiments.tokens import train
from trref.optimizers import adam
from trref.tokens.grpo import grpo
from trref.tokens.pspo import contraction, pspo, smoothed_policy, smoothed_ratio
from trref.tokens.terms import logit_gradient


def _unclipped(log_prob, old, advantage, mask):
    """Mean over answers of the mean over tokens of ratio times advantage, by loops."""
    loss, gradient = 0.0, np.zeros_like(mask)
    for i in range(len(mask)):
        for t in range(mask.shape[1]):
            if mask[i, t]:
                term = np.exp(log_prob[i, t] - old[i, t]) * advantage[i] / (len(mask) * mask[i].sum())
                loss, gradient[i, t] = loss - term, -term
    return loss, gradient


def _policies(seed, V=9, shift=1.0):
    rng = np.random.default_rng(seed)
    old = 1.5 * rng.standard_normal((1, 4, V))
    return old + shift * rng.standard_normal((1, 4, V)), old


def test_loss_by_hand():
    """Ratios 2 | 0.5, 1 at alpha = 0.2: smoothed 1.8 | 0.6, 1; advantages 1 and -1."""
    log_prob, mask = np.log([[2.0, 7.0], [0.5, 1.0]]), np.array([[1.0, 0.0], [1.0, 1.0]])
    loss, gradient = pspo(log_prob, np.zeros((2, 2)), np.array([1.0, -1.0]), mask, alpha=0.2)
    assert loss == pytest.approx(-(1.8 - 0.8) / 2)
    assert np.allclose(gradient, [[-0.8, 0], [0.1, 0.2]], rtol=1e-9)
    loss, _ = pspo(log_prob, np.zeros((2, 2)), np.array([1.0, -1.0]), mask, alpha=0.2, aggregation="token_mean")
    assert loss == pytest.approx(-(1.8 - 0.6 - 1) / 3)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("seed", range(4))
def test_the_gradient_is_a_multiple_of_the_unclipped_one(alpha, seed):
    batch = token_batch(seed, spread=(0.05, 0.4, 1.5, 4.0)[seed])
    (loss, gradient), (plain, direction) = pspo(*batch, alpha=alpha), _unclipped(*batch)
    assert np.allclose(gradient, (1 - alpha) * direction, rtol=1e-12, atol=0)
    _, _, advantage, _ = batch
    assert loss == pytest.approx((1 - alpha) * plain - alpha * advantage.mean(), rel=1e-12)


def test_nothing_moves_where_all_is_smoothed():
    assert abs(pspo(*token_batch(1, spread=0.8), alpha=1 - 1e-12)[1]).max() < 1e-10


def test_nothing_is_flat():
    """Far outside any clip the gradient keeps growing with the ratio; GRPO's is 0."""
    log_prob = np.log([[1.1, 2.0, 10.0]])
    batch = log_prob, np.zeros((1, 3)), np.ones(1), np.ones((1, 3))
    assert (np.diff(-pspo(*batch)[1]) > 0).all() and not grpo(*batch)[1][0, 1:].any()
    assert smoothed_ratio(np.full((1, 1), -25.0), np.zeros((1, 1)), alpha=0.1)[0, 0] == pytest.approx(0.1)


def test_mixture_is_a_distribution_between_the_two():
    z, old = _policies(0)
    p, q, mixed = (np.exp(log_softmax(x, -1)) for x in (z, old, z))
    mixed = smoothed_policy(z, old, alpha=0.3)
    assert np.allclose(mixed.sum(-1), 1, rtol=1e-14) and (mixed > 0).all()
    assert (mixed >= np.minimum(p, q) - 1e-15).all() and (mixed <= np.maximum(p, q) + 1e-15).all()
    assert np.allclose(mixed / q, smoothed_ratio(np.log(p)[0], np.log(q)[0], alpha=0.3)[None], rtol=1e-12)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("shift", [0.01, 1.0, 4.0])
def test_distances_contract(alpha, shift):
    z, old = _policies(1, shift=shift)
    p, q = np.exp(log_softmax(z, -1))[0], np.exp(log_softmax(old, -1))[0]
    got = contraction(z, old, alpha=alpha)
    mixed = (1 - alpha) * p + alpha * q
    tv, plain = ([cityblock(a, b) / 2 for a, b in zip(x, q, strict=True)] for x in (mixed, p))
    assert got.total_variation[0] == pytest.approx(tv, rel=1e-10)
    assert got.total_variation[0] == pytest.approx((1 - alpha) * np.array(plain), rel=1e-10)
    chi_square = ((p - q) ** 2 / q).sum(1)
    assert got.chi_square[0] == pytest.approx((1 - alpha) ** 2 * chi_square, rel=1e-10)
    for kl, of_mixture, of_policy in (
        (got.reverse_kl[0], rel_entr(mixed, q), rel_entr(p, q)),
        (got.forward_kl[0], rel_entr(q, mixed), rel_entr(q, p)),
    ):
        assert kl == pytest.approx(of_mixture.sum(1), rel=1e-6)
        assert (kl <= (1 - alpha) * of_policy.sum(1)).all()


def test_the_policy_itself_is_not_bounded():
    """Plain ascent on a fixed batch of all tokens: the mixture's distance stays at most 0.9, the policy's goes to 1."""
    rng = np.random.default_rng(0)
    q = rng.dirichlet(np.ones(10))
    z, actions, old = np.log(q)[None, None], np.arange(10)[:, None], np.log(q)[:, None]
    advantage = q * (np.arange(10) == q.argmin()) - q * (q.min() / 1)
    for _ in range(4000):
        log_prob = log_softmax(z[0, 0])[:, None]
        _, g = pspo(log_prob, old, advantage, np.ones((10, 1)), alpha=0.1)
        z = z - 100 * logit_gradient(np.repeat(z, 10, 0), actions, g).sum(0)
    distances = contraction(z, np.log(q)[None, None], alpha=0.1)
    p = np.exp(log_softmax(z[0, 0]))
    assert cityblock(p, q) / 2 > 0.95 and distances.total_variation[0, 0] == pytest.approx(0.9 * cityblock(p, q) / 2)


def test_under_adam_smoothing_does_nothing():
    """Two runs, with and without smoothing, of the same gradients up to the factor: equal to Adam's epsilon."""
    log_prob, old, advantage, mask = token_batch(2, spread=0.8)
    ends = []
    for alpha in (0.0, 0.5):
        x, state = log_prob, adam.init([log_prob])
        for _ in range(50):
            _, gradient = pspo(x, old, advantage, mask, alpha=alpha)
            (x,), state = adam.update([x], [gradient], state, lr=0.02)
        ends.append(x)
    assert abs(ends[0] - log_prob).max() > 0.5 and abs(ends[0] - ends[1]).max() < 1e-5


def test_training_curves_coincide():
    smoothed, plain = (train(pspo, seed=1, hyper={"alpha": a}, iterations=12) for a in (0.1, 0.0))
    assert smoothed.success == pytest.approx(plain.success, abs=1e-3) and plain.success[-1] > plain.success[0]


def test_deviations_and_where_they_agree():
    kept, logs = (d.f for d in find("pspo.pspo").deviations)
    near = token_batch(3, spread=0.01)
    assert np.allclose(kept(*near)[1], pspo(*near)[1], rtol=1e-13), "inside the clip"
    far = token_batch(4, spread=1.5)
    ratio = np.exp(far[0] - far[1])
    dropped = (kept(*far)[1] == 0) & (far[3] == 1)
    A = np.broadcast_to(far[2][:, None], ratio.shape)
    outside = ((A > 0) & (ratio > 1 + 0.2 / 0.9)) | ((A < 0) & (ratio < 1 - 0.2 / 0.9))
    assert np.array_equal(dropped, outside & (far[3] == 1)) and dropped.any()

    def cosine(a, b):
        return (a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b)

    assert cosine(pspo(*far)[1], _unclipped(*far)[1]) == pytest.approx(1, abs=1e-14)
    assert cosine(logs(*far, alpha=0.5)[1], _unclipped(*far)[1]) < 0.99


@pytest.mark.parametrize("alpha", [-0.1, 1.0, 2.0])
def test_alpha_is_a_share(alpha):
    with pytest.raises(ValueError, match="alpha must lie in"):
        pspo(*token_batch(0, spread=0.8), alpha=alpha)
