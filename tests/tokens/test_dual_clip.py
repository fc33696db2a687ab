"""Limits of the dual and the two-sided clip."""

import numpy as np
import pytest

from tests.tokens.batches import token_batch
from trref.catalog import find
from trref.checks import check_gradient
from trref.tokens.dual_clip import dual_clip, two_sided_clip
from trref.tokens.grpo import grpo


def _one(ratio, advantage):
    return np.log([[ratio]]), np.zeros((1, 1)), np.array([advantage]), np.ones((1, 1))


def _same(a, b):
    assert a[0] == pytest.approx(b[0], rel=1e-13) and np.allclose(a[1], b[1], rtol=1e-13)


@pytest.mark.parametrize("f", [dual_clip, two_sided_clip])
@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [
        (5.0, -1.0, 3.0, 0.0),
        (2.5, -1.0, 2.5, 2.5),
        (0.5, -1.0, 0.8, 0.0),
        (5.0, 1.0, -1.2, 0.0),
        (0.5, 1.0, -0.5, -0.5),
    ],
)
def test_by_hand(f, ratio, advantage, loss, gradient):
    assert f(*_one(ratio, advantage)) == (pytest.approx(loss), pytest.approx(gradient))


def test_the_loss_is_bounded_and_grpo_is_not():
    """However far a bad token has grown, it costs no more than the bound."""
    for exponent in (2, 8, 24):
        batch = np.array([[0.0]]), np.array([[-float(exponent)]]), np.array([-1.0]), np.ones((1, 1))
        assert dual_clip(*batch)[0] == two_sided_clip(*batch)[0] == 3.0
        assert grpo(*batch)[0] == pytest.approx(np.exp(exponent))


def test_they_differ_below_the_clip():
    """bound = 1.1 < 1.2: the two-sided clip lowers the bound of good tokens, and does not reach bad ones."""
    assert two_sided_clip(*_one(1.5, 1.0), bound=1.1)[0] == pytest.approx(-1.1)
    assert dual_clip(*_one(1.5, 1.0), bound=1.1)[0] == pytest.approx(-1.2)
    assert two_sided_clip(*_one(1.5, -1.0), bound=1.1)[0] == pytest.approx(1.2)
    assert dual_clip(*_one(1.5, -1.0), bound=1.1)[0] == pytest.approx(1.1)


@pytest.mark.parametrize("f", [dual_clip, two_sided_clip])
def test_the_gradient_is_bounded(f):
    """By 3 |A| for bad tokens and 1.2 A for good ones, wherever the policy went; GRPO's is not."""
    rng, one = np.random.default_rng(3), np.ones((1000, 1))
    old, advantage = -24 * rng.random((1000, 1)), rng.standard_normal(1000)
    log_prob = -3 * rng.random((1000, 1))
    size = 1000 * abs(f(log_prob, old, advantage, one)[1][:, 0]) / abs(advantage)
    assert (size <= np.where(advantage < 0, 3.0, 1.2) + 1e-12).all() and size.max() > 2.5
    assert 1000 * (abs(grpo(log_prob, old, advantage, one)[1][:, 0]) / abs(advantage)).max() > 1e3


@pytest.mark.parametrize("seed", range(5))
def test_gradient_of_a_tight_two_sided_clip(seed):
    log_prob, old, advantage, mask = token_batch(seed, spread=0.3)
    gradient = two_sided_clip(log_prob, old, advantage, mask, bound=1.1)[1]
    rng = np.random.default_rng(seed)
    check_gradient(lambda x: two_sided_clip(x, old, advantage, mask, bound=1.1)[0], log_prob, gradient, rng=rng)


def test_verl_vanilla_is_the_dual_clip():
    vanilla = next(d.f for d in find("grpo.grpo").deviations if d.name.startswith("dual clip"))
    batch = token_batch(2, spread=1.0)
    _same(vanilla(*batch), dual_clip(*batch))
    assert vanilla(*batch)[0] != pytest.approx(grpo(*batch)[0], rel=1e-6)


@pytest.mark.parametrize("bound", [1.0, 0.5, np.nan])
def test_the_bound_must_exceed_one(bound):
    with pytest.raises(ValueError, match="bound must lie in"):
        dual_clip(*token_batch(0, spread=1.0), bound=bound)
