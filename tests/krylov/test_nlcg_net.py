"""NLCG-Net: linear conjugate gradients, SciPy's minimisers, and the loss of hidden points."""

import numpy as np
import pytest
from scipy.optimize import minimize

from trref.krylov.cg import cg
from trref.krylov.nlcg_net import hide, nlcg_block, unrolled, zero_shot_loss
from trref.krylov.relaxometry import kspace_objective
from trref.problems.convex import DenseOperator, Quadratic, spd_matrix, spectrum
from trref.problems.mri import MapSmoother, coil_maps, line_masks, phantom

TIMES = np.linspace(0.2, 1.6, 6)


def _scan(seed, size=8, acceleration=2, noise=0.01):
    rng = np.random.default_rng(seed)
    maps, coils = phantom(size), coil_maps(size, 3)
    m = maps[0] + 1j * maps[1]
    s = m * np.exp(-TIMES[:, None, None] * maps[2])
    y = np.fft.fft2((coils[0] + 1j * coils[1]) * s[:, None], norm="ortho")
    y = y + noise * (rng.standard_normal(y.shape) + 1j * rng.standard_normal(y.shape))
    return maps.ravel(), (y.real, y.imag, *coils, line_masks(rng, 6, size, acceleration), TIMES)


@pytest.mark.filterwarnings("ignore::trref.validate.ConvergenceWarning")
@pytest.mark.parametrize("seed", range(4))
def test_quadratics_are_linear_conjugate_gradients(seed):
    """The secant rule is exact there: the same iterates as CG, step by step."""
    rng = np.random.default_rng(seed)
    A, b = spd_matrix(rng, spectrum(7, 20.0)), rng.standard_normal(7)
    for steps in (1, 2, 4, 7):
        fit = nlcg_block(Quadratic(A, b), np.zeros(7), steps=steps)
        linear = cg(DenseOperator(A), b, rtol=1e-14, max_iter=steps)
        # the search ends at a slope of 1e-6 or a change of the step of 1e-5
        assert fit.x == pytest.approx(linear.x, abs=1e-5)
        assert (np.diff(fit.values) <= 1e-9).all() and len(fit.values) == steps + 1


@pytest.mark.filterwarnings("ignore::trref.validate.ConvergenceWarning")
def test_with_known_rates_it_is_a_linear_problem():
    """Rates held by a huge pull: the magnetisation is that of the normal equations, by NumPy."""
    maps, data = _scan(0, size=4)
    n, weight = 16, 0.01
    rates = maps[2 * n :]

    def held(v):
        X = np.concatenate([v, rates])
        value, gradient = kspace_objective(X, *data, np.zeros(48), weight=weight)
        return value, gradient[: 2 * n]

    slopes = np.array([held(e)[1] - held(np.zeros(2 * n))[1] for e in np.eye(2 * n)])
    exact = np.linalg.solve(slopes, -held(np.zeros(2 * n))[1])
    assert nlcg_block(held, np.zeros(2 * n), steps=60).x == pytest.approx(exact, abs=1e-4)


def test_as_low_as_scipy():
    """Sixty steps on a scan: near the value that L-BFGS-B finds, with rates that are not negative."""
    _, data = _scan(1)
    start = np.concatenate([np.full(64, 0.5), np.zeros(64), np.ones(64)])
    rates = np.repeat([0.0, 0.0, 1.0], 64)

    def objective(X):
        return kspace_objective(X, *data, start, weight=0.01)

    bounds = [(None, None)] * 128 + [(0, None)] * 64
    best = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 2000}).fun
    for at_bound in ("stop", "stay"):
        fit = nlcg_block(objective, start, rates, steps=60, at_bound=at_bound)
        assert (fit.x[128:] >= 0).all()
        assert fit.values[-1] < fit.values[0] / 20
        assert best * (1 - 1e-6) <= fit.values[-1] < 1.5 * best


def test_a_rate_stops_at_0_and_what_is_bound_stays():
    """Minimum at (1, -2): the second entry is a rate. It ends at 0, or stays where it is."""
    loss = Quadratic(np.eye(2), np.array([1.0, -2.0]))
    stop = nlcg_block(loss, np.array([0.0, 0.5]), np.array([0.0, 1.0]), steps=3)
    assert stop.x == pytest.approx([1, 0], abs=1e-5)
    stay = nlcg_block(loss, np.array([0.0, 0.5]), np.array([0.0, 1.0]), steps=3, at_bound="stay")
    assert stay.x[1] >= 1e-4
    free = nlcg_block(loss, np.array([0.0, 0.5]), steps=3)
    assert free.x == pytest.approx([1, -2], abs=1e-5)


def test_blocks_are_pulled_to_the_network():
    """A network that always gives the truth, with a heavy pull: the truth. And one block by hand."""
    maps, data = _scan(2)
    start = np.concatenate([np.full(64, 0.5), np.zeros(64), np.ones(64)])

    def oracle(X):
        return maps.copy()

    found = unrolled(start, *data, oracle, weight=100.0, blocks=2, steps=8)
    assert found == pytest.approx(maps, abs=0.02)
    smoother = MapSmoother(8, 8)
    Z, rates = smoother(start), np.repeat([0.0, 0.0, 1.0], 64)
    block = nlcg_block(lambda X: kspace_objective(X, *data, Z, weight=0.05), start, rates, steps=3, at_bound="stay")
    assert (unrolled(start, *data, smoother, blocks=1, steps=3) == block.x).all()


def test_hidden_points():
    rng = np.random.default_rng(3)
    mask = (rng.random((4, 12, 10)) < 0.6) * 1.0
    uniform = rng.random((4, 12, 10))
    seen, hidden = hide(mask, uniform)
    assert (seen + hidden == mask).all() and (seen * hidden == 0).all()
    assert (hidden.sum((1, 2)) == np.floor(0.4 * mask.sum((1, 2)))).all()
    low = np.ix_(range(4), (0, 1, 10, 11), (0, 1, 8, 9))
    assert (hidden[low] == 0).all() and (seen[low] == mask[low]).all()
    for t in range(4):
        high = np.ones((12, 10), bool)
        high[np.ix_((0, 1, 10, 11), (0, 1, 8, 9))] = False
        left = uniform[t][(seen[t] > 0) & high]
        assert uniform[t][hidden[t] > 0].max() < left.min()


def test_loss_by_hand():
    """One time, data 3 and 4i at the two points of the loss, errors 1 and i: ½ √2/5 + ½ 2/7; a third point is out."""
    shape = (1, 1, 1, 3)
    y = np.array([3.0, 0, 9]).reshape(shape), np.array([0.0, 4, 9]).reshape(shape)
    p = np.array([4.0, 0, 0]).reshape(shape), np.array([0.0, 5, 0]).reshape(shape)
    value, gradient = zero_shot_loss(*p, *y, np.array([[[1.0, 1, 0]]]))
    assert value == pytest.approx(2**0.5 / 10 + 1 / 7)
    assert gradient.predicted_re.ravel() == pytest.approx([1 / (10 * 2**0.5) + 1 / 14, 0, 0])
    assert gradient.predicted_im.ravel() == pytest.approx([0, 1 / (10 * 2**0.5) + 1 / 14, 0])
    # it does not see units, and is 0 where all is met
    assert zero_shot_loss(*(7 * v for v in (*p, *y)), np.array([[[1.0, 1, 0]]]))[0] == pytest.approx(value)
    assert zero_shot_loss(*y, *y, np.ones((1, 1, 3)))[0] == 0


def test_what_is_not_finite_is_named():
    def broken(x):
        return np.array(np.nan), x

    with pytest.raises(ValueError, match="loss_and_grad"):
        nlcg_block(broken, np.ones(2))
