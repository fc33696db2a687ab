"""Van der Sluis' theorem against a search, orthogonal gradients, invariances, and layers by hand."""

import numpy as np
import pytest
from scipy.optimize import minimize

from trref.checks import check_gradient
from trref.optimizers.weight_conditioning import (
    condition_number,
    conditioned_linear,
    conditioned_linear_vjp,
    equilibrate,
    equilibrate_both,
    equilibrate_columns,
    equilibrate_vjp,
    row_scale,
    scale_rows,
    scale_rows_vjp,
)


def _weights(seed, m=6, n=9, spread=2.0):
    rng = np.random.default_rng(seed)
    return 10.0 ** rng.uniform(-spread, spread, (m, 1)) * rng.standard_normal((m, n))


def test_rows_by_hand():
    w = np.array([[3.0, 4.0], [0.0, -2.0]])
    assert np.allclose(row_scale(w), [0.2, 0.5], rtol=1e-15)
    assert np.allclose(equilibrate(w), [[0.6, 0.8], [0.0, -1.0]], rtol=1e-15)
    assert np.allclose(equilibrate_columns(w), [[1.0, 2 / 5**0.5], [0.0, -1 / 5**0.5]], rtol=1e-15)
    assert np.allclose(conditioned_linear(np.array([[1.0, 1.0]]), w, np.array([0.1, 0.2])), [[1.5, -0.8]], rtol=1e-14)


def test_rows_have_length_one_and_stay():
    w = _weights(0)
    unit = equilibrate(w)
    assert np.allclose((unit**2).sum(1), 1, rtol=1e-14)
    assert np.linalg.norm(unit) == pytest.approx(np.sqrt(6), rel=1e-14)
    assert np.linalg.norm(unit, 2) >= 1
    assert np.allclose(equilibrate(unit), unit, rtol=1e-15, atol=0)
    assert np.allclose((equilibrate_both(w) ** 2).sum(0), 1, rtol=1e-14), "columns, which come last"


@pytest.mark.parametrize("seed", range(4))
def test_the_theorem_of_van_der_sluis(seed):
    """No diagonal from the left, of those that a search finds, is better by more than the root of the rows."""
    w = _weights(seed)

    def condition(logarithms):
        return float(np.log(condition_number(np.exp(logarithms)[:, None] * w)))

    start = np.log(row_scale(w))
    found = minimize(condition, start, method="Nelder-Mead", options={"maxiter": 4000, "maxfev": 4000, "fatol": 1e-9})
    ours = condition_number(equilibrate(w))
    assert np.exp(found.fun) <= ours <= np.sqrt(6) * np.exp(found.fun)
    assert ours < condition_number(w) / 10, "and far better than as it was"


def test_it_does_not_help_everything():
    """Of rows that have nearly one length the condition may rise a little."""
    changes = []
    for seed in range(20):
        w = np.random.default_rng(seed).standard_normal((12, 4))
        changes.append(condition_number(equilibrate(w)) / condition_number(w))
    assert min(changes) < 1 < max(changes) < 1.5


def test_condition_by_hand_and_turned():
    assert condition_number(np.diag([4.0, -0.5])) == 8
    assert condition_number(np.diag([1e6, 1e-3])) == pytest.approx(1e9)
    with pytest.raises(ValueError, match="w must have full rank"):
        condition_number(np.array([[1.0, 2.0], [2.0, 4.0]]))
    w = equilibrate(_weights(1))
    turn, _ = np.linalg.qr(np.random.default_rng(2).standard_normal((9, 9)))
    assert condition_number(w @ turn) == pytest.approx(float(condition_number(w)), rel=1e-9)


def test_lengths_do_not_matter_and_gradients_are_orthogonal():
    w, cotangent = _weights(3), np.random.default_rng(4).standard_normal((6, 9))
    longer = np.arange(1.0, 7.0)[:, None]
    assert np.allclose(equilibrate(longer * w), equilibrate(w), rtol=1e-13, atol=0)
    gradient = equilibrate_vjp(w, cotangent)
    size = np.linalg.norm(w, axis=1) * np.linalg.norm(gradient, axis=1)
    assert (abs((w * gradient).sum(1)) < 1e-12 * size).all()
    assert np.allclose(equilibrate_vjp(longer * w, cotangent), gradient / longer, rtol=1e-10)
    moved = w - 0.1 * gradient
    expected = (w**2).sum(1) + 0.01 * (gradient**2).sum(1)
    assert np.allclose((moved**2).sum(1), expected, rtol=1e-12), "rows only grow"


def test_the_gradient_with_the_scale_held_constant_is_another_one():
    """It is right if the scale does not move, and wrong for `equilibrate`."""
    rng = np.random.default_rng(5)
    w, cotangent = _weights(6, spread=0.3), rng.standard_normal((6, 9))
    scale = row_scale(w)
    stopped = scale_rows_vjp(w, scale, cotangent)
    check_gradient(lambda v: (cotangent * scale_rows(v, scale)).sum(), w, stopped, rng=rng)
    moving = lambda v: (cotangent * equilibrate(v)).sum()  # noqa: E731
    check_gradient(moving, w, equilibrate_vjp(w, cotangent), rng=rng)
    with pytest.raises(AssertionError):
        check_gradient(moving, w, stopped, rng=rng)


def test_rows_of_zeros():
    w = np.array([[0.0, 0.0], [3.0, 4.0]])
    assert np.array_equal(equilibrate(w)[0], [0.0, 0.0])
    back = equilibrate_vjp(w, np.ones((2, 2)), eps=1e-3)
    assert np.allclose(back[0], 1e3, rtol=1e-9)
    assert np.isfinite(equilibrate_columns(np.array([[0.0, 1.0]]))).all()


def test_a_layer_s_gradient():
    rng = np.random.default_rng(7)
    w, x, b, out = (
        _weights(8, spread=0.5),
        rng.standard_normal((5, 9)),
        rng.standard_normal(6),
        rng.standard_normal((5, 6)),
    )
    check_gradient(
        lambda v: (out * conditioned_linear(x, v, b)).sum(), w, conditioned_linear_vjp(x, w, b, out), rng=rng
    )


def test_bad_input():
    with pytest.raises(ValueError, match="eps must lie in"):
        equilibrate(np.ones((2, 2)), eps=0.0)
    with pytest.raises(ValueError, match="w must have shape"):
        conditioned_linear(np.ones((3, 4)), np.ones((2, 5)), np.ones(2))
