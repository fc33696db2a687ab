"""Transport between images and point clouds: what the tutorials and the tour share."""

import time
import warnings
from typing import Any, NamedTuple

import numpy as np

from trref.backend import to_host
from trref.problems.digits import pair
from trref.transport.sinkhorn import sinkhorn_scaling
from trref.transport.sinkhorn_newton_sparse import sinkhorn_newton_sparse
from trref.validate import ConvergenceWarning

__all__ = ["DigitTransport", "Trace", "digit_transport", "displacement", "trace"]


class Trace(NamedTuple):
    """Marginal error of a solver by iteration, and by seconds: runs stopped early, each timed as a whole."""

    iterations: list[int]
    seconds: list[float]
    errors: list[float]


class DigitTransport(NamedTuple):
    """Two digits (8, 8), the images between them, the plan (64, 64), and the traces of the solvers by name."""

    first: Any
    second: Any
    times: list[float]
    between: list[Any]
    plan: Any
    traces: dict[str, Trace]


def trace(solve, *problem, stops, repeat=3, **hyper):
    """Run a solver to each of the iteration counts `stops`; end with the first run that converges.

    Parameters
    ----------
    solve : callable
        A transport solver.
    *problem : array
        cost, a, b.
    stops : sequence of int
        Increasing.
    repeat : int
        Each run is timed this often, and the shortest time counts.
    **hyper
        For the solver.

    Returns
    -------
    Trace
    """
    found = Trace([], [], [])
    for stop in stops:
        seconds = []
        for _ in range(repeat):
            start = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                result = solve(*problem, max_iter=stop, **hyper)
            seconds.append(time.perf_counter() - start)
        found.iterations.append(result.iterations)
        found.seconds.append(min(seconds))
        found.errors.append(result.marginal_errors[-1])
        if result.converged:
            break
    return found


def displacement(plan, t, side=8):
    """Move the mass of a plan between pixels of a square image the fraction t of its way.

    Parameters
    ----------
    plan : ndarray (side², side²)
    t : float
        0 gives the row marginal, 1 the column marginal, as images.
    side : int

    Returns
    -------
    ndarray (side, side)
        Mass that comes to rest between pixels is shared by its four neighbours.
    """
    rows, columns = np.divmod(np.arange(side * side), side)
    at = [(1 - t) * p[:, None] + t * p for p in (rows, columns)]
    image = np.zeros((side + 1, side + 1))
    low = [np.floor(p).astype(int) for p in at]
    share = [p - q for p, q in zip(at, low, strict=True)]
    for i in (0, 1):
        for j in (0, 1):
            weight = (share[0] if i else 1 - share[0]) * (
                share[1] if j else 1 - share[1]
            )
            np.add.at(image, (low[0] + i, low[1] + j), weight * plan)
    return image[:side, :side]


def digit_transport(first=0, second=1, *, reg=1 / 1200, tol=1e-10, frames=7):
    """Transport one handwritten digit to another, by Sinkhorn and by Sinkhorn-Newton-Sparse.

    Parameters
    ----------
    first, second : int
        Classes of the digits.
    reg : float
        Regularisation, for a largest cost of 1.
    tol : float
        Marginal error at which the solvers stop.
    frames : int
        Images from the first to the second, both included.

    Returns
    -------
    DigitTransport
    """
    a, b, cost = pair(first, second)
    stops = [1, 3, 10, 30, 100, 300, 1000, 3000, 10000, 30000]
    sweeps = trace(
        sinkhorn_scaling, cost, a, b, stops=stops, repeat=1, reg=reg, tol=tol
    )
    result = sinkhorn_newton_sparse(cost, a, b, reg=reg, tol=tol)
    stops = [1, 3, 10, *range(20, result.iterations, 2), result.iterations]
    sparse = trace(sinkhorn_newton_sparse, cost, a, b, stops=stops, reg=reg, tol=tol)
    plan, times = to_host(result.plan), np.linspace(0, 1, frames).tolist()
    return DigitTransport(
        to_host(a).reshape(8, 8),
        to_host(b).reshape(8, 8),
        times,
        [displacement(plan, t) for t in times],
        plan,
        {"Sinkhorn": sweeps, "Sinkhorn-Newton-Sparse": sparse},
    )
