"""Which tokens are kept, the rows that are left, and the gradient that reaches all logits."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, rel_entr

from tests.tokens.batches import vocabulary_batch
from trref.checks import check_gradient
from trref.tokens.troll import troll
from trref.tokens.troll_sparse import sparse_projection, sparsify, support, troll_sparse


def test_support():
    logits = np.log([[[0.5, 0.3, 0.15, 0.04, 0.01]]])
    old = np.log([[[0.01, 0.04, 0.15, 0.3, 0.5]]])
    assert support(logits, old, np.array([[2]]), mass=0.75)[0, 0].tolist() == [1, 1, 1, 1, 1]
    kept = support(logits, old, np.array([[2]]), K=1)[0, 0]
    assert kept.tolist() == [1, 0, 1, 0, 1], "the top one of each, and the sampled one"
    assert support(logits, logits, np.array([[0]]), mass=0.75)[0, 0].tolist() == [1, 1, 0, 0, 0]
    assert support(logits, logits, np.array([[0]]), mass=0.85)[0, 0].tolist() == [1, 1, 1, 0, 0], "the mass is reached"
    assert support(0 * logits, 0 * logits, np.array([[4]]), K=2)[0, 0].tolist() == [1, 1, 0, 0, 1], "ties: the first"


def test_rows():
    """All tokens left out have one probability, and what is kept keeps its proportions."""
    log_p = log_softmax(np.array([2.0, 1.0, 0.0, -1.0, -3.0]))
    row = np.exp(sparsify(log_p, np.array([1.0, 1, 0, 1, 0]), 1e-3))
    assert row.sum() == pytest.approx(1) and row[2] == row[4]
    assert row[[1, 3]] / row[0] == pytest.approx(np.exp(log_p[[1, 3]] - log_p[0]))
    assert row[2] / row[0] == pytest.approx(1e-3 / np.exp(log_p[0]))


def test_few_tokens_are_enough():
    batch = vocabulary_batch(0, V=500, scale=7.0, spread=1.0)
    keep = support(*batch[:3])
    assert keep.sum(-1).mean() < 80
    dense, sparse = troll(*batch), troll_sparse(*batch, keep)
    assert sparse[0] == pytest.approx(dense[0], rel=1e-3)
    assert abs(sparse[1] - dense[1]).max() < 1e-3 * abs(dense[1]).max()


@pytest.mark.parametrize("step", [0.05, 1.5])
def test_gradient_in_all_logits(step):
    """Those left out move the others' log-probabilities; a large floor lets one see it."""
    batch = vocabulary_batch(1, spread=step, B=2, V=7, scale=4.0)
    keep = support(*batch[:3], K=3, mass=0.8)
    assert (keep == 0).any(-1).all()
    target = sparse_projection(*batch[:2], keep, floor=0.01)
    gradient = troll_sparse(*batch, keep, floor=0.01)[1]
    assert abs(gradient[keep == 0]).max() > 1e-4
    check_gradient(
        lambda z: troll_sparse(z, *batch[1:], keep, floor=0.01, projection=target)[0],
        batch[0],
        gradient,
        rng=np.random.default_rng(1),
    )


def test_at_the_default_floor_no_mass_moves_outside():
    batch = vocabulary_batch(2, V=40, spread=1.0, scale=4.0)
    keep = support(*batch[:3], K=4)
    gradient = troll_sparse(*batch, keep)[1]
    assert abs(gradient[keep == 0]).max() < 1e-9 < 1e-3 < abs(gradient).max()
    assert abs((keep * gradient).sum(-1)).max() < 1e-9


def test_projection_by_constrained_optimisation():
    batch = vocabulary_batch(3, spread=1.5, B=1, T=1, V=9, scale=1.0)
    keep = support(*batch[:3], K=4)
    log_p, log_q = (sparsify(log_softmax(z[0, 0]), keep[0, 0], 1e-2) for z in batch[:2])

    def kl(a, b):
        return float(rel_entr(np.exp(a), np.exp(b)).sum())

    assert kl(log_p, log_q) > 0.05
    found = minimize(
        lambda s: kl(log_softmax(s), log_p),
        0.5 * (log_p + log_q),
        method="SLSQP",
        constraints={"type": "ineq", "fun": lambda s: 0.05 - kl(log_softmax(s), log_q)},
        options={"ftol": 1e-14, "maxiter": 500},
    )
    ours = sparse_projection(*batch[:2], keep, floor=1e-2)[0, 0]
    assert found.success and kl(ours, log_p) == pytest.approx(found.fun, abs=1e-7)


def test_a_sampled_token_must_be_kept():
    batch = vocabulary_batch(4, V=40, spread=1.0, scale=4.0)
    keep = support(*batch[:3])
    keep[0, 0, batch[2][0, 0]] = 0
    with pytest.raises(ValueError, match="keep must be 1 on the sampled tokens"):
        troll_sparse(*batch, keep)
