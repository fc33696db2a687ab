"""Principal components of the digits, found by agents on a ring that never share their images."""

import warnings
from typing import Any, NamedTuple

import numpy as np

from trref.backend import to_host, xp
from trref.manifolds.drcgd import dprgd, drcgd
from trref.manifolds.drcgd_consensus import metropolis_weights, subspace_distance
from trref.problems import graphs
from trref.problems.digits import digits
from trref.problems.frames import AgentsPCA
from trref.validate import ConvergenceWarning

__all__ = ["DecentralisedComponents", "decentralised_components"]


class DecentralisedComponents(NamedTuple):
    """The induced mean (64, components); by iteration, from the start on, the share of the best variance that is still
    missing and the consensus error; last the distance of the span from that of the eigenvectors."""

    x: Any
    gaps: list[float]
    consensus_errors: list[float]
    distance: float


def decentralised_components(
    *,
    agents=8,
    components=5,
    iterations=300,
    step=0.1,
    beta_cap=0.9,
    by_class=False,
    seed=0,
    progress=None,
):
    """Find principal components of the digits on a ring of agents, by DRCGD with a cap and by DPRGD.

    Parameters
    ----------
    agents, components : int
    iterations : int
    step : float
        Of both methods, over the largest eigenvalue of the covariance.
    beta_cap : float
        Cap of DRCGD's multiple.
    by_class : bool
        Give each agent the images of few classes, instead of an equal mixture.
    seed : int
        Of the common start.
    progress : callable, optional
        Called after each of the two methods.

    Returns
    -------
    dict of str to DecentralisedComponents
        ``"DRCGD, capped"`` and ``"DPRGD"``.
    """
    data = digits(train=1000)
    X, y = to_host(data.X_train), to_host(data.y_train)
    X = X - X.mean(0)
    order = np.argsort(y, kind="stable") if by_class else np.arange(len(y))
    share = len(X) // agents
    rows = X[order[: share * agents]].reshape(agents, share, -1)
    C = np.swapaxes(rows, 1, 2) @ rows / share
    values, vectors = np.linalg.eigh(C.mean(0))
    best, frame = (
        -0.5 * values[-components:].sum(),
        xp.asarray(vectors[:, -components:].copy()),
    )
    start = np.linalg.qr(
        np.random.default_rng(seed).standard_normal((C.shape[1], components))
    )[0]
    task = (
        AgentsPCA(xp.asarray(C)),
        xp.asarray(start),
        metropolis_weights(xp.asarray(graphs.ring(agents))),
    )
    results = {}
    for name, solver, hyper in (
        ("DRCGD, capped", drcgd, {"beta_cap": beta_cap}),
        ("DPRGD", dprgd, {}),
    ):
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
            result = solver(
                *task,
                lr=float(step / values[-1]),
                tol=1e-12,
                max_iter=iterations,
                **hyper,
            )
        gaps = [max((best - loss) / best, 0.0) for loss in result.losses]
        results[name] = DecentralisedComponents(
            result.x,
            gaps,
            result.consensus_errors,
            float(subspace_distance(result.x, frame)),
        )
        if progress:
            progress()
    return results
