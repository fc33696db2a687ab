"""Divergences by quadrature, the chain by hand, and gradients by differences."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import integrate, stats

from trref.diffusion.rocm import (
    consistency,
    multistep_sample,
    noisy_states,
    rocm_objective,
    step_divergence,
    truncated_objective,
)
from trref.problems.denoisers import Residual, TimeNetwork, WithParameters
from trref.problems.mixtures import MixtureDenoiser, three_components
from trref.problems.rewards import QuadraticReward

RNG = np.random.default_rng(0)
DISTANCES = np.array([0.05, 0.4, 1.0, 1.7, 3.0, 6.0])


def _integrals(delta):
    """Between N(0, 1) and N(delta, 1): by the definition of each divergence."""
    p, q = stats.norm(0, 1).pdf, stats.norm(delta, 1).pdf
    whole = lambda f: integrate.quad(f, -12, delta + 12, limit=400, points=[0, delta / 2, delta], epsabs=1e-13)[0]  # noqa: E731
    middle = lambda x: (p(x) + q(x)) / 2  # noqa: E731
    log = lambda f, g, x: f(x) * math.log(f(x) / g(x)) if f(x) > 0 else 0.0  # noqa: E731
    return {
        "kl": whole(lambda x: log(p, q, x)),
        "hellinger": whole(lambda x: (math.sqrt(p(x)) - math.sqrt(q(x))) ** 2 / 2),
        "total_variation": whole(lambda x: abs(p(x) - q(x)) / 2),
        "jensen_shannon": whole(lambda x: (log(p, middle, x) + log(q, middle, x)) / 2),
    }


@pytest.mark.parametrize("delta", DISTANCES)
def test_divergences_by_their_definitions(delta):
    for kind, value in _integrals(delta).items():
        ours = step_divergence(np.array([delta]), kind=kind)[0]
        assert ours == pytest.approx(value, rel=1e-8, abs=1e-11), kind


@pytest.mark.parametrize("delta", [0.1, 0.7, 1.5])
def test_chi_square_and_fisher_by_their_definitions(delta):
    p, q = stats.norm(0, 0.6), stats.norm(0.6 * delta, 0.6)
    chi = integrate.quad(lambda x: q.pdf(x) ** 2 / p.pdf(x), -12, 12, limit=400, epsabs=1e-13)[0] - 1
    assert step_divergence(np.array([delta]), kind="chi_square")[0] == pytest.approx(chi, rel=1e-9)
    slope = lambda law, x: -(x - law.mean()) / 0.36  # noqa: E731
    fisher = integrate.quad(lambda x: p.pdf(x) * (slope(p, x) - slope(q, x)) ** 2, -9, 9)[0]
    assert step_divergence(np.array([delta]), kind="fisher", spread=0.6)[0] == pytest.approx(fisher, rel=1e-9)


def test_near_and_far():
    """delta²/8 of Hellinger and Jensen-Shannon, half of it for KL; far off bounds of 1, 1 and log 2, without a pull."""
    near = np.array([1e-5])
    for kind, factor in (("kl", 1 / 2), ("hellinger", 1 / 8), ("jensen_shannon", 1 / 8), ("chi_square", 1.0)):
        value, slope = step_divergence(near, kind=kind)
        assert value == pytest.approx(factor * 1e-10, rel=1e-4) and slope == pytest.approx(2 * factor * 1e-5, rel=1e-8)
    for kind, bound in (("hellinger", 1.0), ("total_variation", 1.0), ("jensen_shannon", math.log(2))):
        for far in (40.0, 1e6, 1e30):
            value, slope = step_divergence(np.array([far]), kind=kind)
            assert value == pytest.approx(bound, rel=1e-12) and abs(slope) < 1e-80
    for kind in ("kl", "hellinger", "jensen_shannon", "total_variation", "chi_square", "fisher"):
        value, slope = step_divergence(np.zeros(1), kind=kind)
        assert value == 0 and slope == 0 and step_divergence(np.zeros(1, np.float32), kind=kind)[0] == 0


def test_inequalities():
    """H² ≤ TV ≤ sqrt(2) H and Pinsker's TV² ≤ KL/2; JS ≤ log 2 · TV."""
    D = {k: np.array([step_divergence(np.array([d]), kind=k)[0] for d in DISTANCES]) for k in _integrals(1.0)}
    assert (D["hellinger"] <= D["total_variation"]).all()
    assert (D["total_variation"] <= np.sqrt(2 * D["hellinger"])).all()
    assert (D["total_variation"] ** 2 <= D["kl"] / 2).all()
    assert (D["jensen_shannon"] <= math.log(2) * D["total_variation"]).all()


def test_the_form_of_the_model_by_hand():
    """data_std 3 and smallest 1: at level 5, skip 9/25 and 3 · 4/sqrt(34); at level 1 it is x."""
    x, output = np.array([[2.0], [2.0]]), np.array([[1.0], [7.0]])
    y = consistency(x, output, np.array([5.0, 1.0]), data_std=3.0, smallest=1.0)
    assert y[:, 0] == pytest.approx([18 / 25 + 12 / math.sqrt(34), 2.0], rel=1e-13)


def test_the_best_output_has_unit_size():
    """For data N(0, data_std²) and the posterior mean as the guess, near level 0 F is small, and far off of size 1."""
    level, data_std = np.array([0.01, 100.0]), 0.5
    shrink = data_std**2 / (data_std**2 + level**2)
    zero = np.zeros((2, 1))
    for k, ratio in enumerate(shrink):
        x = math.sqrt(data_std**2 + level[k] ** 2) * np.ones((1, 1))
        skip = consistency(x, zero[:1], level[k : k + 1])[0, 0]
        scale = consistency(zero[:1], np.ones((1, 1)), level[k : k + 1])[0, 0]
        assert abs((ratio * x[0, 0] - skip) / scale) < 1


@dataclasses.dataclass(frozen=True)
class Slope:
    """The guess is theta x."""

    def forward(self, theta, x, t):
        return theta[0] * x, (theta, x)

    def vjp(self, cache, cotangent):
        theta, x = cache
        return np.array([(cotangent * x).sum()]), theta[0] * cotangent


def _line(theta, kind="kl", beta=0.5, f=rocm_objective, **given):
    reference = WithParameters(Slope(), np.array([0.5]))
    levels = np.array([0.8]), np.array([0.4])
    inputs = np.array([[2.0]]), np.array([[[1.0]]]), np.array([1.0, 0.5])
    reward = QuadraticReward(np.array([1.0]))
    return f(Slope(), np.array([theta]), reference, *inputs, *levels, reward, **given, beta=beta, kind=kind)


def test_two_guesses_by_hand():
    """x = 2, theta 1: guesses 2 and 2 (0.8 · 2 + 0.4); distance 2 (2 - 1); reward -1, KL 2."""
    loss, gradient = _line(1.0)
    assert loss == pytest.approx(1 + 0.5 * 2)
    # y = theta (1.6 theta + 0.4), dy = 3.6: reward -2 · 1 · 3.6; divergence (4 theta - 2)²/2, slope 4 · 2
    assert gradient == pytest.approx(2 * 3.6 + 0.5 * 8)


def test_the_kink_of_total_variation():
    """At the reference the loss rises on both sides: the gradient is that of the reward, between the two slopes."""
    at, plain = _line(0.5, kind="total_variation"), _line(0.5, beta=0.0)
    assert at[0] == pytest.approx(plain[0]) and at[1] == pytest.approx(plain[1])
    up, down = ((_line(0.5 + h, kind="total_variation")[0] - at[0]) / h for h in (1e-7, -1e-7))
    assert down < float(at[1][0]) < up and up - down == pytest.approx(2 * 0.5 * 4 / math.sqrt(2 * math.pi), rel=1e-5)


def _problem(steps=3, seed=1):
    rng = np.random.default_rng(seed)
    model = Residual(MixtureDenoiser(three_components()), TimeNetwork(2, (6, 4)))
    first = 0.4 * rng.standard_normal(model.size)
    theta = first + 0.1 * rng.standard_normal(model.size)
    levels = np.sqrt(1 - np.linspace(0.7, 0.3, steps) ** 2), np.linspace(0.7, 0.3, steps)
    inputs = rng.standard_normal((5, 2)), rng.standard_normal((steps, 5, 2)), np.linspace(0.9, 0.2, steps + 1)
    return model, theta, WithParameters(model, first), *inputs, *levels, QuadraticReward(np.array([0.7, 0.2]))


def _value(inputs, kind, beta, states=None):
    """The loss in the words of the page, sample by sample, with the divergence at given states."""
    model, theta, reference, x, z, times, signal, spread, reward = inputs
    at = noisy_states(model, theta, x, z, times, signal, spread)
    total = reward(multistep_sample(model, theta, x, z, times, signal, spread))[0].sum()
    for n in range(len(z)):
        where = at[n] if states is None else states[n]
        t = np.full(len(x), times[n])
        gap = model.forward(theta, where, t)[0] - reference(where, t)
        delta = signal[n] / spread[n] * np.linalg.norm(gap, axis=1)
        total -= beta * len(x) * step_divergence(delta, kind=kind, spread=float(spread[n]))[0]
    return -total / len(x)


@pytest.mark.parametrize("kind", ["kl", "hellinger", "jensen_shannon", "total_variation", "fisher"])
def test_differences(kind):
    """The whole gradient; and the truncated one, with the states held: they are not the same."""
    inputs = _problem()
    theta = inputs[1]
    held = noisy_states(*inputs[:2], *inputs[3:8])
    direction = np.random.default_rng(2).standard_normal(theta.shape)
    moved = lambda h: (inputs[0], theta + h * direction, *inputs[2:])  # noqa: E731
    slopes = []
    for f, states in ((rocm_objective, None), (truncated_objective, held)):
        loss, gradient = f(*inputs, beta=0.7, kind=kind)
        assert loss == pytest.approx(_value(inputs, kind, 0.7), rel=1e-11)
        slope = (_value(moved(1e-5), kind, 0.7, states) - _value(moved(-1e-5), kind, 0.7, states)) / 2e-5
        assert gradient @ direction == pytest.approx(slope, rel=1e-6)
        slopes.append(slope)
    assert abs(slopes[0] - slopes[1]) > 1e-4 * abs(slopes[0])


def test_at_the_reference_nothing_pulls():
    inputs = _problem()
    same = (inputs[0], inputs[2].theta, *inputs[2:])
    for kind in ("kl", "hellinger", "jensen_shannon", "total_variation", "fisher"):
        with_penalty, without = (rocm_objective(*same, beta=b, kind=kind) for b in (5.0, 0.0))
        assert with_penalty[0] == pytest.approx(without[0], rel=1e-13)
        assert np.allclose(with_penalty[1], without[1], rtol=1e-12, atol=1e-14)


def test_a_large_weight_keeps_the_model_where_it_is():
    """Gradient descent from the reference: with KL and a large beta theta hardly moves, without it does."""
    inputs = _problem()
    start = inputs[2].theta
    ends = []
    for beta in (0.0, 100.0):
        theta = start
        for _ in range(30):
            slope = rocm_objective(inputs[0], theta, *inputs[2:], beta=beta)[1]
            theta = theta - 1e-4 * slope
        ends.append(np.linalg.norm(theta - start))
    assert ends[1] < 0.5 * ends[0]


def test_bad_input():
    inputs = _problem()
    with pytest.raises(ValueError, match="level must be positive"):
        consistency(np.ones((1, 1)), np.ones((1, 1)), np.array([0.0]))
    with pytest.raises(ValueError, match="at most 9 for the chi-square"):
        step_divergence(np.array([9.5]), kind="chi_square")
    with pytest.raises(ValueError, match="kind must be one of"):
        rocm_objective(*inputs, kind="chi_square")
    with pytest.raises(ValueError, match="times must have shape"):
        rocm_objective(*inputs[:5], inputs[5][:-1], *inputs[6:])

    class Wrong:
        def __init__(self, answer, pulled):
            self.answer, self.pulled = answer, pulled

        def __call__(self, x, t):
            return self.answer(x)

        def vjp(self, x, t, cotangent):
            return self.pulled(x)

    for answer, pulled, words in (
        (lambda x: x[:1], None, "reference must return an array of shape"),
        (lambda x: np.full_like(x, np.inf), None, "reference must return finite"),
        (lambda x: x, lambda x: x[0], "reference.vjp must return an array of shape"),
    ):
        with pytest.raises(ValueError, match=words):
            rocm_objective(*inputs[:2], Wrong(answer, pulled), *inputs[3:])
