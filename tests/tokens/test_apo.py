"""Hand examples, limits and theorems of anchored policy optimisation."""

import math

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from tests.tokens.batches import vocabulary_batch
from trref.catalog import find
from trref.checks import check_gradient
from trref.tokens.apo import anchor_ratio, apo, safe_manifold, support_coverage
from trref.tokens.grpo import grpo
from trref.tokens.terms import logit_gradient

P, REF = np.array([0.6, 0.2, 0.05, 0.15]), np.array([0.4, 0.3, 0.2, 0.1])


def _one(A=-1.0, y=3, p=P, old=None, ref=REF):
    rows = (np.log(x)[None, None] for x in (p, p if old is None else old))
    return *rows, np.array([[y]]), np.array([A]), np.ones((1, 1)), np.log(ref)[None, None]


def _update(batch, **hyper):
    """The step of the logits, for a loss of one token."""
    return -apo(*batch, **hyper)[1][0, 0]


def _batch(seed, spread=0.3):
    logits, old, actions, advantage, mask = vocabulary_batch(seed, V=9, spread=spread, scale=1.5)
    ref = old + 0.5 * np.random.default_rng(seed).standard_normal(old.shape)
    return logits, old, actions, advantage, mask, ref


def _taken(batch):
    logits, old, actions, A, mask, _ = batch
    taken = (np.take_along_axis(log_softmax(z, -1), actions[..., None], 2)[..., 0] for z in (logits, old))
    return *taken, A, mask


# ---- by hand


@pytest.mark.parametrize(
    ("hyper", "step"),
    [
        ({"push": 1.0, "pull": 0.0}, (0.600, 0.200, 0.050, -0.850)),
        ({"K": 3}, (0.640, 0.213, 0.053, -0.907)),
        ({"K": 2}, (0.647, 0.216, 0.047, -0.910)),
    ],
)
def test_one_step(hyper, step):
    """GRPO raises everything else in proportion; APO raises its anchors, and with K = 2 token 2 is none."""
    assert np.allclose(_update(_one(), **hyper), step, atol=5e-4, rtol=1e-9)
    assert abs(_update(_one(), **hyper).sum()) < 1e-14, "four numbers below 1, each of a dozen operations"


def test_loss_by_hand():
    """Anchors 0, 1, 2 of reference mass 0.9 and mass 0.85: r = 1.05 - 0.1 * 0.85/0.9."""
    assert apo(*_one(), K=3)[0] == pytest.approx(1.05 - 0.1 * 0.85 / 0.9)
    assert apo(*_one(), K=3, clipping="all")[0] == pytest.approx(1.05 - 0.1 * 0.85 / 0.9)


def test_the_reference_weights_cancel():
    rng = np.random.default_rng(0)
    p, ref = softmax(rng.standard_normal((50, 12)), -1), softmax(2 * rng.standard_normal((50, 12)), -1)
    anchors = safe_manifold(np.log(ref), K=5)
    anchors[:, 3] = 0
    Z = (anchors * ref).sum(-1)
    weighted = ((anchors * ref / Z[:, None]) * p / ref).sum(-1)
    assert np.allclose(anchor_ratio(p, ref, anchors, min_mass=1e-6)[0], weighted, rtol=1e-13)


def test_the_support_breaks_ties_by_index():
    assert safe_manifold(np.array([[1.0, 2.0, 1.0, 1.0, 0.0]]), K=3).tolist() == [[1, 1, 1, 0, 0]]
    assert safe_manifold(np.zeros((1, 5)), K=2).tolist() == [[1, 1, 0, 0, 0]]
    many = safe_manifold(np.zeros((1, 100)), K=40)
    assert many[0, :40].all() and not many[0, 40:].any()


# ---- limits


@pytest.mark.parametrize("clipping", ["push", "all"])
def test_without_push_and_pull_it_is_grpo(clipping):
    batch = _batch(1, spread=0.8)
    loss, gradient = apo(*batch, push=1.0, pull=0.0, clipping=clipping)
    expected, coefficient = grpo(*_taken(batch))
    assert loss == pytest.approx(expected, rel=1e-12)
    assert np.allclose(gradient, logit_gradient(batch[0], batch[2], coefficient), atol=1e-14, rtol=1e-9)


@pytest.mark.parametrize("clipping", ["push", "all"])
def test_right_answers_are_those_of_grpo(clipping):
    logits, old, actions, A, mask, ref = _batch(2, spread=0.8)
    batch = logits, old, actions, abs(A), mask, ref
    assert apo(*batch, clipping=clipping)[0] == pytest.approx(grpo(*_taken(batch))[0], rel=1e-12)


def test_no_anchors_no_pull():
    """K = 1 and the sampled token is that one."""
    batch = _one(y=0)
    assert np.allclose(_update(batch, K=1), 1.05 * _update(batch, push=1.0, pull=0.0), rtol=1e-14)
    other = _update(_one(y=1), K=1)
    assert other[0] > 1.05 * P[0], "if it is not, token 0 is pulled"


def test_all_anchors_are_an_additional_push():
    """K = V: r = (1 - p_y) / (1 - ref_y), whose gradient is along that of p_y."""
    batch, beta = _one(), 0.1
    assert apo(*batch, K=4)[0] == pytest.approx(1.05 - beta * (1 - 0.15) / (1 - 0.1))
    plain = _update(batch, push=1.0, pull=0.0)
    assert np.allclose(_update(batch, K=4), plain * (1.05 + beta * 0.15 / 0.9), rtol=1e-12)


def test_anchors_of_little_mass_do_not_pull():
    """The reference is all but certain of y: 1/Z would be 1000."""
    ref = np.array([4e-4, 3e-4, 3e-4, 0.999])
    batch = _one(ref=ref)
    assert np.allclose(_update(batch, K=4), 1.05 * _update(batch, push=1.0, pull=0.0), rtol=1e-9)
    assert _update(batch, K=4, min_mass=1e-4)[3] < -10


# ---- theorems


@pytest.mark.parametrize("seed", range(4))
def test_coverage_rises_more_and_the_token_falls(seed):
    rng = np.random.default_rng(seed)
    p, ref = (softmax(rng.standard_normal(10)) for _ in range(2))
    y = int(rng.integers(10))
    inside = safe_manifold(np.log(ref), K=4) * (np.arange(10) != y)

    def after(**hyper):
        return softmax(np.log(p) + 0.1 * _update(_one(y=y, p=p, ref=ref), K=4, **hyper))

    with_pull, without = after(), after(pull=0.0)
    assert max(with_pull[y], without[y]) < p[y]
    assert with_pull @ inside > without @ inside


@pytest.mark.parametrize("seed", range(4))
def test_the_pull_is_along_the_gradient_of_coverage(seed):
    """|A| beta / Z times it, and for an anchor proportional to its current probability."""
    rng = np.random.default_rng(seed)
    p, ref, y, A = softmax(rng.standard_normal(8)), softmax(rng.standard_normal(8)), 2, -1.7
    batch = _one(A, y, p=p, ref=ref)
    pull = _update(batch, K=4, push=1.0, pull=0.3) - _update(batch, K=4, push=1.0, pull=0.0)
    S = safe_manifold(np.log(ref), K=4) * (np.arange(8) != y)
    scale, M = 1.7 * 0.3 / (S @ ref), S @ p
    check_gradient(lambda z: scale * float(softmax(z) @ S), np.log(p), pull, rng=rng)
    assert np.allclose(pull[S == 1], scale * p[S == 1] * (1 - M), rtol=1e-12)


def test_the_plain_update_squeezes():
    """Off policy, within the clip: every other logit moves by |A| times ratio times its probability."""
    old = np.array([0.58, 0.2, 0.05, 0.17])
    step = _update(_one(-1.7, old=old), push=1.0, pull=0.0)
    assert np.allclose(step[:3], 1.7 * (0.15 / 0.17) * P[:3], rtol=1e-12) and step[3] < 0


def test_a_starved_anchor_is_not_revived():
    p = np.array([0.7, 0.2, 1e-9, 0.1 - 1e-9])
    step = _update(_one(p=p), K=3)
    assert 0 < step[2] < 1e-8 < step[1]


def test_clipping_the_push_leaves_the_pull():
    """The wrong token has already fallen to a ratio of 0.5."""
    old = np.array([0.5, 0.15, 0.05, 0.3])
    batch = _one(old=old)
    step = _update(batch, K=3)
    assert step[3] == pytest.approx(-0.1 / 0.9 * 0.15 * 0.85) and step[:3].min() > 0
    assert not _update(batch, K=3, clipping="all").any()
    assert apo(*batch, K=3, clipping="all")[0] == pytest.approx(0.8)


def test_with_the_token_among_the_anchors_they_partly_cancel():
    slip = find("apo.apo").deviations[0].f
    p, ref = np.array([0.5, 0.2, 0.1, 0.2]), np.array([0.4, 0.3, 0.2, 0.1])
    for y, anchored in ((1, True), (3, False)):
        batch = _one(y=y, p=p, ref=ref)
        theirs, ours = -slip(*batch, K=3)[1][0, 0], _update(batch, K=3)
        assert (theirs[y] > ours[y] + 1e-3) if anchored else np.allclose(theirs, ours, atol=1e-15, rtol=1e-9)


@pytest.mark.parametrize("clipping", ["push", "all"])
@pytest.mark.parametrize("seed", range(3))
def test_gradient_away_from_the_examples(seed, clipping):
    logits, *rest = _batch(seed, spread=0.6)
    options = {"K": 4, "pull": 0.4, "clipping": clipping}
    gradient = apo(logits, *rest, **options)[1]
    rng = np.random.default_rng(seed)
    check_gradient(lambda z: apo(z, *rest, **options)[0], logits, gradient, rng=rng)


def test_coverage_by_hand():
    p = np.log(np.array([[[0.6, 0.2, 0.05, 0.15], [0.1, 0.2, 0.3, 0.4]]]))
    ref = np.log(np.array([[[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]]]))
    assert support_coverage(p, np.ones((1, 2)), ref, K=2) == pytest.approx((0.8 + 0.7) / 2)
    assert support_coverage(p, np.array([[1.0, 0.0]]), ref, K=3) == pytest.approx(0.85)
    assert support_coverage(p, np.ones((1, 2)), ref) == pytest.approx(1)


@pytest.mark.parametrize("bad", [{"K": 0}, {"min_mass": 0.0}, {"pull": -0.1}, {"clipping": "pull"}, {"push": math.nan}])
def test_numbers_out_of_range(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        apo(*_one(), **bad)
