"""Theorems of CFG-MP: distances whose gradients are velocities, fixed points without a gap, Anderson's weights."""

import numpy as np
import pytest
from scipy.linalg import lstsq
from scipy.optimize import root
from scipy.special import logsumexp

from trref.catalog import find
from trref.diffusion.adaptive_projected_guidance import cfg
from trref.diffusion.cfg_manifold_projection import anderson, anderson_weights, cfgmp_step, picard, smoothed_distance
from trref.problems.mixtures import GaussianMixture, MixtureVelocity


def _draws(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def _pair():
    """A class of two modes in the plane out of four."""
    means = np.array([[1.5, 1.0], [1.5, -1.0], [-1.5, 1.0], [-1.5, -1.0]])
    mixture = GaussianMixture(np.full(4, 0.25), means, np.tile(0.0625 * np.eye(2), (4, 1, 1)))
    return MixtureVelocity(mixture.subset(np.array([0, 1]))), MixtureVelocity(mixture)


def _gap(x, u):
    c, v = _pair()
    return c(x, np.full(len(x), u)) - v(x, np.full(len(x), u))


def _linear(slope, offset):
    """Velocities whose gap is slope (x - offset)."""
    return lambda x, t: 0.5 * x + slope * (x - offset), lambda x, t: 0.5 * x


@pytest.mark.parametrize("u", [0.2, 0.6, 1.0])
def test_the_distance_by_its_definition(u):
    x, data = _draws(0, 5, 3), _draws(1, 7, 3)
    square = ((x[:, None] - (1 - u) * data) ** 2).sum(2)
    by_definition = -(u**2) * (logsumexp(-square / (2 * u**2), axis=1) - np.log(7))
    value, _ = smoothed_distance(x, data, u=u)
    assert value == pytest.approx(by_definition.sum(), rel=1e-13)


def test_it_tends_to_half_the_squared_distance():
    x, data = _draws(2, 6, 2), _draws(3, 9, 2)
    nearest = ((x[:, None] - (1 - 0.005) * data) ** 2).sum(2).min(1) / 2
    above = smoothed_distance(x, data, u=0.005)[0] - nearest.sum()
    assert 0 <= above <= 6 * 0.005**2 * np.log(9) * (1 + 1e-9)


def test_the_gradient_is_that_of_the_velocity():
    """grad f = u (x + (1 - u) v), for the velocity of the data's own flow: a mixture of points."""
    data, x, u = _draws(4, 6, 2), _draws(5, 4, 2), 0.4
    points = GaussianMixture(np.full(6, 1 / 6), data, np.zeros((6, 2, 2)))
    v = MixtureVelocity(points)(x, np.full(4, u))
    assert np.allclose(smoothed_distance(x, data, u=u)[1], u * (x + (1 - u) * v), rtol=0, atol=1e-12)


def test_the_gap_is_a_difference_of_two_gradients():
    data, x, u = _draws(6, 8, 2), _draws(7, 4, 2), 0.5
    of_class = data[:3]
    velocity = [
        MixtureVelocity(GaussianMixture(np.full(len(d), 1 / len(d)), d, np.zeros((len(d), 2, 2))))(x, np.full(4, u))
        for d in (of_class, data)
    ]
    gradient = [smoothed_distance(x, d, u=u)[1] for d in (of_class, data)]
    gap = (gradient[0] - gradient[1]) / (u * (1 - u))
    assert np.allclose(velocity[0] - velocity[1], gap, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["G", "H"])
def test_the_first_move_is_along_the_gap(kind):
    """G(z) - z = -h/2 (v_c - v_u) + O(h²): halving h quarters the rest."""
    c, v = _pair()
    x, rest = _draws(8, 10, 2), []
    for h in (0.04, 0.02):
        moved = picard(c, v, x, u=0.7, next_u=0.7 - h, steps=1, kind=kind)
        rest.append(abs(moved - x + h / 2 * _gap(x, 0.7)).max())
    assert rest[0] / rest[1] == pytest.approx(4, rel=0.15)


def test_by_hand():
    """v_c = x - 1, v_u = x at z = 2, h = 0.2: back to 2.2, then 2.2 - 0.1·1.2 = 2.08; H: 1.9, then 2.09."""
    c, v = (lambda x, t: x - 1), (lambda x, t: x + 0)
    x, how = np.array([[2.0]]), {"u": 0.5, "next_u": 0.3, "steps": 1}
    assert picard(c, v, x, **how) == pytest.approx(2.08)
    assert picard(c, v, x, **how, kind="H") == pytest.approx(2.09)


def test_fixed_points_have_equal_velocities():
    """By SciPy's root finder from many starts; Picard stays where it finds one."""
    c, v = _pair()
    u, h, found = 0.6, 0.2, 0
    for start in _draws(9, 12, 1, 2):
        step = lambda z: (picard(c, v, z.reshape(1, 2), u=u, next_u=u - h, steps=1) - z.reshape(1, 2)).ravel()  # noqa: E731
        end = root(step, start.ravel(), tol=1e-13)
        if not end.success:
            continue
        found += 1
        z, t = end.x.reshape(1, 2), np.array([u])
        assert np.allclose(c(z + h / 2 * v(z, t), t), v(z, t), rtol=0, atol=1e-10)
    assert found > 3


def test_picard_contracts_a_linear_gap():
    """With G(z) - z = -h/2 slope (z' - offset) the residual shrinks by a factor that can be written down."""
    c, v = _linear(2.0, 1.0)
    x, how = _draws(10, 5, 2), {"u": 0.8, "next_u": 0.4}
    a, b = 1 + 0.2 * 0.5, 1 - 0.2 * 2.5  # z' = a z; G = b z' + 0.2·2·1
    point = 0.4 / (1 - a * b)
    for k in (1, 3, 6):
        expected = point + (a * b) ** k * (x - point)
        assert np.allclose(picard(c, v, x, **how, steps=k), expected, rtol=0, atol=1e-13)


def test_anderson_solves_one_dimension_at_once():
    """A secant step is exact on a line: the second iterate is the fixed point, up to the ridge."""
    c, v = _linear(2.0, 1.0)
    x = _draws(11, 5, 1)
    fixed = picard(c, v, x, u=0.8, next_u=0.4, steps=400)
    assert np.allclose(anderson(c, v, x, u=0.8, next_u=0.4, steps=2, ridge=1e-10), fixed, rtol=0, atol=1e-9)


def test_the_residual_falls_and_anderson_is_ahead():
    """In the smooth regime, on the plane."""
    c, v = _pair()
    x = np.random.default_rng(12).standard_normal((200, 2))
    how = {"u": 0.5, "next_u": 0.4}

    def left(z):
        return np.sqrt(((picard(c, v, z, **how, steps=1) - z) ** 2).sum(1)).mean()

    by_picard = [left(picard(c, v, x, **how, steps=k)) for k in (0, 3, 6, 12)]
    assert (np.diff(by_picard) < 0).all()
    assert left(anderson(c, v, x, **how, steps=12)) < by_picard[3]


def test_weights_are_least_squares_under_a_sum_of_one():
    """The constrained problem for a ridge of almost 0, by eliminating the newest weight in other ways."""
    F = _draws(13, 3, 4, 6)
    alpha = anderson_weights(F, ridge=1e-10)
    assert np.allclose(alpha.sum(1), 1, rtol=1e-14)
    for n in range(4):
        # eliminate the first weight instead of the newest
        free = lstsq((F[1:, n] - F[0, n]).T, -F[0, n])[0]
        assert np.allclose(alpha[n, 1:], free, rtol=0, atol=1e-8)
    ridge = find("cfg_manifold_projection.anderson_weights").deviations[0].f
    assert np.allclose(alpha, ridge(F, ridge=1e-12), rtol=0, atol=1e-8), "both ridges, at 0"


def test_the_two_ridges_pull_to_different_places():
    F = _draws(14, 3, 2, 5)
    assert np.allclose(anderson_weights(F, ridge=1e6), [[0, 0, 1]] * 2, atol=1e-9)
    other = find("cfg_manifold_projection.anderson_weights").deviations[0].f
    assert np.allclose(other(F, ridge=1e12), 1 / 3, atol=1e-9)


def test_limits():
    c, v = _pair()
    x = _draws(15, 6, 2)
    assert np.array_equal(anderson(c, v, x, window=0, steps=3), picard(c, v, x, steps=3))
    assert np.array_equal(picard(c, v, x, steps=0), x)
    assert np.allclose(anderson(c, v, x, u=0.7, next_u=0.7, steps=3), x, rtol=0, atol=1e-14), "no step, no projection"
    plain = x - 0.2 * cfg(c(x, np.full(6, 0.8)), v(x, np.full(6, 0.8)), scale=3.0)
    for how in ({"steps": 0}, {"threshold": 0.8}):
        assert np.allclose(cfgmp_step(c, v, x, scale=3.0, **how), plain, rtol=0, atol=1e-14)
    damped = anderson(c, v, x, window=0, damping=0.0, steps=3)
    assert np.array_equal(damped, x), "no share of the map"


def test_without_a_condition_the_map_is_the_identity_to_second_order():
    _, v = _pair()
    x = _draws(16, 6, 2)
    moved = [abs(picard(v, v, x, u=0.6, next_u=0.6 - h, steps=1) - x).max() for h in (0.02, 0.01)]
    assert 0 < moved[1] < 1e-3 and moved[0] / moved[1] == pytest.approx(4, rel=0.1)


def test_a_step_counts_two_and_two_evaluations_a_projection():
    asked = []
    c, v = _pair()

    def count(name, model):
        return lambda x, t: asked.append((name, float(t[0]))) or model(x, t)

    cfgmp_step(count("c", c), count("u", v), _draws(17, 3, 2), steps=3)
    assert [name for name, _ in asked] == ["u", "c"] * 3 + ["c", "u"]
    assert {t for _, t in asked} == {0.8}, "time stands still"
    asked.clear()
    cfgmp_step(count("c", c), count("u", v), _draws(17, 3, 2), u=0.96, next_u=0.9, steps=1)
    assert [name for name, _ in asked] == ["c", "u", "c", "u"], "H where noise is all"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c, v, x: picard(c, v, x, u=0.5, next_u=0.6), "next_u must not be above u"),
        (lambda c, v, x: picard(c, v, x, kind="F"), "kind must be one of"),
        (lambda c, v, x: picard(lambda x, t: x[:1], v, x), "conditional must return an array of shape"),
        (lambda c, v, x: anderson(c, lambda x, t: x * np.nan, x), "unconditional must return finite"),
        (lambda c, v, x: anderson(c, v, x, ridge=0.0), "ridge must lie in"),
        (lambda c, v, x: smoothed_distance(x, x[:, :1]), "data must have shape"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(*_pair(), _draws(0, 3, 2))


def test_velocities_of_another_precision_are_refused():
    c, v = _pair()
    with pytest.raises(TypeError, match="unconditional must return float32 for float32"):
        picard(c, v, _draws(0, 3, 2).astype(np.float32))
