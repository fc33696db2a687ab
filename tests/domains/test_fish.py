"""Steps by hand, the expansion over all orders, and where Fish is gradient descent."""

import dataclasses
import itertools

import numpy as np
import pytest

from trref.domains.fish import fish_step, idgm_objective, inner_trajectory
from trref.problems.domains import DomainLosses


@dataclasses.dataclass(frozen=True)
class Parabolas:
    """``a (theta - c)²/2`` in one dimension, one a domain."""

    a: np.ndarray
    c: np.ndarray

    def __call__(self, theta):
        """Return losses and gradients."""
        return self.a * (theta[0] - self.c) ** 2 / 2, (self.a * (theta[0] - self.c))[:, None]

    def hessian_products(self, theta, V):
        """Return each curvature times its row."""
        return self.a[:, None] * V

    def __len__(self):
        return len(self.a)


TWO = Parabolas(np.array([1.0, 2.0]), np.array([1.0, -1.0]))


def _three_domains(seed=0, E=3):
    rng = np.random.default_rng(seed)
    losses = DomainLosses(rng.standard_normal((E, 20, 3)), rng.integers(0, 2, (E, 20)))
    return losses, rng.standard_normal(6)


def test_steps_by_hand():
    """From 0: to 0.1, then back by 0.2 · 1.1; the other way round to -0.2 and -0.08."""
    start = np.array([0.0])
    assert np.allclose(
        inner_trajectory(TWO, start, np.array([0, 1]), lr=0.1), [[0.0], [0.1], [-0.12]], atol=1e-15, rtol=1e-9
    )
    assert np.allclose(
        inner_trajectory(TWO, start, np.array([1, 0]), lr=0.1), [[0.0], [-0.2], [-0.08]], atol=1e-15, rtol=1e-9
    )
    assert np.allclose(fish_step(TWO, start, np.array([0, 1]), lr=0.1, meta=0.25), [-0.03], atol=1e-15, rtol=1e-9)


def test_the_objective_by_hand():
    """At 0 the gradients are -1 and 2, at 1 they are 0 and 4; the Hessians are 1 and 2."""
    value, gradient = idgm_objective(TWO, np.array([0.0]), gamma=0.3)
    assert value == pytest.approx(0.75 + 0.3 * 2) and gradient == pytest.approx([0.5 - 0.3 * (1 * 2 + 2 * -1)])
    value, gradient = idgm_objective(TWO, np.array([1.0]), gamma=0.3)
    assert value == pytest.approx(2.0) and gradient == pytest.approx([2.0 - 0.3 * (1 * 4 + 2 * 0)])


def test_the_inner_products_pair_by_pair():
    losses, theta = _three_domains(E=4)
    values, G = losses(theta)
    pairs = [G[i] @ G[j] for i, j in itertools.combinations(range(4), 2)]
    value, _ = idgm_objective(losses, theta, gamma=0.7)
    assert value == pytest.approx(values.mean() - 0.7 * np.mean(pairs), rel=1e-13)
    for gamma, some in ((0.0, losses), (0.7, losses.on(slice(0, 1)))):
        value, gradient = idgm_objective(some, theta, gamma=gamma)
        assert value == pytest.approx(some(theta)[0].mean()) and np.allclose(
            gradient, some(theta)[1].mean(0), rtol=1e-9
        )


def test_over_all_orders_fish_ascends_the_inner_products():
    """The mean of all orders leaves a remainder of third order: half the step, an eighth of it."""
    losses, theta = _three_domains()
    _, G = losses(theta)
    ascent = losses.hessian_products(theta, G.sum(0) - G).sum(0)
    errors = []
    for lr in (0.02, 0.01):
        ends = [
            inner_trajectory(losses, theta, np.array(order), lr=lr)[-1] for order in itertools.permutations(range(3))
        ]
        predicted = -lr * G.sum(0) + lr**2 / 2 * ascent
        errors.append(np.linalg.norm(np.mean(ends, axis=0) - theta - predicted))
    assert errors[0] / errors[1] == pytest.approx(8, rel=0.1)
    assert errors[0] < 0.05 * 0.02**2 * np.linalg.norm(ascent)


def test_one_order_has_a_term_of_its_own():
    """To second order the end is moved by lr² Σ_s H_s Σ_{j before s} G_j."""
    losses, theta = _three_domains(1)
    _, G = losses(theta)
    before = np.stack([G[2] + G[1], G[2], 0 * G[2]])  # for the order 2, 1, 0
    errors = []
    for lr in (0.02, 0.01):
        end = inner_trajectory(losses, theta, np.array([2, 1, 0]), lr=lr)[-1]
        predicted = -lr * G.sum(0) + lr**2 * losses.hessian_products(theta, before).sum(0)
        errors.append(np.linalg.norm(end - theta - predicted))
    assert errors[0] / errors[1] == pytest.approx(8, rel=0.1)


def test_identical_domains_are_gradient_descent():
    losses, theta = _three_domains()
    same, expected = losses.on(np.array([1, 1, 1])), theta
    for _ in range(3):
        expected = expected - 0.3 * losses(expected)[1][1]
    assert np.allclose(fish_step(same, theta, np.array([2, 0, 1]), lr=0.3, meta=1.0), expected, atol=1e-14, rtol=1e-9)


def test_short_inner_steps_are_a_step_on_the_mean_loss():
    losses, theta = _three_domains()
    end = fish_step(losses, theta, np.array([2, 0, 1]), lr=1e-6, meta=0.1 / 1e-6)
    assert np.allclose(end, theta - 0.1 * losses(theta)[1].sum(0), atol=1e-6, rtol=1e-9)


def test_a_share_of_1_is_the_end():
    losses, theta = _three_domains()
    order = np.array([1, 2, 1, 0])
    end = inner_trajectory(losses, theta, order, lr=0.5)
    assert end.shape == (5, 6) and np.array_equal(end[0], theta)
    assert np.allclose(fish_step(losses, theta, order, lr=0.5, meta=1.0), end[-1], atol=1e-15, rtol=1e-9)


def test_bad_input():
    losses, theta = _three_domains()
    with pytest.raises(ValueError, match="order must be less than 3"):
        fish_step(losses, theta, np.array([0, 3]), lr=0.1)
    with pytest.raises(ValueError, match="lr must lie in"):
        inner_trajectory(losses, theta, np.array([0]), lr=0.0)
    with pytest.raises(TypeError, match="losses_and_grads"):
        idgm_objective(lambda theta: losses(theta), theta, gamma=0.1)


@pytest.mark.parametrize(
    ("returned", "error", "words"),
    [
        (np.ones(2), TypeError, "a tuple"),
        ((np.ones(3), np.ones((2, 1))), ValueError, r"losses of shape \(2,\)"),
        ((np.ones(2), np.ones(2)), ValueError, r"gradients of shape \(2, 1\)"),
        ((np.ones(2), np.ones((2, 1), np.float32)), TypeError, "float32"),
        ((np.ones(2), np.full((2, 1), np.nan)), ValueError, "finite"),
    ],
)
def test_what_the_losses_return_is_checked(returned, error, words):
    class Wrong(Parabolas):
        def __call__(self, theta):
            return returned

    with pytest.raises(error, match=words):
        fish_step(Wrong(TWO.a, TWO.c), np.array([0.0]), np.array([0, 1]), lr=0.1)
