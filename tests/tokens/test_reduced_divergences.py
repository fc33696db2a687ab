"""Binary and top-K divergences against full ones of merged distributions."""

import itertools

import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.stats import entropy

from trref.catalog import find
from trref.checks import check_gradient
from trref.tokens.f_divergences import DIVERGENCES, divergence_rows
from trref.tokens.reduced_divergences import (
    binary_divergence,
    binary_rows,
    top_k_divergence,
    top_k_mask,
    top_k_rows,
)


def _pairs(seed, n=200, V=10, scale=1.5):
    rng = np.random.default_rng(seed)
    return log_softmax(scale * rng.standard_normal((n, V)), -1), log_softmax(scale * rng.standard_normal((n, V)), -1)


def _merged(p, keep):
    return np.append(p[keep == 1], p[keep == 0].sum())


def test_binary_by_hand():
    """p = 0.3, q = 0.2: the table of the reductions in use."""
    one = np.log([[0.3]]), np.log([[0.2]]), np.ones((1, 1))
    assert binary_divergence(*one)[0] == pytest.approx(0.1)
    kl = 0.2 * np.log(0.2 / 0.3) + 0.8 * np.log(0.8 / 0.7)
    assert binary_divergence(*one, kind="forward_kl")[0] == pytest.approx(kl)
    assert binary_divergence(*one, kind="pearson")[0] == pytest.approx(0.01 / 0.2 + 0.01 / 0.8)
    # d KL / d log p = p (-q/p + (1 - q)/(1 - p))
    assert binary_divergence(*one, kind="forward_kl")[1] == pytest.approx(-0.2 + 0.3 * 0.8 / 0.7)


@pytest.mark.parametrize("kind", DIVERGENCES)
def test_binary_is_the_divergence_of_two_cells(kind):
    log_p, log_q = _pairs(0)
    value, slope = binary_rows(log_p[:, 0], log_q[:, 0], kind)
    two = [np.stack([x[:, 0], np.log1p(-np.exp(x[:, 0]))], 1) for x in (log_p, log_q)]
    full, gradient = divergence_rows(*two, kind)
    assert np.allclose(value, full, rtol=1e-9)
    # the logit z of the first cell moves log p by 1 - p
    assert np.allclose(gradient[:, 0], slope * (1 - np.exp(log_p[:, 0])), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("kind", DIVERGENCES)
@pytest.mark.parametrize("K", [1, 3, 8])
def test_top_k_is_the_divergence_of_merged_cells(kind, K):
    log_p, log_q = _pairs(1)
    actions = np.random.default_rng(1).integers(0, 10, len(log_p))
    keep = top_k_mask(log_q, actions, K)
    assert (keep.sum(1) == K).all() and keep[np.arange(len(keep)), actions].all()
    value = top_k_rows(log_p, log_q, keep, kind)[0]
    for i in range(len(value)):
        p, q = _merged(np.exp(log_p[i]), keep[i]), _merged(np.exp(log_q[i]), keep[i])
        assert value[i] == pytest.approx(float(divergence_rows(np.log(p), np.log(q), kind)[0]), rel=1e-9)


def test_the_sampled_token_replaces_the_last():
    log_q = np.log([[0.1, 0.4, 0.3, 0.2]])
    assert top_k_mask(log_q, np.array([1]), 2).tolist() == [[0, 1, 1, 0]]
    assert top_k_mask(log_q, np.array([0]), 2).tolist() == [[1, 1, 0, 0]]
    assert top_k_mask(log_q, np.array([0]), 1).tolist() == [[1, 0, 0, 0]]
    assert top_k_mask(log_q, np.array([0]), 9).tolist() == [[1, 1, 1, 1]]


@pytest.mark.parametrize("kind", DIVERGENCES)
def test_merging_never_increases_a_divergence(kind):
    log_p, log_q = _pairs(2, n=3000)
    actions = np.argmax(np.random.default_rng(2).gumbel(size=log_q.shape) + log_q, 1)
    rows = np.arange(len(actions))
    binary = binary_rows(log_p[rows, actions], log_q[rows, actions], kind)[0]
    chain = [binary]
    for K in (1, 3, 6):
        chain.append(top_k_rows(log_p, log_q, top_k_mask(log_q, actions, K), kind)[0])
    chain.append(divergence_rows(log_p, log_q, kind)[0])
    assert np.allclose(chain[0], chain[1], rtol=1e-8), "K = 1 keeps the sampled token alone"
    for small, large in itertools.pairwise(chain):
        assert (small <= large * (1 + 1e-9) + 1e-13).all()


def test_the_mean_of_the_binary_is_not_the_divergence():
    """Over tokens from q it is a bound from below, and here a loose one."""
    log_p, log_q = _pairs(3, n=100)
    for kind in ("total_variation", "forward_kl"):
        mean = (np.exp(log_q) * binary_rows(log_p, log_q, kind)[0]).sum(1)
        full = divergence_rows(log_p, log_q, kind)[0]
        assert (mean < full).all() and np.median(mean / full) < 0.75


def test_a_certain_token():
    """Beyond 1 - p = 1e-7 the rest is a constant; nothing is infinite."""
    for log_p in (0.0, -1e-12, -1e-8):
        value, gradient = binary_divergence(np.array([[log_p]]), np.array([[-0.1]]), np.ones((1, 1)), kind="forward_kl")
        q = np.exp(-0.1)
        assert value == pytest.approx(entropy([q, 1 - q], [1 - 1e-7, 1e-7]), rel=1e-6)
        assert np.isfinite(gradient).all()


def test_a_number_inside_the_logarithm_matters_near_certainty_only():
    (deviation,) = find("reduced_divergences.binary_divergence").deviations
    hyper, one = {"kind": "forward_kl"}, np.ones((1, 1))
    apart, certain = (np.log([[0.3]]), np.log([[0.2]]), one), (np.array([[-1e-6]]), np.array([[-0.1]]), one)
    for batch, relative in ((apart, 1e-6), (certain, 0.02)):
        for ours, theirs in zip(binary_divergence(*batch, **hyper), deviation.f(*batch, **hyper), strict=True):
            assert ours == pytest.approx(theirs, rel=relative)
    assert binary_divergence(*certain, **hyper)[1] != pytest.approx(deviation.f(*certain, **hyper)[1], rel=1e-3)
    q, p = np.exp(-0.1), np.exp(-1e-6)
    by_hand = q * np.log(q / p) + (1 - q) * np.log((1 - q + 1e-8) / (1 - p + 1e-8))
    assert deviation.f(*certain, **hyper)[0] == pytest.approx(by_hand, rel=1e-9)


def test_the_cells_are_held_constant():
    """The set depends on q only, so the gradient is that of the merged divergence wherever p goes."""
    rng = np.random.default_rng(4)
    logits, old = 2 * rng.standard_normal((2, 2, 3, 7))
    actions, mask = rng.integers(0, 7, (2, 3)), np.ones((2, 3))

    def value(z):
        return top_k_divergence(z, old, actions, mask, K=3, kind="jensen_shannon")[0]

    gradient = top_k_divergence(logits, old, actions, mask, K=3, kind="jensen_shannon")[1]
    check_gradient(value, logits, gradient, rng=rng)
    assert np.allclose(gradient.sum(-1), 0, atol=1e-15, rtol=1e-9)


def test_actions_out_of_range():
    logits = np.zeros((1, 1, 3))
    with pytest.raises(ValueError, match="actions must be below"):
        top_k_divergence(logits, logits, np.array([[3]]), np.ones((1, 1)))
