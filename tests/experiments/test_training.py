"""The training loop, its minibatches and its account; descents and races."""

import itertools
import math

import numpy as np
import pytest

from trref.experiments.descent import descend, race
from trref.experiments.training import Counted, Rule, batches, fit, train
from trref.nn import flat
from trref.optimizers import adam
from trref.problems.convex import Quadratic, Rosenbrock
from trref.problems.networks import random_classifier
from trref.problems.samples import LinearSamples
from trref.sharpness import sam


def _rng(seed=0):
    return np.random.default_rng(seed)


PLAIN = Rule(
    lambda params: 0,
    lambda params, grads, state, *, lr, momentum=0.0: (
        [p - lr * g for p, g in zip(params, grads, strict=True)],
        state + 1,
    ),
)


# ---- steps


def test_gradient_descent_by_hand():
    f, x = Quadratic(np.diag([1.0, 3.0]), np.array([1.0, 0.0])), np.array([2.0, 1.0])
    run = train(lambda x, rng: f(x), x, _rng(), lr=0.1, steps=3, rule=PLAIN, schedule=lambda k: 1 / (k + 1))
    losses = []
    for k in range(3):
        losses.append(f(x)[0])
        x = x - 0.1 / (k + 1) * f(x)[1]
    assert np.allclose(run.theta, x, rtol=1e-14) and np.allclose(run.losses, losses, rtol=1e-9) and run.watched == []


def test_what_is_watched_and_when_it_stops():
    f, asked = Quadratic(np.eye(1), np.zeros(1)), iter([False] * 5 + [True])
    run = train(
        lambda x, rng: f(x),
        np.ones(1),
        _rng(),
        lr=0.5,
        rule=PLAIN,
        every=2,
        watch=lambda x: float(x[0]),
        stop=lambda: next(asked),
    )
    assert run.watched == [0.25, 0.0625] and run.theta == [0.5**5] and len(run.losses) == 5
    with pytest.raises(ValueError, match="one of steps and stop"):
        train(lambda x, rng: f(x), np.ones(1), _rng(), lr=0.5)


def test_the_rule_sees_the_shapes():
    shapes, seen = [(2, 3), (4,)], []

    def update(params, grads, state, *, lr, scale):
        seen.append(([p.shape for p in params], [g.shape for g in grads], state, scale))
        return [p - lr * g for p, g in zip(params, grads, strict=True)], state + 1

    rule, theta = Rule(lambda params: len(params), update), _rng(1).standard_normal(10)
    run = train(
        lambda x, rng: (0.0, np.ones(10)), theta, _rng(), lr=0.1, steps=2, rule=rule, hyper={"scale": 3}, shapes=shapes
    )
    assert seen == [(shapes, shapes, 2, 3), (shapes, shapes, 3, 3)]
    assert np.allclose(run.theta, theta - 0.2, rtol=1e-9) and flat.size(shapes) == 10


def test_adam_is_the_catalogue_s():
    f, x = Rosenbrock(), np.array([-1.2, 1.0])
    run = train(lambda x, rng: f(x), x, _rng(), lr=0.01, steps=4, hyper={"beta1": 0.5})
    state = adam.init([x])
    for _ in range(4):
        (x,), state = adam.update([x], [f(x)[1]], state, lr=0.01, beta1=0.5)
    assert np.array_equal(run.theta, x)


# ---- minibatches


def test_each_sample_once_an_epoch():
    rows = list(itertools.islice(batches(_rng(2), 10, 4), 6))
    assert [len(r) for r in rows] == [4, 4, 2] * 2
    for epoch in (rows[:3], rows[3:]):
        assert sorted(np.concatenate(epoch)) == list(range(10))
    assert not np.array_equal(rows[0], rows[3])


def test_least_squares_is_solved():
    rng = _rng(3)
    X, y = rng.standard_normal((20, 3)), rng.standard_normal(20)
    run = fit(LinearSamples(X, y), np.zeros(3), rng, batch=20, steps=400, lr=0.5, rule=PLAIN)
    # one step shrinks the error by at most max |1 - 0.5 eigenvalue| of XᵀX/20
    factor = abs(1 - 0.5 * np.linalg.eigvalsh(X.T @ X / 20)).max()
    assert factor**400 < 1e-14, "the step suits these data"
    assert np.allclose(run.theta, np.linalg.lstsq(X, y, rcond=None)[0], atol=1e-13, rtol=1e-9)


def test_several_seeds_are_several_runs_on_the_same_batches():
    loss = random_classifier(_rng(4), points=12)
    thetas = 0.5 * _rng(5).standard_normal((3, 31))
    together = fit(loss, thetas, _rng(6), batch=5, steps=7, lr=0.05)
    assert together.losses.shape == (7, 3)
    for s in range(3):
        alone = fit(loss, thetas[s], _rng(6), batch=5, steps=7, lr=0.05)
        assert np.allclose(together.theta[s], alone.theta, atol=1e-12, rtol=1e-9)
        assert np.allclose(together.losses[:, s], alone.losses, atol=1e-12, rtol=1e-9)


def test_a_hook_replaces_the_gradient():
    loss, theta = random_classifier(_rng(7), points=8), 0.5 * _rng(8).standard_normal(31)
    run = fit(
        loss,
        theta,
        _rng(9),
        batch=8,
        steps=1,
        lr=0.1,
        rule=PLAIN,
        gradient=lambda loss, theta, rng: sam.perturbed_gradient(loss, theta, rho=0.2),
    )
    order = next(batches(_rng(9), 8, 8))
    assert np.allclose(
        run.theta, theta - 0.1 * sam.perturbed_gradient(loss.on(order), theta, rho=0.2)[1], atol=1e-14, rtol=1e-9
    )


# ---- the account


def test_what_costs_what():
    loss, theta = random_classifier(_rng(10), points=12), np.zeros(31)
    counted = Counted(loss, 4)
    part = counted.on(np.arange(4))
    part(theta)
    assert counted.gradients == 1
    part.hessian_product(theta, theta + 1)
    part.at(part.X + 1).each(theta)
    assert counted.gradients == 4 and part.gradients == 4
    part.on(slice(2))(theta)
    assert counted.gradients == 4.5, "half a batch"
    counted(theta)
    assert counted.gradients == 7.5 and len(part) == 4 and part.sizes == loss.sizes


def test_equal_budgets():
    loss, theta = random_classifier(_rng(11), points=12), 0.1 * _rng(12).standard_normal(31)
    how = {"batch": 4, "lr": 0.01, "budget": 12, "every": 3, "watch": lambda theta: None}
    plain = fit(loss, theta, _rng(), **how)
    sharp = fit(loss, theta, _rng(), gradient=lambda f, t, rng: sam.perturbed_gradient(f, t, rho=0.1), **how)
    assert len(plain.losses) == 12 and plain.gradients == [3, 6, 9, 12]
    assert len(sharp.losses) == 6 and sharp.gradients == [6, 12]


# ---- descents


def test_descend_traces_losses_and_norms():
    f = Quadratic(np.eye(2), np.zeros(2))
    trace = descend(f, np.array([3.0, 4.0]), PLAIN, steps=2, lr=0.5)
    assert trace.losses.tolist() == [12.5, 3.125, 0.78125] and trace.norms.tolist() == [5.0, 2.5, 1.25]
    assert trace.x.tolist() == [0.75, 1.0]
    matrix = descend(lambda X: ((X * X).sum() / 2, X), np.ones((2, 3)), PLAIN, steps=1, lr=1.0)
    assert not matrix.x.any()


def test_descend_with_noise_and_divergence():
    f = Quadratic(np.eye(1), np.zeros(1))
    noisy = [
        descend(f, np.ones(1), PLAIN, steps=5, lr=0.1, noise=lambda rng, x: rng.standard_normal(1), seed=s)
        for s in (1, 1, 2)
    ]
    assert np.array_equal(noisy[0].losses, noisy[1].losses) and not np.array_equal(noisy[0].losses, noisy[2].losses)
    wild = descend(f, np.ones(1), PLAIN, steps=50, lr=101.0)  # each step multiplies x by -100
    assert wild.losses[:4].tolist() == [0.5, 0.5e4, 0.5e8, 0.5e12] and wild.x == [1e8]
    assert all(math.isinf(loss) for loss in wild.losses[4:]) and len(wild.losses) == 51


def test_race_keeps_the_best_step_length():
    f = Quadratic(np.diag([1.0, 4.0]), np.zeros(2))
    rules = {"plain": (PLAIN, {}), "Adam": (adam, {"beta1": 0.5})}
    found = race(f, lambda rng: rng.standard_normal(2), rules, rates=(0.001, 0.4, 10.0), seeds=(0, 1, 2), steps=30)
    # the slowest component shrinks by max(|1 - lr|, |1 - 4 lr|): 0.6 at 0.4, 0.999 at 0.001, 39 at 10
    assert found["plain"].lr == 0.4 and len(found["plain"].traces) == 3
    assert max(t.losses[-1] for t in found["plain"].traces) < 1e-10
    alone = descend(f, _rng(1).standard_normal(2), adam, steps=30, lr=found["Adam"].lr, hyper={"beta1": 0.5}, seed=1)
    assert np.array_equal(found["Adam"].traces[1].losses, alone.losses)


def test_the_end_of_a_race_decides():
    """Steps of one length: 0.4 is ahead after the first, and 0.05 at the end."""
    sign = Rule(lambda params: None, lambda params, grads, state, *, lr: ([params[0] - lr * np.sign(grads[0])], state))
    f = Quadratic(np.eye(1), np.zeros(1))
    found = race(f, lambda rng: np.ones(1), {"sign": (sign, {})}, rates=(0.4, 0.05), steps=21)
    assert found["sign"].lr == 0.05 and len(found["sign"].traces[0].losses) == 22
