"""The metric on the graph, its bound, lengths of curves, limits of the rules, and values of the author's code."""

import numpy as np
import pytest
from scipy.integrate import quad

from trref.optimizers.induced_metric import init, log_step, natural_step, update, update_log, update_rms
from trref.problems.convex import Rosenbrock

START = [np.cos(np.arange(4.0)).reshape(2, 2), np.sin(np.arange(3.0))]
HYPER = {"lr": 0.2, "momentum": 0.7, "xi": 0.3, "beta": 0.6, "weight_decay": 0.1}
AUTHORS = {  # after five steps of torch_imp.py (754ae88) in float64
    update: "1.0215458593388502 0.6489285469804017 -0.5546298202358975 -0.8263248876238267 "
    "-0.09659172977022748 0.9296175923337383 0.9730460984600944",
    update_log: "0.9980462458135376 0.6439851091701786 -0.5436896078689833 -0.8485349790330493 "
    "-0.0733942818097873 0.9085085123193348 0.950283528573919",
    update_rms: "1.0248020519807184 0.7670327417661866 -0.6406712486430062 -0.8260084336990688 "
    "-0.09774131222168499 0.9529615728809483 0.9850246961315571",
}


@pytest.mark.parametrize("rule", AUTHORS)
def test_values_of_the_authors_code(rule):
    params, state = START, init(START)
    for k in range(5):
        more = {update_log: {"loss": np.asarray(0.5 + 0.25 * k)}, update_rms: {"beta2": 0.9}}.get(rule, {})
        params, state = rule(params, [np.cos(3 * s + k) for s in START], state, **HYPER, **more)
    found = np.concatenate([p.ravel() for p in params])
    assert np.allclose(found, np.array(AUTHORS[rule].split(), float), rtol=1e-12, atol=0)


def test_steps_by_hand():
    """g = (3, 4), ξ = 0.04: divided by 2; over B = (1, 2) by 1 + 0.04 · (9 + 8) = 1.68; of log L at L = 5 by 10."""
    g = np.array([3.0, 4.0])
    assert np.allclose(natural_step(g, xi=0.04), g / 2, rtol=1e-15)
    assert np.allclose(natural_step(g, np.array([1.0, 2.0]), xi=0.04), [3 / 1.68, 2 / 1.68], rtol=1e-14)
    assert np.allclose(log_step(g, np.asarray(5.0), xi=1.0), g / 10, rtol=1e-14)


def test_against_the_dense_metric():
    rng = np.random.default_rng(0)
    g, base, xi = rng.standard_normal(5), rng.uniform(0.5, 2, 5), 0.7
    G = np.eye(5) + xi * np.outer(g, g)
    assert np.linalg.det(G) == pytest.approx(1 + xi * g @ g, rel=1e-12)
    assert np.allclose(natural_step(g, xi=xi), np.linalg.solve(G, g), rtol=1e-12)
    assert np.allclose(
        natural_step(g, base, xi=xi), np.linalg.solve(np.diag(base) + xi * np.outer(g, g), g), rtol=1e-12
    )


def test_the_longest_step():
    """1/(2√ξ), where the slope is 1/√ξ, and of the logarithm where it is L/√ξ."""
    xi, sizes = 0.25, np.linspace(0.1, 10, 991)
    lengths = np.array([natural_step(np.array([s]), xi=xi)[0] for s in sizes])
    assert lengths.max() == pytest.approx(1.0, rel=1e-12) and sizes[lengths.argmax()] == pytest.approx(2.0)
    lengths = np.array([log_step(np.array([s]), np.asarray(3.0), xi=xi)[0] for s in sizes])
    assert lengths.max() == pytest.approx(1.0, rel=1e-12) and sizes[lengths.argmax()] == pytest.approx(6.0)


def test_lengths_of_curves_are_those_on_the_graph():
    """Of the circle (cos s, sin s) over Rosenbrock's function: by the metric, and by many chords of the surface."""
    xi, f = 0.01, Rosenbrock()
    point, velocity = (lambda s: np.array([np.cos(s), np.sin(s)])), (lambda s: np.array([-np.sin(s), np.cos(s)]))

    def speed(s):
        v, g = velocity(s), f(point(s))[1]
        return np.sqrt(v @ v + xi * (g @ v) ** 2)

    curve = [(*point(s), xi**0.5 * f(point(s))[0]) for s in np.linspace(0, 1, 20001)]
    chords = np.linalg.norm(np.diff(np.array(curve), axis=0), axis=1).sum()
    assert quad(speed, 0, 1)[0] == pytest.approx(chords, rel=1e-6)


def test_the_logarithm_does_not_see_a_factor():
    g = np.array([0.3, -2.0])
    assert np.allclose(log_step(100 * g, np.asarray(50.0)), log_step(g, np.asarray(0.5)), rtol=1e-13)
    assert not np.allclose(natural_step(100 * g), natural_step(g))


def test_one_number_for_all_tensors():
    """Without averages the rule is the natural step of all parameters joined."""
    params = [np.ones(2), np.ones((1, 2))]
    grads = [np.array([1.0, -2.0]), np.array([[0.5, 4.0]])]
    how = {"momentum": 0.0, "beta": 0.0, "lr": 0.3, "xi": 0.2}
    moved, _ = update(params, grads, init(params), **how)
    joined = 1 - 0.3 * natural_step(np.array([1.0, -2.0, 0.5, 4.0]), xi=0.2)
    assert np.allclose(np.concatenate([m.ravel() for m in moved]), joined, rtol=1e-14)
    moved, _ = update_log(params, grads, init(params), loss=np.asarray(2.0), **how)
    joined = 1 - 0.3 * log_step(np.array([1.0, -2.0, 0.5, 4.0]), np.asarray(2.0), xi=0.2)
    assert np.allclose(np.concatenate([m.ravel() for m in moved]), joined, rtol=1e-14)
    # RMSprop's metric without memory is the modulus of the gradient
    moved, _ = update_rms(params, grads, init(params), beta2=0.0, eps=1e-12, **how)
    g = np.array([1.0, -2.0, 0.5, 4.0])
    joined = 1 - 0.3 * natural_step(g, abs(g), xi=0.2)
    assert np.allclose(np.concatenate([m.ravel() for m in moved]), joined, rtol=1e-10)


def test_steep_ground_slows_and_flat_ground_does_not():
    params = [np.zeros(1)]
    how = {"momentum": 0.0, "beta": 0.0, "lr": 1.0, "xi": 1.0}
    for size, expected in ((1e-6, 1e-6), (1e6, 1e-6)):
        moved, _ = update(params, [np.array([size])], init(params), **how)
        assert -moved[0][0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("bad", [{"lr": 0.0}, {"momentum": 1.0}, {"xi": -1.0}, {"beta": 1.0}])
def test_out_of_range(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must lie in"):
        update(START, START, init(START), **bad)


@pytest.mark.parametrize("loss", [0.0, -1.0])
def test_a_loss_that_has_no_logarithm(loss):
    with pytest.raises(ValueError, match="loss"):
        update_log(START, START, init(START), loss=np.asarray(loss))
    with pytest.raises(ValueError, match="loss"):
        log_step(np.ones(2), np.asarray(loss))
