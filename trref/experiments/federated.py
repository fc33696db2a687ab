"""Rounds between clients and a server.

The methods are pure functions of arrays with an axis of clients; only what happens between clients stands here, so
that it can be replaced by processes (`trref.experiments.ranks`). A server needs one verb, `Together` as a call: every
client's messages, stacked. What agents on a graph need is in `trref.manifolds.gossip`.

For fedavg, fedagain, fedclean, fedimpro, diff2, fsgld and sequential_gradient_coding.
"""

import dataclasses

import numpy as np

from trref.backend import to_host, xp
from trref.problems.splits import dirichlet_split

__all__ = ["Together", "client_losses", "federate"]


@dataclasses.dataclass(frozen=True)
class Together:
    """All clients in this process: ``exchange(step, received)`` gives the stacked messages of all of them.

    ``step(k, received)`` is client k's, and returns a tuple of arrays. A client draws from a generator of its own, such
    as ``default_rng([seed, k, round])``, and touches its own data only: then processes give the same bits.
    """

    clients: int

    def __call__(self, step, received):
        """Return one array a message, (K, …)."""
        messages = [step(k, received) for k in range(self.clients)]
        return tuple(xp.stack(column) for column in zip(*messages, strict=True))


def federate(exchange, client, server, theta, rounds, *, watch=None, start=0):
    """Run rounds: all clients start from the server's parameters, and the server makes new ones of their messages.

    Parameters
    ----------
    exchange : Together
        Or whatever does the same between processes.
    client : callable
        ``client(k, round, theta) -> tuple of arrays``.
    server : callable
        ``server(theta, *stacks) -> theta``.
    theta : array (P,)
        Or whatever else the server keeps, such as a tuple of arrays.
    rounds : int
    watch : callable, optional
        ``watch(theta)`` after each round.
    start : int
        The number of the first round, of a run that goes on.

    Returns
    -------
    theta : array (P,)
    watched : list
    """
    watched = []
    for r in range(start, start + rounds):
        theta = server(
            theta, *exchange(lambda k, received, r=r: client(k, r, received), theta)
        )
        if watch:
            watched.append(watch(theta))
    return theta, watched


def client_losses(rng, loss, clients, concentration):
    """Split a loss over clients by `trref.problems.splits.dirichlet_split`.

    Parameters
    ----------
    rng : numpy.random.Generator
    loss : callable
        With ``labels`` and ``on(rows)``, such as `trref.problems.networks.ClassifierLoss`.
    clients : int
    concentration : float

    Returns
    -------
    list of callables
        One a client; its length is the client's count.
    """
    group = dirichlet_split(rng, to_host(loss.labels), clients, concentration)
    return [loss.on(xp.asarray(np.flatnonzero(group == k))) for k in range(clients)]
