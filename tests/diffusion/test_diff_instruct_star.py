"""Theorems and limits of Diff-Instruct*."""

import numpy as np
import pytest

from trref.catalog.diffusion.diff_instruct_star import GENERATOR, sid_bracket
from trref.diffusion.diff_instruct_star import di_star, diff_instruct, score_distance, score_gap
from trref.diffusion.score_projection import frozen_distance, moving_distance
from trref.problems.mixtures import GaussianMixture, GuidedModel, MixtureNoise, flow_schedule
from trref.problems.rewards import QuadraticReward

T, ALPHA, SIGMA = 0.4, 0.6, 0.4  # of the flow's schedule
LEVELS = {"t": T, "alpha": ALPHA, "sigma": SIGMA}


def _gaussian(mean, std):
    one = GaussianMixture(np.ones(1), np.array([[mean]]), np.array([[[std**2]]]))
    return MixtureNoise(one, schedule="flow")


def _samples(mean, scale, nodes=161):
    """Equally spaced noise of the generator and of the diffusion, with weights; and samples."""
    z = np.linspace(-8, 8, nodes)
    weight = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    z, noise = (a.reshape(-1, 1) for a in np.meshgrid(z, z, indexing="ij"))
    return mean + scale * z, noise, z, np.outer(weight, weight).ravel()


def _parameter_gradient(f, mean, scale, **hyper):
    """Of a mean over all noise by mean and scale of a generator on a line, reference N(0.3, 0.25)."""
    x0, noise, z, weight = _samples(mean, scale)
    given = {"model": _gaussian(mean, scale), "ref_model": _gaussian(0.3, 0.5), "x0": x0, "noise": noise}
    if f is di_star:
        given["reward"] = QuadraticReward(np.zeros(1))
        hyper["reward_weight"] = 0.0
    slope = f(**given, **LEVELS, **hyper)[1] * len(x0)
    return np.array([(weight @ slope)[0], (weight @ (slope * z))[0]])


def test_numbers_by_hand():
    gap = np.array([[3.0, 4.0]])
    loss, slope = score_distance(gap, huber=12.0)
    assert loss == pytest.approx(1.0) and slope[0] == pytest.approx([3 / 13, 4 / 13])
    assert score_distance(gap, distance="squared")[0] == 25


def test_the_distances_limits():
    """c d tends to half the square, and for c small d is the length."""
    gap = np.random.default_rng(0).standard_normal((6, 2))
    square = score_distance(gap, distance="squared")[0]
    assert 1e3 * score_distance(gap, huber=1e3)[0] == pytest.approx(square / 2, rel=1e-5)
    assert score_distance(gap, huber=1e-3)[0] == pytest.approx(np.linalg.norm(gap, axis=1).mean(), rel=2e-3)
    assert (np.linalg.norm(score_distance(gap)[1], axis=1) < 1 / 6).all(), "the force is bounded"


@pytest.mark.parametrize("huber", [0.5, 1.0])
def test_it_is_the_gradient_of_a_distance_of_scores(huber):
    """The mean over all noise of the generator's gradient, against the derivative through the exact score."""
    ours = _parameter_gradient(di_star, 0.7, 1.3, huber=huber)
    levels = {"ref_std": 0.5, "alpha": ALPHA, "sigma": SIGMA, "huber": huber}
    exact = frozen_distance(np.array([0.7]), np.array([1.3]), np.array([0.3]), **levels)[1]
    assert ours == pytest.approx([exact.mean[0], exact.scale[0]], abs=1e-6)
    moving = moving_distance(np.array([0.7]), np.array([1.3]), np.array([0.3]), **levels)[1]
    assert abs(ours[1] - moving.scale[0]) > 0.1, "and not that of a law that moves"


def _gaussian_kl(m, s, a, b):
    return np.log(b / s) + (s**2 + (m - a) ** 2) / (2 * b**2) - 0.5


def test_diff_instruct_descends_the_divergence():
    """Of the noised laws, in closed form."""

    def kl(m, s):
        deviation = np.sqrt(ALPHA**2 * np.array([s, 0.5]) ** 2 + SIGMA**2)
        return _gaussian_kl(ALPHA * m, deviation[0], ALPHA * 0.3, deviation[1])

    h = 1e-5
    exact = [(kl(0.7 + h, 1.3) - kl(0.7 - h, 1.3)) / (2 * h), (kl(0.7, 1.3 + h) - kl(0.7, 1.3 - h)) / (2 * h)]
    assert _parameter_gradient(diff_instruct, 0.7, 1.3) == pytest.approx(exact, abs=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_sids_family(seed):
    """Squared distances are SiD's loss of denoisers with a = 1; for each sample, value and gradient."""
    inputs = GENERATOR.example(np.random.default_rng(seed), 7)
    levels = {"t": 0.4, "alpha": 0.7, "sigma": 0.5}
    ours = di_star(**inputs, **levels, distance="squared", time_weight=0.6)
    theirs = sid_bracket(inputs, a=1.0, **levels, time_weight=0.6)
    assert ours[0] == pytest.approx(theirs[0]) and np.allclose(ours[1], theirs[1], rtol=1e-9, atol=1e-12)
    other = sid_bracket(inputs, a=1.2, **levels, time_weight=0.6)
    assert abs(other[1] - ours[1]).max() > 1e-3


def test_at_the_reference_nothing_moves():
    """Not sample by sample for KL alone: both gradients are 0 wherever the scores are equal."""
    inputs = GENERATOR.edges["the reference is the generator"]()
    without = {n: a for n, a in inputs.items() if n != "reward"}
    assert (diff_instruct(**without)[1] == 0).all()
    assert np.allclose(di_star(**inputs, reward_weight=0.0)[1], 0, rtol=0, atol=1e-14)


def test_the_reward_is_added():
    inputs = GENERATOR.example(np.random.default_rng(3), 5)
    both, alone, paid = (
        di_star(**inputs, **weights)
        for weights in ({"reward_weight": 0.7}, {"reward_weight": 0.0}, {"reward_weight": 0.7, "time_weight": 0.0})
    )
    value, slope = inputs["reward"](inputs["x0"])
    assert both[0] == pytest.approx(alone[0] - 0.7 * value.mean())
    assert np.allclose(paid[1], -0.7 * slope / 5, rtol=1e-12) and np.allclose(both[1], alone[1] + paid[1], rtol=1e-10)


def test_a_guided_reference_is_a_reward_on_the_class():
    """The gap gains the difference of the two scores, times the weight less one."""
    mixture = GaussianMixture(np.array([0.5, 0.5]), np.array([[-1.0], [1.0]]), np.full((2, 1, 1), 0.2))
    whole, one = MixtureNoise(mixture, schedule="flow"), MixtureNoise(mixture.subset([1]), schedule="flow")
    x0, noise = np.random.default_rng(4).standard_normal((2, 6, 1))
    model, guided = _gaussian(0.0, 1.0), GuidedModel(one, whole, 3.0)
    gaps = [score_gap(model, ref, x0, noise, **LEVELS) for ref in (guided, one, whole)]
    assert np.allclose(gaps[0], gaps[2] + 3 * (gaps[1] - gaps[2]), rtol=1e-10)
    # the difference of the scores is the gradient of the log-probability of the class
    x, levels = ALPHA * x0 + SIGMA * noise, flow_schedule(T)
    noised, h = mixture.noised(*levels), 1e-5
    ahead, behind = (np.log(noised.responsibilities(x + step)[:, 1]) for step in (h, -h))
    assert (gaps[2] - gaps[1])[:, 0] == pytest.approx((ahead - behind) / (2 * h), abs=1e-6)


class OneColumn:
    """A model whose predictions have one column."""

    def __call__(self, x, t):
        return np.ones((len(x), 1))

    def vjp(self, x, t, cotangent):
        return cotangent


def test_refused():
    inputs = GENERATOR.edges["far from the reference"]()
    with pytest.raises(ValueError, match="ref_model"):
        di_star(**{**inputs, "ref_model": OneColumn()})
    with pytest.raises(TypeError, match="reward"):
        di_star(**{**inputs, "reward": lambda x: x})
    with pytest.raises(ValueError, match="sigma"):
        di_star(**inputs, sigma=0.0)
