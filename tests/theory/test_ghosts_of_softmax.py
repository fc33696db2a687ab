"""Safe radii of a softmax: against all zeros of a polynomial, the series within and beyond, and the divergences."""

import math

import numpy as np
import pytest

from trref.nn import mlp
from trref.theory.ghosts_of_softmax import (
    clip_step,
    exact_radius,
    line_loss,
    log_partition_taylor,
    normalised_step,
    path_divergences,
    radius_bound,
    rival_radius,
)


def _line(seed, K=5):
    rng = np.random.default_rng(seed)
    return 2 * rng.standard_normal(K), rng.standard_normal(K)


def test_two_classes_by_hand():
    """z = (1, 0), a = (2, -1): t with exp(1 + 3 t) = -1, t = (-1 ± i π)/3."""
    z, a = np.array([1.0, 0.0]), np.array([2.0, -1.0])
    radius, (real, imaginary) = exact_radius(z, a)
    assert (real, imaginary) == pytest.approx((-1 / 3, math.pi / 3), rel=1e-12)
    assert radius == pytest.approx(math.hypot(1, math.pi) / 3, rel=1e-12)
    assert rival_radius(z[None], a[None], np.array([1])) == pytest.approx(radius, rel=1e-12)
    assert radius_bound(a[None]) == pytest.approx(math.pi / 3, rel=1e-15)


@pytest.mark.parametrize("K", [2, 3, 5, 10])
def test_the_bound_is_below_the_nearest_zero(K):
    for seed in range(10):
        z, a = _line(seed, K)
        radius, place = exact_radius(z, a)
        t = complex(*place)
        terms = np.exp(z + t * a)
        assert abs(terms.sum()) < 1e-10 * abs(terms).sum(), "it is a zero"
        assert radius >= radius_bound(a[None])
        circle = 0.999 * radius * np.exp(2j * np.pi * np.arange(4000) / 4000)
        F = np.exp(z + circle[:, None] * a).sum(1)
        turns = np.angle(np.roll(F, -1) / F).sum() / (2 * np.pi)
        assert round(turns) == 0, "by the argument principle there is none nearer"


def test_equality_for_two_classes_of_equal_logits():
    radius, _ = exact_radius(np.array([0.7, 0.7]), np.array([1.0, -1.0]))
    assert radius == pytest.approx(radius_bound(np.array([[1.0, -1.0]])), rel=1e-13)


def test_series_within_and_beyond_the_radius():
    z, a = _line(3)
    radius, _ = exact_radius(z, a)
    c = log_partition_taylor(z, a, terms=41)
    assert c[0] == pytest.approx(math.log(np.exp(z).sum()), rel=1e-14)
    direction = np.exp(1j * 0.3)

    def error(share, order):
        t = share * radius * direction
        exact = np.log(np.exp(z + t * a).sum())
        return abs(np.polyval(c[order::-1], t) - exact)

    assert error(0.7, 40) < 1e-3 * error(0.7, 10)
    assert error(1.3, 40) > 10 * error(1.3, 10)
    envelope = np.maximum.reduce([abs(c[k]) ** (-1 / k) for k in range(30, 41)])
    assert envelope >= radius * 0.8 and min(abs(c[k]) ** (-1 / k) for k in range(30, 41)) < 1.3 * radius


def test_divergences_and_their_bounds():
    rng = np.random.default_rng(5)
    z, a = 2 * rng.standard_normal((200, 4)), rng.standard_normal((200, 4))
    for step in (0.1, 0.5, 2.0):
        d = path_divergences(z, a, step=step)
        assert (abs(d.forward - d.quadratic) <= d.forward_bound).all()
        assert (abs(d.backward - d.quadratic) <= d.backward_bound).all()
        p, q = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (z, z + step * a))
        assert d.forward == pytest.approx((p * np.log(p / q)).sum(1), rel=1e-9)
        assert d.backward == pytest.approx((q * np.log(q / p)).sum(1), rel=1e-9)


def test_the_remainders_constants_are_sharp():
    """A two-point law with p = (3 + √3)/6 nearly attains both."""
    p = (3 + math.sqrt(3)) / 6
    z, a = np.log([[p, 1 - p]]), np.array([[0.0, 1.0]])
    d = path_divergences(z, a, step=0.05)
    assert abs(d.forward - d.quadratic)[0] > 0.97 * d.forward_bound[0]
    assert abs(d.backward - d.quadratic)[0] > 0.97 * d.backward_bound[0]


def test_the_line_of_a_network_and_the_clip():
    """Slopes by a push forward agree with differences; a clipped update has r ≤ 1, and no other direction."""
    rng = np.random.default_rng(6)
    sizes = (3, 5, 4)
    theta, update, X = (
        rng.standard_normal(mlp.size(sizes)),
        rng.standard_normal(mlp.size(sizes)),
        rng.standard_normal((6, 3)),
    )
    logits, cache = mlp.forward(theta, X, sizes)
    slopes = mlp.jvp(cache, update)
    h = 1e-6
    ends = [mlp.forward(theta + s * update, X, sizes)[0] for s in (h, -h)]
    assert slopes == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-6, abs=1e-8)
    r = normalised_step(slopes)
    assert r > 1
    clipped = clip_step(update, slopes)
    assert normalised_step(mlp.jvp(cache, clipped)) == pytest.approx(1, rel=1e-13)
    assert clipped == pytest.approx(update / r, rel=1e-13)
    assert clip_step(update, slopes / (2 * r)).tolist() == update.tolist()
    lengthened = clip_step(update, slopes / (2 * r), rule="set", share=0.5)
    assert lengthened == pytest.approx(update, rel=1e-13)
    assert clip_step(update, np.ones((2, 3)), rule="set").tolist() == update.tolist()
    loss, _ = line_loss(np.asarray(0.0), logits, slopes, np.zeros(6, int))
    assert loss == pytest.approx(np.mean(np.log(np.exp(logits).sum(1)) - logits[:, 0]), rel=1e-13)


def test_invariances():
    z, a = _line(7)
    moved = exact_radius(z + 3, a - 2)
    assert moved.radius == pytest.approx(exact_radius(z, a).radius, rel=1e-11)
    assert exact_radius(z, -a).radius == pytest.approx(moved.radius, rel=1e-11)
    assert radius_bound(-4 * a[None]) == pytest.approx(radius_bound(a[None]) / 4, rel=1e-14)


def test_what_is_refused():
    with pytest.raises(ValueError, match="slopes must differ within some sample"):
        radius_bound(np.ones((2, 3)))
    with pytest.raises(ValueError, match="slopes must not all be equal"):
        exact_radius(np.zeros(3), np.ones(3))
    with pytest.raises(ValueError, match="labels must be less than 2"):
        line_loss(np.asarray(1.0), np.zeros((1, 2)), np.ones((1, 2)), np.array([2]))
