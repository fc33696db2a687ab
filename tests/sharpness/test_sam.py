"""Theorems and limits of sharpness-aware minimisation."""

import numpy as np
import pytest

from trref.nn import mlp
from trref.problems.convex import Quadratic, logistic, spd_matrix
from trref.problems.networks import ClassifierLoss
from trref.sharpness.sam import perturbed_gradient, share_gradient, sharpness, worst_perturbation


def _problem(seed=0):
    rng = np.random.default_rng(seed)
    return logistic(rng, points=20, dims=6), rng.standard_normal(6), rng


@pytest.mark.parametrize("rho", [0.01, 0.5])
def test_the_constraint_is_active_and_the_gain_is_the_dual_norm(rho):
    f, w, rng = _problem()
    g, e = f(w)[1], worst_perturbation(f, w, rho=rho)
    assert np.linalg.norm(e) == pytest.approx(rho, rel=1e-12)
    assert g @ e == pytest.approx(rho * np.linalg.norm(g), rel=1e-12)
    for _ in range(100):
        other = rng.standard_normal(6)
        assert g @ other / np.linalg.norm(other) * rho <= g @ e


@pytest.mark.parametrize(("p", "order"), [(1.5, 1.5), (3.0, 3.0), (20.0, 20.0), ("inf", np.inf)])
def test_the_constraint_is_active_in_other_norms(p, order):
    f, w, rng = _problem()
    g, e = f(w)[1], worst_perturbation(f, w, rho=0.2, p=p)
    dual = 1.0 if p == "inf" else p / (p - 1)
    assert np.linalg.norm(e, order) == pytest.approx(0.2, rel=1e-12)
    assert g @ e == pytest.approx(0.2 * np.linalg.norm(g, dual), rel=1e-12)
    others = rng.standard_normal((200, 6))
    assert (others @ g / np.linalg.norm(others, order, axis=1) * 0.2 <= g @ e).all()


def test_tiny_gradients_have_a_direction_too():
    f = Quadratic(1e-180 * np.eye(2), np.zeros(2))
    assert worst_perturbation(f, np.array([3.0, -4.0]), rho=0.5) == pytest.approx([0.3, -0.4], rel=1e-14)


def test_the_gradient_is_the_one_at_the_moved_point():
    f, w, _ = _problem()
    value, gradient = perturbed_gradient(f, w, rho=0.3)
    there = f(w + 0.3 * f(w)[1] / np.linalg.norm(f(w)[1]))
    assert value == pytest.approx(there[0], rel=1e-14) and np.allclose(gradient, there[1], rtol=1e-13)


def test_radius_zero_is_the_plain_gradient():
    f, w, _ = _problem()
    assert np.array_equal(perturbed_gradient(f, w, rho=0.0)[1], f(w)[1])


def test_first_order_in_the_radius():
    """gradient = g + rho H g/‖g‖ + O(rho²): halving rho divides the remainder by four."""
    rng = np.random.default_rng(1)
    X, y = rng.standard_normal((12, 5)), rng.integers(0, 3, 12)
    loss = ClassifierLoss(X, y, (5, 4, 3))
    theta = mlp.init(rng, loss.sizes)
    g = loss(theta)[1]
    Hg = loss.hessian_product(theta, g / np.linalg.norm(g))
    remainder = [np.linalg.norm(perturbed_gradient(loss, theta, rho=r)[1] - g - r * Hg) for r in (2e-3, 1e-3)]
    assert remainder[0] / remainder[1] == pytest.approx(4, rel=1e-2)


def test_the_full_derivative_is_another_one():
    """Differences of L(w + eps(w)) give g' + rho/‖g‖ H (g' - ĝ⟨ĝ, g'⟩), not SAM's gradient."""
    f, w, _ = _problem(2)
    rho, h = 0.3, 1e-6
    loss = lambda w: f(w + worst_perturbation(f, w, rho=rho))[0]  # noqa: E731
    full = np.array([(loss(w + h * e) - loss(w - h * e)) / (2 * h) for e in np.eye(6)])
    there = perturbed_gradient(f, w, rho=rho)[1]
    g = f(w)[1]
    unit = g / np.linalg.norm(g)
    v = there - unit * (unit @ there)
    Hv = (f(w + h * v)[1] - f(w - h * v)[1]) / (2 * h)
    assert np.allclose(full, there + rho / np.linalg.norm(g) * Hv, rtol=0, atol=1e-7)
    assert np.linalg.norm(full - there) > 1e-3


def test_two_cycle_on_a_parabola():
    """With a constant step on λw²/2 SAM ends in a cycle of amplitude ηλρ / (2 - ηλ)."""
    lam, lr, rho = 2.0, 0.3, 0.1
    f, w, path = Quadratic(np.array([[lam]]), np.zeros(1)), np.array([0.7]), []
    for _ in range(400):
        w = w - lr * perturbed_gradient(f, w, rho=rho)[1]
        path.append(float(w[0]))
    amplitude = lr * lam * rho / (2 - lr * lam)
    assert np.allclose(np.abs(path[-6:]), amplitude, rtol=1e-9) and path[-1] * path[-2] < 0


def test_a_zero_gradient_gives_no_perturbation():
    f = Quadratic(np.eye(3), np.zeros(3))
    value, gradient = perturbed_gradient(f, np.zeros(3))
    assert value == 0 and not gradient.any()


def test_never_above_the_exact_sharpness_of_a_quadratic():
    """The exact maximiser solves (mu I - H) e = g, ‖e‖ = rho, mu above the largest eigenvalue."""
    from scipy.optimize import brentq

    rng = np.random.default_rng(3)
    H = spd_matrix(rng, np.array([5.0, 2.0, 1.0, 0.1]))
    f, w, rho = Quadratic(H, rng.standard_normal(4)), rng.standard_normal(4), 0.2
    g = f(w)[1]
    step = lambda mu: np.linalg.solve(mu * np.eye(4) - H, g)  # noqa: E731
    mu = brentq(lambda mu: np.linalg.norm(step(mu)) - rho, 5 + 1e-9, 1e4)
    exact = f(w + step(mu))[0]
    assert f(w)[0] < perturbed_gradient(f, w, rho=rho)[0] <= exact
    estimates = [sharpness(f, w, rho=rho, steps=k) for k in range(1, 60)]
    # An estimate is the difference of two values. A term of a value takes part in 2n + 2 operations, and its x is
    # rounded, too, which counts twice: each of the 2n + 4 errs by at most half an eps of the largest terms.
    far = abs(w) + rho
    rounding = (len(w) + 2) * np.finfo(float).eps * (far @ (abs(H) @ far / 2 + abs(f.b)))
    assert min(np.diff(estimates)) >= -4 * rounding, "for a convex loss no step falls"
    assert estimates[-1] == pytest.approx(exact - f(w)[0], rel=1e-9)


def test_shares_by_hand():
    """Five examples in shares of two, two and one: each perturbs for itself, and counts by its size."""
    rng = np.random.default_rng(5)
    loss = ClassifierLoss(rng.standard_normal((5, 3)), rng.integers(0, 3, 5), (3, 4, 3))
    theta, value, gradient = mlp.init(rng, loss.sizes), 0.0, 0.0
    for rows, weight in (([0, 1], 0.4), ([2, 3], 0.4), ([4], 0.2)):
        part = loss.on(np.array(rows))
        g = part(theta)[1]
        there = part(theta + 0.3 * g / np.linalg.norm(g))
        value, gradient = value + weight * there[0], gradient + weight * there[1]
    ours = share_gradient(loss, theta, share=2, rho=0.3)
    assert ours[0] == pytest.approx(value, rel=1e-13) and np.allclose(ours[1], gradient, rtol=1e-12, atol=1e-15)


def test_small_shares_are_sharper():
    """The sum of maxima is no less than the maximum of the sum: to first order, norms of parts against their mean's."""
    rng = np.random.default_rng(6)
    loss = ClassifierLoss(rng.standard_normal((32, 3)), rng.integers(0, 3, 32), (3, 8, 3))
    theta = mlp.init(rng, loss.sizes)
    values = [float(share_gradient(loss, theta, share=m, rho=1e-4)[0]) for m in (32, 16, 4, 1)]
    assert values == sorted(values) and values[-1] > values[0]


def test_bad_input():
    f, w, _ = _problem()
    with pytest.raises(ValueError, match="rho must lie in"):
        perturbed_gradient(f, w, rho=-0.1)
    for bad in (1.0, 0.5):
        with pytest.raises(ValueError, match="p must lie in"):
            perturbed_gradient(f, w, p=bad)
    with pytest.raises(TypeError, match="p must be a number"):
        perturbed_gradient(f, w, p="two")
    with pytest.raises(ValueError, match="steps must lie in"):
        sharpness(f, w, steps=0)
    with pytest.raises(TypeError, match="loss_and_grad must be callable"):
        perturbed_gradient(None, w)
