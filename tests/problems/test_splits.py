"""Splits, corruptions and rotated moons."""

import numpy as np
import pytest

from tests.problems.agreement import same_on_strict
from trref.problems import corruptions, moons, splits


def _rng(seed=0):
    return np.random.default_rng(seed)


LABELS = np.repeat(np.arange(4), 50)


# ---- splits


@pytest.mark.parametrize("concentration", [0.05, 100.0])
def test_dirichlet_split(concentration):
    group = splits.dirichlet_split(_rng(1), LABELS, 5, concentration)
    assert group.shape == LABELS.shape and set(group) == set(range(5))
    shares = np.array([[(group[LABELS == c] == k).mean() for k in range(5)] for c in range(4)])
    if concentration > 1:  # each share has mean 1/5 and a standard deviation of 0.018; rounding adds at most 1/50
        assert abs(shares - 0.2).max() < 0.12
    else:
        assert shares.max(1).mean() > 0.6, "most of a class is with one client"
    assert np.array_equal(group, splits.dirichlet_split(_rng(1), LABELS, 5, concentration))


def test_dirichlet_split_refuses():
    with pytest.raises(ValueError, match="a row for each of 5 clients, not 3"):
        splits.dirichlet_split(_rng(), LABELS[:3], 5, 1.0)
    with pytest.raises(ValueError, match="left a client without rows"):
        splits.dirichlet_split(_rng(), np.zeros(6, int), 6, 1e-3, tries=3)


def test_proportions_are_exact_for_one_class():
    """Shares p of n rows give each client between floor(p n) - 1 and ceil(p n) + 1 rows: cuts are rounded."""
    group = splits.dirichlet_split(_rng(2), np.zeros(1000, int), 3, 5.0)
    rng = _rng(2)
    rng.permutation(1000)
    shares = rng.dirichlet(np.full(3, 5.0))
    assert abs(np.bincount(group) - 1000 * shares).max() <= 1


def test_parts():
    first, second = splits.by_class(LABELS, [(0, 2), (1,)])
    assert np.array_equal(first, np.r_[0:50, 100:150]) and np.array_equal(second, np.r_[50:100])
    retain, forget = splits.forget_class(LABELS, 3)
    assert np.array_equal(retain, np.arange(150)) and np.array_equal(forget, np.arange(150, 200))


def test_permuted_pixels():
    X = _rng(3).standard_normal((6, 9))
    tasks = splits.permuted_pixels(_rng(4), X, 3)
    assert tasks.shape == (3, 6, 9) and np.array_equal(tasks[0], X)
    for task in tasks[1:]:
        order = [int(np.flatnonzero((X == column[:, None]).all(0))[0]) for column in task.T]
        assert sorted(order) == list(range(9)) and order != list(range(9))


def test_noisy_labels():
    noisy, changed = splits.noisy_labels(_rng(5), np.repeat(LABELS, 50), 0.4, 4)
    assert np.array_equal(changed, noisy != np.repeat(LABELS, 50))
    # 0.4 times 3/4; five standard deviations of a mean of 10,000
    assert abs(changed.mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 10_000)
    assert not splits.noisy_labels(_rng(6), LABELS, 0.0, 4).changed.any()
    random = np.bincount(splits.noisy_labels(_rng(6), np.zeros(10_000, int), 1.0, 4).labels, minlength=4) / 10_000
    assert abs(random - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / 10_000), "all classes alike"
    with pytest.raises(ValueError, match="share must lie in"):
        splits.noisy_labels(_rng(), LABELS, 1.5, 4)


# ---- corruptions


@pytest.fixture
def images():
    return _rng(7).random((5, 64)), _rng(8).standard_normal((5, 64))


@pytest.mark.parametrize("kind", corruptions.KINDS)
def test_severity_zero_is_the_identity_and_more_is_further(kind, images):
    X, noise = images
    assert np.allclose(corruptions.corrupt(X, kind, 0.0, noise), X, atol=1e-14, rtol=1e-9)
    distances = [np.linalg.norm(corruptions.corrupt(X, kind, s, noise) - X) for s in (0.02, 0.2, 0.6)]
    assert 0 <= distances[0] <= distances[1] < distances[2]
    same_on_strict(lambda X, noise: corruptions.corrupt(X, kind, 0.4, noise), X, noise)


def test_corruptions_by_hand(images):
    from scipy.stats import norm

    X, noise = images
    image = X.reshape(5, 8, 8)
    corrupted = {k: corruptions.corrupt(X, k, 1.0, noise).reshape(5, 8, 8) for k in corruptions.KINDS}
    assert np.allclose(corrupted["noise"], image + noise.reshape(5, 8, 8), rtol=1e-9)
    assert np.allclose(corrupted["contrast"], image.mean((1, 2), keepdims=True), rtol=1e-9)
    assert np.allclose(corrupted["invert"], 1 - image, rtol=1e-9)
    assert not corrupted["occlusion"].any() and not corrupted["blank"].any()
    assert (
        np.allclose(corrupted["shift"][:, :, 4:], image[:, :, :4], rtol=1e-9) and not corrupted["shift"][:, :, :4].any()
    )
    assert np.allclose(corrupted["rotation"], np.rot90(image, axes=(1, 2)), atol=1e-12, rtol=1e-9)
    back = corruptions.rotate(X, -90.0).reshape(5, 8, 8)
    assert np.allclose(back, np.rot90(image, -1, axes=(1, 2)), atol=1e-12, rtol=1e-9)
    half = corruptions.corrupt(X, "blank", 0.3, noise)
    assert np.array_equal(half == 0, norm.cdf(noise) < 0.3)
    flat = corruptions.corrupt(np.ones((1, 64)), "blur", 0.7, noise[:1])
    assert np.allclose(flat, 1, atol=1e-13, rtol=1e-9)
    moved = corruptions.corrupt(X, "shift", 1 / 8, noise).reshape(5, 8, 8)
    assert np.allclose(moved[:, :, 1], (image[:, :, 0] + image[:, :, 1]) / 2, rtol=1e-9)


def test_a_square_of_the_right_size(images):
    X, noise = np.ones((1, 64)), np.zeros((1, 64))
    noise[0, 3 * 8 + 4] = 1.0
    hidden = corruptions.corrupt(X, "occlusion", 1 / 8, noise).reshape(8, 8)
    assert np.argwhere(hidden == 0).tolist() == [[3, 4]]
    hidden = corruptions.corrupt(X, "occlusion", 2 / 8, noise).reshape(8, 8)
    assert np.argwhere(hidden == 0).tolist() == [[r, c] for r in (2, 3, 4) for c in (3, 4, 5)]


def test_corruptions_refuse(images):
    X, noise = images
    with pytest.raises(ValueError, match="kind must be one of"):
        corruptions.corrupt(X, "snow", 0.5, noise)
    with pytest.raises(ValueError, match="severity must lie in"):
        corruptions.corrupt(X, "blur", 1.5, noise)
    with pytest.raises(ValueError, match=r"one shape \(N, 64\)"):
        corruptions.corrupt(X[:, :9], "blur", 0.5, noise)


# ---- moons


def test_moons_are_half_circles_and_rotate():
    X, labels = moons.two_moons(_rng(9), 401, noise=0.0)
    assert np.bincount(labels).tolist() == [201, 200]
    for label, centre, side in ((0, (-0.5, -0.25), 1), (1, (0.5, 0.25), -1)):
        moon = X[labels == label] - centre
        assert np.allclose(np.linalg.norm(moon, axis=1), 1, rtol=1e-9) and (side * moon[:, 1] >= 0).all()
    # the middle of all points is the origin: a mean over a half circle is (0, 2/π), the offsets ±(0.5, 0.25) cancel
    assert np.allclose(X.mean(0), 0, atol=5 / np.sqrt(401), rtol=1e-9)
    noisy = moons.two_moons(_rng(9), 401)[0] - X
    assert noisy.std() == pytest.approx(0.1, rel=5 / np.sqrt(2 * 802)), "noise of standard deviation 0.1 by default"
    turned, _ = moons.two_moons(_rng(9), 401, noise=0.0, angle=90.0)
    assert np.allclose(turned, np.stack([-X[:, 1], X[:, 0]], 1), rtol=1e-9)
