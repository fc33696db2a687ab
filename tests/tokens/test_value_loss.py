"""The value loss: a table by hand, the identity of the four forms, and where each is silent."""

import math

import numpy as np
import pytest

from trref.conformance import Options, identify, verify
from trref.tokens.value_loss import silent_share, value_loss

KINDS = ("max", "min", "clipped")


def _one(value, target, kind, clip=0.2, old=0.0):
    arrays = (np.array([[x]]) for x in (value, old, target))
    loss, gradient = value_loss(*arrays, np.ones((1, 1)), clip=clip, kind=kind)
    return float(loss), float(gradient[0, 0])


@pytest.mark.parametrize(
    "value, target, max_silent, min_silent, inside",
    [
        (0.1, 1.0, False, False, True),  # inside: the squared error
        (0.7, 2.0, True, False, False),  # beyond the clip, nearer to the target: the maximum stops it
        (0.7, 0.6, True, False, False),  # past the target, still nearer than the clipped value (0.1 against 0.4)
        (
            0.7,
            0.25,
            False,
            True,
            False,
        ),  # past the target by 0.45, the clipped value is 0.05 short: the way back is open
        (0.7, -0.5, False, True, False),  # on the wrong side: the minimum closes the way back
        (-0.7, 1.0, False, True, False),
    ],
)
def test_by_hand(value, target, max_silent, min_silent, inside):
    error, clipped = value - target, min(max(value, -0.2), 0.2) - target
    losses = {"max": max(error**2, clipped**2), "min": min(error**2, clipped**2), "clipped": clipped**2}
    silent = {"max": max_silent, "min": min_silent, "clipped": not inside}
    for kind in KINDS:
        loss, gradient = _one(value, target, kind)
        assert loss == pytest.approx(losses[kind] / 2, abs=1e-15), kind
        assert gradient == pytest.approx(0 if silent[kind] else error), kind


def _batch(seed, B=6, T=5):
    rng = np.random.default_rng(seed)
    old = rng.standard_normal((B, T))
    mask = (np.arange(T) < rng.integers(1, T + 1, (B, 1))).astype(float)
    return old + 0.5 * rng.standard_normal((B, T)), old, rng.standard_normal((B, T)), mask


@pytest.mark.parametrize("seed", range(3))
def test_max_and_min_are_free_and_clipped(seed):
    """Term by term: their sum is that of the unclipped and the clipped loss, gradients included."""
    batch = _batch(seed)
    (a, da), (b, db), (c, dc) = (value_loss(*batch, kind=kind) for kind in KINDS)
    free, d_free = value_loss(*batch, clip=1e14)
    assert a + b == pytest.approx(free + c, rel=1e-14) and np.allclose(da + db, d_free + dc, atol=1e-16, rtol=1e-9)
    assert a >= max(free, c) * (1 - 1e-14) and b <= min(free, c) * (1 + 1e-14)


def test_where_the_maximum_is_silent():
    """Exactly where the value has moved beyond the clip and is nearer to the target than the clipped value."""
    value, old, target, mask = _batch(3, B=40)
    clipped = old + np.clip(value - old, -0.2, 0.2)
    expected = (abs(value - old) > 0.2) & (abs(value - target) < abs(clipped - target))
    silent = value_loss(value, old, target, np.ones_like(mask))[1] == 0
    assert np.array_equal(silent, expected) and 0.1 < expected.mean() < 0.6


def test_the_silent_share_is_that_of_tokens_without_a_gradient():
    """Of four tokens one has overshot its target, one has left it, one is nearer and far away, one has not moved."""
    value, old = np.array([[1.0, -0.9, 0.5, 0.1, 3.0]]), np.zeros((1, 5))
    target, mask = np.array([[0.3, 0.4, 2.0, 2.0, 4.0]]), np.array([[1.0, 1, 1, 1, 0]])
    gradient = value_loss(value, old, target, mask)[1]
    assert (gradient[0] == 0).tolist() == [False, False, True, False, True]
    assert silent_share(value, old, target, mask) == 0.25


def test_inside_rounding_never_silences():
    """Within the clip the two errors are the same number: no comparison of rounding errors."""
    rng = np.random.default_rng(4)
    old, target = rng.standard_normal((2, 50, 20))
    value = old + 0.199 * rng.uniform(-1, 1, old.shape)
    for kind in KINDS:
        gradient = value_loss(value, old, target, np.ones_like(old), kind=kind)[1]
        assert np.allclose(gradient, (value - target) / old.size, rtol=1e-14), kind


def _mine(value, old_value, value_target, mask, clip=0.2):
    """As trainers write it, token by token."""
    count, loss, gradient = max(mask.sum(), 1), 0.0, np.zeros_like(mask)
    for i, t in zip(*np.nonzero(mask), strict=True):
        V, old, R = value[i, t], old_value[i, t], value_target[i, t]
        clipped = V if math.isclose(V, old, abs_tol=clip) else old + math.copysign(clip, V - old)
        u, u_clipped = (V - R) ** 2, (clipped - R) ** 2
        loss += max(u, u_clipped) / 2 / count
        gradient[i, t] = (V - R) / count if u >= u_clipped else 0.0
    return loss, gradient


def test_an_independent_function_is_identified():
    found = identify(_mine, "token_values")
    assert [m.candidate.text for m in found.exact] == ["value_loss.value_loss"]
    wide = identify(_mine, "token_values", Options(constants={"clip": 0.45}))
    assert [m.candidate.record.name for m in wide.exact] == ["value_loss.value_loss"]


def test_a_missing_half_is_named():
    twice = verify("value_loss.value_loss", lambda *batch, **hyper: tuple(2 * x for x in value_loss(*batch, **hyper)))
    assert not twice.conforms and "one half" in str(twice)
