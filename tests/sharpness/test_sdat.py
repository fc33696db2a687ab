"""The best discriminator in closed form, signs of the game, what the perturbation sees, the variants written out."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import rel_entr

from trref.nn import two_heads
from trref.problems.domains import DomainAdversarial
from trref.sharpness.sdat import (
    condition_features,
    discriminator_objective,
    domain_loss,
    generator_objective,
    reversal,
    worst_perturbation,
)

SIZES = two_heads.Sizes((2, 5, 4), (3,), (6, 1))


def _game(seed=0):
    rng = np.random.default_rng(seed)
    source, target = rng.standard_normal((9, 2)), rng.standard_normal((7, 2)) + 1
    game = DomainAdversarial(source, rng.integers(0, 3, 9), target, SIZES)
    both = two_heads.init(rng, SIZES)
    return game, both[: game.size], both[game.size :]


def test_domain_loss_by_hand():
    """Odds of 3 and 1 on the source, of 1/4 on the target: ln(4/3) and ln 2, and ln(5/4)."""
    loss, (d_source, d_target) = domain_loss(np.log([3.0, 1.0]), np.log([0.25]))
    assert loss == pytest.approx((np.log(4 / 3) + np.log(2)) / 2 + np.log(5 / 4), rel=1e-14)
    assert np.allclose(d_source, [-1 / 8, -1 / 4], rtol=1e-14) and np.allclose(d_target, [1 / 5], rtol=1e-14)


def test_the_loss_of_the_problem_is_this_one():
    game, theta, phi = _game(1)
    both = np.concatenate([theta, phi])
    logits = [two_heads.forward(both, X, SIZES)[1][:, 0] for X in (game.source, game.target)]
    assert domain_loss(*logits)[0] == pytest.approx(float(game.domain(theta, phi)[0]), rel=1e-13)


def test_domains_and_sign_can_be_swapped():
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal(5), rng.standard_normal(8)
    one, other = domain_loss(a, b), domain_loss(-b, -a)
    assert one[0] == pytest.approx(float(other[0]), rel=1e-14)
    assert np.allclose(one[1].source_logit, -other[1].target_logit, rtol=1e-13)


def test_the_best_discriminator_measures_the_divergence_of_jensen_and_shannon():
    """Features with five values: a logit for each, found by L-BFGS, gives 2 ln 2 - 2 JS."""
    counts = np.array([[5, 3, 1, 1, 2], [1, 2, 4, 3, 2]])
    values = [np.repeat(np.arange(5), row) for row in counts]

    def loss(logit):
        value, (d_source, d_target) = domain_loss(logit[values[0]], logit[values[1]])
        slope = [np.bincount(v, d, 5) for v, d in zip(values, (d_source, d_target), strict=True)]
        return float(value), sum(slope)

    found = minimize(loss, np.zeros(5), jac=True, tol=1e-14)
    p, q = counts / counts.sum(1, keepdims=True)
    divergence = (rel_entr(p, (p + q) / 2).sum() + rel_entr(q, (p + q) / 2).sum()) / 2
    assert found.fun == pytest.approx(2 * np.log(2) - 2 * divergence, rel=1e-8)
    assert np.allclose(found.x, np.log(p / q), rtol=0, atol=1e-3)


def test_the_ascent_sees_neither_target_nor_discriminator():
    game, theta, phi = _game(3)
    moved = worst_perturbation(game, theta, phi, rho=0.2)
    assert np.linalg.norm(moved) == pytest.approx(0.2, rel=1e-13)
    elsewhere = DomainAdversarial(game.source, game.labels, game.target + 5, SIZES)
    assert np.array_equal(moved, worst_perturbation(elsewhere, theta, -phi, rho=0.2, domain_weight=9.0))
    for smooth in ("adversarial", "all"):
        one, other = (worst_perturbation(g, theta, phi, rho=0.2, smooth=smooth) for g in (game, elsewhere))
        assert abs(one - other).max() > 1e-3


@pytest.mark.parametrize("smooth", ["task", "adversarial", "all"])
def test_steps_written_out(smooth):
    game, theta, phi = _game(4)
    weight, rho = 0.4, 0.3
    _, task = game.task(theta)
    _, domain, _ = game.domain(theta, phi)
    up = {"task": task, "adversarial": -weight * domain, "all": task - weight * domain}[smooth]
    there = theta + rho * up / np.linalg.norm(up)
    of_task = game.task(theta if smooth == "adversarial" else there)
    of_domain = game.domain(there, phi)
    how = {"rho": rho, "domain_weight": weight, "smooth": smooth}
    value, gradient = generator_objective(game, theta, phi, **how)
    assert value == pytest.approx(float(of_task[0] - weight * of_domain[0]), rel=1e-12)
    assert np.allclose(gradient, of_task[1] - weight * of_domain[1], rtol=1e-10, atol=1e-13)
    moved = worst_perturbation(game, theta, phi, **how)
    value, gradient = discriminator_objective(game, theta, phi, moved)
    assert value == pytest.approx(float(of_domain[0]), rel=1e-12)
    assert np.allclose(gradient, of_domain[2], rtol=1e-10, atol=1e-13)


def test_the_reversal_acts_on_the_network_alone():
    """The discriminator descends what the network ascends, and the class head sees the task alone."""
    game, theta, phi = _game(5)
    still = np.zeros_like(theta)
    plain = generator_objective(game, theta, phi, domain_weight=0.0, rho=0.0)[1]
    heavy = generator_objective(game, theta, phi, domain_weight=100.0, rho=0.0)[1] - plain
    assert np.allclose(heavy, -100 * game.domain(theta, phi)[1], rtol=1e-9, atol=1e-11)
    assert not heavy[-15:].any(), "five weights a class"
    d_phi = discriminator_objective(game, theta, phi, still)[1]
    before = game.domain(theta, phi)[0]
    assert game.domain(theta, phi - 1e-3 * d_phi)[0] < before < game.domain(theta - 1e-5 * heavy, phi)[0]


def test_reversal_by_hand():
    assert np.allclose(reversal(np.array([0.0, np.log(3.0)])), [0.0, 0.5], rtol=1e-14)
    assert reversal(np.array([1.0]), steepness=10.0) == pytest.approx(0.99990920426, rel=1e-10)


def test_features_and_classes_by_hand():
    assert np.allclose(
        condition_features(np.array([[1.0, 2.0]]), np.array([[0.25, 0.75]])), [[0.25, 0.5, 0.75, 1.5]], rtol=1e-9
    )


def test_bad_input():
    game, theta, phi = _game(6)
    with pytest.raises(ValueError, match="rho must lie in"):
        generator_objective(game, theta, phi, rho=-1.0)
    with pytest.raises(ValueError, match="smooth must be"):
        generator_objective(game, theta, phi, smooth="both")
    with pytest.raises(TypeError, match="game"):
        generator_objective(lambda theta: None, theta, phi)
    with pytest.raises(ValueError, match="perturbation"):
        discriminator_objective(game, theta, phi, np.zeros(3))
