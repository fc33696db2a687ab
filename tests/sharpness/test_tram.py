"""Divergences by hand and to second order, the length of the ascent, both Fisher balls, and the two measures."""

import numpy as np
import pytest
from scipy.special import log_softmax, rel_entr

from trref.nn import mlp
from trref.problems.convex import Quadratic
from trref.problems.networks import ClassifierLoss, random_classifier
from trref.sharpness import asam
from trref.sharpness.tram import (
    anchored_distance,
    anchored_gradient,
    anchored_perturbation,
    box_sharpness,
    fisher_gradient,
    fisher_perturbation,
    linear_cka,
    noised_distance,
    noised_gradient,
    noised_perturbation,
    trust_region_loss,
)


def _network(seed=0, points=12):
    rng = np.random.default_rng(seed)
    loss = random_classifier(rng, points=points, hidden=4)
    return loss, mlp.init(rng, loss.sizes), rng


def _linear(weights):
    """One sample, one feature of 1, two classes: the logits are weights and biases."""
    return ClassifierLoss(np.ones((1, 1)), np.array([0]), (1, 2)), np.array([*weights, 0.0, 0.0])


def test_distance_by_hand():
    """From (3/4, 1/4) to (1/2, 1/2): 3/4 ln 3/2 + 1/4 ln 1/2, the anchor first."""
    loss, anchor = _linear([np.log(3.0), 0.0])
    theta = np.zeros(4)
    forward = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    backward = 0.5 * np.log(2 / 3) + 0.5 * np.log(2.0)
    assert anchored_distance(loss, theta, anchor) == pytest.approx(forward, rel=1e-13)
    assert anchored_distance(loss, anchor, theta) == pytest.approx(backward, rel=1e-13)


def test_distances_by_relative_entropies():
    loss, theta, rng = _network(1)
    anchor, noise = theta + 0.5 * rng.standard_normal(theta.size), 0.3 * rng.standard_normal(loss.X.shape)
    p, q = (np.exp(log_softmax(loss.logits(t), 1)) for t in (anchor, theta))
    assert anchored_distance(loss, theta, anchor) == pytest.approx(rel_entr(p, q).sum() / 12, rel=1e-12)
    p = np.exp(log_softmax(loss.at(loss.X + noise).logits(theta), 1))
    assert noised_distance(loss, theta, noise) == pytest.approx(rel_entr(p, q).sum() / 12, rel=1e-12)


def test_small_moves_measure_the_fisher_matrix():
    """d = δᵀ F δ / 2 with F the Gauss-Newton matrix, and for a tenth of the noise a hundredth of the distance."""
    loss, theta, rng = _network(2)
    v = rng.standard_normal(theta.size)
    expected = v @ loss.gauss_newton_product(theta, v) / 2
    assert anchored_distance(loss, theta, theta + 1e-4 * v) == pytest.approx(1e-8 * expected, rel=1e-2)
    z = rng.standard_normal(loss.X.shape)
    far, near = (float(noised_distance(loss, theta, s * z)) for s in (1e-2, 1e-3))
    assert far / near == pytest.approx(100, rel=0.05)


def test_the_ascent_has_the_distance_for_its_relative_length():
    loss, theta, rng = _network(3)
    theta = theta + 0.1 * np.sign(theta) + 0.05 * (theta == 0)
    anchor, noise = theta + 0.5 * rng.standard_normal(theta.size), 0.3 * rng.standard_normal(loss.X.shape)
    g = loss(theta)[1]
    for moved, d in (
        (anchored_perturbation(loss, theta, anchor), anchored_distance(loss, theta, anchor)),
        (noised_perturbation(loss, theta, noise), noised_distance(loss, theta, noise)),
        (noised_perturbation(loss, theta, noise, cap=1e-3), 1e-3),
        (anchored_perturbation(loss, theta, anchor, radius=0.2), 0.2),
    ):
        assert np.linalg.norm(moved / theta) == pytest.approx(float(d), rel=1e-12)
        assert g @ moved == pytest.approx(float(d) * np.linalg.norm(theta * g), rel=1e-12)
        assert np.allclose(moved, float(d) * theta**2 * g / np.linalg.norm(theta * g), rtol=1e-10, atol=1e-15)


def test_a_given_radius_is_asam_and_no_distance_the_base():
    loss, theta, rng = _network(4)
    noise = rng.standard_normal(loss.X.shape)
    theirs = asam.perturbed_gradient(loss, theta, rho=0.3, offset=0.0)
    for ours in (
        anchored_gradient(loss, theta, 2 * theta, radius=0.3),
        noised_gradient(loss, theta, noise, radius=0.3),
    ):
        assert ours[0] == pytest.approx(float(theirs[0]), rel=1e-13) and np.allclose(
            ours[1], theirs[1], atol=1e-13, rtol=1e-9
        )
    still = [anchored_gradient(loss, theta, theta)[1], noised_gradient(loss, theta, 0 * noise)[1]]
    assert all(np.array_equal(g, loss(theta)[1]) for g in still)


def test_the_cap_is_a_cap():
    loss, theta, rng = _network(5)
    anchor = theta + 0.1 * rng.standard_normal(theta.size)
    free = anchored_perturbation(loss, theta, anchor)
    assert np.array_equal(anchored_perturbation(loss, theta, anchor, cap=1e3), free)
    half = 0.5 * float(anchored_distance(loss, theta, anchor))
    assert np.allclose(anchored_perturbation(loss, theta, anchor, cap=half), free / 2, rtol=1e-12, atol=0)


def test_fisher_balls():
    """The usual ascent has the radius in the Fisher norm, the printed one rises by 1; each sample counts alone."""
    loss, theta, rng = _network(6)
    noise = 0.3 * rng.standard_normal(loss.X.shape)
    noised = loss.at(loss.X + noise)
    each = [noised.on(slice(i, i + 1))(theta)[1] for i in range(12)]
    F, g = 1 + 2.0 * np.mean(np.square(each), 0), loss(theta)[1]
    usual = fisher_perturbation(loss, theta, noise, gamma=0.3, eta=2.0)
    assert usual @ (F * usual) == pytest.approx(0.09, rel=1e-12)
    assert np.allclose(usual, 0.3 * g / F / np.sqrt(g @ (g / F)), rtol=1e-10, atol=1e-15)
    printed = fisher_perturbation(loss, theta, noise, eta=2.0, form="printed")
    assert g @ printed == pytest.approx(1, rel=1e-12)
    assert np.allclose(printed, g / F / (g @ (g / F)), rtol=1e-10, atol=1e-15)
    value, gradient = fisher_gradient(loss, theta, noise, eta=2.0, gamma=0.3)
    assert value == pytest.approx(float(loss(theta + usual)[0]), rel=1e-13)
    assert np.allclose(gradient, loss(theta + usual)[1], atol=1e-13, rtol=1e-9)


def test_without_a_gradient_nothing_moves():
    X = np.array([[1.0, 2.0], [0.5, -1.0]])
    loss, theta = ClassifierLoss(X, np.array([0, 1]), (2, 3, 2)), np.zeros(17)
    for form in ("usual", "printed"):
        assert not fisher_perturbation(loss, theta, 0.1 * X, form=form).any()
    assert not anchored_perturbation(loss, theta, np.ones(17)).any()


def test_penalty_by_hand():
    """The weight times the distance; by the logits its derivative is p - p_anchor, -1/4 for class 0."""
    loss, anchor = _linear([np.log(3.0), 0.0])
    theta = np.zeros(4)
    value, gradient = trust_region_loss(loss, theta, anchor, penalty_weight=2.0)
    distance = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    assert value == pytest.approx(np.log(2) + 2 * distance, rel=1e-13)
    assert np.allclose(gradient, np.array([-1, 1, -1, 1]) * (0.5 + 2 * 0.25), rtol=1e-13)


def test_box_of_a_quadratic_by_hand():
    """x²/2 at 1, a box of 0.1 · 2: it rises to 0.72 from 0.5. Of a bowl's middle nothing is known."""
    loss = Quadratic(np.eye(1), np.zeros(1))
    assert box_sharpness(loss, np.ones(1), box=0.1) == pytest.approx(100 * (0.72 - 0.5) / 1.5, rel=1e-12)
    assert box_sharpness(loss, np.zeros(1), box=0.1) == 0


def test_the_box_is_estimated_from_below():
    loss, theta, rng = _network(7)
    found = box_sharpness(loss, theta, box=0.1)
    half = 0.1 * (abs(theta) + 1)
    tried = [float(loss(theta + half * rng.choice((-1.0, 1.0), theta.size))[0]) for _ in range(300)]
    here = float(loss(theta)[0])
    assert found > 100 * (max(tried) - here) / (1 + here) > 0, "better than random corners"
    assert box_sharpness(loss, theta, box=0.1, steps=9) >= found


def test_similarity_of_features():
    rng = np.random.default_rng(8)
    x = rng.standard_normal((30, 4))
    turn, _ = np.linalg.qr(rng.standard_normal((4, 4)))
    assert linear_cka(x, 3 * x @ turn + 5) == pytest.approx(1, rel=1e-12), "turned, scaled and shifted"
    y, z = np.array([[1.0], [-1.0], [0.0], [0.0]]), np.array([[0.0], [0.0], [2.0], [-2.0]])
    assert linear_cka(y, z) == 0, "uncorrelated"
    # in one dimension it is the squared correlation
    a, b = x[:, :1], x[:, :1] + x[:, 1:2]
    assert linear_cka(a, b) == pytest.approx(np.corrcoef(a[:, 0], b[:, 0])[0, 1] ** 2, rel=1e-12)
    assert linear_cka(np.ones((3, 2)), y[:3]) == 0


def test_bad_input():
    loss, theta, _ = _network(9)
    with pytest.raises(ValueError, match="noise must have shape"):
        noised_gradient(loss, theta, np.zeros((3, 3)))
    with pytest.raises(ValueError, match="cap must lie in"):
        anchored_gradient(loss, theta, theta, cap=0.0)
    with pytest.raises(TypeError, match="loss"):
        anchored_gradient(lambda theta: loss(theta), theta, theta)
