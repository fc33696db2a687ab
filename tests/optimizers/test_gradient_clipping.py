"""Theorems and limits of gradient clipping."""

import math

import numpy as np
import pytest

from trref.nn.flat import join
from trref.optimizers import adam
from trref.optimizers.gradient_clipping import (
    clip_global,
    clip_global_jvp,
    clip_value,
    clip_value_jvp,
    global_norm,
    init,
    update,
)

TWO = [np.array([3.0, 0.0]), np.array([[0.0], [-4.0]])]


def _clipped(grads, **hyper):
    """The clipped gradients, read off a step of length 1 from zero, and the norm before."""
    params = [np.zeros_like(g) for g in grads]
    moved, state = update(params, grads, init(params), lr=1.0, **hyper)
    return [-p for p in moved], float(state.norm)


def test_norms_by_hand():
    g = np.array([3.0, -4.0, 0.0])
    expected = {1.0: 7.0, 2.0: 5.0, 3.0: 91 ** (1 / 3), None: 4.0}
    for order, norm in expected.items():
        assert global_norm(g, order=order) == pytest.approx(norm, rel=1e-14)
    assert global_norm(1e90 * g, order=8.0) == pytest.approx(1e90 * (3**8 + 4**8) ** 0.125, rel=1e-13)
    assert global_norm(1e-90 * g, order=8.0) == pytest.approx(1e-90 * (3**8 + 4**8) ** 0.125, rel=1e-13)


def test_the_norm_of_norms_needs_the_same_order():
    g = np.random.default_rng(0).standard_normal(12)
    parts = np.split(g, [5, 7])
    for order in (1.0, 3.0, None):
        norms = np.array([global_norm(part, order=order) for part in parts])
        assert global_norm(norms, order=order) == pytest.approx(global_norm(g, order=order), rel=1e-14)
        assert abs(global_norm(norms) / global_norm(g, order=order) - 1) > 0.02


def test_clips_by_hand():
    g = np.array([3.0, -4.0])
    assert clip_global(g, threshold=2.5) == pytest.approx([1.5, -2.0], rel=1e-15)
    assert clip_global(g, threshold=5.0).tolist() == [3, -4]
    assert clip_global(1e90 * g) == pytest.approx([0.6, -0.8], rel=1e-14)
    assert clip_value(g, threshold=3.5).tolist() == [3, -3.5]
    turned = clip_value(np.array([3.0, 0.1]))
    angle = math.degrees(math.atan2(turned[1], turned[0]) - math.atan2(0.1, 3.0))
    assert turned.tolist() == [1, 0.1] and angle == pytest.approx(3.8, abs=0.01)


def test_two_tensors_by_hand():
    """Norms 3 and 4, 5 together: at 5 nothing is cut, at 3.5 the ratio 3 : 4 is kept or lost."""
    lengths = {5.0: {"global": (3, 4), "each": (3, 4)}, 3.5: {"global": (2.1, 2.8), "each": (3, 3.5)}}
    for threshold, expected in lengths.items():
        for kind, pair in expected.items():
            clipped, norm = _clipped(TWO, threshold=threshold, kind=kind)
            assert [np.linalg.norm(g) for g in clipped] == pytest.approx(pair, rel=1e-14)
            assert norm == pytest.approx(5, rel=1e-15), "the norm before the clip is told, whatever is clipped"


@pytest.mark.parametrize(("kind", "depends"), [("global", False), ("each", True), ("value", False)])
def test_joining_tensors_changes_the_clip_of_each(kind, depends):
    apart, _ = _clipped(TWO, threshold=3.5, kind=kind)
    joined, _ = _clipped([join(TWO)], threshold=3.5, kind=kind)
    same = np.allclose(join(apart), joined[0], rtol=1e-13, atol=0)
    assert same != depends


def test_the_nearest_points_of_ball_and_cube():
    """No point of the ball, or of the cube, is nearer to the gradient."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        g, c = 3 * rng.standard_normal(4), rng.uniform(0.2, 3)
        points = rng.standard_normal((200, 4))
        ball = c * points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1)
        cube = c * np.clip(points, -1, 1)
        for clip, inside in ((clip_global, ball), (clip_value, cube)):
            nearest = clip(g, threshold=c)
            assert ((g - nearest) @ (inside - nearest).T <= 1e-12).all(), "the angle at a projection is not acute"
        assert np.linalg.norm(clip_global(g, threshold=c)) == pytest.approx(min(c, np.linalg.norm(g)), rel=1e-13)


def test_the_jacobian_by_hand():
    """At (3, 4) with c = 1 it is (1/5) (I - u u^T) with u = (0.6, 0.8)."""
    g, u = np.array([3.0, 4.0]), np.array([0.6, 0.8])
    columns = np.stack([clip_global_jvp(g, e) for e in np.eye(2)], 1)
    assert np.allclose(columns, (np.eye(2) - np.outer(u, u)) / 5, rtol=1e-13, atol=1e-15)
    assert clip_value_jvp(np.array([3.0, -0.5, 1.0]), np.ones(3)).tolist() == [0, 1, 1]
    assert clip_global_jvp(u, g).tolist() == [3, 4], "at the threshold, the derivative of the inside"


@pytest.mark.parametrize("clip", [clip_global, clip_value])
def test_scaling_gradient_and_threshold_scales_the_result(clip):
    g = np.random.default_rng(2).standard_normal(7)
    assert np.allclose(clip(8 * g, threshold=4.0), 8 * clip(g, threshold=0.5), rtol=1e-14, atol=0)


def test_accumulated_gradients_are_clipped_once():
    parts = [np.array([3.0, 0.0]), np.array([-3.0, 1.0])]
    assert clip_global(parts[0] + parts[1]).tolist() == [0, 1]
    assert np.linalg.norm(sum(clip_global(g) for g in parts) - [0, 1]) > 0.5


def test_adam_does_not_see_a_clip_that_shortens_all_gradients_alike():
    """With one factor for the whole run nothing changes; where the factor varies the path is another."""
    rng = np.random.default_rng(3)
    start = [rng.standard_normal(4)]
    alike = [[5 * g / np.linalg.norm(g)] for g in rng.standard_normal((12, 4))]
    varied = [[(1 + k) * g[0]] for k, g in enumerate(alike)]

    def end(gradients, clip):
        params, state = start, adam.init(start)
        for grads in gradients:
            grads = [clip_global(grads[0])] if clip else grads
            params, state = adam.update(params, grads, state, lr=0.05, eps=1e-100)
        return params[0]

    assert np.allclose(end(alike, True), end(alike, False), rtol=1e-12, atol=1e-13)
    assert np.abs(end(varied, True) - end(varied, False)).max() > 0.01


def test_a_small_threshold_is_normalised_descent():
    """With the rate times the threshold held at 0.01, each step is 0.01 long and against the gradient."""
    params, grads = [np.array([1.0, 2.0])], [np.array([0.3, -0.4])]
    for threshold in (1e-1, 1e-4):
        moved, _ = update(params, grads, init(params), lr=0.01 / threshold, threshold=threshold)
        assert moved[0] - params[0] == pytest.approx([-0.006, 0.008], rel=1e-12)
