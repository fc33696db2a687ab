"""Distributional gradient matching: couplings, the objective part by part, and trajectories by SciPy."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import sqrtm

from trref.dynamics.distributional_gradient_matching import drift, field, joint_objective, trajectories, w2
from trref.dynamics.gradient_smoother import likelihood, smoother
from trref.nn import mlp


def _case(seed, dims=2, n=10, m=6, hidden=4):
    rng = np.random.default_rng(seed)
    t = np.cumsum(rng.uniform(0.3, 0.8, n))
    return {
        "theta": np.asarray(mlp.init(rng, (dims, hidden, hidden, 2 * dims))) + 0.1,
        "log_length": rng.uniform(-0.2, 0.4, dims),
        "log_signal": rng.uniform(-0.2, 0.4, dims),
        "log_noise": rng.uniform(-1.2, -0.8, dims),
        "t": t,
        "y": rng.standard_normal((n, dims)),
        "t2": rng.uniform(t[0], t[-1], m),
    }


def test_w2_by_hand():
    value, by = w2(*(np.array([[v]]) for v in (3.0, 2.0, 1.0, 0.5)))
    assert value == 4 + 2.25 and tuple(g.item() for g in by) == (4, 3, -4, -3)


@pytest.mark.parametrize("seed", range(4))
def test_w2_is_a_distance_and_no_coupling_is_cheaper(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, 3, 2))
    s, r = np.exp(rng.standard_normal((2, 3, 2)))
    value = w2(a, s, b, r)[0]
    assert value == pytest.approx(w2(b, r, a, s)[0], rel=1e-14) and w2(a, s, a, s)[0] == 0
    for i, j in np.ndindex(3, 2):
        # the general form of Gaussians, for one dimension; and any correlation costs at least that
        S, R = np.array([[s[i, j] ** 2]]), np.array([[r[i, j] ** 2]])
        one = w2(a[[i], j][None], s[[i], j][None], b[[i], j][None], r[[i], j][None])[0]
        general = (a[i, j] - b[i, j]) ** 2 + np.trace(S + R - 2 * sqrtm(sqrtm(S) @ R @ sqrtm(S)))
        assert one == pytest.approx(general, rel=1e-10)
        for rho in (-1, 0, 0.7, 0.99):
            assert (a[i, j] - b[i, j]) ** 2 + S + R - 2 * rho * s[i, j] * r[i, j] >= one


@pytest.mark.parametrize("seed", range(3))
def test_the_objective_is_the_sum_of_its_parts(seed):
    case = _case(seed)
    fits, distance = 0, 0
    for d in range(2):
        hyper = case["log_length"][d], case["log_signal"][d], case["log_noise"][d]
        hyper = tuple(map(np.array, hyper))
        fits += likelihood(case["t"], case["y"][:, d], *hyper)[0]
    smooth = [
        smoother(case["t"], case["y"][:, d], case["t2"], *(np.array(case[k][d]) for k in list(case)[1:4]))
        for d in range(2)
    ]
    learned = drift(case["theta"], np.stack([s.mean for s in smooth], 1))
    for d in range(2):
        distance += ((smooth[d].slope - learned.drift[:, d]) ** 2).sum()
        distance += ((np.sqrt(smooth[d].slope_variance) - learned.drift_std[:, d]) ** 2).sum()
    value = joint_objective(**case, weight=0.7, decay=0.1)[0]
    assert value == pytest.approx(fits + 2 * 0.7 * 10 / 6 * distance + 0.1 * (case["theta"] ** 2).sum(), rel=1e-12)
    alone, gradient = joint_objective(**case, weight=0.0)
    assert alone == pytest.approx(fits, rel=1e-12) and (gradient.theta == 0).all()


def test_gradient_by_differences():
    """Along each smoother's parameters and some of the network's: through states, slopes, variances and weights."""
    case, h = _case(5), 1e-5
    gradient = joint_objective(**case)[1]
    for name, entries in {
        "theta": (0, 7, 20, -1),
        "log_length": (0, 1),
        "log_signal": (0, 1),
        "log_noise": (1,),
    }.items():
        for i in entries:
            up, down = ({**case, name: case[name].copy()} for _ in range(2))
            up[name][i] += h
            down[name][i] -= h
            slope = (joint_objective(**up)[0] - joint_objective(**down)[0]) / (2 * h)
            assert getattr(gradient, name)[i] == pytest.approx(slope, rel=1e-6, abs=1e-5)


def test_a_variance_below_the_floor_has_no_slope():
    case = _case(6) | {"t": np.linspace(0, 1, 10), "t2": np.array([0.5])}
    case |= {"log_length": np.full(2, 1.5), "log_noise": np.full(2, -2.0)}
    value, gradient = joint_objective(**case, floor=10.0)
    case["log_noise"] = case["log_noise"] + 1e-6
    rise = (joint_objective(**case, floor=10.0)[0] - value) / 1e-6
    assert gradient.log_noise.sum() == pytest.approx(rise, rel=1e-3)


def test_trajectories_by_scipy():
    rng = np.random.default_rng(2)
    theta, x0, noise = _case(2)["theta"], np.array([0.5, -1.0]), rng.standard_normal((3, 2))
    paths = trajectories(theta, x0, noise, duration=2.0, steps=40)
    assert paths.shape == (41, 3, 2) and (paths[0] == x0).all()
    for k, xi in enumerate(noise):
        solved = solve_ivp(lambda t, x, xi=xi: field(theta, x[None], xi[None])[0], (0, 2), x0, rtol=1e-10, atol=1e-10)
        # steps of 0.05: an error of order 0.05⁴
        assert paths[-1, k] == pytest.approx(solved.y[:, -1], abs=1e-4)
    # one noise for the whole trajectory: with none it is the mean field
    still = trajectories(theta, x0, np.zeros((1, 2)), duration=2.0, steps=40)
    mean = solve_ivp(lambda t, x: drift(theta, x[None]).drift[0], (0, 2), x0, rtol=1e-10, atol=1e-10)
    assert still[-1, 0] == pytest.approx(mean.y[:, -1], abs=1e-4)


def test_a_network_of_no_such_size():
    with pytest.raises(ValueError, match="theta"):
        drift(np.zeros(mlp.size((2, 3, 3, 4)) + 1), np.zeros((1, 2)))
