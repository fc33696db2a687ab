"""Where the examples of attacks come from: a function of inputs, with a value a row, and inputs in [0, 1]."""

from trref.backend import xp
from trref.catalog.record import Interface
from trref.nn import mlp
from trref.problems.convex import spd_matrix
from trref.problems.rows import LinearScore, QuadraticScore, RowLoss

__all__ = ["ROWS"]


def _example(rng, size):
    """A few inputs of a few dimensions, or at size 64 as many inputs: a network, a slope, or a hill in the box."""
    N, D = size, int(rng.integers(2, 5))
    x, scale = rng.random((N, D)), rng.choice((0.1, 1.0, 10.0))
    kind = rng.integers(0, 3)
    if kind == 0:
        sizes = (D, 5, 3)
        theta = scale * mlp.init(rng, sizes)
        score = RowLoss(theta, rng.integers(0, 3, N), sizes, "tanh")
    elif kind == 1:
        score = LinearScore(scale * rng.standard_normal(D), 0.3)
    else:
        hill = scale * spd_matrix(rng, rng.uniform(0.5, 2.0, D))
        score = QuadraticScore(hill, rng.random(D))
    # some starts leave the box, and some the ball
    start = x + 0.3 * rng.uniform(-1, 1, x.shape)
    return {"score_and_grad": score, "x": x, "start": start}


def _at_the_top():
    x = xp.array([[0.25, 0.5], [0.5, 0.5]])
    hill = QuadraticScore(xp.eye(2), xp.array([0.25, 0.5]))
    return {"score_and_grad": hill, "x": x, "start": x.copy()}


def _in_a_corner():
    x = xp.array([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    slope = LinearScore(xp.array([1.0, 2.0, -3.0]))
    return {"score_and_grad": slope, "x": x, "start": x.copy()}


def _one_row():
    x = xp.array([[0.4]])
    return {
        "score_and_grad": LinearScore(xp.array([-2.0])),
        "x": x,
        "start": xp.array([[0.5]]),
    }


def _equal_rows():
    x = xp.zeros((3, 2)) + xp.array([0.3, 0.6])
    sizes = (2, 3, 2)
    theta = xp.cos(xp.arange(float(mlp.size(sizes))))
    loss = RowLoss(theta, xp.array([0, 1, 0]), sizes)
    return {"score_and_grad": loss, "x": x, "start": x + xp.array([0.05, -0.02])}


ROWS = Interface(
    "rows",
    example=_example,
    edges={
        "at the top of a hill": _at_the_top,
        "in a corner of the box": _in_a_corner,
        "one row of one pixel": _one_row,
        "equal rows": _equal_rows,
    },
)
"""``f(score_and_grad, x (N, D), …)``, of inputs in [0, 1]."""
