"""Theorems of the symplectic adjoint: exactness, its invariant, its partner method, limits."""

import functools
import itertools

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from trref.catalog import find
from trref.diffusion.noise_schedules import time_at
from trref.diffusion.score_models import denoise
from trref.diffusion.symplectic_adjoint import (
    TABLEAUX,
    guidance,
    guided_step,
    solve_flow,
    symplectic_adjoint,
    trained_guidance,
    travel_back,
)
from trref.problems.denoisers import TimeNetwork
from trref.problems.mixtures import GaussianMixture, MixtureDenoiser, MixtureNoise, ring, three_components
from trref.problems.rewards import QuadraticReward

MIXTURE = three_components()
X, C = np.random.default_rng(0).standard_normal((2, 3, 2))
LEVELS = np.array([3.0, 1.0, 0.4, 0.1])
FORMS = {"noise": MixtureNoise, "data": MixtureDenoiser}


@pytest.mark.parametrize("schedule", ["vp", "ve", "flow"])
@pytest.mark.parametrize("given", FORMS)
@pytest.mark.parametrize("rule", TABLEAUX)
def test_the_gradient_is_that_of_the_steps(rule, given, schedule):
    """Differences of fourth order, on steps that are far too long for the flow itself."""
    hyper = {"rule": rule, "given": given, "schedule": schedule}
    model, d, h = FORMS[given](MIXTURE, schedule), np.random.default_rng(2).standard_normal((3, 2)), 1e-3
    f = lambda s: (C * solve_flow(model, X + s * h * d, LEVELS, **hyper)).sum()  # noqa: E731
    slope = (8 * (f(1) - f(-1)) - (f(2) - f(-2))) / (12 * h)
    assert (symplectic_adjoint(model, X, LEVELS, C, **hyper) * d).sum() == pytest.approx(slope, rel=1e-6, abs=1e-8)


def _linear(data):
    """A model of one Gaussian of mean zero: noise = sigma x / (alpha² data + sigma²), row by row in each direction."""
    return MixtureNoise(GaussianMixture(np.ones(1), np.zeros((1, 2)), np.diag(data)[None]))


def test_a_linear_model_multiplies_numbers():
    """Two Euler steps by hand: the factor of a step is 1 + h rho / (data + rho²), in y."""
    data, levels = np.array([0.3, 2.0]), np.array([1.5, 0.5, 0.0])
    factor = np.ones(2)
    for a, b in itertools.pairwise(levels):
        factor *= 1 + (b - a) * a / (data + a**2)
    factor *= np.sqrt(1 + levels[0] ** 2)
    ours = symplectic_adjoint(_linear(data), X, levels, C)
    assert np.allclose(ours, factor * C, rtol=1e-10)
    assert np.allclose(solve_flow(_linear(data), X, levels), factor * X, rtol=1e-10)


def test_one_euler_step_is_guidance_by_the_denoiser():
    """The gradient is (I - sigma d noise/dx)' grad L / alpha, at the guess of the data."""
    model, rho = MixtureNoise(MIXTURE), 0.8
    alpha, t = 1 / np.sqrt(1 + rho**2), time_at(-2 * np.log(np.full(3, rho)))
    loss = QuadraticReward(np.array([0.5, -1.0]))
    guess = denoise(X, model(X, t), alpha_bar=alpha**2)
    values, gradients = loss(guess)
    by_hand = (gradients - rho * alpha * model.vjp(X, t, gradients)) / alpha
    value, gradient = guidance(model, X, np.array([rho, 0.0]), loss)
    assert value == pytest.approx(values.sum(), rel=1e-9)
    assert np.allclose(gradient, by_hand, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("rule", TABLEAUX)
def test_tangents_and_adjoints_keep_their_product(rule):
    """Equation E7: from every level on, the adjoint of the rest times the tangent so far is one number."""
    model, h = MixtureNoise(MIXTURE), 1e-6
    tangent, products = np.random.default_rng(5).standard_normal(X.shape), []
    for k in range(len(LEVELS)):
        there = lambda s, k=k: solve_flow(model, X + s * h * tangent, LEVELS[: k + 1], rule=rule)  # noqa: E731
        here = X if k == 0 else there(0)
        moved = tangent if k == 0 else (there(1) - there(-1)) / (2 * h)
        pulled = C if k == len(LEVELS) - 1 else symplectic_adjoint(model, here, LEVELS[k:], C, rule=rule)
        products.append((pulled * moved).sum())
    assert np.allclose(products, products[0], rtol=1e-6)


@pytest.mark.parametrize("rule", ["euler", "heun", "rk4"])
def test_the_partner_method_solves_the_adjoint_equation(rule):
    """E6, for methods without a weight of zero: stages of the adjoint by weights b_j a_ji / b_i, one step, in y."""
    a, b, c = TABLEAUX[rule]
    model, (s, end) = MixtureNoise(MIXTURE, "ve"), (1.2, 0.3)  # alpha = 1: y is x
    h, points, slopes = end - s, [], []
    at = lambda share: time_at(-2 * np.log(np.full(3, s + share * h)), schedule="ve")  # noqa: E731
    for i, row in enumerate(a):
        points.append(X + h * sum((w * k for w, k in zip(row, slopes, strict=True)), np.zeros_like(X)))
        slopes.append(model(points[-1], at(c[i])))
    stage = {}
    for i in reversed(range(len(b))):
        pull = lambda j: model.vjp(points[j], at(c[j]), stage[j])  # noqa: E731
        stage[i] = C + h * sum((b[j] * a[j][i] / b[i] * pull(j) for j in stage), np.zeros_like(C))
    ours = C + h * sum(b[i] * model.vjp(points[i], at(c[i]), stage[i]) for i in stage)
    assert np.allclose(
        symplectic_adjoint(model, X, np.array([s, end]), C, rule=rule, schedule="ve"), ours, rtol=1e-11, atol=1e-12
    )


@functools.cache
def _true_end():
    def speed(rho, y):
        alpha, t = 1 / np.sqrt(1 + rho**2), time_at(np.full(3, -2 * np.log(rho)))
        return MixtureNoise(MIXTURE)(alpha * y.reshape(3, 2), t).ravel()

    start = X * np.sqrt(1 + 9.0)
    return solve_ivp(speed, (3.0, 0.1), start.ravel(), rtol=1e-11, atol=1e-12).y[:, -1].reshape(3, 2) / np.sqrt(1.01)


@pytest.mark.parametrize(("rule", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2), ("rk4", 4)])
@pytest.mark.parametrize("given", FORMS)
def test_order(given, rule, order):
    """Both forms end where the flow does, by SciPy; halving the steps (in the logarithm) divides the error."""
    errors = []
    for steps in (40, 80):
        levels = np.geomspace(3.0, 0.1, steps + 1)
        errors.append(
            np.linalg.norm(solve_flow(FORMS[given](MIXTURE), X, levels, rule=rule, given=given) - _true_end())
        )
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.3)


def test_the_adjoint_solved_backwards_is_another_gradient():
    """It differs from the discrete one by the error of the method: less for a higher order, less for more steps."""
    backwards = next(d.f for d in find("symplectic_adjoint.symplectic_adjoint").deviations if "backwards" in d.name)
    model, gaps = MixtureNoise(MIXTURE), {}
    for rule, steps in (("euler", 8), ("euler", 16), ("rk4", 8), ("rk4", 16)):
        levels = np.geomspace(2.0, 0.2, steps + 1)
        exact = symplectic_adjoint(model, X, levels, C, rule=rule)
        gaps[rule, steps] = np.linalg.norm(backwards(model, X, levels, C, rule=rule) - exact) / np.linalg.norm(exact)
    assert gaps["euler", 8] > 0.02 and gaps["rk4", 8] < gaps["euler", 8] / 10
    assert gaps["euler", 16] < gaps["euler", 8] / 1.5 and gaps["rk4", 16] < gaps["rk4", 8] / 8


def test_parameters_by_differences():
    network, rng = TimeNetwork(2, (6,)), np.random.default_rng(1)
    theta, loss = rng.standard_normal(network.size), QuadraticReward(np.array([0.5, -1.0]))
    given, d, h = (X, LEVELS, loss), rng.standard_normal(network.size), 1e-4
    _, gradients = trained_guidance(network, theta, *given, rule="heun")
    f = lambda s: trained_guidance(network, theta + s * h * d, *given, rule="heun")[0]  # noqa: E731
    assert gradients.theta @ d == pytest.approx((8 * (f(1) - f(-1)) - (f(2) - f(-2))) / (12 * h), rel=1e-8)


def test_guided_step_by_hand():
    """rms(gap) = 5/sqrt(2), rms(gradient) = 1/sqrt(2): 0.2 · 2 · 5 = 2 against the gradient; no gradient, no step."""
    x = np.zeros((2, 2))
    moved = guided_step(x, np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[3.0, 4.0], [1.0, 1.0]]), scale=2.0)
    assert np.allclose(moved, [[-2.0, 0.0], [0.0, 0.0]], rtol=1e-14)


def test_travelling_back_undoes_the_levels():
    """Signal sqrt(alpha_bar) and the variance of its noise, for any step."""
    one, zero = np.ones((1, 1)), np.zeros((1, 1))
    signal = travel_back(np.sqrt(0.8) * one, zero, alpha_bar=0.3, next_alpha_bar=0.8)
    noise = travel_back(np.sqrt(0.2) * one, zero, alpha_bar=0.3, next_alpha_bar=0.8)
    fresh = travel_back(zero, one, alpha_bar=0.3, next_alpha_bar=0.8)
    assert np.allclose(signal, np.sqrt(0.3)) and np.allclose(noise**2 + fresh**2, 0.7)


def test_bad_input():
    model = MixtureNoise(ring())
    with pytest.raises(ValueError, match="levels must not rise"):
        solve_flow(model, X, LEVELS[::-1].copy())
    with pytest.raises(ValueError, match="levels must be positive before the end"):
        solve_flow(model, X, np.array([1.0, 0.0]), given="data")
    with pytest.raises(ValueError, match="model must return finite values"):
        solve_flow(lambda x, t: np.nan * x, X, LEVELS)
    with pytest.raises(ValueError, match="loss must return values of shape"):
        guidance(model, X, LEVELS, lambda x: (x, x))
    with pytest.raises(TypeError, match=r"model must have vjp\(\)"):
        guidance(lambda x, t: x, X, LEVELS, QuadraticReward(np.zeros(2)))
    with pytest.raises(ValueError, match="next_alpha_bar must not be below"):
        travel_back(X, X, alpha_bar=0.5, next_alpha_bar=0.4)
