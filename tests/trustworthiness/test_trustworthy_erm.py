"""One objective with switches: corners of the box, Danskin, plain regression, reversal, penalties, tilts."""

import itertools

import numpy as np
import pytest
from scipy import optimize
from sklearn.linear_model import LogisticRegression

from trref.domains.domain_penalties import irm, vrex
from trref.trustworthiness import robust_reweighting
from trref.trustworthiness.trustworthy_erm import (
    adversary_objective,
    encoder_objective,
    invariant_objective,
    low_rank_gradient,
    masking_effect,
    master_objective,
    saliency,
    tilted_policy,
)


def _data(seed, n=40, d=3):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    labels = (X[:, 0] + 0.8 * rng.standard_normal(n) > 0).astype(float)
    return rng.standard_normal(d), X, labels


def _losses(theta, X, labels):
    return np.logaddexp(0, -(2 * labels - 1) * (X @ theta))


@pytest.mark.parametrize("seed", range(3))
def test_worst_data_are_a_corner(seed):
    theta, X, labels = _data(seed)
    movable = np.array([1.0, 1.0, 0.0])
    corners = [np.array(c) for c in itertools.product((-0.3, 0.3), repeat=2)]
    worst = np.max([_losses(theta, X + np.append(c, 0), labels) for c in corners], 0)
    assert master_objective(theta, X, labels, movable=movable, rho=0.3)[0] == pytest.approx(worst.mean(), rel=1e-12)


def test_a_reach_is_a_margin():
    """More reach, a larger loss; without any, and with equal weights, plain regression."""
    theta, X, labels = _data(1)
    values = [master_objective(theta, X, labels, rho=rho)[0] for rho in (0.0, 0.1, 0.5)]
    assert values[0] == pytest.approx(_losses(theta, X, labels).mean(), rel=1e-12)
    assert values == sorted(values)


def test_minimum_is_scikit_learns():
    """Weighted and with a penalty: C = 1 / μ for weights that sum to 1."""
    _, X, labels = _data(2)
    weights = np.random.default_rng(0).dirichlet(np.ones(40))
    theirs = LogisticRegression(C=1 / 0.1, fit_intercept=False, tol=1e-10, max_iter=1000).fit(X, labels, weights)
    found = optimize.minimize(
        lambda t: master_objective(t, X, labels, weights, l2_weight=0.1), np.zeros(3), jac=True, method="BFGS", tol=1e-9
    )
    assert np.allclose(found.x, theirs.coef_[0], atol=1e-5)
    assert abs(master_objective(theirs.coef_[0].copy(), X, labels, weights, l2_weight=0.1)[1]).max() < 1e-6


@pytest.mark.parametrize("reweighting", ["cvar", "kl_penalty", "kl_ball", "chi_square_ball"])
def test_danskin(reweighting):
    """The gradient is that of the weighted loss with the worst weights held; and so is the value."""
    theta, X, labels = _data(3)
    robust = getattr(robust_reweighting, reweighting)
    value, q = robust(_losses(theta, X, labels))
    held = master_objective(theta, X, labels, q)
    ours = master_objective(theta, X, labels, reweighting=reweighting)
    assert ours[0] == pytest.approx(value, rel=1e-10) and np.allclose(ours[1], held[1], rtol=1e-9, atol=1e-12)
    plain = master_objective(theta, X, labels)[0]
    assert plain < value <= _losses(theta, X, labels).max()


def test_reversal_is_one_game():
    """The encoder's derivative is the label's, less λ times what the adversary's loss has by the encoder."""
    rng = np.random.default_rng(4)
    W, v, u = rng.standard_normal((3, 2)), rng.standard_normal(2), rng.standard_normal(2)
    X, y, g = rng.standard_normal((20, 3)), *(rng.integers(0, 2, (2, 20)).astype(float))

    def game(weight):
        return encoder_objective(W, v, u, X, y, g, adversary_weight=weight)

    loss, alone = game(0.0)
    value, both = game(0.7)
    other = adversary_objective(u, W, X, g)[0]
    assert value == pytest.approx(loss - 0.7 * other, rel=1e-12) and np.allclose(both.head, alone.head)
    # with the domain as the label and the adversary as the head, the encoder's own derivative is what is reversed
    _, reversed_ = encoder_objective(W, u, u, X, g, g, adversary_weight=0.0)
    assert np.allclose(both.encoder, alone.encoder - 0.7 * reversed_.encoder, rtol=1e-12)
    # against itself, at λ = 1, nothing is left
    value, nothing = encoder_objective(W, u, u, X, g, g)
    assert value == 0 and abs(nothing.encoder).max() < 1e-15


@pytest.mark.parametrize(("name", "penalty"), [("irm", irm), ("vrex", vrex)])
def test_penalties_are_the_domains_own(name, penalty):
    rng = np.random.default_rng(5)
    theta, features, labels = (
        rng.standard_normal((3, 2)),
        rng.standard_normal((2, 10, 3)),
        rng.integers(0, 2, (2, 10)),
    )
    plain = invariant_objective(theta, features, labels, penalty=name, penalty_weight=0.0)
    whole = invariant_objective(theta, features, labels, penalty=name, penalty_weight=3.0)
    extra, by = penalty(theta, features, labels)
    assert whole[0] - plain[0] == pytest.approx(3 * extra, rel=1e-10)
    assert np.allclose(whole[1].theta - plain[1].theta, 3 * by.theta, rtol=1e-9, atol=1e-14)
    assert np.allclose(whole[1].features - plain[1].features, 3 * by.features, rtol=1e-9, atol=1e-14)


def test_saliency_is_the_attack():
    """A small step along its sign raises each loss by the l1 norm, as the worst data within reach do."""
    theta, X, labels = _data(6)
    slopes, step = saliency(theta, X, labels), 1e-6
    risen = _losses(theta, X + step * np.sign(slopes), labels) - _losses(theta, X, labels)
    assert np.allclose(risen / step, abs(slopes).sum(1), rtol=1e-5)
    worst = master_objective(theta, X, labels, rho=step)[0] - master_objective(theta, X, labels)[0]
    assert worst == pytest.approx(risen.mean(), rel=1e-6)


def test_masking():
    theta, X = np.array([1.0, -2.0, 3.0]), np.array([[1.0, 1.0, 1.0], [-1.0, 1.0, 0.0]])
    assert masking_effect(theta, X).tolist() == [3, 2]
    assert masking_effect(theta, X, features=2).tolist() == [4, 3]
    assert masking_effect(theta, X, features=3).tolist() == [4, 3]


def test_low_rank_by_the_chain_rule():
    rng = np.random.default_rng(7)
    W, B, A, x = rng.standard_normal((4, 3)), rng.standard_normal((4, 2)), rng.standard_normal((2, 3)), np.ones(3)

    def loss(B, A):
        return ((W + B @ A) @ x) @ ((W + B @ A) @ x) / 2

    G = np.outer((W + B @ A) @ x, x)
    result = low_rank_gradient(G, B, A)
    D = rng.standard_normal((4, 2))
    step = 1e-5
    slope = (loss(B + step * D, A) - loss(B - step * D, A)) / (2 * step)
    assert (result.B * D).sum() == pytest.approx(slope, rel=1e-7)
    D = rng.standard_normal((2, 3))
    slope = (loss(B, A + step * D) - loss(B, A - step * D)) / (2 * step)
    assert (result.A * D).sum() == pytest.approx(slope, rel=1e-7)
    assert (low_rank_gradient(G, 0 * B, A).A == 0).all(), "with B = 0 only B moves at first"


def test_tilted_policies():
    """Against many policies; and the mirror image of the worst case: a loss is a reward to the adversary."""
    rng = np.random.default_rng(8)
    policy, reward = rng.dirichlet(np.ones(5)), rng.standard_normal(5)
    best, value = tilted_policy(policy, reward, kl_weight=0.4)
    for other in rng.dirichlet(np.ones(5), 300):
        assert other @ reward - 0.4 * (other * np.log(other / policy)).sum() <= value
    assert value == pytest.approx(best @ reward - 0.4 * (best * np.log(best / policy)).sum(), rel=1e-10)
    worst, q = robust_reweighting.kl_penalty(reward, policy, kl_weight=0.4)
    assert worst == value and (q == best).all()
