"""Data from several domains, losses a domain, and the adversary that tells them apart."""

import numpy as np
import pytest

from tests.problems.agreement import same_on_strict
from trref.checks import check_gradient
from trref.nn import two_heads
from trref.problems.domains import DomainAdversarial, DomainLosses, shortcut_domains, spurious_groups
from trref.problems.samples import SoftmaxSamples


def _rng(seed=0):
    return np.random.default_rng(seed)


def test_shortcuts_hold_in_their_own_domain_only():
    data = shortcut_domains(_rng(1), domains=3, points=4000)
    assert data.features.shape == (3, 4000, 8) and data.test_features.shape == (4000, 8)
    error = 5 / np.sqrt(4000)  # five standard deviations of a mean of ±1
    for e in range(4):
        X, y = (data.features[e], data.labels[e]) if e < 3 else (data.test_features, data.test_labels)
        assert y.mean() == pytest.approx(0.5, abs=error) and set(np.unique(abs(X[:, 1:4]))) == {1.5}
        agreement = (X * (2 * y - 1)[:, None]).mean(0)
        assert agreement[0] == pytest.approx(0.7, abs=error)
        for s in range(3):
            assert agreement[1 + s] == pytest.approx(1.5 if s == e else 0, abs=1.5 * error if s != e else 1e-12)
        assert (X[:, -1] == 1).all() and abs(agreement[4:7]).max() < error


def test_spurious_groups():
    X, labels, group = spurious_groups(_rng(2), 20_000)
    nuisance = group % 2
    assert np.array_equal(group // 2, labels) and X.shape == (20_000, 6)
    assert (nuisance == labels).mean() == pytest.approx(0.95, abs=5 * np.sqrt(0.05 * 0.95 / 20_000))
    assert ((X[:, 0] > 0) == labels).mean() == pytest.approx(0.788, abs=0.015)  # the normal law at 0.8
    assert ((X[:, 1] > 0) == nuisance).mean() > 0.9998
    fair = spurious_groups(_rng(3), 20_000, aligned=0.5).group
    assert abs(np.bincount(fair) / 20_000 - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / 20_000)


def _losses(rng):
    data = shortcut_domains(rng, domains=3, points=6)
    return DomainLosses(data.features, data.labels), rng.standard_normal(16)


def test_losses_are_those_of_each_domain():
    rng = _rng(4)
    f, theta = _losses(rng)
    values, gradients = f(theta)
    V, h = rng.standard_normal((3, 16)), 1e-6
    products = f.hessian_products(theta, V)
    for e in range(len(f)):
        alone = SoftmaxSamples(f.features[e], f.labels[e], 2)
        assert values[e] == pytest.approx(alone(theta)[0], rel=1e-13)
        assert np.allclose(gradients[e], alone(theta)[1], atol=1e-14, rtol=1e-9)
        check_gradient(lambda t, e=e: f(t)[0][e], theta, gradients[e], rng=rng)
        difference = (f(theta + h * V[e])[1][e] - f(theta - h * V[e])[1][e]) / (2 * h)
        assert np.allclose(products[e], difference, atol=1e-8, rtol=1e-9)
    assert np.array_equal(f.on(np.array([2, 0]))(theta)[0], values[[2, 0]])
    same_on_strict(lambda f, t, V: (f(t), f.hessian_products(t, V), f.on(slice(2))(t)), f, theta, V)
    with pytest.raises(ValueError, match="theta must have length 16"):
        f(theta[1:])
    with pytest.raises(ValueError, match="theta must be one vector"):
        f(np.stack([theta, theta]))


SIZES = two_heads.Sizes((2, 5, 4), (3,), (6, 1))


def _adversarial(rng):
    source, target = rng.standard_normal((7, 2)), rng.standard_normal((5, 2)) + 1
    f = DomainAdversarial(source, rng.integers(0, 3, 7), target, SIZES, "silu")
    both = two_heads.init(rng, SIZES)
    return f, both[: f.size], both[f.size :]


def test_both_losses_against_differences():
    rng = _rng(5)
    f, theta, phi = _adversarial(rng)
    check_gradient(lambda t: f.task(t)[0], theta, f.task(theta)[1], rng=rng)
    _, d_theta, d_phi = f.domain(theta, phi)
    check_gradient(lambda t: f.domain(t, phi)[0], theta, d_theta, rng=rng)
    check_gradient(lambda p: f.domain(theta, p)[0], phi, d_phi, rng=rng)
    classifier = slice(f.size - 15, f.size)
    assert not d_theta[classifier].any(), "the class head does not see the domains"


def test_domain_loss_by_hand():
    f, theta, phi = _adversarial(_rng(6))
    logits = [two_heads.forward(np.r_[theta, phi], X, SIZES, "silu")[1] for X in (f.source, f.target)]
    source, target = (1 / (1 + np.exp(-z)) for z in logits)
    expected = -np.log(source).mean() - np.log(1 - target).mean()
    assert f.domain(theta, phi)[0] == pytest.approx(expected, rel=1e-13)
    ignorant = np.concatenate([phi[:-7], np.zeros(7)])
    assert f.domain(theta, ignorant)[0] == pytest.approx(2 * np.log(2), rel=1e-14)
    # swapping the domains and the sign of the logit changes nothing
    swapped = DomainAdversarial(f.target, np.zeros(5, int), f.source, SIZES, "silu")
    negated = np.concatenate([phi[:-7], -phi[-7:]])
    assert swapped.domain(theta, negated)[0] == pytest.approx(f.domain(theta, phi)[0], rel=1e-13)


def test_several_networks_and_batches():
    f, theta, phi = _adversarial(_rng(7))
    thetas, phis = np.stack([theta, 2 * theta]), np.stack([phi, -phi])
    together, apart = f.domain(thetas, phis), [f.domain(t, p) for t, p in zip(thetas, phis, strict=True)]
    for a, b in zip(together, zip(*apart, strict=True), strict=True):
        assert np.allclose(a, np.stack(b), atol=1e-13, rtol=1e-9)
    assert np.allclose(f.task(thetas)[0], [f.task(t)[0] for t in thetas], rtol=1e-9)
    assert f.predict(thetas, f.target).shape == (2, 5)
    some = f.on(np.array([1, 3]), np.array([0]))
    assert len(some.source) == len(some.labels) == 2 and len(some.target) == 1
    same_on_strict(
        lambda f, t, p: (f.task(t), f.domain(t, p), f.predict(t, f.source), f.on(slice(3), slice(2)).task(t)),
        f,
        thetas,
        phis,
    )
